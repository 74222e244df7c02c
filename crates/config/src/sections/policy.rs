//! Section `policy`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the signed policy lies. Naming another file widens nothing: it must be signed by a key that the launcher already
/// trusts, and may not be older than the one last seen. The trusted keys themselves are not configurable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PolicySettings {
    /// The signed bundle. Without it: `policy.dsse` in the configuration folder.
    pub bundle: Option<PathBuf>,
}
