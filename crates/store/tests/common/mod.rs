//! What the tests of the stores share.
#![allow(dead_code, reason = "each test file uses its part")]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use sigil_store::{Inbound, MessageRole, NewMessage, NewSession, Part};
use sigil_types::{Author, ChannelRef, Label, Origin, Principal, Role, SessionId, Timestamp, TurnId, Untrusted};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

pub(crate) fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + millis)
}

pub(crate) fn owner() -> Principal {
    Principal { user: "ann".parse().unwrap(), role: Role::Owner }
}

pub(crate) fn cli() -> ChannelRef {
    ChannelRef("cli".parse().unwrap())
}

pub(crate) fn by_owner() -> Label {
    Label::by(Author::Owner("ann".parse().unwrap()))
}

pub(crate) fn session(id: SessionId) -> NewSession {
    let conversation = String::new();
    NewSession { id, channel: cli(), conversation, principal: owner(), label: Label::bottom(), at: at(0) }
}

pub(crate) fn said(role: MessageRole, text: &str) -> NewMessage {
    let content = Untrusted::new(Origin::Owner, text.to_owned());
    NewMessage { turn: None, role, part: Part::Text, content, label: by_owner(), at: at(1) }
}

pub(crate) fn inbound(session: SessionId, key: &str) -> Inbound {
    Inbound {
        turn: TurnId::generate(at(1)),
        session,
        key: key.to_owned(),
        channel: cli(),
        principal: owner(),
        content: Untrusted::new(Origin::Owner, format!("message {key}")),
        label: by_owner(),
        at: at(1),
    }
}
