//! Refusals in bounded number: nobody can fill the log, or its disk, by being refused.
//!
//! Each source has a token bucket. While it has tokens, its refusals are entries of their own. Beyond that they are counted,
//! and one entry tells count, first, last and a sample. The number of sources is bounded too: when there are too many, the
//! rest share one bucket. What is written under a flood is therefore bounded, and nothing is lost but detail.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::json;
use sigil_types::{Code, EventId, Timestamp};

use crate::entry::{Draft, Entry};
use crate::pending::Slot;

/// The kind of the entry that stands for many refusals.
pub const AGGREGATED: Code = Code::new("audit.refusals.aggregated");

/// The share of sources beyond [`MAX_SOURCES`].
const OTHERS: &str = "others";
const MAX_SOURCES: usize = 256;
const MAX_SOURCE_BYTES: usize = 128;
/// Metadata of a sample beyond this is left out.
const MAX_SAMPLE_BYTES: usize = 2048;
/// How long the first aggregate of a source is held; doubled for each one that follows without a pause.
const HOLD_MILLIS: u64 = 5_000;
const MAX_HOLD_MILLIS: u64 = 300_000;
/// Entries of its own for a source: this many at once, then one every three seconds.
const SOURCE: Limit = Limit { burst: 20, refill_millis: 3_000 };
/// The same for all sources together.
const TOGETHER: Limit = Limit { burst: 200, refill_millis: 500 };

#[derive(Clone, Copy)]
struct Limit {
    burst: u64,
    refill_millis: u64,
}

/// A token bucket, as the moment up to which its tokens are spent: full when that lies in the past.
#[derive(Default)]
struct Bucket {
    spent_until: u64,
}

impl Bucket {
    fn take(&mut self, limit: Limit, now: Timestamp) -> bool {
        let taken = self.would_take(limit, now);
        if taken {
            self.spent_until = self.spent_until.max(now.as_millis()) + limit.refill_millis;
        }
        taken
    }

    fn would_take(&self, limit: Limit, now: Timestamp) -> bool {
        let spent = self.spent_until.saturating_sub(now.as_millis());
        spent + limit.refill_millis <= limit.burst * limit.refill_millis
    }

    const fn is_full(&self, now: Timestamp) -> bool {
        self.spent_until <= now.as_millis()
    }
}

/// Refusals of one source that were counted instead of written.
struct Held {
    id: EventId,
    slot: Arc<Slot>,
    count: u64,
    first: Timestamp,
    last: Timestamp,
    sample: Entry,
    due: Timestamp,
}

#[derive(Default)]
struct Source {
    bucket: Bucket,
    hold_millis: u64,
    held: Option<Held>,
}

impl Source {
    /// Counts a refusal in the aggregate, beginning one if there is none.
    fn count(&mut self, entry: Entry, now: Timestamp) -> Admitted {
        if let Some(held) = &mut self.held {
            held.count += 1;
            held.last = held.last.max(now);
            return Admitted::Counted(held.id, Arc::clone(&held.slot));
        }
        let (id, slot) = (EventId::generate(now), Arc::new(Slot::default()));
        let hold = self.hold_millis.max(HOLD_MILLIS);
        self.hold_millis = (hold * 2).min(MAX_HOLD_MILLIS);
        let due = now.plus_millis(hold);
        self.held = Some(Held { id, slot: Arc::clone(&slot), count: 1, first: now, last: now, sample: entry, due });
        Admitted::Counted(id, slot)
    }
}

/// What becomes of a refusal.
pub(crate) enum Admitted {
    /// It is an entry of its own.
    Own(Entry),
    /// It is counted in the entry of this id, which will be written later.
    Counted(EventId, Arc<Slot>),
}

/// The buckets and counters of all sources.
#[derive(Default)]
pub(crate) struct Refusals {
    together: Bucket,
    sources: HashMap<String, Source>,
}

impl Refusals {
    pub(crate) fn admit(&mut self, source: &str, entry: Entry, now: Timestamp) -> Admitted {
        let name = self.name_for(source, now);
        let own = self.sources.entry(name).or_default();
        if own.bucket.is_full(now) && own.held.is_none() {
            own.hold_millis = HOLD_MILLIS;
        }
        if own.held.is_some() || !own.bucket.would_take(SOURCE, now) {
            return own.count(entry, now);
        }
        if self.together.take(TOGETHER, now) {
            own.bucket.take(SOURCE, now);
            return Admitted::Own(entry);
        }
        // Not this source's doing: ever new names must not make ever new entries.
        self.sources.entry(OTHERS.to_owned()).or_default().count(entry, now)
    }

    /// Whether anything is held back.
    pub(crate) fn any_held(&self) -> bool {
        self.sources.values().any(|source| source.held.is_some())
    }

    /// Takes the aggregates that are due at `now`, or all.
    pub(crate) fn take_due(&mut self, now: Timestamp, all: bool) -> Vec<(Draft, Arc<Slot>)> {
        let mut taken = Vec::new();
        for (name, source) in &mut self.sources {
            if let Some(held) = source.held.take_if(|held| all || held.due <= now) {
                taken.push((aggregate(name, &held, now), held.slot));
            }
        }
        taken
    }

    /// The bucket that `source` shares: its own where there is room for one.
    fn name_for(&mut self, source: &str, now: Timestamp) -> String {
        let name: String = source
            .char_indices()
            .take_while(|(at, character)| at + character.len_utf8() <= MAX_SOURCE_BYTES)
            .map(|(_, character)| character)
            .collect();
        if self.sources.contains_key(&name) {
            return name;
        }
        if self.sources.len() >= MAX_SOURCES {
            self.sources.retain(|_, source| source.held.is_some() || !source.bucket.is_full(now));
        }
        if self.sources.len() >= MAX_SOURCES { OTHERS.to_owned() } else { name }
    }
}

fn aggregate(source: &str, held: &Held, now: Timestamp) -> Draft {
    let Entry { kind, actor, turn, session, workspace, data } = held.sample.clone();
    let bytes = data.to_string().len();
    let data = if bytes > MAX_SAMPLE_BYTES { json!({ "omitted_bytes": bytes }) } else { data };
    let actor: String = actor.chars().take(MAX_SOURCE_BYTES).collect();
    let data = json!({
        "source": source,
        "count": held.count,
        "first": held.first,
        "last": held.last,
        "sample": { "kind": kind, "actor": actor, "data": data },
    });
    Draft::new(held.id, now, Entry { kind: AGGREGATED, actor: "sigil".to_owned(), turn, session, workspace, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: Code = Code::new("gate.clear.refused");

    fn own(refusals: &mut Refusals, source: &str, now: u64) -> bool {
        let now = Timestamp::from_millis(now);
        matches!(refusals.admit(source, Entry::new(REFUSED, "x"), now), Admitted::Own(_))
    }

    #[test]
    fn a_source_writes_its_burst_then_is_counted() {
        let mut refusals = Refusals::default();
        let start = 1_000_000;
        assert_eq!((0..50).filter(|_| own(&mut refusals, "a", start)).count(), 20);
        assert!(own(&mut refusals, "b", start), "another source has its own bucket");
        assert!(refusals.take_due(Timestamp::from_millis(start + HOLD_MILLIS - 1), false).is_empty());
        let due = refusals.take_due(Timestamp::from_millis(start + HOLD_MILLIS), false);
        assert_eq!(due.len(), 1);
        let stored = crate::entry::Stored::parse(due[0].0.bytes(0).as_bytes()).unwrap();
        assert_eq!(stored.data["count"], 30);
        assert_eq!(stored.data["source"], "a");
        assert!(!refusals.any_held());
        assert!(own(&mut refusals, "a", start + 60_000), "tokens come back");
    }

    /// A hundred thousand refusals from ten thousand invented sources over an hour become few entries.
    #[test]
    fn a_flood_from_many_sources_writes_a_bounded_number() {
        let mut refusals = Refusals::default();
        let (mut written, mut counted) = (0_u64, 0_u64);
        for at in 0..100_000_u64 {
            let now = 5_000_000 + at * 36;
            written += u64::from(own(&mut refusals, &format!("s{}", at % 10_000), now));
            if at % 30 == 0 {
                counted += refusals.take_due(Timestamp::from_millis(now), false).len() as u64;
            }
        }
        assert!(refusals.sources.len() <= MAX_SOURCES + 1);
        assert!(written <= 200 + 2 * 3600, "{written}");
        assert!(counted <= 1_000, "{counted}");
    }

    #[test]
    fn a_large_sample_is_left_out() {
        let mut refusals = Refusals::default();
        let big = Entry::new(REFUSED, "x".repeat(9000)).data(json!({ "text": "y".repeat(9000) }));
        for _ in 0..30 {
            let _ = refusals.admit(&"é".repeat(500), big.clone(), Timestamp::from_millis(1));
        }
        let due = refusals.take_due(Timestamp::from_millis(1), true);
        assert!(due[0].0.len() < 1500, "{}", due[0].0.len());
    }
}
