//! Addresses of pages: `http` and `https` only, with the one host parser that policy and egress use.

use std::fmt;
use std::str::FromStr;

use sigil_types::{Host, ParseHostError};

/// Why a text is not an address that can be fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseUrl {
    /// Neither `http` nor `https`.
    #[error("an address starts with http:// or https://")]
    Scheme,
    /// A user name or password in it.
    #[error("an address has no user name or password here")]
    UserInfo,
    /// Not a host.
    #[error(transparent)]
    Host(#[from] ParseHostError),
    /// Not a port.
    #[error("a port is a number from 1 to 65535")]
    Port,
    /// Longer than any server reads.
    #[error("an address has at most 8192 characters")]
    Length,
}

/// The scheme of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// An `http` or `https` address, without a fragment.
///
/// INVARIANT: `path` starts with `/` and has visible ASCII only, so it cannot end a request line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    scheme: Scheme,
    host: Host,
    port: u16,
    path: String,
}

impl Url {
    /// The scheme.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host.
    #[must_use]
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// Path and query.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// `host:port`, always with the port.
    #[must_use]
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// What the header `Host` says: with the port only when it is not the scheme's own.
    #[must_use]
    pub fn host_header(&self) -> String {
        if self.port == self.scheme.port() { self.host.to_string() } else { self.authority() }
    }

    /// The address that a `Location` header leads to (RFC 3986, 5.2, for the forms that servers send).
    ///
    /// # Errors
    /// [`ParseUrl`] when it leads to nothing that can be fetched.
    pub fn join(&self, location: &str) -> Result<Self, ParseUrl> {
        let location = location.split('#').next().unwrap_or_default();
        if location.contains("://") && !location.starts_with(['/', '?', '.']) {
            return location.parse();
        }
        if let Some(rest) = location.strip_prefix("//") {
            return format!("{}://{rest}", self.scheme.as_str()).parse();
        }
        let scheme_like = location.split(['/', '?']).next().unwrap_or_default();
        if scheme_like.contains(':') {
            return Err(ParseUrl::Scheme);
        }
        let base = self.path.split('?').next().unwrap_or("/");
        let path = if location.starts_with('/') {
            location.to_owned()
        } else if location.starts_with('?') {
            format!("{base}{location}")
        } else {
            let folder = base.rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{folder}/{location}")
        };
        Ok(Self { path: without_dots(&encode(&path)), ..self.clone() })
    }
}

/// Removes `.` and `..` from a path (RFC 3986, 5.2.4); the query stays.
fn without_dots(path: &str) -> String {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let mut kept: Vec<&str> = Vec::new();
    let mut parts = path.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        match part {
            "." | ".." => {
                if part == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    let path = format!("/{}", kept.join("/"));
    query.map_or(path.clone(), |query| format!("{path}?{query}"))
}

/// Percent-encodes everything that may not stand in a request line.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'"' && byte != b'<' && byte != b'>' && byte != b'\\' && byte != b'^' {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

impl FromStr for Url {
    type Err = ParseUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > 8192 {
            return Err(ParseUrl::Length);
        }
        let (scheme, rest) = text.split_once("://").ok_or(ParseUrl::Scheme)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(ParseUrl::Scheme),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?', '\\']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(ParseUrl::UserInfo);
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, parse_port(port)?),
            _ => (authority, scheme.port()),
        };
        let path = match path.chars().next() {
            None => "/".to_owned(),
            Some('?') => format!("/{path}"),
            // Browsers read a backslash as a slash, this and the proxy would not: such addresses are not read at all.
            Some('\\') => return Err(ParseHostError::Character.into()),
            Some(_) => path.to_owned(),
        };
        Ok(Self { scheme, host: host.parse()?, port, path: encode(&path) })
    }
}

fn parse_port(text: &str) -> Result<u16, ParseUrl> {
    let plain = text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| plain && *port != 0).ok_or(ParseUrl::Port)
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.as_str(), self.host_header(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_read_strictly() {
        let read = |text: &str| text.parse::<Url>().map(|url| url.to_string());
        assert_eq!(read("HTTP://Example.org"), Ok("http://example.org/".into()));
        assert_eq!(read("https://example.org:443/a?b#c"), Ok("https://example.org/a?b".into()));
        assert_eq!(read("http://[::1]:8080/"), Ok("http://[::1]:8080/".into()));
        assert_eq!(read("http://a.org/ü\r\nHost: b"), Ok("http://a.org/%C3%BC%0D%0AHost:%20b".into()));
        for bad in [
            "",
            "a.org",
            "ftp://a.org",
            "file:///etc/passwd",
            "http://u:p@a.org/",
            "http://a.org:0/",
            "http://a.org:99999/",
            "http://0x7f.1/",
            "http://a.org\\@b.org/",
            "http:///x",
            "javascript:x",
        ] {
            assert!(bad.parse::<Url>().is_err(), "{bad}");
        }
    }

    #[test]
    fn redirects_lead_where_they_say() {
        let base: Url = "https://a.org/x/y?z".parse().expect("a URL");
        let to = |location: &str| base.join(location).map(|url| url.to_string());
        assert_eq!(to("/q"), Ok("https://a.org/q".into()));
        assert_eq!(to("q"), Ok("https://a.org/x/q".into()));
        assert_eq!(to("../q/./r/.."), Ok("https://a.org/q/".into()));
        assert_eq!(to("?q"), Ok("https://a.org/x/y?q".into()));
        assert_eq!(to("//b.org/q"), Ok("https://b.org/q".into()));
        assert_eq!(to("http://b.org:81/q"), Ok("http://b.org:81/q".into()));
        assert_eq!(to("/to?u=http://c.org"), Ok("https://a.org/to?u=http://c.org".into()));
        for bad in ["javascript:alert(1)", "file:///x", "ftp://b.org/"] {
            assert!(to(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_address_can_break_a_request_line(text in "http://a\\.org\\PC{0,40}", location in "\\PC{0,40}") {
            if let Ok(url) = text.parse::<Url>() {
                prop_assert!(url.path().starts_with('/') && url.path().bytes().all(|b| b.is_ascii_graphic()));
                if let Ok(next) = url.join(&location) {
                    prop_assert!(next.path().starts_with('/') && next.path().bytes().all(|b| b.is_ascii_graphic()));
                }
            }
        }
    }
}
