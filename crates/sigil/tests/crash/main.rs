//! The whole program, killed at twenty points of a turn: no accepted message is lost, no database breaks, no effect is
//! repeated, and what is in doubt is told instead.
//!
//! The model is a local server of the test's own, so that a set-up as a person makes it can be used: `sigil start`
//! takes no rehearsal provider. It outlives the gateway, as a vendor does.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking"
)]
#![allow(clippy::disallowed_methods, reason = "the binary under test is started as a process, and its end is polled")]

mod gateway;
mod message;
mod model;
mod process;

use std::fs;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use gateway::Sigil;
use message::{Message, read};
use process::{PATIENCE, until};
use rustix::process::{Pid, Signal, kill_process};

const ROUNDS: usize = 20;

/// Where in a turn the gateway dies.
#[derive(Clone, Copy, Debug)]
enum Point {
    /// After the message was sent, whether or not it was answered.
    Sent,
    /// After so many events were seen.
    Events(usize),
    /// As soon as the effect can be seen.
    Effect,
    /// While the tool hangs in a call whose start is written down.
    Hanging,
}

/// How long everything takes when nothing comes between.
struct Undisturbed {
    /// From the message to the answer that it is accepted.
    accepted: Duration,
    /// From each event to the next, beginning with the acceptance.
    gaps: Vec<Duration>,
}

fn undisturbed(sigil: &Sigil) -> Undisturbed {
    // The first turn of a process is slower than those after it.
    for name in ["warm", "measured"] {
        let mut message = sigil.message(name);
        let begun = Instant::now();
        let answer = read(sigil.post_turn(&message));
        let accepted = begun.elapsed();
        assert_eq!(message.accepted(answer), Some(true));
        let mut last = Instant::now();
        let mut gaps = Vec::new();
        for _event in sigil.events(message.turn.as_deref().expect("accepted"), 0) {
            gaps.push(last.elapsed());
            last = Instant::now();
        }
        assert_eq!(sigil.is_kept(&message, 0).outcome, "completed");
        if name == "measured" {
            return Undisturbed { accepted, gaps };
        }
    }
    unreachable!("two turns were measured")
}

/// The points of all rounds: some where a call is surely in doubt, the others spread over the whole turn.
fn points(events: usize) -> Vec<Point> {
    let spread = (0..ROUNDS).filter(|round| round % 5 < 3).count();
    let mut next = 0;
    let points = (0..ROUNDS).map(|round| match round % 5 {
        3 => Point::Effect,
        4 => Point::Hanging,
        _ => {
            // `Sent`, then zero to all events.
            let at = next * (events + 2) / spread;
            next += 1;
            at.checked_sub(1).map_or(Point::Sent, Point::Events)
        }
    });
    points.collect()
}

struct Random(u64);

impl Random {
    /// A moment before `most`.
    fn before(&mut self, most: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_nanos(self.0 % u64::try_from(most.as_nanos()).expect("short").max(1))
    }
}

/// Waits without giving the processor away: a sleep is longer than what is to be hit.
fn spin(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Sends the message and kills the gateway at the point.
fn send_and_kill(sigil: &mut Sigil, message: &mut Message, point: Point, usual: &Undisturbed, random: &mut Random) {
    if matches!(point, Point::Hanging) {
        kill_process(sigil.plugin(), Signal::STOP).expect("stopped");
    }
    let stream = sigil.post_turn(message);
    if matches!(point, Point::Sent) {
        spin(random.before(usual.accepted));
        sigil.kill();
        // Answered or not: the client knows what it has read.
        message.accepted(read(stream));
        return;
    }
    assert_eq!(message.accepted(read(stream)), Some(true));
    match point {
        Point::Sent => {}
        Point::Events(count) => {
            let events = sigil.events(message.turn.as_deref().expect("accepted"), 0).take(count);
            let numbers: Vec<_> = events.filter_map(|event| event["seq"].as_u64()).collect();
            message.seen = numbers.last().copied().unwrap_or(0);
            let seen = numbers.len();
            spin(random.before(usual.gaps.get(seen).copied().unwrap_or(Duration::from_millis(1))));
        }
        Point::Effect => {
            let begun = Instant::now();
            while sigil.effects(&message.name) == 0 {
                assert!(begun.elapsed() < PATIENCE, "no effect\n{}", sigil.log());
            }
        }
        Point::Hanging => until("no call was started", || sigil.call_in_doubt().then_some(())),
    }
    sigil.kill();
}

#[test]
fn a_killed_gateway_loses_no_message_breaks_no_database_and_repeats_no_effect() {
    let begun = Instant::now();
    let mut sigil = Sigil::set_up();
    sigil.start();
    let usual = undisturbed(&sigil);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut messages = Vec::new();
    let (mut unanswered, mut interrupted, mut in_doubt_done) = (0, 0, 0);
    for (round, point) in points(usual.gaps.len()).into_iter().enumerate() {
        let mut message = sigil.message(&format!("m{round}"));
        send_and_kill(&mut sigil, &mut message, point, &usual, &mut random);
        let answered = message.turn.is_some();
        unanswered += usize::from(!answered);

        sigil.nothing_is_left(round);
        sigil.is_sound(round);
        sigil.start();

        // A client that does not know whether it was heard says it again; one that knows may, too.
        let fresh = message.accepted(read(sigil.post_turn(&message))).expect("an answer");
        assert!(!(answered && fresh), "round {round}: {point:?}: an accepted message was forgotten");
        assert_eq!(message.accepted(read(sigil.post_turn(&message))), Some(false), "round {round}: {point:?}");
        let ended = sigil.is_kept(&message, round);
        let is_interrupted = ended.outcome == "interrupted";
        interrupted += usize::from(is_interrupted);
        in_doubt_done += usize::from(is_interrupted && sigil.effects(&message.name) == 1);
        if matches!(point, Point::Hanging) {
            assert!(is_interrupted, "round {round}: {ended:?}");
        }
        messages.push(message);
    }

    // Nothing of it changes with the restarts after it: the end of each turn is still told, and no effect came late.
    for (round, message) in messages.iter().enumerate() {
        sigil.is_kept(message, round);
        let (status, again) = read(sigil.post_turn(message)).expect("an answer");
        assert_eq!((status, again["turn"].as_str()), (202, message.turn.as_deref()), "round {round}");
    }
    let appended = fs::read_to_string(sigil.at("notes/log")).expect("read").lines().count();
    let completed = ROUNDS - interrupted;
    assert_eq!(appended, completed + in_doubt_done + 2, "with the two turns that nothing disturbed");
    let child = sigil.gateway.as_ref().expect("running");
    kill_process(Pid::from_child(child), Signal::TERM).expect("signalled");
    assert_eq!(sigil.gateway.take().expect("running").wait().expect("ended").code(), Some(0));
    sigil.nothing_is_left(ROUNDS);
    sigil.is_sound(ROUNDS);
    let turn = usual.accepted + usual.gaps.iter().sum::<Duration>();
    println!(
        "{ROUNDS} kills in {:.1} s, a turn takes {:.1} ms in {} events: {completed} completed, \
         {interrupted} interrupted ({in_doubt_done} of them with their effect), {unanswered} not answered",
        begun.elapsed().as_secs_f64(),
        turn.as_secs_f64() * 1000.0,
        usual.gaps.len(),
    );
}

/// What a command says: exit code, standard output, standard error.
fn said(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("an exit code"), text(&output.stdout), text(&output.stderr))
}

#[test]
fn whoever_sits_before_a_killed_gateway_is_told_what_became_of_it() {
    let mut sigil = Sigil::set_up();
    sigil.start();
    kill_process(sigil.plugin(), Signal::STOP).expect("stopped");
    let mut chat = sigil.command(&["-v", "chat", "Please append once"]);
    let chat = chat.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    until("no call was started", || sigil.call_in_doubt().then_some(()));
    sigil.kill();
    sigil.nothing_is_left(0);

    // While it is down: a socket that nobody listens on lies there, and two locks that nobody holds.
    assert!(sigil.at("data/run/sigil.sock").exists() && sigil.at("data/gateway.db.lock").exists());
    for command in [&["status"][..], &["chat", "hello"]] {
        let (code, out, err) = said(&sigil.run(command));
        assert_eq!((code, out.as_str()), (7, ""), "{err}");
        assert!(err.contains("was killed") && err.contains("fix: sigil start"), "{err}");
    }

    // It comes back over both, and the one who waits is told, as is anybody who asks later.
    sigil.start();
    let (code, out, err) = said(&chat.wait_with_output().expect("ended"));
    assert_eq!((code, out.trim_end()), (1, "I append once."), "{err}");
    assert!(err.contains("went away") && err.contains("not repeated"), "{err}");
    let turn = err.split_whitespace().find(|word| word.starts_with("tn_")).expect("its name");
    sigil.kill();
    sigil.start();
    let (code, out, err) = said(&sigil.run(&["chat", "--turn", turn]));
    assert_eq!((code, out.trim_end()), (1, "I append once."), "{err}");
    assert!(err.contains("interrupted[agent.turn.call.interrupted]") && err.contains("not repeated"), "{err}");
    assert_eq!(said(&sigil.run(&["status"])).0, 0);

    // A lock that somebody holds is not taken for one that was left.
    let (code, _, err) = said(&sigil.run(&["start", "--no-listen"]));
    assert!(code != 0 && err.contains("server.listen.socket.running"), "{err}");
    let mut elsewhere = sigil.command(&["start", "--no-listen"]);
    elsewhere.env("SIGIL_GATEWAY__SOCKET", sigil.at("data/run/other.sock"));
    let (code, _, err) = said(&elsewhere.output().expect("ended"));
    assert!(code != 0 && err.contains("store.database.open.inuse") && err.contains("runs with the same data"), "{err}");
}
