//! Reading the log: queries, single entries, and inclusion proofs.

use std::path::Path;

use rusqlite::types::Value as Column;
use rusqlite::{Connection, OptionalExtension as _, params_from_iter};
use sigil_types::{Code, Digest, EventId, SessionId, Timestamp, TurnId};

use crate::checkpoint::SignedHead;
use crate::entry::Stored;
use crate::merkle;
use crate::schema;

/// Most entries that one query answers.
pub const MAX_LIMIT: usize = 10_000;

/// Which entries to read. The default is the newest hundred.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Only kinds that are this or begin with this and a dot: `gate` and `gate.clear` both match `gate.clear.refused`.
    pub kind: Option<String>,
    /// Only of this turn.
    pub turn: Option<TurnId>,
    /// Only of this session.
    pub session: Option<SessionId>,
    /// Only entries with this sequence number or a later one.
    pub since: u64,
    /// Only entries before this sequence number: the way to the next page.
    pub before: Option<u64>,
    /// At most this many, and at most [`MAX_LIMIT`].
    pub limit: usize,
    /// Oldest first instead of newest first: the order to follow a growing log in.
    pub oldest_first: bool,
}

impl Default for Filter {
    fn default() -> Self {
        Self { kind: None, turn: None, session: None, since: 0, before: None, limit: 100, oldest_first: false }
    }
}

/// Why the log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadFailed {
    /// The database cannot be opened or read.
    #[error("the audit log cannot be read: {0}")]
    Database(#[from] rusqlite::Error),
    /// Not an audit log, or one of a later Sigil.
    #[error("not an audit log of this version: its form is {found}, expected {}", schema::SCHEMA_VERSION)]
    Form {
        /// The form found.
        found: i64,
    },
    /// An entry is not readable.
    #[error("entry {seq} of the audit log is damaged; run `sigil audit verify`")]
    Entry {
        /// Which.
        seq: u64,
    },
    /// No such entry.
    #[error("the audit log has {size} entries, none at {seq}")]
    Absent {
        /// The place asked for.
        seq: u64,
        /// Entries there are.
        size: u64,
    },
}

impl ReadFailed {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Database(_) => Code::new("audit.log.read.failed"),
            Self::Form { .. } => Code::new("audit.log.read.form"),
            Self::Entry { .. } => Code::new("audit.entry.read.damaged"),
            Self::Absent { .. } => Code::new("audit.entry.read.absent"),
        }
    }
}

/// Proof that one entry is under a root (RFC 6962, 2.1.1).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InclusionProof {
    /// The entry's place.
    pub seq: u64,
    /// The tree's size.
    pub size: u64,
    /// The entry's leaf hash.
    pub leaf: Digest,
    /// Siblings from the leaf upwards.
    pub path: Vec<Digest>,
    /// The tree's root.
    pub root: Digest,
}

impl InclusionProof {
    /// Whether the proof holds. Whoever checks it takes `root` from a signed head.
    #[must_use]
    pub fn holds(&self) -> bool {
        merkle::verify_inclusion(&self.leaf, self.seq, self.size, &self.path, &self.root)
    }
}

/// A reader of a log, live or at rest, which never changes it.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
}

impl Reader {
    /// Opens the log at `path` for reading.
    ///
    /// # Errors
    /// When there is no readable log of this form.
    pub fn open(path: &Path) -> Result<Self, ReadFailed> {
        let connection = schema::open_reader(path)?;
        let found = schema::schema_version(&connection)?;
        if found != schema::SCHEMA_VERSION {
            return Err(ReadFailed::Form { found });
        }
        Ok(Self { connection })
    }

    /// Number of entries.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn size(&self) -> Result<u64, ReadFailed> {
        let last: Option<i64> = self.connection.query_row("SELECT max(seq) FROM entry", [], |row| row.get(0))?;
        Ok(last.and_then(|last| u64::try_from(last).ok()).map_or(0, |last| last + 1))
    }

    /// The entries that `filter` asks for, newest first unless it says otherwise.
    ///
    /// # Errors
    /// When the database cannot be read or an entry is damaged.
    pub fn query(&self, filter: &Filter) -> Result<Vec<Stored>, ReadFailed> {
        let mut sql = String::from("SELECT seq, body FROM entry WHERE seq >= ?");
        let mut values = vec![Column::Integer(schema::column(filter.since)?)];
        if let Some(before) = filter.before {
            sql.push_str(" AND seq < ?");
            values.push(Column::Integer(i64::try_from(before).unwrap_or(i64::MAX)));
        }
        if let Some(kind) = &filter.kind {
            // `/` follows `.` in ASCII, so the range holds exactly what begins with `kind.`.
            sql.push_str(" AND (kind = ? OR (kind > ? AND kind < ?))");
            values.extend([kind.clone(), format!("{kind}."), format!("{kind}/")].map(Column::Text));
        }
        if let Some(turn) = &filter.turn {
            sql.push_str(" AND turn = ?");
            values.push(Column::Text(turn.to_string()));
        }
        if let Some(session) = &filter.session {
            sql.push_str(" AND session = ?");
            values.push(Column::Text(session.to_string()));
        }
        sql.push_str(if filter.oldest_first { " ORDER BY seq LIMIT ?" } else { " ORDER BY seq DESC LIMIT ?" });
        let limit = filter.limit.min(MAX_LIMIT);
        values.push(Column::Integer(i64::try_from(limit).unwrap_or(i64::MAX)));
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(values))?;
        let mut entries = Vec::new();
        while let Some(row) = rows.next()? {
            entries.push(parse(row)?);
        }
        Ok(entries)
    }

    /// The entry named `id`.
    ///
    /// # Errors
    /// When the database cannot be read or the entry is damaged.
    pub fn find(&self, id: EventId) -> Result<Option<Stored>, ReadFailed> {
        let mut statement = self.connection.prepare_cached("SELECT seq, body FROM entry WHERE id = ?")?;
        let mut rows = statement.query([id.to_string()])?;
        rows.next()?.map(parse).transpose()
    }

    /// The newest signed head that is stored.
    ///
    /// # Errors
    /// When the database cannot be read or the stored text is not a head.
    pub fn head(&self) -> Result<Option<SignedHead>, ReadFailed> {
        let newest = "SELECT size, note FROM head ORDER BY size DESC LIMIT 1";
        let row = self.connection.query_row(newest, [], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let Some((size, note)): Option<(i64, String)> = row else { return Ok(None) };
        note.parse().map(Some).map_err(|_| ReadFailed::Entry { seq: u64::try_from(size).unwrap_or(0) })
    }

    /// The Merkle root over the first `size` entries.
    ///
    /// # Errors
    /// When the log is shorter or cannot be read.
    pub fn root(&self, size: u64) -> Result<Digest, ReadFailed> {
        Ok(merkle::Frontier::load(size, |level, index| schema::node(&self.connection, level, index))?.root())
    }

    /// The proof that the tree of `new` entries extends the one of `old`.
    ///
    /// # Errors
    /// When the log is shorter or cannot be read.
    pub fn consistency(&self, old: u64, new: u64) -> Result<Vec<Digest>, ReadFailed> {
        Ok(merkle::consistency_proof(old, new, |level, index| schema::node(&self.connection, level, index))?)
    }

    /// The proof that entry `seq` is in the tree of `size` entries.
    ///
    /// # Errors
    /// When there is no such entry or the log cannot be read.
    pub fn prove(&self, seq: u64, size: u64) -> Result<InclusionProof, ReadFailed> {
        let have = self.size()?;
        if seq >= size || size > have {
            return Err(ReadFailed::Absent { seq, size: have.min(size) });
        }
        let node = |level, index| schema::node(&self.connection, level, index);
        let path = merkle::inclusion_proof(seq, size, node)?;
        Ok(InclusionProof { seq, size, leaf: node(0, seq)?, path, root: self.root(size)? })
    }

    /// The moment of the newest entry; the epoch when there is none. Time is never earlier than this.
    ///
    /// # Errors
    /// When the database cannot be read or the entry is damaged.
    pub fn latest(&self) -> Result<Timestamp, ReadFailed> {
        let newest = self.query(&Filter { limit: 1, ..Filter::default() })?;
        Ok(newest.first().map_or(Timestamp::from_millis(0), |entry| entry.at))
    }

    pub(crate) const fn connection(&self) -> &Connection {
        &self.connection
    }
}

fn parse(row: &rusqlite::Row<'_>) -> Result<Stored, ReadFailed> {
    let seq = u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0);
    let body = row.get_ref(1)?.as_bytes().map_err(|_| ReadFailed::Entry { seq })?;
    Stored::parse(body).map_err(|_| ReadFailed::Entry { seq })
}
