//! Where this machine stands: its own addresses, the networks that it is on, and the gateway's own listeners.
//!
//! A public address can still be *here*: the machine's own, or that of a neighbour which trusts it. Both are blocked, like
//! private ones, unless signed policy names them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, RwLock};

use crate::rules::{canonical, canonical_ip};

/// Prefixes shorter than these are not a link but a tunnel that carries a large part of the internet.
const SHORTEST_LINK_V4: u32 = 8;
const SHORTEST_LINK_V6: u32 = 32;
const RTF_UP: u32 = 1;
const RTF_GATEWAY: u32 = 2;
const RTF_REJECT: u32 = 0x0200;

/// The machine's surroundings. Cheap to clone; clones share the list of listeners.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    listeners: Arc<RwLock<Vec<SocketAddr>>>,
}

/// A network that this machine is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    V4 { network: u32, bits: u32 },
    V6 { network: u128, bits: u32 },
}

impl Surroundings {
    /// Adds a listener of the gateway. No plugin reaches it, whatever any policy says.
    pub fn add_listener(&self, address: SocketAddr) {
        match self.listeners.write() {
            Ok(mut listeners) => listeners.push(canonical(address)),
            Err(poisoned) => poisoned.into_inner().push(canonical(address)),
        }
    }

    /// Whether `address` is a listener of the gateway.
    pub(crate) fn is_gateway(&self, address: SocketAddr) -> bool {
        let address = canonical(address);
        let listeners = match self.listeners.read() {
            Ok(listeners) => listeners,
            Err(poisoned) => poisoned.into_inner(),
        };
        listeners.iter().filter(|own| own.port() == address.port()).any(|own| {
            // One that listens everywhere is behind each address of this machine; loopback is always one of them.
            own.ip() == address.ip()
                || address.ip().is_unspecified()
                || (own.ip().is_unspecified() && (address.ip().is_loopback() || is_own(address.ip()).unwrap_or(true)))
        })
    }

    /// Whether `ip` belongs to this machine, or to a network that it is on.
    ///
    /// # Errors
    /// When that cannot be found out; the address must then not be dialled.
    pub(crate) fn is_neighbour(&self, ip: IpAddr) -> io::Result<bool> {
        let ip = canonical_ip(ip);
        Ok(is_own(ip)? || links()?.iter().any(|link| link.contains(ip)))
    }
}

impl Link {
    fn contains(&self, ip: IpAddr) -> bool {
        match (*self, ip) {
            (Self::V4 { network, bits }, IpAddr::V4(ip)) => {
                let shift = 32_u32.saturating_sub(bits);
                u32::from(ip).checked_shr(shift) == network.checked_shr(shift)
            }
            (Self::V6 { network, bits }, IpAddr::V6(ip)) => {
                let shift = 128_u32.saturating_sub(bits);
                u128::from(ip).checked_shr(shift) == network.checked_shr(shift)
            }
            _ => false,
        }
    }
}

/// Whether `ip` is an address of this machine: only to such a one can a socket be bound. (With
/// `net.ipv4.ip_nonlocal_bind` every address looks like one's own; that refuses too much, never too little.)
fn is_own(ip: IpAddr) -> io::Result<bool> {
    match UdpSocket::bind(SocketAddr::new(ip, 0)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Ok(false),
        // No IPv6 here: then no address of it is this machine's.
        Err(_) if ip.is_ipv6() && UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_err() => Ok(false),
        Err(error) => Err(error),
    }
}

/// The networks that this machine is on: its routes without a gateway, and the /64 of each of its addresses. A machine that
/// has but one address of a /64 reaches its neighbours there by its router, and still is one of them.
fn links() -> io::Result<Vec<Link>> {
    let mut links = parse_v4(&std::fs::read_to_string("/proc/net/route")?);
    for (file, parse) in
        [("/proc/net/ipv6_route", parse_v6 as fn(&str) -> Vec<Link>), ("/proc/net/if_inet6", parse_own_v6)]
    {
        match std::fs::read_to_string(file) {
            Ok(text) => links.extend(parse(&text)),
            // A kernel without IPv6 has no such files.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(links)
}

/// Reads `/proc/net/route` (proc_net(5)): interface, destination, gateway, flags, …, mask, as hexadecimal in the machine's
/// byte order.
fn parse_v4(text: &str) -> Vec<Link> {
    let address =
        |field: &str| u32::from_str_radix(field, 16).ok().map(|raw| u32::from(Ipv4Addr::from(raw.to_ne_bytes())));
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let [_, destination, _, flags, _, _, _, mask, ..] = fields.as_slice() else { return None };
            let flags = u32::from_str_radix(flags, 16).ok()?;
            let bits = address(mask)?.count_ones();
            let link = flags & RTF_UP != 0 && flags & (RTF_GATEWAY | RTF_REJECT) == 0 && bits >= SHORTEST_LINK_V4;
            link.then_some(Link::V4 { network: address(destination)?, bits })
        })
        .collect()
}

/// Reads `/proc/net/ipv6_route`: destination, prefix length, source, its length, next hop, metric, …, flags, interface.
fn parse_v6(text: &str) -> Vec<Link> {
    text.lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let [destination, bits, _, _, _, _, _, _, flags, _] = fields.as_slice() else { return None };
            let network = u128::from_str_radix(destination, 16).ok()?;
            let bits = u32::from_str_radix(bits, 16).ok()?;
            let flags = u32::from_str_radix(flags, 16).ok()?;
            let link = flags & RTF_UP != 0 && flags & (RTF_GATEWAY | RTF_REJECT) == 0 && bits >= SHORTEST_LINK_V6;
            link.then_some(Link::V6 { network, bits })
        })
        .collect()
}

/// Reads `/proc/net/if_inet6`: address, interface, prefix length, scope, flags, name.
fn parse_own_v6(text: &str) -> Vec<Link> {
    let address = |line: &str| u128::from_str_radix(line.split_ascii_whitespace().next()?, 16).ok();
    text.lines().filter_map(address).map(|network| Link::V6 { network, bits: 64 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_routes_without_a_gateway() {
        // Fields are in the machine's byte order, so this text is that of a little-endian one.
        let v4 = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
                  eth0 00000000 0122D9CB 0003 0 0 0 00000000 0 0 0\n\
                  eth0 0022D9CB 00000000 0001 0 0 0 00FFFFFF 0 0 0\n\
                  wg0 00000000 00000000 0001 0 0 0 00000080 0 0 0\n";
        let links = parse_v4(v4);
        if cfg!(target_endian = "little") {
            assert_eq!(links.len(), 1, "neither the default route nor half of the internet is a link");
            assert!(links[0].contains("203.217.34.9".parse().expect("an address")));
            assert!(!links[0].contains("203.217.35.9".parse().expect("an address")));
        }
        let v6 = "20010470000000010000000000000000 40 00000000000000000000000000000000 00 \
                  00000000000000000000000000000000 00000100 00000001 00000000 00000001 eth0\n\
                  00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
                  fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth0\n";
        let links = parse_v6(v6);
        assert_eq!(links.len(), 1);
        assert!(links[0].contains("2001:470:0:1::5".parse().expect("an address")));
        assert!(!links[0].contains("2001:470:0:2::5".parse().expect("an address")));
    }

    #[test]
    fn the_64_of_an_own_address_is_a_link() {
        let links = parse_own_v6("200104700000000100000000000000aa 02 80 00 80     eth0\nnonsense\n");
        assert_eq!(links.len(), 1);
        assert!(links[0].contains("2001:470:0:1:ffff::5".parse().expect("an address")));
        assert!(!links[0].contains("2001:470:0:2::5".parse().expect("an address")));
    }

    #[test]
    fn this_machine_knows_itself() {
        let surroundings = Surroundings::default();
        assert!(surroundings.is_neighbour("127.0.0.1".parse().expect("an address")).expect("readable"));
        assert!(!surroundings.is_neighbour("93.184.216.34".parse().expect("an address")).expect("readable"));
    }

    #[test]
    fn a_listener_is_found_under_every_spelling() {
        let surroundings = Surroundings::default();
        surroundings.add_listener("0.0.0.0:18789".parse().expect("an address"));
        surroundings.add_listener("127.0.0.1:9000".parse().expect("an address"));
        let is = |text: &str| surroundings.is_gateway(text.parse().expect("an address"));
        assert!(is("127.0.0.1:18789") && is("127.0.0.2:18789") && is("[::ffff:127.0.0.1]:18789") && is("[::1]:18789"));
        assert!(is("127.0.0.1:9000") && is("0.0.0.0:9000"));
        assert!(!is("127.0.0.1:9001") && !is("93.184.216.34:18789"));
    }
}
