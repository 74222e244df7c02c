//! Section `workspaces`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sigil_types::{CapabilitySet, ProviderName, UserId};

use super::forms::{NameForm, PatternForm};

/// One workspace. It starts with nothing; what it allows is cut down further by manifest, user and signed policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WorkspaceSettings {
    /// Capabilities that this workspace grants, and those that it denies whatever grants them.
    #[schemars(with = "CapabilitySetSchema")]
    pub capabilities: CapabilitySet,
    /// People who may speak in it, besides the owner.
    #[schemars(with = "Vec<NameForm>")]
    pub members: Vec<UserId>,
    /// Provider that is tried first. Without it: the first of `providers`.
    #[schemars(with = "Option<String>", extend("format" = "name"))]
    pub provider: Option<ProviderName>,
    /// Model. Without it: the first of the provider's.
    #[schemars(length(min = 1, max = 200))]
    pub model: Option<String>,
}

/// The written form of a capability set.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Capabilities")]
#[expect(dead_code, reason = "only its schema is used")]
struct CapabilitySetSchema {
    /// Patterns of what is granted, such as `tool.files.*`.
    #[serde(default)]
    allow: Vec<PatternForm>,
    /// Patterns of what is denied, whatever grants it.
    #[serde(default)]
    deny: Vec<PatternForm>,
}
