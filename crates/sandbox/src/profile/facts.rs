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
        facts.effect = Effect::External;
        facts.audience = facts.audience.union(&audience(egress));
    }
    facts
}

fn audience(egress: &Egress) -> Readers {
    if egress.hosts.iter().any(|rule| is_shared(&rule.host)) {
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

    #[test]
    fn nothing_granted_is_pure() {
        assert_eq!(of([], &Egress::default()), ToolFacts::pure());
    }
}
