//! Capabilities: dotted names of rights, and glob patterns over them.
//!
//! `tool.files.read` is a capability; `tool.files.*` is a pattern that covers it. A plugin starts with none; what it may do
//! is what its manifest, the workspace, the user and the signed policy *all* grant, less what any of them denies.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not a capability or a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a capability is one to eight parts of a-z, 0-9, `_`, `-` and `/`, joined by dots, at most 128 characters{}", if *.pattern { "; in a pattern `*` stands for one part, or, at the end, for one or more" } else { "" })]
pub struct ParseCapabilityError {
    pattern: bool,
}

const MAX_LENGTH: usize = 128;
const MAX_PARTS: usize = 8;

/// One right, such as `tool.files.read`, `sessions.read.self` or `kv.read`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(Box<str>);

/// A glob over capabilities. `*` stands for exactly one part; as the last part, for one or more.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CapabilityPattern(Box<str>);

fn well_formed(text: &str, pattern: bool) -> bool {
    let part_ok = |part: &str| {
        !part.is_empty()
            && (pattern && part == "*"
                || part.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'/')))
    };
    text.len() <= MAX_LENGTH && text.split('.').count() <= MAX_PARTS && text.split('.').all(part_ok)
}

impl Capability {
    /// The right to call `tool`.
    ///
    /// INVARIANT: a tool's name has at most four parts of this alphabet, so `tool.` and it are a capability.
    #[must_use]
    pub fn tool(tool: &crate::ToolName) -> Self {
        Self(format!("tool.{tool}").into())
    }

    /// The capability as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl CapabilityPattern {
    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern covers `capability`.
    #[must_use]
    pub fn covers(&self, capability: &Capability) -> bool {
        let mut wanted = capability.0.split('.');
        let mut pattern = self.0.split('.').peekable();
        while let Some(part) = pattern.next() {
            let Some(found) = wanted.next() else { return false };
            if part == "*" && pattern.peek().is_none() {
                return true;
            }
            if part != "*" && part != found {
                return false;
            }
        }
        wanted.next().is_none()
    }
}

impl FromStr for Capability {
    type Err = ParseCapabilityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if well_formed(text, false) { Ok(Self(text.into())) } else { Err(ParseCapabilityError { pattern: false }) }
    }
}

impl FromStr for CapabilityPattern {
    type Err = ParseCapabilityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if well_formed(text, true) { Ok(Self(text.into())) } else { Err(ParseCapabilityError { pattern: true }) }
    }
}

macro_rules! text_form {
    ($($name:ident),+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}
text_form!(Capability, CapabilityPattern);

/// What one party grants and denies. Grants nothing to begin with; a denial always wins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CapabilitySet {
    /// Patterns of what is granted.
    pub allow: BTreeSet<CapabilityPattern>,
    /// Patterns of what is denied, whatever grants it.
    pub deny: BTreeSet<CapabilityPattern>,
}

impl CapabilitySet {
    /// Whether this party grants `capability`.
    #[must_use]
    pub fn grants(&self, capability: &Capability) -> bool {
        self.allow.iter().any(|pattern| pattern.covers(capability))
            && !self.deny.iter().any(|pattern| pattern.covers(capability))
    }

    /// Whether every one of `parties` grants `capability`; none at all grant nothing.
    pub fn all_grant<'a>(parties: impl IntoIterator<Item = &'a Self>, capability: &Capability) -> bool {
        let mut any = false;
        parties.into_iter().all(|party| {
            any = true;
            party.grants(capability)
        }) && any
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn covers(pattern: &str, capability: &str) -> bool {
        let pattern: CapabilityPattern = pattern.parse().expect("a pattern");
        pattern.covers(&capability.parse().expect("a capability"))
    }

    #[test]
    fn a_star_is_one_part_and_at_the_end_one_or_more() {
        assert!(covers("tool.*", "tool.files.read"));
        assert!(covers("tool.*.read", "tool.files.read"));
        assert!(covers("*", "tool.files.read"));
        assert!(!covers("tool.*", "tool"));
        assert!(!covers("tool.*.read", "tool.a.b.read"));
        assert!(!covers("tool.files", "tool.files.read"));
        assert!(!covers("tool.files.read", "tool.files"));
    }

    #[test]
    fn malformed_text_is_refused() {
        for bad in ["", ".", "a.", ".a", "a..b", "A", "tool:x", "a*", "a b", "a.b.c.d.e.f.g.h.i"] {
            assert!(bad.parse::<CapabilityPattern>().is_err(), "{bad:?}");
        }
        assert!("tool.*".parse::<Capability>().is_err(), "a capability has no star");
    }

    #[test]
    fn nobody_grants_nothing() {
        let capability = "kv.read".parse().expect("a capability");
        assert!(!CapabilitySet::all_grant([], &capability));
        assert!(!CapabilitySet::default().grants(&capability));
    }

    proptest! {
        #[test]
        fn a_denial_always_wins(parts in prop::collection::vec("[a-c]", 1..5)) {
            let capability: Capability = parts.join(".").parse().expect("a capability");
            let all: CapabilityPattern = "*".parse().expect("a pattern");
            let set = CapabilitySet {
                allow: [all].into(),
                deny: [capability.as_str().parse().expect("a pattern")].into(),
            };
            prop_assert!(!set.grants(&capability));
        }

        #[test]
        fn another_party_only_narrows(a in "[a-c](\\.[a-c*]){0,2}", b in "[a-c](\\.[a-c*]){0,2}", c in "[a-c](\\.[a-c]){0,2}") {
            let set = |pattern: &str| CapabilitySet { allow: [pattern.parse().expect("a pattern")].into(), ..CapabilitySet::default() };
            let (one, two, capability) = (set(&a), set(&b), c.parse().expect("a capability"));
            if CapabilitySet::all_grant([&one, &two], &capability) {
                prop_assert!(CapabilitySet::all_grant([&one], &capability));
            }
        }
    }
}
