//! The line with which a go-plugin program says where it serves, read strictly.
//!
//! `CORE|APP|NETWORK|ADDRESS|PROTOCOL|CERTIFICATE|MULTIPLEX`, the last two optional. Accepted is: core protocol 1, the
//! application protocol of the manifest, a Unix socket, gRPC, no certificate, no multiplexing. TCP is refused because a
//! port is nobody's; the broker because it is a second way in.

use sigil_sandbox::launcher::connect::SocketName;
use sigil_types::Code;

/// The longest line. A certificate would not fit, and is refused anyway.
pub const MAX_LINE: usize = 512;

/// Why a handshake is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeRefused {
    /// Not five to seven fields.
    #[error("expected CORE|APP|NETWORK|ADDRESS|PROTOCOL, at most {MAX_LINE} bytes on one line")]
    Form,
    /// Another core protocol.
    #[error("only core protocol 1 of go-plugin is spoken")]
    Core,
    /// Another application protocol than the manifest's.
    #[error("the plugin announces another application protocol than the {expected} of its manifest")]
    App {
        /// The manifest's.
        expected: u16,
    },
    /// TCP.
    #[error("the plugin must serve on a Unix socket")]
    Network,
    /// No name that a socket can have.
    #[error("the address must be an absolute path that ends in a plain name")]
    Address,
    /// net/rpc.
    #[error("the plugin must serve gRPC")]
    Protocol,
    /// AutoMTLS.
    #[error("the plugin offers a certificate; the socket is the identity here, leave AutoMTLS off")]
    Certificate,
    /// Multiplexing.
    #[error("the plugin offers multiplexing over go-plugin's broker, which is not spoken here")]
    Multiplex,
}

impl HandshakeRefused {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Form => const { Code::new("host.handshake.form.bad") },
            Self::Core | Self::App { .. } => const { Code::new("host.handshake.version.unknown") },
            Self::Network | Self::Address => const { Code::new("host.handshake.address.refused") },
            Self::Protocol => const { Code::new("host.handshake.protocol.refused") },
            Self::Certificate | Self::Multiplex => const { Code::new("host.handshake.feature.refused") },
        }
    }
}

/// A handshake that was accepted: the name of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake(SocketName);

impl Handshake {
    /// Reads a line, without its newline.
    ///
    /// # Errors
    /// [`HandshakeRefused`].
    pub fn parse(line: &str, app: u16) -> Result<Self, HandshakeRefused> {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.len() > MAX_LINE || !line.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
            return Err(HandshakeRefused::Form);
        }
        let fields: Vec<&str> = line.split('|').collect();
        let (core, version, network, address, protocol, rest) = match fields.as_slice() {
            [core, app, network, address, protocol, rest @ ..] if rest.len() <= 2 => {
                (*core, *app, *network, *address, *protocol, rest)
            }
            _ => return Err(HandshakeRefused::Form),
        };
        if core != "1" {
            return Err(HandshakeRefused::Core);
        }
        if version != app.to_string() {
            return Err(HandshakeRefused::App { expected: app });
        }
        if network != "unix" {
            return Err(HandshakeRefused::Network);
        }
        if protocol != "grpc" {
            return Err(HandshakeRefused::Protocol);
        }
        if rest.first().is_some_and(|certificate| !certificate.is_empty()) {
            return Err(HandshakeRefused::Certificate);
        }
        if rest.get(1).is_some_and(|multiplex| !matches!(*multiplex, "" | "false")) {
            return Err(HandshakeRefused::Multiplex);
        }
        let name = address.strip_prefix('/').and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        SocketName::try_from(name.to_owned()).map(Self).map_err(|_| HandshakeRefused::Address)
    }

    /// The name of the socket in the folder of the launch.
    #[must_use]
    pub fn socket(&self) -> &str {
        self.0.as_str()
    }

    /// The name of the socket.
    pub(crate) fn into_socket(self) -> SocketName {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_go_plugin_prints_is_read() {
        for line in [
            "1|1|unix|/tmp/plugin123456|grpc|",
            "1|1|unix|/tmp/plugin123456|grpc",
            "1|1|unix|/tmp/plugin123456|grpc||false",
            "1|1|unix|/tmp/plugin123456|grpc|\r",
        ] {
            assert_eq!(
                Handshake::parse(line, 1).map(|handshake| handshake.socket().to_owned()),
                Ok("plugin123456".to_owned()),
                "{line}"
            );
        }
    }

    #[test]
    fn everything_else_is_refused() {
        use HandshakeRefused as R;
        for (line, why) in [
            ("", R::Form),
            ("1|1|unix|/tmp/p", R::Form),
            ("1|1|unix|/tmp/p|grpc|||", R::Form),
            ("1|1|unix|/tmp/p\u{1b}|grpc|", R::Form),
            ("2|1|unix|/tmp/p|grpc|", R::Core),
            ("01|1|unix|/tmp/p|grpc|", R::Core),
            ("1|2|unix|/tmp/p|grpc|", R::App { expected: 1 }),
            ("1|+1|unix|/tmp/p|grpc|", R::App { expected: 1 }),
            ("1|1|tcp|127.0.0.1:80|grpc|", R::Network),
            ("1|1|unix|p|grpc|", R::Address),
            ("1|1|unix|/tmp/|grpc|", R::Address),
            ("1|1|unix|/tmp/..|grpc|", R::Address),
            ("1|1|unix|@abstract|grpc|", R::Address),
            ("1|1|unix|/tmp/a b|grpc|", R::Address),
            ("1|1|unix|/tmp/p|netrpc|", R::Protocol),
            ("1|1|unix|/tmp/p||", R::Protocol),
            ("1|1|unix|/tmp/p|grpc|MIIC", R::Certificate),
            ("1|1|unix|/tmp/p|grpc||true", R::Multiplex),
        ] {
            assert_eq!(Handshake::parse(line, 1), Err(why), "{line:?}");
        }
        assert_eq!(Handshake::parse(&format!("1|1|unix|/{}|grpc|", "p".repeat(MAX_LINE)), 1), Err(R::Form));
    }

    proptest! {
        #[test]
        fn an_accepted_name_is_a_name(address in "\\PC{0,60}") {
            if let Ok(handshake) = Handshake::parse(&format!("1|1|unix|{address}|grpc|"), 1) {
                let name = handshake.socket();
                prop_assert!(!name.is_empty() && !name.contains('/') && name != ".." && name != ".");
            }
        }
    }
}
