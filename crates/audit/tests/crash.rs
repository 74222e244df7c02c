//! Killed at any point: every entry whose receipt was given is in the log, and the log verifies.
#![allow(clippy::disallowed_methods, reason = "the child is this test, started again to be killed")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use common::{entry, keys, open};
use sigil_audit::{LocalSigner, Reader, SignedHead, SigningKey, verify};
use sigil_types::Secret;
use tempfile::tempdir;

const FOLDER: &str = "AUDIT_CRASH_FOLDER";

fn signer(folder: &Path, last: Option<SignedHead>) -> Arc<LocalSigner> {
    let pkcs8 = Secret::new(std::fs::read(folder.join("key")).unwrap());
    Arc::new(LocalSigner::new(SigningKey::from_pkcs8("test/audit", &pkcs8).unwrap(), last))
}

/// The child: appends from four threads and says each id once its receipt is there. Only does so when it is asked to.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let last = Reader::open(&folder.join("audit.db")).ok().and_then(|reader| reader.head().unwrap());
    let log = open(&folder.join("audit.db"), &signer(folder, last));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let log = log.clone();
            scope.spawn(move || {
                for number in 0.. {
                    let receipt = log.append(entry(thread * 1_000_000 + number)).wait().unwrap();
                    let line = format!("durable {}\n", receipt.id());
                    std::io::stdout().write_all(line.as_bytes()).unwrap();
                    if number % 40 == 39 {
                        log.sign_head().unwrap();
                    }
                }
            });
        }
    });
}

#[test]
fn nothing_that_was_receipted_is_lost_by_a_kill() {
    let folder = tempdir().unwrap();
    let pkcs8 = SigningKey::generate().unwrap();
    std::fs::write(folder.path().join("key"), pkcs8.expose()).unwrap();
    let path = folder.path().join("audit.db");
    let mut durable = HashSet::new();
    for round in 0..20_usize {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        // A different point in every round: during opening, early, later.
        let patience = [0, 1, 2, 3, 5, 8, 13, 21, 55, 144][round % 10] * (1 + round / 10);
        let mut said = 0;
        if patience == 0 {
            child.kill().unwrap();
        }
        for line in lines.lines() {
            if let Some(id) = line.unwrap().split("durable ").nth(1) {
                durable.insert(id.to_owned());
                said += 1;
                if said == patience {
                    child.kill().unwrap();
                }
            }
        }
        child.wait().unwrap();
        if !path.exists() {
            continue;
        }
        let Ok(reader) = Reader::open(&path) else {
            assert!(durable.is_empty(), "the log cannot be read after round {round}");
            continue;
        };
        for id in &durable {
            assert!(reader.find(id.parse().unwrap()).unwrap().is_some(), "{id} is lost in round {round}");
        }
        let report = verify(&path, &keys(&signer(folder.path(), None))).unwrap();
        assert!(report.is_sound(), "round {round}: {report:#?}");
        assert!(report.entries >= durable.len() as u64);
    }
    assert!(durable.len() > 100);
}
