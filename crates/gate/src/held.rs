//! [`Held`]: something that a human decides, frozen until then.

use std::fmt;

use sigil_types::{ApprovalId, Author, Code, Digest, Effect, EventId, Label, Principal, SessionId, Timestamp};

use crate::door::Sink;
use crate::hop::Hop;

/// What the human is asked: everything that the decision binds, and nothing that may change later.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Plan {
    /// The question.
    pub approval: ApprovalId,
    /// The session that waits.
    pub session: SessionId,
    /// Where it would go, such as `tool:fetch.get`.
    pub destination: String,
    /// What it can change there.
    pub effect: Effect,
    /// Exactly what would be sent, as text.
    pub content: String,
    /// The session's label when it was asked.
    pub label: Label,
    /// Those among the label's authors who may not cause this by themselves.
    pub untrusted: Vec<Author>,
    /// The rules that ask.
    pub rules: Vec<Code>,
    /// Why a human is asked, in one sentence.
    pub why: String,
    /// After this moment the answer is no.
    pub expires: Timestamp,
}

impl Plan {
    /// The digest that an approval binds. Any change to the plan is another plan.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.to_json().as_bytes())
    }

    /// The plan as JSON: the bytes that the digest is of. It has no maps of unordered keys, so they are always the same.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Every field serialises: texts, numbers and lists of them.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A human's answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The plan that was looked at.
    pub plan: Digest,
    /// Yes or no. No answer is no.
    pub approved: bool,
    /// Who answered.
    pub by: Principal,
}

/// Content that waits for a human. [`Gate::resume`](crate::Gate::resume) turns it into a clearance or a refusal.
#[must_use = "held content is resumed with an answer, or dropped, which denies it"]
pub struct Held<H: Hop> {
    pub(crate) body: H::Body,
    pub(crate) sink: Sink,
    pub(crate) plan: Plan,
    pub(crate) receipt: EventId,
}

impl<H: Hop> Held<H> {
    /// What the human is asked.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The audit entry of the question.
    pub const fn receipt(&self) -> EventId {
        self.receipt
    }
}

impl<H: Hop> fmt::Debug for Held<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held<{}>({}, {})", H::WORD, self.plan.destination, self.plan.approval)
    }
}
