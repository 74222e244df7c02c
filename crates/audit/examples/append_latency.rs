//! Measures appending: what it costs the caller, and how long until an entry is durable.
//!
//! Usage: `cargo run --profile demo -p sigil-audit --example append_latency [FOLDER]`. The folder decides which disk is
//! measured.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use sigil_audit::{AuditLog, Entry, LocalSigner, SigningKey};
use sigil_types::{Code, SystemClock, Timestamp, TurnId};

type Failed = Box<dyn std::error::Error>;

fn main() -> Result<(), Failed> {
    let folder = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(folder)?;
    let key = SigningKey::from_pkcs8("bench/audit", &SigningKey::generate()?)?;
    let signer = Arc::new(LocalSigner::new(key, None));
    let log = AuditLog::open(&folder.path().join("audit.db"), signer, Arc::new(SystemClock))?;
    let turn = TurnId::generate(Timestamp::from_millis(1));
    let entry = || {
        Entry::new(Code::new("gate.clear.cleared"), "owner:ann")
            .turn(turn)
            .data(json!({ "hop": "to_provider", "destination": "provider:peer", "bytes": 1024, "rules": [] }))
    };

    let mut queued = Vec::new();
    let mut durable = Vec::new();
    for _ in 0..2_000 {
        let start = Instant::now();
        let pending = log.append(entry());
        queued.push(start.elapsed());
        let _ = pending.wait()?;
        durable.push(start.elapsed());
    }
    report("append() returns", queued);
    report("durable, one at a time", durable);

    let start = Instant::now();
    let durable = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    (0..500)
                        .filter_map(|_| {
                            let start = Instant::now();
                            log.append(entry()).wait().ok().map(|_| start.elapsed())
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect::<Vec<_>>()
    });
    let rate = durable.len() as f64 / start.elapsed().as_secs_f64();
    report("durable, 16 threads", durable);
    println!("{:<24} {rate:>9.0} entries/s", "together");

    let start = Instant::now();
    log.sign_head()?;
    println!("{:<24} {:>9.1} µs", "signed head", start.elapsed().as_secs_f64() * 1e6);
    Ok(())
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times.get(times.len() * share / 1000).map_or(0.0, |time| time.as_secs_f64() * 1e6);
    println!("{what:<24} median {:>8.1} µs   p95 {:>8.1} µs   p99.9 {:>8.1} µs", at(500), at(950), at(999));
}
