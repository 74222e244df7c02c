//! The ports: what stands behind the doors. A port is implemented elsewhere (a provider's adapter, the plugin host, a
//! channel, memory) and is called by a [`Door`](crate::Door) only.
//!
//! Every method takes two proofs: the [`Cleared`] value, which only the gate makes, and a [`Pass`], which only a door
//! makes. What comes back from a port is `Untrusted` again, whoever implements it.

use std::pin::Pin;

use futures_util::stream::BoxStream;
use sigil_types::{Code, ProviderName, ToolFacts, ToolName, Untrusted, Usage};

use crate::hop::{ToChannel, ToMemory, ToPlugin, ToProvider, ToTool};
use crate::{Cleared, ToolDefinition};

/// A future that can be sent between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Proof that a door has compared the permit. Only a [`Door`](crate::Door) makes one, for one delivery.
#[derive(Debug)]
pub struct Pass {
    pub(crate) _made_by_a_door: (),
}

/// Why a port could not do what was cleared. Sigil's own words: what an upstream said goes to the audit log only.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message} ({code})")]
pub struct PortFailed {
    /// What went wrong, stable.
    pub code: Code,
    /// What went wrong, for people; never text from outside.
    pub message: String,
    /// Whether nothing has reached the other side yet, or repeating is harmless: another destination may be tried.
    pub retryable: bool,
    /// What the other side said, for the audit log.
    pub detail: Option<Untrusted<String>>,
}

/// Why a model stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// It had said what it wanted to say.
    End,
    /// It wants tools to be called.
    ToolCalls,
    /// It reached its output limit.
    Length,
    /// Its vendor withheld the rest.
    Filtered,
}

/// One event of a model's answer, in order. A stream that ends without [`ModelEvent::Stop`] has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelEvent {
    /// A piece of text.
    Text(String),
    /// A whole tool call. Streams of argument fragments are joined before they get here.
    ToolCall {
        /// The id with which the model expects the result.
        id: String,
        /// The tool as the model named it (`plugin__tool`), already turned back, or the text that could not be.
        tool: Result<ToolName, String>,
        /// The arguments as JSON text, unparsed.
        arguments: String,
    },
    /// Tokens used by this call.
    Usage(Usage),
    /// The regular end.
    Stop(StopReason),
}

/// A model's answer as it comes.
pub type ModelEvents = BoxStream<'static, Result<Untrusted<ModelEvent>, PortFailed>>;

/// A model provider.
pub trait Provider: Send + Sync {
    /// Its name in the configuration.
    fn name(&self) -> &ProviderName;

    /// Sends a prompt and streams the answer.
    ///
    /// The outer error is a failure before the first event, when another provider may be tried; an `Err` item in the
    /// stream ends it.
    fn chat(&self, prompt: Cleared<ToProvider>, pass: Pass) -> BoxFuture<'_, Result<ModelEvents, PortFailed>>;
}

/// What a tool answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolAnswer {
    /// Whether the tool did what it was asked.
    pub ok: bool,
    /// Its result, or why not; possibly truncated.
    pub content: String,
    /// Size of the whole result in bytes, before truncation.
    pub bytes: u64,
}

impl AsRef<[u8]> for ToolAnswer {
    fn as_ref(&self) -> &[u8] {
        self.content.as_bytes()
    }
}

/// A tool of a running plugin.
pub trait Tool: Send + Sync {
    /// Its full name.
    fn name(&self) -> &ToolName;

    /// What the model is told about it.
    fn definition(&self) -> &ToolDefinition;

    /// Its label facts, from the enforced profile of the instance behind it.
    fn facts(&self) -> &ToolFacts;

    /// What its manifest asks for, less what it denies itself.
    fn capabilities(&self) -> &sigil_types::CapabilitySet;

    /// Calls it. Time-outs, caps and restarts are the implementer's.
    fn call(&self, call: Cleared<ToTool>, pass: Pass) -> BoxFuture<'_, Result<Untrusted<ToolAnswer>, PortFailed>>;
}

/// A channel: people on the other side.
pub trait Channel: Send + Sync {
    /// Sends a message or the next piece of one.
    fn send(&self, message: Cleared<ToChannel>, pass: Pass) -> BoxFuture<'_, Result<(), PortFailed>>;
}

/// A workspace's memory.
pub trait Memory: Send + Sync {
    /// Stores a row with its label.
    fn put(&self, row: Cleared<ToMemory>, pass: Pass) -> BoxFuture<'_, Result<(), PortFailed>>;
}

/// A plugin, spoken to outside a tool call: its configuration, the answers of host services.
pub trait Plugin: Send + Sync {
    /// Hands it over.
    fn hand(&self, message: Cleared<ToPlugin>, pass: Pass) -> BoxFuture<'_, Result<(), PortFailed>>;
}

/// What a model call may cost, asked before the call and told after it.
pub trait Budget: Send + Sync {
    /// Whether `session` may make another model call of about `tokens` prompt tokens.
    ///
    /// # Errors
    /// The limit that is reached, in words for the user.
    fn admit(&self, session: &crate::Session, tokens: u64) -> Result<(), OverBudget>;

    /// Records what a call used.
    fn spent(&self, session: &crate::Session, usage: Usage);
}

/// A budget is used up.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{limit}")]
pub struct OverBudget {
    /// Which limit, how much of it, and when it resets.
    pub limit: String,
}
