//! Who may reach what: the rules of one plugin instance, and the verdict on a target, before anything is resolved.

use std::net::{IpAddr, SocketAddr};

use sigil_policy::NetworkLimits;
use sigil_types::{AddressClass, Host, HostPattern, HostPort, InstanceId, PluginName, WorkspaceId};

use crate::Refused;

/// One host, or all hosts below one, that a plugin may reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressRule {
    /// Which hosts.
    pub host: HostPattern,
    /// Which ports; empty stands for 443 in a tunnel and 80 in plain HTTP.
    pub ports: Vec<u16>,
    /// Lets bytes through a tunnel that are not TLS, or whose server name is absent, hidden or another. For protocols that
    /// are not TLS only: it gives up the proof that the tunnel ends at the named host.
    pub opaque: bool,
}

/// A plugin instance and all that it may reach. One listener has one identity; what a request claims changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The plugin.
    pub plugin: PluginName,
    /// The running instance.
    pub instance: InstanceId,
    /// The workspace that it serves; `None` for channel plugins.
    pub workspace: Option<WorkspaceId>,
    /// Manifest ∩ policy, as compiled by the launcher.
    pub rules: Vec<EgressRule>,
    /// Addresses of this machine or of private networks that signed policy names for this plugin (`egress.local`).
    pub local: Vec<SocketAddr>,
    /// What it may use of the network.
    pub limits: NetworkLimits,
}

/// The way through the proxy that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A tunnel, `CONNECT`.
    Tunnel,
    /// One plain HTTP request.
    Plain,
    /// A tunnel, SOCKS 5.
    Socks,
}

impl Way {
    const fn default_port(self) -> u16 {
        match self {
            Self::Tunnel | Self::Socks => 443,
            Self::Plain => 80,
        }
    }

    /// The word for it in the audit log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tunnel => "connect",
            Self::Plain => "http",
            Self::Socks => "socks5",
        }
    }
}

/// The target is covered by a rule. Its addresses are still to be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Covered {
    /// The tunnel may carry anything.
    pub opaque: bool,
}

impl Identity {
    /// Judges `target`, by its text alone: nothing has been resolved, so a refused name tells no resolver anything.
    ///
    /// # Errors
    /// [`Refused::Host`] when no rule covers the host, [`Refused::Port`] when one does, but not at this port, and
    /// [`Refused::Address`] for a literal address that is not on the internet and not named in `egress.local`.
    pub fn judge(&self, target: &HostPort, way: Way) -> Result<Covered, Refused> {
        if let Host::Address(ip) = target.host {
            if self.names_locally(SocketAddr::new(ip, target.port)) {
                return Ok(Covered { opaque: true });
            }
            let class = AddressClass::of(ip);
            if class != AddressClass::Global {
                return Err(Refused::Address { class });
            }
        }
        let mut host_known = false;
        for rule in self.rules.iter().filter(|rule| rule.host.covers(&target.host)) {
            host_known = true;
            let fits = match rule.ports.as_slice() {
                [] => target.port == way.default_port(),
                ports => ports.contains(&target.port),
            };
            if fits {
                return Ok(Covered { opaque: rule.opaque });
            }
        }
        Err(if host_known { Refused::Port } else { Refused::Host })
    }

    /// Whether signed policy names exactly this address for this plugin. What is no one machine, this link's, or a cloud's
    /// metadata service is not reached even so.
    #[must_use]
    pub fn names_locally(&self, address: SocketAddr) -> bool {
        let address = canonical(address);
        let may_be_named = matches!(
            AddressClass::of(address.ip()),
            AddressClass::Global | AddressClass::Loopback | AddressClass::Private
        );
        may_be_named && self.local.iter().any(|named| canonical(*named) == address)
    }
}

/// `address` with a version 4 address that is mapped into version 6 taken out, so that two spellings compare as one.
#[must_use]
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// As [`canonical`], without a port.
#[must_use]
pub(crate) fn canonical_ip(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

#[cfg(test)]
mod tests {
    use sigil_types::Timestamp;

    use super::*;

    fn identity(rules: &[(&str, &[u16])], local: &[&str]) -> Identity {
        Identity {
            plugin: "fetch".parse().expect("a name"),
            instance: InstanceId::generate(Timestamp::from_millis(1)),
            workspace: None,
            rules: rules
                .iter()
                .map(|(host, ports)| EgressRule {
                    host: host.parse().expect("a pattern"),
                    ports: ports.to_vec(),
                    opaque: false,
                })
                .collect(),
            local: local.iter().map(|address| address.parse().expect("an address")).collect(),
            limits: NetworkLimits::default(),
        }
    }

    #[test]
    fn only_what_a_rule_covers_is_let_through() {
        let id = identity(&[("a.example", &[]), ("*.b.example", &[8443]), ("93.184.216.34", &[])], &["127.0.0.1:8080"]);
        let judge = |target: &str, way| id.judge(&target.parse().expect("a target"), way).map(|c| c.opaque);
        assert_eq!(judge("a.example:443", Way::Tunnel), Ok(false));
        assert_eq!(judge("a.example:80", Way::Plain), Ok(false));
        assert_eq!(judge("a.example:80", Way::Tunnel), Err(Refused::Port));
        assert_eq!(judge("a.example:22", Way::Tunnel), Err(Refused::Port));
        assert_eq!(judge("x.a.example:443", Way::Tunnel), Err(Refused::Host));
        assert_eq!(judge("x.b.example:8443", Way::Tunnel), Ok(false));
        assert_eq!(judge("b.example:8443", Way::Tunnel), Err(Refused::Host));
        assert_eq!(judge("93.184.216.34:443", Way::Tunnel), Ok(false));
        assert_eq!(judge("93.184.216.35:443", Way::Tunnel), Err(Refused::Host));
        assert_eq!(judge("127.0.0.1:8080", Way::Plain), Ok(true));
        let loopback = Err(Refused::Address { class: AddressClass::Loopback });
        assert_eq!(judge("127.0.0.1:8081", Way::Plain), loopback);
        assert_eq!(judge("127.0.0.2:8080", Way::Plain), loopback);
        assert_eq!(judge("[::1]:8080", Way::Plain), loopback);
        assert_eq!(judge("localhost:8080", Way::Plain), Err(Refused::Host), "a name is another target");
    }

    #[test]
    fn some_addresses_are_blocked_whoever_names_them() {
        let named = ["169.254.169.254:80", "168.63.129.16:80", "[fd00:ec2::254]:80", "0.0.0.0:80", "224.0.0.1:80"];
        let id = identity(&[], &named);
        for target in named {
            let verdict = id.judge(&target.parse().expect("a target"), Way::Plain);
            assert!(matches!(verdict, Err(Refused::Address { .. })), "{target}");
        }
        let mapped = "[::ffff:169.254.169.254]:80".parse().expect("a target");
        assert!(matches!(id.judge(&mapped, Way::Plain), Err(Refused::Address { .. })));
    }

    #[test]
    fn no_rules_reach_nothing() {
        let id = identity(&[], &[]);
        assert_eq!(id.judge(&"a.example:443".parse().expect("a target"), Way::Tunnel), Err(Refused::Host));
    }

    #[test]
    fn a_rule_for_a_private_address_does_not_reach_it() {
        let id = identity(&[("10.0.0.1", &[80]), ("169.254.169.254", &[80])], &[]);
        for target in ["10.0.0.1:80", "169.254.169.254:80"] {
            let verdict = id.judge(&target.parse().expect("a target"), Way::Plain);
            assert!(matches!(verdict, Err(Refused::Address { .. })), "{target}");
        }
    }
}
