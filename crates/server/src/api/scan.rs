//! The scanner.

use serde::{Deserialize, Serialize};
use sigil_types::{Action, Code, Digest, Origin, Stage};
use utoipa::ToSchema;

/// A text to scan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScanRequest {
    /// `input`, `tool`, `arguments`, `output` or `memory`.
    #[schema(value_type = String)]
    pub stage: Stage,
    /// Where the text comes from; `world` without it.
    #[serde(default = "world")]
    #[schema(value_type = Option<String>)]
    pub origin: Origin,
    /// The text.
    pub text: String,
}

const fn world() -> Origin {
    Origin::World
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScanFinding {
    /// The rule.
    #[schema(value_type = String)]
    pub rule: Code,
    /// Its class: `injection`, `secret`, `hidden`, `exfiltration`, …
    pub class: String,
    /// `low`, `medium`, `high` or `critical`.
    pub severity: String,
    /// First byte in the text.
    pub start: usize,
    /// First byte after it.
    pub end: usize,
}

/// What the scanner found, and what policy makes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScanReport {
    /// The strongest action of all findings.
    #[schema(value_type = String)]
    pub action: Action,
    /// What was found.
    pub findings: Vec<ScanFinding>,
    /// Version of the rules.
    #[schema(value_type = String)]
    pub rules: Digest,
}
