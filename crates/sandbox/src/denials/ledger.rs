//! [`Ledger`]: a bounded count of what was seen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sigil_types::Timestamp;

use super::{Sight, Sighting};

/// Different things that are kept for one program. What goes beyond is only counted.
pub const MOST: usize = 256;

/// Counts of what was seen, of bounded size whatever a program does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    seen: Vec<Sighting>,
    /// Sightings of things that were not kept, as there were too many different ones.
    pub beyond: u64,
    /// Where each is, while it is being written.
    #[serde(skip)]
    index: BTreeMap<Sight, usize>,
}

impl Ledger {
    /// Counts one sighting.
    pub fn note(&mut self, what: Sight, now: Timestamp) {
        self.add(Sighting { what, count: 1, first: now, last: now });
    }

    /// Counts what another one has counted.
    pub fn merge(&mut self, other: Self) {
        self.beyond = self.beyond.saturating_add(other.beyond);
        for sighting in other.seen {
            self.add(sighting);
        }
    }

    fn add(&mut self, sighting: Sighting) {
        if self.index.len() != self.seen.len() {
            // It came over a wire, without its index.
            self.index = self.seen.iter().enumerate().map(|(at, known)| (known.what.clone(), at)).collect();
        }
        let room = self.seen.len() < MOST;
        let known = self.index.get(&sighting.what).and_then(|at| self.seen.get_mut(*at));
        match known {
            Some(known) => {
                known.count = known.count.saturating_add(sighting.count);
                known.first = known.first.min(sighting.first);
                known.last = known.last.max(sighting.last);
            }
            None if room => {
                self.index.insert(sighting.what.clone(), self.seen.len());
                self.seen.push(sighting);
            }
            None => self.beyond = self.beyond.saturating_add(sighting.count),
        }
    }

    /// The first `most` of it without the program's own words, the paths: for a log that keeps no content.
    #[must_use]
    pub fn without_words(&self, most: usize) -> Self {
        let mut plain = Self { beyond: self.beyond, ..Self::default() };
        for (at, sighting) in self.seen.iter().enumerate() {
            match &sighting.what {
                Sight::Call { call, args, errno, .. } if at < most => {
                    let what = Sight::Call { call: call.clone(), args: *args, errno: *errno, path: None };
                    plain.add(Sighting { what, ..sighting.clone() });
                }
                _ => plain.beyond = plain.beyond.saturating_add(sighting.count),
            }
        }
        plain
    }

    /// What was seen, in the order in which it was seen first.
    #[must_use]
    pub fn seen(&self) -> &[Sighting] {
        &self.seen
    }

    /// Whether nothing was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty() && self.beyond == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(number: usize) -> Sight {
        Sight::File { path: format!("/srv/{number}"), need: super::super::Need::Read }
    }

    #[test]
    fn the_same_is_counted_and_too_much_is_only_counted() {
        let at = Timestamp::from_millis;
        let mut ledger = Ledger::default();
        for number in 0..MOST + 10 {
            ledger.note(file(number), at(number as u64));
            ledger.note(file(0), at(1000));
        }
        assert_eq!((ledger.seen().len(), ledger.beyond), (MOST, 10));
        let first = &ledger.seen()[0];
        assert_eq!((first.count, first.first, first.last), (MOST as u64 + 11, at(0), at(1000)));
        let json = serde_json::to_string(&ledger).unwrap();
        let mut again: Ledger = serde_json::from_str(&json).unwrap();
        again.merge(ledger.clone());
        assert_eq!((again.seen().len(), again.beyond, again.seen()[0].count), (MOST, 20, 2 * first.count));
        assert!(json.len() < 64 * 1024, "a whole ledger of short paths fits a frame: {}", json.len());
    }
}
