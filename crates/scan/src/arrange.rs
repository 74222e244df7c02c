//! Brings findings into an order in which text can be cut.
//!
//! Findings form groups: a leader, and what lies within it. One that reaches beyond its group's leader is split there. So
//! groups do not overlap, none is longer than the longest single finding, and a stream can be cut between any two.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use crate::layer::Found;

/// Findings in order, and the leaders of their groups.
#[derive(Debug, Default)]
pub(crate) struct Arranged {
    pub(crate) found: Vec<Found>,
    pub(crate) leaders: Vec<Range<usize>>,
}

impl Arranged {
    /// The last place at or before `settled` that no finding straddles.
    pub(crate) fn cut(&self, settled: usize) -> usize {
        let next = self.leaders.partition_point(|leader| leader.start < settled);
        match next.checked_sub(1).and_then(|index| self.leaders.get(index)) {
            Some(leader) if leader.end > settled => leader.start,
            _ => settled,
        }
    }
}

/// Arranges `found`. Of findings of one rule that overlap the first stays, with the gravest severity, and others keep what
/// it does not cover.
pub(crate) fn arrange(found: Vec<Found>) -> Arranged {
    let mut arranged = Arranged::default();
    let mut waiting: BinaryHeap<Reverse<Found>> =
        found.into_iter().filter(|found| found.span.start < found.span.end).map(Reverse).collect();
    let mut group = 0;
    while let Some(Reverse(mut next)) = waiting.pop() {
        match arranged.leaders.last() {
            Some(leader) if next.span.start < leader.end => {
                if next.span.end > leader.end {
                    let mut rest = next.clone();
                    rest.span.start = leader.end;
                    next.span.end = leader.end;
                    waiting.push(Reverse(rest));
                }
            }
            _ => {
                group = arranged.found.len();
                arranged.leaders.push(next.span.start..next.span.end);
            }
        }
        let members = arranged.found.iter_mut().skip(group);
        if let Some(same) = members.filter(|known| known.rule == next.rule).last() {
            if same.severity < next.severity {
                same.severity = next.severity;
                same.via.clone_from(&next.via);
            }
            next.span.start = next.span.start.max(same.span.end);
        }
        if next.span.start < next.span.end {
            arranged.found.push(next);
        }
    }
    arranged
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Severity;

    fn found(rule: usize, span: Range<usize>) -> Found {
        Found { span: span.into(), rule, severity: Severity::High, via: Vec::new() }
    }

    fn spans(arranged: &Arranged) -> Vec<(usize, usize, usize)> {
        arranged.found.iter().map(|found| (found.rule, found.span.start, found.span.end)).collect()
    }

    #[test]
    fn what_reaches_beyond_its_group_is_split() {
        let arranged = arrange(vec![found(0, 5..30), found(1, 10..50), found(0, 20..25), found(1, 45..60)]);
        assert_eq!(spans(&arranged), [(0, 5, 30), (1, 10, 30), (1, 30, 50), (1, 50, 60)]);
        assert_eq!(arranged.cut(40), 30);
        assert_eq!(arranged.cut(3), 3);
        assert_eq!(arranged.cut(70), 70);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_no_rule_overlaps_itself(raw in prop::collection::vec((0_usize..3, 0_usize..60, 1_usize..20), 0..12)) {
            let all: Vec<Found> = raw.iter().map(|(rule, start, length)| found(*rule, *start..start + length)).collect();
            let arranged = arrange(all.clone());
            for rule in 0..3 {
                for at in 0..80 {
                    let covers = |list: &[Found]| list.iter().filter(|f| f.rule == rule && f.span.start <= at && at < f.span.end).count();
                    prop_assert_eq!(covers(&arranged.found), covers(&all).min(1));
                }
            }
            for cut in 0..80 {
                let cut = arranged.cut(cut);
                prop_assert!(arranged.found.iter().all(|f| f.span.end <= cut || f.span.start >= cut));
            }
        }
    }
}
