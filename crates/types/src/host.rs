//! The one host and address parser, for manifests, policy and egress alike.
//!
//! Two parsers that disagree are a way out: a name that one reads as allowed and the other resolves as something else. So
//! there is one, it is strict, and what it accepted is what is compared, resolved and dialled.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not a host, port or pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseHostError {
    /// Nothing, or longer than 253 characters.
    #[error("a host name has 1 to 253 characters")]
    Length,
    /// A character that no host name has.
    #[error("a host name has letters, digits, `-` and dots only; no spaces, control characters, user or path")]
    Character,
    /// An empty label, one over 63 characters, or one with a hyphen at an end.
    #[error("each part of a host name has 1 to 63 characters and no hyphen at either end")]
    Part,
    /// It reads as a number, but is not four decimal parts.
    #[error("a numeric host must be written as four decimal numbers, such as 192.0.2.1")]
    Numeric,
    /// A name that does not survive IDNA processing (UTS #46).
    #[error("not a valid international name")]
    International,
    /// No port, or not 1 to 65535 in plain decimal.
    #[error("expected `host:port` with a port from 1 to 65535")]
    Port,
    /// A wildcard over a registry, below which anybody can have a name, or one that is not the whole first part.
    #[error(
        "a wildcard is `*.` and a name of at least two parts, below which not everybody can have a name: not `*`, `*.com` or \
         `*.co.uk`; name the hosts one by one"
    )]
    Wildcard,
}

/// A DNS name: ASCII lower case (IDNA already applied), no trailing dot, not numeric.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(Box<str>);

/// A name or an address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A name that must be resolved.
    Name(HostName),
    /// An address. Brackets were required around version 6 where a port may follow.
    Address(IpAddr),
}

/// A host and a port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// Where.
    pub host: Host,
    /// 1 to 65535.
    pub port: u16,
}

/// A host, or all names below one: `example.com`, `*.example.com`, `192.0.2.1`.
///
/// One rule for depth: `*.example.com` is every name below `example.com`, however deep, and not `example.com` itself. A star
/// stands at the beginning, once, and before a dot; it never stands for an address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// Exactly this host.
    Exact(Host),
    /// Every name below this one, at any depth, and not the name itself.
    Below(HostName),
}

impl HostName {
    /// The name in ASCII.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a registry, by its form: one part, or a country's with one of the usual second parts (`co.uk`). Others
    /// exist; those on which people have accounts are a list of their own, for labels.
    fn is_registry(&self) -> bool {
        let Some((second, country)) = self.0.rsplit_once('.') else { return true };
        country.len() == 2 && REGISTRIES.contains(&second)
    }
}

/// The second part of a country's registry.
const REGISTRIES: [&str; 9] = ["ac", "co", "com", "edu", "gob", "gov", "mil", "net", "org"];

impl HostPattern {
    /// Whether `host` is covered.
    #[must_use]
    pub fn covers(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Exact(mine), theirs) => mine == theirs,
            (Self::Below(base), Host::Name(name)) => {
                name.0.strip_suffix(&*base.0).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            (Self::Below(_), Host::Address(_)) => false,
        }
    }

    /// Whether every host that `other` covers is covered.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Exact(host)) => self.covers(host),
            (Self::Below(base), Self::Below(inner)) => base == inner || self.covers(&Host::Name(inner.clone())),
            (Self::Exact(_), Self::Below(_)) => false,
        }
    }
}

impl FromStr for HostName {
    type Err = ParseHostError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || text.len() > 1024 {
            return Err(ParseHostError::Length);
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace() || "/\\?#@:[]%<>^|*\"'`{},;!$&()=+~_".contains(c)) {
            return Err(ParseHostError::Character);
        }
        let ascii = idna::domain_to_ascii_cow(text.as_bytes(), idna::AsciiDenyList::URL)
            .map_err(|_| ParseHostError::International)?
            .into_owned();
        if ascii.is_empty() || ascii.len() > 253 {
            return Err(ParseHostError::Length);
        }
        for part in ascii.split('.') {
            if part.is_empty() || part.len() > 63 || part.starts_with('-') || part.ends_with('-') {
                return Err(ParseHostError::Part);
            }
            if !part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
                return Err(ParseHostError::Character);
            }
        }
        // The last part decides: resolvers read `1`, `0x7f.1` and `127.1` as addresses (WHATWG URL, "ends in a number").
        let last = ascii.rsplit('.').next().unwrap_or_default();
        let hex = last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
        if hex || last.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ParseHostError::Numeric);
        }
        Ok(Self(ascii.into()))
    }
}

impl FromStr for Host {
    type Err = ParseHostError;

    /// Reads a name, four decimal numbers, or a version 6 address in brackets.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(ParseHostError::Character)?;
            return inner.parse::<Ipv6Addr>().map(|a| Self::Address(a.into())).map_err(|_| ParseHostError::Character);
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Address(address.into()));
        }
        text.parse().map(Self::Name)
    }
}

impl FromStr for HostPort {
    type Err = ParseHostError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = text.rsplit_once(':').ok_or(ParseHostError::Port)?;
        if port.is_empty() || port.len() > 5 || !port.bytes().all(|b| b.is_ascii_digit()) || port.starts_with('0') {
            return Err(ParseHostError::Port);
        }
        Ok(Self { host: host.parse()?, port: port.parse().map_err(|_| ParseHostError::Port)? })
    }
}

impl FromStr for HostPattern {
    type Err = ParseHostError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("*.") {
            Some(base) => {
                let base: HostName = base.parse()?;
                if base.is_registry() { Err(ParseHostError::Wildcard) } else { Ok(Self::Below(base)) }
            }
            None if text.contains('*') => Err(ParseHostError::Wildcard),
            None => text.parse().map(Self::Exact),
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(&name.0),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => host.fmt(f),
            Self::Below(base) => write!(f, "*.{base}"),
        }
    }
}

macro_rules! text_form {
    ($($name:ident),+) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}
text_form!(HostName, Host, HostPort, HostPattern);

/// What kind of place an address is. Everything but [`AddressClass::Global`] is blocked unless signed policy names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressClass {
    /// On the internet.
    Global,
    /// This machine.
    Loopback,
    /// A private network (RFC 1918, RFC 4193, RFC 6598).
    Private,
    /// This link (RFC 3927, RFC 4291), where clouds keep their metadata services.
    LinkLocal,
    /// A cloud's metadata service outside the link-local range.
    Metadata,
    /// Not one machine: multicast or broadcast.
    Multicast,
    /// Unspecified, documentation, benchmarking or reserved (RFC 6890).
    Reserved,
}

impl AddressClass {
    /// The class of `address`; a version 4 address that is carried inside a version 6 one (mapped, compatible, NAT64,
    /// 6to4, Teredo) is classed as what it carries, and at best as reserved.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::of_v4(v4),
            IpAddr::V6(v6) => Self::of_v6(v6),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        match (a, b, c, d) {
            (168, 63, 129, 16) | (100, 100, 100, 200) | (192, 0, 0, 192) => Self::Metadata,
            (127, ..) => Self::Loopback,
            (10, ..) | (192, 168, ..) => Self::Private,
            (172, 16..=31, ..) | (100, 64..=127, ..) => Self::Private,
            (169, 254, ..) => Self::LinkLocal,
            (224..=239, ..) | (255, 255, 255, 255) => Self::Multicast,
            (0 | 240..=255, ..)
            | (192, 0, 0 | 2, _)
            | (192, 88, 99, _)
            | (198, 18 | 19, ..)
            | (198, 51, 100, _)
            | (203, 0, 113, _) => Self::Reserved,
            _ => Self::Global,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        let [a, b, c, d, e, f, g, h] = address.segments();
        let carried = |high: u16, low: u16| {
            let [w, x] = high.to_be_bytes();
            let [y, z] = low.to_be_bytes();
            match Self::of_v4(Ipv4Addr::new(w, x, y, z)) {
                Self::Global => Self::Reserved,
                other => other,
            }
        };
        match (a, b, c, d, e, f) {
            _ if address.is_loopback() => Self::Loopback,
            _ if address.is_unspecified() => Self::Reserved,
            (0, 0, 0, 0, 0, 0 | 0xffff) | (0, 0, 0, 0, 0xffff, 0) => carried(g, h),
            (0x64, 0xff9b, ..) => carried(g, h),
            (0x2002, ..) => carried(b, c),
            // ISATAP (RFC 5214, 6.1).
            (_, _, _, _, 0 | 0x200, 0x5efe) => carried(g, h),
            // Teredo, benchmarking, ORCHID and other protocol assignments (RFC 2928).
            (0x2001, 0..=0x01ff, ..) => Self::Reserved,
            // Of Amazon, Google and Scaleway.
            (0xfd00, 0xec2, ..) | (0xfd20, 0xce, ..) | (0xfd00, 0x42, ..) => Self::Metadata,
            (0xfc00..=0xfdff, ..) => Self::Private,
            (0xfe80..=0xfebf, ..) => Self::LinkLocal,
            (0xfec0..=0xfeff, ..) => Self::Private,
            (0xff00..=0xffff, ..) => Self::Multicast,
            (0x2001, 0x0db8, ..) | (0x3fff, 0..=0x0fff, ..) => Self::Reserved,
            (0x2000..=0x3fff, ..) => Self::Global,
            _ => Self::Reserved,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn class(text: &str) -> AddressClass {
        AddressClass::of(text.parse().expect("an address"))
    }

    const NO_HOSTS: &[&str] = &[
        "",
        ".",
        "a..b",
        "-a.com",
        "a-.com",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "1.2.3.4.5",
        "1.2.3",
        "256.1.1.1",
        "evil.com.",
        "evil\0.com",
        "evil.com\r\n",
        "a b.com",
        "user@host.com",
        "host/path",
        "[::1",
        "fe80::1%eth0",
        "[fe80::1%eth0]",
        "a_b.com",
        "0x7f000001",
        "017700000001",
        "0x7f.0.0.1",
        "127.0x1",
        "127.0.0.1.",
        "a.1",
        "a.0x1f",
        "1.2.3.4a.5",
        "::7f00:1",
        "[::ffff:127.0.0.1",
        "[127.0.0.1]",
        "１２７.0.0.1",
        "①②⑦.0.0.1",
        "127。0。0。1",
        "１２７．１",
        "０ｘ７ｆ．１",
        "evil.com。",
        "evil.com．",
        "evil\u{2024}",
        "evil.com\u{7f}",
        "evil.com\u{0}.good.com",
        "evil.com\tx",
        "evil.com\u{a0}x",
        "a%00.com",
        "xn--a.com",
        "*",
        "*.",
        "*.com",
        "*.co.uk",
        "*.com.au",
        "*.127.0.0.1",
        "*.[::1]",
        "*.*.example.com",
        "**.example.com",
        "a.*.example.com",
        "*example.com",
        "exa*mple.com",
        "*.example.com.",
    ];

    const BLOCKED: &[&str] = &[
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "10.1.2.3",
        "172.31.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "168.63.129.16",
        "100.100.100.200",
        "255.255.255.255",
        "224.0.0.1",
        "::1",
        "::",
        "::ffff:127.0.0.1",
        "::7f00:1",
        "64:ff9b::7f00:1",
        "64:ff9b::a00:1",
        "2002:7f00:1::",
        "2001::1",
        "fd00:ec2::254",
        "fd12::1",
        "fe80::1",
        "ff02::1",
        "2001:db8::1",
        "::ffff:8.8.8.8",
        "::ffff:0:7f00:1",
        "::8.8.8.8",
        "64:ff9b::808:808",
        "64:ff9b:1::a00:1",
        "2002:808:808::1",
        "2002:a9fe:a9fe::",
        "2606:2800:220:1:0:5efe:7f00:1",
        "2606:2800:220:1:200:5efe:a00:1",
        "2001:2::1",
        "2001:20::1",
        "2001:1ff::1",
        "fd20:ce::254",
        "fd00:42::42",
        "fec0::1",
        "3fff::1",
        "5f00::1",
        "100::1",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "240.0.0.1",
        "0.1.2.3",
    ];

    #[test]
    fn every_literal_trick_is_refused_or_classed() {
        let long = ["a".repeat(64), "a.".repeat(200)];
        for bad in NO_HOSTS.iter().copied().chain(long.iter().map(String::as_str)) {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad:?}");
            assert!(bad.starts_with('*') || bad.parse::<Host>().is_err(), "{bad:?}");
        }
        for blocked in BLOCKED {
            assert_ne!(class(blocked), AddressClass::Global, "{blocked}");
        }
        for metadata in [
            "168.63.129.16",
            "100.100.100.200",
            "192.0.0.192",
            "fd00:ec2::254",
            "fd20:ce::254",
            "::ffff:100.100.100.200",
        ] {
            assert_eq!(class(metadata), AddressClass::Metadata, "{metadata}");
        }
        assert_eq!(class("93.184.216.34"), AddressClass::Global);
        assert_eq!(class("2001:200::1"), AddressClass::Global);
        assert_eq!(class("2606:2800:220:1::1"), AddressClass::Global);
    }

    #[test]
    fn international_and_wide_forms_become_ascii() {
        let name = |text: &str| text.parse::<Host>().map(|host| host.to_string());
        assert_eq!(name("Bücher.Example"), Ok("xn--bcher-kva.example".into()));
        assert_eq!(name("ｅｘａｍｐｌｅ。com"), Ok("example.com".into()));
        assert!(name("１２７．０．０．１").is_err(), "wide digits are no way to an address");
    }

    #[test]
    fn a_wildcard_covers_what_is_below() {
        let pattern: HostPattern = "*.example.com".parse().expect("a pattern");
        let covers = |text: &str| pattern.covers(&text.parse().expect("a host"));
        assert!(covers("a.example.com") && covers("a.b.example.com") && covers("A.Example.COM"));
        assert!(!covers("1.2.3.4") && !covers("[::1]"), "never an address");
        for fine in ["*.bbc.co.uk", "*.co.example", "*.t.co", "*.example.uk"] {
            assert!(fine.parse::<HostPattern>().is_ok(), "{fine}");
        }
        assert!(!covers("example.com") && !covers("badexample.com") && !covers("example.com.evil.org"));
    }

    #[test]
    fn ports_are_plain_decimal() {
        for bad in ["a.com", "a.com:", "a.com:0", "a.com:65536", "a.com:+80", "a.com:080", "::1:80", "a.com:443.b.com"]
        {
            assert!(bad.parse::<HostPort>().is_err(), "{bad}");
        }
        assert_eq!("[::1]:80".parse::<HostPort>().expect("bracketed").to_string(), "[::1]:80");
    }

    proptest! {
        #[test]
        fn what_parses_prints_as_itself(text in "\\PC{0,40}") {
            if let Ok(host) = text.parse::<Host>() {
                prop_assert_eq!(host.to_string().parse::<Host>(), Ok(host));
            }
        }

        #[test]
        fn containment_agrees_with_covering(a in "(\\*\\.)?([ab]\\.){1,3}com", b in "(\\*\\.)?([ab]\\.){1,3}com", c in "([ab]\\.){1,4}com") {
            let (a, b): (HostPattern, HostPattern) = (a.parse().expect("a pattern"), b.parse().expect("a pattern"));
            let host: Host = c.parse().expect("a host");
            if a.contains(&b) && b.covers(&host) {
                prop_assert!(a.covers(&host));
            }
        }
    }
}
