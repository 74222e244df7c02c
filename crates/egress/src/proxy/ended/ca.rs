//! The certificate authority of one plugin instance: made in memory, good for the hosts that it is made for, gone with it.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls::ServerConfig;
use rustls::crypto::ring::{default_provider, sign};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use sigil_types::{Code, Host, HostPattern};
use zeroize::Zeroizing;

use super::HTTP_1;

/// How long an authority is good: longer than an instance lives without being started anew.
const AUTHORITY: Duration = Duration::from_secs(90 * 86_400);
/// How long a host's certificate is good. It is made anew in the second half of its time.
const LEAF: Duration = Duration::from_secs(24 * 3600);
/// What a clock inside may be behind.
const EARLIER: Duration = Duration::from_secs(300);
/// Certificates that are kept; a pattern may stand for any number of hosts.
const KEPT: usize = 64;

/// Why an authority or a certificate was not made.
#[derive(Debug, thiserror::Error)]
pub enum CaFailed {
    /// There is no host to make it for.
    #[error("there is no host whose TLS is to be ended, so no certificate authority is made")]
    NoHosts,
    /// The host is not among those that the authority was made for.
    #[error("{0} is not among the hosts that the plugin's certificate authority is for")]
    OtherHost(Host),
    /// Keys or certificates could not be made.
    #[error("a certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
    /// The TLS library refused what was made.
    #[error("the TLS library refused a certificate that was just made: {0}")]
    Tls(#[from] rustls::Error),
}

impl CaFailed {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        Code::new("egress.ended.authority.failed")
    }
}

/// The certificate authority of one plugin instance.
///
/// INVARIANT: its private key is in this value only, and its encoding is wiped with it. Its certificate is constrained to the
/// hosts that it was made for, to servers, and to no authority below it.
pub struct InstanceCa {
    params: CertificateParams,
    key: Zeroizing<KeyPair>,
    certificate: CertificateDer<'static>,
    hosts: Vec<HostPattern>,
    leaf_key: Zeroizing<KeyPair>,
    leaf_signer: Arc<dyn SigningKey>,
    leaves: Mutex<HashMap<Host, Leaf>>,
}

struct Leaf {
    config: Arc<ServerConfig>,
    renew: SystemTime,
}

impl fmt::Debug for InstanceCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceCa").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

impl InstanceCa {
    /// An authority for `hosts` and nothing else.
    ///
    /// # Errors
    /// [`CaFailed`]; [`CaFailed::NoHosts`] when there are none.
    pub fn new(hosts: Vec<HostPattern>) -> Result<Self, CaFailed> {
        if hosts.is_empty() {
            return Err(CaFailed::NoHosts);
        }
        let key = Zeroizing::new(KeyPair::generate()?);
        let mut params = lasting(AUTHORITY);
        params.distinguished_name = named("Sigil: TLS ended for one plugin");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.name_constraints = Some(constraints(&hosts));
        let certificate = params.self_signed(&*key)?.der().clone();
        let leaf_key = Zeroizing::new(KeyPair::generate()?);
        let encoded = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialized_der()));
        let leaf_signer = sign::any_ecdsa_type(&encoded)?;
        Ok(Self { params, key, certificate, hosts, leaf_key, leaf_signer, leaves: Mutex::default() })
    }

    /// The certificate, as DER. It is public.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// What to speak TLS to the plugin with, as `host`.
    pub(super) fn server(&self, host: &Host) -> Result<Arc<ServerConfig>, CaFailed> {
        let now = SystemTime::now();
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leaf) = leaves.get(host).filter(|leaf| now < leaf.renew) {
            return Ok(Arc::clone(&leaf.config));
        }
        if !self.hosts.iter().any(|pattern| pattern.covers(host)) {
            return Err(CaFailed::OtherHost(host.clone()));
        }
        let config = Arc::new(self.make(host)?);
        if leaves.len() >= KEPT {
            leaves.clear();
        }
        leaves.insert(host.clone(), Leaf { config: Arc::clone(&config), renew: now + LEAF / 2 });
        Ok(config)
    }

    fn make(&self, host: &Host) -> Result<ServerConfig, CaFailed> {
        let name = match host {
            Host::Name(name) => name.to_string(),
            Host::Address(address) => address.to_string(),
        };
        let mut params = CertificateParams::new(vec![name])?;
        let lasting = lasting(LEAF);
        (params.not_before, params.not_after) = (lasting.not_before, lasting.not_after);
        params.distinguished_name = named("Sigil: a host of one plugin");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::from_params(&self.params, &*self.key);
        let leaf = params.signed_by(&*self.leaf_key, &issuer)?.der().clone();
        let certified = CertifiedKey::new(vec![leaf], Arc::clone(&self.leaf_signer));
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![HTTP_1.to_vec()];
        Ok(config)
    }
}

fn lasting(time: Duration) -> CertificateParams {
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    params.not_before = now.checked_sub(EARLIER).unwrap_or(now).into();
    params.not_after = now.checked_add(time).unwrap_or(now).into();
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// A constraint binds only the kind of name that it speaks of (RFC 5280, 4.2.1.10), so each kind is spoken of.
fn constraints(hosts: &[HostPattern]) -> NameConstraints {
    let subtree = |pattern: &HostPattern| match pattern {
        // `example.org` as a constraint stands for the name and all below it.
        HostPattern::Exact(Host::Name(name)) | HostPattern::Below(name) => GeneralSubtree::DnsName(name.to_string()),
        HostPattern::Exact(Host::Address(address)) => {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(*address, bits))
        }
    };
    let permitted: Vec<_> = hosts.iter().map(subtree).collect();
    let is = |found: fn(&HostPattern) -> bool| hosts.iter().any(found);
    let mut excluded = Vec::new();
    if !is(|host| !matches!(host, HostPattern::Exact(Host::Address(_)))) {
        excluded.push(GeneralSubtree::DnsName(String::new()));
    }
    if !is(|host| matches!(host, HostPattern::Exact(Host::Address(_)))) {
        for any in [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)] {
            excluded.push(GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(any, 0)));
        }
    }
    NameConstraints { permitted_subtrees: permitted, excluded_subtrees: excluded }
}

#[cfg(test)]
mod tests {
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::pki_types::{ServerName, UnixTime};

    use super::*;

    fn host(text: &str) -> Host {
        text.parse().expect("a host")
    }

    fn ca(patterns: &[&str]) -> InstanceCa {
        InstanceCa::new(patterns.iter().map(|text| text.parse().expect("a pattern")).collect()).expect("made")
    }

    /// Whether a client that trusts `ca` believes a certificate that its key has signed for `name`, whoever asked for that.
    fn believed(ca: &InstanceCa, name: &str) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(ca.certificate().to_vec())).expect("a root");
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()));
        let issuer = Issuer::from_params(&ca.params, &*ca.key);
        let leaf = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let leaf = leaf.signed_by(&*ca.leaf_key, &issuer).expect("signed").der().clone();
        let server = ServerName::try_from(name.to_owned()).expect("a name");
        let verifier = verifier.build().expect("a verifier");
        verifier.verify_server_cert(&leaf, &[], &server, &[], UnixTime::now()).is_ok()
    }

    #[test]
    fn its_certificates_are_believed_for_its_hosts_only() {
        let names = ca(&["api.example.com", "*.example.org"]);
        assert!(believed(&names, "api.example.com") && believed(&names, "a.example.org"));
        assert!(!believed(&names, "example.com") && !believed(&names, "bank.example.net"));
        assert!(!believed(&names, "192.0.2.1") && !believed(&names, "2001:db8::1"));
        let address = ca(&["192.0.2.1"]);
        assert!(believed(&address, "192.0.2.1"));
        assert!(!believed(&address, "192.0.2.2") && !believed(&address, "api.example.com"));
    }

    #[test]
    fn it_serves_its_hosts_only_and_keeps_what_it_made() {
        let ca = ca(&["api.example.com", "*.example.org"]);
        let first = ca.server(&host("api.example.com")).expect("made");
        assert!(Arc::ptr_eq(&first, &ca.server(&host("api.example.com")).expect("kept")));
        assert!(matches!(ca.server(&host("example.org")), Err(CaFailed::OtherHost(_))));
        for number in 0..2 * KEPT {
            ca.server(&host(&format!("h{number}.example.org"))).expect("made");
        }
        assert!(ca.leaves.lock().expect("not poisoned").len() <= KEPT);
        assert!(matches!(InstanceCa::new(Vec::new()), Err(CaFailed::NoHosts)));
    }
}
