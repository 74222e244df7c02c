//! The plugin host: installs plugins, has them launched, speaks to them, and watches over them.
//!
//! The road of a plugin: a folder with a `plugin.yaml` is copied into the [`PluginStore`] under the digest of its files;
//! signed policy endorses that digest ([`endorse`] makes the manifest [`Trusted`]); [`PluginHost::start`] has the launcher
//! start it, and speaks gRPC to it over the socket that the launcher hands out. What it offers comes out as
//! [`PluginTool`]s, which are ports of the gate: whoever wants to call one needs the gate's clearance. The gRPC clients
//! are private to this crate.

mod backoff;
mod definitions;
mod ended;
mod follow;
mod host;
mod instance;
mod keeper;
mod logs;
mod process;
mod record;
mod rpc;
mod settings;
mod store;
mod tool;
pub mod transport;
mod trusted;

pub use definitions::DefinitionsRefused;
pub use ended::EndingRefused;
pub use host::{HostParts, PluginHost, Start, StartRefused};
pub use instance::{Instance, Status, StopReason};
pub use logs::{LogLine, LogStream, Logs};
pub use process::StartFailed;
pub use store::{Installed, PluginStore, Search, StoreFailed};
pub use tool::PluginTool;
pub use trusted::{NotEndorsed, Trusted, endorse};
