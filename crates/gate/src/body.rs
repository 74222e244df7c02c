//! Drafts and bodies of the hops other than the prompt.

use sigil_types::{ApprovalId, Label, ToolName, TurnId, Untrusted};

/// A tool call to be cleared. Which tool it is for, the door says.
#[derive(Debug)]
pub struct ToolDraft {
    /// The model's id of the call.
    pub call: String,
    /// The turn that it belongs to.
    pub turn: TurnId,
    /// The arguments as JSON text; validated against the tool's schema before they get here.
    pub arguments: Untrusted<String>,
}

/// A cleared tool call.
#[derive(Debug)]
#[non_exhaustive]
pub struct ToolCall {
    /// The model's id of the call.
    pub call: String,
    /// The turn that it belongs to.
    pub turn: TurnId,
    /// The tool.
    pub tool: ToolName,
    /// The arguments as JSON text.
    pub arguments: String,
}

/// A message to people, to be cleared.
#[derive(Debug)]
pub struct ChannelDraft {
    /// The turn that it belongs to.
    pub turn: TurnId,
    /// The text.
    pub text: Untrusted<String>,
}

/// What a channel receives.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChannelBody {
    /// A whole message.
    Message {
        /// The turn that it belongs to.
        turn: TurnId,
        /// The text.
        text: String,
    },
    /// The next piece of a streamed message.
    Delta {
        /// The turn that it belongs to.
        turn: TurnId,
        /// The piece.
        text: String,
    },
    /// A question to the owner.
    Approval {
        /// The turn that waits.
        turn: TurnId,
        /// The question.
        approval: ApprovalId,
        /// What wants to do what, and why it is asked.
        text: String,
    },
}

impl ChannelBody {
    /// Its text.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Message { text, .. } | Self::Delta { text, .. } | Self::Approval { text, .. } => text,
        }
    }
}

/// Something to be remembered, to be cleared.
#[derive(Debug)]
pub struct MemoryDraft {
    /// The text.
    pub text: Untrusted<String>,
    /// Labels of what it was made from; the row's label is their join with the session's.
    pub inputs: Vec<Label>,
}

/// A cleared memory row.
#[derive(Debug)]
#[non_exhaustive]
pub struct MemoryRow {
    /// The text.
    pub text: String,
    /// Its label, stored with it.
    pub label: Label,
}

/// A message to a plugin, to be cleared.
#[derive(Debug)]
pub struct PluginDraft {
    /// What kind of message, in the plugin protocol's words.
    pub kind: &'static str,
    /// Its content as JSON text.
    pub content: Untrusted<String>,
}

/// A cleared message to a plugin.
#[derive(Debug)]
#[non_exhaustive]
pub struct PluginMessage {
    /// What kind of message.
    pub kind: &'static str,
    /// Its content as JSON text.
    pub content: String,
}
