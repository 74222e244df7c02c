//! [`Ceilings`]: what no setting, manifest or model can go beyond, from `ceilings.toml` of a verified bundle.
//!
//! The launcher reads these and nothing else of a bundle, so they are plain data without Cedar.

mod limits;
mod network;
mod plugin;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sigil_types::{AddressClass, CapabilitySet, ChannelRef, Name, PluginName, ProviderName, UserId};

pub(crate) use plugin::text_form;

pub use limits::{Budgets, NetworkLimits, Posture, SandboxLimits};
pub use network::{
    EgressCeilings, EgressIdentity, Endpoint, Exposure, Links, LocalAddress, ParseEndpointError, ProviderGrant, Scheme,
    SecretConsumer, SecretGrant,
};
pub use plugin::{
    EndedGrant, FactsOverride, FolderAccess, FolderGrant, GrantPath, HostRule, Interpreter, ParseGrantPathError,
    PluginGrant,
};

/// Why a text is not a set of ceilings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseCeilingsError(String);

/// What the signed policy allows at most. What is absent is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ceilings {
    /// The preset that the policy was made from; for people, nothing is decided by it.
    pub preset: Name,
    /// The weakest sandbox in which plugins may run.
    pub posture: Posture,
    /// Who answers for this Sigil.
    #[serde(default)]
    pub owners: BTreeSet<UserId>,
    /// Providers whose answers add no author of their own. Each is also among `providers`.
    #[serde(default)]
    pub trusted_providers: BTreeSet<ProviderName>,
    /// How text that people type is labelled, and who reads along.
    pub labels: Labels,
    /// What a session may spend.
    pub budgets: Budgets,
    /// What a sandboxed program may use.
    pub sandbox: SandboxLimits,
    /// Where Sigil's own server may listen.
    #[serde(default)]
    pub exposure: Exposure,
    /// The rights that anybody can have at all.
    #[serde(default)]
    pub capabilities: CapabilitySet,
    /// The links that may leave in a reply as they are, whoever influenced it.
    #[serde(default)]
    pub links: Links,
    /// Network ceilings.
    #[serde(default)]
    pub egress: EgressCeilings,
    /// The model providers that may be called.
    #[serde(default)]
    pub providers: Vec<ProviderGrant>,
    /// Who may be given which secret, for which hosts.
    #[serde(default)]
    pub secrets: Vec<SecretGrant>,
    /// The plugins that may run, and what each may have.
    #[serde(default)]
    pub plugins: BTreeMap<PluginName, PluginGrant>,
}

/// How text that people type is labelled, and who reads along with a workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// Who may read what a known person typed.
    pub typed: TypedReaders,
    /// The channels whose platform reads every message of every workspace.
    #[serde(default)]
    pub platforms: BTreeSet<ChannelRef>,
}

/// Who may read what a known person typed (line 4 of the trust model).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TypedReaders {
    /// Anybody, unless a secret is found in it.
    Everyone,
    /// The members of the conversation.
    Members,
}

impl Ceilings {
    /// Reads the text of a `ceilings.toml`.
    ///
    /// # Errors
    /// When it is not TOML, has an unknown or a doubled key, lacks a required one, or contradicts itself. The message names
    /// the place.
    pub fn parse(text: &str) -> Result<Self, ParseCeilingsError> {
        let ceilings: Self =
            toml::from_str(text).map_err(|error| ParseCeilingsError(error.to_string().trim_end().to_owned()))?;
        ceilings.check()?;
        Ok(ceilings)
    }

    /// Writes them as the text of a `ceilings.toml`.
    ///
    /// # Errors
    /// When a number is above what TOML can say (2⁶³ − 1).
    pub fn to_toml(&self) -> Result<String, ParseCeilingsError> {
        toml::to_string(self).map_err(|error| ParseCeilingsError(error.to_string()))
    }

    /// The grant of the provider `name`.
    #[must_use]
    pub fn provider(&self, name: &ProviderName) -> Option<&ProviderGrant> {
        self.providers.iter().find(|grant| grant.name == *name)
    }

    /// The local addresses that `who` may connect to.
    pub fn local_addresses<'a>(&'a self, who: &'a EgressIdentity) -> impl Iterator<Item = std::net::SocketAddr> + 'a {
        self.egress.local.iter().filter(move |local| local.plugin == *who).map(|local| local.address)
    }

    /// What the types alone do not rule out.
    pub(crate) fn check(&self) -> Result<(), ParseCeilingsError> {
        let fail = |message: String| Err(ParseCeilingsError(message));
        let mut names = BTreeSet::new();
        for provider in &self.providers {
            if !names.insert(&provider.name) {
                return fail(format!("providers: `{}` is listed twice", provider.name));
            }
            if provider.endpoint.as_ref().is_some_and(Endpoint::is_plain_to_the_internet) {
                return fail(format!(
                    "providers: `{}` uses plain http; outside this machine and its private networks only https is \
                     accepted",
                    provider.name
                ));
            }
        }
        if let Some(name) = self.trusted_providers.iter().find(|name| !names.contains(name)) {
            return fail(format!("trusted_providers: `{name}` is not among providers"));
        }
        if !self.sandbox.network.is_usable() {
            return fail("sandbox.network: each number is at least 1; to allow no network, grant no hosts".to_owned());
        }
        for local in &self.egress.local {
            let class = AddressClass::of(local.address.ip());
            if !matches!(class, AddressClass::Loopback | AddressClass::Private) || local.address.port() == 0 {
                return fail(format!(
                    "egress.local: {} is not an address and port of this machine or of a private network",
                    local.address
                ));
            }
        }
        for (plugin, grant) in &self.plugins {
            for (at, one) in grant.ended.iter().enumerate() {
                let twice = |other: &&EndedGrant| one.host.contains(&other.host) || other.host.contains(&one.host);
                if let Some(other) = grant.ended.iter().skip(at + 1).find(twice) {
                    return fail(format!(
                        "plugins.{plugin}.ended: `{}` and `{}` cover the same host; put their rules into one entry",
                        one.host, other.host
                    ));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = r#"
        preset = "balanced"
        posture = "standard"
        [labels]
        typed = "everyone"
        [budgets]
        tokens_per_turn = 1
        tokens_per_session = 1
        tokens_per_day = 1
        model_calls_per_turn = 1
        tool_calls_per_turn = 1
        asks_per_turn = 1
        turn_seconds = 1
        tool_result_bytes = 1
        [sandbox]
        memory_bytes = 1
        processes = 1
        open_files = 1
        file_bytes = 1
        tmp_bytes = 1
        cpu_seconds = 1
        cpu_percent = 1
        call_seconds = 1
    "#;

    fn with(more: &str) -> Result<Ceilings, ParseCeilingsError> {
        Ceilings::parse(&format!("{LEAST}\n{more}"))
    }

    #[test]
    fn what_is_absent_is_not_allowed() {
        let ceilings = Ceilings::parse(LEAST).expect("the least ceilings");
        assert!(ceilings.owners.is_empty() && ceilings.plugins.is_empty() && ceilings.providers.is_empty());
        assert!(ceilings.exposure.listen.is_empty() && ceilings.egress.local.is_empty());
        assert_eq!(ceilings.capabilities, CapabilitySet::default());
    }

    #[test]
    fn a_full_example_survives_its_text() {
        let ceilings = with(
            r#"
            [[providers]]
            name = "peer"
            endpoint = "http://127.0.0.1:8080"
            [[egress.local]]
            plugin = "host"
            address = "127.0.0.1:8080"
            [[secrets]]
            name = "peer-key"
            consumer = "provider:peer"
            hosts = ["127.0.0.1"]
            [plugins.files]
            trees = ["sha256:0000000000000000000000000000000000000000000000000000000000000000"]
            [[plugins.files.folders.roots]]
            path = "/home/ann/notes"
            access = "write"
            authors = ["owner:ann"]
            readers = ["user:ann"]
            [plugins.fetch]
            hosts = [{ host = "*.example.com", ports = [443] }]
            [[plugins.fetch.ended]]
            host = "api.example.com"
            requests = [{ methods = ["GET", "HEAD"], paths = ["/v1/*"], query = ["page"] }]
            strip_headers = ["cookie"]
            credentials = "vault"
            "#,
        )
        .expect("valid");
        let text = ceilings.to_toml().expect("writes");
        assert_eq!(Ceilings::parse(&text).expect("reads its own"), ceilings);
    }

    #[test]
    fn nonsense_is_refused_and_named() {
        let cases = [
            ("[plugin]", "plugin"),
            ("[exposure]\nport = 1", "port"),
            ("[[providers]]\nname = \"a\"\n[[providers]]\nname = \"a\"", "twice"),
            ("[[providers]]\nname = \"a\"\nendpoint = \"http://api.example.com\"", "https"),
            ("[[providers]]\nname = \"a\"\nendpoint = \"https://api.example.com/v1\"", "scheme"),
            ("[[egress.local]]\nplugin = \"host\"\naddress = \"192.0.2.1:1\"", "egress.local"),
            ("[[egress.local]]\nplugin = \"host\"\naddress = \"169.254.169.254:80\"", "egress.local"),
            ("[[egress.local]]\nplugin = \"host\"\naddress = \"8.8.8.8:53\"", "egress.local"),
            ("[plugins.a]\nhosts = [{ host = \"x.org\", ports = [0] }]", "port"),
            ("[plugins.a]\nhosts = [{ host = \"*\", ports = [443] }]", "wildcard"),
            ("[plugins.a]\nhosts = [{ host = \"*.com\", ports = [443] }]", "wildcard"),
            ("[sandbox.network]\nconnections = 0", "sandbox.network"),
            ("[sandbox.network]\nidle_seconds = 0", "sandbox.network"),
            ("[sandbox.network]\nconnection = 1", "connection"),
            ("[plugins.a]\nended = [{ host = \"x.org\" }, { host = \"x.org\" }]", "same host"),
            ("[plugins.a]\nended = [{ host = \"*.x.org\" }, { host = \"a.x.org\" }]", "same host"),
            ("[plugins.a]\nended = [{ host = \"x.org\", tls = 1 }]", "tls"),
            ("[plugins.a.folders]\nx = [{ path = \"/a/../b\", access = \"read\" }]", "absolute"),
        ];
        for (text, word) in cases {
            let error = with(text).expect_err(text).to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
        let trusted = format!("trusted_providers = [\"a\"]\n{LEAST}");
        assert!(Ceilings::parse(&trusted).expect_err("unbound").to_string().contains("not among"));
    }
}
