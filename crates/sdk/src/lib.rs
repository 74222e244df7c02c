//! What the author of a Sigil plugin imports.
//!
//! ```no_run
//! use sigil_sdk::{Context, Plugin, Reply, Tool, ToolFailed};
//!
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Greet {
//!     name: String,
//! }
//!
//! fn greet(_: &Context, arguments: Greet) -> Result<Reply, ToolFailed> {
//!     Ok(Reply::text(format!("Hello, {}!", arguments.name)))
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     let schema = serde_json::json!({
//!         "type": "object",
//!         "properties": { "name": { "type": "string", "description": "Whom to greet." } },
//!         "required": ["name"],
//!         "additionalProperties": false,
//!     });
//!     Plugin::new("hello", env!("CARGO_PKG_VERSION"))
//!         .tool(Tool::new("greet", "Greets somebody.", schema, greet))
//!         .serve()
//! }
//! ```
//!
//! The plugin needs a `plugin.yaml` beside it, which says what it asks for. It runs in a kernel sandbox: a file that was
//! not granted does not exist, and the only network is the proxy that [`http`] speaks to.

mod context;
pub mod http;
mod plugin;
mod serve;
mod tool;

pub use context::{Context, Folder};
pub use plugin::{Plugin, ServeFailed};
pub use tool::{Reply, Tool, ToolFailed};
