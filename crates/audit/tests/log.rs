//! The log's contract: durable receipts, queries, proofs, heads, and failing closed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test fails by panicking"
)]

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use common::{HandClock, block_on, entry, key, keys, log_of, open, raw, signer};
use serde_json::json;
use sigil_audit::{
    AGGREGATED, AppendFailed, AuditLog, Entry, Filter, HeadFailed, HeadSigner, HeadToSign, LocalSigner, OpenLog,
    Options, Reader, SignRefused, SignedHead, VerifyKey, verify,
};
use sigil_types::{Code, SessionId, SystemClock, Timestamp, TurnId};
use tempfile::tempdir;

#[test]
fn a_receipt_names_an_entry_that_is_in_the_file() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("audit.db");
    let signer = signer();
    let log = open(&path, &signer);
    let pending = log.append(entry(1));
    let id = pending.id();
    let receipt = pending.wait().unwrap();
    let second = block_on(log.append(entry(2))).unwrap();
    assert_eq!((receipt.id(), receipt.seq(), second.seq()), (id, 0, 1));
    // Another reader, as another process would.
    let stored = Reader::open(&path).unwrap().find(id).unwrap().unwrap();
    assert_eq!((stored.leaf, stored.data), (receipt.leaf(), json!({ "number": 1 })));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    drop(log);
    let report = verify(&path, &keys(&signer)).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.entries, report.signed), (2, 2), "closing signs");
}

#[test]
fn entries_from_many_threads_keep_their_receipts() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("audit.db");
    let signer = signer();
    let log = open(&path, &signer);
    let receipts = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (log, receipts) = (log.clone(), &receipts);
            scope.spawn(move || {
                let pending: Vec<_> = (0..50).map(|number| log.append(entry(thread * 100 + number))).collect();
                for pending in pending {
                    receipts.lock().unwrap().push(pending.wait().unwrap());
                }
            });
        }
    });
    let mut receipts = receipts.into_inner().unwrap();
    receipts.sort_by_key(|receipt| receipt.seq());
    assert!(receipts.iter().map(|receipt| receipt.seq()).eq(0..200));
    log.sign_head().unwrap();
    for receipt in receipts.iter().step_by(7) {
        let proof = log.prove(receipt.seq()).unwrap();
        assert!(proof.holds() && proof.leaf == receipt.leaf() && proof.root == *log.head().root());
    }
    drop(log);
    assert!(verify(&path, &keys(&signer)).unwrap().is_sound());
}

#[test]
fn queries_filter_page_and_follow() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("audit.db");
    let log = open(&path, &signer());
    let now = Timestamp::from_millis(1);
    let (turn, session) = (TurnId::generate(now), SessionId::generate(now));
    let kinds = ["gate.clear.refused", "gate.clear", "gate.clearing.odd", "gateway.start.done"];
    for number in 0..40 {
        let kind: Code = kinds[number % 4].parse().unwrap();
        let entry = Entry::new(kind, "x").data(json!(number));
        let entry = if number % 10 == 0 { entry.turn(turn).session(session) } else { entry };
        let _ = log.append(entry).wait().unwrap();
    }
    let seqs = |filter: Filter| log.query(&filter).unwrap().into_iter().map(|entry| entry.seq).collect::<Vec<_>>();
    let kind = |kind: &str| Filter { kind: Some(kind.to_owned()), ..Filter::default() };
    assert_eq!(seqs(Filter { limit: 3, ..Filter::default() }), [39, 38, 37]);
    assert_eq!(seqs(Filter { limit: 3, before: Some(37), ..Filter::default() }), [36, 35, 34]);
    assert_eq!(seqs(kind("gate.clear")).len(), 20);
    assert_eq!(seqs(kind("gate.clear.refused")).len(), 10);
    assert_eq!(seqs(kind("gate")).len(), 30);
    assert_eq!(seqs(kind("gate' OR 1=1 --")), [0_u64; 0]);
    assert_eq!(seqs(Filter { turn: Some(turn), ..Filter::default() }), [30, 20, 10, 0]);
    assert_eq!(seqs(Filter { session: Some(session), since: 15, oldest_first: true, ..Filter::default() }), [20, 30]);
    block_on(log.grown(39));
    let follower = log.clone();
    let waiting = std::thread::spawn(move || block_on(follower.grown(40)));
    let _ = log.append(entry(40)).wait().unwrap();
    waiting.join().unwrap();
    assert_eq!(seqs(Filter { since: 40, oldest_first: true, ..Filter::default() }), [40]);
}

#[test]
fn a_reopened_log_goes_on_where_it_was_and_time_does_not_run_backwards() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("audit.db");
    let signer = signer();
    let clock = Arc::new(HandClock::default());
    clock.0.store(5_000_000, Ordering::SeqCst);
    let reopen = || AuditLog::open(&path, Arc::clone(&signer) as _, Arc::clone(&clock) as _).unwrap();
    let log = reopen();
    let _ = log.append(entry(0)).wait().unwrap();
    drop(log);
    clock.0.store(4_000_000, Ordering::SeqCst);
    let log = reopen();
    assert_eq!(log.now(), Timestamp::from_millis(5_000_000));
    assert_eq!(log.append(entry(1)).wait().unwrap().seq(), 1);
    drop(log);
    let report = verify(&path, &keys(&signer)).unwrap();
    assert!(report.is_sound() && report.signed == 2 && report.heads >= 3, "{report:?}");
}

#[test]
fn heads_are_signed_when_enough_came_and_when_it_is_quiet() {
    let folder = tempdir().unwrap();
    let signer = signer();
    let options = Options { head_every: 5, ..Options::default() };
    let path = folder.path().join("audit.db");
    let log = AuditLog::open_with(&path, Arc::clone(&signer) as _, Arc::new(SystemClock), options).unwrap();
    for number in 0..5 {
        let _ = log.append(entry(number)).wait().unwrap();
    }
    while signer.last().unwrap().size() < 5 {
        std::thread::yield_now();
    }
    let _ = log.append(entry(5)).wait().unwrap();
    while signer.last().unwrap().size() < 6 {
        std::thread::yield_now();
    }
}

#[test]
fn one_log_has_one_writer() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("audit.db");
    let signer = signer();
    let log = open(&path, &signer);
    let again = AuditLog::open(&path, Arc::clone(&signer) as _, Arc::new(SystemClock));
    assert!(matches!(again, Err(OpenLog::InUse { .. })), "{again:?}");
    drop(log);
    drop(open(&path, &signer));
}

#[test]
fn a_read_only_file_is_refused_with_what_to_do() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("audit.db");
    let signer = signer();
    log_of(&path, &signer, 3);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    let refused = AuditLog::open(&path, Arc::clone(&signer) as _, Arc::new(SystemClock)).unwrap_err();
    assert_eq!(refused.code().as_str(), "audit.log.open.readonly");
    assert!(refused.to_string().contains("chmod u+w"), "{refused}");
    assert!(verify(&path, &keys(&signer)).unwrap().is_sound(), "reading is allowed");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    drop(open(&path, &signer));
}

#[test]
fn a_full_disk_fails_the_log_until_it_is_opened_anew() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("audit.db");
    let signer = signer();
    let options = Options { max_pages: Some(24), ..Options::default() };
    let log = AuditLog::open_with(&path, Arc::clone(&signer) as _, Arc::new(SystemClock), options).unwrap();
    let big = || entry(0).data(json!("x".repeat(8000)));
    let mut kept = Vec::new();
    let failed = loop {
        match log.append(big()).wait() {
            Ok(receipt) => kept.push(receipt),
            Err(failed) => break failed,
        }
        assert!(kept.len() < 100, "the limit does not hold");
    };
    assert!(matches!(&failed, AppendFailed::Write { .. }), "{failed}");
    assert!(failed.to_string().contains("disk space") && failed.to_string().contains("full"), "{failed}");
    // A small entry would fit; the log stays failed all the same.
    assert_eq!(log.append(entry(1)).wait(), Err(failed.clone()));
    assert_eq!(log.refusal("somebody", entry(2)).wait(), Err(failed.clone()));
    assert_eq!(log.failure(), Some(failed));
    drop(log);
    let log = open(&path, &signer);
    assert_eq!(log.append(entry(3)).wait().unwrap().seq(), kept.len() as u64);
    drop(log);
    assert!(verify(&path, &keys(&signer)).unwrap().is_sound());
}

#[test]
fn a_log_whose_table_vanishes_fails_closed_with_all_that_waits() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("audit.db");
    let log = open(&path, &signer());
    let _ = log.append(entry(0)).wait().unwrap();
    raw(&path).execute_batch("DROP TABLE entry").unwrap();
    let pending: Vec<_> = (0..20).map(|number| log.append(entry(number))).collect();
    for pending in pending {
        let failed = pending.wait().unwrap_err();
        assert_eq!(failed.code().as_str(), "audit.log.write.failed");
    }
    assert!(matches!(block_on(log.append(entry(9))), Err(AppendFailed::Write { .. })));
    block_on(log.grown(1_000));
    assert!(log.sign_head().is_err());
}

#[test]
fn an_entry_that_is_too_large_is_refused_alone() {
    let folder = tempdir().unwrap();
    let log = open(&folder.path().join("audit.db"), &signer());
    let failed = log.append(entry(0).data(json!("x".repeat(70_000)))).wait().unwrap_err();
    assert_eq!(failed.code().as_str(), "audit.entry.size.exceeded");
    assert_eq!(log.append(entry(1)).wait().unwrap().seq(), 0);
}

#[test]
fn a_flood_of_refusals_becomes_few_entries_that_tell_all() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("audit.db");
    let clock = Arc::new(HandClock::default());
    clock.0.store(1_000_000, Ordering::SeqCst);
    let signer = signer();
    let log = AuditLog::open(&path, Arc::clone(&signer) as _, Arc::clone(&clock) as _).unwrap();
    let pending: Vec<_> = (0..1000).map(|_| log.refusal("10.0.0.9", entry(7))).collect();
    let shared = pending.last().unwrap().id();
    assert_eq!(pending.iter().filter(|pending| pending.id() == shared).count(), 980);
    // The writer looks at what is held back by itself once the time has come.
    clock.0.store(1_010_000, Ordering::SeqCst);
    for pending in pending {
        pending.wait().unwrap();
    }
    let aggregated = log.find(shared).unwrap().unwrap();
    assert_eq!(aggregated.kind, AGGREGATED);
    assert_eq!(aggregated.data["count"], 980);
    assert_eq!(aggregated.data["sample"]["data"]["number"], 7);
    assert_eq!(log.size(), 21);
    // What is held back when the log is closed is written then.
    let held: Vec<_> = (0..100).map(|_| log.refusal("10.0.0.9", entry(8))).collect();
    drop(log);
    assert!(held.into_iter().all(|pending| pending.wait().is_ok()));
    let report = verify(&path, &keys(&signer)).unwrap();
    assert!(report.is_sound() && report.signed == report.entries, "{report:?}");
}

/// A witness that can be told to be away or to lie.
struct Moody {
    inner: LocalSigner,
    mood: Mutex<Option<SignRefused>>,
}

impl HeadSigner for Moody {
    fn key(&self) -> VerifyKey {
        self.inner.key()
    }

    fn sign(&self, head: &HeadToSign) -> Result<SignedHead, SignRefused> {
        match self.mood.lock().unwrap().clone() {
            Some(refused) => Err(refused),
            None => self.inner.sign(head),
        }
    }
}

#[test]
fn an_absent_signer_delays_heads_and_a_witness_of_damage_fails_the_log() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("audit.db");
    let signer = Arc::new(Moody { inner: LocalSigner::new(key(), None), mood: Mutex::new(None) });
    let log = AuditLog::open(&path, Arc::clone(&signer) as _, Arc::new(SystemClock)).unwrap();
    *signer.mood.lock().unwrap() = Some(SignRefused::Unavailable { reason: "gone".to_owned() });
    let _ = log.append(entry(0)).wait().unwrap();
    assert!(matches!(log.sign_head(), Err(HeadFailed::Refused(SignRefused::Unavailable { .. }))));
    let _ = log.append(entry(1)).wait().unwrap();
    *signer.mood.lock().unwrap() = None;
    assert_eq!(log.sign_head().unwrap().size(), 2);
    let _ = log.append(entry(2)).wait().unwrap();
    *signer.mood.lock().unwrap() = Some(SignRefused::Inconsistent { asked: 3, witnessed: 2 });
    assert!(log.sign_head().is_err());
    let failed = log.append(entry(3)).wait().unwrap_err();
    assert_eq!(failed.code().as_str(), "audit.log.write.damaged");
}

#[test]
fn a_witness_that_is_ahead_by_a_lost_head_is_caught_up_with() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("audit.db");
    let signer = signer();
    log_of(&path, &signer, 9);
    // As after a crash between the signature and its storing.
    raw(&path).execute_batch("DELETE FROM head WHERE size > 3").unwrap();
    let log = open(&path, &signer);
    assert_eq!(log.head().size(), 9);
}

#[test]
fn a_witness_refuses_a_log_that_was_shortened_or_replaced() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("audit.db");
    let signer = signer();
    log_of(&path, &signer, 9);
    let refused = || AuditLog::open(&path, Arc::clone(&signer) as _, Arc::new(SystemClock)).unwrap_err();
    raw(&path).execute_batch("DELETE FROM entry WHERE seq >= 6").unwrap();
    assert_eq!(refused().code().as_str(), "audit.log.open.damaged");
    raw(&path).execute_batch("DELETE FROM head WHERE size > 6").unwrap();
    assert_eq!(refused().code().as_str(), "audit.head.log.shrunk");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(refused().code().as_str(), "audit.head.log.shrunk");
    // As long as before, and consistent in itself, but another log.
    std::fs::remove_file(&path).unwrap();
    log_of(&path, &Arc::new(LocalSigner::new(key(), None)), 12);
    assert_eq!(refused().code().as_str(), "audit.head.log.inconsistent");
}
