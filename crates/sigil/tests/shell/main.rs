//! `sigil sandbox run` as a shell meets it: the real binary and real programs, one row for each case. Every row says how the
//! command ends, what it prints, and what is on the disk afterwards.
//!
//! Under root each case runs twice: as root, and as an ordinary user.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs, unreachable_pub, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "the binary under test is started as a process")]

mod cases;
mod swapped;
mod terminal;
mod world;

use cases::{CASES, Case, End};
use world::World;

#[test]
fn every_case_ends_as_it_should() {
    let mut wrong = Vec::new();
    for user in world::users() {
        for case in CASES {
            let world = World::new(*user);
            if let Err(why) = run(case, &world) {
                wrong.push(format!("{} (as {user:?}): {why}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

fn run(case: &Case, world: &World) -> Result<(), String> {
    let mut arguments: Vec<String> = case.options.split_whitespace().map(|word| world.fill(word)).collect();
    if !case.script.is_empty() {
        arguments.extend(["--", "sh", "-c"].map(str::to_owned));
        arguments.push(world.fill(case.script));
    }
    let ran = world.run(&arguments, case.input);
    let told = format!("stdout {:?}, stderr {:?}", ran.out, ran.err);
    if ran.end != case.end {
        return Err(format!("ended by {:?} instead of {:?}; {told}", ran.end, case.end));
    }
    if !ran.out.contains(&world.fill(case.says)) || (case.says.is_empty() && !ran.out.is_empty()) {
        return Err(format!("should say {:?}; {told}", world.fill(case.says)));
    }
    if !ran.err.contains(&world.fill(case.complains)) {
        return Err(format!("should complain {:?}; {told}", case.complains));
    }
    if ran.out.contains("SECRET") || ran.err.contains("SECRET") {
        return Err(format!("what is secret was read; {told}"));
    }
    for (path, content) in case.leaves {
        let found = std::fs::read_to_string(world.path(path)).ok();
        if found.as_deref() != *content {
            return Err(format!("{path} holds {found:?} instead of {content:?}; {told}"));
        }
    }
    // What no case may touch.
    let secret = std::fs::read_to_string(world.path("secret/key")).ok();
    if secret.as_deref() != Some("SECRET\n") { Err(format!("the secret was changed; {told}")) } else { Ok(()) }
}

#[test]
fn signals_reach_the_command_and_its_end_is_seen() {
    use std::io::Read;

    use rustix::process::{Pid, Signal};

    let world = World::new(world::users()[0]);
    for (signal, caught) in [(Signal::TERM, true), (Signal::HUP, true), (Signal::USR1, true), (Signal::INT, false)] {
        let traps = if caught { "trap 'echo caught; exit 5' TERM HUP USR1;" } else { "" };
        let script = format!("{traps} echo ready; while :; do sleep 0.05; done");
        let mut child = world.command(&["sh".into(), "-c".into(), script]).spawn().expect("started");
        let mut out = child.stdout.take().expect("its output");
        out.read_exact(&mut [0; 6]).expect("ready");
        rustix::process::kill_process(Pid::from_child(&child), signal).expect("sent");
        let mut rest = String::new();
        out.read_to_string(&mut rest).expect("its end");
        let end = End::of(child.wait().expect("its end"));
        let expected = if caught { (End::Code(5), "caught\n") } else { (End::Signal(2), "") };
        assert_eq!((end, rest.as_str()), expected, "{signal:?}");
    }
}
