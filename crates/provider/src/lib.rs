//! Model providers behind the gate's port `Provider`.
//!
//! [`HttpProvider`] speaks the Anthropic Messages or the OpenAI chat completions API through egress, which alone can reach a
//! network. [`Rehearsal`] reads a script instead of thinking, for the demo and for tests. [`Health`] orders providers and
//! leaves out those that are down; another one is tried only before the first event of an answer, and what it is sent is
//! cleared for it anew.
//!
//! What an upstream says about itself (errors, headers) reaches nobody but the audit log: models and people get Sigil's own
//! words and a stable code.

mod base_url;
mod failed;
mod health;
mod http;
mod rehearsal;
pub mod sse;
mod tool_name;
pub mod wire;

pub use base_url::{BaseUrl, ParseBaseUrlError};
pub use failed::{Cause, ChatFailed};
pub use health::Health;
pub use http::{HttpProvider, HttpProviderSettings};
pub use rehearsal::{Rehearsal, RehearsalRefused};
pub use tool_name::{from_wire, to_wire};
