//! What the handle, the writer and the head signer share: the queue, the state, and the waiting.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use sigil_types::{Clock, Timestamp};

use crate::checkpoint::SignedHead;
use crate::entry::Draft;
use crate::pending::{AppendFailed, Slot};
use crate::refusal::Refusals;

/// Work for the writer.
pub(crate) enum Job {
    /// Append an entry.
    Append(Draft, Arc<Slot>),
    /// Store a signed head.
    Head(SignedHead, SyncSender<Result<(), AppendFailed>>),
}

impl Job {
    /// Tells whoever waits that it was not done.
    pub(crate) fn refuse(self, why: &AppendFailed) {
        match self {
            Self::Append(_, slot) => slot.give(Err(why.clone())),
            // Nobody listening any more is fine.
            Self::Head(_, done) => drop(done.send(Err(why.clone()))),
        }
    }
}

#[derive(Default)]
pub(crate) struct Queue {
    pub(crate) jobs: VecDeque<Job>,
    pub(crate) closed: bool,
}

/// What the head signer's thread is asked for.
#[derive(Default)]
pub(crate) struct Bell {
    pub(crate) rung: bool,
    pub(crate) closed: bool,
}

pub(crate) struct Shared {
    pub(crate) queue: Mutex<Queue>,
    pub(crate) ready: Condvar,
    pub(crate) refusals: Mutex<Refusals>,
    pub(crate) bell: Mutex<Bell>,
    pub(crate) ringing: Condvar,
    pub(crate) head: Mutex<SignedHead>,
    clock: Arc<dyn Clock>,
    max_waiting: usize,
    failed: OnceLock<AppendFailed>,
    /// Durable entries.
    size: AtomicU64,
    /// The latest moment given to an entry: time never runs backwards, not over a restart either.
    floor: AtomicU64,
    watchers: Mutex<Vec<Waker>>,
    grown: Condvar,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(clock: Arc<dyn Clock>, max_waiting: usize, head: SignedHead, latest: Timestamp) -> Self {
        Self {
            queue: Mutex::default(),
            ready: Condvar::new(),
            refusals: Mutex::default(),
            bell: Mutex::default(),
            ringing: Condvar::new(),
            clock,
            max_waiting,
            failed: OnceLock::new(),
            size: AtomicU64::new(head.size()),
            head: Mutex::new(head),
            floor: AtomicU64::new(latest.as_millis()),
            watchers: Mutex::default(),
            grown: Condvar::new(),
        }
    }

    /// The present moment, never earlier than any entry's.
    pub(crate) fn now(&self) -> Timestamp {
        let now = self.clock.now().as_millis();
        Timestamp::from_millis(self.floor.fetch_max(now, Ordering::AcqRel).max(now))
    }

    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    pub(crate) fn failure(&self) -> Option<&AppendFailed> {
        self.failed.get()
    }

    /// Queues `job`, or refuses it at once.
    pub(crate) fn push(&self, job: Job) {
        let refused = {
            let mut queue = lock(&self.queue);
            let waiting = queue.jobs.len();
            if let Some(failed) = self.failed.get() {
                Some((job, failed.clone()))
            } else if queue.closed {
                Some((job, AppendFailed::Closed))
            } else if waiting >= self.max_waiting {
                Some((job, AppendFailed::Overloaded { waiting }))
            } else {
                queue.jobs.push_back(job);
                None
            }
        };
        match refused {
            Some((job, why)) => job.refuse(&why),
            None => self.ready.notify_one(),
        }
    }

    /// Fails the log for good: everything that waits, and everything that comes, is refused.
    pub(crate) fn fail(&self, why: AppendFailed) {
        let why = self.failed.get_or_init(|| why).clone();
        // Under the queue's lock `push` sees either the failure or an order that is drained here.
        let waiting = std::mem::take(&mut lock(&self.queue).jobs);
        waiting.into_iter().for_each(|job| job.refuse(&why));
        let now = self.now();
        let held = lock(&self.refusals).take_due(now, true);
        held.into_iter().for_each(|(_, slot)| slot.give(Err(why.clone())));
        self.wake_watchers();
        self.ready.notify_all();
    }

    /// Makes `size` durable entries known.
    pub(crate) fn grow(&self, size: u64) {
        self.size.store(size, Ordering::Release);
        self.wake_watchers();
    }

    fn wake_watchers(&self) {
        let watchers = std::mem::take(&mut *lock(&self.watchers));
        self.grown.notify_all();
        watchers.into_iter().for_each(Waker::wake);
    }

    /// Registers `waker` unless the log has more than `beyond` entries or has failed. Returns whether it has.
    pub(crate) fn watch(&self, beyond: u64, waker: &Waker) -> bool {
        let mut watchers = lock(&self.watchers);
        // Under the lock: whoever grows the log afterwards finds the waker.
        if self.size() > beyond || self.failed.get().is_some() {
            return true;
        }
        if !watchers.iter().any(|known| known.will_wake(waker)) {
            watchers.push(waker.clone());
        }
        false
    }

    /// Rings for a signed head.
    pub(crate) fn ring(&self) {
        lock(&self.bell).rung = true;
        self.ringing.notify_one();
    }
}
