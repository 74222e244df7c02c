//! Older versions of Landlock: what is requested is capped, for the unit tests of this crate alone.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::{Prepared, Stage, StartFailed, Streams};
use crate::cgroup::Offer;
use crate::host::{Host, Reached};
use crate::profile::{self, CommandAsk, Exec, Layer, Limits, NeverGrant, Posture, Profile, Right};
use crate::report::LayerReport;

const CAP: &str = "TEST_LANDLOCK_ABI";

/// The version that this process pretends to have at most.
pub(crate) fn landlock_abi() -> u32 {
    std::env::var(CAP).ok().and_then(|text| text.parse().ok()).unwrap_or(u32::MAX)
}

#[test]
fn every_version_of_landlock_gives_what_it_can() {
    for abi in 1..=crate::sys::landlock_abi().min(7) {
        // A process of one thread, as every launcher is: the test runner's has several.
        #[expect(clippy::disallowed_methods, reason = "this very test, once more")]
        let status = std::process::Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "confine::tests::as_an_older_kernel", "--test-threads=1", "--nocapture"])
            .env(CAP, abi.to_string())
            .status();
        assert!(status.expect("its end").success(), "version {abi}: see above");
    }
}

/// The other half of the test above.
#[test]
fn as_an_older_kernel() {
    if std::env::var_os(CAP).is_none() {
        return;
    }
    let abi = crate::sys::landlock_abi();
    let host = Host::look(Offer::Limits);
    let best = match abi {
        ..3 => Reached::None,
        3..6 => Reached::Standard,
        6.. => Reached::Strict,
    };
    assert_eq!((host.posture, host.landlock_abi), (best, abi));
    let missing: Vec<Layer> = host.missing.iter().map(|layer| layer.name).collect();
    assert_eq!(missing, if abi < 6 { vec![Layer::Landlock] } else { vec![] });

    let mut strict = command("true", None);
    strict.posture = Posture::Strict;
    match run(strict).expect_err("there is no control group") {
        StartFailed::Step(failure) => assert!(failure.stage == Stage::Landlock && abi < 6, "{failure}"),
        StartFailed::LayerMissing(layers) => assert!(abi >= 6 && layers.contains(&Layer::Cgroup), "{layers:?}"),
        other => panic!("{other}"),
    }

    // Nobody's signals reach the test itself; whether a child's do depends on who holds them.
    let own = std::process::id();
    let script =
        format!("kill -0 {own} && echo out; sleep 100 & kill $! && echo child; kill -0 $$ && echo self; exit 0");
    let scratch = tempfile::tempdir_in("/tmp").expect("a folder");
    std::os::unix::fs::chown(scratch.path(), Some(IDS.0), Some(IDS.1)).expect("its owner");
    for (profile, reduced) in [(command(&script, None), false), (command(&script, Some(scratch.path())), true)] {
        match run(profile) {
            Ok((said, report)) => {
                assert!(abi >= 3);
                let expected = if reduced && abi < 6 { "self\n" } else { "child\nself\n" };
                assert_eq!(said, expected, "version {abi}, reduced: {reduced}");
                assert_eq!(report.landlock_abi, abi);
                for right in [Right::IoctlDev, Right::ScopeSignal, Right::BindTcp] {
                    assert_eq!(report.landlock_unknown.contains(&right), right.since() > abi, "{right:?}");
                }
            }
            Err(StartFailed::Step(failure)) => assert!(failure.stage == Stage::Landlock && abi < 3, "{failure}"),
            Err(other) => panic!("{other}"),
        }
    }
}

const IDS: (u32, u32) = (0x7000_0b01, 0x7000_0b01);

/// A shell script in the base profile `shell`, in posture `reduced` with a scratch folder.
fn command(script: &str, scratch: Option<&Path>) -> Profile {
    let ask = CommandAsk {
        profile: "shell".to_owned(),
        files: Vec::new(),
        masks: Vec::new(),
        hosts: Vec::new(),
        exec: Exec {
            path: PathBuf::from("/bin/sh"),
            argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: BTreeMap::new(),
            cwd: "/tmp".into(),
        },
        never: NeverGrant::default(),
        host_ids: IDS,
        posture: None,
        limits: Limits::default(),
        terminal: false,
    };
    let mut profile = profile::compile_command(ask).expect("compiles").profile;
    if let Some(scratch) = scratch {
        profile::reduce(&mut profile, scratch).expect("reduced");
    }
    profile
}

fn run(profile: Profile) -> Result<(String, LayerReport), StartFailed> {
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let started = Prepared::new(profile, Vec::new())?.start(&Streams {
        stdin: None,
        stdout: Some(writer.as_fd()),
        stderr: None,
    })?;
    drop(writer);
    let mut said = String::new();
    reader.read_to_string(&mut said).expect("its output");
    started.wait().expect("its end");
    Ok((said, started.report))
}
