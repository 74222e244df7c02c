//! Paths of requests: one reading only, and rules over them.
//!
//! A server may decode a path once, twice or not at all, and may or may not fold `..`, `//` and `;`. A rule that was checked
//! on one reading and served by another is a way around the rule, so a path with two readings is refused.

use std::fmt;
use std::str::FromStr;

/// The most bytes that a path may have, as it is sent.
pub const MAX_PATH: usize = 4096;

/// Why a text is not a path with exactly one reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseUrlPath {
    /// It does not begin with `/`, or is too long.
    #[error("a path begins with `/` and has at most {MAX_PATH} bytes")]
    Form,
    /// A character that no path has, in clear or encoded.
    #[error("a path has no control character, no backslash, and what it encodes is UTF-8")]
    Character,
    /// A `%` that is not followed by two hexadecimal digits, or that encodes another one.
    #[error("a `%` in a path encodes one character, and not another `%` with two digits")]
    Percent,
    /// A slash that is encoded.
    #[error("a slash in a path is not encoded")]
    Slash,
    /// A part that is empty, `.` or `..`, with or without a `;` after it.
    #[error("no part of a path is empty, `.` or `..`")]
    Part,
}

/// The path of a request, decoded once.
///
/// INVARIANT: begins with `/`; no part but the last is empty; none is `.` or `..`, also before a `;`; no control character,
/// no backslash, and no `%` before two hexadecimal digits, so that decoding it again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlPath(Box<str>);

impl UrlPath {
    /// The decoded path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UrlPath {
    type Err = ParseUrlPath;

    /// Reads the path of a request target (RFC 9112, 3.2.1), without its query.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.starts_with('/') || text.len() > MAX_PATH {
            return Err(ParseUrlPath::Form);
        }
        let mut decoded = Vec::with_capacity(text.len());
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            match byte {
                b'%' => {
                    let (high, low) = (bytes.next().and_then(nibble), bytes.next().and_then(nibble));
                    let (Some(high), Some(low)) = (high, low) else { return Err(ParseUrlPath::Percent) };
                    match high << 4 | low {
                        b'/' => return Err(ParseUrlPath::Slash),
                        plain => decoded.push(plain),
                    }
                }
                b'?' | b'#' => return Err(ParseUrlPath::Character),
                plain if plain.is_ascii_graphic() => decoded.push(plain),
                _ => return Err(ParseUrlPath::Character),
            }
        }
        let decoded = String::from_utf8(decoded).map_err(|_| ParseUrlPath::Character)?;
        if decoded.chars().any(|c| c.is_control() || c == '\\') {
            return Err(ParseUrlPath::Character);
        }
        let again = decoded.as_bytes().windows(3).any(|w| matches!(w, [b'%', a, b] if is_hex(*a) && is_hex(*b)));
        if again {
            return Err(ParseUrlPath::Percent);
        }
        let mut parts = decoded.split('/').skip(1).peekable();
        while let Some(part) = parts.next() {
            let named = part.split_once(';').map_or(part, |(named, _)| named);
            let last = parts.peek().is_none();
            // Some servers leave spaces and dots at the end of a part away.
            if !named.is_empty() && named.trim_end_matches([' ', '.']).is_empty()
                || named.is_empty() && !(last && part.is_empty())
            {
                return Err(ParseUrlPath::Part);
            }
        }
        Ok(Self(decoded.into()))
    }
}

const fn is_hex(byte: u8) -> bool {
    byte.is_ascii_hexdigit()
}

fn nibble(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Which paths: `/v1/items` for exactly this one, `/v1/*` for all below `/v1/`, `/*` for all.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathRule {
    /// What is written before the `*`, or the whole path.
    text: Box<str>,
    below: bool,
}

/// Why a text is not a rule for paths.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a path rule is a decoded path such as /v1/items, or one with `*` as its last part, such as /v1/*: {0}")]
pub struct ParsePathRule(ParseUrlPath);

impl PathRule {
    /// Whether `path` is one of these.
    #[must_use]
    pub fn covers(&self, path: &UrlPath) -> bool {
        if self.below { path.0.starts_with(&*self.text) } else { *path.0 == *self.text }
    }
}

impl FromStr for PathRule {
    type Err = ParsePathRule;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (path, below) = match text.strip_suffix("/*") {
            Some(before) => (format!("{before}/"), true),
            None => (text.to_owned(), false),
        };
        // A rule is written as it reads: decoding it must change nothing.
        let read: UrlPath = path.parse().map_err(ParsePathRule)?;
        if *read.0 != *path || path.contains('*') {
            return Err(ParsePathRule(ParseUrlPath::Character));
        }
        Ok(Self { text: path.into(), below })
    }
}

impl fmt::Display for PathRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.text, if self.below { "*" } else { "" })
    }
}

super::text_form!(PathRule);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<String, ParseUrlPath> {
        text.parse::<UrlPath>().map(|path| path.as_str().to_owned())
    }

    #[test]
    fn a_path_with_one_reading_is_decoded() {
        assert_eq!(read("/").as_deref(), Ok("/"));
        assert_eq!(read("/v1/items/").as_deref(), Ok("/v1/items/"));
        assert_eq!(read("/%76%31/a%20b").as_deref(), Ok("/v1/a b"));
        assert_eq!(read("/100%25").as_deref(), Ok("/100%"));
        assert_eq!(read("/a;v=1/b").as_deref(), Ok("/a;v=1/b"));
        assert_eq!(read("/gr%C3%BC%C3%9F").as_deref(), Ok("/grüß"));
    }

    #[test]
    fn a_path_with_two_readings_is_refused() {
        use ParseUrlPath::{Character, Form, Part, Percent, Slash};
        for (bad, why) in [
            ("", Form),
            ("v1", Form),
            ("*", Form),
            ("/a/../b", Part),
            ("/a/..", Part),
            ("/./a", Part),
            ("//a", Part),
            ("/a//b", Part),
            ("/a//", Part),
            ("/a/..;/b", Part),
            ("/a/;/b", Part),
            ("/a/%2e%2e/b", Part),
            ("/a/.%2E/b", Part),
            ("/a%2fb", Slash),
            ("/a%2F..%2Fb", Slash),
            ("/a%5cb", Character),
            ("/a\\b", Character),
            ("/a%00", Character),
            ("/a%0d%0a", Character),
            ("/a%ff", Character),
            ("/a b", Character),
            ("/a#b", Character),
            ("/grüß", Character),
            ("/a%", Percent),
            ("/a%2", Percent),
            ("/a%zz", Percent),
            ("/a%252e%252e", Percent),
            ("/a%+1b", Percent),
        ] {
            assert_eq!(read(bad), Err(why), "{bad}");
        }
        assert_eq!(read(&format!("/{}", "a".repeat(MAX_PATH))), Err(Form));
    }

    #[test]
    fn a_rule_covers_one_path_or_those_below_one() {
        let covers = |rule: &str, path: &str| {
            rule.parse::<PathRule>().expect(rule).covers(&path.parse::<UrlPath>().expect(path))
        };
        assert!(covers("/v1/items", "/v1/items") && covers("/v1/items", "/v1/%69tems"));
        assert!(!covers("/v1/items", "/v1/items/") && !covers("/v1/items", "/v1/Items"));
        assert!(covers("/v1/*", "/v1/a/b") && covers("/v1/*", "/v1/") && covers("/*", "/"));
        assert!(!covers("/v1/*", "/v1") && !covers("/v1/*", "/v10/a"));
        for bad in ["", "v1", "*", "/v1/*/x", "/v1*", "/a/../b", "/a//*", "/%61", "/a b%20"] {
            assert!(bad.parse::<PathRule>().is_err(), "{bad}");
        }
        assert_eq!("/v1/*".parse::<PathRule>().expect("a rule").to_string(), "/v1/*");
    }

    proptest! {
        #[test]
        fn decoding_again_changes_nothing(text in "/[a-z0-9%./;A-F2-5 \\\\]{0,24}") {
            if let Ok(path) = text.parse::<UrlPath>() {
                // What was decoded, encoded where it must be, reads the same.
                let written = path.as_str().replace('%', "%25").replace(' ', "%20");
                prop_assert_eq!(written.parse::<UrlPath>().expect("its own"), path.clone());
                prop_assert!(!path.as_str().contains("//") && !path.as_str().contains("/../"));
            }
        }
    }
}
