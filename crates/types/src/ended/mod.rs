//! Hosts whose TLS Sigil ends, by consent of manifest and signed policy, and what requests to them may be.

mod path;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Host, HostPattern};

pub use path::{MAX_PATH, ParsePathRule, ParseUrlPath, PathRule, UrlPath};

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
use text_form;

/// A method that requests may have. `CONNECT` and `TRACE` are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// `GET`.
    Get,
    /// `HEAD`.
    Head,
    /// `POST`.
    Post,
    /// `PUT`.
    Put,
    /// `PATCH`.
    Patch,
    /// `DELETE`.
    Delete,
    /// `OPTIONS`.
    Options,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 7] = [Self::Get, Self::Head, Self::Post, Self::Put, Self::Patch, Self::Delete, Self::Options];

    /// As it is sent.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }

    /// Whether it asks for nothing but an answer (RFC 9110, 9.2.1).
    #[must_use]
    pub const fn only_reads(self) -> bool {
        matches!(self, Self::Get | Self::Head)
    }
}

/// Why a text is not a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a method is one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")]
pub struct ParseMethod;

impl FromStr for Method {
    type Err = ParseMethod;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|method| method.as_str() == text).ok_or(ParseMethod)
    }
}

/// Requests that are allowed: these methods, on these paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestRule {
    /// Which methods; at least one.
    #[serde(deserialize_with = "some")]
    pub methods: BTreeSet<Method>,
    /// Which paths; at least one.
    #[serde(deserialize_with = "some")]
    pub paths: BTreeSet<PathRule>,
    /// The only names of parameters that the query may have. Absent: any query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<BTreeSet<String>>,
}

fn some<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Ord>(deserializer: D) -> Result<BTreeSet<T>, D::Error> {
    let list = BTreeSet::<T>::deserialize(deserializer)?;
    if list.is_empty() {
        return Err(serde::de::Error::custom("an empty list allows nothing: name at least one"));
    }
    Ok(list)
}

/// The name of a header field, in lower case; none that frames a message or names its host.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldName(Box<str>);

/// Why a text is not the name of a field that a rule can be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a field name here is lower case, has 1 to 64 of a-z, 0-9, `-` and `_`, and does not frame the message or name its host"
)]
pub struct ParseFieldName;

/// Fields that say where a message goes or where it ends.
const FRAMING: [&str; 10] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "accept-encoding",
    "range",
];

impl FieldName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FieldName {
    type Err = ParseFieldName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
        if !plain || text.is_empty() || text.len() > 64 || FRAMING.contains(&text) || text.starts_with("proxy-") {
            return Err(ParseFieldName);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_form!(FieldName);

/// Which credentials requests to a host may carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credentials {
    /// Any, those of the plugin's own included.
    #[default]
    Any,
    /// One of the vault's on each request, in the place of its stand-in; no other, and only well-known fields beside it.
    Vault,
    /// None, and only well-known fields.
    None,
}

/// A host whose TLS Sigil ends, and what requests to it may be: what manifest and signed policy both say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndedHost {
    /// Which.
    pub host: HostPattern,
    /// Lists of rules. In each, one rule must allow the request. No list: any request.
    #[serde(default)]
    pub requests: Vec<Vec<RequestRule>>,
    /// Fields that are taken out of requests.
    #[serde(default)]
    pub strip: BTreeSet<FieldName>,
    /// Fields that are put into requests, in the place of those of this name.
    #[serde(default)]
    pub set: BTreeMap<FieldName, String>,
    /// Which credentials may pass.
    #[serde(default)]
    pub credentials: Credentials,
}

impl EndedHost {
    /// Whether it is about `host`.
    #[must_use]
    pub fn covers(&self, host: &Host) -> bool {
        self.host.covers(host)
    }

    /// Whether every request that is allowed asks for nothing but an answer, and carries no credential.
    #[must_use]
    pub fn only_reads(&self) -> bool {
        let reads = |list: &Vec<RequestRule>| list.iter().all(|rule| rule.methods.iter().all(|m| m.only_reads()));
        self.credentials == Credentials::None && self.requests.iter().any(reads)
    }

    /// Whether no credential but the vault's can pass in any place that a server would look at: each request carries one of
    /// the vault's, and path and query are among those that one list names.
    #[must_use]
    pub fn only_vault(&self) -> bool {
        let named = |list: &Vec<RequestRule>| list.iter().all(|rule| rule.query.is_some());
        self.credentials == Credentials::Vault && self.requests.iter().any(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(credentials: &str, requests: &str) -> EndedHost {
        let text = format!(r#"{{"host":"a.example","credentials":"{credentials}","requests":{requests}}}"#);
        serde_json::from_str(&text).expect(&text)
    }

    #[test]
    fn what_is_guaranteed_follows_from_what_is_enforced() {
        let get = r#"[[{"methods":["GET","HEAD"],"paths":["/*"]}]]"#;
        assert!(ended("none", get).only_reads());
        assert!(
            !ended("any", get).only_reads() && !ended("vault", get).only_reads() && !ended("none", "[]").only_reads()
        );
        let post = r#"[[{"methods":["GET"],"paths":["/a"]},{"methods":["POST"],"paths":["/b"]}]]"#;
        assert!(!ended("none", post).only_reads());
        let both = r#"[[{"methods":["GET","POST"],"paths":["/*"]}],[{"methods":["GET"],"paths":["/*"]}]]"#;
        assert!(ended("none", both).only_reads(), "one list of the two is enough: both must allow");

        let named = r#"[[{"methods":["POST"],"paths":["/v1/items"],"query":["page"]}]]"#;
        assert!(ended("vault", named).only_vault());
        assert!(!ended("any", named).only_vault() && !ended("vault", get).only_vault());
        assert!(!ended("vault", "[]").only_vault());
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            r#"{"host":"a.example","requests":[[{"methods":[],"paths":["/*"]}]]}"#,
            r#"{"host":"a.example","requests":[[{"methods":["GET"],"paths":[]}]]}"#,
            r#"{"host":"a.example","requests":[[{"methods":["TRACE"],"paths":["/*"]}]]}"#,
            r#"{"host":"a.example","requests":[[{"methods":["GET"],"paths":["/a/../b"]}]]}"#,
            r#"{"host":"a.example","strip":["host"]}"#,
            r#"{"host":"a.example","strip":["X-Upper"]}"#,
            r#"{"host":"a.example","set":{"content-length":"1"}}"#,
            r#"{"host":"a.example","more":1}"#,
        ] {
            assert!(serde_json::from_str::<EndedHost>(bad).is_err(), "{bad}");
        }
    }
}
