//! Turns: the inbox, what a turn did so far, its reply, and the questions that it asked.

use serde::{Deserialize, Serialize};
use sigil_types::{
    ApprovalId, ChannelRef, Code, Digest, Effect, EventId, Label, Outcome, Principal, SessionId, Timestamp, ToolName,
    TurnId, Untrusted,
};

use crate::message::NewMessage;

/// A message that came in. It is accepted, durably, before its channel is told so.
#[derive(Clone, Debug)]
pub struct Inbound {
    /// The turn that will answer it.
    pub turn: TurnId,
    /// The session that it belongs to.
    pub session: SessionId,
    /// What makes a repeated delivery the same message: the platform's message id, or the client's own key. Unique per
    /// channel.
    pub key: String,
    /// The channel it came from.
    pub channel: ChannelRef,
    /// Who wrote it.
    pub principal: Principal,
    /// The words, kept exactly.
    pub content: Untrusted<String>,
    /// Their label.
    pub label: Label,
    /// When it came.
    pub at: Timestamp,
}

/// What became of an inbound message.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The turn that answers it.
    pub turn: TurnRecord,
    /// Whether it is new. A repeated delivery finds the turn of the first one, and starts none.
    pub fresh: bool,
}

/// How far a turn is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnState {
    /// In the inbox.
    Accepted,
    /// At work.
    Running,
    /// Answered, refused or stopped.
    Finished,
    /// The gateway died during a call with an effect; it is not repeated.
    Interrupted,
    /// Broken off by an error.
    Failed,
}

impl TurnState {
    /// Whether nothing more will happen in the turn.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Finished | Self::Interrupted | Self::Failed)
    }
}

impl From<Outcome> for TurnState {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Completed | Outcome::Refused | Outcome::Stopped => Self::Finished,
            Outcome::Interrupted => Self::Interrupted,
            Outcome::Failed => Self::Failed,
        }
    }
}

/// A turn as it is kept, with the message that it answers.
#[derive(Clone, Debug)]
pub struct TurnRecord {
    /// The message.
    pub inbound: Inbound,
    /// How far it is.
    pub state: TurnState,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Why, where it did not complete.
    pub code: Option<Code>,
    /// When its state last changed.
    pub changed: Timestamp,
}

/// A tool call that is about to be made. It is durable before the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallStart {
    /// The model's id of the call; unique within the turn.
    pub call: String,
    /// The tool.
    pub tool: ToolName,
    /// What it can change.
    pub effect: Effect,
    /// The receipt that cleared it.
    pub receipt: EventId,
    /// When.
    pub at: Timestamp,
}

/// A tool call that came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallEnd {
    /// The model's id of the call.
    pub call: String,
    /// Whether the tool did what it was asked.
    pub ok: bool,
    /// When.
    pub at: Timestamp,
}

/// A tool call as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCallRecord {
    /// How it began.
    pub start: CallStart,
    /// How it ended; absent while it is under way, or when the gateway died during it.
    pub end: Option<CallEnd>,
}

impl ToolCallRecord {
    /// Whether it may have changed something that nobody knows about: it began, has an effect, and never came back.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.end.is_none() && self.start.effect != Effect::None
    }
}

/// A turn that was not over when the gateway stopped, with all that it did.
#[derive(Clone, Debug)]
pub struct Unfinished {
    /// The turn.
    pub turn: TurnRecord,
    /// Its tool calls, in order.
    pub calls: Vec<ToolCallRecord>,
}

impl Unfinished {
    /// Whether it may go on. A call in doubt is never repeated: such a turn ends *interrupted*.
    #[must_use]
    pub fn may_go_on(&self) -> bool {
        !self.calls.iter().any(ToolCallRecord::is_in_doubt)
    }
}

/// How a turn ends. State, last messages and reply are kept in one step, or not at all.
#[derive(Clone, Debug)]
pub struct TurnEnd {
    /// How.
    pub outcome: Outcome,
    /// Why, where it did not complete.
    pub code: Option<Code>,
    /// Messages to add to the transcript.
    pub messages: Vec<NewMessage>,
    /// The reply to deliver, if there is one.
    pub reply: Option<NewReply>,
    /// When.
    pub at: Timestamp,
}

/// A reply to put into the outbox.
#[derive(Clone, Debug)]
pub struct NewReply {
    /// The channel that delivers it.
    pub channel: ChannelRef,
    /// The words. They are cleared anew whenever they are sent.
    pub content: Untrusted<String>,
    /// Their label.
    pub label: Label,
}

/// A reply in the outbox. There is one for a turn at most, so the turn is its idempotency key.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The turn that it answers.
    pub turn: TurnId,
    /// The turn's session.
    pub session: SessionId,
    /// The channel that delivers it.
    pub channel: ChannelRef,
    /// The words.
    pub content: Untrusted<String>,
    /// Their label.
    pub label: Label,
    /// When it was written.
    pub at: Timestamp,
    /// When the channel took it.
    pub sent: Option<Timestamp>,
}

/// A question for a human.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewApproval {
    /// Its name.
    pub id: ApprovalId,
    /// The turn that waits.
    pub turn: TurnId,
    /// The frozen plan as JSON, exactly the bytes that the digest is of.
    pub plan: String,
    /// The plan's digest, which an answer must name.
    pub digest: Digest,
    /// The session's label when it was asked.
    pub label: Label,
    /// When it was asked.
    pub at: Timestamp,
    /// After this moment the answer is no.
    pub expires: Timestamp,
}

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// It waits.
    Pending,
    /// Yes.
    Approved,
    /// No.
    Denied,
    /// Nobody answered in time, or the turn is over: no.
    Expired,
}

/// A human's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The plan that was looked at.
    pub digest: Digest,
    /// Yes or no.
    pub approved: bool,
    /// Who answered.
    pub by: Principal,
    /// When.
    pub at: Timestamp,
}

/// A question as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalRecord {
    /// The question.
    pub asked: NewApproval,
    /// The session that waits.
    pub session: SessionId,
    /// What became of it.
    pub state: ApprovalState,
    /// Who answered.
    pub by: Option<Principal>,
    /// When it was answered or expired.
    pub resolved: Option<Timestamp>,
}
