//! The prompt: typed segments in, typed messages out.
//!
//! There is no way to hand in system text: the [`System`](SegmentDraft::System) segment has no content of its own, the
//! gate fills it from the signed bundle. Every other segment carries the label of what it says.

use sigil_types::{Label, ProviderName, ToolName, Untrusted};

/// What a model is told about a tool.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolDefinition {
    /// Its name.
    pub name: ToolName,
    /// What it does, in the plugin author's words.
    pub description: String,
    /// The JSON Schema of its arguments.
    pub schema: serde_json::Value,
}

/// A tool call that the model made earlier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastCall {
    /// The model's id for it.
    pub id: String,
    /// The tool.
    pub tool: ToolName,
    /// The arguments, as JSON text.
    pub arguments: String,
}

/// What a model call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A conversation.
    Chat,
    /// A summary of older messages.
    Compact,
    /// An opinion about content.
    Judge,
    /// A vector.
    Embed,
}

/// One segment of a prompt to be cleared.
#[derive(Debug)]
pub enum SegmentDraft {
    /// The signed system text. The gate fills it in.
    System,
    /// What a person wrote.
    User {
        /// The text.
        text: Untrusted<String>,
        /// Its label.
        label: Label,
        /// Whether this is the message that the turn answers; refusing it refuses the turn.
        current: bool,
    },
    /// What the model said earlier.
    Assistant {
        /// The text; may be empty beside calls.
        text: Untrusted<String>,
        /// The calls that it made.
        calls: Vec<PastCall>,
        /// Its label.
        label: Label,
    },
    /// What a tool answered.
    ToolResult {
        /// The model's id of the call.
        call: String,
        /// The tool.
        tool: ToolName,
        /// The answer.
        text: Untrusted<String>,
        /// Its label.
        label: Label,
    },
}

/// A prompt to be cleared.
#[derive(Debug)]
pub struct PromptDraft {
    /// The model's name at the provider.
    pub model: String,
    /// The segments, oldest first.
    pub segments: Vec<SegmentDraft>,
    /// The tools that the model may call.
    pub tools: Vec<ToolDefinition>,
    /// Sampling temperature; zero is sent as zero.
    pub temperature: Option<f32>,
    /// The most tokens that the answer may have.
    pub max_tokens: Option<u32>,
    /// What for.
    pub purpose: Purpose,
}

/// What a provider receives.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProviderBody {
    /// A prompt that Sigil built.
    Prompt(Prompt),
    /// A request of a client's own, passed through unchanged after inspection.
    Raw(RawRequest),
}

/// A request passed through as it came.
#[derive(Debug)]
#[non_exhaustive]
pub struct RawRequest {
    /// The request body.
    pub bytes: Vec<u8>,
}

/// A cleared prompt.
#[derive(Debug)]
#[non_exhaustive]
pub struct Prompt {
    /// The provider that it is for.
    pub provider: ProviderName,
    /// The model's name at the provider.
    pub model: String,
    /// The messages, oldest first; untrusted parts are between this turn's random markers.
    pub messages: Vec<Message>,
    /// The tools that the model may call.
    pub tools: Vec<ToolDefinition>,
    /// Sampling temperature; zero is sent as zero.
    pub temperature: Option<f32>,
    /// The most tokens that the answer may have.
    pub max_tokens: Option<u32>,
}

/// One message of a cleared prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Signed system text.
    System(String),
    /// A person's words.
    User(String),
    /// The model's words and calls.
    Assistant {
        /// The words; may be empty beside calls.
        text: String,
        /// The calls.
        calls: Vec<PastCall>,
    },
    /// A tool's answer.
    ToolResult {
        /// The model's id of the call.
        call: String,
        /// The tool.
        tool: ToolName,
        /// The answer, delimited.
        text: String,
    },
}
