//! [`Binding`]: what a secret is for.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sigil_types::{Host, HostPattern, PluginName, ProviderName, WorkspaceId};

/// Who uses a secret.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Consumer {
    /// A model provider: `provider:NAME`.
    Provider(ProviderName),
    /// A plugin: `plugin:NAME`.
    Plugin(PluginName),
}

/// Why a text names no consumer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a consumer of secrets is `provider:NAME` or `plugin:NAME`")]
pub struct ParseConsumer;

impl fmt::Display for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Provider(name) => write!(f, "provider:{name}"),
            Self::Plugin(name) => write!(f, "plugin:{name}"),
        }
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Consumer {
    type Err = ParseConsumer;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = match text.split_once(':') {
            Some(("provider", name)) => name.parse().ok().map(Self::Provider),
            Some(("plugin", name)) => name.parse().ok().map(Self::Plugin),
            _ => None,
        };
        parsed.ok_or(ParseConsumer)
    }
}

impl Serialize for Consumer {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Consumer {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What a secret is for. Fixed when the secret is made; another binding is another secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// Who uses it.
    pub consumer: Consumer,
    /// In which workspace only; everywhere when absent.
    pub workspace: Option<WorkspaceId>,
    /// The hosts it may be sent to. None means that it may be sent nowhere.
    pub hosts: BTreeSet<HostPattern>,
}

/// Who asks for a secret. Made from the identity of a socket, never from what a request claims.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// Who.
    pub consumer: &'a Consumer,
    /// On behalf of which workspace, if of one.
    pub workspace: Option<&'a WorkspaceId>,
}

impl Binding {
    pub(crate) fn is_for(&self, asker: Asker<'_>) -> bool {
        self.consumer == *asker.consumer
    }

    pub(crate) fn covers_workspace(&self, asker: Asker<'_>) -> bool {
        self.workspace.as_ref().is_none_or(|bound| asker.workspace == Some(bound))
    }

    pub(crate) fn covers_host(&self, host: &Host) -> bool {
        self.hosts.iter().any(|pattern| pattern.covers(host))
    }

    /// Whether `reachable` is within the bound hosts, so that whoever can reach no more may hold the secret itself.
    pub(crate) fn covers_all(&self, reachable: &[HostPattern]) -> bool {
        reachable.iter().all(|reached| self.hosts.iter().any(|bound| bound.contains(reached)))
    }
}
