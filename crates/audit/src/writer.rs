//! The writer: the one thread that changes the database. It takes all that waits, writes it in one transaction, and one
//! sync to the disk makes all of it durable.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use crate::merkle::{Frontier, leaf_hash};
use crate::pending::{AppendFailed, Receipt, Slot};
use crate::schema;
use crate::shared::{Job, Shared, lock};

/// Entries after which the write-ahead log is folded into the database when the writer is idle, and in any case.
const CHECKPOINT_IDLE: u64 = 256;
const CHECKPOINT_ANYWAY: u64 = 16_384;
/// How often held refusals are looked at.
const REFUSAL_TICK: Duration = Duration::from_secs(1);

pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) connection: Connection,
    pub(crate) frontier: Frontier,
    pub(crate) head_every: u64,
    pub(crate) idle: Duration,
    /// Entries since the last checkpoint of the write-ahead log.
    pub(crate) since_checkpoint: u64,
    /// Jobs of the transaction under way.
    pub(crate) taken: Vec<Job>,
}

/// Nobody is left waiting for a writer that is gone, however it went.
impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.fail(AppendFailed::Closed);
        self.refuse_taken();
    }
}

enum Wake {
    Work(Vec<Job>),
    Idle,
    Closed,
}

impl Writer {
    /// Runs until the log is closed or fails.
    pub(crate) fn run(mut self) {
        // Whether there was work since the last idle moment.
        let mut busy = false;
        while self.shared.failure().is_none() {
            match self.next(busy) {
                Wake::Work(jobs) => {
                    busy = true;
                    self.taken = jobs;
                    match self.commit() {
                        Ok(receipts) => self.answer(receipts),
                        Err(error) => self.shared.fail(AppendFailed::Write { reason: error.to_string().into() }),
                    }
                }
                Wake::Idle => {
                    busy = false;
                    self.rest();
                }
                Wake::Closed => {
                    // So that the file alone is the whole log, for whoever copies it. Readers that are still open keep
                    // SQLite from doing this by itself.
                    let _ = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
                    return;
                }
            }
        }
    }

    /// Waits for work; for an idle moment, when there was work or refusals are held back; or for the end.
    fn next(&self, busy: bool) -> Wake {
        let patience =
            if busy { Some(self.idle) } else { lock(&self.shared.refusals).any_held().then_some(REFUSAL_TICK) };
        let mut queue = lock(&self.shared.queue);
        loop {
            if !queue.jobs.is_empty() {
                return Wake::Work(std::mem::take(&mut queue.jobs).into());
            }
            if queue.closed || self.shared.failure().is_some() {
                return Wake::Closed;
            }
            queue = match patience {
                None => self.shared.ready.wait(queue).unwrap_or_else(std::sync::PoisonError::into_inner),
                Some(patience) => {
                    let waited = self.shared.ready.wait_timeout(queue, patience);
                    let (queue, timeout) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
                    if timeout.timed_out() && queue.jobs.is_empty() && !queue.closed {
                        return Wake::Idle;
                    }
                    queue
                }
            };
            // A held refusal rang: wait anew, with patience.
            if patience.is_none() && queue.jobs.is_empty() && !queue.closed {
                return Wake::Idle;
            }
        }
    }

    /// Writes all that was taken, in one transaction. When this returns, it is durable.
    fn commit(&mut self) -> rusqlite::Result<Vec<Receipt>> {
        let mut receipts = Vec::with_capacity(self.taken.len());
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut entry = transaction.prepare_cached(
                "INSERT INTO entry (seq, body, nodes, id, kind, turn, session) VALUES (?, ?, ?, ?, ?, ?, ?)",
            )?;
            let mut head = transaction.prepare_cached("INSERT OR REPLACE INTO head (size, note) VALUES (?, ?)")?;
            for job in &self.taken {
                match job {
                    Job::Append(draft, _) => {
                        let seq = self.frontier.size();
                        let body = draft.bytes(seq);
                        let leaf = leaf_hash(body.as_bytes());
                        let nodes: Vec<u8> =
                            self.frontier.push(leaf).iter().flat_map(|node| *node.as_bytes()).collect();
                        let turn = draft.turn.as_ref().map(ToString::to_string);
                        let session = draft.session.as_ref().map(ToString::to_string);
                        let (place, id) = (schema::column(seq)?, draft.id.to_string());
                        entry.execute((place, body, nodes, id, draft.kind.as_str(), turn, session))?;
                        receipts.push(Receipt::new(draft.id, seq, leaf));
                    }
                    Job::Head(signed, _) => {
                        head.execute((schema::column(signed.size())?, signed.note()))?;
                    }
                }
            }
        }
        transaction.commit()?;
        Ok(receipts)
    }

    /// Tells those who wait that what was taken is durable.
    fn answer(&mut self, receipts: Vec<Receipt>) {
        self.shared.grow(self.frontier.size());
        self.since_checkpoint += receipts.len() as u64;
        let mut receipts = receipts.into_iter();
        for job in self.taken.drain(..) {
            match job {
                Job::Append(_, slot) => {
                    if let Some(receipt) = receipts.next() {
                        slot.give(Ok(receipt));
                    }
                }
                Job::Head(_, done) => drop(done.send(Ok(()))),
            }
        }
        self.after_commit();
    }

    fn refuse_taken(&mut self) {
        let why = self.shared.failure().cloned().unwrap_or(AppendFailed::Closed);
        self.taken.drain(..).for_each(|job| job.refuse(&why));
    }

    fn after_commit(&mut self) {
        let unsigned = self.frontier.size().saturating_sub(lock(&self.shared.head).size());
        if unsigned >= self.head_every {
            self.shared.ring();
        }
        if self.since_checkpoint >= CHECKPOINT_ANYWAY {
            self.checkpoint();
        }
    }

    /// What is done while nobody waits: aggregates that are due, a signed head, a checkpoint.
    fn rest(&mut self) {
        let now = self.shared.now();
        let due = lock(&self.shared.refusals).take_due(now, false);
        push_all(&self.shared, due);
        if self.frontier.size() > lock(&self.shared.head).size() {
            self.shared.ring();
        }
        if self.since_checkpoint >= CHECKPOINT_IDLE {
            self.checkpoint();
        }
    }

    /// Folds the write-ahead log into the database. What was committed is durable without it, so a failure (a reader in
    /// the way) is tried again later.
    fn checkpoint(&mut self) {
        self.since_checkpoint = 0;
        let _ = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
    }
}

/// Queues aggregated refusals.
pub(crate) fn push_all(shared: &Shared, aggregates: Vec<(crate::entry::Draft, Arc<Slot>)>) {
    for (draft, slot) in aggregates {
        shared.push(Job::Append(draft, slot));
    }
}
