//! The sections of `sigil.yaml`, one file each.
//!
//! Every field documents itself: the comments here are the descriptions in the published schema. Sizes are in bytes and
//! times in the unit that the key names, so that no value needs a unit parser.

mod agent;
mod forms;
mod gateway;
mod log;
mod plugins;
mod policy;
mod provider;
mod workspace;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sigil_types::WorkspaceId;

pub use agent::AgentSettings;
pub use gateway::{GatewayLimits, GatewaySettings};
pub use log::{LogFormat, LogLevel, LogSettings};
pub use plugins::{PluginSettings, PluginsSettings};
pub use policy::PolicySettings;
pub use provider::{ProviderKind, ProviderSettings, SecretRefText};
pub use workspace::WorkspaceSettings;

/// All of `sigil.yaml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where the gateway keeps its data and listens.
    pub gateway: GatewaySettings,
    /// Where the signed policy lies.
    pub policy: PolicySettings,
    /// Model providers, in the order in which they are tried.
    pub providers: Vec<ProviderSettings>,
    /// Workspaces by name. An unknown workspace has no tools.
    #[schemars(with = "BTreeMap<String, WorkspaceSettings>", extend("propertyNames" = {"format": "name"}))]
    pub workspaces: BTreeMap<WorkspaceId, WorkspaceSettings>,
    /// Limits of the agent's turns.
    pub agent: AgentSettings,
    /// Which plugins run, and with what configuration.
    pub plugins: PluginsSettings,
    /// What is logged, and how.
    pub log: LogSettings,
}
