//! `Gate::clear` of a message of 1 KB without the disk, and where the time goes.
//!
//! There is no gate without a log, so the log lies in memory (`/dev/shm`) and a bare append to it, awaited in the same
//! runtime and measured in turn with the clearings, is subtracted. What is left is the gate's own work: scan, labels,
//! policy, marker, assembly and the reference to the text. Every message is new, so no scan is remembered.

#![expect(
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a benchmark that cannot be set up has nothing to measure"
)]

#[expect(dead_code, reason = "the gate of the tests, of which this uses a part")]
#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;
use std::time::{Duration, Instant};

use common::{RecordingProvider, TestGate, owner};
use criterion::{Criterion, criterion_group, criterion_main};
use sigil_audit::Entry;
use sigil_gate::{PromptDraft, Purpose, SegmentDraft, ToProvider, Verdict};
use sigil_policy::{Facts, Preset, Request, Resource, ResourceKind};
use sigil_types::{Author, Authors, Code, Effect, Hop, Label, Principal, Reader, Readers, Role, Stage, WorkspaceId};

/// Clearings that the table is made of.
const ROUNDS: u32 = 5000;

const PROSE: &str = "The harbour master wrote down every ship that came in that week, its cargo, its captain and the \
    number of days that it had been at sea. Most of them carried timber and salt; two brought letters. ";

/// A message of 1 KB that was never seen before.
fn message(n: u32) -> String {
    let mut text = format!("Message {n}. ");
    while text.len() < 1024 {
        text.push_str(PROSE);
    }
    text.truncate(1024);
    text
}

fn draft(text: &str) -> PromptDraft {
    let label = Label::by(Author::Owner("ann".parse().expect("a name")));
    PromptDraft {
        model: "m".to_owned(),
        segments: vec![SegmentDraft::System, SegmentDraft::User { text: owner(text), label, current: true }],
        tools: Vec::new(),
        temperature: None,
        max_tokens: None,
        purpose: Purpose::Chat,
    }
}

/// An entry of the size that a clearing writes.
fn entry(test: &TestGate, n: u32) -> Entry {
    let data = serde_json::json!({
        "destination": "provider:near", "label": Label::by(Author::Owner("ann".parse().expect("a name"))), "rules": [],
        "redactions": 0, "approval": null, "policy": test.gate.policy().digest(), "bytes": n,
        "text": test.gate.policy().digest(),
    });
    Entry::new(Code::new("gate.to_provider.cleared"), "ann").data(data)
}

fn policy_only(test: &TestGate) -> impl Fn() + use<> {
    let policy = test.gate.policy();
    let principal = Principal { user: "ann".parse().expect("a name"), role: Role::Owner };
    let workspace: WorkspaceId = "home".parse().expect("a name");
    let (capability, all) = ("provider.near".parse().expect("a capability"), common::all());
    let author = principal.author();
    let resource = Resource {
        kind: ResourceKind::of(Hop::ToProvider),
        id: "near".to_owned(),
        trust: Authors::one(author.clone()),
        audience: Readers::from_iter([Reader::Provider("near".parse().expect("a name"))]),
    };
    let (label, facts) = (Label::by(author), Facts::new());
    move || {
        let verdict = policy.authorize(&Request {
            principal: &principal,
            workspace: &workspace,
            hop: Hop::ToProvider,
            capability: &capability,
            grants: &[&all, &all],
            resource: &resource,
            label: &label,
            effect: Effect::None,
            integrity: true,
            flow: true,
            approved: false,
            facts: &facts,
        });
        assert!(matches!(black_box(verdict), sigil_policy::Verdict::Allow), "the owner asks a bound provider");
    }
}

fn labels_only() {
    let mine = Label::by(Author::Owner("ann".parse().expect("a name")));
    let joined = black_box(&Label::bottom()).join(black_box(&mine));
    let reader = Readers::from_iter([Reader::Provider("near".parse().expect("a name"))]);
    black_box((joined.authors.has_world(), reader.is_subset(&joined.readers)));
}

fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn clear(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let test = TestGate::new(Preset::Balanced);
    let (door, session) = (test.gate.provider_door(RecordingProvider::new("near")), test.session());
    let scanner = test.gate.scanner().clone();
    let policy = policy_only(&test);
    let clear_one = |n: u32| {
        let draft = draft(&message(n));
        time(|| {
            let verdict = runtime.block_on(test.gate.clear::<ToProvider>(&session, &door, draft));
            assert!(matches!(verdict, Verdict::Cleared(_)), "a harmless message");
        })
    };
    let append_one = |n: u32| {
        let entry = entry(&test, n);
        time(|| {
            runtime.block_on(async { test.audit.append(entry).await }).expect("durable");
        })
    };
    let scan_one = |n: u32| {
        let text = message(n);
        time(|| {
            black_box(scanner.scan(Stage::Input, &text));
        })
    };

    // In turn, so that whatever else the machine does falls on all of them alike.
    let mut times: [Vec<Duration>; 5] = std::array::from_fn(|_| Vec::new());
    for n in 0..ROUNDS {
        let [clear, append, scan, rule, label] = &mut times;
        clear.push(clear_one(n));
        append.push(append_one(n));
        scan.push(scan_one(n));
        rule.push(time(&policy));
        label.push(time(labels_only));
    }
    let [clear, append, scan, rule, label] = times.map(median);
    let own = clear.saturating_sub(append);
    let rest = own.saturating_sub(scan + rule + label);
    let row = |what: &str, time: Duration| eprintln!("{what:<44} {:>8.1} µs", time.as_secs_f64() * 1e6);
    eprintln!("medians of {ROUNDS}, a message of 1 KB");
    row("Gate::clear, log in memory", clear);
    row("  a bare append to that log", append);
    row("Gate::clear without the log (aim: 100 µs)", own);
    row("  scan", scan);
    row("  policy", rule);
    row("  labels", label);
    row("  marker, assembly, reference to the text", rest);
    // For `./task bench`.
    let micros = |time: Duration| (time.as_secs_f64() * 1e7).round() / 10.0;
    let line = serde_json::json!({
        "what": "Gate::clear of 1 KB without the disk", "value": micros(own), "unit": "µs", "limit": ["value", 100],
        "note": format!("scan {}, policy {}, labels {}, rest {}", micros(scan), micros(rule), micros(label), micros(rest)),
    });
    println!("row: {line}");

    let mut fresh = ROUNDS;
    let mut next = move || {
        fresh += 1;
        fresh
    };
    let mut total = |one: &dyn Fn(u32) -> Duration, times: u64| (0..times).map(|_| one(next())).sum();
    criterion.bench_function("gate/clear 1 KB, log in memory", |b| b.iter_custom(|times| total(&clear_one, times)));
    criterion.bench_function("gate/append, log in memory", |b| b.iter_custom(|times| total(&append_one, times)));
    criterion.bench_function("gate/scan 1 KB", |b| b.iter_custom(|times| total(&scan_one, times)));
    criterion.bench_function("gate/policy", |b| b.iter(&policy));
    criterion.bench_function("gate/labels", |b| b.iter(labels_only));
}

criterion_group!(benches, clear);
criterion_main!(benches);
