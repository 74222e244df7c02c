//! What a plugin was refused.

use serde::{Deserialize, Serialize};
use sigil_types::{PluginName, Timestamp};
use utoipa::ToSchema;

/// What a plugin was refused, the most frequent first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Denials {
    /// The plugin.
    #[schema(value_type = String)]
    pub plugin: PluginName,
    /// What it was refused.
    pub items: Vec<Denial>,
    /// Refusals that were only counted, as there were too many different ones.
    pub not_kept: u64,
    /// What is not recorded on this machine, if anything: nothing below says that it did not happen.
    pub gaps: Vec<String>,
    /// All proposals together, as a part of `plugin.yaml`.
    pub manifest: Option<String>,
    /// All proposals together, as a part of `ceilings.toml`, which is to be signed.
    pub policy: Option<String>,
}

/// One thing that was refused, as often as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Denial {
    /// What.
    pub what: String,
    /// Why, naming the rule.
    pub why: String,
    /// The layer that refused it.
    pub layer: String,
    /// `exact`, or `hint` where the plugin's own words were matched with its rules.
    pub evidence: String,
    /// How often.
    pub count: u64,
    /// When first.
    #[schema(value_type = String)]
    pub first: Timestamp,
    /// When last.
    #[schema(value_type = String)]
    pub last: Timestamp,
    /// The narrowest grant that would change it. Nothing applies it but a manifest that asks and a policy that is signed.
    pub proposal: Option<Proposal>,
    /// Why there is none.
    pub never: Option<String>,
}

/// A grant, in words and as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Proposal {
    /// For people.
    pub words: String,
    /// As options of `sigil sandbox run`, in the words of a shell.
    pub options: String,
    /// As a part of `plugin.yaml`.
    pub manifest: Option<String>,
    /// As a part of `ceilings.toml`.
    pub policy: Option<String>,
}
