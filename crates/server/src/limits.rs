//! Rates, stream caps and cursors.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What is counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// Failed authentications of one address.
    Failures,
    /// Requests that change something, of one principal.
    Writes,
    /// Requests that read, of one principal.
    Reads,
}

impl Class {
    /// How many at once, and how many a second after that.
    const fn rate(self) -> (f64, f64) {
        match self {
            Self::Failures => (10.0, 1.0 / 6.0),
            Self::Writes => (60.0, 20.0),
            Self::Reads => (300.0, 100.0),
        }
    }
}

/// Most keys that are kept; beyond it, those that are full again are forgotten, then all.
const MAX_KEYS: usize = 4096;

/// Token buckets by class and key.
#[derive(Debug, Default)]
pub(crate) struct Buckets {
    buckets: Mutex<HashMap<(Class, String), (f64, Instant)>>,
}

impl Buckets {
    /// Takes one; or says after how long there will be one.
    pub(crate) fn take(&self, class: Class, key: &str) -> Result<(), Duration> {
        self.change(class, key, 1.0)
    }

    /// Whether one could be taken.
    pub(crate) fn peek(&self, class: Class, key: &str) -> Result<(), Duration> {
        self.change(class, key, 0.0)
    }

    fn change(&self, class: Class, key: &str, cost: f64) -> Result<(), Duration> {
        let (burst, rate) = class.rate();
        let now = Instant::now();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_KEYS {
            buckets.retain(|(class, _), (left, at)| {
                let (burst, rate) = class.rate();
                rate.mul_add(now.duration_since(*at).as_secs_f64(), *left) < burst
            });
            if buckets.len() >= MAX_KEYS {
                buckets.clear();
            }
        }
        let (left, at) = buckets.entry((class, key.to_owned())).or_insert((burst, now));
        *left = rate.mul_add(now.duration_since(*at).as_secs_f64(), *left).min(burst);
        *at = now;
        if *left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - *left) / rate));
        }
        *left -= cost;
        Ok(())
    }
}

/// How many of something each key holds at the moment.
#[derive(Clone, Debug)]
pub(crate) struct Caps<K: Hash + Eq> {
    held: Arc<Mutex<HashMap<K, usize>>>,
    most: usize,
}

/// One that is held; given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot<K: Hash + Eq> {
    held: Arc<Mutex<HashMap<K, usize>>>,
    key: Option<K>,
}

impl<K: Hash + Eq + Clone> Caps<K> {
    pub(crate) fn new(most: usize) -> Self {
        Self { held: Arc::default(), most }
    }

    /// Holds one more for `key`, unless it has the most already.
    pub(crate) fn hold(&self, key: &K) -> Option<Slot<K>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(key.clone()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Slot { held: Arc::clone(&self.held), key: Some(key.clone()) })
    }

    /// How many are held by all.
    pub(crate) fn total(&self) -> usize {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }
}

impl<K: Hash + Eq> Drop for Slot<K> {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = self.key.take()
            && let Some(count) = held.get_mut(&key)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                held.remove(&key);
            }
        }
    }
}

/// Seals cursors, so that a page can only be continued by whom and with the filter that it was made for.
#[derive(Debug)]
pub(crate) struct Cursors {
    key: ring::hmac::Key,
}

impl Cursors {
    /// A sealer with a key of this process: a restart ends all cursors.
    pub(crate) fn new() -> Result<Self, ring::error::Unspecified> {
        let random = ring::rand::SystemRandom::new();
        Ok(Self { key: ring::hmac::Key::generate(ring::hmac::HMAC_SHA256, &random)? })
    }

    fn tag(&self, bound: &str, position: &str) -> String {
        let tag = ring::hmac::sign(&self.key, format!("{bound}\0{position}").as_bytes());
        tag.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The cursor for `position`, bound to `bound`: route, principal and filter.
    pub(crate) fn seal(&self, bound: &str, position: &str) -> String {
        format!("{}.{position}", self.tag(bound, position))
    }

    /// The position in a cursor that was sealed for `bound`.
    pub(crate) fn open<'c>(&self, bound: &str, cursor: &'c str) -> Option<&'c str> {
        let (tag, position) = cursor.split_once('.')?;
        let ours = self.tag(bound, position);
        let differs =
            ours.len() != tag.len() || ours.bytes().zip(tag.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b)) != 0;
        (!differs).then_some(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_bucket_runs_dry_and_fills_again() {
        let buckets = Buckets::default();
        for _ in 0..10 {
            buckets.take(Class::Failures, "a").expect("within the burst");
        }
        let wait = buckets.take(Class::Failures, "a").expect_err("dry");
        assert!(wait <= Duration::from_secs(6), "{wait:?}");
        buckets.peek(Class::Failures, "b").expect("another key");
        tokio::time::advance(Duration::from_secs(7)).await;
        buckets.take(Class::Failures, "a").expect("one again");
    }

    #[test]
    fn slots_come_back() {
        let caps = Caps::new(2);
        let (one, _two) = (caps.hold(&"a"), caps.hold(&"a"));
        assert!(one.is_some() && caps.hold(&"a").is_none() && caps.hold(&"b").is_some());
        drop(one);
        assert!(caps.hold(&"a").is_some());
    }

    #[test]
    fn a_cursor_serves_only_what_it_was_made_for() {
        let cursors = Cursors::new().expect("random");
        let sealed = cursors.seal("sessions:anna", "42");
        assert_eq!(cursors.open("sessions:anna", &sealed), Some("42"));
        assert_eq!(cursors.open("sessions:ben", &sealed), None);
        assert_eq!(cursors.open("sessions:anna", &sealed.replace("42", "43")), None);
        assert_eq!(cursors.open("sessions:anna", "42"), None);
    }
}
