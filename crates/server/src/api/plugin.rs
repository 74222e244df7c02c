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
    /// What it uses, where it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<PluginUse>,
}

/// What a running plugin uses, all its processes together; nothing where this machine cannot tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PluginUse {
    /// Memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Processor time since its start, in microseconds.
    pub cpu_micros: Option<u64>,
    /// Hundredths of percent of the last ten seconds in which it waited for memory.
    pub memory_pressure: Option<u32>,
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
