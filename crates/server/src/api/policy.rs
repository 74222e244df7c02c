//! The signed policy and the sandbox.

use serde::{Deserialize, Serialize};
use sigil_types::{Digest, Timestamp};
use utoipa::ToSchema;

/// Who signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Signer {
    /// The key's name in the trust document.
    pub key: String,
}

/// The signed policy in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Policy {
    /// Its version; only rises.
    pub version: u64,
    /// Its digest.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// Since when it holds.
    #[schema(value_type = String, format = DateTime)]
    pub not_before: Timestamp,
    /// When it ends.
    #[schema(value_type = String, format = DateTime)]
    pub expires: Timestamp,
    /// Who signed it.
    pub signers: Vec<Signer>,
    /// Its ceilings, as in `ceilings.toml`.
    pub ceilings: serde_json::Value,
    /// Whether only the least is allowed, since the policy ran out.
    pub restricted: bool,
}

/// A layer of the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// Whether it is applied.
    pub applied: bool,
    /// What it does, or why it is missing.
    pub detail: String,
}

/// The sandbox of this host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Sandbox {
    /// `standard`, `strict`, `reduced`, or `none`.
    pub posture: String,
    /// Its layers.
    pub layers: Vec<Layer>,
    /// The result of the last battery, where one was run: attempts, held, accepted, open.
    pub battery: Option<serde_json::Value>,
}
