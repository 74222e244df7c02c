//! The whole search of one buffer: its own layer, what is hidden in it, and the layers that decode out of it.

use std::ops::Range;

use crate::Step;
use crate::clean::Clean;
use crate::decode::{Decoded, Resumed, decode};
use crate::layer::{Found, Layer, Open};
use crate::rules::Rules;
use crate::{hidden, reversed};

/// What a search begins with: nothing for a whole text, what went before for a later part of a stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// Findings that go on beyond the start.
    pub(crate) open: Vec<Open>,
    /// Whether the buffer starts within a coded run.
    pub(crate) resumed: Resumed,
    /// From where invisible characters and overrides are looked for, in bytes of the buffer.
    pub(crate) unseen_from: usize,
    pub(crate) reversed_from: usize,
    /// Whether the buffer starts later than the text.
    pub(crate) later: bool,
}

/// What a search came to.
#[derive(Debug)]
pub(crate) struct Searched<'t> {
    /// Everything that is known to be there, in no order.
    pub(crate) found: Vec<Found>,
    pub(crate) open: Vec<Open>,
    /// Everything that starts before is in `found`.
    pub(crate) settled: usize,
    pub(crate) unseen_done: usize,
    pub(crate) reversed_done: usize,
    clean: Clean<'t>,
    decoded: Decoded,
    resumed: Resumed,
}

impl Searched<'_> {
    /// The last place at or before `original` at which a search may begin anew, and what it has to know then.
    pub(crate) fn restart(&self, original: usize) -> (usize, Resumed) {
        self.decoded.restart(&self.clean, original, self.resumed)
    }
}

/// Searches `text`. Unless it is the `last` of it, what more text may change is not among what is found.
pub(crate) fn search<'t>(rules: &Rules, mask: u8, text: &'t str, last: bool, state: &State) -> Searched<'t> {
    let layer = Layer::new(text, last, false);
    let own = layer.search(rules, mask, &state.open);
    let mut found = own.found;
    let unseen = hidden::find(text, state.unseen_from, !state.later, last, rules, mask);
    found.extend(unseen.found);
    let (turned, reversed_settled, reversed_done) = reversed::find(text, state.reversed_from, last);
    for turned in turned {
        inner(rules, mask, &turned.text, false, Step::Reversed, &turned.from, &mut found);
    }
    let decoded = decode(&layer.clean, last, state.resumed);
    for piece in &decoded.pieces {
        let from: Vec<Range<usize>> = piece.from.iter().map(|range| layer.clean.original(range.clone())).collect();
        inner(rules, mask, &piece.text, piece.glued, piece.step, &from, &mut found);
    }
    let settled = own.settled.min(unseen.settled).min(reversed_settled).min(decoded.settled);
    Searched {
        found,
        open: own.open,
        settled,
        unseen_done: unseen.done,
        reversed_done,
        clean: layer.clean,
        decoded,
        resumed: state.resumed,
    }
}

/// Searches a decoded text. Each byte of it came from a range of the original.
fn inner(rules: &Rules, mask: u8, text: &str, glued: bool, step: Step, from: &[Range<usize>], found: &mut Vec<Found>) {
    let layer = Layer::new(text, true, glued);
    for mut inside in layer.search(rules, mask, &[]).found {
        let places = from.get(inside.span.start..inside.span.end).unwrap_or_default();
        let start = places.iter().map(|range| range.start).min();
        let end = places.iter().map(|range| range.end).max();
        let (Some(start), Some(end)) = (start, end) else { continue };
        inside.span = (start..end).into();
        inside.via.insert(0, step);
        found.push(inside);
    }
}
