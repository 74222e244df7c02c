//! How long the policy takes: to verify, to compile, to decide.
#![expect(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a benchmark that cannot be set up has nothing to measure"
)]

use criterion::{Criterion, criterion_group, criterion_main};
use sigil_policy::sign::{SigningKey, Validity, sign};
use sigil_policy::{Bundle, Facts, Preset, Request, Resource, ResourceKind, Source, TrustStore, Unverified};
use sigil_types::{
    Action, Author, Authors, CapabilitySet, Effect, Hop, Label, Origin, Principal, Readers, Role, Stage, Timestamp,
    WorkspaceId,
};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn policy(criterion: &mut Criterion) {
    let key = SigningKey::generate().expect("randomness");
    let source = Source::embedded(Preset::Balanced).expect("the embedded policy");
    let bytes = sign(&source, 1, Validity::days(NOW, 1), &key).expect("signed");
    let trust = TrustStore::of_one("owner".parse().expect("a name"), key.public());
    let verify = || Bundle::<Unverified>::parse(&bytes).expect("an envelope").verify(&trust, NOW, 1).expect("verified");
    let bundle = verify();
    let policy = bundle.compile().expect("compiles");
    eprintln!("envelope: {} bytes", bytes.len());

    criterion.bench_function("policy/parse+verify", |b| b.iter(verify));
    criterion.bench_function("policy/compile", |b| b.iter(|| bundle.compile().expect("compiles")));
    criterion.bench_function("policy/action", |b| {
        b.iter(|| policy.action(Stage::Output, Origin::Model, Hop::ToChannel, "secret", "high") == Action::Redact)
    });

    let principal = Principal { user: "sean".parse().expect("a name"), role: Role::Owner };
    let workspace: WorkspaceId = "home".parse().expect("a name");
    let everything = CapabilitySet { allow: ["*".parse().expect("a pattern")].into(), ..CapabilitySet::default() };
    let capability = "tool.fetch.get".parse().expect("a capability");
    let decide = |authors: &Authors, integrity| {
        policy.authorize(&Request {
            principal: &principal,
            workspace: &workspace,
            hop: Hop::ToTool,
            capability: &capability,
            grants: &[&everything, &everything, &everything],
            resource: &Resource {
                kind: ResourceKind::Tool,
                id: "fetch.get".to_owned(),
                trust: Authors::one(principal.author()),
                audience: Readers::from_iter(["host:example.com".parse().expect("a reader")]),
            },
            label: &Label { authors: authors.clone(), readers: Readers::Everyone },
            effect: Effect::External,
            integrity,
            flow: true,
            approved: false,
            facts: &Facts::new(),
        })
    };
    let trusted = Authors::one(principal.author());
    let tainted = Authors::from_iter([principal.author(), Author::World]);
    assert_eq!((decide(&trusted, true).as_str(), decide(&tainted, false).as_str()), ("allow", "ask"));
    criterion.bench_function("policy/authorize/allow", |b| b.iter(|| decide(&trusted, true)));
    criterion.bench_function("policy/authorize/ask", |b| b.iter(|| decide(&tainted, false)));
}

criterion_group!(benches, policy);
criterion_main!(benches);
