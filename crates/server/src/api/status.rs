//! State and health.

use serde::{Deserialize, Serialize};
use sigil_types::Timestamp;
use utoipa::ToSchema;

/// How well something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// As it should be.
    Ok,
    /// Works in part, or not for long.
    Degraded,
    /// Does not work.
    Failed,
    /// Not configured.
    Off,
}

/// A part of the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Component {
    /// Its name, such as `audit` or `provider.main`.
    pub name: String,
    /// How well it is.
    pub health: Health,
    /// One sentence.
    pub detail: String,
}

/// State of the gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Version of Sigil.
    pub version: String,
    /// Process id of the gateway.
    pub pid: u32,
    /// When it started.
    #[schema(value_type = String, format = DateTime)]
    pub started: Timestamp,
    /// Milliseconds since then.
    pub uptime_ms: u64,
    /// Whether guarded work is done.
    pub ready: bool,
    /// The worst of all parts.
    pub health: Health,
    /// Posture of the sandbox: `standard`, `strict`, `reduced`, or `none` when plugins cannot run.
    pub posture: String,
    /// Version of the signed policy in force.
    pub policy_version: Option<u64>,
    /// Turns that run.
    pub turns_running: u64,
    /// Questions that wait for a human.
    pub approvals_pending: u64,
    /// Entries of the audit log.
    pub audit_size: u64,
    /// Parts.
    pub components: Vec<Component>,
}
