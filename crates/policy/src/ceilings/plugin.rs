//! What one plugin may have.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sigil_types::{
    Authors, CapabilitySet, Credentials, Digest, FieldName, HostPattern, HostPort, Label, Name, ParseHostError,
    Readers, RequestRule, ToolFacts,
};

use super::limits::Posture;

/// Turns `Display` and `FromStr` into `Debug`, `Serialize` and `Deserialize`.
macro_rules! text_form {
    ($($name:ident),+) => {$(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}
pub(crate) use text_form;

/// What one plugin may have. A manifest asks; this is the most that it can get.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PluginGrant {
    /// Digests of the file trees that the owner has endorsed. Another tree does not start.
    pub trees: BTreeSet<Digest>,
    /// The weakest sandbox in which it may run, if that is stronger than what every plugin needs. Absent: the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub posture: Option<Posture>,
    /// The programs outside its tree that may read its scripts. A script without one of them does not start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interpreters: Vec<Interpreter>,
    /// The rights that it may have at most, beside the ceilings of everybody. Absent: no further narrowing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<CapabilitySet>,
    /// The hosts that it may reach.
    pub hosts: Vec<HostRule>,
    /// Those of them whose TLS Sigil may end, to judge each request. It does where the manifest asks for it, too. No two of
    /// them cover the same host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<EndedGrant>,
    /// The folders that it may use, by the name of the manifest's parameter.
    pub folders: BTreeMap<Name, Vec<FolderGrant>>,
    /// Label facts that replace those of the compiled profile, for one endorsed tree each.
    pub facts: Vec<FactsOverride>,
}

/// A program of the system that reads a plugin's scripts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interpreter {
    /// Its name, as it stands behind `#!` in the script.
    pub path: GrantPath,
    /// The SHA-256 of its content.
    pub digest: Digest,
}

/// A host, or the hosts below a name, and the ports there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRule {
    /// Where.
    pub host: HostPattern,
    /// The TCP ports; at least one.
    #[serde(deserialize_with = "ports")]
    pub ports: BTreeSet<u16>,
}

impl FromStr for HostRule {
    type Err = ParseHostError;

    /// Reads a host, or the hosts below a name, and one port: `example.com:443`, `*.example.com:443`, `[2001:db8::1]:443`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (below, rest) = text.strip_prefix("*.").map_or((false, text), |rest| (true, rest));
        let HostPort { host, port } = match rest.parse() {
            // A star elsewhere is no odd character, but a wildcard at the wrong place.
            Err(ParseHostError::Character) if rest.contains('*') => return Err(ParseHostError::Wildcard),
            parsed => parsed?,
        };
        let host = if below { format!("*.{host}").parse()? } else { HostPattern::Exact(host) };
        Ok(Self { host, ports: BTreeSet::from([port]) })
    }
}

fn ports<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<u16>, D::Error> {
    let ports = BTreeSet::<u16>::deserialize(deserializer)?;
    if ports.is_empty() || ports.contains(&0) {
        return Err(serde::de::Error::custom("name at least one port, each from 1 to 65535"));
    }
    Ok(ports)
}

/// A host whose TLS Sigil may end for a plugin, and what requests may be at most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndedGrant {
    /// Which.
    pub host: HostPattern,
    /// What is allowed; beside it the manifest's own rules hold. None: what the manifest allows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<RequestRule>,
    /// Header fields that are taken out of requests.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub strip_headers: BTreeSet<FieldName>,
    /// Which credentials may pass.
    #[serde(default)]
    pub credentials: Credentials,
}

/// One folder, or one file, that a plugin may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderGrant {
    /// Where it is on this machine.
    pub path: GrantPath,
    /// Whether it may be changed.
    pub access: FolderAccess,
    /// Who may have written what is in it. Absent: anybody.
    #[serde(default = "Authors::world")]
    pub authors: Authors,
    /// Who may read what is in it. Absent: nobody, so that nothing read from it goes anywhere without a human.
    #[serde(default = "nobody")]
    pub readers: Readers,
}

const fn nobody() -> Readers {
    Readers::NOBODY
}

impl FolderGrant {
    /// The label of what is in it.
    #[must_use]
    pub fn label(&self) -> Label {
        Label { authors: self.authors.clone(), readers: self.readers.clone() }
    }
}

/// Whether a folder may be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FolderAccess {
    /// Read only.
    Read,
    /// Read, and write.
    Write,
}

/// Label facts for one endorsed tree (line 7 of the trust model: looser facts need signed policy that names the digest).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactsOverride {
    /// The tree.
    pub tree: Digest,
    /// The facts that count for it.
    pub facts: ToolFacts,
}

/// Why a text is not a path that can be granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a granted path is absolute, below `/`, has no `.`, `..`, empty part, trailing slash or control character, and at \
     most 4095 bytes"
)]
pub struct ParseGrantPathError;

/// An absolute path in its one written form.
///
/// INVARIANT: starts with `/`, is not `/` itself, and has no part that is empty, `.` or `..`, nor a control character.
/// Links in it are not followed by writing it: whoever opens it decides.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantPath(Box<str>);

impl GrantPath {
    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(&*self.0)
    }
}

impl FromStr for GrantPath {
    type Err = ParseGrantPathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(rest) = text.strip_prefix('/') else { return Err(ParseGrantPathError) };
        let parts_ok = rest.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if parts_ok && text.len() <= 4095 && !text.chars().any(char::is_control) {
            Ok(Self(text.into()))
        } else {
            Err(ParseGrantPathError)
        }
    }
}

impl fmt::Display for GrantPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_form!(GrantPath);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_form() {
        assert!("/home/ann/notes".parse::<GrantPath>().is_ok());
        for bad in ["", "/", "home", "~/notes", "/a//b", "/a/", "/a/./b", "/a/../b", "/a\n", "/a\0b"] {
            assert!(bad.parse::<GrantPath>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_host_rule_is_read_from_what_people_type() {
        for (text, host) in [
            ("example.com:443", "example.com"),
            ("*.example.com:443", "*.example.com"),
            ("127.0.0.1:443", "127.0.0.1"),
            ("[::1]:443", "[::1]"),
            ("Bücher.example:443", "xn--bcher-kva.example"),
        ] {
            let rule: HostRule = text.parse().expect(text);
            assert_eq!((rule.host.to_string().as_str(), rule.ports), (host, BTreeSet::from([443])));
        }
        for bad in [
            "*:443",
            "*.com:443",
            "*.127.0.0.1:443",
            "*.[::1]:443",
            "a.*.example:443",
            "example.com",
            "a.b:0",
            ":1",
            "::1:1",
        ] {
            assert!(bad.parse::<HostRule>().is_err(), "{bad}");
        }
        assert_eq!("a*.example:443".parse::<HostRule>(), Err(ParseHostError::Wildcard));
    }

    #[test]
    fn a_grant_without_a_label_has_the_top_label() {
        let grant: FolderGrant = toml::from_str("path = \"/srv/in\"\naccess = \"read\"").expect("valid");
        assert_eq!(grant.label(), Label::top());
    }
}
