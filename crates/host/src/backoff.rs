//! When a plugin that ended is started again, and when no more.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Ends within this time count together.
const WINDOW: Duration = Duration::from_secs(60);

/// So many ends within the window are a crash loop.
const MOST: usize = 5;

/// The pause before the second start; it doubles from there. The first start is at once.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The ends of one instance.
#[derive(Debug, Default)]
pub(crate) struct Ends(VecDeque<Instant>);

impl Ends {
    /// Counts an end at `now`. Returns how long to wait before the next start, or `None` for a crash loop.
    pub(crate) fn count(&mut self, now: Instant) -> Option<Duration> {
        self.0.retain(|end| now.saturating_duration_since(*end) < WINDOW);
        self.0.push_back(now);
        match self.0.len() {
            1 => Some(Duration::ZERO),
            ends if ends > MOST => None,
            ends => {
                let doublings = u32::try_from(ends - 2).unwrap_or(u32::MAX);
                Some(FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(doublings)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_it_is_a_crash_loop() {
        let start = Instant::now();
        let mut ends = Ends::default();
        let pauses: Vec<_> = (0..6).map(|second| ends.count(start + Duration::from_secs(second))).collect();
        let millis = |ms| Some(Duration::from_millis(ms));
        assert_eq!(pauses, [millis(0), millis(200), millis(400), millis(800), millis(1600), None]);
    }

    #[test]
    fn ends_that_are_long_ago_are_forgotten() {
        let start = Instant::now();
        let mut ends = Ends::default();
        for minute in 0..100 {
            assert_eq!(ends.count(start + Duration::from_secs(60 * minute)), Some(Duration::ZERO));
        }
    }
}
