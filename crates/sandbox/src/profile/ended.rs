//! Hosts whose TLS Sigil ends: who has consented, and how the program comes to trust what it then speaks with.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sigil_policy::{Ceilings, EndedGrant, PluginGrant};
use sigil_proto::manifest::{EndedAsk, NetworkTarget, Spec};
use sigil_types::{EndedHost, Host, HostPattern};

use super::SyntheticFile;
use super::compile::Egress;
use super::explain::{Explanation, RuleKind, Source};

/// The largest certificate of an authority, in bytes.
const MAX_CERTIFICATE: usize = 4096;
/// The largest bundle of this machine's own authorities, in bytes. The new root has a megabyte.
const MAX_ROOTS: u64 = 512 * 1024;
/// The instance's own authority.
const AUTHORITY: &str = "/etc/sigil/authority.pem";
/// All authorities that the program needs.
const BUNDLE: &str = "/etc/sigil/authorities.pem";
/// Variables that name the only authorities of a client.
const REPLACING: [&str; 8] = [
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
];
/// Variables that name authorities beside those of a client.
const ADDING: [&str; 2] = ["DENO_CERT", "NODE_EXTRA_CA_CERTS"];
/// Where distributions keep the bundle of their authorities.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The certificate of an instance's authority, as the gateway gives it to a launch.
///
/// INVARIANT: at most 4 KiB that have the outer form of an X.509 certificate in DER, and nothing after it; so it is no
/// private key, and its PEM is written here. What it says is not believed: the gateway, which ends the TLS, has its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Authority(Box<[u8]>);

/// Why bytes are not a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an authority is an X.509 certificate in DER of at most 4 KiB, in base64")]
pub struct ParseAuthority;

impl Authority {
    /// Reads a certificate in DER, by its outer form only.
    ///
    /// # Errors
    /// [`ParseAuthority`].
    pub fn from_der(der: &[u8]) -> Result<Self, ParseAuthority> {
        const SEQUENCE: u8 = 0x30;
        const BIT_STRING: u8 = 0x03;
        if der.len() > MAX_CERTIFICATE {
            return Err(ParseAuthority);
        }
        let (outer, []) = element(der, SEQUENCE)? else { return Err(ParseAuthority) };
        // Certificate ::= SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE, signature BIT STRING }
        let (_, rest) = element(outer, SEQUENCE)?;
        let (_, rest) = element(rest, SEQUENCE)?;
        match element(rest, BIT_STRING)? {
            (_, []) => Ok(Self(der.into())),
            _ => Err(ParseAuthority),
        }
    }

    fn pem(&self) -> String {
        let text = STANDARD.encode(&self.0);
        let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
        for line in text.as_bytes().chunks(64) {
            pem.push_str(&String::from_utf8_lossy(line));
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        pem
    }
}

/// One element of DER with this tag: its content, and what follows. Lengths of up to two bytes, in their shortest form.
fn element(der: &[u8], tag: u8) -> Result<(&[u8], &[u8]), ParseAuthority> {
    let (length, rest) = match der {
        [found, length @ 0..=0x7f, rest @ ..] if *found == tag => (usize::from(*length), rest),
        [found, 0x81, length @ 0x80..=0xff, rest @ ..] if *found == tag => (usize::from(*length), rest),
        [found, 0x82, high @ 1..=0xff, low, rest @ ..] if *found == tag => {
            (usize::from(*high) << 8 | usize::from(*low), rest)
        }
        _ => return Err(ParseAuthority),
    };
    rest.split_at_checked(length).ok_or(ParseAuthority)
}

impl FromStr for Authority {
    type Err = ParseAuthority;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_CERTIFICATE * 2 {
            return Err(ParseAuthority);
        }
        Self::from_der(&STANDARD.decode(text).map_err(|_| ParseAuthority)?)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({} bytes)", self.0.len())
    }
}

impl Serialize for Authority {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Authority {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The bundle of this machine's own authorities, if there is one of a size that can be given to a program.
#[must_use]
pub fn system_roots() -> Option<String> {
    SYSTEM_BUNDLES.iter().find_map(|path| {
        let small = std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() <= MAX_ROOTS);
        small.then(|| std::fs::read_to_string(path).ok()).flatten()
    })
}

/// The hosts whose TLS would be ended for a plugin, for whoever makes its authority.
#[must_use]
pub fn ended_hosts(spec: &Spec, ceilings: &Ceilings) -> Vec<HostPattern> {
    let Some(grant) = ceilings.plugins.get(&spec.name) else { return Vec::new() };
    let mut unused = Explanation::default();
    let egress = super::grants::hosts(spec, grant, ceilings, &mut unused);
    egress.ended.into_iter().map(|ended| ended.host).collect()
}

/// The hosts whose TLS is ended: those for which the manifest asks and which signed policy grants, of those that can be
/// reached. One without the other ends nothing.
pub(super) fn hosts(spec: &Spec, grant: &PluginGrant, egress: &mut Egress, explanation: &mut Explanation) {
    for (at, ask) in spec.execution.sandbox.network.iter().enumerate() {
        let Some(wish) = &ask.ended else { continue };
        let asked = Source::Manifest {
            field: format!("execution.sandbox.network.hosts[{at}].tls"),
            reason: ask.reason.clone(),
        };
        let mut any = false;
        for (nr, rule) in grant.ended.iter().enumerate() {
            let Some(host) = both(&ask.target, &rule.host) else { continue };
            if !reaches(egress, &host) {
                continue;
            }
            any = true;
            let key = Source::Policy { key: format!("plugins.{}.ended[{nr}]", spec.name) };
            explanation.rule(RuleKind::Network, format!("read and judge requests to {host}"), vec![asked.clone(), key]);
            egress.ended.push(joined(host, wish, rule));
        }
        if !any {
            let what = match &ask.target {
                NetworkTarget::Host(host) => format!("have the TLS to {host} ended"),
                NetworkTarget::Param(name) => format!("have the TLS to the hosts `{name}` ended"),
            };
            let why = format!("plugins.{}.ended of the signed policy does not name it; TLS passes as it is", spec.name);
            explanation.strike(what, asked, why);
        }
    }
}

fn both(target: &NetworkTarget, rule: &HostPattern) -> Option<HostPattern> {
    match target {
        NetworkTarget::Param(_) => Some(rule.clone()),
        NetworkTarget::Host(host) if rule.contains(host) => Some(host.clone()),
        NetworkTarget::Host(host) if host.contains(rule) => Some(rule.clone()),
        NetworkTarget::Host(_) => None,
    }
}

fn reaches(egress: &Egress, host: &HostPattern) -> bool {
    let local = |address: &std::net::SocketAddr| host.covers(&Host::Address(address.ip()));
    egress.hosts.iter().any(|rule| rule.host.contains(host) || host.contains(&rule.host))
        || egress.local.iter().any(local)
}

fn joined(host: HostPattern, wish: &EndedAsk, rule: &EndedGrant) -> EndedHost {
    let lists = [&wish.requests, &rule.requests];
    EndedHost {
        host,
        requests: lists.into_iter().filter(|list| !list.is_empty()).cloned().collect(),
        strip: wish.strip_headers.union(&rule.strip_headers).cloned().collect(),
        set: wish.set_headers.clone(),
        credentials: rule.credentials,
    }
}

/// Whether TLS to every host that can be reached is ended, so that no other authority is needed.
pub(super) fn all(egress: &Egress) -> bool {
    let ended = |host: &HostPattern| egress.ended.iter().any(|ended| ended.host.contains(host));
    let local = |address: &std::net::SocketAddr| ended(&HostPattern::Exact(Host::Address(address.ip())));
    egress.hosts.iter().all(|rule| ended(&rule.host)) && egress.local.iter().all(local)
}

/// The files and variables by which the program trusts the instance's authority. A variable that names a client's only
/// authorities names a bundle that has the machine's own, too, when `roots` are given.
pub(super) fn trust(
    authority: &Authority,
    roots: Option<&str>,
    files: &mut Vec<SyntheticFile>,
    env: &mut BTreeMap<String, String>,
) {
    let own = authority.pem();
    let roots = roots.unwrap_or_default();
    let gap = if roots.is_empty() || roots.ends_with('\n') { "" } else { "\n" };
    files.push(SyntheticFile { path: BUNDLE.into(), content: format!("{roots}{gap}{own}") });
    files.push(SyntheticFile { path: AUTHORITY.into(), content: own });
    env.extend(REPLACING.map(|name| (name.to_owned(), BUNDLE.to_owned())));
    env.extend(ADDING.map(|name| (name.to_owned(), AUTHORITY.to_owned())));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The outer form of a certificate, with so many bytes in it.
    fn certificate(length: usize) -> Vec<u8> {
        let inner = [&[0x30, 0x82][..], &u16::try_from(length).unwrap().to_be_bytes(), &vec![7; length]].concat();
        let content = [inner.as_slice(), &[0x30, 1, 5], &[0x03, 2, 0, 9]].concat();
        [&[0x30, 0x82][..], &u16::try_from(content.len()).unwrap().to_be_bytes(), &content].concat()
    }

    #[test]
    fn only_the_form_of_a_certificate_is_taken() {
        let good = certificate(300);
        let authority = Authority::from_der(&good).unwrap();
        let text = serde_json::to_string(&authority).unwrap();
        assert_eq!(serde_json::from_str::<Authority>(&text).unwrap(), authority);
        let pem = authority.pem();
        assert!(pem.starts_with("-----BEGIN CERTIFICATE-----\n") && pem.ends_with("\n-----END CERTIFICATE-----\n"));
        assert!(pem.lines().all(|line| line.len() <= 64));
        // PKCS #8: SEQUENCE { INTEGER, SEQUENCE, OCTET STRING }.
        let key = [&[0x30, 8][..], &[2, 1, 0], &[0x30, 0], &[4, 1, 1]].concat();
        let more = [good.as_slice(), b"\n"].concat();
        for bad in [&[][..], &key, &more, &good[..good.len() - 1], &[0x30, 0], &[0x30, 0x80, 0, 0], &certificate(4096)]
        {
            assert_eq!(Authority::from_der(bad), Err(ParseAuthority), "{bad:.20?}");
        }
        for bad in ["", "@", "MAA=\n", "-----BEGIN CERTIFICATE-----"] {
            assert!(bad.parse::<Authority>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..80), form: bool) {
            if form && bytes.len() > 2 {
                let length = u8::try_from(bytes.len() - 2).unwrap();
                bytes[..2].copy_from_slice(&[0x30, length]);
            }
            let _ = Authority::from_der(&bytes);
        }
    }
}
