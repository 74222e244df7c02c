//! Section `providers`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sigil_types::ProviderName;

/// A reference to a secret, never the secret: `env:NAME`, `file:/path`, `secret:name` (the vault) or `keyring:name`.
///
/// The vault parses and resolves it; a value of any other form is refused when the configuration is read, and is not
/// repeated in the refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct SecretRefText(#[schemars(extend("format" = "secret-ref"))] pub String);

/// What a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    /// The Anthropic Messages API.
    Anthropic,
    /// The OpenAI chat completions API, or anything that speaks it.
    Openai,
    /// The built-in script reader of the demo. Refused outside a data folder that the demo made.
    Rehearsal,
}

impl ProviderKind {
    /// Where this kind is found when no address is configured.
    #[must_use]
    pub const fn default_base_url(self) -> Option<&'static str> {
        match self {
            Self::Anthropic => Some("https://api.anthropic.com"),
            Self::Openai => Some("https://api.openai.com/v1"),
            Self::Rehearsal => None,
        }
    }
}

/// One model provider. Whether it may be reached at all is for the signed policy to say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderSettings {
    /// Its name, which the signed policy binds to an endpoint.
    #[schemars(with = "String", extend("format" = "name"))]
    pub name: ProviderName,
    /// What it speaks.
    pub kind: ProviderKind,
    /// Base URL, with or without `/v1`. Without it: the vendor's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "http-url"))]
    pub base_url: Option<String>,
    /// Models, the first being the default.
    #[schemars(length(min = 1), inner(length(min = 1, max = 200)))]
    pub models: Vec<String>,
    /// Where the key is found. Without it no key is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "secret-ref"))]
    pub api_key: Option<SecretRefText>,
    /// Time for a connection and the first event of an answer, in milliseconds.
    #[serde(default = "first_event_timeout_ms")]
    #[schemars(range(min = 100, max = 600_000))]
    pub first_event_timeout_ms: u64,
}

const fn first_event_timeout_ms() -> u64 {
    60_000
}
