//! A turn: one message, and all that it causes, from top to bottom.
//!
//! Every arrow out of here goes through the gate: the prompt to the provider, each call to its tool, the answer to the
//! channel. What comes back is untrusted again, and goes into the next prompt with its label.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sigil_gate::port::ModelEvent;
use sigil_gate::{Gate, Session};
use sigil_store::NewMessage;
use sigil_types::{Code, Outcome, Timestamp, ToolName, TurnEvent, TurnId, Untrusted, VerdictKind};

use crate::approvals::Approvals;
use crate::hub::Hub;
use crate::journal::Journal;
use crate::schema::Schemas;
use crate::work_time::WorkTime;
use crate::workspace::Workspace;
use crate::{AgentSettings, calls, reply, transcript};

/// Everything that a turn works with.
pub(crate) struct Turn<'a> {
    pub(crate) id: TurnId,
    pub(crate) gate: &'a Gate,
    pub(crate) session: &'a Session,
    pub(crate) workspace: &'a Arc<dyn Workspace>,
    pub(crate) journal: &'a Journal,
    pub(crate) hub: &'a Hub,
    pub(crate) approvals: &'a Approvals,
    pub(crate) schemas: &'a Schemas,
    pub(crate) settings: &'a AgentSettings,
    /// Tool calls made and questions asked so far, against the limits of the signed policy.
    pub(crate) calls: AtomicU32,
    pub(crate) asks: AtomicU32,
    pub(crate) time: WorkTime,
}

/// Why a turn ends without an answer.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    pub(crate) code: Code,
    pub(crate) message: String,
}

/// A tool call as the model made it.
#[derive(Debug)]
pub(crate) struct WantedCall {
    /// Sigil's own name for it, see [`call_id`].
    pub(crate) id: String,
    pub(crate) tool: Result<ToolName, String>,
    pub(crate) arguments: Untrusted<String>,
}

/// What one model call came to.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// What was said, as it was cleared for the channel.
    pub(crate) text: String,
    pub(crate) calls: Vec<WantedCall>,
}

pub(crate) const LIMIT: Code = Code::new("agent.turn.limit.reached");

impl Turn<'_> {
    /// Runs the turn to its end and answers the model's last words, to be kept in the step that ends it: a crash finds the
    /// turn answered, or not.
    pub(crate) async fn run(&self) -> Result<Vec<NewMessage>, Ended> {
        let signed = self.gate.policy().ceilings().budgets.model_calls_per_turn;
        let rounds = self.settings.tool_rounds.min(usize::try_from(signed).unwrap_or(usize::MAX).saturating_sub(1));
        for _ in 0..=rounds {
            // The prompt, through the gate, to a provider that answers.
            let segments = transcript::segments(self.journal, self.session, self.id, self.settings.window).await?;
            let said = reply::ask(self, segments).await?;

            let words = self.journal.words(self.id, &said, &self.session.label());
            if said.calls.is_empty() {
                return Ok(words);
            }
            // What the model said is in the transcript before anything follows from it.
            self.journal.said(self.session.id(), words).await?;
            // Each call, through the gate, to its tool; the result goes into the next prompt.
            for call in said.calls {
                self.count_call()?;
                calls::make(self, call).await?;
            }
        }
        Err(Ended {
            outcome: Outcome::Failed,
            code: LIMIT,
            message: format!(
                "The model wanted tools {rounds} times without answering. That is the limit: the smaller one of \
                 `agent.tool_rounds` in sigil.yaml and of the signed policy's model calls of a turn."
            ),
        })
    }

    fn count_call(&self) -> Result<(), Ended> {
        let most = self.gate.policy().ceilings().budgets.tool_calls_per_turn;
        if self.calls.fetch_add(1, Ordering::Relaxed) < most {
            return Ok(());
        }
        Err(Ended::failed(LIMIT, format!("The signed policy allows {most} tool calls in a turn.")))
    }

    /// Whether one more question may be asked in this turn.
    pub(crate) fn may_ask(&self) -> bool {
        self.asks.fetch_add(1, Ordering::Relaxed) < self.gate.policy().ceilings().budgets.asks_per_turn
    }

    /// Tells those who watch. What the audience may not read, it is not told about either: not how large a result was, nor
    /// what was found in it.
    pub(crate) fn tell(&self, mut event: TurnEvent) {
        if !self.session.audience_may_read() {
            match &mut event {
                TurnEvent::ToolResult { .. } | TurnEvent::Usage(_) => return,
                TurnEvent::Verdict { verdict: VerdictKind::Cleared, rules, .. } => rules.clear(),
                _ => {}
            }
        }
        self.hub.tell(self.id, event);
    }

    pub(crate) fn tell_verdict(
        &self,
        hop: sigil_types::Hop,
        verdict: VerdictKind,
        receipt: sigil_types::EventId,
        rules: Vec<Code>,
    ) {
        self.tell(TurnEvent::Verdict { hop, verdict, receipt, rules });
    }

    /// A refusal of the gate: told to those who watch, and the end of the turn.
    pub(crate) fn refused(&self, refused: sigil_gate::Refused) -> Ended {
        if let Some(receipt) = refused.receipt {
            self.tell_verdict(refused.hop, VerdictKind::Refused, receipt, refused.rules.clone());
        }
        Ended { outcome: Outcome::Refused, code: refused.code, message: format!("{} {}", refused.why, refused.fix) }
    }
}

impl Ended {
    pub(crate) fn failed(code: Code, message: impl Into<String>) -> Self {
        Self { outcome: Outcome::Failed, code, message: message.into() }
    }
}

impl Said {
    /// Takes in an event that is not text.
    pub(crate) fn take(&mut self, event: ModelEvent, origin: sigil_types::Origin, now: Timestamp) {
        if let ModelEvent::ToolCall { tool, arguments, .. } = event {
            self.calls.push(WantedCall { id: call_id(now), tool, arguments: Untrusted::new(origin, arguments) });
        }
    }
}

/// A name for a call. Models name theirs too, but some name every one `call_0`, and one that is asked again after a crash
/// may repeat itself. Nine letters and digits, which is what the strictest provider takes; 45 of their bits are random.
fn call_id(now: Timestamp) -> String {
    let id = TurnId::generate(now).to_string();
    id.get(id.len().saturating_sub(9)..).unwrap_or_default().to_owned()
}
