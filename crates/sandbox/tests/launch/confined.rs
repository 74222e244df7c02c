//! Profiles applied to real programs, without a launcher.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::PathBuf;

use sigil_sandbox::confine::{Prepared, StartFailed, Streams};
use sigil_sandbox::profile::base::BaseProfile;
use sigil_sandbox::profile::{Bind, Exec, Identity, Layer, Network, Profile, Tmpfs};

use crate::harness::Test;

pub(crate) const TESTS: &[Test] = &[
    ("true_runs_with_every_required_layer", true_runs),
    ("every_layer_can_be_left_out_for_the_probe_only", ablation),
    ("a_shell_sees_only_its_sandbox", shell),
];

/// The base profile `base` with nothing granted, running `argv`.
pub(crate) fn profile(base: &str, argv: &[&str]) -> Profile {
    let base = BaseProfile::load(base).expect("an embedded profile");
    Profile {
        name: base.name.clone(),
        posture: base.posture,
        required: base.required.clone(),
        ablated: Default::default(),
        namespaces: base.namespaces.clone(),
        identity: Identity { uid: base.uid, gid: base.gid, host_uid: 0x7000_1234, host_gid: 0x7000_1234 },
        exec: Exec {
            path: PathBuf::from(argv[0]),
            argv: argv.iter().map(|&argument| argument.to_owned()).collect(),
            env: base.env.clone(),
            cwd: base.cwd.clone(),
        },
        binds: base
            .bind
            .iter()
            .map(|bind| Bind {
                source: bind.path.clone(),
                target: bind.path.clone(),
                access: bind.access,
                optional: bind.optional,
                link: bind.link,
            })
            .collect(),
        hidden: Vec::new(),
        files: base.file.clone(),
        tmpfs: base.tmpfs.iter().map(|t| Tmpfs { path: t.path.clone(), bytes: t.bytes, inodes: t.inodes }).collect(),
        scratch: None,
        root_bytes: base.root_bytes,
        proc: base.proc,
        devices: base.devices.clone(),
        network: Network::None,
        hostname: base.hostname.clone(),
        limits: base.limits.clone(),
        landlock: base.landlock.clone(),
        seccomp: base.filter(&Default::default()),
    }
}

/// Runs `profile` to its end: its wait status, what it printed, and the layers.
fn run(profile: Profile) -> Result<(i32, String, sigil_sandbox::report::LayerReport), StartFailed> {
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let null = File::open("/dev/null").expect("/dev/null");
    let prepared = Prepared::new(profile, Vec::new())?;
    let streams = Streams { stdin: Some(null.as_fd()), stdout: Some(writer.as_fd()), stderr: Some(writer.as_fd()) };
    let started = prepared.start(&streams)?;
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("its output");
    Ok((started.wait().expect("its end"), text, started.report))
}

fn true_runs() {
    let required = profile("native", &["/x"]).required;
    let (status, text, report) = run(profile("shell", &["/usr/bin/true"])).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((status, text.as_str()), (0, ""));
    assert_eq!(report.missing(&required), Default::default());
    assert_eq!(report.unproven(&required), Default::default());
    assert_eq!(report.landlock_abi, sigil_sandbox::confine::landlock_abi());
}

fn shell() {
    let script = "id -u; ls -a /; ls /proc; echo hi > /tmp/x; cat /tmp/x; hostname; cat /etc/shadow; umask; exit 7";
    let (status, text, _) = run(profile("shell", &["/bin/sh", "-c", script])).unwrap_or_else(|error| panic!("{error}"));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.contains(&"ls: cannot open directory '/': Permission denied"), "{text}");
    assert!(lines.contains(&"cat: /etc/shadow: No such file or directory"), "{text}");
    for expected in ["65532", "self", "thread-self", "hi", "sandbox", "0077"] {
        assert!(lines.contains(&expected), "{expected}: {text}");
    }
    let pids: Vec<&&str> = lines.iter().filter(|line| line.parse::<u32>().is_ok_and(|pid| pid < 100)).collect();
    assert!(!pids.contains(&&"1"), "the init is not visible: {text}");
    assert_eq!(status, 7 << 8);
}

fn ablation() {
    let root = rustix::process::geteuid().is_root();
    for layer in profile("native", &["/plugin/probe", "--list"]).required {
        let mut without = profile("native", &["/plugin/probe", "--list", "--ignored"]);
        without.ablated = [layer].into();
        assert!(matches!(Prepared::new(without.clone(), Vec::new()), Err(StartFailed::Profile(_))));
        let null = File::open("/dev/null").expect("/dev/null");
        let streams = Streams { stdin: Some(null.as_fd()), stdout: Some(null.as_fd()), stderr: Some(null.as_fd()) };
        let started = Prepared::probe(without).and_then(|prepared| prepared.start(&streams));
        match started {
            Ok(started) => {
                assert_eq!(started.wait().expect("its end"), 0, "{layer:?}");
                assert_eq!(started.report.ablated, [layer].into());
            }
            // An ordinary user can have no namespace without one of users, nor a /proc without one of processes.
            Err(StartFailed::Step(_)) if matches!(layer, Layer::UserNs | Layer::PidNs) && !root => {}
            Err(error) => panic!("{layer:?}: {error}"),
        }
    }
}
