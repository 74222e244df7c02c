//! Scans are remembered per text, so that a long history is not scanned again at every step of a turn.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sigil_scan::{Report, Scanner};
use sigil_types::{Digest, Stage};

/// Texts remembered in each of two generations. Reports are small; texts are not kept.
const GENERATION: usize = 2048;

/// Texts shorter than this are scanned faster than they are hashed and looked up, in bytes.
const WORTH_REMEMBERING: usize = 512;

type Key = (Digest, Stage);
type Reports = HashMap<Key, Arc<Report>>;

/// INVARIANT: one cache serves one scanner; other rules come with another gate core.
#[derive(Default)]
pub(crate) struct ScanCache {
    /// The young one, and the old one that it replaces when it is full.
    generations: Mutex<(Reports, Reports)>,
}

impl ScanCache {
    pub(crate) fn scan(&self, scanner: &Scanner, stage: Stage, text: &str) -> Arc<Report> {
        if text.len() < WORTH_REMEMBERING {
            return Arc::new(scanner.scan(stage, text));
        }
        let key = (Digest::of(text.as_bytes()), stage);
        if let Some(known) = self.look_up(&key) {
            return known;
        }
        let report = Arc::new(scanner.scan(stage, text));
        self.remember(key, &report);
        report
    }

    fn look_up(&self, key: &Key) -> Option<Arc<Report>> {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let (young, old) = &mut *generations;
        if let Some(report) = young.get(key) {
            return Some(Arc::clone(report));
        }
        let report = old.remove(key)?;
        young.insert(*key, Arc::clone(&report));
        Some(report)
    }

    fn remember(&self, key: Key, report: &Arc<Report>) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let (young, old) = &mut *generations;
        if young.len() >= GENERATION {
            *old = std::mem::take(young);
        }
        young.insert(key, Arc::clone(report));
    }
}
