//! Configuration: from flags, environment, `sigil.yaml` and defaults to [`Resolved`] settings whose invariants hold.
//!
//! ```text
//! defaults < sigil.yaml < SIGIL_<SECTION>__<KEY> < flags      one value, merged by figment
//!        └──────────► validated as a whole against the schema of the types, every mistake reported
//!                            └──────────► Settings ──► Resolved (folders, sources, notes)
//! ```
//!
//! Configuration is unsigned, so nothing in here can widen a right: addresses, folders, tools and providers that it names
//! are still measured against the signed policy by whoever uses them.

mod check;
mod diff;
mod discover;
mod folders;
mod layers;
mod mistake;
mod resolved;
mod schema;
mod sections;

pub use diff::{Change, diff};
pub use discover::{FILE_NAME, Note};
pub use folders::Folders;
pub use layers::{RESERVED_NAMES, Source};
pub use mistake::{ConfigRefused, Mistake};
pub use resolved::{Inputs, Resolved, load};
pub use schema::json_schema;
pub use sections::{
    AgentSettings, GatewayLimits, GatewaySettings, LogFormat, LogLevel, LogSettings, PluginSettings, PluginsSettings,
    PolicySettings, ProviderKind, ProviderSettings, SecretRefText, Settings, WorkspaceSettings,
};
