//! [`Health`]: which providers are down at the moment.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sigil_types::{Clock, ProviderName, Timestamp};

/// How long a provider that failed is left out, in milliseconds.
const COOL_DOWN_MILLIS: u64 = 30_000;

/// Remembers which providers failed, and leaves them out for a while.
///
/// A provider that failed before its first event is *down* for 30 seconds. Then it is *half open*: one caller may try it, and
/// the others go on without it until that one has told how it went, or 30 more seconds have passed.
#[derive(Clone)]
pub struct Health {
    clock: Arc<dyn Clock>,
    /// Until when each provider that failed is left out.
    down: Arc<Mutex<HashMap<ProviderName, Timestamp>>>,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").field("down", &*self.lock()).finish_non_exhaustive()
    }
}

impl Health {
    /// Everybody is up.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, down: Arc::default() }
    }

    /// `routes` in their order without those whose provider is down. If all are down, all of them: a provider that may have
    /// come back is better than none.
    pub fn available<R>(&self, routes: Vec<R>, provider: impl Fn(&R) -> &ProviderName) -> Vec<R> {
        let now = self.clock.now();
        let up: Vec<bool> = {
            let mut down = self.lock();
            let mut answered: HashMap<&ProviderName, bool> = HashMap::new();
            routes
                .iter()
                .map(provider)
                .map(|name| *answered.entry(name).or_insert_with(|| is_up(&mut down, name, now)))
                .collect()
        };
        if !up.contains(&true) {
            return routes;
        }
        routes.into_iter().zip(up).filter_map(|(route, up)| up.then_some(route)).collect()
    }

    /// A provider failed before its first event.
    pub fn failed(&self, provider: &ProviderName) {
        let until = self.clock.now().plus_millis(COOL_DOWN_MILLIS);
        self.lock().insert(provider.clone(), until);
    }

    /// A provider answered.
    pub fn answered(&self, provider: &ProviderName) {
        self.lock().remove(provider);
    }

    /// The providers that failed last time they were asked, and until when each is left out.
    #[must_use]
    pub fn down(&self) -> Vec<(ProviderName, Timestamp)> {
        let mut down: Vec<_> = self.lock().iter().map(|(name, until)| (name.clone(), *until)).collect();
        down.sort_unstable();
        down
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ProviderName, Timestamp>> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `name` may be tried. Whoever hears yes of one that was down is the one who tries it.
fn is_up(down: &mut HashMap<ProviderName, Timestamp>, name: &ProviderName, now: Timestamp) -> bool {
    match down.get_mut(name) {
        None => true,
        Some(until) if *until > now => false,
        Some(until) => {
            *until = now.plus_millis(COOL_DOWN_MILLIS);
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Default)]
    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(self.0.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn a_provider_that_failed_is_left_out_and_tried_again_by_one() {
        let clock = Arc::new(Hand::default());
        let health = Health::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let names: Vec<ProviderName> = ["a", "b"].iter().map(|name| name.parse().expect("a name")).collect();
        let available =
            || -> String { health.available(names.clone(), |name| name).iter().map(ProviderName::as_str).collect() };
        assert_eq!(available(), "ab");
        health.failed(&names[0]);
        assert_eq!(available(), "b");
        clock.0.store(COOL_DOWN_MILLIS - 1, Ordering::Relaxed);
        assert_eq!(available(), "b");
        clock.0.store(COOL_DOWN_MILLIS, Ordering::Relaxed);
        assert_eq!(available(), "ab", "half open: one tries");
        assert_eq!(available(), "b", "and only one");
        health.answered(&names[0]);
        assert_eq!(available(), "ab");
        names.iter().for_each(|name| health.failed(name));
        assert_eq!(available(), "ab", "all down: any is better than none");
        assert_eq!(health.down().len(), 2);
    }
}
