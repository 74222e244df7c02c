//! The label facts of a tool, from its compiled profile: what it can read, change and tell (lines 6 and 7 of the trust model).

use std::collections::BTreeSet;
use std::sync::OnceLock;

use serde::Deserialize;
use sigil_types::{Authors, Effect, HostPattern, Label, Reader, Readers, ToolFacts};

use super::Access;
use super::compile::Egress;

const SHARED_HOSTS: &str = include_str!("../../../../sandbox-profiles/shared-hosts.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SharedHosts {
    group: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    #[serde(rename = "why")]
    _why: String,
    hosts: Vec<HostPattern>,
}

/// Whether anybody can have an account on some host of `pattern`, and read there what is sent.
///
/// If the embedded list could not be read, every host would count as shared; a test holds that it can.
#[must_use]
pub fn is_shared(pattern: &HostPattern) -> bool {
    static LIST: OnceLock<Option<Vec<HostPattern>>> = OnceLock::new();
    let list = LIST.get_or_init(|| {
        let list: SharedHosts = toml::from_str(SHARED_HOSTS).ok()?;
        Some(list.group.into_iter().flat_map(|group| group.hosts).collect())
    });
    list.as_ref().is_none_or(|list| list.iter().any(|shared| shared.contains(pattern) || pattern.contains(shared)))
}

/// The facts of a program that has these grants and may reach these hosts, and nothing beside its own.
///
/// - A host: results may hold anybody's words, a call changes the world, and the host's operator observes it; everyone does
///   where anybody can have an account.
/// - Hosts whose TLS is ended, all of them, for requests that ask for an answer only and carry no credential: a call changes
///   nothing. What it says in such a request is observed all the same.
/// - A host whose TLS is ended where only a credential of the vault can pass, on paths and with parameters that are named:
///   nobody but the account's own readers at that host observes it, whoever else has accounts there.
/// - A folder: results may hold the words of its authors, for its readers only.
/// - A folder to write: a call changes files, and the folder's readers observe it.
#[must_use]
pub(super) fn of<'a>(grants: impl IntoIterator<Item = (Access, &'a Label)>, egress: &Egress) -> ToolFacts {
    let mut facts = ToolFacts::pure();
    for (access, label) in grants {
        facts.sources = facts.sources.union(&label.authors);
        facts.reads = facts.reads.intersection(&label.readers);
        if matches!(access, Access::Write | Access::Scratch) {
            facts.effect = facts.effect.max(Effect::Local);
            facts.audience = facts.audience.union(&label.readers);
        }
    }
    if !egress.is_empty() {
        facts.sources = facts.sources.union(&Authors::world());
        if !only_reads(egress) {
            facts.effect = Effect::External;
        }
        facts.audience = facts.audience.union(&audience(egress));
    }
    facts
}

/// Whether nothing can be sent but requests that ask for an answer, without credentials. An address of this machine or of its
/// network may listen to anything.
fn only_reads(egress: &Egress) -> bool {
    let reads = |host: &HostPattern| egress.ended.iter().any(|ended| ended.only_reads() && ended.host.contains(host));
    egress.local.is_empty() && egress.hosts.iter().all(|rule| reads(&rule.host))
}

fn audience(egress: &Egress) -> Readers {
    let own = |host: &HostPattern| egress.ended.iter().any(|ended| ended.only_vault() && ended.host.contains(host));
    if egress.hosts.iter().any(|rule| is_shared(&rule.host) && !own(&rule.host)) {
        return Readers::Everyone;
    }
    let named = egress.hosts.iter().map(|rule| rule.host.clone());
    let local = egress.local.iter().map(|address| HostPattern::Exact(sigil_types::Host::Address(address.ip())));
    Readers::Only(named.chain(local).map(Reader::Host).collect::<BTreeSet<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(pattern: &str) -> bool {
        is_shared(&pattern.parse().expect("a pattern"))
    }

    #[test]
    fn a_host_is_shared_when_anybody_can_read_there() {
        assert!(toml::from_str::<SharedHosts>(SHARED_HOSTS).is_ok());
        for pattern in [
            "api.github.com",
            "*.github.com",
            "evil.s3.amazonaws.com",
            "x.workers.dev",
            "dns.google",
            // A wildcard below a shared name, and one above it.
            "*.s3.amazonaws.com",
            "*.google.com",
            "*.live.com",
        ] {
            assert!(shared(pattern), "{pattern}");
        }
        for pattern in ["api.example.com", "*.example.org", "192.0.2.1", "notgithub.com"] {
            assert!(!shared(pattern), "{pattern}");
        }
    }

    fn egress(hosts: &[&str], ended: &[(&str, &str, &str)]) -> Egress {
        let rule =
            |host: &&str| serde_json::from_str(&format!(r#"{{"host":"{host}","ports":[443]}}"#)).expect("a rule");
        let end = |(host, credentials, requests): &(&str, &str, &str)| {
            let text = format!(r#"{{"host":"{host}","credentials":"{credentials}","requests":[[{requests}]]}}"#);
            serde_json::from_str(&text).expect(&text)
        };
        let (hosts, ended) = (hosts.iter().map(rule).collect(), ended.iter().map(end).collect());
        Egress { hosts, ended, ..Egress::default() }
    }

    const GET: &str = r#"{"methods":["GET","HEAD"],"paths":["/*"]}"#;
    const POST: &str = r#"{"methods":["POST"],"paths":["/v1/items"],"query":[]}"#;

    #[test]
    fn only_what_is_enforced_for_every_host_makes_a_call_without_effect() {
        let effect = |egress: &Egress| of([], egress).effect;
        let reading = egress(&["a.example.com", "b.example.com"], &[("*.example.com", "none", GET)]);
        assert_eq!(effect(&reading), Effect::None);
        let facts = of([], &reading);
        assert_eq!(facts.sources, Authors::world(), "what it reads may still be anybody's words");
        assert_ne!(facts.audience, Readers::NOBODY, "and what it asks for is seen");
        for external in [
            egress(&["a.example.com"], &[]),
            egress(&["a.example.com"], &[("a.example.com", "any", GET)]),
            egress(&["a.example.com"], &[("a.example.com", "vault", GET)]),
            egress(&["a.example.com"], &[("a.example.com", "none", POST)]),
            egress(&["*.example.com"], &[("a.example.com", "none", GET)]),
            egress(&["a.example.com", "c.example.org"], &[("a.example.com", "none", GET)]),
            Egress { local: ["127.0.0.1:80".parse().expect("an address")].into(), ..reading },
        ] {
            assert_eq!(effect(&external), Effect::External, "{external:?}");
        }
    }

    #[test]
    fn a_shared_host_is_everyone_unless_only_the_vaults_credential_passes() {
        let audience = |ended: &[(&str, &str, &str)]| of([], &egress(&["api.github.com"], ended)).audience;
        let own = audience(&[("api.github.com", "vault", POST)]);
        assert!(matches!(&own, Readers::Only(readers) if readers.len() == 1), "{own:?}");
        for everyone in [
            audience(&[]),
            audience(&[("api.github.com", "any", POST)]),
            audience(&[("api.github.com", "none", POST)]),
            audience(&[("api.github.com", "vault", GET)]),
            of([], &egress(&["*.github.com"], &[("api.github.com", "vault", POST)])).audience,
        ] {
            assert_eq!(everyone, Readers::Everyone);
        }
    }

    #[test]
    fn nothing_granted_is_pure() {
        assert_eq!(of([], &Egress::default()), ToolFacts::pure());
    }
}
