//! The transcript of a session.

use serde::{Deserialize, Serialize};
use sigil_types::{Label, SessionId, Timestamp, TurnId, Untrusted};

/// Who said a message. The system prompt is not among them: it is configuration, never history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageRole {
    /// A person.
    User,
    /// The model.
    Assistant,
    /// A tool.
    Tool,
}

/// What a message is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "part", rename_all = "snake_case")]
pub enum Part {
    /// Something said.
    Text,
    /// A call that the model asked for; the content is its arguments as JSON text, exactly as the model gave them.
    ToolCall {
        /// The model's id of the call.
        call: String,
        /// The tool as the model named it.
        tool: String,
    },
    /// What came back; the content is the result.
    ToolResult {
        /// The model's id of the call.
        call: String,
        /// The tool as the model named it.
        tool: String,
        /// Whether the tool did what it was asked.
        ok: bool,
    },
}

/// A message to keep.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// The turn that it belongs to.
    pub turn: Option<TurnId>,
    /// Who said it.
    pub role: MessageRole,
    /// What it is.
    pub part: Part,
    /// The words, kept exactly, with where they came from.
    pub content: Untrusted<String>,
    /// Who influenced them, and who may read them.
    pub label: Label,
    /// When.
    pub at: Timestamp,
}

/// A message that is kept.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its place in the session, counted from one, without gaps.
    pub seq: u64,
    /// The session.
    pub session: SessionId,
    /// The turn that it belongs to.
    pub turn: Option<TurnId>,
    /// Who said it.
    pub role: MessageRole,
    /// What it is.
    pub part: Part,
    /// The words, exactly as they were given.
    pub content: Untrusted<String>,
    /// Who influenced them, and who may read them.
    pub label: Label,
    /// When.
    pub at: Timestamp,
}
