//! What the launcher does not start, whatever the gateway says.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use sigil_policy::sign::{SigningKey, Validity};
use sigil_policy::{Interpreter, PluginGrant};
use sigil_sandbox::client::ExitStatus;
use sigil_sandbox::launcher::wire::Reply;
use sigil_sandbox::launcher::{self, ForkFailed};
use sigil_types::{Digest, Timestamp};

use crate::harness::Test;
use crate::world::{World, finish, manifest, now, shell};

pub(crate) const TESTS: &[Test] = &[
    ("without_a_policy_nothing_starts", no_policy),
    ("a_changed_tree_is_refused", tampered_tree),
    ("another_manifest_is_refused", tampered_manifest),
    ("what_policy_does_not_endorse_is_refused", not_endorsed),
    ("a_script_starts_with_the_endorsed_interpreter_only", interpreter),
    ("what_others_could_change_is_not_launched", shared_tree),
    ("a_lost_or_restored_state_is_refused", lost_state),
    ("a_policy_that_ends_stops_launches", expired),
    ("a_policy_of_another_key_or_of_the_past_is_refused", policies),
    ("sigil_s_own_folders_are_never_granted", never_granted),
    ("a_launch_gets_no_more_than_is_granted", beyond_grant),
    ("garbage_is_refused_and_the_launcher_lives_or_ends_cleanly", garbage),
    ("a_launcher_without_keys_does_not_start", no_keys),
];

fn no_policy() {
    let mut world = World::unstarted(&manifest(""), "true");
    world.start();
    assert_eq!(world.refusal(&world.request()), "sandbox.launch.policy.absent");
}

fn tampered_tree() {
    let world = World::new("true");
    let store = world.store(&world.tree);
    fs::write(store.join("bin/probe"), "#!/bin/sh\necho other\n").expect("changed");
    assert_eq!(world.refusal(&world.request()), "sandbox.launch.tree.tampered");
    fs::remove_dir_all(&store).expect("removed");
    assert_eq!(world.refusal(&world.request()), "sandbox.tree.entry.unreadable");
    std::os::unix::fs::symlink("/usr", &store).expect("a link");
    assert_eq!(world.refusal(&world.request()), "sandbox.tree.entry.unreadable");
}

fn tampered_manifest() {
    let world = World::new("true");
    let mut request = world.request();
    request.manifest = request.manifest.replace("profile: shell", "profile: native");
    assert_eq!(world.refusal(&request), "sandbox.launch.manifest.other");
}

fn not_endorsed() {
    let mut world = World::new("true");
    let mut request = world.request();
    request.plugin = "other".parse().expect("a name");
    assert_eq!(world.refusal(&request), "sandbox.profile.plugin.unknown");
    let mut request = world.request();
    request.tree = world.install(&manifest(""), "echo evil");
    assert_eq!(world.refusal(&request), "sandbox.profile.tree.not-endorsed");
    let mut request = world.request();
    request.policy = Digest::of(b"another");
    assert_eq!(world.refusal(&request), "sandbox.launch.policy.other");
    // Narrowing is immediate: the next policy does not endorse it any more.
    let old = world.request();
    world.set_policy(2, |ceilings| ceilings.plugins.clear()).expect("accepted");
    assert_eq!(world.refusal(&old), "sandbox.launch.policy.other");
    assert_eq!(world.refusal(&world.request()), "sandbox.profile.plugin.unknown");
}

fn interpreter() {
    let mut world = World::new("true");
    let launched = world.launch();
    assert_eq!(finish(launched).0, ExitStatus::Exited(0));
    // The same once more, from what was kept of the first launch.
    assert_eq!(finish(world.launch()).0, ExitStatus::Exited(0));
    let mut with = |version, interpreters: Vec<Interpreter>| {
        let grant = PluginGrant { trees: [world.tree].into(), interpreters, ..PluginGrant::default() };
        world
            .set_policy(version, |ceilings| {
                ceilings.plugins.insert("probe".parse().expect("a name"), grant);
            })
            .expect("accepted");
        world.refusal(&world.request())
    };
    let wrong = "sandbox.interpreter.digest.not-endorsed";
    assert_eq!(with(2, Vec::new()), wrong);
    assert_eq!(with(3, vec![Interpreter { digest: Digest::of(b"another"), ..shell() }]), wrong);
    // The same file by another name is not what was signed for: another machine may have another file there.
    let real = fs::canonicalize("/bin/sh").expect("a shell");
    let real = real.to_str().expect("text").parse().expect("a path");
    assert_eq!(with(4, vec![Interpreter { path: real, ..shell() }]), wrong);

    let mut world = World::unstarted(&manifest(""), "true");
    let program = world.path("plugins/new/bin/probe");
    fs::create_dir_all(program.parent().expect("a folder")).expect("made");
    fs::write(&program, "#!/usr/bin/env sh\ntrue\n").expect("written");
    world.tree = world.install_as_it_is();
    world.start();
    let grant = PluginGrant { trees: [world.tree].into(), interpreters: vec![shell()], ..PluginGrant::default() };
    world
        .set_policy(1, |ceilings| {
            ceilings.plugins.insert("probe".parse().expect("a name"), grant);
        })
        .expect("accepted");
    assert_eq!(world.refusal(&world.request()), "sandbox.interpreter.env.refused");
}

fn shared_tree() {
    let world = World::new("true");
    let program = world.store(&world.tree).join("bin/probe");
    fs::hard_link(&program, world.path("also")).expect("a link");
    assert_eq!(world.refusal(&world.request()), "sandbox.tree.entry.forbidden");
    fs::remove_file(world.path("also")).expect("removed");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o775)).expect("its mode");
    assert_eq!(world.refusal(&world.request()), "sandbox.tree.entry.forbidden");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("its mode");
    assert_eq!(finish(world.launch()).0, ExitStatus::Exited(0));
}

/// What a folder that was restored, or of which something is gone, does: it never lowers the floor by itself.
fn lost_state() {
    let mut world = World::new("true");
    let old = world.envelope(2, Validity::days(now(), 30), |_| {});
    world.set_policy(3, |_| {}).expect("accepted");
    for (name, code) in [
        ("policy.floor", "sandbox.launcher.state.damaged"),
        ("audit.head", "sandbox.launcher.state.damaged"),
        ("trust.json", "sandbox.launcher.trust.missing"),
    ] {
        world.launcher = None;
        let (file, aside) = (world.path("launcher").join(name), world.path("aside"));
        fs::rename(&file, &aside).expect("moved");
        let refused = launcher::fork(world.config()).expect_err("refused");
        assert_eq!(refused.code().as_str(), code, "{name}");
        fs::rename(&aside, &file).expect("moved back");
    }
    // A policy file that was restored is older than the floor, which is elsewhere.
    world.start();
    let rollback = world.client().set_policy(&old).expect_err("older");
    assert!(rollback.code().as_str().contains("rollback"), "{}", rollback.code());
}

fn expired() {
    let mut world = World::new("true");
    let expires = now().plus_millis(400);
    let validity = Validity { not_before: Timestamp::from_millis(0), expires };
    let envelope = world.envelope(2, validity, |_| {});
    if let Ok((_, digest)) = world.client().set_policy(&envelope) {
        world.policy = digest;
        while now() < expires {}
        assert_eq!(world.refusal(&world.request()), "sandbox.launch.policy.expired");
    }
    let refused = world.client().set_policy(&envelope).expect_err("too late");
    assert_eq!(refused.code().as_str(), "policy.bundle.expired");
}

fn policies() {
    let mut world = World::new("true");
    let old = world.envelope(4, Validity::days(now(), 30), |_| {});
    world.set_policy(5, |_| {}).expect("accepted");
    let rollback = world.client().set_policy(&old).expect_err("older");
    assert!(rollback.code().as_str().contains("rollback"), "{}", rollback.code());
    // The floor outlives the launcher.
    world.start();
    let rollback = world.client().set_policy(&old).expect_err("older");
    assert!(rollback.code().as_str().contains("rollback"), "{}", rollback.code());

    let ours = std::mem::replace(&mut world.key, SigningKey::generate().expect("a key"));
    let theirs = world.envelope(9, Validity::days(now(), 30), |_| {});
    let refused = world.client().set_policy(&theirs).expect_err("another key");
    assert!(refused.code().as_str().starts_with("policy.bundle"), "{}", refused.code());
    world.key = ours;
    for garbage in ["", "{}", "not an envelope", &"x".repeat(5 << 20)] {
        assert!(world.client().set_policy(garbage).is_err());
    }
    world.set_policy(6, |_| {}).expect("the launcher still serves");
}

fn grant(world: &World, path: &std::path::Path) -> PluginGrant {
    let path = path.to_str().expect("text");
    let toml = format!("trees = [\"{}\"]\n[[folders.docs]]\npath = \"{path}\"\naccess = \"write\"\n", world.tree);
    let grant: PluginGrant = toml::from_str(&toml).expect("a grant");
    PluginGrant { interpreters: vec![shell()], ..grant }
}

const ASK: &str = "    filesystem:\n      - param: docs\n        access: write\n        reason: For a test.\n";

fn never_granted() {
    let mut world = World::unstarted(&manifest(ASK), "true");
    world.start();
    let own = [world.path("launcher"), world.path("launcher/launcher.key"), world.path(""), "/etc/cron.d".into()];
    for (version, path) in (1..).zip(own) {
        let path = std::path::PathBuf::from(path.to_str().expect("text").trim_end_matches('/'));
        let grant = grant(&world, &path);
        world
            .set_policy(version, |ceilings| {
                ceilings.plugins.insert("probe".parse().expect("a name"), grant);
            })
            .expect("accepted");
        assert_eq!(world.refusal(&world.request()), "sandbox.profile.path.never-granted", "{}", path.display());
    }
}

fn beyond_grant() {
    let mut world = World::unstarted(&manifest(ASK), "true");
    world.start();
    let granted = grant(&world, &world.path("granted"));
    world
        .set_policy(1, |ceilings| {
            ceilings.plugins.insert("probe".parse().expect("a name"), granted);
        })
        .expect("accepted");
    let ask = |name: &str, path: std::path::PathBuf| {
        let mut request = world.request();
        request.params.folders.insert(name.parse().expect("a name"), vec![path]);
        request
    };
    assert_eq!(world.refusal(&ask("docs", "/usr/share".into())), "sandbox.profile.path.beyond-grant");
    assert_eq!(world.refusal(&ask("other", world.path("granted"))), "sandbox.profile.parameter.unknown");
    // A granted folder that was replaced by a link is not followed.
    fs::remove_dir(world.path("granted")).expect("removed");
    std::os::unix::fs::symlink("/usr", world.path("granted")).expect("a link");
    assert_eq!(world.refusal(&world.request()), "sandbox.launch.step.failed");
}

fn frame(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("a length");
    [&b"SGL1"[..], &length.to_le_bytes(), body].concat()
}

fn garbage() {
    let mut world = World::new("true");
    for body in [
        &b""[..],
        b"{}",
        b"null",
        b"{\"ask\":\"exec\"}",
        b"{\"ask\":\"status\",\"x\":1}",
        &[0xff; 1000],
        &[b'['; 100_000],
    ] {
        let (reply, fds) = world.client().send_raw(&frame(body)).expect("answered");
        let Reply::Refused(refusal) = reply else { panic!("{reply:?}") };
        assert_eq!(refusal.code.as_str(), "sandbox.launcher.request.malformed");
        assert!(fds.is_empty());
    }
    assert!(world.client().status().is_ok(), "it still serves");
    // What is no frame ends the launcher: no gateway sends it.
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"SGL1\xff\xff\xff\xff", b"SGL2\0\0\0\0"] {
        assert!(world.client().send_raw(bytes).is_err());
        assert!(world.client().status().is_err());
        world.start();
    }
}

fn no_keys() {
    let world = World::unstarted(&manifest(""), "true");
    fs::remove_file(world.path("launcher/trust.json")).expect("removed");
    let refused = launcher::fork(world.config()).expect_err("refused");
    assert!(matches!(refused, ForkFailed::Refused(_)), "{refused}");
    assert_eq!(refused.code().as_str(), "sandbox.launcher.trust.missing");
}
