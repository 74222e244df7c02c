//! What the tests of the log share.
#![allow(dead_code, reason = "each test file uses its part")]

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use rusqlite::Connection;
use serde_json::json;
use sigil_audit::{AuditLog, Entry, LocalSigner, SigningKey, VerifyKeys};
use sigil_types::{Clock, Code, SystemClock, Timestamp};

pub(crate) const KIND: Code = Code::new("test.entry.made");

pub(crate) fn signer() -> Arc<LocalSigner> {
    Arc::new(LocalSigner::new(key(), None))
}

pub(crate) fn key() -> SigningKey {
    SigningKey::from_pkcs8("test/audit", &SigningKey::generate().unwrap()).unwrap()
}

pub(crate) fn keys(signer: &LocalSigner) -> VerifyKeys {
    VerifyKeys { keys: vec![sigil_audit::HeadSigner::key(signer)], anchor: None }
}

pub(crate) fn open(path: &Path, signer: &Arc<LocalSigner>) -> AuditLog {
    AuditLog::open(path, Arc::clone(signer) as _, Arc::new(SystemClock)).unwrap()
}

pub(crate) fn entry(number: u64) -> Entry {
    Entry::new(KIND, "tester").data(json!({ "number": number }))
}

/// A closed log with `count` entries and a head after each third of them.
pub(crate) fn log_of(path: &Path, signer: &Arc<LocalSigner>, count: u64) {
    let log = open(path, signer);
    for number in 0..count {
        log.append(entry(number)).wait().unwrap();
        if (number + 1) % (count / 3).max(1) == 0 {
            log.sign_head().unwrap();
        }
    }
}

pub(crate) fn raw(path: &Path) -> Connection {
    Connection::open(path).unwrap()
}

/// A clock that a test turns by hand.
#[derive(Default)]
pub(crate) struct HandClock(pub(crate) AtomicU64);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

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
