//! What the verifier finds, each on a real database that is damaged by SQL or by bytes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test fails by panicking"
)]

mod common;

use std::path::PathBuf;
use std::sync::Arc;

use common::{key, keys, log_of, raw, signer};
use rusqlite::params;
use sigil_audit::merkle::{Frontier, leaf_hash};
use sigil_audit::{FaultKind, LocalSigner, Report, SignedHead, VerifyKeys, verify};
use tempfile::{TempDir, tempdir};

/// A closed log of 30 entries with heads at 10, 20 and 30.
struct Victim {
    _folder: TempDir,
    path: PathBuf,
    signer: Arc<LocalSigner>,
}

impl Victim {
    fn new() -> Self {
        let folder = tempdir().unwrap();
        let path = folder.path().join("audit.db");
        let signer = signer();
        log_of(&path, &signer, 30);
        Self { _folder: folder, path, signer }
    }

    fn sql(&self, sql: &str) {
        raw(&self.path).execute_batch(sql).unwrap();
    }

    fn report(&self) -> Report {
        verify(&self.path, &keys(&self.signer)).unwrap()
    }

    /// Checks that the first fault is of `kind` at `seq`.
    #[track_caller]
    fn is_found(&self, kind: FaultKind, seq: u64) {
        let report = self.report();
        let first = report.faults.first().unwrap_or_else(|| panic!("nothing was found"));
        assert_eq!((first.kind, first.seq), (kind, seq), "{report:#?}");
        assert_eq!(report.first_bad(), Some(seq));
    }

    /// Overwrites the stored hashes of `seq` from byte `at`.
    fn replace_nodes(&self, seq: u64, at: usize, with: &[u8]) {
        let connection = raw(&self.path);
        let place = seq as i64;
        let mut nodes: Vec<u8> =
            connection.query_row("SELECT nodes FROM entry WHERE seq = ?", [place], |row| row.get(0)).unwrap();
        nodes[at..at + with.len()].copy_from_slice(with);
        connection.execute("UPDATE entry SET nodes = ? WHERE seq = ?", params![nodes, place]).unwrap();
    }

    fn rows(&self) -> Vec<(i64, String)> {
        let connection = raw(&self.path);
        let mut statement = connection.prepare("SELECT seq, body FROM entry ORDER BY seq").unwrap();
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
    }

    /// Writes `bodies` as the whole log with all hashes made anew, as one who knows the format would.
    fn rewrite(&self, bodies: &[String]) {
        let connection = raw(&self.path);
        connection.execute_batch("DELETE FROM entry").unwrap();
        let mut frontier = Frontier::default();
        for (seq, body) in bodies.iter().enumerate() {
            let nodes: Vec<u8> =
                frontier.push(leaf_hash(body.as_bytes())).iter().flat_map(|node| *node.as_bytes()).collect();
            let read: serde_json::Value = serde_json::from_str(body).unwrap();
            connection
                .execute(
                    "INSERT INTO entry (seq, body, nodes, id, kind) VALUES (?, ?, ?, ?, ?)",
                    params![seq as i64, body, nodes, read["id"].as_str(), read["kind"].as_str()],
                )
                .unwrap();
        }
    }
}

#[test]
fn a_sound_log_is_sound() {
    let report = Victim::new().report();
    assert!(report.is_sound(), "{report:#?}");
    assert_eq!((report.entries, report.signed, report.heads), (30, 30, 4));
}

#[test]
fn an_edited_entry() {
    let victim = Victim::new();
    victim.sql("UPDATE entry SET body = replace(body, '\"number\":12', '\"number\":13') WHERE seq = 12");
    victim.is_found(FaultKind::Edited, 12);
    assert_eq!(victim.report().faults.len(), 1, "and it alone");
}

#[test]
fn an_entry_edited_in_the_bytes_of_the_file() {
    let victim = Victim::new();
    let mut bytes = std::fs::read(&victim.path).unwrap();
    let wanted = b"\"number\":17";
    let places: Vec<usize> = (0..bytes.len() - wanted.len()).filter(|at| bytes[*at..].starts_with(wanted)).collect();
    for at in places {
        bytes[at + 9] = b'9';
    }
    std::fs::write(&victim.path, bytes).unwrap();
    victim.is_found(FaultKind::Edited, 17);
}

#[test]
fn an_entry_that_is_no_text_any_more() {
    let victim = Victim::new();
    victim.sql("UPDATE entry SET body = CAST(x'ff00fe' AS TEXT) WHERE seq = 4");
    victim.is_found(FaultKind::Edited, 4);
}

#[test]
fn an_entry_edited_with_its_leaf_hash() {
    let victim = Victim::new();
    let (_, body) = &victim.rows()[13];
    let body = body.replace("\"number\":13", "\"number\":99");
    let leaf = *leaf_hash(body.as_bytes()).as_bytes();
    // Leaf 13 completes the pair 12 and 13, so it is the inner node that tells.
    raw(&victim.path).execute("UPDATE entry SET body = ? WHERE seq = 13", [body]).unwrap();
    victim.replace_nodes(13, 0, &leaf);
    let report = victim.report();
    assert_eq!((report.faults[0].kind, report.faults[0].seq, report.faults[0].until), (FaultKind::Rewritten, 10, 19));
    assert!(report.faults.iter().any(|fault| (fault.kind, fault.seq, fault.until) == (FaultKind::Rewritten, 12, 13)));
}

#[test]
fn an_entry_edited_with_all_hashes() {
    let victim = Victim::new();
    let mut bodies: Vec<String> = victim.rows().into_iter().map(|(_, body)| body).collect();
    bodies[14] = bodies[14].replace("\"number\":14", "\"number\":99");
    victim.rewrite(&bodies);
    victim.is_found(FaultKind::Rewritten, 10);
    let report = victim.report();
    assert_eq!((report.faults[0].until, report.signed), (19, 10), "only the first head still holds");
}

#[test]
fn a_removed_entry() {
    let victim = Victim::new();
    victim.sql("DELETE FROM entry WHERE seq IN (7, 8)");
    victim.is_found(FaultKind::Removed, 7);
    assert_eq!(victim.report().faults[0].until, 8);
}

#[test]
fn a_removed_entry_with_the_rest_moved_up() {
    let victim = Victim::new();
    victim.sql("DELETE FROM entry WHERE seq = 7");
    for seq in 8..30 {
        victim.sql(&format!("UPDATE entry SET seq = seq - 1 WHERE seq = {seq}"));
    }
    victim.is_found(FaultKind::Removed, 7);
}

#[test]
fn a_removed_first_entry() {
    let victim = Victim::new();
    victim.sql("DELETE FROM entry WHERE seq = 0");
    victim.is_found(FaultKind::Removed, 0);
}

#[test]
fn reordered_entries() {
    let victim = Victim::new();
    victim.sql(
        "UPDATE entry SET seq = 1000 WHERE seq = 5; UPDATE entry SET seq = 5 WHERE seq = 9;
         UPDATE entry SET seq = 9 WHERE seq = 1000;",
    );
    victim.is_found(FaultKind::Reordered, 5);
    assert!(victim.report().faults.iter().any(|fault| (fault.kind, fault.seq) == (FaultKind::Reordered, 9)));
}

#[test]
fn an_inserted_entry() {
    let victim = Victim::new();
    for seq in (11..30).rev() {
        victim.sql(&format!("UPDATE entry SET seq = seq + 1 WHERE seq = {seq}"));
    }
    let body = victim.rows()[10].1.replace("\"number\":10", "\"number\":77").replace("\"seq\":10", "\"seq\":11");
    let leaf = *leaf_hash(body.as_bytes()).as_bytes();
    raw(&victim.path)
        .execute(
            "INSERT INTO entry (seq, body, nodes, id, kind) VALUES (11, ?, ?, 'ev_x', 'test.entry.made')",
            params![body, leaf],
        )
        .unwrap();
    let report = victim.report();
    assert!(report.faults.iter().any(|fault| (fault.kind, fault.seq) == (FaultKind::Inserted, 11)), "{report:#?}");
}

#[test]
fn an_entry_before_the_first() {
    let victim = Victim::new();
    victim.sql("INSERT INTO entry (seq, body, nodes, id, kind) VALUES (-1, '{}', x'', 'ev_x', 'a.b')");
    victim.is_found(FaultKind::Inserted, 0);
}

#[test]
fn a_truncated_log() {
    let victim = Victim::new();
    victim.sql("DELETE FROM entry WHERE seq >= 25");
    victim.is_found(FaultKind::Truncated, 25);
    assert_eq!(victim.report().faults[0].until, 29);
}

#[test]
fn a_log_truncated_together_with_its_heads_is_found_by_the_witness() {
    let victim = Victim::new();
    victim.sql("DELETE FROM entry WHERE seq >= 20; DELETE FROM head WHERE size > 20");
    assert!(victim.report().is_sound(), "by itself it looks whole");
    let anchored = VerifyKeys { anchor: victim.signer.last(), ..keys(&victim.signer) };
    let report = verify(&victim.path, &anchored).unwrap();
    assert_eq!((report.faults[0].kind, report.faults[0].seq), (FaultKind::Truncated, 20));
}

#[test]
fn all_entries_removed() {
    let victim = Victim::new();
    victim.sql("DELETE FROM entry");
    victim.is_found(FaultKind::Truncated, 0);
}

#[test]
fn a_forged_head() {
    let victim = Victim::new();
    let forger = key();
    let forged = SignedHead::sign(20, leaf_hash(b"other"), &forger);
    raw(&victim.path).execute("UPDATE head SET note = ? WHERE size = 20", [forged.note()]).unwrap();
    let report = victim.report();
    let kinds: Vec<FaultKind> = report.faults.iter().map(|fault| fault.kind).collect();
    assert!(kinds.contains(&FaultKind::BadSignature), "{report:#?}");
    assert_eq!(report.signed, 30, "the heads after it still hold");
}

#[test]
fn a_head_with_a_damaged_signature() {
    let victim = Victim::new();
    let note: String =
        raw(&victim.path).query_row("SELECT note FROM head WHERE size = 10", [], |row| row.get(0)).unwrap();
    let at = note.len() - 10;
    let flipped = if note.as_bytes()[at] == b'A' { "B" } else { "A" };
    let damaged = format!("{}{flipped}{}", &note[..at], &note[at + 1..]);
    raw(&victim.path).execute("UPDATE head SET note = ? WHERE size = 10", [damaged]).unwrap();
    victim.is_found(FaultKind::BadSignature, 9);
}

#[test]
fn heads_by_an_unknown_key_do_not_count() {
    let victim = Victim::new();
    let report = verify(&victim.path, &VerifyKeys { keys: vec![key().verify_key().clone()], anchor: None }).unwrap();
    assert_eq!(report.signed, 0);
    assert!(report.faults.iter().all(|fault| fault.kind == FaultKind::BadSignature) && !report.is_sound());
}

#[test]
fn a_head_moved_to_another_size() {
    let victim = Victim::new();
    victim.sql("UPDATE head SET size = 15 WHERE size = 10");
    victim.is_found(FaultKind::BadSignature, 14);
}

#[test]
fn an_entry_hidden_from_queries() {
    let victim = Victim::new();
    victim.sql("UPDATE entry SET kind = 'harmless.thing' WHERE seq = 3");
    victim.is_found(FaultKind::Misfiled, 3);
}

#[test]
fn a_tree_node_that_was_changed() {
    let victim = Victim::new();
    victim.replace_nodes(5, 32, &[0; 32]);
    victim.is_found(FaultKind::Rewritten, 4);
}

#[test]
fn a_destroyed_page() {
    let victim = Victim::new();
    let mut bytes = std::fs::read(&victim.path).unwrap();
    let page = bytes.windows(11).position(|window| window == b"\"number\":17").unwrap() / 4096;
    bytes[page * 4096..][..64].fill(0xff);
    std::fs::write(&victim.path, bytes).unwrap();
    let report = verify(&victim.path, &keys(&victim.signer));
    let found = report.map_or(true, |report| report.faults.iter().any(|fault| fault.kind == FaultKind::Unreadable));
    assert!(found);
}

#[test]
fn something_that_is_no_log() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("audit.db");
    assert!(verify(&path, &VerifyKeys::default()).is_err(), "absent");
    std::fs::write(&path, b"not a database, not at all, whatever its name says").unwrap();
    assert!(verify(&path, &VerifyKeys::default()).is_err(), "noise");
    std::fs::remove_file(&path).unwrap();
    raw(&path).execute_batch("CREATE TABLE entry (seq)").unwrap();
    let code = verify(&path, &VerifyKeys::default()).unwrap_err().code();
    assert_eq!(code.as_str(), "audit.log.read.form");
}
