//! Recorded launches: what is refused is refused as ever, and is known.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::sync::PoisonError;

use sigil_sandbox::confine::{Prepared, Streams};
use sigil_sandbox::denials::{Ledger, Need, Recorder, RuleSet, Sight, Telling};
use sigil_sandbox::profile::Profile;
use sigil_sandbox::profile::recorded::Recording;

use crate::confined::profile;
use crate::harness::Test;
use crate::world::{self, World};

pub(crate) const TESTS: &[Test] = &[
    ("recorded::refused_calls_fail_as_ever_and_are_counted", refused),
    ("recorded::looks_change_nothing_and_are_hints", looks),
    ("recorded::without_a_recorder_refused_calls_still_fail", unattended),
    ("recorded::the_launcher_knows_what_each_program_was_refused", launched),
    ("recorded::a_lost_recorder_costs_its_programs_nothing_but_words", lost),
    ("recorded::a_flood_of_refused_calls_is_bounded", flood),
];

/// Runs `profile` to its end: its wait status, what it printed, and what was recorded. Without a recording as ever.
fn run(profile: Profile, recording: Option<Recording>, attended: bool) -> (i32, String, Ledger) {
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let null = File::open("/dev/null").expect("/dev/null");
    let (telling, rules) = (Telling::of(&profile.seccomp), RuleSet::of(&profile));
    let prepared = match recording {
        Some(recording) => Prepared::recorded(profile, Vec::new(), recording),
        None => Prepared::new(profile, Vec::new()),
    };
    let prepared = prepared.unwrap_or_else(|error| panic!("{error}"));
    let streams = Streams { stdin: Some(null.as_fd()), stdout: Some(writer.as_fd()), stderr: Some(writer.as_fd()) };
    let mut started = prepared.start(&streams).unwrap_or_else(|error| panic!("{error}"));
    drop(writer);
    let required = prepared.profile().required.clone();
    assert_eq!(started.report.missing(&required), Default::default());
    assert_eq!(started.report.unproven(&required), Default::default());
    let recorder = started.listening.take().filter(|_| attended).map(|listening| {
        let recorder = Recorder::new(listening, telling, Some(rules));
        (recorder.ledger(), std::thread::spawn(|| recorder.run()))
    });
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("its output");
    let status = started.wait().expect("its end");
    let ledger = recorder.map(|(ledger, thread)| {
        // It ends by itself when nobody is left who could ask.
        thread.join().expect("the recorder's end");
        let ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.clone()
    });
    (status, text, ledger.unwrap_or_default())
}

fn shell(script: &str) -> Profile {
    profile("shell", &["/bin/sh", "-c", script])
}

fn refused() {
    let script = "cd /tmp && echo a > a; for i in 1 2 3; do ln a b 2>&1; done; chown 1 a 2>&1; unshare -U true 2>&1; \
                  (ulimit -c 0) && echo through; chmod 4755 a; ls -l a | cut -c1-10; exit 4";
    let (plain_status, plain, _) = run(shell(script), None, false);
    let (status, text, ledger) = run(shell(script), Some(Recording::Refused), true);
    assert_eq!((status, &text), (plain_status, &plain), "recording changes nothing");
    assert!(text.contains("Operation not permitted"), "{text}");
    let find = |name: &str| {
        let of = |what: &Sight| matches!(what, Sight::Call { call, .. } if call == name);
        ledger.seen().iter().find(|sighting| of(&sighting.what)).cloned()
    };
    let link = find("linkat").unwrap_or_else(|| panic!("{ledger:?}"));
    assert_eq!(link.count, 3, "{ledger:?}");
    assert!(link.first <= link.last);
    let Sight::Call { errno, path, .. } = &link.what else { panic!("{link:?}") };
    assert_eq!((*errno, path.as_deref()), (1, Some("/tmp/a")), "the path is made absolute");
    assert!(find("unshare").is_some() && find("fchownat").is_some(), "{ledger:?}");
    assert!(find("fchmodat").is_some(), "a refusal by argument: {ledger:?}");
    assert!(find("kcmp").is_none(), "Sigil's own try is not the program's: {ledger:?}");
    assert!(ledger.seen().iter().all(|sighting| matches!(sighting.what, Sight::Call { .. })), "{ledger:?}");
}

fn looks() {
    // Not below `/tmp`, where the sandbox has a folder of its own.
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "do not tell").expect("a file");
    let at = secret.display();
    let script = format!(
        "cat {at} 2>&1; echo x > {at} 2>&1; cat /no/such/file 2>&1; echo fine > /tmp/own; cat /tmp/own; ln /tmp/own /tmp/two 2>&1; \
         chmod 4755 /tmp/own 2>&1; exit 3"
    );
    let (plain_status, plain, _) = run(shell(&script), None, false);
    let (status, text, ledger) = run(shell(&script), Some(Recording::Looks), true);
    assert_eq!((status, &text), (plain_status, &plain), "observing changes nothing");
    assert!(!text.contains("do not tell"));
    assert_eq!(std::fs::read_to_string(&secret).expect("unchanged"), "do not tell");
    let files: Vec<(&str, Need)> = ledger
        .seen()
        .iter()
        .filter_map(|sighting| match &sighting.what {
            Sight::File { path, need } => Some((path.as_str(), *need)),
            _ => None,
        })
        .collect();
    let at = secret.to_str().expect("text");
    assert!(files.contains(&(at, Need::Read)) && files.contains(&(at, Need::Write)), "{files:?}");
    assert!(!files.iter().any(|(path, _)| path.contains("/no/such") || path.contains("/tmp/own")), "{files:?}");
    let calls = ledger.seen().iter().filter(|sighting| matches!(sighting.what, Sight::Call { .. })).count();
    assert!(calls >= 1, "refused calls are counted beside them: {ledger:?}");
}

fn unattended() {
    let (status, text, ledger) =
        run(shell("unshare -U true 2>&1; ln /tmp/a /tmp/b; cat /tmp/b 2>&1; exit 6"), Some(Recording::Refused), false);
    assert_eq!(status, 6 << 8, "what is allowed works: {text}");
    assert!(text.contains("not implemented") && text.contains("No such file"), "{text}");
    assert!(ledger.is_empty());
}

fn flood() {
    let script = "cd /tmp; i=0; while [ $i -lt 300 ]; do ln x$i y$i 2>/dev/null; i=$((i+1)); done; exit 0";
    let (status, _, ledger) = run(shell(script), Some(Recording::Refused), true);
    assert_eq!(status, 0);
    let kept: u64 = ledger.seen().iter().map(|sighting| sighting.count).sum();
    assert!(ledger.seen().len() <= sigil_sandbox::denials::MOST && ledger.beyond > 0, "{}", ledger.seen().len());
    assert!(kept + ledger.beyond >= 300, "every one is counted: {kept} + {}", ledger.beyond);
}

fn calls(ledger: &Ledger) -> Vec<(&'static str, u64)> {
    let call = |sighting: &'_ sigil_sandbox::denials::Sighting| match &sighting.what {
        Sight::Call { call, .. } => Some(call.clone()),
        _ => None,
    };
    assert!(ledger.seen().iter().all(|sighting| call(sighting).is_some()), "{ledger:?}");
    let name = |sighting: &'_ sigil_sandbox::denials::Sighting| call(sighting).unwrap_or_default();
    let names = ["linkat", "unshare", "fchownat"];
    names
        .into_iter()
        .map(|wanted| {
            (
                wanted,
                ledger.seen().iter().filter(|sighting| name(sighting) == wanted).map(|sighting| sighting.count).sum(),
            )
        })
        .filter(|(_, count)| *count > 0)
        .collect()
}

fn launched() {
    let world = World::new("cd /tmp; echo a > a; ln a b; ln a b; unshare -U true; exit 0");
    let quiet = World::new("exit 0");
    let client = world.client();
    // Twice: by what was prepared, and by what stands ready.
    for _ in 0..2 {
        let launched = world.launch();
        let id = launched.id;
        let (status, _, complaints) = world::finish(launched);
        assert!(complaints.contains("Operation not permitted"), "{status:?} {complaints}");
        assert_eq!(calls(&client.denials(id).expect("told").0), [("linkat", 2), ("unshare", 1)]);
    }
    let launched = quiet.launch();
    let id = launched.id;
    world::finish(launched);
    assert!(quiet.client().denials(id).expect("told").0.is_empty());
    assert!(client.denials(id).expect("told").0.is_empty(), "another launcher's launch is not known");
}

fn lost() {
    let world = World::new("cd /tmp; echo a > a; read go; unshare -U true; ln a b 2>/dev/null; echo $?; exit 0");
    let client = world.client();
    let launched = world.launch();
    let pid = world.launcher.as_ref().expect("a launcher").pid();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("its children");
    let named = |pid: &&str| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sigil-recorder")
    };
    let recorder = children.split_whitespace().find(named).expect("the recorder").parse().expect("a number");
    let recorder = rustix::process::Pid::from_raw(recorder).expect("a process");
    rustix::process::kill_process(recorder, rustix::process::Signal::KILL).expect("killed");
    // A refused call that waited fails, too; nothing is ever allowed.
    let id = launched.id;
    let sigil_sandbox::client::Rpc::Socket(socket) = &launched.rpc else { panic!("a socket") };
    rustix::io::write(socket, b"go\n").expect("sent");
    let (_, out, complaints) = world::finish(launched);
    assert!(out.trim() == "1" && !complaints.is_empty(), "{out} {complaints}");
    let refused = client.denials(id).expect_err("it is gone");
    assert_eq!(refused.code().as_str(), "sandbox.launch.recorder.lost");
    // The next launch has a new one.
    let launched = world.launch();
    let id = launched.id;
    let sigil_sandbox::client::Rpc::Socket(socket) = &launched.rpc else { panic!("a socket") };
    rustix::io::write(socket, b"go\n").expect("sent");
    world::finish(launched);
    assert_eq!(calls(&client.denials(id).expect("told").0), [("linkat", 1), ("unshare", 1)]);
}
