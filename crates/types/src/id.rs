//! Identifiers: generated ones (a ULID behind a prefix that names the kind) and chosen ones (slugs).

use std::fmt;
use std::str::FromStr;

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use ulid::Ulid;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdError {
    /// The prefix of another kind, or none.
    #[error("expected an id that starts with `{expected}`")]
    Prefix {
        /// The prefix of this kind, with its underscore.
        expected: &'static str,
    },
    /// What follows the prefix is not a ULID.
    #[error("what follows the prefix is not 26 characters of Crockford base32")]
    Ulid,
    /// Not a name.
    #[error("a name has 1 to 64 characters of a-z, 0-9, `_` and `-`, and starts with a letter or digit")]
    Name,
    /// Not a tool's name.
    #[error("a tool is named `plugin.tool`, or `node.ID.plugin.tool`, each part a name without `__`")]
    Tool,
}

macro_rules! generated {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Ulid);

        impl $name {
            /// The prefix that names this kind of id.
            pub const PREFIX: &'static str = $prefix;

            /// A new id: 48 bits of `now` in milliseconds, 80 bits of system randomness.
            #[must_use]
            pub fn generate(now: crate::Timestamp) -> Self {
                Self(Ulid::from_parts(now.as_millis(), random_bits()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let rest = text.strip_prefix($prefix).ok_or(ParseIdError::Prefix { expected: $prefix })?;
                Ulid::from_string(rest).map(Self).map_err(|_| ParseIdError::Ulid)
            }
        }

        string_serde!($name);
    };
}

macro_rules! string_serde {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

generated!(/** An audit entry, and the receipt of the decision that it records. */ EventId, "ev_");
generated!(/** One turn: one inbound message and all that it caused. */ TurnId, "tn_");
generated!(/** One conversation. */ SessionId, "ss_");
generated!(/** One question that waits for a human. */ ApprovalId, "ap_");
generated!(/** One request to the server. */ RequestId, "rq_");
generated!(/** One running plugin instance. */ InstanceId, "pl_");
generated!(/** One launch of a program in the sandbox. */ LaunchId, "la_");
generated!(/** One stored access token (its name, not its secret). */ TokenId, "tk_");

/// 128 bits from the operating system. On Linux this cannot fail once the pool is initialised; if it ever did, a
/// constant would be worse than a crash, so the clock's nanoseconds are folded in: ids are names, never secrets.
fn random_bits() -> u128 {
    let mut bytes = [0_u8; 16];
    if SystemRandom::new().fill(&mut bytes).is_err() {
        let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        return nanos ^ u128::from(std::process::id()) << 64;
    }
    u128::from_le_bytes(bytes)
}

/// A name that people choose: 1 to 64 characters of `a-z 0-9 _ -`, starting with a letter or digit.
///
/// INVARIANT: safe as a path component, in a log line and in a Cedar entity id; no later line checks again.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = text.bytes();
        let first_ok = bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let rest_ok = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
        if first_ok && rest_ok && text.len() <= 64 { Ok(Self(text.into())) } else { Err(ParseIdError::Name) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

string_serde!(Name);

macro_rules! named {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Name);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        string_serde!($name);
    };
}

named!(/** A person that Sigil knows. */ UserId);
named!(/** A workspace: members, tools, memory and budget that belong together. */ WorkspaceId);
named!(/** A plugin, by the name in its manifest. */ PluginName);
named!(/** A model provider, by the name in the configuration. */ ProviderName);
named!(/** A skill. */ SkillName);

/// A tool: `plugin.tool`, or `node.ID.plugin.tool` on another machine.
///
/// INVARIANT: two or four parts, each a [`Name`] without `__`, which is what keeps `plugin__tool`, the form that models
/// see, reversible.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ToolName(Box<str>);

impl ToolName {
    /// The tool `tool` of `plugin` on this machine.
    ///
    /// # Errors
    /// When either part is not a name or contains `__`.
    pub fn new(plugin: &PluginName, tool: &str) -> Result<Self, ParseIdError> {
        format!("{plugin}.{tool}").parse()
    }

    /// The dotted name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The plugin that offers it.
    #[must_use]
    pub fn plugin(&self) -> &str {
        self.parts().0
    }

    /// The tool's own name within its plugin.
    #[must_use]
    pub fn tool(&self) -> &str {
        self.parts().1
    }

    fn parts(&self) -> (&str, &str) {
        let (rest, tool) = self.0.rsplit_once('.').unwrap_or(("", &self.0));
        (rest.rsplit_once('.').map_or(rest, |(_, plugin)| plugin), tool)
    }
}

impl FromStr for ToolName {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split('.').collect();
        let shape = match parts.as_slice() {
            [_, _] => true,
            [node, _, _, _] => *node == "node",
            _ => false,
        };
        let names = parts.iter().all(|part| !part.contains("__") && part.parse::<Name>().is_ok());
        if shape && names { Ok(Self(text.into())) } else { Err(ParseIdError::Tool) }
    }
}

impl fmt::Display for ToolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ToolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

string_serde!(ToolName);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;

    #[test]
    fn a_generated_id_reads_back() {
        let id = EventId::generate(Timestamp::from_millis(1_700_000_000_000));
        assert_eq!(id.to_string().parse::<EventId>(), Ok(id));
        assert_eq!(id.to_string().parse::<TurnId>(), Err(ParseIdError::Prefix { expected: "tn_" }));
        assert_eq!("ev_nonsense".parse::<EventId>(), Err(ParseIdError::Ulid));
    }

    #[test]
    fn ids_of_later_moments_sort_later() {
        let early = TurnId::generate(Timestamp::from_millis(1));
        let late = TurnId::generate(Timestamp::from_millis(2));
        assert!(early < late && early.to_string() < late.to_string());
    }

    #[test]
    fn names_are_path_safe() {
        for bad in ["", "..", "a/b", "A", "-x", "a b", "é", "a\0", &"x".repeat(65)] {
            assert_eq!(bad.parse::<Name>(), Err(ParseIdError::Name), "{bad:?}");
        }
        assert!("web-search_2".parse::<Name>().is_ok());
    }

    #[test]
    fn a_tool_has_two_or_four_parts() {
        let tool: ToolName = "node.attic.files.read".parse().expect("four parts");
        assert_eq!((tool.plugin(), tool.tool()), ("files", "read"));
        for bad in ["files", "files.", "a.b.c", "x.a.b.c", "a__b.c", "a.b.c.d.e"] {
            assert!(bad.parse::<ToolName>().is_err(), "{bad}");
        }
    }
}
