//! What each host reaches, what is refused below the floor, and that a launch works in each posture.

use sigil_policy::Posture as Floor;
use sigil_sandbox::client::ExitStatus;
use sigil_sandbox::host::{Reached, State};
use sigil_sandbox::profile::{Layer, Posture};

use crate::harness::Test;
use crate::restricted::{Lack, inside};
use crate::world::{World, finish, manifest};

pub(crate) const TESTS: &[Test] = &[
    ("this_host_gives_standard_or_more", whole),
    ("without_namespaces_it_is_reduced_or_refused", no_namespaces),
    ("a_namespace_that_is_good_for_nothing_is_none", no_mounts),
    ("without_landlock_nothing_starts", no_landlock),
    ("what_reduced_cannot_hold_is_refused_in_it", refused_in_reduced),
    ("a_reduced_program_has_its_streams_its_folder_and_little_else", reduced_program),
];

/// A world whose policy has this floor.
pub(crate) fn world(manifest: &str, script: &str, floor: Floor, grant: &str) -> World {
    let mut world = World::unstarted(manifest, script);
    world.start();
    let (tree, sh) = (world.tree, crate::world::shell());
    let sh = format!("interpreters = [{{ path = \"{}\", digest = \"{}\" }}]", sh.path, sh.digest);
    let toml = format!("trees = [\"{tree}\"]\n{sh}\n{grant}");
    world
        .set_policy(1, |ceilings| {
            ceilings.posture = floor;
            ceilings.plugins.insert("probe".parse().expect("a name"), toml::from_str(&toml).expect("a grant"));
        })
        .expect("accepted");
    world
}

fn host(world: &World) -> sigil_sandbox::host::Host {
    world.client().status().expect("a status").host
}

fn whole() {
    let world = world(&manifest(""), "true", Floor::Reduced, "");
    let host = host(&world);
    println!("{host:?}");
    assert!(host.posture >= Reached::Standard, "{}", host.lacks());
    assert_eq!(host.missing.is_empty(), host.posture == Reached::Strict, "what is missing for strict is named");
    let launched = world.launch();
    assert_eq!(
        Reached::Standard <= host.posture,
        launched.launch.posture >= Posture::Standard,
        "the strongest is taken"
    );
    assert_eq!(launched.launch.floor, Posture::Reduced);
    assert_eq!(launched.report.applied.contains(&Layer::Cgroup), host.cgroup.limits());
    assert_eq!(finish(launched).0, ExitStatus::Exited(0));
    if host.posture < Reached::Strict {
        println!("skipped: posture strict; {}", host.cgroup);
        let world = self::world(&manifest(""), "true", Floor::Strict, "");
        assert_eq!(world.refusal(&world.request()), "sandbox.posture.floor.unmet");
        let world = self::world(&manifest(""), "true", Floor::Reduced, "posture = \"strict\"\n");
        assert_eq!(world.refusal(&world.request()), "sandbox.posture.floor.unmet");
    }
}

fn no_namespaces() {
    if !inside("without_namespaces_it_is_reduced_or_refused", Lack::Namespaces) {
        return;
    }
    let standard = world(&manifest(""), "true", Floor::Standard, "");
    let host = host(&standard);
    println!("{host:?}");
    assert_eq!(host.posture, Reached::Reduced);
    let [missing] = &host.missing[..] else { panic!("one layer") };
    assert_eq!((missing.name, missing.status), (Layer::UserNs, State::Refused));
    assert!(missing.fix.contains("AppArmor"), "{}", missing.fix);
    let refused = standard.client().launch(&standard.request()).expect_err("below the floor");
    assert_eq!(refused.code().as_str(), "sandbox.posture.floor.unmet");
    let text = refused.to_string();
    assert!(text.contains("standard") && text.contains("user_ns") && text.contains("userns"), "{text}");
    drop(standard);

    let world = world(&manifest(""), "echo here; exit 7", Floor::Reduced, "");
    let launched = world.launch();
    let launch = launched.receipt.verify(&world.client().public_key()).expect("signed");
    assert_eq!((launch.posture, launch.floor), (Posture::Reduced, Posture::Reduced));
    let layers = &launch.layers;
    for layer in [Layer::Landlock, Layer::Seccomp, Layer::NoNewPrivs, Layer::Capabilities, Layer::Identity] {
        assert!(layers.applied.contains(&layer) && layers.proven.contains(&layer), "{layer}: {layers:?}");
    }
    for layer in [Layer::UserNs, Layer::MountNs, Layer::PidNs, Layer::NetNs, Layer::IpcNs, Layer::UtsNs] {
        assert!(!layers.applied.contains(&layer), "{layer}: {layers:?}");
    }
    assert_eq!(finish(launched), (ExitStatus::Exited(7), "here\n".to_owned(), String::new()));
}

fn no_mounts() {
    if inside("a_namespace_that_is_good_for_nothing_is_none", Lack::Mounts) {
        let world = world(&manifest(""), "true", Floor::Reduced, "");
        let host = host(&world);
        assert_eq!(host.posture, Reached::Reduced);
        assert_eq!(host.missing.iter().map(|layer| layer.name).collect::<Vec<_>>(), [Layer::MountNs]);
        assert_eq!(finish(world.launch()).0, ExitStatus::Exited(0));
    }
}

fn no_landlock() {
    if inside("without_landlock_nothing_starts", Lack::Landlock) {
        let world = world(&manifest(""), "true", Floor::Reduced, "");
        let host = host(&world);
        assert_eq!((host.posture, host.landlock_abi), (Reached::None, 0));
        assert_eq!(host.missing.iter().map(|layer| layer.name).collect::<Vec<_>>(), [Layer::Landlock]);
        assert_eq!(world.refusal(&world.request()), "sandbox.posture.floor.unmet");
    }
}

fn refused_in_reduced() {
    if !inside("what_reduced_cannot_hold_is_refused_in_it", Lack::Namespaces) {
        return;
    }
    let handshake =
        "transport: go-plugin\n  handshake: { cookie_key: PROBE_COOKIE, cookie_value: crumbs, protocol: 1 }";
    let text = manifest("").replace("transport: sdk", handshake);
    let go = world(&text, "true", Floor::Reduced, "");
    assert_eq!(go.refusal(&go.request()), "sandbox.posture.transport.refused");

    let ask = "    network:\n      hosts:\n        - host: example.org\n          ports: [443]\n          reason: For a test.\n";
    let hosts = world(&manifest(ask), "true", Floor::Reduced, "[[hosts]]\nhost = \"example.org\"\nports = [443]\n");
    assert_eq!(hosts.refusal(&hosts.request()), "sandbox.posture.egress.refused");
    // What is asked for and not granted is struck out, as ever.
    let none = world(&manifest(ask), "true", Floor::Reduced, "");
    assert_eq!(finish(none.launch()).0, ExitStatus::Exited(0));

    // A folder to write with something in it that must stay as it is.
    let ask = "    filesystem:\n      - param: docs\n        access: write\n        reason: For a test.\n";
    let mut guarded = World::unstarted(&manifest(ask), "true");
    std::fs::create_dir_all(guarded.path("granted/.git/hooks")).expect("a folder");
    guarded.start();
    let folder = guarded.path("granted").display().to_string();
    let (tree, sh) = (guarded.tree, crate::world::shell());
    let sh = format!("interpreters = [{{ path = \"{}\", digest = \"{}\" }}]", sh.path, sh.digest);
    let toml = format!("trees = [\"{tree}\"]\n{sh}\n[[folders.docs]]\npath = \"{folder}\"\naccess = \"write\"\n");
    guarded
        .set_policy(1, |ceilings| {
            ceilings.posture = Floor::Reduced;
            ceilings.plugins.insert("probe".parse().expect("a name"), toml::from_str(&toml).expect("a grant"));
        })
        .expect("accepted");
    assert_eq!(guarded.refusal(&guarded.request()), "sandbox.launch.step.failed");
    std::fs::remove_dir_all(guarded.path("granted/.git")).expect("removed");
    assert_eq!(finish(guarded.launch()).0, ExitStatus::Exited(0));
}

fn reduced_program() {
    if !inside("a_reduced_program_has_its_streams_its_folder_and_little_else", Lack::Namespaces) {
        return;
    }
    let script = "echo kept > $TMPDIR/x && cat $TMPDIR/x; pwd; (cat /etc/passwd || echo no) 2>/dev/null; \
                  (ls /proc || echo no) 2>/dev/null; (chmod 600 $TMPDIR/x || echo no) 2>/dev/null; exit 0";
    let world = world(&manifest(""), script, Floor::Reduced, "");
    let launched = world.launch();
    let (status, out, err) = finish(launched);
    println!("{out}{err}");
    let lines: Vec<&str> = out.lines().collect();
    let [kept, folder, rest @ ..] = &lines[..] else { panic!("{out}") };
    assert_eq!((status, *kept, rest), (ExitStatus::Exited(0), "kept", &["no"; 3][..]));
    assert!(folder.starts_with(&world.path("run").display().to_string()), "{folder}");
    while !world.client().status().expect("a status").running.is_empty() {}
    assert!(!std::path::Path::new(folder).exists(), "its folder is gone with it");
}
