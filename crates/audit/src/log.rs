//! [`AuditLog`]: the handle that everybody appends through.

use std::fs::{File, OpenOptions};
use std::future::Future;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use sigil_types::{Clock, Code, EventId, Timestamp};

use crate::checkpoint::SignedHead;
use crate::entry::{Draft, Entry, MAX_ENTRY_BYTES, Stored};
use crate::merkle::Frontier;
use crate::pending::{AppendFailed, Pending, Slot};
use crate::read::{Filter, InclusionProof, ReadFailed, Reader};
use crate::refusal::Admitted;
use crate::schema;
use crate::shared::{Job, Shared, lock};
use crate::witness::{HeadSigner, HeadToSign, SignRefused};
use crate::writer::{Writer, push_all};

/// The append-only log. Cheap to clone; the last clone that is dropped signs a head and closes the file.
///
/// [`AuditLog::append`] gives an entry's id at once and never waits for the disk; the [`Pending`] it returns resolves when
/// the entry is durable. Once a write has failed, everything fails until the log is opened anew: what cannot be recorded
/// must not happen.
#[derive(Clone)]
pub struct AuditLog {
    inner: Arc<Inner>,
}

/// How a log behaves. The default is what the gateway uses.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A head is signed after this many entries at the latest.
    pub head_every: u64,
    /// A head is signed when nothing was appended for this long.
    pub idle: Duration,
    /// At most this many entries wait for the disk; further ones are refused.
    pub max_waiting: usize,
    /// Largest size of the file in pages of 4096 bytes; an entry beyond fails, and the log with it.
    pub max_pages: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self { head_every: 1024, idle: Duration::from_millis(500), max_waiting: 65_536, max_pages: None }
    }
}

/// Why a log could not be opened. Without one Sigil does not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenLog {
    /// The file cannot be made or opened.
    #[error("the audit log {path} cannot be opened: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is marked read-only.
    #[error("the audit log {path} is read-only: make it writable for its owner (chmod u+w), or move it away")]
    ReadOnly {
        /// Which file.
        path: PathBuf,
    },
    /// Somebody else writes to it.
    #[error("the audit log {path} is in use by another process: one Sigil at a time")]
    InUse {
        /// Which file.
        path: PathBuf,
    },
    /// The database refused.
    #[error("the audit log cannot be opened: {0}")]
    Database(#[from] rusqlite::Error),
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadFailed),
    /// Entries that were signed are gone, or changed.
    #[error(
        "the audit log does not match its own signed head over {signed} entries: keep the file and run `sigil audit verify`"
    )]
    Damaged {
        /// Entries of the head.
        signed: u64,
    },
    /// The witness did not sign the log as it is.
    #[error(transparent)]
    Head(#[from] HeadFailed),
    /// A thread could not be started.
    #[error("no thread could be started for the audit log: {0}")]
    Thread(std::io::Error),
}

impl OpenLog {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::File { .. } => Code::new("audit.log.open.file"),
            Self::ReadOnly { .. } => Code::new("audit.log.open.readonly"),
            Self::InUse { .. } => Code::new("audit.log.open.inuse"),
            Self::Database(_) => Code::new("audit.log.open.database"),
            Self::Read(read) => read.code(),
            Self::Damaged { .. } => Code::new("audit.log.open.damaged"),
            Self::Head(head) => head.code(),
            Self::Thread(_) => Code::new("audit.log.open.thread"),
        }
    }
}

/// Why there is no new signed head.
#[derive(Debug, thiserror::Error)]
pub enum HeadFailed {
    /// The signer refused or is gone.
    #[error(transparent)]
    Refused(#[from] SignRefused),
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadFailed),
    /// The head cannot be stored.
    #[error(transparent)]
    Store(#[from] AppendFailed),
    /// The signer answered with something else than the head it was asked for.
    #[error("the signer of heads answered with a head that is not the one asked for, or whose signature is wrong")]
    Answer,
}

impl HeadFailed {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Refused(refused) => refused.code(),
            Self::Read(read) => read.code(),
            Self::Store(append) => append.code(),
            Self::Answer => Code::new("audit.head.signer.answer"),
        }
    }
}

/// Who asks for heads: one at a time, each extending the last.
struct Signing {
    reader: Reader,
    signer: Arc<dyn HeadSigner>,
    /// Entries of the last signed head.
    previous: u64,
}

impl Signing {
    /// Has the first `size` entries signed.
    fn sign(&self, size: u64) -> Result<SignedHead, HeadFailed> {
        let root = self.reader.root(size)?;
        let ask = |previous| -> Result<_, HeadFailed> {
            let proof = self.reader.consistency(previous, size)?;
            Ok(self.signer.sign(&HeadToSign { size, root, previous, proof }))
        };
        let signed = match ask(self.previous)? {
            // The witness is ahead: it signed a head that we did not come to store. Or behind: it is another one now.
            Err(SignRefused::OtherStart { witnessed, .. }) if witnessed <= size => ask(witnessed)??,
            other => other?,
        };
        let as_asked = signed.size() == size && *signed.root() == root && signed.signed_by(&self.signer.key());
        if as_asked { Ok(signed) } else { Err(HeadFailed::Answer) }
    }
}

struct Inner {
    shared: Arc<Shared>,
    signing: Arc<Mutex<Signing>>,
    reader: Mutex<Reader>,
    threads: Vec<JoinHandle<()>>,
    /// Held for as long as the log is open, so that there is one writer.
    _lock: File,
}

impl AuditLog {
    /// Opens the log at `path`, making it when it is not there, and has its present state signed.
    ///
    /// # Errors
    /// When the file cannot be written, is used by another process, does not match its last signed head, or `signer` does
    /// not sign it: a log that was shortened or replaced is refused here.
    pub fn open(path: &Path, signer: Arc<dyn HeadSigner>, clock: Arc<dyn Clock>) -> Result<Self, OpenLog> {
        Self::open_with(path, signer, clock, Options::default())
    }

    /// Opens the log as [`AuditLog::open`] does, with other options.
    ///
    /// # Errors
    /// As there.
    pub fn open_with(
        path: &Path,
        signer: Arc<dyn HeadSigner>,
        clock: Arc<dyn Clock>,
        options: Options,
    ) -> Result<Self, OpenLog> {
        let lock_file = claim(path)?;
        let connection = schema::open_writer(path, options.max_pages)?;
        let reader = Reader::open(path)?;
        let size = reader.size()?;
        let stored = reader.head()?;
        let previous = stored.as_ref().map_or(0, SignedHead::size);
        if let Some(head) = &stored
            && (head.size() > size || reader.root(head.size())? != *head.root())
        {
            return Err(OpenLog::Damaged { signed: head.size() });
        }
        let mut signing = Signing { reader: Reader::open(path)?, signer, previous };
        let head = signing.sign(size)?;
        signing.previous = size;
        connection.execute(
            "INSERT OR REPLACE INTO head (size, note) VALUES (?, ?)",
            (schema::column(size).map_err(ReadFailed::from)?, head.note()),
        )?;
        let frontier = Frontier::load(size, |level, index| schema::node(&connection, level, index))?;
        let shared = Arc::new(Shared::new(clock, options.max_waiting, head, reader.latest()?));
        let signing = Arc::new(Mutex::new(signing));
        let writer = Writer {
            shared: Arc::clone(&shared),
            connection,
            frontier,
            head_every: options.head_every.max(1),
            idle: options.idle,
            since_checkpoint: 0,
            taken: Vec::new(),
        };
        let mut inner = Inner { shared, signing, reader: Mutex::new(reader), threads: Vec::new(), _lock: lock_file };
        inner.start("sigil-audit", move || writer.run())?;
        let (shared, signing) = (Arc::clone(&inner.shared), Arc::clone(&inner.signing));
        inner.start("sigil-heads", move || sign_when_rung(&shared, &signing))?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Appends `entry`. Returns at once; the entry is durable when the [`Pending`] resolves.
    pub fn append(&self, entry: Entry) -> Pending {
        let now = self.inner.shared.now();
        let id = EventId::generate(now);
        self.push(Draft::new(id, now, entry))
    }

    /// Records a refusal of something that `source` (a peer, a plugin instance, an address) asked for.
    ///
    /// A source that is refused often gets one entry for many: all those share one id. Such an entry is written seconds
    /// later, so nobody should wait for it; a refusal needs no record before it takes effect.
    pub fn refusal(&self, source: &str, entry: Entry) -> Pending {
        let shared = &self.inner.shared;
        let now = shared.now();
        if let Some(failed) = shared.failure() {
            return Pending::failed(EventId::generate(now), failed.clone());
        }
        let admitted = lock(&shared.refusals).admit(source, entry, now);
        match admitted {
            Admitted::Own(entry) => self.push(Draft::new(EventId::generate(now), now, entry)),
            Admitted::Counted(id, slot) => {
                // The writer looks at what is held back every second; it may be asleep.
                shared.ready.notify_one();
                Pending::new(id, slot)
            }
        }
    }

    fn push(&self, draft: Draft) -> Pending {
        let (id, bytes) = (draft.id, draft.len());
        if bytes > MAX_ENTRY_BYTES {
            return Pending::failed(id, AppendFailed::TooLarge { bytes });
        }
        let slot = Arc::new(Slot::default());
        self.inner.shared.push(Job::Append(draft, Arc::clone(&slot)));
        Pending::new(id, slot)
    }

    /// The durable entries that `filter` asks for. Reads the database: brief, but blocking.
    ///
    /// # Errors
    /// When the database cannot be read or an entry is damaged.
    pub fn query(&self, filter: &Filter) -> Result<Vec<Stored>, ReadFailed> {
        lock(&self.inner.reader).query(filter)
    }

    /// The durable entry named `id`.
    ///
    /// # Errors
    /// When the database cannot be read or the entry is damaged.
    pub fn find(&self, id: EventId) -> Result<Option<Stored>, ReadFailed> {
        lock(&self.inner.reader).find(id)
    }

    /// The proof that entry `seq` is under the newest signed head.
    ///
    /// # Errors
    /// When that head does not cover it, or the log cannot be read.
    pub fn prove(&self, seq: u64) -> Result<InclusionProof, ReadFailed> {
        let size = self.head().size();
        lock(&self.inner.reader).prove(seq, size)
    }

    /// Number of durable entries.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.inner.shared.size()
    }

    /// The newest signed head. There is always one: opening signs.
    #[must_use]
    pub fn head(&self) -> SignedHead {
        lock(&self.inner.shared.head).clone()
    }

    /// Has all durable entries signed now. Blocks for the signer and the disk.
    ///
    /// # Errors
    /// When the signer refuses (the log has then failed) or cannot be reached, or the head cannot be stored.
    pub fn sign_head(&self) -> Result<SignedHead, HeadFailed> {
        sign_now(&self.inner.shared, &self.inner.signing)
    }

    /// The present moment, never earlier than any entry's, nor than those before a restart.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.inner.shared.now()
    }

    /// Why the log has failed, if it has.
    #[must_use]
    pub fn failure(&self) -> Option<AppendFailed> {
        self.inner.shared.failure().cloned()
    }

    /// Resolves when the log has more than `beyond` entries, or has failed: what a follower waits for between queries.
    pub fn grown(&self, beyond: u64) -> Grown {
        Grown { shared: Arc::clone(&self.inner.shared), beyond }
    }
}

impl std::fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AuditLog({} entries)", self.size())
    }
}

/// A wait for the log to grow.
#[must_use = "a future does nothing unless it is awaited"]
pub struct Grown {
    shared: Arc<Shared>,
    beyond: u64,
}

impl Future for Grown {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.shared.watch(self.beyond, context.waker()) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl std::fmt::Debug for Grown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Grown(beyond {})", self.beyond)
    }
}

impl Inner {
    fn start(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), OpenLog> {
        let builder = std::thread::Builder::new().name(name.to_owned()).stack_size(512 * 1024);
        self.threads.push(builder.spawn(run).map_err(OpenLog::Thread)?);
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let now = self.shared.now();
        let held = lock(&self.shared.refusals).take_due(now, true);
        push_all(&self.shared, held);
        // A head over everything, if it can be had; without it the entries are there all the same.
        if self.threads.len() == 2 && self.shared.failure().is_none() {
            flush(&self.shared);
            let _ = sign_now(&self.shared, &self.signing);
        }
        lock(&self.shared.queue).closed = true;
        self.shared.ready.notify_all();
        lock(&self.shared.bell).closed = true;
        self.shared.ringing.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Waits until all that is queued now is durable or refused: the present head is stored again behind it.
fn flush(shared: &Shared) {
    let (done, stored) = sync_channel(1);
    let head = lock(&shared.head).clone();
    shared.push(Job::Head(head, done));
    let _ = stored.recv();
}

/// Has all durable entries signed, unless they are.
fn sign_now(shared: &Shared, signing: &Mutex<Signing>) -> Result<SignedHead, HeadFailed> {
    let mut signing = lock(signing);
    let size = shared.size();
    if size == signing.previous {
        return Ok(lock(&shared.head).clone());
    }
    let head = signing.sign(size).inspect_err(|failed| {
        if let HeadFailed::Refused(refused) = failed
            && refused.means_damage()
        {
            shared.fail(AppendFailed::Damaged { reason: refused.to_string().into() });
        }
    })?;
    let (done, stored) = sync_channel(1);
    shared.push(Job::Head(head.clone(), done));
    stored.recv().unwrap_or(Err(AppendFailed::Closed))?;
    signing.previous = size;
    lock(&shared.head).clone_from(&head);
    Ok(head)
}

/// The head signer's thread: apart from the writer, so that a slow signer delays no entry.
fn sign_when_rung(shared: &Shared, signing: &Mutex<Signing>) {
    loop {
        {
            let mut bell = lock(&shared.bell);
            while !bell.rung && !bell.closed {
                bell = shared.ringing.wait(bell).unwrap_or_else(std::sync::PoisonError::into_inner);
            }
            if bell.closed {
                return;
            }
            bell.rung = false;
        }
        // A signer that cannot be reached is asked again at the next ring; damage has failed the log.
        let _ = sign_now(shared, signing);
    }
}

/// Makes the file when it is not there, readable for its owner only, and claims it for this process.
fn claim(path: &Path) -> Result<File, OpenLog> {
    let failed = |source| OpenLog::File { path: path.to_owned(), source };
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let options =
        |read: bool| OpenOptions::new().read(read).write(true).create(true).truncate(false).mode(0o600).to_owned();
    let lock_file = options(false).open(lock_path).map_err(failed)?;
    if lock_file.try_lock().is_err() {
        return Err(OpenLog::InUse { path: path.to_owned() });
    }
    // For root the mode bits do not bind, but whoever marks a log read-only means it.
    let read_only = std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o200 == 0);
    if read_only {
        return Err(OpenLog::ReadOnly { path: path.to_owned() });
    }
    // INVARIANT: dropped before the database is opened; closing it later would release SQLite's own locks.
    options(true).open(path).map_err(failed)?.sync_all().map_err(failed)?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    }
    Ok(lock_file)
}
