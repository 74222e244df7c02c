//! Names to addresses, once, with every answer checked before the one that is dialled.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sigil_types::{AddressClass, Host, HostName, HostPort};

use crate::Refused;
use crate::surroundings::Surroundings;

/// More answers than this are not looked at: the name is treated as not resolved.
const MAX_ANSWERS: usize = 64;

/// A future that can be sent between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Turns names into addresses. Egress asks it once for each connection and never again.
pub trait Resolver: fmt::Debug + Send + Sync {
    /// All addresses of `name`, in the order in which they should be tried.
    fn resolve<'a>(&'a self, name: &'a HostName) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

const HOSTS: &str = "/etc/hosts";
/// A hosts file that is longer than this is not read.
const MAX_HOSTS: u64 = 1 << 20;

/// The operating system's resolver: its hosts file, and then `getaddrinfo` with the name as an absolute one. The search
/// domains of `resolv.conf` are not used: with them another name would be resolved than the one that was judged.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve<'a>(&'a self, name: &'a HostName) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            // `getaddrinfo` does not find an absolute name in the hosts file.
            let known = match tokio::fs::metadata(HOSTS).await {
                Ok(about) if about.len() <= MAX_HOSTS => in_hosts(&tokio::fs::read(HOSTS).await?, name),
                _ => Vec::new(),
            };
            if !known.is_empty() {
                return Ok(known);
            }
            let absolute = format!("{name}.");
            Ok(tokio::net::lookup_host((absolute.as_str(), 0)).await?.map(|address| address.ip()).collect())
        })
    }
}

/// The addresses of `name` in the text of a hosts file (hosts(5)): an address and its names in each line, `#` comments.
fn in_hosts(text: &[u8], name: &HostName) -> Vec<IpAddr> {
    let text = String::from_utf8_lossy(text);
    let of_line = |line: &str| {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name.as_str())).then_some(address)
    };
    text.lines().filter_map(of_line).collect()
}

/// Addresses that were checked. The only thing that is dialled.
///
/// INVARIANT: at least one, and each is either on the internet, not of this machine and not of a network that it is on, or
/// is named exactly by signed policy; none is a listener of the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checked {
    first: SocketAddr,
    others: Vec<SocketAddr>,
}

impl Checked {
    /// The addresses, in the resolver's order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        std::iter::once(self.first).chain(self.others.iter().copied())
    }
}

/// Resolves and checks. Shared by the proxy and the host's own client.
#[derive(Debug, Clone)]
pub(crate) struct Lookup {
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) surroundings: Surroundings,
    /// The most time that a resolution takes.
    pub(crate) timeout: Duration,
}

impl Lookup {
    /// Resolves `target` once. If any answer may not be dialled, none is: a name that points both outside and inside is a
    /// rebinding attempt or a mistake.
    pub(crate) async fn check(
        &self,
        target: &HostPort,
        named: impl Fn(SocketAddr) -> bool,
    ) -> Result<Checked, Refused> {
        let ips = match &target.host {
            Host::Address(ip) => vec![*ip],
            Host::Name(name) => match tokio::time::timeout(self.timeout, self.resolver.resolve(name)).await {
                Ok(Ok(ips)) if ips.len() <= MAX_ANSWERS => ips,
                _ => return Err(Refused::Unresolved),
            },
        };
        let mut addresses: Vec<SocketAddr> = Vec::with_capacity(ips.len());
        for ip in ips {
            let address = SocketAddr::new(ip, target.port);
            self.admit(address, &named)?;
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let mut addresses = addresses.into_iter();
        let first = addresses.next().ok_or(Refused::Unresolved)?;
        Ok(Checked { first, others: addresses.collect() })
    }

    fn admit(&self, address: SocketAddr, named: &impl Fn(SocketAddr) -> bool) -> Result<(), Refused> {
        if self.surroundings.is_gateway(address) {
            return Err(Refused::Gateway);
        }
        if named(address) {
            return Ok(());
        }
        let class = AddressClass::of(address.ip());
        if class != AddressClass::Global {
            return Err(Refused::Address { class });
        }
        match self.surroundings.is_neighbour(address.ip()) {
            Ok(false) => Ok(()),
            Ok(true) => Err(Refused::Neighbour),
            Err(_) => Err(Refused::Surroundings),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Answers(Vec<IpAddr>);

    impl Resolver for Answers {
        fn resolve<'a>(&'a self, _: &'a HostName) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
            Box::pin(async { Ok(self.0.clone()) })
        }
    }

    async fn check(answers: &[&str], named: &str) -> Result<Vec<SocketAddr>, Refused> {
        let ips = answers.iter().map(|ip| ip.parse().expect("an address")).collect();
        let lookup = Lookup {
            resolver: Arc::new(Answers(ips)),
            surroundings: Surroundings::default(),
            timeout: Duration::from_secs(5),
        };
        let named: Option<SocketAddr> = named.parse().ok();
        let target = "a.example:443".parse().expect("a target");
        lookup.check(&target, |address| Some(address) == named).await.map(|checked| checked.iter().collect())
    }

    #[test]
    fn a_hosts_file_has_addresses_and_names() {
        let text = b"# 10.0.0.9 a.example\n10.0.0.1 b.example A.Example # a.example\n::1 a.example\nnonsense a.example\n\xff\n";
        let found = in_hosts(text, &"a.example".parse().expect("a name"));
        assert_eq!(found, ["10.0.0.1".parse::<IpAddr>().expect("one"), "::1".parse().expect("another")]);
        assert!(in_hosts(text, &"example".parse().expect("a name")).is_empty());
    }

    #[tokio::test]
    async fn every_answer_counts() {
        let dialled = check(&["93.184.216.34", "2606:2800:220:1::1", "93.184.216.34"], "").await.expect("global");
        assert_eq!(dialled.len(), 2);
        for bad in [
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "10.0.0.1",
            "169.254.169.254",
            "fd00:ec2::254",
            "100.100.100.200",
            "168.63.129.16",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "0.0.0.0",
            "224.0.0.1",
            "fe80::1",
            "192.0.2.1",
        ] {
            assert!(matches!(check(&[bad], "").await, Err(Refused::Address { .. })), "{bad}");
            assert!(matches!(check(&["93.184.216.34", bad], "").await, Err(Refused::Address { .. })), "mixed, {bad}");
        }
        assert_eq!(check(&[], "").await, Err(Refused::Unresolved));
        assert_eq!(check(&["93.184.216.34"; 65], "").await, Err(Refused::Unresolved));
    }

    #[tokio::test]
    async fn signed_policy_names_one_address_and_port() {
        assert!(check(&["127.0.0.1"], "127.0.0.1:443").await.is_ok());
        assert!(check(&["127.0.0.1"], "127.0.0.1:444").await.is_err());
        assert!(check(&["127.0.0.1", "127.0.0.2"], "127.0.0.1:443").await.is_err());
    }
}
