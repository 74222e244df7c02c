//! The border of Sigil.
//!
//! Bytes come in [`Untrusted`](sigil_types::Untrusted). Only the [`Gate`] turns them into [`Cleared`]. Every way out takes
//! `Cleared` and nothing else, and only a [`Door`] can use a way out.
//!
//! Read `cleared.rs`, `gate.rs` and `port.rs`, in this order.

mod assemble;
mod body;
mod cache;
mod cleared;
mod core;
mod door;
mod gate;
mod held;
mod hop;
mod links;
pub mod port;
mod prompt;
mod refused;
mod screen;
mod session;
mod stream;

pub use body::{ChannelBody, ChannelDraft, MemoryDraft, MemoryRow, PluginDraft, PluginMessage, ToolCall, ToolDraft};
pub use cleared::Cleared;
pub use door::{Door, ModelAnswer, ToolOutcome};
pub use gate::{Gate, GateParts, Verdict};
pub use held::{Answer, Held, Plan};
pub use hop::{Destination, Hop, ToChannel, ToMemory, ToPlugin, ToProvider, ToTool};
pub use prompt::{
    Message, PastCall, Prompt, PromptDraft, ProviderBody, Purpose, RawRequest, SegmentDraft, ToolDefinition,
};
pub use refused::{REFUSAL_FOR_MODELS, Refused, WITHHELD_RESULT};
pub use session::{Session, SessionContext};
pub use stream::{ClearedStream, Piece, Stopped, StreamVerdict};
