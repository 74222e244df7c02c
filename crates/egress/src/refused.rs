//! [`Refused`]: why the proxy does not serve a connection. The plugin is told nothing of it; the owner is told all.

use sigil_types::{AddressClass, Code};

use crate::proxy::ended::NotForwarded;
use crate::proxy::hello::BadHello;
use crate::proxy::request::BadRequest;
use crate::proxy::socks::BadSocks;

/// Why a connection is not served, or not served any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The request cannot be read in exactly one way.
    #[error("the request was refused: {0}")]
    Request(BadRequest),
    /// The SOCKS greeting or request is not one that is taken.
    #[error("the request was refused: {0}")]
    Socks(BadSocks),
    /// No request came in time.
    #[error("no whole request came in time")]
    Slow,
    /// No rule covers the host.
    #[error("no rule of this plugin covers the host")]
    Host,
    /// A rule covers the host, but not this port.
    #[error("no rule of this plugin covers this port of the host")]
    Port,
    /// An address, written or resolved, that is not on the internet.
    #[error("the address is not on the internet ({class:?}) and signed policy does not name it")]
    Address {
        /// What it is.
        class: AddressClass,
    },
    /// An address of this machine or of a network that it is on.
    #[error("the address belongs to this machine or to a network that it is on")]
    Neighbour,
    /// One of the gateway's own listeners.
    #[error("the address is one of the gateway's own listeners")]
    Gateway,
    /// What networks this machine is on is not known.
    #[error("the networks of this machine could not be read, so addresses cannot be checked against them")]
    Surroundings,
    /// The tunnel does not begin with a ClientHello that can be read.
    #[error("the tunnel was refused: {0}")]
    Hello(BadHello),
    /// The ClientHello names no server.
    #[error("the TLS ClientHello names no server")]
    NoServerName,
    /// The ClientHello names another host than the tunnel.
    #[error("the TLS ClientHello names another host than the CONNECT request")]
    OtherServerName,
    /// The instance has as many connections as it may have.
    #[error("the plugin has as many connections open as it may have")]
    Connections,
    /// The instance has used up its bytes for the day.
    #[error("the plugin has used up the bytes that it may send or receive in a day")]
    Allowance,
    /// The audit log could not be written; nothing is done without it.
    #[error("the audit log could not be written")]
    Audit,
    /// The name has no address.
    #[error("the name could not be resolved")]
    Unresolved,
    /// The address did not answer.
    #[error("the host could not be reached")]
    Unreachable,
    /// A request inside of TLS that is ended.
    #[error("{0}")]
    Ended(NotForwarded),
    /// The server's answer is not HTTP/1.
    #[error("the server's answer is not a well-formed HTTP/1 response")]
    Answer,
}

/// What the plugin sees. One text for each, whatever the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// 403: not allowed.
    Forbidden,
    /// 502: allowed, and the other side could not be reached or did not answer properly.
    Gateway,
    /// 503: try again later.
    Busy,
}

impl Told {
    /// The whole answer, the same bytes every time.
    #[must_use]
    pub const fn bytes(self) -> &'static [u8] {
        match self {
            Self::Forbidden => {
                b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 64\r\nConnection: close\r\n\r\n\
                  Sigil does not allow this. The owner can see why: sigil audit.\r\n"
            }
            Self::Gateway => {
                b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain\r\nContent-Length: 33\r\nConnection: close\r\n\r\n\
                  The host could not be reached. \r\n"
            }
            Self::Busy => {
                b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 30\r\n\
                  Connection: close\r\n\r\n\
                  Not now. Try again later.   \r\n"
            }
        }
    }
}

impl Refused {
    /// The stable code.
    #[must_use]
    pub const fn code(self) -> Code {
        Code::new(match self {
            Self::Request(bad) => return bad.code(),
            Self::Socks(bad) => return bad.code(),
            Self::Ended(why) => return why.code(),
            Self::Slow => "egress.request.slow.closed",
            Self::Host => "egress.host.denied",
            Self::Port => "egress.port.denied",
            Self::Address { .. } => "egress.address.denied",
            Self::Neighbour => "egress.address.neighbour.denied",
            Self::Gateway => "egress.address.gateway.denied",
            Self::Surroundings => "egress.address.surroundings.unknown",
            Self::Hello(BadHello::NotTls) => "egress.tunnel.tls.missing",
            Self::Hello(BadHello::Malformed) => "egress.tunnel.hello.malformed",
            Self::Hello(BadHello::Hidden) => "egress.tunnel.hello.hidden",
            Self::NoServerName => "egress.tunnel.name.missing",
            Self::OtherServerName => "egress.tunnel.name.mismatch",
            Self::Connections => "egress.connections.exhausted",
            Self::Allowance => "egress.bytes.exhausted",
            Self::Audit => "egress.audit.unavailable",
            Self::Unresolved => "egress.host.unresolved",
            Self::Unreachable => "egress.host.unreachable",
            Self::Answer => "egress.answer.malformed",
        })
    }

    /// What the owner can do about it.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Socks(BadSocks::Methods) => {
                "Configure the plugin's SOCKS client without user name and password: the proxy knows each plugin by its listener."
            }
            Self::Socks(BadSocks::Command) => {
                "Nothing: a plugin can only connect. UDP and incoming connections do not pass the proxy."
            }
            Self::Socks(BadSocks::Name) => {
                "Let the plugin's client send the plain ASCII name (socks5h), or an address as an address."
            }
            Self::Request(_) | Self::Socks(_) | Self::Hello(BadHello::Malformed) | Self::Slow => {
                "Nothing, if the plugin is not expected to do this: it may be attacking the proxy. Otherwise report it to the plugin's author."
            }
            Self::Host | Self::Port => {
                "If the plugin should reach it, name host and port in its manifest and in the signed policy (`plugins.NAME.hosts`), then sign the policy and restart the plugin."
            }
            Self::Address { .. } | Self::Neighbour => {
                "Addresses of this machine and of private networks are reachable only when the signed policy names exactly this IP and port under `egress.local`."
            }
            Self::Gateway => "Nothing: plugins never reach the gateway's own listeners.",
            Self::Surroundings => "Let the gateway read /proc/net/route, /proc/net/ipv6_route and /proc/net/if_inet6.",
            Self::Hello(BadHello::NotTls) => {
                "If the protocol is not TLS, mark the rule `opaque` in manifest and signed policy. That gives up the check of the server's name."
            }
            Self::Hello(BadHello::Hidden) | Self::NoServerName => {
                "Let the plugin's client send its server name in clear (no ECH), or mark the rule `opaque` in manifest and signed policy."
            }
            Self::Ended(why) => why.remedy(),
            Self::OtherServerName => {
                "Nothing, if the plugin is not expected to do this: it asked for one host and spoke to another."
            }
            Self::Connections => {
                "Restart the plugin if it leaks connections, or raise `connections` or `connections_per_second` under [sandbox.network] in the signed policy."
            }
            Self::Allowance => {
                "Wait until it has come back, or raise `up_bytes_per_day` or `down_bytes_per_day` under [sandbox.network] in the signed policy."
            }
            Self::Audit => "Free disk space, or repair the audit log: `sigil audit verify`.",
            Self::Unresolved | Self::Unreachable | Self::Answer => {
                "Check the host's name and that it is up, and this machine's network and resolver."
            }
        }
    }

    /// What the plugin is told.
    #[must_use]
    pub const fn told(self) -> Told {
        match self {
            Self::Unresolved | Self::Unreachable | Self::Answer => Told::Gateway,
            Self::Connections | Self::Allowance | Self::Audit => Told::Busy,
            Self::Ended(why) if !why.is_denial() => Told::Gateway,
            _ => Told::Forbidden,
        }
    }

    /// Whether this is a refusal, and not a failure of something that was allowed.
    #[must_use]
    pub const fn is_denial(self) -> bool {
        matches!(self.told(), Told::Forbidden)
    }
}

impl From<BadRequest> for Refused {
    fn from(bad: BadRequest) -> Self {
        Self::Request(bad)
    }
}

impl From<BadSocks> for Refused {
    fn from(bad: BadSocks) -> Self {
        Self::Socks(bad)
    }
}

impl From<BadHello> for Refused {
    fn from(bad: BadHello) -> Self {
        Self::Hello(bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_are_well_formed() {
        for told in [Told::Forbidden, Told::Gateway, Told::Busy] {
            let text = std::str::from_utf8(told.bytes()).expect("ascii");
            let (head, body) = text.split_once("\r\n\r\n").expect("a head");
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
            assert_eq!(length.parse::<usize>().expect("a number"), body.len(), "{body}");
        }
    }
}
