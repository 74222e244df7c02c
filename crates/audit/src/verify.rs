//! The offline verifier: reads a log as it lies there and says what was done to it.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;
use serde::Serialize;
use sigil_types::Digest;

use crate::checkpoint::{SignedHead, VerifyKey};
use crate::entry::Stored;
use crate::merkle::{Frontier, empty_root, leaf_hash};
use crate::read::{ReadFailed, Reader};

/// Most faults that are listed.
const MAX_FAULTS: usize = 100;

/// What a log is checked against.
#[derive(Clone, Debug, Default)]
pub struct VerifyKeys {
    /// Keys whose signatures count. A head that none of them signed is a fault.
    pub keys: Vec<VerifyKey>,
    /// A head kept elsewhere, such as the witness's last one: it finds a log whose own heads were cut off with its entries.
    pub anchor: Option<SignedHead>,
}

/// What was done to a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// An entry's bytes are not those that were hashed.
    Edited,
    /// Entries are missing in the middle.
    Removed,
    /// Entries stand in each other's places.
    Reordered,
    /// There is an entry that was not appended there.
    Inserted,
    /// Entries that a signed head covers are missing at the end.
    Truncated,
    /// Entries and their hashes were replaced; a signed head or a node of the tree still tells.
    Rewritten,
    /// A head whose signature is missing, wrong, or by an unknown key.
    BadSignature,
    /// A look-up column differs from the entry, which would hide it from queries.
    Misfiled,
    /// The database itself is damaged.
    Unreadable,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The first entry concerned.
    pub seq: u64,
    /// The last entry concerned, as far as is known.
    pub until: u64,
    /// What was done.
    pub kind: FaultKind,
    /// In words.
    pub detail: String,
}

/// What the verifier found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Entries in the file.
    pub entries: u64,
    /// Entries under a head that is correctly signed and matches. Those after it are consistent, but nobody vouches for
    /// them yet.
    pub signed: u64,
    /// Heads checked.
    pub heads: u64,
    /// Merkle root over all entries.
    pub root: Digest,
    /// What is wrong, by first entry; at most 100.
    pub faults: Vec<Fault>,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    /// The first entry that something is wrong with.
    #[must_use]
    pub fn first_bad(&self) -> Option<u64> {
        self.faults.iter().map(|fault| fault.seq).min()
    }
}

/// Checks the log at `path`, live or at rest, from its bytes alone.
///
/// # Errors
/// When there is no log of this form to check. Damage inside one is in the report.
pub fn verify(path: &Path, keys: &VerifyKeys) -> Result<Report, ReadFailed> {
    let reader = Reader::open(path)?;
    let connection = reader.connection();
    // One snapshot, so that a live log does not grow past the heads that were read first.
    connection.execute_batch("BEGIN")?;
    let mut check = Check::default();
    let heads = check.read_heads(connection, keys);
    check.walk(connection, &heads);
    check.finish(&heads);
    let Check { mut faults, frontier, entries, signed, .. } = check;
    faults.sort_by_key(|fault| fault.seq);
    faults.truncate(MAX_FAULTS);
    let root = if entries == 0 { empty_root() } else { frontier.root() };
    Ok(Report { entries, signed, heads: heads.len() as u64, root, faults })
}

/// Heads by size, each with whether a known key signed it. More than one can have the same size: the anchor.
type Heads = BTreeMap<u64, Vec<(SignedHead, bool)>>;

#[derive(Default)]
struct Check {
    faults: Vec<Fault>,
    frontier: Frontier,
    /// Rows read.
    entries: u64,
    /// Entries under the newest head that holds.
    signed: u64,
    /// The place that the next row should have.
    expected: u64,
    /// Once rows are missing or out of place, the tree cannot be compared any more.
    tree_lost: bool,
    node_fault: bool,
}

struct Row {
    seq: i64,
    body: Vec<u8>,
    nodes: Vec<u8>,
    columns: [Option<String>; 4],
}

impl Check {
    fn fault(&mut self, seq: u64, until: u64, kind: FaultKind, detail: impl Into<String>) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(Fault { seq, until, kind, detail: detail.into() });
        }
    }

    fn read_heads(&mut self, connection: &Connection, keys: &VerifyKeys) -> Heads {
        let mut heads = Heads::new();
        let mut add = |check: &mut Self, size: u64, note: Result<SignedHead, String>| match note {
            Ok(head) if head.size() == size => {
                let known = keys.keys.iter().any(|key| head.signed_by(key));
                if !known {
                    let detail = format!("no known key signed the head over {size} entries");
                    check.fault(size.saturating_sub(1), size, FaultKind::BadSignature, detail);
                }
                heads.entry(size).or_default().push((head, known));
            }
            Ok(_) => {
                let detail = format!("the head filed under {size} entries is over another number");
                check.fault(size.saturating_sub(1), size, FaultKind::BadSignature, detail);
            }
            Err(why) => check.fault(size.saturating_sub(1), size, FaultKind::BadSignature, why),
        };
        let read = (|| -> rusqlite::Result<()> {
            let mut statement = connection.prepare("SELECT size, note FROM head ORDER BY size")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let size = u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0);
                let note = String::from_utf8_lossy(row.get_ref(1)?.as_bytes().unwrap_or_default()).into_owned();
                add(self, size, note.parse::<SignedHead>().map_err(|error| error.to_string()));
            }
            Ok(())
        })();
        if let Some(anchor) = &keys.anchor {
            add(self, anchor.size(), Ok(anchor.clone()));
        }
        if let Err(error) = read {
            self.fault(0, 0, FaultKind::Unreadable, format!("the signed heads cannot be read: {error}"));
        }
        heads
    }

    /// Reads all rows in order.
    fn walk(&mut self, connection: &Connection, heads: &Heads) {
        self.compare_heads(heads, 0);
        let walked = (|| -> rusqlite::Result<()> {
            let mut statement =
                connection.prepare("SELECT seq, body, nodes, id, kind, turn, session FROM entry ORDER BY seq")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let bytes = |at| row.get_ref(at).map(|column| column.as_bytes().unwrap_or_default().to_vec());
                let text = |at| {
                    row.get_ref(at).map(|column| {
                        column.as_bytes_or_null().ok().flatten().map(|text| String::from_utf8_lossy(text).into_owned())
                    })
                };
                let columns = [text(3)?, text(4)?, text(5)?, text(6)?];
                let row = Row { seq: row.get(0)?, body: bytes(1)?, nodes: bytes(2)?, columns };
                self.row(connection, &row);
                self.compare_heads(heads, self.expected);
            }
            Ok(())
        })();
        if let Err(error) = walked {
            let at = self.expected;
            self.tree_lost = true;
            self.fault(at, at, FaultKind::Unreadable, format!("the database is damaged after entry {at}: {error}"));
        }
    }

    fn row(&mut self, connection: &Connection, row: &Row) {
        self.entries += 1;
        let Ok(seq) = u64::try_from(row.seq) else {
            self.fault(0, 0, FaultKind::Inserted, format!("there is an entry at {}", row.seq));
            return;
        };
        if seq > self.expected {
            let (from, until) = (self.expected, seq - 1);
            self.fault(from, until, FaultKind::Removed, format!("entries {from} to {until} are missing"));
            self.tree_lost = true;
        }
        self.expected = seq + 1;
        let leaf = leaf_hash(&row.body);
        let filed: Vec<Digest> = row
            .nodes
            .chunks_exact(32)
            .filter_map(|hash| <[u8; 32]>::try_from(hash).ok().map(Digest::from_bytes))
            .collect();
        let filed_leaf = filed.first().copied().unwrap_or(leaf);
        match Stored::parse(&row.body) {
            Ok(stored) if stored.seq == seq => {
                if leaf != filed_leaf {
                    self.fault(seq, seq, FaultKind::Edited, format!("entry {seq} is not what was hashed"));
                } else if columns(&stored) != row.columns {
                    self.fault(seq, seq, FaultKind::Misfiled, format!("entry {seq} is filed under other names"));
                }
            }
            Ok(stored) => self.displaced(connection, seq, stored.seq, leaf == filed_leaf, leaf),
            Err(error) => {
                self.fault(seq, seq, FaultKind::Edited, format!("entry {seq} is no entry any more: {error}"));
            }
        }
        // Going on with the hash as filed: a single edited entry does not hide what comes after it.
        let completed = self.frontier.push(filed_leaf);
        if !self.tree_lost && !self.node_fault && completed != filed {
            self.node_fault = true;
            let wrong = completed.iter().zip(&filed).position(|(a, b)| a != b).unwrap_or(filed.len());
            let width = 1_u64.checked_shl(u32::try_from(wrong).unwrap_or(63)).unwrap_or(u64::MAX);
            let from = (seq + 1).saturating_sub(width);
            let detail = format!("the tree over entries {from} to {seq} does not match their hashes");
            self.fault(from, seq, FaultKind::Rewritten, detail);
        }
    }

    /// An entry that says it belongs elsewhere: told apart by what else there is.
    fn displaced(&mut self, connection: &Connection, seq: u64, says: u64, hash_fits: bool, leaf: Digest) {
        let at_home = crate::schema::node(connection, 0, says).is_ok_and(|home| home == leaf);
        if !hash_fits && !at_home {
            self.fault(seq, seq, FaultKind::Edited, format!("entry {seq} is not what was hashed"));
            return;
        }
        if !self.tree_lost {
            self.tree_lost = true;
            let (twice, absent) = census(connection);
            match (twice, absent) {
                (Some(twice), None) => {
                    let detail = format!("there are two entries that say they are number {twice}");
                    self.fault(twice, seq, FaultKind::Inserted, detail);
                }
                (None, Some(absent)) => {
                    let detail = format!("entry {absent} is missing, and those after it were renumbered");
                    self.fault(absent, absent, FaultKind::Removed, detail);
                }
                (Some(_), Some(_)) => {
                    let detail = format!("entry {seq} was replaced by a copy of entry {says}");
                    self.fault(seq, seq, FaultKind::Edited, detail);
                    return;
                }
                (None, None) => {}
            }
            if twice.is_some() || absent.is_some() {
                return;
            }
        } else if self.faults.iter().any(|fault| matches!(fault.kind, FaultKind::Inserted | FaultKind::Removed)) {
            // All that follows is displaced by the same amount: said once.
            return;
        }
        self.fault(seq, seq, FaultKind::Reordered, format!("entry {says} stands at {seq}"));
    }

    fn compare_heads(&mut self, heads: &Heads, size: u64) {
        for (head, known) in heads.get(&size).into_iter().flatten() {
            if self.tree_lost {
                continue;
            }
            if *head.root() == self.frontier.root() {
                if *known {
                    self.signed = self.signed.max(size);
                }
            } else {
                let (from, until) = (self.signed, size.saturating_sub(1));
                let detail = format!("entries {from} to {until} are not those of the head over {size} entries");
                self.fault(from, until, FaultKind::Rewritten, detail);
            }
        }
    }

    fn finish(&mut self, heads: &Heads) {
        let have = self.expected;
        if let Some((size, _)) = heads.last_key_value()
            && *size > have
        {
            let detail = format!("a head over {size} entries was made, but the log ends after {have}");
            self.fault(have, size - 1, FaultKind::Truncated, detail);
        }
    }
}

/// The look-up columns as the entry itself says them.
fn columns(stored: &Stored) -> [Option<String>; 4] {
    let turn = stored.turn.as_ref().map(ToString::to_string);
    let session = stored.session.as_ref().map(ToString::to_string);
    [Some(stored.id.to_string()), Some(stored.kind.to_string()), turn, session]
}

/// The first number that two entries claim, and the first that none does.
fn census(connection: &Connection) -> (Option<u64>, Option<u64>) {
    let mut claims: BTreeMap<u64, u64> = BTreeMap::new();
    let counted = (|| -> rusqlite::Result<()> {
        let mut statement = connection.prepare("SELECT body FROM entry")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if let Ok(stored) = Stored::parse(row.get_ref(0)?.as_bytes().unwrap_or_default()) {
                *claims.entry(stored.seq).or_default() += 1;
            }
        }
        Ok(())
    })();
    if counted.is_err() {
        return (None, None);
    }
    let twice = claims.iter().find(|(_, count)| **count > 1).map(|(seq, _)| *seq);
    let absent = claims.keys().zip(0..).find(|(seq, at)| **seq != *at).map(|(_, at)| at);
    (twice, absent)
}
