//! [`Denial`]: a sighting, explained, with the grant that would change it or the reason why there is none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sigil_types::{AddressClass, Host, HostPort, Timestamp};

use super::{Ledger, Need, Proposal, Sight, Sighting, calls};
use crate::profile::base::BaseProfile;
use crate::profile::recorded::allows;
use crate::profile::{Access, Layer, NeverGrant};

/// How much a denial's words are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// The word of who refused it: the kernel or the egress proxy.
    Exact,
    /// What the program's own memory said, which it may have changed meanwhile, matched with its rules.
    Hint,
}

/// One thing that was refused, with its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Denial {
    /// What: `read /home/ann/notes`, `socket(AF_INET, 1, 0)`, `reach example.org:443`.
    pub what: String,
    /// Why, naming the rule.
    pub why: String,
    /// The mechanism that refused it.
    pub layer: Layer,
    /// How much `what` is worth.
    pub evidence: Evidence,
    /// How often.
    pub count: u64,
    /// When first.
    pub first: Timestamp,
    /// When last.
    pub last: Timestamp,
    /// The narrowest grant that would change it.
    pub proposal: Option<Proposal>,
    /// Why nothing can be proposed, where that is so.
    pub never: Option<String>,
}

/// Whose denials they are.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// The base profile.
    pub profile: &'a str,
    /// What is never granted on this machine.
    pub never: &'a NeverGrant,
    /// Whether a person's word is enough for an address of this machine: for his own command, not for a plugin.
    pub command: bool,
}

/// A refusal of the egress proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRefused {
    /// The code of the refusal, `egress.host.denied`.
    pub code: String,
    /// The host and port that was asked for, if the request could be read so far.
    pub target: Option<String>,
    /// Why, in the proxy's words.
    pub why: String,
    /// What can be done, in the proxy's words.
    pub remedy: String,
    /// How often.
    pub count: u64,
    /// When first.
    pub first: Timestamp,
    /// When last.
    pub last: Timestamp,
}

/// Explains what was seen and what the proxy refused, the most frequent first.
#[must_use]
pub fn explain(ledger: &Ledger, hosts: &[HostRefused], subject: &Subject<'_>) -> Vec<Denial> {
    let mut denials: Vec<Denial> = joined(ledger).iter().map(|sighting| subject.sighting(sighting)).collect();
    denials.extend(hosts.iter().map(|host| subject.host(host)));
    widen(&mut denials, subject);
    denials.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.what.cmp(&b.what)));
    denials
}

/// One sighting for each file and kind of access: looking for a file and reading it are one wish.
fn joined(ledger: &Ledger) -> Vec<Sighting> {
    let mut files: BTreeMap<(&str, Need), Sighting> = BTreeMap::new();
    let mut all = Vec::new();
    for sighting in ledger.seen() {
        let Sight::File { path, need } = &sighting.what else {
            all.push(sighting.clone());
            continue;
        };
        let looks = ledger
            .seen()
            .iter()
            .any(|other| matches!(&other.what, Sight::File { path: same, need: more } if same == path && more > need));
        // What is read, executed or written was mostly looked for first.
        if *need == Need::Look && looks {
            continue;
        }
        files.entry((path, *need)).or_insert_with(|| sighting.clone());
    }
    all.extend(files.into_values());
    all
}

impl Subject<'_> {
    fn sighting(&self, sighting: &Sighting) -> Denial {
        let Sighting { what, count, first, last } = sighting;
        let denial = |what: String, why: String, layer, evidence| Denial {
            what,
            why,
            layer,
            evidence,
            count: *count,
            first: *first,
            last: *last,
            proposal: None,
            never: None,
        };
        match what {
            Sight::Call { call, args, errno, path } => {
                let (proposal, never) = self.call(call, args);
                let why = calls::why(call, args).to_owned();
                let what = calls::describe(call, args, path.as_deref());
                let base = denial(what, format!("{why} (errno {errno})"), Layer::Seccomp, Evidence::Exact);
                Denial { proposal, never, ..base }
            }
            Sight::File { path, need } => {
                let file = Path::new(path);
                let (proposal, never) = self.file(file, *need, file.exists());
                let why = "no rule of this sandbox covers it for that".to_owned();
                let base = denial(format!("{} {path}", verb(*need)), why, Layer::MountNs, Evidence::Hint);
                Denial { proposal, never, ..base }
            }
            Sight::Connection { to } => {
                let why = "nothing is reachable but the egress proxy; programs find it in HTTP_PROXY and HTTPS_PROXY";
                let never = "a connection past the proxy is never granted; have the program use the proxy, which then says \
                             which host it wants";
                let base = denial(format!("connect to {to}"), why.to_owned(), Layer::NetNs, Evidence::Hint);
                Denial { never: Some(never.to_owned()), ..base }
            }
            Sight::Audited { blockers, path } => {
                let need = needed(blockers);
                let (proposal, never) = match path {
                    // The kernel names what is there, and this process may not be able to look.
                    Some(path) => self.file(Path::new(path), need, true),
                    None => (None, Some("the record names no file".to_owned())),
                };
                let what = format!("{} {}", verb(need), path.as_deref().unwrap_or("something"));
                let why = format!("Landlock refused it: {blockers}");
                let base = denial(what, why, Layer::Landlock, Evidence::Exact);
                Denial { proposal, never, ..base }
            }
        }
    }

    /// What would change the refusal of a call: only another base profile.
    fn call(&self, call: &str, args: &[u64; 6]) -> (Option<Proposal>, Option<String>) {
        let other = BaseProfile::names().filter(|name| *name != self.profile).find(|name| {
            BaseProfile::load(name).is_ok_and(|base| allows(&base.filter(&Default::default()), call, args))
        });
        match other {
            Some(name) => (Some(Proposal::Profile(name.to_owned())), None),
            None => (None, Some("no profile allows this call; nothing can be granted".to_owned())),
        }
    }

    fn file(&self, path: &Path, need: Need, is_there: bool) -> (Option<Proposal>, Option<String>) {
        let (proposal, access): (fn(PathBuf) -> Proposal, _) = match need {
            Need::Look | Need::Read => (Proposal::Read, Access::Read),
            Need::Execute => (Proposal::Execute, Access::Exec),
            Need::Write => (Proposal::Write, Access::Write),
        };
        match self.never.check(path, access) {
            Err(why) => (None, Some(format!("it is never granted: {why}"))),
            // A bind needs something that is there.
            Ok(()) if is_there => (Some(proposal(path.to_owned())), None),
            Ok(()) => match path.parent().filter(|folder| folder.is_dir()) {
                Some(folder) => match self.never.check(folder, access) {
                    Ok(()) => (Some(proposal(folder.to_owned())), None),
                    Err(why) => (None, Some(format!("its folder is never granted: {why}"))),
                },
                None => (None, Some("it does not exist on this machine".to_owned())),
            },
        }
    }

    fn host(&self, refused: &HostRefused) -> Denial {
        let HostRefused { code, target, why, remedy, count, first, last } = refused;
        let parsed = target.as_deref().and_then(|target| target.parse::<HostPort>().ok());
        let never = match (&parsed, code.as_str()) {
            (Some(parsed), "egress.host.denied" | "egress.port.denied" | "egress.address.denied") => {
                match parsed.host {
                    Host::Address(address) => self.address(AddressClass::of(address)),
                    Host::Name(_) if code == "egress.address.denied" => Some(remedy.clone()),
                    Host::Name(_) => None,
                }
            }
            _ => Some(remedy.clone()),
        };
        let proposal = parsed.filter(|_| never.is_none()).map(|target| Proposal::Host(target.to_string()));
        Denial {
            what: format!("reach {}", target.as_deref().unwrap_or("a host that the request did not name clearly")),
            why: format!("{why} [{code}]"),
            layer: Layer::Proxy,
            evidence: Evidence::Exact,
            count: *count,
            first: *first,
            last: *last,
            proposal,
            never,
        }
    }

    fn address(&self, class: AddressClass) -> Option<String> {
        match class {
            AddressClass::Global => None,
            AddressClass::Loopback | AddressClass::Private if self.command => None,
            AddressClass::Loopback | AddressClass::Private => Some(
                "addresses of this machine and of private networks are reachable only when the signed policy names exactly \
                 this IP and port under `egress.local`"
                    .to_owned(),
            ),
            other => Some(format!("an address of this kind is never granted ({other:?})")),
        }
    }
}

/// Where several files of one folder are wanted, the folder: nobody grants a hundred files one by one.
fn widen(denials: &mut [Denial], subject: &Subject<'_>) {
    const SEVERAL: usize = 3;
    type Grant = fn(PathBuf) -> Proposal;
    let split = |proposal: &Proposal| -> Option<(PathBuf, Grant, Access)> {
        let (path, grant, access): (_, Grant, _) = match proposal {
            Proposal::Read(path) => (path, Proposal::Read, Access::Read),
            Proposal::Execute(path) => (path, Proposal::Execute, Access::Exec),
            Proposal::Write(path) => (path, Proposal::Write, Access::Write),
            Proposal::Profile(_) | Proposal::Host(_) => return None,
        };
        Some((path.parent()?.to_owned(), grant, access))
    };
    let mut folders: BTreeMap<(PathBuf, Access), usize> = BTreeMap::new();
    for (folder, _, access) in denials.iter().filter_map(|denial| split(denial.proposal.as_ref()?)) {
        *folders.entry((folder, access)).or_default() += 1;
    }
    for denial in denials {
        let Some((folder, grant, access)) = denial.proposal.as_ref().and_then(split) else { continue };
        let several = folders.get(&(folder.clone(), access)).is_some_and(|count| *count >= SEVERAL);
        if several && subject.never.check(&folder, access).is_ok() {
            denial.proposal = Some(grant(folder));
        }
    }
}

const fn verb(need: Need) -> &'static str {
    match need {
        Need::Look => "look for",
        Need::Read => "read",
        Need::Execute => "execute",
        Need::Write => "write",
    }
}

/// What is needed for what Landlock has refused, by the words of its audit records.
fn needed(blockers: &str) -> Need {
    blockers.split(',').fold(Need::Look, |need, blocker| {
        need.max(match blocker {
            "fs.execute" => Need::Execute,
            "fs.read_file" | "fs.read_dir" => Need::Read,
            other if other.starts_with("fs.") => Need::Write,
            _ => Need::Look,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject<'a>(never: &'a NeverGrant, profile: &'a str, command: bool) -> Subject<'a> {
        Subject { profile, never, command }
    }

    fn ledger(sights: impl IntoIterator<Item = Sight>) -> Ledger {
        let mut ledger = Ledger::default();
        sights.into_iter().for_each(|sight| ledger.note(sight, Timestamp::from_millis(1)));
        ledger
    }

    fn file(path: &Path, need: Need) -> Sight {
        Sight::File { path: path.to_str().unwrap().to_owned(), need }
    }

    #[test]
    fn looking_and_reading_is_one_wish_and_many_files_are_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let never = NeverGrant::default();
        let names = ["a", "b", "c"].map(|name| folder.path().join(name));
        names.iter().for_each(|name| std::fs::write(name, "x").unwrap());
        let two = ledger([file(&names[0], Need::Look), file(&names[0], Need::Read), file(&names[1], Need::Look)]);
        let denials = explain(&two, &[], &subject(&never, "shell", true));
        let proposals: Vec<_> = denials.iter().filter_map(|denial| denial.proposal.clone()).collect();
        assert_eq!(proposals, [Proposal::Read(names[1].clone()), Proposal::Read(names[0].clone())]);
        let three = ledger(names.iter().map(|name| file(name, Need::Read)));
        for denial in explain(&three, &[], &subject(&never, "shell", true)) {
            assert_eq!(denial.proposal, Some(Proposal::Read(folder.path().to_owned())));
            assert_eq!(denial.evidence, Evidence::Hint);
        }
        let new = ledger([file(&folder.path().join("new"), Need::Write)]);
        let denials = explain(&new, &[], &subject(&never, "shell", true));
        assert_eq!(denials[0].proposal, Some(Proposal::Write(folder.path().to_owned())));
    }

    #[test]
    fn what_is_never_granted_is_never_proposed_and_says_why() {
        let never = NeverGrant { own: vec!["/tmp".into()], homes: vec!["/root".into()] };
        let subject = subject(&never, "shell", true);
        for (path, need, why) in [
            ("/etc/shadow", Need::Read, "passwords"),
            ("/root", Need::Read, "person"),
            ("/", Need::Read, "everything"),
            ("/tmp/x", Need::Read, "Sigil"),
            ("/usr/bin/new", Need::Write, "never writable"),
            ("/proc/meminfo", Need::Read, "processes"),
        ] {
            let denials = explain(&ledger([file(Path::new(path), need)]), &[], &subject);
            assert_eq!(denials[0].proposal, None, "{path}");
            assert!(denials[0].never.as_deref().unwrap().contains(why), "{path}: {:?}", denials[0].never);
        }
    }

    #[test]
    fn a_call_is_proposed_with_a_profile_that_allows_it_or_not_at_all() {
        let never = NeverGrant::default();
        let call = |call: &str, args| Sight::Call { call: call.to_owned(), args, errno: 1, path: None };
        let jit = ledger([call("mprotect", [0, 0, 4, 0, 0, 0])]);
        let denials = explain(&jit, &[], &subject(&never, "native", false));
        assert!(matches!(denials[0].proposal, Some(Proposal::Profile(_))), "{denials:?}");
        for name in ["mount", "ptrace", "no-such-call"] {
            let denials = explain(&ledger([call(name, [0; 6])]), &[], &subject(&never, "native", false));
            assert!(denials[0].proposal.is_none() && denials[0].never.is_some(), "{denials:?}");
        }
    }

    #[test]
    fn hosts_are_proposed_and_dangerous_addresses_are_not() {
        let never = NeverGrant::default();
        let host = |target: &str, code: &str| HostRefused {
            code: code.to_owned(),
            target: Some(target.to_owned()),
            why: "no rule".to_owned(),
            remedy: "do this".to_owned(),
            count: 2,
            first: Timestamp::from_millis(1),
            last: Timestamp::from_millis(2),
        };
        let proposed = |target: &str, code: &str, command: bool| {
            let denials = explain(&Ledger::default(), &[host(target, code)], &subject(&never, "shell", command));
            assert!(denials[0].proposal.is_some() != denials[0].never.is_some(), "{denials:?}");
            denials[0].proposal.clone()
        };
        let example = Some(Proposal::Host("example.org:443".into()));
        assert_eq!(proposed("example.org:443", "egress.host.denied", true), example);
        assert_eq!(proposed("example.org:443", "egress.host.denied", false), example);
        assert_eq!(proposed("example.org:443", "egress.address.denied", true), None);
        assert_eq!(proposed("example.org:443", "egress.tunnel.name.mismatch", true), None);
        assert!(proposed("127.0.0.1:8080", "egress.address.denied", true).is_some());
        assert_eq!(proposed("127.0.0.1:8080", "egress.address.denied", false), None);
        for metadata in ["169.254.169.254:80", "[fe80::1]:80", "168.63.129.16:80", "0.0.0.0:80"] {
            assert_eq!(proposed(metadata, "egress.address.denied", true), None, "{metadata}");
        }
    }
}
