//! [`TurnEvent`]: what a turn tells those who watch it.

use serde::{Deserialize, Serialize};

use crate::{ApprovalId, Code, EventId, Hop, SessionId, Timestamp, ToolName, TurnId};

/// Tokens that a model call used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
}

/// The three answers of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictKind {
    /// It went through.
    Cleared,
    /// A human decides.
    Held,
    /// It did not go through.
    Refused,
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Answered.
    Completed,
    /// Refused by the gate.
    Refused,
    /// Stopped by its owner, or by a limit.
    Stopped,
    /// A tool call with an effect was under way when the gateway died; it is not repeated.
    Interrupted,
    /// Something broke.
    Failed,
}

/// One thing that happened in a turn. The server adds sequence number and envelope.
///
/// INVARIANT: every text in here was cleared for this turn's channel, or is Sigil's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum TurnEvent {
    /// The message is durable and will be answered.
    Accepted {
        /// The turn that answers it.
        turn: TurnId,
        /// The session that it belongs to.
        session: SessionId,
    },
    /// The gate decided.
    Verdict {
        /// On which way out.
        hop: Hop,
        /// What.
        verdict: VerdictKind,
        /// The audit entry that says why.
        receipt: EventId,
        /// The deciding rules, strongest first; empty when nothing was found.
        rules: Vec<Code>,
    },
    /// The model said this. Append it to what it said before.
    Text {
        /// The next piece of text.
        delta: String,
    },
    /// The model calls a tool.
    ToolCall {
        /// Joins the call with its result.
        call: String,
        /// Which tool.
        tool: ToolName,
        /// The cleared arguments as JSON, where this channel's audience may see them.
        arguments: Option<String>,
        /// The receipt of the call.
        receipt: EventId,
    },
    /// A tool answered.
    ToolResult {
        /// Joins the result with its call.
        call: String,
        /// Which tool.
        tool: ToolName,
        /// Whether the tool did what it was asked.
        ok: bool,
        /// Size of the result in bytes, before truncation.
        bytes: u64,
        /// What the scanner found in it.
        rules: Vec<Code>,
    },
    /// A human is asked.
    ApprovalRequested {
        /// The question.
        approval: ApprovalId,
        /// One sentence: what wants to do what, and why it is asked.
        summary: String,
        /// Who has influenced this turn so far.
        authors: Vec<String>,
        /// The question is withdrawn, and counts as denied, after this moment.
        expires: Timestamp,
    },
    /// A human answered, or the time ran out.
    ApprovalResolved {
        /// The question.
        approval: ApprovalId,
        /// The answer.
        approved: bool,
    },
    /// Tokens used so far in this turn.
    Usage(Usage),
    /// The turn is over; nothing follows.
    Finished {
        /// How it ended.
        outcome: Outcome,
        /// Why, where it did not complete.
        code: Option<Code>,
        /// What a person may do about it.
        message: Option<String>,
    },
}
