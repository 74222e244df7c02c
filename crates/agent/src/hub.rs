//! [`Hub`]: what turns tell those who watch them, and the channel of those who talk to Sigil directly.
//!
//! A turn's events are kept while it runs and for a while after, so that a watcher who lost the connection goes on where
//! it stopped, without loss and without repetition.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use sigil_gate::port::{BoxFuture, Channel, Pass, PortFailed};
use sigil_gate::{ChannelBody, Cleared, ToChannel};
use sigil_types::{Clock, Code, SystemClock, Timestamp, TurnEvent, TurnId};
use tokio::sync::watch;

/// Finished turns whose events are kept.
const KEPT_TURNS: usize = 256;
/// Events kept of one turn. A turn that says more has its text events joined.
const MAX_EVENTS: usize = 8192;

#[derive(Debug)]
struct Log {
    /// The number of the first event.
    first: usize,
    events: Vec<(Timestamp, TurnEvent)>,
    finished: bool,
    length: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    turns: BTreeMap<TurnId, Log>,
    finished: VecDeque<TurnId>,
}

/// The events of all recent turns.
#[derive(Clone, Debug, Default)]
pub struct Hub {
    state: Arc<Mutex<State>>,
}

/// A watcher's place in a turn's events.
#[derive(Debug)]
pub struct Watcher {
    hub: Hub,
    turn: TurnId,
    next: usize,
    length: watch::Receiver<usize>,
}

impl Hub {
    /// Takes up a turn that an earlier process began `since_ms` ago. Whoever watched it then comes back with a number
    /// of that process, which must not hide what happens now: so the numbers go on above all that it can have given.
    /// That is one for each microsecond, and no fewer than a turn keeps.
    pub(crate) fn take_up(&self, turn: TurnId, since_ms: u64) {
        let first = usize::try_from(since_ms.saturating_mul(1000)).unwrap_or(0).max(MAX_EVENTS);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.turns.entry(turn).or_insert_with(|| Log { first, ..Log::new() });
    }

    /// Adds an event. Events of one turn are numbered in the order in which they are added, without gaps: from zero,
    /// or, after a crash, from higher up.
    pub fn tell(&self, turn: TurnId, event: TurnEvent) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let finished = matches!(event, TurnEvent::Finished { .. });
        let log = state.turns.entry(turn).or_insert_with(Log::new);
        if log.finished {
            return;
        }
        let full = log.events.len() >= MAX_EVENTS;
        match (&event, log.events.last_mut()) {
            (TurnEvent::Text { delta }, Some((_, TurnEvent::Text { delta: last }))) if full => last.push_str(delta),
            _ => log.events.push((SystemClock.now(), event)),
        }
        log.finished = finished;
        log.length.send_replace(log.events.len());
        if finished {
            state.finished.push_back(turn);
            if state.finished.len() > KEPT_TURNS
                && let Some(oldest) = state.finished.pop_front()
            {
                state.turns.remove(&oldest);
            }
        }
    }

    /// Watches `turn` from event number `since`, or from its first event if that is later; none if nothing is known of
    /// it.
    #[must_use]
    pub fn watch(&self, turn: TurnId, since: usize) -> Option<Watcher> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let length = state.turns.get(&turn)?.length.subscribe();
        Some(Watcher { hub: self.clone(), turn, next: since, length })
    }

    fn event(&self, turn: TurnId, number: usize) -> Next {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(log) = state.turns.get(&turn) else { return Next::Over };
        let number = number.max(log.first);
        match log.events.get(number - log.first) {
            Some((time, event)) => Next::Event(number, *time, event.clone()),
            None if log.finished => Next::Over,
            None => Next::Later,
        }
    }
}

impl Log {
    fn new() -> Self {
        Self { first: 0, events: Vec::new(), finished: false, length: watch::Sender::new(0) }
    }
}

enum Next {
    Event(usize, Timestamp, TurnEvent),
    Later,
    Over,
}

impl Watcher {
    /// The next event, its number, and when it happened; none after the last.
    pub async fn next(&mut self) -> Option<(usize, Timestamp, TurnEvent)> {
        loop {
            self.length.borrow_and_update();
            match self.hub.event(self.turn, self.next) {
                Next::Event(number, at, event) => {
                    self.next = number + 1;
                    return Some((number, at, event));
                }
                Next::Over => return None,
                Next::Later => self.length.changed().await.ok()?,
            }
        }
    }
}

/// The channel behind `sigil chat` and the server's turns: cleared text becomes events of the hub.
impl Channel for Hub {
    fn send(&self, message: Cleared<ToChannel>, _pass: Pass) -> BoxFuture<'_, Result<(), PortFailed>> {
        let sent = match message.into_body() {
            ChannelBody::Message { turn, text } | ChannelBody::Delta { turn, text } => {
                self.tell(turn, TurnEvent::Text { delta: text });
                Ok(())
            }
            _ => Err(PortFailed {
                code: Code::new("channel.hub.body.unknown"),
                message: "This channel shows text only.".to_owned(),
                retryable: false,
                detail: None,
            }),
        };
        Box::pin(std::future::ready(sent))
    }
}

#[cfg(test)]
mod tests {
    use sigil_types::Outcome;

    use super::*;

    fn text(delta: &str) -> TurnEvent {
        TurnEvent::Text { delta: delta.to_owned() }
    }

    async fn next(watcher: &mut Watcher) -> Option<(usize, TurnEvent)> {
        watcher.next().await.map(|(number, _, event)| (number, event))
    }

    #[tokio::test]
    async fn a_watcher_sees_every_event_once_from_where_it_stopped() {
        let (hub, turn) = (Hub::default(), TurnId::generate(Timestamp::from_millis(1)));
        hub.tell(turn, text("a"));
        let mut first = hub.watch(turn, 0).expect("known");
        assert_eq!(next(&mut first).await, Some((0, text("a"))));
        hub.tell(turn, text("b"));
        hub.tell(turn, TurnEvent::Finished { outcome: Outcome::Completed, code: None, message: None });
        hub.tell(turn, text("after the end"));
        assert_eq!(next(&mut first).await, Some((1, text("b"))));
        let mut again = hub.watch(turn, 1).expect("known");
        assert_eq!(next(&mut again).await, Some((1, text("b"))));
        assert!(matches!(next(&mut again).await, Some((2, TurnEvent::Finished { .. }))));
        assert_eq!(next(&mut again).await, None);
    }

    #[tokio::test]
    async fn a_turn_that_is_taken_up_hides_nothing_from_those_who_saw_more_of_it_before() {
        let (hub, turn) = (Hub::default(), TurnId::generate(Timestamp::from_millis(1)));
        hub.take_up(turn, 30);
        hub.tell(turn, text("again"));
        for seen in [0, 12, MAX_EVENTS] {
            let mut watcher = hub.watch(turn, seen).expect("known");
            assert_eq!(next(&mut watcher).await, Some((30_000, text("again"))));
        }
        let mut later = hub.watch(turn, 30_001).expect("known");
        hub.tell(turn, text("more"));
        assert_eq!(next(&mut later).await, Some((30_001, text("more"))));
        hub.take_up(turn, 60);
        assert_eq!(hub.watch(turn, 0).expect("known").next().await.map(|event| event.0), Some(30_000));
    }

    #[tokio::test]
    async fn old_turns_are_forgotten() {
        let hub = Hub::default();
        let turns: Vec<TurnId> =
            (0..=KEPT_TURNS as u64).map(|ms| TurnId::generate(Timestamp::from_millis(ms))).collect();
        for turn in &turns {
            hub.tell(*turn, TurnEvent::Finished { outcome: Outcome::Completed, code: None, message: None });
        }
        assert!(hub.watch(turns[0], 0).is_none());
        assert!(hub.watch(turns[1], 0).is_some());
    }
}
