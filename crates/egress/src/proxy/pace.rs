//! [`Bucket`]: so many in a time, and a little ahead; [`Ledger`]: what one instance has used.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sigil_policy::NetworkLimits;

use super::meter::Direction;

const DAY: f64 = 86_400.0;

/// Holds up to `most`, and fills at `rate` in a second.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: f64,
    most: f64,
    left: f64,
    at: Instant,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(rate: f64, most: f64) -> Self {
        Self { rate, most, left: most, at: Instant::now() }
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.left = passed.mul_add(self.rate, self.left).min(self.most);
    }

    /// Takes `amount`, if there is as much.
    pub(super) fn take(&mut self, amount: f64, now: Instant) -> bool {
        self.fill(now);
        let enough = self.left >= amount;
        if enough {
            self.left -= amount;
        }
        enough
    }

    /// Takes `amount` in any case. Returns how long to wait until it is there.
    fn owe(&mut self, amount: f64, now: Instant) -> Duration {
        self.fill(now);
        self.left -= amount;
        Duration::try_from_secs_f64(-self.left / self.rate).unwrap_or_default()
    }
}

/// The bytes of one instance, over all its connections.
#[derive(Debug)]
pub(super) struct Ledger {
    up: Mutex<Account>,
    down: Mutex<Account>,
}

#[derive(Debug)]
struct Account {
    /// A day's allowance, which comes back over a day.
    day: Bucket,
    /// A second's.
    second: Bucket,
}

#[expect(clippy::cast_precision_loss, reason = "limits; above 2^53 bytes a page more or less says nothing")]
const fn real(count: u64) -> f64 {
    count as f64
}

impl Ledger {
    pub(super) fn new(limits: &NetworkLimits) -> Self {
        let account = |day| {
            let (day, second) = (real(day), real(limits.bytes_per_second));
            Mutex::new(Account { day: Bucket::new(day / DAY, day), second: Bucket::new(second, second) })
        };
        Self { up: account(limits.up_bytes_per_day), down: account(limits.down_bytes_per_day) }
    }

    fn with<T>(&self, direction: Direction, act: impl FnOnce(&mut Account) -> T) -> T {
        let account = match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        };
        act(&mut account.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes bytes from the day's allowance, if it has as many.
    pub(super) fn take(&self, direction: Direction, bytes: u64) -> bool {
        self.with(direction, |account| account.day.take(real(bytes), Instant::now()))
    }

    /// Whether there is anything left of the day, in both directions.
    pub(super) fn has_any(&self) -> bool {
        let any = |direction| {
            self.with(direction, |account| {
                account.day.fill(Instant::now());
                account.day.left >= 1.0
            })
        };
        any(Direction::Up) && any(Direction::Down)
    }

    /// How long to wait after passing on `bytes`.
    pub(super) fn wait(&self, direction: Direction, bytes: u64) -> Duration {
        self.with(direction, |account| account.second.owe(real(bytes), Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_bounded_and_recovers() {
        let mut bucket = Bucket::new(2.0, 20.0);
        let start = bucket.at;
        assert_eq!((0..30).filter(|_| bucket.take(1.0, start)).count(), 20);
        assert!(!bucket.take(1.0, start + Duration::from_millis(400)));
        assert!(bucket.take(1.0, start + Duration::from_secs(1)));
    }

    #[test]
    fn who_goes_ahead_waits() {
        let mut bucket = Bucket::new(100.0, 100.0);
        let start = bucket.at;
        assert_eq!(bucket.owe(100.0, start), Duration::ZERO);
        assert_eq!(bucket.owe(50.0, start), Duration::from_millis(500));
        assert_eq!(bucket.owe(0.0, start + Duration::from_millis(500)), Duration::ZERO);
    }
}
