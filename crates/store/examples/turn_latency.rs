//! Measures what a turn waits for the store, step by step.
//!
//! Usage: `cargo run --profile demo -p sigil-store --example turn_latency [FOLDER]`. The folder decides which disk is
//! measured.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use sigil_store::sqlite::SqliteSessions;
use sigil_store::{Inbound, MessageRole, NewMessage, NewReply, NewSession, Part, SessionStore, TurnEnd};
use sigil_types::{
    Author, ChannelRef, Clock as _, Label, Origin, Outcome, Principal, Role, SessionId, SystemClock, TurnId, Untrusted,
};

type Failed = Box<dyn std::error::Error>;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn main() -> Result<(), Failed> {
    let folder = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(folder)?;
    let store = SqliteSessions::open(folder.path(), &"home".parse()?)?;
    let channel = ChannelRef("cli".parse()?);
    let principal = Principal { user: "ann".parse()?, role: Role::Owner };
    let label = Label::by(Author::Owner("ann".parse()?));
    let now = SystemClock.now();
    let text = |text: &str| Untrusted::new(Origin::Owner, text.repeat(64));
    let said = |role| NewMessage {
        turn: None,
        role,
        part: Part::Text,
        content: text("sixteen letters!"),
        label: label.clone(),
        at: now,
    };
    let session = block_on(store.create_session(NewSession {
        id: SessionId::generate(now),
        channel: channel.clone(),
        conversation: String::new(),
        principal: principal.clone(),
        label: Label::bottom(),
        at: now,
    }))?
    .id;

    let (mut accept, mut start, mut window, mut end) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for number in 0..1_000 {
        let turn = TurnId::generate(now);
        let inbound = Inbound {
            turn,
            session,
            key: number.to_string(),
            channel: channel.clone(),
            principal: principal.clone(),
            content: text("sixteen letters!"),
            label: label.clone(),
            at: now,
        };
        accept.push(timed(|| block_on(store.accept(inbound)))?);
        start.push(timed(|| block_on(store.start_turn(turn, vec![said(MessageRole::User)], now)))?);
        window.push(timed(|| block_on(store.window(session, 20)))?);
        let reply = NewReply { channel: channel.clone(), content: text("sixteen letters!"), label: label.clone() };
        let messages = vec![said(MessageRole::Assistant)];
        let outcome = TurnEnd { outcome: Outcome::Completed, code: None, messages, reply: Some(reply), at: now };
        end.push(timed(|| block_on(store.end_turn(turn, outcome)))?);
    }
    for (what, times) in [("accept", accept), ("start_turn", start), ("window of 20", window), ("end_turn", end)] {
        report(what, times);
    }
    Ok(())
}

fn timed<T, E>(run: impl FnOnce() -> Result<T, E>) -> Result<Duration, E> {
    let start = Instant::now();
    run()?;
    Ok(start.elapsed())
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times.get(times.len() * share / 1000).map_or(0.0, |time| time.as_secs_f64() * 1e6);
    println!("{what:<14} median {:>8.1} µs   p95 {:>8.1} µs   p99.9 {:>8.1} µs", at(500), at(950), at(999));
}
