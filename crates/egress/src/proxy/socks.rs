//! SOCKS version 5, as far as the proxy takes it: no authentication, `CONNECT` only.
//!
//! The listener is the identity, so a user name or password would say nothing; `BIND` and `UDP ASSOCIATE` would be ways in
//! and out that no verdict covers. Every field has a bound in the protocol itself, and the whole has [`MAX_OPENING`]. Source:
//! RFC 1928.

use std::net::{Ipv4Addr, Ipv6Addr};

use sigil_types::{Code, Host, HostName, HostPort};

/// The first byte of the protocol. No HTTP request begins with it.
pub const VERSION: u8 = 5;
/// The most bytes that a greeting and a request have together: 2 + 255, and 4 + 1 + 255 + 2.
pub const MAX_OPENING: usize = 519;
/// The answer to a greeting that offers to go without authentication.
pub(super) const NO_AUTHENTICATION: &[u8] = &[VERSION, 0];

/// Why a SOCKS client is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSocks {
    /// The connection ended within the greeting or the request.
    #[error("the SOCKS greeting or request is incomplete")]
    Incomplete,
    /// Another version, or a reserved byte that is not zero.
    #[error("the SOCKS version is not 5, or a reserved byte is not zero")]
    Version,
    /// The client insists on authentication.
    #[error("the SOCKS client does not offer to go without authentication; the proxy knows it by its connection")]
    Methods,
    /// `BIND`, `UDP ASSOCIATE`, or another command.
    #[error("the SOCKS command is not CONNECT; nothing can be listened for, and UDP does not pass")]
    Command,
    /// Another type of address than version 4, name or version 6.
    #[error("the SOCKS address type is not one of IPv4, domain name and IPv6")]
    AddressType,
    /// A name that is no host name. An address has types of its own, and is not taken as a name.
    #[error("the SOCKS domain name is not a valid host name")]
    Name,
    /// Port 0.
    #[error("the SOCKS request names port 0")]
    Port,
}

impl BadSocks {
    /// The stable code.
    #[must_use]
    pub const fn code(self) -> Code {
        Code::new(match self {
            Self::Incomplete => "egress.socks.incomplete.refused",
            Self::Version => "egress.socks.version.refused",
            Self::Methods => "egress.socks.methods.refused",
            Self::Command => "egress.socks.command.refused",
            Self::AddressType => "egress.socks.type.refused",
            Self::Name => "egress.socks.name.refused",
            Self::Port => "egress.socks.port.refused",
        })
    }

    /// What the client is told (RFC 1928, sections 3 and 6).
    #[must_use]
    pub const fn told(self) -> &'static [u8] {
        match self {
            Self::Methods => NO_METHOD,
            Self::Command => const { &reply(7) },
            Self::AddressType => const { &reply(8) },
            Self::Incomplete | Self::Version | Self::Name | Self::Port => const { &reply(1) },
        }
    }
}

/// No method of authentication is acceptable: the only refusal that a client understands before its request.
pub(super) const NO_METHOD: &[u8] = &[VERSION, 0xff];

/// A reply with this code. The address that it carries is where the proxy dials from, which is nobody's business.
pub(super) const fn reply(code: u8) -> [u8; 10] {
    [VERSION, code, 0, 1, 0, 0, 0, 0, 0, 0]
}

/// Reads a greeting: the methods of authentication that the client knows. Returns its length once it is whole.
///
/// # Errors
/// [`BadSocks`], as soon as it can be told.
pub fn greeting(bytes: &[u8]) -> Result<Option<usize>, BadSocks> {
    match bytes {
        [] | [VERSION] => Ok(None),
        [VERSION, 0, ..] => Err(BadSocks::Methods),
        [VERSION, count, rest @ ..] => match rest.get(..usize::from(*count)) {
            None => Ok(None),
            Some(methods) if methods.contains(&0) => Ok(Some(2 + methods.len())),
            Some(_) => Err(BadSocks::Methods),
        },
        _ => Err(BadSocks::Version),
    }
}

/// Reads a request. Returns its target and its length once it is whole.
///
/// # Errors
/// [`BadSocks`], as soon as it can be told.
pub fn request(bytes: &[u8]) -> Result<Option<(HostPort, usize)>, BadSocks> {
    let (kind, rest) = match bytes {
        [VERSION, 1, 0, kind, rest @ ..] => (*kind, rest),
        [] | [VERSION] | [VERSION, 1] | [VERSION, 1, 0] => return Ok(None),
        [VERSION, 1, ..] => return Err(BadSocks::Version),
        [VERSION, ..] => return Err(BadSocks::Command),
        _ => return Err(BadSocks::Version),
    };
    let (host, rest) = match (kind, rest) {
        (1, [a, b, c, d, rest @ ..]) => (Host::Address(Ipv4Addr::new(*a, *b, *c, *d).into()), rest),
        (3, [0, ..]) => return Err(BadSocks::Name),
        (3, [length, rest @ ..]) => match rest.split_at_checked(usize::from(*length)) {
            Some((name, rest)) => (Host::Name(domain(name)?), rest),
            None => return Ok(None),
        },
        (4, rest) => match rest.split_first_chunk::<16>() {
            Some((octets, rest)) => (Host::Address(Ipv6Addr::from(*octets).into()), rest),
            None => return Ok(None),
        },
        (1 | 3, _) => return Ok(None),
        _ => return Err(BadSocks::AddressType),
    };
    let [high, low, after @ ..] = rest else { return Ok(None) };
    match u16::from_be_bytes([*high, *low]) {
        0 => Err(BadSocks::Port),
        port => Ok(Some((HostPort { host, port }, bytes.len() - after.len()))),
    }
}

/// A name as the one host parser reads it. IDNA is the client's task: what is not ASCII here has two readings.
fn domain(name: &[u8]) -> Result<HostName, BadSocks> {
    let text = std::str::from_utf8(name).ok().filter(|text| text.is_ascii());
    text.and_then(|text| text.parse().ok()).ok_or(BadSocks::Name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(name: &[u8], port: u16) -> Vec<u8> {
        let length = u8::try_from(name.len()).expect("short");
        [&[5, 1, 0, 3, length], name, &port.to_be_bytes()].concat()
    }

    #[test]
    fn each_address_type_is_read() {
        for (bytes, target) in [
            (vec![5, 1, 0, 1, 93, 184, 216, 34, 1, 187], "93.184.216.34:443"),
            (named(b"Example.COM", 443), "example.com:443"),
            ([&[5, 1, 0, 4][..], &Ipv6Addr::LOCALHOST.octets(), &[0, 80]].concat(), "[::1]:80"),
        ] {
            for cut in 0..bytes.len() {
                assert_eq!(request(&bytes[..cut]), Ok(None), "{target} cut at {cut}");
            }
            let whole = [bytes.as_slice(), b"after"].concat();
            assert_eq!(request(&whole), Ok(Some((target.parse().expect("a target"), bytes.len()))));
        }
    }

    #[test]
    fn what_is_not_taken_is_refused_with_its_reason() {
        use BadSocks as B;
        let long = named(&[b'a'; 255], 443);
        for (bytes, why) in [
            (vec![4, 1, 0, 80], B::Version),
            (vec![5, 1, 1, 1, 1, 1, 1, 1, 0, 80], B::Version),
            (vec![5, 2, 0, 1, 1, 1, 1, 1, 0, 80], B::Command),
            (vec![5, 3, 0, 1, 1, 1, 1, 1, 0, 80], B::Command),
            (vec![5, 0, 0, 1, 1, 1, 1, 1, 0, 80], B::Command),
            (vec![5, 1, 0, 2, 1, 1, 1, 1, 0, 80], B::AddressType),
            (vec![5, 1, 0, 0, 1, 1, 1, 1, 0, 80], B::AddressType),
            (vec![5, 1, 0, 1, 1, 1, 1, 1, 0, 0], B::Port),
            (named(b"", 80), B::Name),
            (named(b"evil.example\0.allowed.example", 443), B::Name),
            (named(b"a b", 443), B::Name),
            (named(b"a.example\r\n", 443), B::Name),
            (named(b"127.0.0.1", 443), B::Name),
            (named(b"127.1", 443), B::Name),
            (named(b"0x7f000001", 443), B::Name),
            (named(b"2130706433", 443), B::Name),
            (named(b"[::1]", 443), B::Name),
            (named(b"::1", 443), B::Name),
            (named(b"a.example.", 443), B::Name),
            (named("１２７.0.0.1".as_bytes(), 443), B::Name),
            (named(b"\xff\xfe", 443), B::Name),
            (named(b"user@a.example", 443), B::Name),
            (long, B::Name),
        ] {
            assert_eq!(request(&bytes), Err(why), "{bytes:?}");
        }
    }

    #[test]
    fn a_client_goes_without_authentication_or_not_at_all() {
        assert_eq!(greeting(&[5, 1, 0, 5]), Ok(Some(3)));
        assert_eq!(greeting(&[5, 3, 2, 1, 0]), Ok(Some(5)));
        for partial in [&[][..], &[5], &[5, 2, 0]] {
            assert_eq!(greeting(partial), Ok(None));
        }
        assert_eq!(greeting(&[5, 0]), Err(BadSocks::Methods));
        assert_eq!(greeting(&[5, 2, 1, 2]), Err(BadSocks::Methods));
        assert_eq!(greeting(&[4, 1, 0]), Err(BadSocks::Version));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = greeting(&bytes);
            if let Ok(Some((target, length))) = request(&bytes) {
                prop_assert!(length <= bytes.len() && length + 257 <= MAX_OPENING);
                prop_assert_eq!(target.to_string().parse::<HostPort>(), Ok(target));
            }
        }
    }
}
