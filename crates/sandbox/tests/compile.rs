//! The profile compiler: what comes out is in each of the three inputs, and the facts are never looser than the profile.

#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use sigil_policy::{Ceilings, FolderAccess, FolderGrant, HostRule, NetworkLimits, PluginGrant};
use sigil_proto::manifest::{GoPlugin, Manifest, Spec, Transport};
use sigil_sandbox::host::Reached;
use sigil_sandbox::profile::base::BaseProfile;
use sigil_sandbox::profile::{
    Access, Bind, CompileRefused, Compiled, Egress, Layer, Network, NeverGrant, Params, Posture, Right, Site, compile,
    is_shared,
};
use sigil_types::{Authors, Digest, Effect, HostPattern, Name, Reader, Readers, ToolFacts};

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

fn tree() -> Digest {
    Digest::of(b"a tree")
}

fn site() -> Site {
    Site {
        tree: "/srv/sigil/plugins/abc".into(),
        tree_digest: tree(),
        never: NeverGrant { own: vec!["/srv/sigil".into()], homes: vec!["/home/ann".into()] },
        host_uid: 200_001,
        host_gid: 200_001,
        private: None,
        reached: Reached::Standard,
    }
}

fn manifest(sandbox: &str) -> Spec {
    let text = format!(
        "manifest: 1\nname: sample\nversion: 0.1.0\ntype: tool\nengine: \">=0.1\"\nlicense: MIT\ndescription: A sample.\n\
         capabilities: [tool.sample.*]\nexecution:\n  tier: process\n  transport: sdk\n  command: [bin/sample, --x]\n  \
         sandbox:\n    profile: native\n{sandbox}"
    );
    let manifest = Manifest::parse(text.as_bytes()).expect("well-formed");
    manifest.validate().unwrap_or_else(|refused| panic!("{refused}\n{text}")).spec().clone()
}

fn ceilings(more: &str) -> Ceilings {
    let trees = format!("[plugins.sample]\ntrees = [\"{}\"]\n", tree());
    Ceilings::parse(&format!("{CEILINGS}\n{trees}{more}")).expect("ceilings")
}

fn files(access: &str, target: &str) -> Spec {
    manifest(&format!("    filesystem:\n      - {target}\n        access: {access}\n        reason: For a test.\n"))
}

fn grant(name: &str, path: &str, access: &str) -> Ceilings {
    ceilings(&format!(
        "[[plugins.sample.folders.{name}]]\npath = \"{path}\"\naccess = \"{access}\"\nauthors = [\"owner:ann\"]\nreaders = [\"user:ann\"]\n"
    ))
}

fn all(spec: &Spec, ceilings: &Ceilings) -> Result<Compiled, CompileRefused> {
    compile(spec, ceilings, &site(), &Params::default())
}

fn bind<'a>(compiled: &'a Compiled, path: &str) -> Option<&'a Bind> {
    compiled.profile.binds.iter().find(|bind| bind.target == Path::new(path))
}

#[test]
fn a_plugin_that_asks_for_nothing_is_pure() {
    let compiled = all(&manifest(""), &ceilings("")).expect("compiles");
    let profile = &compiled.profile;
    assert_eq!(compiled.facts, ToolFacts::pure());
    assert_eq!(profile.network, Network::None);
    assert!(compiled.egress.is_empty() && compiled.explanation.struck.is_empty());
    assert_eq!(profile.exec.argv, ["/plugin/bin/sample", "--x"]);
    assert_eq!(bind(&compiled, "/plugin").map(|bind| bind.access), Some(Access::Exec));
    assert!(profile.binds.iter().all(|bind| bind.access < Access::Write));
    assert!(!profile.exec.env.keys().any(|name| name.to_lowercase().contains("proxy")));
    assert!(!profile.seccomp.allow.contains_key("socket"));
    assert!(profile.ablated.is_empty());
    assert_eq!(profile.limits.cgroup_memory_bytes, Some(104_857_600), "policy is below the base profile");
    assert_eq!(profile.limits.open_files, Some(1024), "the base profile is below policy");
    assert_eq!(
        profile.digest().expect("JSON"),
        all(&manifest(""), &ceilings("")).expect("again").profile.digest().expect("JSON")
    );
}

#[test]
fn what_is_not_endorsed_has_no_profile() {
    let empty = Ceilings::parse(CEILINGS).expect("ceilings");
    assert!(matches!(all(&manifest(""), &empty), Err(CompileRefused::UnknownPlugin(_))));
    let other = Site { tree_digest: Digest::of(b"another tree"), ..site() };
    let refused = compile(&manifest(""), &ceilings(""), &other, &Params::default()).expect_err("another tree");
    assert_eq!(refused.code().as_str(), "sandbox.profile.tree.not-endorsed");
    let root = Site { host_uid: 0, ..site() };
    assert_eq!(compile(&manifest(""), &ceilings(""), &root, &Params::default()), Err(CompileRefused::Root));
}

#[test]
fn a_grant_needs_both_words() {
    let asked = files("write", "param: roots");
    let compiled = all(&asked, &ceilings("")).expect("compiles");
    assert!(bind(&compiled, "/home/ann/notes").is_none());
    assert_eq!(compiled.explanation.struck.len(), 1, "{}", compiled.explanation);

    let compiled = all(&manifest(""), &grant("roots", "/home/ann/notes", "write")).expect("compiles");
    assert!(bind(&compiled, "/home/ann/notes").is_none(), "not asked for");

    let compiled = all(&asked, &grant("roots", "/home/ann/notes", "read")).expect("compiles");
    assert_eq!(bind(&compiled, "/home/ann/notes").map(|bind| bind.access), Some(Access::Read));
    assert_eq!(compiled.facts.effect, Effect::None);
    assert_eq!(compiled.facts.reads, Readers::from_iter(["user:ann".parse::<Reader>().expect("a reader")]));
    assert!(compiled.explanation.struck[0].why.contains("reading only"), "{}", compiled.explanation);

    let compiled = all(&asked, &grant("roots", "/home/ann/notes", "write")).expect("compiles");
    assert_eq!(bind(&compiled, "/home/ann/notes").map(|bind| bind.access), Some(Access::Write));
    assert_eq!(compiled.facts.effect, Effect::Local);
    let hooks = bind(&compiled, "/home/ann/notes/.git/hooks").expect("guarded");
    assert!(hooks.access == Access::Read && hooks.optional);
}

#[test]
fn a_fixed_path_meets_a_grant_in_the_deeper_of_both() {
    let inside = all(&files("read", "path: /srv/data/in"), &grant("any", "/srv/data", "write")).expect("compiles");
    assert_eq!(bind(&inside, "/srv/data/in").map(|bind| bind.access), Some(Access::Read));
    assert!(bind(&inside, "/srv/data").is_none());
    let around = all(&files("read", "path: /data"), &grant("any", "/data/in", "read")).expect("compiles");
    assert!(bind(&around, "/data/in").is_some() && bind(&around, "/data").is_none());
    let apart = all(&files("read", "path: /data/inside"), &grant("any", "/data/in", "read")).expect("compiles");
    assert!(bind(&apart, "/data/inside").is_none() && bind(&apart, "/data/in").is_none());
}

#[test]
fn a_launch_only_narrows() {
    let (spec, ceilings) = (files("write", "param: roots"), grant("roots", "/home/ann/notes", "write"));
    let launch = |name: &str, path: &str| {
        let folders = BTreeMap::from([(name.parse::<Name>().expect("a name"), vec![PathBuf::from(path)])]);
        compile(&spec, &ceilings, &site(), &Params { folders, ..Params::default() })
    };
    let narrowed = launch("roots", "/home/ann/notes/today").expect("inside");
    assert!(bind(&narrowed, "/home/ann/notes/today").is_some() && bind(&narrowed, "/home/ann/notes").is_none());
    assert!(matches!(launch("roots", "/home/ann"), Err(CompileRefused::NeverGranted { .. })));
    assert!(matches!(launch("roots", "/srv/other"), Err(CompileRefused::BeyondGrant { .. })));
    assert!(matches!(launch("roots", "/home/ann/notes/../x"), Err(CompileRefused::NeverGranted { .. })));
    assert!(matches!(launch("roots", "/home/ann/notesbook"), Err(CompileRefused::BeyondGrant { .. })));
    assert!(matches!(launch("other", "/home/ann/notes"), Err(CompileRefused::UnknownParameter { .. })));
}

#[test]
fn what_is_never_granted_is_refused_whoever_names_it() {
    for path in ["/home/ann", "/home/ann/.ssh", "/run/docker.sock", "/srv/sigil/keys", "/etc/shadow", "/var"] {
        let refused = all(&files("read", "param: roots"), &grant("roots", path, "read")).expect_err(path);
        assert_eq!(refused.code().as_str(), "sandbox.profile.path.never-granted", "policy names {path}");
        let refused = all(&files("read", &format!("path: {path}")), &ceilings("")).expect_err(path);
        assert_eq!(refused.code().as_str(), "sandbox.profile.path.never-granted", "the manifest names {path}");
    }
    for path in ["/usr/share", "/opt/tool", "/srv/x/.git"] {
        assert!(all(&files("write", "param: roots"), &grant("roots", path, "write")).is_err(), "{path}");
    }
    for path in ["/tmp", "/plugin", "/plugin/bin"] {
        let refused = all(&files("write", "param: roots"), &grant("roots", path, "write")).expect_err(path);
        assert_eq!(refused.code().as_str(), "sandbox.profile.path.taken", "{path}");
    }
    let refused = all(&files("read", "param: roots"), &grant("roots", "/home/ann/.ssh", "read")).expect_err("keys");
    assert_eq!(
        refused.to_string(),
        "/home/ann/.ssh is never granted: `.ssh` holds keys (wanted by signed policy plugins.sample.folders.roots[0]); name a \
         narrower folder, or leave it out"
    );
}

fn network(hosts: &str) -> Spec {
    manifest(&format!("    network:\n      hosts:\n{hosts}"))
}

#[test]
fn hosts_and_ports_are_intersected() {
    let asked = network(
        "        - host: \"*.example.com\"\n          ports: [443, 8443]\n          reason: For a test.\n        \
         - host: api.other.org\n          ports: [443]\n          reason: For a test.\n",
    );
    let compiled = all(
        &asked,
        &ceilings(
            "hosts = [{ host = \"api.example.com\", ports = [443, 80] }, { host = \"*.other.org\", ports = [80] }]\n",
        ),
    )
    .expect("compiles");
    let rules: Vec<String> =
        compiled.egress.hosts.iter().map(|rule| format!("{} {:?}", rule.host, rule.ports)).collect();
    assert_eq!(rules, ["api.example.com {443}"]);
    assert_eq!(compiled.profile.network, Network::Proxy(3128));
    for (name, value) in [
        ("HTTPS_PROXY", "http://127.0.0.1:3128"),
        ("all_proxy", "http://127.0.0.1:3128"),
        ("SOCKS_PROXY", "socks5h://127.0.0.1:3128"),
        ("socks_proxy", "socks5h://127.0.0.1:3128"),
    ] {
        assert_eq!(compiled.profile.exec.env[name], value, "{name}");
    }
    assert!(compiled.profile.seccomp.allow.contains_key("socket"));
    assert_eq!(compiled.explanation.struck.len(), 2, "one in part, one whole");
    assert!(compiled.facts.sources.has_world());
    assert_eq!(compiled.facts.effect, Effect::External);
    assert_eq!(
        compiled.facts.audience,
        Readers::from_iter(["host:api.example.com".parse::<Reader>().expect("a reader")])
    );
}

#[test]
fn a_wildcard_is_granted_as_far_as_policy_covers_it() {
    let asked = |host: &str| {
        network(&format!("        - host: \"{host}\"\n          ports: [443]\n          reason: For a test.\n"))
    };
    for (wish, ceiling, granted) in [
        ("*.example.com", "*.example.com", Some("*.example.com")),
        ("*.a.example.com", "*.example.com", Some("*.a.example.com")),
        ("*.example.com", "*.a.example.com", Some("*.a.example.com")),
        ("*.example.com", "a.example.com", Some("a.example.com")),
        ("a.b.example.com", "*.example.com", Some("a.b.example.com")),
        ("*.example.com", "example.com", None),
        ("example.com", "*.example.com", None),
        ("*.ample.com", "*.example.com", None),
        ("*.example.com", "*.example.org", None),
        ("*.example.com", "93.184.216.34", None),
    ] {
        let ceilings = ceilings(&format!("hosts = [{{ host = \"{ceiling}\", ports = [443] }}]\n"));
        let compiled = all(&asked(wish), &ceilings).expect("compiles");
        let found: Vec<String> = compiled.egress.hosts.iter().map(|rule| rule.host.to_string()).collect();
        assert_eq!(found, granted.map(str::to_owned).into_iter().collect::<Vec<_>>(), "{wish} under {ceiling}");
        let whole = granted == Some(wish);
        assert_eq!(compiled.explanation.struck.is_empty(), whole, "{wish} under {ceiling}: what is left out is said");
    }
}

#[test]
fn network_limits_are_the_least_of_policy_and_manifest() {
    let hosts = "        - host: a.example\n          ports: [443]\n          reason: For a test.\n";
    let limits = "      limits:\n        connections: 500\n        up: 1MiB\n        idle: 30s\n";
    let policy =
        "hosts = [{ host = \"a.example\", ports = [443] }]\n[sandbox.network]\nconnections = 10\nidle_seconds = 60\n";
    let compiled = all(&network(&format!("{hosts}{limits}")), &ceilings(policy)).expect("compiles");
    let (found, default) = (compiled.egress.limits, NetworkLimits::default());
    assert_eq!((found.connections, found.up_bytes, found.idle.as_secs()), (10, 1 << 20, 30));
    assert_eq!(
        (found.down_bytes, found.total),
        (default.down_bytes, default.total),
        "what nobody names has its default"
    );
    let struck = &compiled.explanation.struck;
    assert!(struck.len() == 1 && struck[0].what.contains("500 connections"), "{struck:?}");
    let written = serde_json::to_string(&compiled.egress).expect("writes");
    assert_eq!(serde_json::from_str::<Egress>(&written).expect("reads"), compiled.egress);
}

#[test]
fn local_addresses_come_from_signed_policy_alone() {
    let local = "[[egress.local]]\nplugin = \"sample\"\naddress = \"127.0.0.1:8080\"\n";
    let any = "        - param: sites\n          ports: [443]\n          reason: For a test.\n";
    let compiled = all(&network(any), &ceilings(local)).expect("compiles");
    assert_eq!(compiled.egress.local.len(), 1);
    assert_eq!(compiled.facts.effect, Effect::External);
    assert!(all(&manifest(""), &ceilings(local)).expect("compiles").egress.is_empty(), "not asked for");
    assert!(all(&network(any), &ceilings("")).expect("compiles").egress.is_empty(), "not granted");
}

#[test]
fn a_shared_host_is_heard_by_everyone() {
    let asked = network("        - host: api.github.com\n          ports: [443]\n          reason: For a test.\n");
    let compiled = all(&asked, &ceilings("hosts = [{ host = \"*.github.com\", ports = [443] }]\n")).expect("compiles");
    assert_eq!(compiled.facts.audience, Readers::Everyone);
}

#[test]
fn strict_policy_makes_a_strict_profile() {
    let mut ceilings = ceilings("");
    ceilings.posture = sigil_policy::Posture::Strict;
    let site = Site { reached: Reached::Strict, ..site() };
    let profile = compile(&manifest(""), &ceilings, &site, &Params::default()).expect("compiles").profile;
    assert_eq!(profile.posture, Posture::Strict);
    assert!(profile.required.contains(&Layer::Cgroup));
    assert!(profile.landlock.least_abi >= 6 && profile.landlock.required.contains(&Right::ScopeSignal));
}

#[test]
fn the_strongest_posture_is_taken_and_none_below_the_floor() {
    let compiled = |floor, own, reached| {
        let mut ceilings = ceilings("");
        ceilings.posture = floor;
        for grant in ceilings.plugins.values_mut() {
            grant.posture = own;
        }
        let site = Site { reached, private: Some("/srv/sigil/run/x".into()), ..site() };
        compile(&manifest(""), &ceilings, &site, &Params::default()).map(|compiled| compiled.profile.posture)
    };
    use sigil_policy::Posture as Floor;
    let (reduced, standard, strict) = (Floor::Reduced, Floor::Standard, Floor::Strict);
    assert_eq!(compiled(reduced, None, Reached::Strict), Ok(Posture::Strict));
    assert_eq!(compiled(reduced, None, Reached::Standard), Ok(Posture::Standard));
    assert_eq!(compiled(reduced, None, Reached::Reduced), Ok(Posture::Reduced));
    assert_eq!(compiled(standard, Some(reduced), Reached::Standard), Ok(Posture::Standard));
    for (floor, own, reached, lowest) in [
        (standard, None, Reached::Reduced, Posture::Standard),
        (standard, Some(reduced), Reached::Reduced, Posture::Standard),
        (reduced, Some(standard), Reached::Reduced, Posture::Standard),
        (standard, Some(strict), Reached::Standard, Posture::Strict),
        (reduced, None, Reached::None, Posture::Reduced),
    ] {
        let refused = compiled(floor, own, reached).expect_err("below the floor");
        assert_eq!(refused.code().as_str(), "sandbox.posture.floor.unmet");
        assert!(matches!(refused, CompileRefused::BelowFloor { floor, .. } if floor == lowest), "{refused}");
    }
}

#[test]
fn a_reduced_profile_has_the_host_s_paths_and_no_sockets() {
    let mut ceilings = ceilings("");
    ceilings.posture = sigil_policy::Posture::Reduced;
    let site = Site { reached: Reached::Reduced, private: Some("/srv/sigil/run/x".into()), ..site() };
    let reduced = |spec: &Spec, ceilings: &Ceilings| compile(spec, ceilings, &site, &Params::default());
    let profile = reduced(&manifest(""), &ceilings).expect("compiles").profile;
    assert!(profile.binds.iter().all(|bind| bind.source == bind.target));
    assert!(profile.exec.path.starts_with("/srv/sigil/plugins/abc") && profile.exec.argv[0].starts_with("/srv/sigil"));
    assert_eq!(
        (profile.exec.cwd.as_path(), profile.exec.env["TMPDIR"].as_str()),
        (Path::new("/srv/sigil/run/x"), "/srv/sigil/run/x")
    );
    assert!(profile.namespaces.is_empty() && profile.tmpfs.is_empty() && profile.files.is_empty());
    assert!(!profile.seccomp.allow.contains_key("chmod") && !profile.seccomp.allow.contains_key("socket"));
    assert!(profile.required.contains(&Layer::Landlock) && !profile.required.contains(&Layer::MountNs));

    let asked = network(
        "        - host: x.example.com
          ports: [443]
          reason: For a test.
",
    );
    let hosts = self::ceilings("[[plugins.sample.hosts]]\nhost = \"x.example.com\"\nports = [443]\n");
    let hosts = Ceilings { posture: sigil_policy::Posture::Reduced, ..hosts };
    assert_eq!(reduced(&asked, &hosts).expect_err("hosts").code().as_str(), "sandbox.posture.egress.refused");
    let mut spec = manifest("");
    spec.execution.transport =
        Transport::GoPlugin(GoPlugin { cookie_key: "MY_COOKIE".to_owned(), cookie_value: "v".to_owned(), protocol: 1 });
    let refused = reduced(&spec, &ceilings).expect_err("it makes a socket");
    assert_eq!(refused.code().as_str(), "sandbox.posture.transport.refused");
}

#[test]
fn a_go_plugin_needs_its_folder() {
    let text = include_str!("../../proto/tests/good.yaml").replace(
        "transport: sdk",
        "transport: go-plugin\n  handshake: { cookie_key: MY_COOKIE, cookie_value: v, protocol: 1 }",
    );
    let manifest = Manifest::parse(text.as_bytes()).expect("well-formed").validate().expect("valid");
    let refused = all(manifest.spec(), &ceilings("")).expect_err("no folder");
    assert!(matches!(refused, CompileRefused::NoPrivateFolder(_)));
    let site = Site { private: Some("/srv/sigil/run/x".into()), ..site() };
    let profile = compile(manifest.spec(), &ceilings(""), &site, &Params::default()).expect("compiles").profile;
    assert!(profile.tmpfs.is_empty());
    assert!(profile.binds.iter().any(|bind| bind.target == Path::new("/tmp") && bind.access == Access::Scratch));
    assert!(profile.seccomp.allow.contains_key("listen") && !profile.seccomp.allow.contains_key("connect"));
    assert_eq!(profile.exec.env["MY_COOKIE"], "v");
}

#[test]
fn what_makes_unix_sockets_gets_folders_or_a_network_and_not_both() {
    let mut spec = manifest(
        "    filesystem:\n      - param: roots\n        access: read\n        reason: For a test.\n    network:\n      \
         hosts:\n        - host: x.example.com\n          ports: [443]\n          reason: For a test.\n",
    );
    let folders = "[[plugins.sample.folders.roots]]\npath = \"/home/ann/notes\"\naccess = \"read\"\n\
                   authors = [\"owner:ann\"]\nreaders = [\"user:ann\"]\n";
    let hosts = "[[plugins.sample.hosts]]\nhost = \"x.example.com\"\nports = [443]\n";
    let both = format!("{folders}{hosts}");
    let site = Site { private: Some("/srv/sigil/run/x".into()), ..site() };
    let compiled = |spec: &Spec, grants: &str| compile(spec, &ceilings(grants), &site, &Params::default()).map(|_| ());
    assert_eq!(compiled(&spec, &both), Ok(()), "the inherited socket reaches nobody else's");
    let mut browser = spec.clone();
    browser.execution.sandbox.profile = "chromium".parse().expect("a name");
    assert_eq!(compiled(&browser, folders), Ok(()));
    assert_eq!(compiled(&browser, hosts), Ok(()));
    assert!(matches!(compiled(&browser, &both), Err(CompileRefused::SocketsInReach(_))));
    spec.execution.transport =
        Transport::GoPlugin(GoPlugin { cookie_key: "MY_COOKIE".to_owned(), cookie_value: "v".to_owned(), protocol: 1 });
    assert_eq!(compiled(&spec, folders), Ok(()));
    assert_eq!(compiled(&spec, hosts), Ok(()));
    assert!(matches!(compiled(&spec, &both), Err(CompileRefused::SocketsInReach(_))));
}

#[test]
fn a_manifest_names_its_family() {
    for (family, has, has_not) in [
        ("go", "epoll_create1", "mprotect"),
        ("python", "mprotect", "bind"),
        ("node", "mprotect", "bind"),
        ("chromium", "bind", "inotify_init1"),
    ] {
        let mut spec = manifest("");
        spec.execution.sandbox.profile = family.parse().expect("a name");
        let compiled = all(&spec, &ceilings("")).expect("compiles");
        let allow = &compiled.profile.seccomp.allow;
        assert!(allow.contains_key(has) && !allow.contains_key(has_not), "{family}");
        assert_eq!(bind(&compiled, "/usr/lib").is_some(), family != "go", "{family}");
        assert!(bind(&compiled, "/usr").is_none() && bind(&compiled, "/usr/bin").is_none(), "{family}");
    }
    let mut spec = manifest("");
    spec.execution.sandbox.profile = "gateway".parse().expect("a name");
    assert!(matches!(all(&spec, &ceilings("")), Err(CompileRefused::Base(_))), "the gateway's own is no plugin's");
}

#[test]
fn the_explanation_reads_well() {
    let asked = manifest(
        "    filesystem:\n      - param: roots\n        access: write\n        reason: The folders that you choose.\n    \
         network:\n      hosts:\n        - host: x.example.com\n          ports: [443]\n          reason: News.\n    \
         exec:\n      - path: /usr/bin/git\n        reason: Reads repositories.\n    limits:\n      memory: 1GiB\n      pids: 4\n",
    );
    let compiled = all(&asked, &grant("roots", "/home/ann/notes", "read")).expect("compiles");
    let text = compiled.explanation.to_string();
    let mut found = String::new();
    for line in text.lines().filter(|line| !line.contains("base profile native") || line.contains("not given")) {
        writeln!(found, "{line}").expect("a string");
    }
    insta::assert_snapshot!(found);
}

// What the property tests draw from: few names, so that wishes and grants meet.
const PATHS: [&str; 8] =
    ["/a", "/a/b", "/a/b/c", "/d", "/d/e", "/home/ann/notes", "/home/ann/notes/x", "/usr/share/zoneinfo"];
const HOSTS: [&str; 6] = ["*.x.org", "a.x.org", "b.x.org", "*.a.x.org", "api.github.com", "192.0.2.1"];

#[derive(Clone, Debug)]
struct Wish {
    param: Option<bool>,
    path: usize,
    write: bool,
}

fn wishes() -> impl Strategy<Value = Vec<Wish>> {
    let wish = (prop::option::of(any::<bool>()), 0..PATHS.len(), any::<bool>());
    prop::collection::vec(wish.prop_map(|(param, path, write)| Wish { param, path, write }), 0..4)
}

type HostWish = (Option<usize>, BTreeSet<u16>);

fn host_wishes() -> impl Strategy<Value = Vec<HostWish>> {
    let ports = prop::collection::btree_set(prop::sample::select(vec![80u16, 443, 8080]), 1..3);
    prop::collection::vec((prop::option::of(0..HOSTS.len()), ports), 0..3)
}

fn wish_manifest(wishes: &[Wish], hosts: &[HostWish], memory: Option<u64>) -> Spec {
    let mut text = String::new();
    if !wishes.is_empty() {
        text.push_str("    filesystem:\n");
    }
    for wish in wishes {
        let target = wish.param.map_or(format!("path: {}", PATHS[wish.path]), |one| format!("param: {}", param(one)));
        let access = if wish.write { "write" } else { "read" };
        write!(text, "      - {target}\n        access: {access}\n        reason: For a test.\n").expect("a string");
    }
    if !hosts.is_empty() {
        text.push_str("    network:\n      hosts:\n");
    }
    for (host, ports) in hosts {
        let target = host.map_or("param: sites".to_owned(), |host| format!("host: \"{}\"", HOSTS[host]));
        let ports: Vec<_> = ports.iter().collect();
        write!(text, "        - {target}\n          ports: {ports:?}\n          reason: For a test.\n")
            .expect("a string");
    }
    if let Some(memory) = memory {
        write!(text, "    limits:\n      memory: {memory}B\n").expect("a string");
    }
    manifest(&text)
}

const fn param(one: bool) -> &'static str {
    if one { "one" } else { "two" }
}

fn policy(grants: &[Wish], hosts: &[HostWish]) -> Ceilings {
    let mut ceilings = ceilings("");
    let mut plugin = PluginGrant { trees: BTreeSet::from([tree()]), ..PluginGrant::default() };
    for (at, grant) in grants.iter().enumerate() {
        let name: Name = param(grant.param.unwrap_or(true)).parse().expect("a name");
        plugin.folders.entry(name).or_default().push(FolderGrant {
            path: PATHS[grant.path].parse().expect("a path"),
            access: if grant.write { FolderAccess::Write } else { FolderAccess::Read },
            authors: if at == 0 { Authors::world() } else { Authors::NONE },
            readers: Readers::from_iter([format!("user:u{at}").parse::<Reader>().expect("a reader")]),
        });
    }
    for (host, ports) in hosts {
        let host = HOSTS[host.unwrap_or(0)].parse().expect("a pattern");
        plugin.hosts.push(HostRule { host, ports: ports.clone() });
    }
    ceilings.plugins.insert("sample".parse().expect("a name"), plugin);
    ceilings
}

/// The binds that come from grants: neither the system's, nor the plugin's tree, nor a guard.
fn granted(compiled: &Compiled) -> impl Iterator<Item = &Bind> {
    let base = BaseProfile::load("native").expect("well-formed");
    compiled.profile.binds.iter().filter(move |bind| {
        !bind.optional
            && bind.target != Path::new("/plugin")
            && !base.bind.iter().any(|system| system.path == bind.target)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn compiled_rights_are_in_each_input(
        wishes in wishes(), grants in wishes(), asked in host_wishes(), given in host_wishes(),
        memory in prop::option::of(4096u64..1 << 32),
    ) {
        let spec = wish_manifest(&wishes, &asked, memory);
        let ceilings = policy(&grants, &given);
        let base = BaseProfile::load("native").expect("well-formed");
        // A write grant below /usr is refused as a whole.
        let Ok(compiled) = all(&spec, &ceilings) else {
            prop_assert!(wishes.iter().chain(&grants).any(|wish| PATHS[wish.path].starts_with("/usr") && wish.write));
            return Ok(());
        };
        for bind in granted(&compiled) {
            prop_assert_eq!(&bind.source, &bind.target);
            let write = bind.access == Access::Write;
            prop_assert!(bind.access == Access::Read || write, "no grant gives more");
            let by_policy = grants.iter().any(|grant| bind.source.starts_with(PATHS[grant.path]) && (grant.write || !write));
            prop_assert!(by_policy, "{:?} is not in the policy", bind);
            let by_manifest = wishes.iter().any(|wish| {
                let meets = match wish.param {
                    None => bind.source.starts_with(PATHS[wish.path]),
                    Some(one) => grants.iter().any(|grant| {
                        grant.param.unwrap_or(true) == one && bind.source == Path::new(PATHS[grant.path]) && (grant.write || !write)
                    }),
                };
                meets && (wish.write || !write)
            });
            prop_assert!(by_manifest, "{:?} is not in the manifest", bind);
        }
        for bind in &compiled.profile.binds {
            if let Some(system) = base.bind.iter().find(|system| system.path == bind.target) {
                prop_assert_eq!(bind.access, system.access, "a part of the system is as in the base profile");
            }
        }
        for rule in &compiled.egress.hosts {
            for port in &rule.ports {
                let by_policy = given.iter().any(|(host, ports)| pattern(host.unwrap_or(0)).contains(&rule.host) && ports.contains(port));
                let by_manifest = asked.iter().any(|(host, ports)| host.is_none_or(|host| pattern(host).contains(&rule.host)) && ports.contains(port));
                prop_assert!(by_policy && by_manifest, "{:?}", rule);
            }
        }
        let limits = &compiled.profile.limits;
        let least = [base.limits.cgroup_memory_bytes, Some(ceilings.sandbox.memory_bytes), memory].into_iter().flatten().min();
        prop_assert_eq!(limits.cgroup_memory_bytes, least);
        prop_assert_eq!(&compiled.profile.landlock, &base.landlock);
        prop_assert_eq!(&compiled.profile.required, &base.required);
        prop_assert_eq!(&compiled.profile.namespaces, &base.namespaces);
        prop_assert_eq!(compiled.profile.network == Network::None, compiled.egress.is_empty());
    }

    #[test]
    fn facts_are_never_looser_than_the_profile(
        wishes in wishes(), grants in wishes(), asked in host_wishes(), given in host_wishes(),
    ) {
        let (spec, ceilings) = (wish_manifest(&wishes, &asked, None), policy(&grants, &given));
        let Ok(compiled) = all(&spec, &ceilings) else { return Ok(()) };
        let facts = &compiled.facts;
        for bind in granted(&compiled) {
            // Somebody's grant made it, and is in the facts: the label of the narrowest is at most that of the facts.
            let known = grants.iter().enumerate().filter(|(_, grant)| bind.source.starts_with(PATHS[grant.path]));
            let stated = known.map(|(at, _)| at).any(|at| {
                let reader = format!("user:u{at}").parse::<Reader>().expect("a reader");
                facts.reads.is_subset(&Readers::from_iter([reader])) && (at != 0 || facts.sources.has_world())
            });
            prop_assert!(stated, "{:?} {:?}", bind, facts);
            prop_assert!(bind.access == Access::Read || facts.effect >= Effect::Local);
        }
        if !compiled.egress.is_empty() {
            prop_assert!(facts.sources.has_world());
            prop_assert_eq!(facts.effect, Effect::External);
        }
        for rule in &compiled.egress.hosts {
            let heard = if is_shared(&rule.host) { Readers::Everyone } else { Readers::from_iter([Reader::Host(rule.host.clone())]) };
            prop_assert!(heard.is_subset(&facts.audience));
        }
        if grants.is_empty() && compiled.egress.is_empty() {
            prop_assert_eq!(facts, &ToolFacts::pure());
        }
    }
}

fn pattern(at: usize) -> HostPattern {
    HOSTS[at].parse().expect("a pattern")
}
