//! The database: two tables, and the pragmas that make a commit durable.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use sigil_types::Digest;

/// Marks the file as ours ("SGAU") for `file` and for us.
const APPLICATION_ID: i32 = 0x5347_4155;
/// The form of the tables. A log of another form is refused, never changed.
pub(crate) const SCHEMA_VERSION: i64 = 1;
/// How long a lock held by somebody else (a backup, a shell) is waited for before the log counts as failed.
const BUSY: Duration = Duration::from_secs(2);

// `body` is the canonical JSON that is hashed. `nodes` holds the Merkle nodes that the entry completes, 32 bytes each, the
// leaf first (see `merkle::Frontier::push`). The other columns repeat parts of `body` for look-ups; `verify` compares them.
const TABLES: &str = "
    CREATE TABLE entry (
        seq INTEGER PRIMARY KEY, body TEXT NOT NULL, nodes BLOB NOT NULL,
        id TEXT NOT NULL, kind TEXT NOT NULL, turn TEXT, session TEXT
    ) STRICT;
    CREATE UNIQUE INDEX entry_id ON entry (id);
    CREATE INDEX entry_kind ON entry (kind, seq);
    CREATE INDEX entry_turn ON entry (turn, seq) WHERE turn IS NOT NULL;
    CREATE INDEX entry_session ON entry (session, seq) WHERE session IS NOT NULL;
    CREATE TABLE head (size INTEGER PRIMARY KEY, note TEXT NOT NULL) STRICT;
";

/// Opens the database for its one writer, and makes the tables when the file is new.
pub(crate) fn open_writer(path: &Path, max_pages: Option<u32>) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // FULL syncs the log at every commit; without it a commit is not durable in WAL mode.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    // Checkpoints are made when the writer is idle, not inside somebody's commit.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    if let Some(pages) = max_pages {
        connection.pragma_update(None, "max_page_count", pages)?;
    }
    let version = schema_version(&connection)?;
    if version == 0 {
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        ))?;
    }
    Ok(connection)
}

/// Opens the database for reading. Works on a live log, on a read-only file and on a copy.
pub(crate) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    match schema_version(&connection) {
        Ok(_) => {}
        // A log in a folder that cannot be written has no place for the shared memory of WAL mode; without a WAL file
        // beside it nothing can change, and it is read as it lies there.
        Err(error) if !wal_beside(path) => {
            let Some(uri) = immutable_uri(path) else { return Err(error) };
            let connection = Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)?;
            schema_version(&connection)?;
            connection.pragma_update(None, "trusted_schema", false)?;
            return Ok(connection);
        }
        Err(error) => return Err(error),
    }
    connection.pragma_update(None, "trusted_schema", false)?;
    // KiB: a reader's pages are mostly the system's cache anyway, and an idle gateway should be small.
    connection.pragma_update(None, "cache_size", -256)?;
    Ok(connection)
}

fn wal_beside(path: &Path) -> bool {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    std::fs::metadata(wal).is_ok_and(|wal| wal.len() > 0)
}

fn immutable_uri(path: &Path) -> Option<String> {
    let mut uri = String::from("file:");
    for byte in path.to_str()?.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => uri.push(char::from(byte)),
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    Some(uri)
}

pub(crate) fn schema_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// The node at `level` with `index`, which lies beside the entry that completed it.
pub(crate) fn node(connection: &Connection, level: u32, index: u64) -> rusqlite::Result<Digest> {
    let seq = ((index + 1) << level) - 1;
    let nodes: Vec<u8> = connection
        .prepare_cached("SELECT nodes FROM entry WHERE seq = ?1")?
        .query_row([column(seq)?], |row| row.get(0))?;
    let hash = nodes.chunks_exact(32).nth(level as usize).and_then(|hash| <[u8; 32]>::try_from(hash).ok());
    hash.map(Digest::from_bytes).ok_or(rusqlite::Error::QueryReturnedNoRows)
}

/// A sequence number as SQLite holds it.
pub(crate) fn column(seq: u64) -> rusqlite::Result<i64> {
    i64::try_from(seq).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, i64::MAX))
}
