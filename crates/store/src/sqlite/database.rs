//! A database and its one thread.
//!
//! Everything is an operation in one queue. The thread takes all that waits, runs it in one transaction, each operation
//! behind a savepoint, commits, and only then answers: one sync to the disk for all, and what was answered is durable.
//! Reads take the same way, so they see what was written before them.

use std::fs::{DirBuilder, File, OpenOptions};
use std::future::Future;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use super::OpenStore;
use super::schema::Schema;
use crate::failed::StoreFailed;

/// How long a lock held by somebody else (a backup, a shell) is waited for.
const BUSY: Duration = Duration::from_secs(2);

/// What an operation sees of the database.
pub(crate) type Db<'a> = &'a Connection;

/// Why an operation did not do what it was asked, before the file's name is known.
#[derive(Debug)]
pub(crate) enum OpFailed {
    Store(StoreFailed),
    Sql(rusqlite::Error),
}

impl From<StoreFailed> for OpFailed {
    fn from(failed: StoreFailed) -> Self {
        Self::Store(failed)
    }
}

impl From<rusqlite::Error> for OpFailed {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

pub(crate) type OpResult<T> = Result<T, OpFailed>;

/// An operation in the queue, with the place for its answer.
trait Operation: Send {
    /// Runs it and keeps the answer. Returns whether its changes are to be kept.
    fn run(&mut self, db: Db<'_>, file: &Arc<str>) -> bool;
    /// Hands out the answer, after the commit; or `failed` instead.
    fn answer(self: Box<Self>, failed: Option<StoreFailed>);
}

struct Typed<T, F> {
    run: Option<F>,
    answer: Option<Result<T, StoreFailed>>,
    slot: Arc<Slot<T>>,
}

impl<T: Send, F: FnOnce(Db<'_>) -> OpResult<T> + Send> Operation for Typed<T, F> {
    fn run(&mut self, db: Db<'_>, file: &Arc<str>) -> bool {
        let answer = match self.run.take().map(|run| run(db)) {
            Some(Ok(value)) => Ok(value),
            Some(Err(OpFailed::Store(failed))) => Err(failed),
            Some(Err(OpFailed::Sql(error))) => Err(database_failed(file, &error)),
            None => Err(StoreFailed::Closed),
        };
        let keep = answer.is_ok();
        self.answer = Some(answer);
        keep
    }

    fn answer(mut self: Box<Self>, failed: Option<StoreFailed>) {
        let answer = match failed {
            Some(failed) => Err(failed),
            None => self.answer.take().unwrap_or(Err(StoreFailed::Closed)),
        };
        self.slot.give(answer);
    }
}

impl<T, F> Drop for Typed<T, F> {
    /// Nobody waits for an operation that is gone.
    fn drop(&mut self) {
        self.slot.give(Err(StoreFailed::Closed));
    }
}

fn database_failed(file: &Arc<str>, error: &rusqlite::Error) -> StoreFailed {
    StoreFailed::Database { file: Arc::clone(file), reason: error.to_string().into() }
}

/// One answer, given once.
struct Slot<T> {
    state: Mutex<SlotState<T>>,
}

struct SlotState<T> {
    given: bool,
    answer: Option<Result<T, StoreFailed>>,
    waker: Option<Waker>,
}

impl<T> Slot<T> {
    fn give(&self, answer: Result<T, StoreFailed>) {
        let waker = {
            let mut state = lock(&self.state);
            if state.given {
                return;
            }
            state.given = true;
            state.answer = Some(answer);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The wait for one operation. Dropping it does not take the operation back.
struct Waiting<T> {
    slot: Arc<Slot<T>>,
}

impl<T> Future for Waiting<T> {
    type Output = Result<T, StoreFailed>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = lock(&self.slot.state);
        match state.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Queue {
    operations: Mutex<(Vec<Box<dyn Operation>>, bool)>,
    ready: Condvar,
}

impl Queue {
    fn push(&self, operation: Box<dyn Operation>) {
        let mut queue = lock(&self.operations);
        // When it is closed the operation is dropped here, which answers it.
        if !queue.1 {
            queue.0.push(operation);
            drop(queue);
            self.ready.notify_one();
        }
    }

    fn close(&self) -> Vec<Box<dyn Operation>> {
        let mut queue = lock(&self.operations);
        queue.1 = true;
        self.ready.notify_all();
        std::mem::take(&mut queue.0)
    }
}

/// A handle to a database. The last one that is dropped finishes what waits and closes the file.
pub(crate) struct Database {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
    _lock: File,
}

impl Database {
    /// Opens the database at `path`, makes or migrates its tables, and marks it as `owner`'s.
    pub(crate) fn open(path: &Path, schema: &Schema, owner: &str) -> Result<Self, OpenStore> {
        let lock_file = claim(path)?;
        let connection = prepare(path, schema, owner)?;
        let queue = Arc::new(Queue::default());
        let worker = Worker { queue: Arc::clone(&queue), connection, file: path.display().to_string().into() };
        let builder = std::thread::Builder::new().name("sigil-store".to_owned()).stack_size(1024 * 1024);
        let thread =
            builder.spawn(move || worker.work()).map_err(|source| OpenStore::File { path: path.to_owned(), source })?;
        Ok(Self { queue, thread: Some(thread), _lock: lock_file })
    }

    /// Queues `run`. It is done whether or not the answer is waited for.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        run: impl FnOnce(Db<'_>) -> OpResult<T> + Send + 'static,
    ) -> crate::Answer<'static, T> {
        let slot = Arc::new(Slot { state: Mutex::new(SlotState { given: false, answer: None, waker: None }) });
        self.queue.push(Box::new(Typed { run: Some(run), answer: None, slot: Arc::clone(&slot) }));
        Box::pin(Waiting { slot })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        lock(&self.queue.operations).1 = true;
        self.queue.ready.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Database")
    }
}

struct Worker {
    queue: Arc<Queue>,
    connection: Connection,
    file: Arc<str>,
}

impl Worker {
    fn work(self) {
        while let Some(mut operations) = self.next() {
            let failed = self.transact(&mut operations).err().map(|error| database_failed(&self.file, &error));
            for operation in operations {
                operation.answer(failed.clone());
            }
            if failed.is_some()
                && !self.connection.is_autocommit()
                && self.connection.execute_batch("ROLLBACK").is_err()
            {
                // A transaction that can be neither kept nor undone: nothing more is accepted.
                return;
            }
        }
    }

    /// All that waits; `None` when the database is closed and nothing waits.
    fn next(&self) -> Option<Vec<Box<dyn Operation>>> {
        let mut queue = lock(&self.queue.operations);
        while queue.0.is_empty() {
            if queue.1 {
                return None;
            }
            queue = self.queue.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        Some(std::mem::take(&mut queue.0))
    }

    fn transact(&self, operations: &mut [Box<dyn Operation>]) -> rusqlite::Result<()> {
        let db = &self.connection;
        db.prepare_cached("BEGIN")?.execute([])?;
        for operation in operations {
            db.prepare_cached("SAVEPOINT op")?.execute([])?;
            if !operation.run(db, &self.file) {
                db.prepare_cached("ROLLBACK TO op")?.execute([])?;
            }
            db.prepare_cached("RELEASE op")?.execute([])?;
        }
        db.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }
}

impl Drop for Worker {
    /// However the thread ended: what waits is dropped, which answers it, and nothing more is taken.
    fn drop(&mut self) {
        drop(self.queue.close());
    }
}

/// Makes folder and file, for their owner only, and claims the file for this process.
fn claim(path: &Path) -> Result<File, OpenStore> {
    let failed = |source| OpenStore::File { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let lock_file = options.open(PathBuf::from(lock_path)).map_err(failed)?;
    if lock_file.try_lock().is_err() {
        return Err(OpenStore::InUse { path: path.to_owned() });
    }
    // For root the mode bits do not bind, but whoever marks a store read-only means it.
    if std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o200 == 0) {
        return Err(OpenStore::ReadOnly { path: path.to_owned() });
    }
    // INVARIANT: closed before the database is opened; closing it later would release SQLite's own locks.
    drop(options.open(path).map_err(failed)?);
    if let Some(folder) = path.parent() {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    }
    Ok(lock_file)
}

fn prepare(path: &Path, schema: &Schema, owner: &str) -> Result<Connection, OpenStore> {
    let failed = |source| OpenStore::Database { path: path.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    (|| {
        connection.busy_timeout(BUSY)?;
        connection.set_prepared_statement_cache_capacity(64);
        connection.pragma_update(None, "journal_mode", "wal")?;
        // FULL syncs the log at every commit; without it a commit is not durable in WAL mode.
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.pragma_update(None, "cell_size_check", true)?;
        // KiB: the system caches the file anyway, and there is one of these for each workspace.
        connection.pragma_update(None, "cache_size", -1024)?;
        connection.pragma_update(None, "secure_delete", true)
    })()
    .map_err(failed)?;
    let application: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(failed)?;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    let known = i64::try_from(schema.migrations.len()).unwrap_or(i64::MAX);
    if found > known || found < 0 || (found > 0 && application != schema.application_id) {
        return Err(OpenStore::Form { path: path.to_owned(), found, known });
    }
    migrate(&connection, schema, found, owner).map_err(failed)?;
    let marked: Option<String> =
        connection.query_row("SELECT owner FROM belongs", [], |row| row.get(0)).optional().map_err(failed)?;
    match marked {
        Some(marked) if marked == owner => Ok(connection),
        other => Err(OpenStore::Stranger {
            path: path.to_owned(),
            found: other.unwrap_or_else(|| "nobody".to_owned()),
            wanted: owner.to_owned(),
        }),
    }
}

/// Brings the tables from form `found` to the newest, one transaction a step.
fn migrate(connection: &Connection, schema: &Schema, found: i64, owner: &str) -> rusqlite::Result<()> {
    for (step, migration) in (1_i64..).zip(schema.migrations).skip(usize::try_from(found).unwrap_or(usize::MAX)) {
        let transaction = connection.unchecked_transaction()?;
        transaction.execute_batch(migration)?;
        if step == 1 {
            transaction.execute_batch("CREATE TABLE belongs (owner TEXT NOT NULL) STRICT;")?;
            transaction.execute("INSERT INTO belongs (owner) VALUES (?)", [owner])?;
            transaction.pragma_update(None, "application_id", schema.application_id)?;
        }
        transaction.pragma_update(None, "user_version", step)?;
        transaction.commit()?;
    }
    Ok(())
}

/// What SQLite's own checks find wrong.
pub(crate) fn integrity(db: Db<'_>) -> OpResult<Vec<String>> {
    let mut wrong = Vec::new();
    let mut check = db.prepare("PRAGMA integrity_check")?;
    let mut rows = check.query([])?;
    while let Some(row) = rows.next()? {
        let line: String = row.get(0)?;
        if line != "ok" {
            wrong.push(line);
        }
    }
    let mut check = db.prepare("PRAGMA foreign_key_check")?;
    let mut rows = check.query([])?;
    while let Some(row) = rows.next()? {
        let (table, id): (String, Option<i64>) = (row.get(0)?, row.get(1)?);
        wrong.push(format!("row {} of `{table}` refers to a row that is not there", id.unwrap_or(0)));
    }
    Ok(wrong)
}
