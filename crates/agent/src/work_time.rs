//! The time that a turn may take. What a human needs to answer a question is not counted: a question has a deadline of its
//! own, and a turn that ended first would throw the answer away.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// Counts the time of one turn.
#[derive(Debug)]
pub(crate) struct WorkTime {
    /// Whether a human is being waited for.
    waits: watch::Sender<bool>,
}

/// While this lives, a human is being waited for.
#[derive(Debug)]
pub(crate) struct HumanTime<'a>(&'a WorkTime);

impl WorkTime {
    pub(crate) fn new() -> Self {
        Self { waits: watch::Sender::new(false) }
    }

    /// Time from here on is the human's.
    pub(crate) fn human(&self) -> HumanTime<'_> {
        self.waits.send_replace(true);
        HumanTime(self)
    }

    /// Returns when the turn itself has taken `allowed`.
    pub(crate) async fn over(&self, allowed: Duration) {
        let mut waits = self.waits.subscribe();
        let mut left = allowed;
        loop {
            // The sender lives in `self`, so that waiting for it cannot fail.
            let _ = waits.wait_for(|waits| !*waits).await;
            let begun = Instant::now();
            tokio::select! {
                () = sleep(left) => return,
                _ = waits.wait_for(|waits| *waits) => left = left.saturating_sub(begun.elapsed()),
            }
        }
    }
}

impl Drop for HumanTime<'_> {
    fn drop(&mut self) {
        self.0.waits.send_replace(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_the_turn_s_own_time_counts() {
        let time = WorkTime::new();
        let begun = Instant::now();
        let work = async {
            sleep(Duration::from_secs(200)).await;
            let human = time.human();
            sleep(Duration::from_secs(800)).await;
            drop(human);
            sleep(Duration::from_secs(9999)).await;
        };
        tokio::select! {
            () = work => panic!("the turn was never ended"),
            () = time.over(Duration::from_secs(600)) => {}
        }
        assert_eq!(begun.elapsed().as_secs(), 1400);
    }
}
