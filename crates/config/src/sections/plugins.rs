//! Section `plugins`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sigil_types::{Name, PluginName, WorkspaceId};

use super::forms::NameForm;

/// Which plugins run, and with what configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PluginsSettings {
    /// Folders in which plugins are looked up, before the installed ones.
    pub dirs: Vec<PathBuf>,
    /// The control group of version 2 below which each plugin gets one of its own, such as
    /// `/sys/fs/cgroup/system.slice/sigil.service`. Without it: the one that Sigil runs in.
    pub cgroup: Option<PathBuf>,
    /// Plugins that are started. A plugin that is not named here does not run.
    #[schemars(with = "Vec<NameForm>")]
    pub enabled: BTreeSet<PluginName>,
    /// Configuration of plugins by name.
    #[schemars(with = "BTreeMap<String, PluginSettings>", extend("propertyNames" = {"format": "name"}))]
    pub settings: BTreeMap<PluginName, PluginSettings>,
}

/// Configuration of one plugin.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PluginSettings {
    /// Workspaces in which it runs, one instance in each. Without any: in all of them.
    #[schemars(with = "Vec<NameForm>")]
    pub workspaces: BTreeSet<WorkspaceId>,
    /// Parameters of its sandbox profile, such as which of the folders that signed policy offers it gets.
    pub params: BTreeMap<String, String>,
    /// What the plugin is given when it starts, checked against its manifest's schema.
    pub config: BTreeMap<String, serde_json::Value>,
    /// Secrets of its schema, and the secrets of the vault that they stand for. The plugin gets a stand-in for each, which
    /// the egress proxy replaces in requests to the hosts that the secret is for.
    #[schemars(with = "BTreeMap<String, NameForm>")]
    pub credentials: BTreeMap<String, Name>,
}
