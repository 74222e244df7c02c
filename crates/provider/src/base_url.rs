//! [`BaseUrl`]: where a provider's API begins, in the forms in which people write it.

use std::str::FromStr;

use sigil_policy::{Endpoint, ParseEndpointError};

/// Scheme, host, port, and the path below which the API lies.
///
/// With and without version are both understood: `https://api.openai.com`, `https://api.openai.com/v1/` and
/// `https://openrouter.ai/api` all find `/v1/…`; a path that has a version of its own (`/v1beta/openai`) is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    endpoint: Endpoint,
    prefix: String,
}

/// Why a text is not a base URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseBaseUrlError {
    /// Scheme, host or port.
    #[error("not a base URL such as https://api.example.com/v1: {0}")]
    Endpoint(#[from] ParseEndpointError),
    /// The path.
    #[error("the path of a base URL has letters, digits, `-`, `.`, `_` and `/` only; no query and no fragment")]
    Path,
}

impl BaseUrl {
    /// Where to connect; signed policy must name it.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The whole path of `resource`, such as `/v1/messages`.
    #[must_use]
    pub fn path(&self, resource: &str) -> String {
        format!("{}/{resource}", self.prefix)
    }
}

impl FromStr for BaseUrl {
    type Err = ParseBaseUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let after = text.find("://").map_or(0, |at| at + 3);
        let path_at = text.get(after..).and_then(|rest| rest.find('/')).map_or(text.len(), |at| after + at);
        let (origin, path) = text.split_at_checked(path_at).ok_or(ParseBaseUrlError::Path)?;
        let endpoint = origin.parse()?;
        let path = path.trim_end_matches('/');
        // The address of the resource itself, as documentation shows it.
        let path = path.strip_suffix("/chat/completions").or_else(|| path.strip_suffix("/messages")).unwrap_or(path);
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'/');
        let parts = path.split('/').skip(1);
        if !path.bytes().all(plain) || parts.clone().any(|part| matches!(part, "" | "." | "..")) {
            return Err(ParseBaseUrlError::Path);
        }
        let is_version = |part: &str| {
            part.strip_prefix('v').is_some_and(|rest| rest.bytes().next().is_some_and(|b| b.is_ascii_digit()))
        };
        let has_version = parts.clone().any(is_version);
        let prefix = if has_version { path.to_owned() } else { format!("{path}/v1") };
        Ok(Self { endpoint, prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_and_without_a_version() {
        for (text, endpoint, path) in [
            ("https://api.openai.com", "https://api.openai.com", "/v1/x"),
            ("https://api.openai.com/", "https://api.openai.com", "/v1/x"),
            ("https://api.openai.com/v1", "https://api.openai.com", "/v1/x"),
            ("https://api.openai.com/v1/", "https://api.openai.com", "/v1/x"),
            ("http://127.0.0.1:4010", "http://127.0.0.1:4010", "/v1/x"),
            ("http://[::1]:4010/v1", "http://[::1]:4010", "/v1/x"),
            ("https://openrouter.ai/api/v1", "https://openrouter.ai", "/api/v1/x"),
            ("https://openrouter.ai/api", "https://openrouter.ai", "/api/v1/x"),
            ("https://a.example/v1beta/openai", "https://a.example", "/v1beta/openai/x"),
            ("https://api.anthropic.com/v1/messages", "https://api.anthropic.com", "/v1/x"),
            ("https://a.example/v1/chat/completions", "https://a.example", "/v1/x"),
        ] {
            let url: BaseUrl = text.parse().expect(text);
            assert_eq!((url.endpoint().to_string().as_str(), url.path("x").as_str()), (endpoint, path), "{text}");
        }
        for bad in [
            "",
            "api.openai.com",
            "ftp://a.example",
            "https://u:p@a.example",
            "https://a.example/v1?x=1",
            "https://a/../b",
            "https://a//b",
            "https://a/v1#x",
            "https://a/ v1",
            "https://",
        ] {
            assert!(bad.parse::<BaseUrl>().is_err(), "{bad}");
        }
    }
}
