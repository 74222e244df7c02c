//! Plugins.

use serde::{Deserialize, Serialize};
use sigil_types::{Digest, PluginName, ToolFacts, ToolName};
use utoipa::ToSchema;

/// What a plugin is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PluginState {
    /// Known, and not started.
    Stopped,
    /// Being launched.
    Starting,
    /// Answers.
    Running,
    /// Crashed; will be started again.
    Restarting,
    /// Refused, or given up on after crashes.
    Failed,
}

/// A plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Plugin {
    /// Its name.
    #[schema(value_type = String)]
    pub name: PluginName,
    /// Its version (semver).
    pub version: String,
    /// `tool`, `channel`, `provider` or `skill`.
    pub kind: String,
    /// What it is doing.
    pub state: PluginState,
    /// Why, where it does not run.
    pub detail: Option<String>,
}

/// A tool of a plugin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PluginTool {
    /// Its full name.
    #[schema(value_type = String)]
    pub name: ToolName,
    /// What the plugin says that it does. Untrusted words, for reading only.
    pub description: String,
    /// Its label facts, from the enforced profile.
    #[schema(value_type = Object)]
    pub facts: ToolFacts,
}

/// A plugin with its tools and its sandbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PluginDetail {
    /// The plugin.
    #[serde(flatten)]
    pub plugin: Plugin,
    /// Digest of its tree.
    #[schema(value_type = Option<String>)]
    pub tree: Option<Digest>,
    /// Its tools.
    pub tools: Vec<PluginTool>,
    /// The layers that its running instances have, from the launch receipt.
    pub layers: Vec<super::Layer>,
    /// The effective rules and where each comes from, as text for people.
    pub explanation: Option<String>,
}
