//! [`Layer`]: one text in its two views, searched by all rules. The original is a layer; so is each decoded piece.

use std::ops::Range;

use crate::REACH;
use crate::Severity;
use crate::Step;
use crate::clean::Clean;
use crate::fold::Folded;
use crate::grammar::{Lists, Try, ends_sentence};
use crate::lexicon::{Hit, NEAR};
use crate::pattern::tail;
use crate::rules::Rules;

/// Something found in a layer, in bytes of its text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Found {
    pub(crate) span: Span,
    pub(crate) rule: usize,
    pub(crate) severity: Severity,
    pub(crate) via: Vec<Step>,
}

/// A range that has an order: by start, longer first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Ord for Span {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.start.cmp(&other.start).then(other.end.cmp(&self.end))
    }
}

impl PartialOrd for Span {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Self {
        Self { start: range.start, end: range.end }
    }
}

/// A finding whose end has not come: a token or key block that goes on. It is reported in pieces of [`crate::PIECE`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) pattern: usize,
    pub(crate) severity: Severity,
    pub(crate) via: Vec<Step>,
    /// Where it starts, in bytes of the text.
    pub(crate) start: usize,
    /// Where its current piece starts.
    pub(crate) piece: usize,
}

/// What a search of a layer came to.
#[derive(Debug, Default)]
pub(crate) struct Searched {
    pub(crate) found: Vec<Found>,
    pub(crate) open: Vec<Open>,
    /// Up to where everything that starts is known, in bytes of the text.
    pub(crate) settled: usize,
    /// For each pattern with a tail that was resumed, where that ends.
    followed: Vec<(usize, usize)>,
}

/// One text in its two views.
#[derive(Debug)]
pub(crate) struct Layer<'t> {
    pub(crate) clean: Clean<'t>,
    folded: Folded,
    last: bool,
    /// Whether words have lost their boundaries.
    glued: bool,
}

/// How many phrases a sequence looks at from its first on: more than stand within the widest gaps of ordinary text.
const MOST_HITS: usize = 96;

/// How far guards look around a match, in bytes of the folded view.
const AROUND: usize = 64;

/// How far they look in the original, in bytes.
pub(crate) const AROUND_ORIGINAL: usize = 160;

impl<'t> Layer<'t> {
    pub(crate) fn new(text: &'t str, last: bool, glued: bool) -> Self {
        let clean = Clean::new(text, last);
        let folded = Folded::new(&clean, last);
        Self { clean, folded, last, glued }
    }

    /// Searches it by the rules that `mask` selects.
    pub(crate) fn search(&self, rules: &Rules, mask: u8, resumed: &[Open]) -> Searched {
        let mut searched = Searched { settled: self.clean.settled(), ..Searched::default() };
        if !self.last {
            // What the folded view leaves out for now.
            let taken = self.folded.taken();
            searched.settled = searched.settled.min(self.clean.origin(taken));
        }
        for open in resumed {
            let at = self.clean.at(open.piece);
            let end = self.follow(rules, open.clone(), at, &mut searched);
            searched.followed.push((open.pattern, end));
        }
        self.patterns(rules, mask, &mut searched);
        self.phrases(rules, mask, &mut searched);
        searched
    }

    fn patterns(&self, rules: &Rules, mask: u8, searched: &mut Searched) {
        let mut tails = Vec::new();
        let clean = &self.clean;
        let found = &mut searched.found;
        let pending = rules.patterns.run(
            clean,
            self.last,
            |rule| rules.applies(rule, mask),
            |index, range, checked| {
                let Some(pattern) = rules.patterns.get(index) else { return };
                let Some(severity) = rules.severity(pattern.rule).and_then(|own| checked.severity(own)) else { return };
                let via = chain(clean.steps(&range));
                if pattern.tail.is_some() {
                    let start = clean.origin(range.start);
                    let open = Open { pattern: index, severity, via, start, piece: start };
                    tails.push((open, range.end));
                } else {
                    found.push(Found { span: clean.original(range).into(), rule: pattern.rule, severity, via });
                }
            },
        );
        for start in pending {
            let original = clean.origin(start);
            if original + REACH >= clean.settled() {
                searched.settled = searched.settled.min(original);
            }
        }
        let mut covered: Vec<(usize, usize)> = searched.followed.clone();
        for (open, from) in tails {
            // One that starts within the tail of another of its kind ends with it.
            match covered.iter_mut().find(|(pattern, _)| *pattern == open.pattern) {
                Some((_, end)) if open.start < *end => {}
                known => {
                    let pattern = open.pattern;
                    let end = self.follow(rules, open, from, searched);
                    match known {
                        Some((_, known)) => *known = end,
                        None => covered.push((pattern, end)),
                    }
                }
            }
        }
    }

    /// Follows an open-ended finding from `from` on, in the clean view, and reports the pieces that are complete. Returns where
    /// it ends for now, in the text.
    fn follow(&self, rules: &Rules, mut open: Open, from: usize, searched: &mut Searched) -> usize {
        let Some(pattern) = rules.patterns.get(open.pattern) else { return 0 };
        let Some(form) = pattern.tail else { return 0 };
        let (end, more) = tail(form, self.clean.text().as_bytes(), from, self.last);
        let end = if end > 0 { self.clean.original(end - 1..end).end } else { open.piece };
        loop {
            let wanted = self.clean.origin(self.clean.at(open.piece + crate::PIECE));
            let whole = wanted >= open.piece + crate::PIECE && wanted < end;
            if !whole && more {
                searched.settled = searched.settled.min(open.piece);
                searched.open.push(open);
                return end;
            }
            let to = if whole { wanted } else { end };
            if to > open.piece {
                let span = (open.piece..to).into();
                searched.found.push(Found { span, rule: pattern.rule, severity: open.severity, via: open.via.clone() });
            }
            if !whole {
                return end;
            }
            open.piece = to;
        }
    }

    fn phrases(&self, rules: &Rules, mask: u8, searched: &mut Searched) {
        let text = self.folded.bytes();
        let (hits, pending) = rules.lexicon.hits(text, self.last, self.glued, |at| self.origin(at));
        searched.settled = searched.settled.min(self.origin(pending));
        let longest = hits.iter().map(|hit| hit.end - hit.start).max().unwrap_or(0);
        let mut rest = hits.as_slice();
        while let Some(hit) = rest.first() {
            let starting = rules.lexicon.lists(hit).iter().filter_map(|list| rules.starting_with(*list));
            if let Some(reach) = starting.map(|starting| starting.gaps + starting.between * longest).max() {
                self.sequences(rules, mask, reach, rest, &hits, pending, searched);
            }
            rest = rest.get(1..).unwrap_or_default();
        }
    }

    /// Tries the sequences that start with the first of `rest` and reach no further than `reach`.
    #[expect(clippy::too_many_arguments, reason = "the inner loop of the search: everything is borrowed once, outside")]
    fn sequences(
        &self,
        rules: &Rules,
        mask: u8,
        reach: usize,
        rest: &[Hit],
        hits: &[Hit],
        pending: usize,
        searched: &mut Searched,
    ) {
        let Some(hit) = rest.first() else { return };
        let limit = self.origin(hit.start) + REACH;
        let near = rest.iter().take_while(|other| other.start <= hit.end + reach && self.origin(other.start) < limit);
        let near = rest.get(..near.take(MOST_HITS).count()).unwrap_or(rest);
        let mut lists = Lists::default();
        near.iter().skip(1).flat_map(|hit| rules.lexicon.lists(hit)).for_each(|list| lists.insert(*list));
        let more = (!self.last && self.clean.settled() < limit && hit.end + reach >= pending).then_some(pending);
        let own = rules.lexicon.lists(hit).iter().filter_map(|list| rules.starting_with(*list));
        let own = own.flat_map(|starting| &starting.sequences);
        for sequence in own.filter(|sequence| more.is_some() || sequence.may(&lists)) {
            if !rules.applies(sequence.rule, mask) {
                continue;
            }
            match sequence.run(&rules.lexicon, self.folded.bytes(), near, more) {
                Try::No => {}
                Try::Pending => searched.settled = searched.settled.min(self.origin(hit.start)),
                Try::Found(range) => self.phrase(rules, sequence.rule, range, hits, pending, searched),
            }
        }
    }

    /// Takes in what a sequence found, after looking around it.
    fn phrase(
        &self,
        rules: &Rules,
        rule: usize,
        range: Range<usize>,
        hits: &[Hit],
        pending: usize,
        searched: &mut Searched,
    ) {
        let clean = self.folded.clean(&range, &self.clean);
        let span = self.clean.original(clean.clone());
        if span.len() > REACH {
            return;
        }
        let ahead = span.end + AROUND_ORIGINAL;
        if !self.last && rules.is_guarded(rule) && pending < range.end + AROUND && self.clean.settled() < ahead {
            searched.settled = searched.settled.min(span.start);
            return;
        }
        let Some(mut severity) = rules.severity(rule) else { return };
        if rules.is_guarded(rule) {
            severity = self.guarded(rules, severity, &range, &span, hits);
        }
        let mut steps: Vec<Step> = self.clean.steps(&clean).chain(self.folded.steps(&range)).collect();
        steps.sort_unstable();
        steps.dedup();
        searched.found.push(Found { span: span.into(), rule, severity, via: steps });
    }

    /// The severity of a match that may be a mention: negated, quoted or discussed.
    fn guarded(
        &self,
        rules: &Rules,
        severity: Severity,
        range: &Range<usize>,
        span: &Range<usize>,
        hits: &[Hit],
    ) -> Severity {
        let text = self.folded.bytes();
        let from = range.start.saturating_sub(AROUND);
        let first = hits.partition_point(|hit| hit.start < from);
        let near = hits.iter().skip(first).take_while(|hit| hit.start < range.end + AROUND);
        let (mut negated, mut discussed) = (false, false);
        for hit in near {
            let before = hit.end <= range.start && self.origin(hit.start) + AROUND_ORIGINAL >= span.start;
            let after = hit.start >= range.end && self.origin(hit.end) <= span.end + AROUND_ORIGINAL;
            for list in rules.lexicon.lists(hit) {
                if rules.is_negation(*list) && before && range.start - hit.end <= 24 {
                    negated |= !ends_sentence(text, hit.end..range.start);
                }
                discussed |= rules.is_mention(*list) && (before || after);
            }
        }
        let quoted = self.is_quoted(range, span);
        match (negated, quoted, discussed) {
            (true, ..) | (_, true, true) => Severity::Low,
            (false, true, false) | (false, false, true) => severity.min(Severity::Medium),
            _ => severity,
        }
    }

    /// Whether a quotation opens right before and closes soon after.
    fn is_quoted(&self, range: &Range<usize>, span: &Range<usize>) -> bool {
        let text = self.folded.bytes();
        let from = (0..=3).rev().map(|back| range.start.saturating_sub(back));
        let from = from.filter(|at| self.origin(*at) + NEAR >= span.start).min().unwrap_or(range.start);
        let mut before = text.get(from..range.start).unwrap_or_default().iter().rev();
        let Some(quote) = before.find(|byte| **byte != b' ').filter(|byte| b"\"'`".contains(byte)) else {
            return false;
        };
        let ahead = text.get(range.start..).unwrap_or_default().iter().enumerate().take(range.len() + AROUND);
        ahead
            .take_while(|(at, _)| self.origin(range.start + at) < span.end + AROUND_ORIGINAL)
            .any(|(_, byte)| byte == quote)
    }

    /// Where in the text a byte of the folded view came from.
    fn origin(&self, at: usize) -> usize {
        self.clean.origin(self.folded.origin(at, &self.clean))
    }
}

/// Steps without repetition, in order.
fn chain(steps: impl Iterator<Item = Step>) -> Vec<Step> {
    let mut steps: Vec<Step> = steps.collect();
    steps.sort_unstable();
    steps.dedup();
    steps
}
