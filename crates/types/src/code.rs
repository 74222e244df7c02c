//! [`Code`]: the stable, dotted names of errors, checks and rules.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A stable code: dotted lower case, `area.entity.action.reason`, such as `sandbox.launch.layer.missing`.
///
/// One grammar serves errors, doctor's checks and the scanner's rules: two to six parts of `a-z 0-9 _ -`.
/// `sigil explain CODE` tells what it means and what to do.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(Cow<'static, str>);

/// Why a text is not a code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a code is two to six parts of a-z, 0-9, `_` and `-`, joined by dots, at most 96 characters")]
pub struct ParseCodeError;

impl Code {
    /// A code that is known when Sigil is compiled.
    ///
    /// # Panics
    /// At compile time, when used in a `const`, if the text is not a code.
    #[must_use]
    #[expect(clippy::panic, reason = "evaluated in constants: a bad code does not compile")]
    pub const fn new(text: &'static str) -> Self {
        if !is_code(text.as_bytes()) {
            panic!("not a code");
        }
        Self(Cow::Borrowed(text))
    }

    /// The code as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first part: `sandbox` of `sandbox.launch.layer.missing`.
    #[must_use]
    pub fn area(&self) -> &str {
        self.0.split_once('.').map_or(&*self.0, |(area, _)| area)
    }
}

#[expect(clippy::indexing_slicing, reason = "const code cannot iterate; the index is below the length")]
const fn is_code(text: &[u8]) -> bool {
    let (mut at, mut dots, mut part) = (0, 0, 0);
    while at < text.len() {
        match text[at] {
            b'.' if part == 0 => return false,
            b'.' => {
                dots += 1;
                part = 0;
            }
            b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' => part += 1,
            _ => return false,
        }
        at += 1;
    }
    part > 0 && dots >= 1 && dots <= 5 && text.len() <= 96
}

impl FromStr for Code {
    type Err = ParseCodeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_code(text.as_bytes()) { Ok(Self(Cow::Owned(text.to_owned()))) } else { Err(ParseCodeError) }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_held() {
        assert_eq!("policy.bundle.expired".parse::<Code>().expect("a code").area(), "policy");
        for bad in ["", "one", ".a", "a.", "a..b", "A.b", "a b.c", "a.b.c.d.e.f.g"] {
            assert!(bad.parse::<Code>().is_err(), "{bad}");
        }
    }
}
