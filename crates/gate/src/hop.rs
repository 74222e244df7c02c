//! The ways out, as types. The trait is sealed: another crate cannot add one.

use sigil_types::{ProviderName, Stage, ToolName};

use crate::assemble::{self, Blocked, Surroundings};
use crate::body::{ChannelBody, ChannelDraft, MemoryDraft, MemoryRow, PluginDraft, PluginMessage, ToolCall, ToolDraft};
use crate::prompt::{PromptDraft, ProviderBody};
use crate::screen::Screening;

mod sealed {
    pub trait Sealed {}
}

/// A way out of the core.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a way out of the core",
    note = "the gate's own `ToProvider`, `ToTool`, `ToChannel`, `ToMemory` and `ToPlugin` are the only ones"
)]
pub trait Hop: sealed::Sealed + Send + Sync + 'static {
    /// What is asked for.
    type Draft: Send;
    /// What the port receives.
    type Body: Send + std::fmt::Debug;
    /// The port's handle that a door for this hop holds.
    type Port: ?Sized + Send + Sync;
    /// The stage at which the draft's own text is scanned.
    const STAGE: Stage;
    /// The word for it in policy and audit.
    const WORD: sigil_types::Hop;

    /// Screens the draft and makes the body. Nobody outside can call it: nobody outside can make a `Screening`.
    #[doc(hidden)]
    fn assemble(
        draft: Self::Draft,
        screening: &mut Screening<'_>,
        around: &Surroundings<'_>,
    ) -> Result<Self::Body, Blocked>;

    /// The body's own text, for the log's reference and the approval card.
    #[doc(hidden)]
    fn content(body: &Self::Body) -> std::borrow::Cow<'_, str>;
}

macro_rules! hop {
    ($(#[$doc:meta])* $name:ident: $draft:ty => $body:ty, $port:path, $stage:ident, $assemble:expr, $content:expr) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $name {}

        impl sealed::Sealed for $name {}

        impl Hop for $name {
            type Draft = $draft;
            type Body = $body;
            type Port = dyn $port;
            const STAGE: Stage = Stage::$stage;
            const WORD: sigil_types::Hop = sigil_types::Hop::$name;

            fn assemble(
                draft: $draft,
                screening: &mut Screening<'_>,
                around: &Surroundings<'_>,
            ) -> Result<$body, Blocked> {
                let assemble: fn($draft, &mut Screening<'_>, &Surroundings<'_>) -> Result<$body, Blocked> = $assemble;
                assemble(draft, screening, around)
            }

            fn content(body: &$body) -> std::borrow::Cow<'_, str> {
                let content: fn(&$body) -> std::borrow::Cow<'_, str> = $content;
                content(body)
            }
        }
    };
}

hop!(/** To a model provider. */ ToProvider: PromptDraft => ProviderBody, crate::port::Provider, Input,
    assemble::prompt, assemble::prompt_text);
hop!(/** To a tool. */ ToTool: ToolDraft => ToolCall, crate::port::Tool, Arguments,
    |draft, screening, _| assemble::tool_call(draft, screening), |body| body.arguments.as_str().into());
hop!(/** To people, through a channel. */ ToChannel: ChannelDraft => ChannelBody, crate::port::Channel, Output,
    |draft, screening, _| assemble::channel_message(draft, screening), |body| body.text().into());
hop!(/** Into memory. */ ToMemory: MemoryDraft => MemoryRow, crate::port::Memory, Memory,
    |draft, screening, _| assemble::memory_row(draft, screening), |body| body.text.as_str().into());
hop!(/** To a plugin that is not a tool call. */ ToPlugin: PluginDraft => PluginMessage, crate::port::Plugin, Arguments,
    |draft, screening, _| assemble::plugin_message(draft, screening), |body| body.content.as_str().into());

/// Where a permit leads: one destination of one hop.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// A provider.
    Provider(ProviderName),
    /// A tool.
    Tool(ToolName),
    /// A channel instance.
    Channel(sigil_types::ChannelRef),
    /// The memory of a workspace.
    Memory(sigil_types::WorkspaceId),
    /// A plugin instance.
    Plugin(sigil_types::InstanceId),
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Provider(name) => write!(f, "provider:{name}"),
            Self::Tool(name) => write!(f, "tool:{name}"),
            Self::Channel(name) => write!(f, "channel:{name}"),
            Self::Memory(name) => write!(f, "memory:{name}"),
            Self::Plugin(id) => write!(f, "plugin:{id}"),
        }
    }
}

impl Destination {
    /// Its id without the kind.
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Self::Provider(name) => name.to_string(),
            Self::Tool(name) => name.to_string(),
            Self::Channel(name) => name.to_string(),
            Self::Memory(name) => name.to_string(),
            Self::Plugin(id) => id.to_string(),
        }
    }
}
