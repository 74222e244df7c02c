//! [`Pending`]: an entry on its way to the disk, and [`Receipt`], the proof that it arrived.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use sigil_types::{Code, Digest, EventId};

/// Proof that an entry is durable. Only this crate makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    id: EventId,
    seq: u64,
    leaf: Digest,
}

impl Receipt {
    pub(crate) const fn new(id: EventId, seq: u64, leaf: Digest) -> Self {
        Self { id, seq, leaf }
    }

    /// The entry's name.
    #[must_use]
    pub const fn id(&self) -> EventId {
        self.id
    }

    /// The entry's place in the log, counted from zero.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// The entry's leaf hash.
    #[must_use]
    pub const fn leaf(&self) -> Digest {
        self.leaf
    }
}

/// Why an entry is not in the log. Whatever waited for it must not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendFailed {
    /// The log could not be written. It stays failed until it is opened anew.
    #[error(
        "the audit log cannot be written, so nothing that needs a record is done any more: {reason}. Mend the cause \
         (disk space, permissions of the file) and restart"
    )]
    Write {
        /// What the database said.
        reason: Arc<str>,
    },
    /// The witness found that the log's past was changed.
    #[error("the audit log was damaged, so nothing that needs a record is done any more: {reason}")]
    Damaged {
        /// What the witness said.
        reason: Arc<str>,
    },
    /// The log was closed.
    #[error("the audit log is closed")]
    Closed,
    /// More entries wait than the log holds in memory.
    #[error("the audit log does not keep up: {waiting} entries wait for the disk")]
    Overloaded {
        /// How many wait.
        waiting: usize,
    },
    /// The entry is too large.
    #[error(
        "an audit entry has at most {} bytes, this one has {bytes}: record digests, not content",
        crate::entry::MAX_ENTRY_BYTES
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

impl AppendFailed {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Write { .. } => Code::new("audit.log.write.failed"),
            Self::Damaged { .. } => Code::new("audit.log.write.damaged"),
            Self::Closed => Code::new("audit.log.write.closed"),
            Self::Overloaded { .. } => Code::new("audit.log.write.overloaded"),
            Self::TooLarge { .. } => Code::new("audit.entry.size.exceeded"),
        }
    }
}

type Answer = Result<Receipt, AppendFailed>;

/// Where the writer leaves the answer, and those who wait for it are found.
#[derive(Default)]
struct State {
    answer: Option<Answer>,
    wakers: Vec<Waker>,
}

/// One answer, given once. Small and independent of any runtime.
#[derive(Default)]
pub(crate) struct Slot {
    state: Mutex<State>,
    given: Condvar,
}

impl Slot {
    pub(crate) fn give(&self, answer: Answer) {
        let wakers = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.answer.get_or_insert(answer);
            std::mem::take(&mut state.wakers)
        };
        self.given.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// An entry that was accepted and is not durable yet. Its id is known; dropping this does not take the entry back.
///
/// Wait for it by [`Pending::wait`], or `await` it. Until then nothing that the entry records may happen.
#[must_use = "an effect may happen only after its entry is durable; wait for it, or say why not"]
pub struct Pending {
    id: EventId,
    slot: Arc<Slot>,
}

impl Pending {
    pub(crate) const fn new(id: EventId, slot: Arc<Slot>) -> Self {
        Self { id, slot }
    }

    pub(crate) fn failed(id: EventId, failed: AppendFailed) -> Self {
        let slot = Arc::new(Slot::default());
        slot.give(Err(failed));
        Self { id, slot }
    }

    /// The entry's name.
    #[must_use]
    pub const fn id(&self) -> EventId {
        self.id
    }

    /// Waits until the entry is durable, blocking the thread.
    ///
    /// # Errors
    /// When the entry is not in the log.
    pub fn wait(self) -> Result<Receipt, AppendFailed> {
        let mut state = self.slot.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(answer) = &state.answer {
                return answer.clone();
            }
            state = self.slot.given.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The answer, if there is one yet.
    #[must_use]
    pub fn poll_now(&self) -> Option<Result<Receipt, AppendFailed>> {
        self.slot.state.lock().unwrap_or_else(PoisonError::into_inner).answer.clone()
    }
}

impl Future for Pending {
    type Output = Result<Receipt, AppendFailed>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.slot.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = &state.answer {
            return Poll::Ready(answer.clone());
        }
        if !state.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            state.wakers.push(context.waker().clone());
        }
        Poll::Pending
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pending({})", self.id)
    }
}
