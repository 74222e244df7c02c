//! TLS that is ended, from manifest and signed policy to what the program is given.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests")]

use std::path::Path;

use sigil_policy::Ceilings;
use sigil_proto::manifest::{Manifest, Spec};
use sigil_sandbox::host::Reached;
use sigil_sandbox::profile::{
    Authority, CompileRefused, Compiled, NeverGrant, Params, Site, compile_with, ended_hosts,
};
use sigil_types::{Credentials, Digest, Effect, Readers};

const CEILINGS: &str = r#"
    preset = "balanced"
    posture = "standard"
    [labels]
    typed = "everyone"
    [budgets]
    tokens_per_turn = 1
    tokens_per_session = 1
    tokens_per_day = 1
    model_calls_per_turn = 1
    tool_calls_per_turn = 1
    asks_per_turn = 1
    turn_seconds = 1
    tool_result_bytes = 1
    [sandbox]
    memory_bytes = 104857600
    processes = 32
    open_files = 4096
    file_bytes = 1000000
    tmp_bytes = 33554432
    cpu_seconds = 0
    cpu_percent = 50
    call_seconds = 1
"#;

/// A manifest that asks for these hosts, the second and third with its consent.
fn spec(tls: &str) -> Spec {
    let text = format!(
        "manifest: 1\nname: sample\nversion: 0.1.0\ntype: tool\nengine: '>=0.1'\nlicense: MIT\ndescription: A sample.\n\
         capabilities: []\nexecution:\n  tier: process\n  transport: sdk\n  command: [bin/sample]\n  sandbox:\n    \
         profile: native\n    network:\n      hosts:\n        - host: \"*.example.com\"\n          ports: [443]\n          \
         {tls}\n          reason: For a test.\n"
    );
    let manifest = Manifest::parse(text.as_bytes()).expect("well-formed");
    manifest.validate().unwrap_or_else(|refused| panic!("{refused}")).spec().clone()
}

fn ceilings(more: &str) -> Ceilings {
    let trees = format!("[plugins.sample]\ntrees = [\"{}\"]\n", Digest::of(b"a tree"));
    Ceilings::parse(&format!("{CEILINGS}\n{trees}{more}")).expect("ceilings")
}

fn authority() -> Authority {
    Authority::from_der(&[0x30, 8, 0x30, 0, 0x30, 0, 3, 2, 0, 1]).expect("the form of a certificate")
}

fn with(
    spec: &Spec,
    ceilings: &Ceilings,
    authority: Option<Authority>,
    roots: Option<&str>,
) -> Result<Compiled, CompileRefused> {
    let site = Site {
        tree: "/srv/sigil/plugins/abc".into(),
        tree_digest: Digest::of(b"a tree"),
        never: NeverGrant::default(),
        host_uid: 200_001,
        host_gid: 200_001,
        private: None,
        reached: Reached::Strict,
    };
    compile_with(spec, ceilings, &site, &Params { authority, ..Params::default() }, roots)
}

const CONSENT: &str = "tls: ended\n          requests: [{ methods: [GET, POST], paths: [/v1/*] }]";
const REACH: &str = "hosts = [{ host = \"*.example.com\", ports = [443] }]\n";
const ENDED: &str = "[[plugins.sample.ended]]\nhost = \"*.example.com\"\ncredentials = \"none\"\n\
                     requests = [{ methods = [\"GET\"], paths = [\"/*\"] }]\n";

#[test]
fn one_consent_alone_ends_nothing() {
    for (tls, policy) in [("", format!("{REACH}{ENDED}")), (CONSENT, REACH.to_owned())] {
        let (spec, ceilings) = (spec(tls), ceilings(&policy));
        let compiled = with(&spec, &ceilings, Some(authority()), Some("roots")).expect("compiles");
        assert!(compiled.egress.ended.is_empty() && ended_hosts(&spec, &ceilings).is_empty(), "{tls}");
        assert!(!compiled.profile.exec.env.contains_key("SSL_CERT_FILE"), "{tls}");
        assert!(!compiled.profile.files.iter().any(|file| file.path.starts_with("/etc/sigil")), "{tls}");
        assert_eq!(
            (compiled.facts.effect, compiled.explanation.struck.len()),
            (Effect::External, usize::from(!tls.is_empty()))
        );
    }
}

#[test]
fn both_together_end_it_under_both_sets_of_rules() {
    let (spec, ceilings) = (spec(CONSENT), ceilings(&format!("{REACH}{ENDED}")));
    assert_eq!(ended_hosts(&spec, &ceilings), ["*.example.com".parse().expect("a pattern")]);
    let compiled =
        with(&spec, &ceilings, Some(authority()), None).expect("every host is ended, so no roots are needed");
    let [ended] = compiled.egress.ended.as_slice() else { panic!("one") };
    assert_eq!((ended.requests.len(), ended.credentials), (2, Credentials::None));
    assert_eq!(compiled.facts.effect, Effect::None, "reading is all that the policy's list lets through");
    assert_ne!(compiled.facts.audience, Readers::NOBODY);
    let env = &compiled.profile.exec.env;
    let file = |path: &str| compiled.profile.files.iter().find(|file| file.path == Path::new(path)).expect("the file");
    for (name, content) in [("SSL_CERT_FILE", 1), ("REQUESTS_CA_BUNDLE", 1), ("NODE_EXTRA_CA_CERTS", 1)] {
        assert_eq!(file(&env[name]).content.matches("BEGIN CERTIFICATE").count(), content, "{name}");
    }
}

#[test]
fn a_program_that_reaches_other_hosts_too_keeps_the_machines_authorities() {
    let narrow = ENDED.replace("*.example.com", "api.example.com");
    let (spec, ceilings) = (spec(CONSENT), ceilings(&format!("{REACH}{narrow}")));
    assert!(matches!(with(&spec, &ceilings, Some(authority()), None), Err(CompileRefused::NoRoots(_))));
    let compiled = with(&spec, &ceilings, Some(authority()), Some("system's own")).expect("compiles");
    let content = |name: &str| {
        let path = Path::new(&compiled.profile.exec.env[name]);
        let file = compiled.profile.files.iter().find(|file| file.path == path);
        file.expect("the file").content.clone()
    };
    assert!(content("CURL_CA_BUNDLE").starts_with("system's own\n-----BEGIN CERTIFICATE-----\n"));
    assert!(!content("NODE_EXTRA_CA_CERTS").contains("system"), "it names what is added only");
    assert_eq!(compiled.facts.effect, Effect::External, "the other hosts are not judged");
}

#[test]
fn without_an_authority_nothing_is_launched() {
    let (spec, ceilings) = (spec(CONSENT), ceilings(&format!("{REACH}{ENDED}")));
    let refused = with(&spec, &ceilings, None, Some("roots")).expect_err("no authority");
    assert_eq!(refused.code().as_str(), "sandbox.profile.authority.missing");
}

#[test]
fn what_cannot_be_reached_is_not_ended() {
    let elsewhere = "hosts = [{ host = \"*.example.org\", ports = [443] }]\n";
    let (spec, ceilings) = (spec(CONSENT), ceilings(&format!("{elsewhere}{ENDED}")));
    assert!(with(&spec, &ceilings, Some(authority()), None).expect("compiles").egress.ended.is_empty());
}
