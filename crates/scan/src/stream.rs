//! [`StreamScanner`]: a scan of a text that is still being written.

use std::sync::Arc;

use crate::Finding;
use crate::arrange::arrange;
use crate::engine::{State, search};
use crate::layer::Found;
use crate::rules::Rules;

/// How much of what was released is kept, because what comes next is judged by what stands before it, in bytes.
const CONTEXT: usize = 256;

/// While much is held back, a new search waits for this part of it to come anew.
const WAIT: usize = 16;

/// Scans a text that comes in pieces.
///
/// For every way to cut a text into pieces, all that is released together is the text itself, and its findings are those of
/// [`crate::Scanner::scan`] of the whole. No finding straddles a release. At most [`MAX_HELD`] bytes and the last piece are
/// held back, usually a word.
#[derive(Debug)]
pub struct StreamScanner {
    rules: Arc<Rules>,
    mask: u8,
    /// Some of what was released, and all that was not.
    buffer: String,
    /// Where in the buffer begins what was not.
    base: usize,
    /// Findings that were cut off at the base, and those beyond.
    carried: Vec<Found>,
    state: State,
    /// How long the buffer was when it was last searched.
    searched: usize,
}

/// The most that a stream holds back when a search has been made, in bytes.
pub const MAX_HELD: usize = 4096;

/// What a stream lets go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// The next part of the text, unchanged.
    pub text: String,
    /// What was found in it. Spans are in bytes of `text`.
    pub findings: Vec<Finding>,
}

impl StreamScanner {
    pub(crate) fn new(rules: Arc<Rules>, mask: u8) -> Self {
        Self { rules, mask, buffer: String::new(), base: 0, carried: Vec::new(), state: State::default(), searched: 0 }
    }

    /// Takes the next piece and returns what is known by now.
    pub fn push(&mut self, piece: &str) -> Released {
        self.buffer.push_str(piece);
        let held = self.searched.saturating_sub(self.base);
        if self.buffer.len() - self.searched <= held / WAIT {
            return Released::default();
        }
        self.release(false)
    }

    /// Ends the text and returns the rest.
    #[must_use]
    pub fn finish(mut self) -> Released {
        self.release(true)
    }

    fn release(&mut self, last: bool) -> Released {
        let searched = search(&self.rules, self.mask, &self.buffer, last, &self.state);
        let base = self.base;
        let mut found = std::mem::take(&mut self.carried);
        found.extend(searched.found.iter().filter(|found| found.span.start >= base).cloned());
        let arranged = arrange(found.clone());
        let settled = if last { self.buffer.len() } else { searched.settled.max(base) };
        let cut = arranged.cut(settled);
        let text = self.buffer.get(base..cut).unwrap_or_default().to_owned();
        let findings = arranged
            .found
            .into_iter()
            .filter(|found| found.span.end <= cut)
            .filter_map(|found| self.rules.finding(found, base))
            .collect();

        let (restart, resumed) = searched.restart(cut.saturating_sub(CONTEXT));
        let open = searched.open.iter().filter(|open| open.start < cut).cloned();
        let state = State {
            open: open.collect(),
            resumed,
            unseen_from: searched.unseen_done.max(cut),
            reversed_from: searched.reversed_done.max(cut),
            later: self.state.later || restart > 0,
        };
        self.carried = found.into_iter().filter(|found| found.span.end > cut).collect();
        for found in &mut self.carried {
            found.span.start = found.span.start.max(cut);
        }
        self.base = cut;
        self.state = state;
        self.forget(restart);
        Released { text, findings }
    }

    /// Drops the buffer before `restart`, and counts everything from there.
    fn forget(&mut self, restart: usize) {
        self.buffer.drain(..restart);
        self.base -= restart;
        self.searched = self.buffer.len();
        self.state.unseen_from -= restart;
        self.state.reversed_from -= restart;
        for open in &mut self.state.open {
            open.start = open.start.saturating_sub(restart);
            open.piece -= restart;
        }
        for found in &mut self.carried {
            found.span.start -= restart;
            found.span.end -= restart;
        }
    }
}
