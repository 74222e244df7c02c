//! [`TokenBudget`]: the token limits of the signed policy, counted.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use sigil_gate::Session;
use sigil_gate::port::{Budget, OverBudget};
use sigil_policy::Budgets;
use sigil_types::{SessionId, Timestamp, Usage, WorkspaceId};

/// A day in milliseconds.
const DAY: u64 = 86_400_000;

#[derive(Default)]
struct Counters {
    sessions: HashMap<SessionId, u64>,
    days: HashMap<WorkspaceId, (u64, u64)>,
}

/// Tokens per session and per workspace and day. What a call used is known after it, so a limit is passed by at most one
/// call.
pub struct TokenBudget {
    limits: Mutex<Budgets>,
    clock: std::sync::Arc<dyn sigil_types::Clock>,
    counters: Mutex<Counters>,
}

impl std::fmt::Debug for TokenBudget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenBudget").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TokenBudget {
    /// Counts against `limits`.
    #[must_use]
    pub fn new(limits: Budgets, clock: std::sync::Arc<dyn sigil_types::Clock>) -> Self {
        Self { limits: Mutex::new(limits), clock, counters: Mutex::default() }
    }

    /// Counts against other limits from now on.
    pub fn set_limits(&self, limits: Budgets) {
        *lock(&self.limits) = limits;
    }

    /// Takes up what a session had used before a restart, in tokens.
    pub fn resume(&self, session: SessionId, used: u64) {
        lock(&self.counters).sessions.entry(session).or_insert(used);
    }

    fn today(&self) -> u64 {
        self.clock.now().as_millis() / DAY
    }
}

impl Budget for TokenBudget {
    fn admit(&self, session: &Session, tokens: u64) -> Result<(), OverBudget> {
        let limits = *lock(&self.limits);
        let counters = lock(&self.counters);
        let used = counters.sessions.get(&session.id()).copied().unwrap_or(0);
        if used.saturating_add(tokens) > limits.tokens_per_session {
            return Err(OverBudget {
                limit: format!(
                    "This session has used {used} of its {} tokens; a new session starts from zero.",
                    limits.tokens_per_session
                ),
            });
        }
        let today = self.today();
        let spent = match counters.days.get(&session.context().workspace) {
            Some((day, spent)) if *day == today => *spent,
            _ => 0,
        };
        if spent.saturating_add(tokens) > limits.tokens_per_day {
            let midnight = Timestamp::from_millis((today + 1) * DAY);
            return Err(OverBudget {
                limit: format!(
                    "This workspace has used {spent} of its {} tokens of today; the count starts again at {midnight}.",
                    limits.tokens_per_day
                ),
            });
        }
        Ok(())
    }

    fn spent(&self, session: &Session, usage: Usage) {
        let tokens = usage.input_tokens.saturating_add(usage.output_tokens);
        let today = self.today();
        let mut counters = lock(&self.counters);
        let of_session = counters.sessions.entry(session.id()).or_default();
        *of_session = of_session.saturating_add(tokens);
        let of_day = counters.days.entry(session.context().workspace.clone()).or_insert((today, 0));
        if of_day.0 != today {
            *of_day = (today, 0);
        }
        of_day.1 = of_day.1.saturating_add(tokens);
    }
}
