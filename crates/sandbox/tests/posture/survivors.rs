//! Nothing survives a program, in any posture: whatever it forked, wherever it tried to go.

use std::io::{BufRead, BufReader};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal};
use sigil_policy::Posture as Floor;
use sigil_sandbox::client::{ExitStatus, Launched};

use crate::harness::Test;
use crate::reached::world;
use crate::restricted::{Lack, inside};
use crate::world::{World, manifest};

pub(crate) const TESTS: &[Test] = &[
    ("nothing_survives_a_kill", || killed("nothing_survives_a_kill", Lack::Nothing)),
    ("nothing_survives_a_kill_without_namespaces", || {
        killed("nothing_survives_a_kill_without_namespaces", Lack::Namespaces)
    }),
    ("nothing_survives_the_end", || ended("nothing_survives_the_end", Lack::Nothing)),
    ("nothing_survives_the_end_without_namespaces", || {
        ended("nothing_survives_the_end_without_namespaces", Lack::Namespaces)
    }),
    ("nothing_survives_the_launcher", || orphaned("nothing_survives_the_launcher", Lack::Nothing)),
    ("nothing_survives_the_launcher_without_namespaces", || {
        orphaned("nothing_survives_the_launcher_without_namespaces", Lack::Namespaces)
    }),
    ("a_program_that_kills_its_init_takes_itself_with_it", || {
        own_init("a_program_that_kills_its_init_takes_itself_with_it")
    }),
];

/// Children that ignore every signal, are stopped, left their session by a double fork, or make others without end. Each holds
/// the program's standard error, by which it is seen whether any lives. It is ready when all of them are where they want to be.
const BROOD: &str = "(trap '' HUP INT TERM QUIT USR1; : > $TMPDIR/a; while :; do sleep 1000; done) & \
    (sleep 1000 & kill -STOP $!; : > $TMPDIR/b) & \
    (setsid sh -c '(setsid sh -c \": > $TMPDIR/c; exec sleep 1000\" &) & : > $TMPDIR/d; sleep 1000' &) & \
    until [ -e $TMPDIR/a -a -e $TMPDIR/b -a -e $TMPDIR/c -a -e $TMPDIR/d ]; do sleep 0.01; done; \
    (trap '' HUP; while :; do (sleep 1000 &); sleep 0.01; done) & \
    echo ready; ";

fn start(lack: Lack, script: &str) -> (World, Launched, BufReader<std::fs::File>) {
    let world = world(&manifest(""), script, if lack == Lack::Nothing { Floor::Standard } else { Floor::Reduced }, "");
    let mut launched = world.launch();
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).expect("/dev/null");
    let mut out = BufReader::new(std::fs::File::from(std::mem::replace(&mut launched.stdout, null)));
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    assert_eq!(line, "ready\n");
    (world, launched, out)
}

/// Waits until nobody has the other end of standard error: everything that was started is gone.
fn all_gone(launched: &Launched) {
    let patience = Timespec { tv_sec: 20, tv_nsec: 0 };
    loop {
        let mut fds = [PollFd::new(&launched.stderr, PollFlags::IN)];
        assert_eq!(poll(&mut fds, Some(&patience)), Ok(1), "somebody still lives");
        let mut rest = [0; 512];
        if rustix::io::read(&launched.stderr, &mut rest) == Ok(0) {
            return;
        }
    }
}

fn killed(name: &str, lack: Lack) {
    if inside(name, lack) {
        let (world, launched, _out) = start(lack, &format!("{BROOD} trap '' TERM; while :; do read line; done"));
        world.client().kill(launched.id).expect("killed");
        all_gone(&launched);
        assert_eq!(ExitStatus::read(&launched.exit).expect("its status"), ExitStatus::Killed);
    }
}

fn ended(name: &str, lack: Lack) {
    if inside(name, lack) {
        let (_world, launched, _out) = start(lack, &format!("{BROOD} exit 3"));
        assert_eq!(ExitStatus::read(&launched.exit).expect("its status"), ExitStatus::Exited(3));
        // With the status at hand nobody may be left.
        all_gone(&launched);
    }
}

/// The launcher is killed, so that it can do nothing about it any more.
fn orphaned(name: &str, lack: Lack) {
    if inside(name, lack) {
        let (world, launched, _out) = start(lack, &format!("{BROOD} while :; do read line; done"));
        let launcher = world.launcher.as_ref().expect("a launcher").pid();
        let launcher = i32::try_from(launcher).ok().and_then(Pid::from_raw).expect("a pid");
        rustix::process::kill_process(launcher, Signal::KILL).expect("killed");
        all_gone(&launched);
    }
}

/// Where a signal could reach the init: it must not, and if it did, the launcher would end the rest.
fn own_init(name: &str) {
    if inside(name, Lack::Namespaces) {
        let (world, launched, mut out) = start(Lack::Namespaces, &format!("{BROOD} kill -9 $PPID; echo no; read line"));
        let mut line = String::new();
        out.read_line(&mut line).expect("a line");
        assert_eq!(line, "no\n", "its init is out of its reach");
        // Somebody else kills it.
        let launcher = world.launcher.as_ref().expect("a launcher").pid();
        let children = std::fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children")).expect("children");
        let init = children.split_whitespace().next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
        rustix::process::kill_process(init.expect("its init"), Signal::KILL).expect("killed");
        all_gone(&launched);
    }
}
