//! Lanes: the turns of one session run one after the other, those of different sessions side by side.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use sigil_types::{SessionId, TurnId};

/// The queues of all sessions that have something to do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lanes {
    queues: Arc<Mutex<HashMap<SessionId, VecDeque<TurnId>>>>,
}

impl Lanes {
    /// Puts `turn` at the end of its session's lane. Says whether the lane was idle: then the caller runs it, by taking
    /// turns from [`Lanes::next`] until there is none.
    pub(crate) fn push(&self, session: SessionId, turn: TurnId) -> bool {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = !queues.contains_key(&session);
        queues.entry(session).or_default().push_back(turn);
        idle
    }

    /// The next turn of the lane; none when it has become idle.
    pub(crate) fn next(&self, session: SessionId) -> Option<TurnId> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let next = queues.get_mut(&session).and_then(VecDeque::pop_front);
        if next.is_none() {
            queues.remove(&session);
        }
        next
    }

    /// Sessions that have something to do.
    pub(crate) fn busy(&self) -> usize {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

#[cfg(test)]
mod tests {
    use sigil_types::Timestamp;

    use super::*;

    #[test]
    fn a_lane_runs_its_turns_in_order_and_has_one_runner() {
        let lanes = Lanes::default();
        let session = SessionId::generate(Timestamp::from_millis(1));
        let [a, b, c] = [1, 2, 3].map(|ms| TurnId::generate(Timestamp::from_millis(ms)));
        assert!(lanes.push(session, a), "the first to come runs the lane");
        assert!(!lanes.push(session, b));
        assert_eq!(lanes.next(session), Some(a));
        assert!(!lanes.push(session, c), "the lane is still run");
        assert_eq!((lanes.next(session), lanes.next(session), lanes.next(session)), (Some(b), Some(c), None));
        assert!(lanes.push(session, a), "idle again");
    }
}
