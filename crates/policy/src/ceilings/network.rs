//! Who may talk to where: providers, local addresses, secrets, links, and Sigil's own listeners.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sigil_types::{AddressClass, Host, HostPattern, HostPort, Name, ParseHostError, PluginName, ProviderName, Reader};

/// Network ceilings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EgressCeilings {
    /// The only loopback and private addresses that may be reached, each by one identity.
    pub local: Vec<LocalAddress>,
}

/// One address of this machine or of a private network, for one identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalAddress {
    /// Who may connect: a plugin, or `host` for Sigil itself (its model providers).
    pub plugin: EgressIdentity,
    /// The exact address and port.
    pub address: SocketAddr,
}

/// Who connects: Sigil itself, or a plugin. No plugin can be called `host`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EgressIdentity {
    /// Sigil itself, for its model providers.
    Host,
    /// A plugin.
    Plugin(PluginName),
}

/// A provider that may be called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderGrant {
    /// Its name in the configuration.
    pub name: ProviderName,
    /// Where it is. Absent: it is part of Sigil and opens no connection (the rehearsal provider).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// Who reads the prompts, where that is not `provider:NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader: Option<Reader>,
}

impl ProviderGrant {
    /// Who reads the prompts.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.reader.clone().unwrap_or_else(|| Reader::Provider(self.name.clone()))
    }
}

/// HTTP with or without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

/// A scheme, host and port: `https://api.example.com`, `http://127.0.0.1:8080`. No path, user or query.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// With or without TLS.
    pub scheme: Scheme,
    /// Where; the port is the scheme's own when the text names none.
    pub at: HostPort,
}

/// Why a text is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseEndpointError {
    /// Not `http://` or `https://`, or more than host and port after it.
    #[error("an endpoint is scheme, host and port, such as https://api.example.com; without path, user or query")]
    Form,
    /// The host or port is not one.
    #[error(transparent)]
    Host(#[from] ParseHostError),
}

impl Endpoint {
    /// Whether it would send plain HTTP to a name or to an address on the internet.
    pub(crate) fn is_plain_to_the_internet(&self) -> bool {
        let near = match &self.at.host {
            Host::Address(ip) => matches!(AddressClass::of(*ip), AddressClass::Loopback | AddressClass::Private),
            Host::Name(_) => false,
        };
        self.scheme == Scheme::Http && !near
    }
}

impl FromStr for Endpoint {
    type Err = ParseEndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, port, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Scheme::Http, 80, rest),
            Some(("https", rest)) => (Scheme::Https, 443, rest),
            _ => return Err(ParseEndpointError::Form),
        };
        if rest.is_empty() || rest.contains(['/', '?', '#', '@']) {
            return Err(ParseEndpointError::Form);
        }
        let after_brackets = rest.rsplit_once(']').map_or(rest, |(_, after)| after);
        let at = if after_brackets.contains(':') { rest.parse()? } else { HostPort { host: rest.parse()?, port } };
        Ok(Self { scheme, at })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.scheme, self.at.port) {
            (Scheme::Http, 80) => write!(f, "http://{}", self.at.host),
            (Scheme::Https, 443) => write!(f, "https://{}", self.at.host),
            (Scheme::Http, _) => write!(f, "http://{}", self.at),
            (Scheme::Https, _) => write!(f, "https://{}", self.at),
        }
    }
}

/// Who may use a secret, and towards which hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretGrant {
    /// The secret's name in the vault.
    pub name: Name,
    /// Who uses it.
    pub consumer: SecretConsumer,
    /// The hosts that may receive it; none when it never leaves.
    #[serde(default)]
    pub hosts: BTreeSet<HostPattern>,
}

/// Who uses a secret: `provider:NAME` or `plugin:NAME`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretConsumer {
    /// A model provider's adapter, through egress.
    Provider(ProviderName),
    /// A plugin, through egress or in its initialisation.
    Plugin(PluginName),
}

/// The links that may leave in a reply as they are, whoever influenced it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Links {
    /// Whole links, character by character.
    pub urls: BTreeSet<String>,
    /// Hosts to which any link may lead. Whoever runs one can read what a link to it carries.
    pub hosts: BTreeSet<HostPattern>,
}

/// Where Sigil's own server may listen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Exposure {
    /// Addresses for HTTP. None: the Unix socket only.
    pub listen: BTreeSet<IpAddr>,
}

impl fmt::Display for EgressIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Plugin(name) => fmt::Display::fmt(name, f),
        }
    }
}

impl FromStr for EgressIdentity {
    type Err = sigil_types::ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "host" { Ok(Self::Host) } else { text.parse().map(Self::Plugin) }
    }
}

impl fmt::Display for SecretConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Provider(name) => write!(f, "provider:{name}"),
            Self::Plugin(name) => write!(f, "plugin:{name}"),
        }
    }
}

impl FromStr for SecretConsumer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "a secret's consumer is provider:NAME or plugin:NAME";
        match text.split_once(':') {
            Some(("provider", name)) => name.parse().map(Self::Provider).map_err(|_| EXPECTED),
            Some(("plugin", name)) => name.parse().map(Self::Plugin).map_err(|_| EXPECTED),
            _ => Err(EXPECTED),
        }
    }
}

super::plugin::text_form!(EgressIdentity, Endpoint, SecretConsumer);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_scheme_host_and_port_only() {
        for (text, port) in [("https://a.example", 443), ("http://127.0.0.1", 80), ("https://[2001:db8::1]:8443", 8443)]
        {
            let endpoint: Endpoint = text.parse().expect(text);
            assert_eq!((endpoint.at.port, endpoint.to_string()), (port, text.to_owned()));
        }
        for bad in
            ["", "a.example", "ftp://a.example", "https://", "https://a/", "https://u@a", "https://a?x", "https://a:0"]
        {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }
}
