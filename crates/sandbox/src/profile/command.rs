//! The profile of a command that a person starts: the base profile, what he gives, and what of that he takes back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use sigil_policy::HostRule;

use super::base::BaseProfile;
use super::compile::{Compiled, Egress, Parts, assemble, base_rules, makes_sockets, sockets_alone};
use super::explain::{Explanation, RuleKind, Source};
use super::grants::{self, Granted};
use super::never::{Never, NeverGrant, Relation};
use super::refused::CompileRefused;
use super::{Access, Bind, Device, Exec, Limits, LinkRule, Posture, Profile, facts, pins};

/// One file or folder that a person gives to his command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Where, canonical.
    pub path: PathBuf,
    /// What for.
    pub access: Access,
    /// Where he says so: `--read`, or a file and its key.
    pub from: String,
    /// Whether what is protected in it ([`NeverGrant::inside`]) is among the masks as far as it is there. Such a folder may
    /// hold protected places, if it is given to read or to execute.
    pub covered: bool,
}

impl Wish {
    /// A wish of the command line.
    #[must_use]
    pub fn new(path: PathBuf, access: Access) -> Self {
        let from = match access {
            Access::Read => "--read",
            Access::Exec => "--exec",
            Access::Write | Access::Scratch => "--write",
        };
        Self { path, access, from: from.to_owned(), covered: false }
    }
}

/// What of the granted is taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Where, canonical.
    pub path: PathBuf,
    /// How.
    pub kind: MaskKind,
    /// Who says so.
    pub from: Source,
}

/// How a part of the granted is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MaskKind {
    /// It is not to be seen.
    Hidden,
    /// It is not to be changed.
    ReadOnly,
}

/// What a person gives to a command that he starts in the sandbox.
#[derive(Clone, Debug)]
pub struct CommandAsk {
    /// The base profile.
    pub profile: String,
    /// Files and folders.
    pub files: Vec<Wish>,
    /// What of them is taken back. Of a grant and a mask the one with the longer path counts.
    pub masks: Vec<Mask>,
    /// Hosts to reach, and where he says so.
    pub hosts: Vec<(HostRule, String)>,
    /// What to execute; its environment is laid over that of the base profile.
    pub exec: Exec,
    /// The places that are never granted.
    pub never: NeverGrant,
    /// The user and group id outside, under root. Never 0.
    pub host_ids: (u32, u32),
    /// How much of the sandbox must be there, if more than the base profile asks for.
    pub posture: Option<Posture>,
    /// Limits instead of those of the base profile.
    pub limits: Limits,
    /// Whether it gets a terminal of its own.
    pub terminal: bool,
}

/// Compiles the profile of a command that a person starts: the base profile, and what he gives.
///
/// # Errors
/// [`CompileRefused`] when the base profile is unknown, a path is never granted, or wishes contradict each other.
pub fn compile_command(ask: CommandAsk) -> Result<Compiled, CompileRefused> {
    let base = BaseProfile::load(&ask.profile)?;
    let posture = ask.posture.unwrap_or(base.posture);
    if posture < base.posture {
        return Err(CompileRefused::Posture { asked: posture, base: base.name.clone(), least: base.posture });
    }
    let mut explanation = base_rules(base);
    let granted = files(&ask, &mut explanation)?;
    let mut egress = Egress::default();
    for (rule, option) in ask.hosts {
        explanation.rule(RuleKind::Network, grants::describe_host(&rule), vec![Source::Command { option }]);
        match &rule.host {
            // The proxy blocks addresses of this machine and of private networks unless they are named one by one.
            sigil_types::HostPattern::Exact(sigil_types::Host::Address(address)) => {
                egress.local.extend(rule.ports.iter().map(|port| SocketAddr::new(*address, *port)));
            }
            _ => egress.hosts.push(rule),
        }
    }
    sockets_alone(&base.features, &granted, &egress, || makes_sockets(base))?;
    let parts = Parts {
        exec: ask.exec,
        tree: None,
        private: None,
        granted: &granted,
        egress: !egress.is_empty(),
        posture,
        identity: ask.host_ids,
        features: base.features.clone(),
    };
    let mut profile = assemble(base, parts)?;
    cover(&mut profile, &granted, &ask.masks, &mut explanation);
    if ask.terminal {
        profile.devices.insert(Device::Tty);
    }
    limit(&mut profile.limits, &ask.limits, &mut explanation);
    let facts = facts::of(granted.iter().map(|granted| (granted.access, &granted.label)), &egress);
    Ok(Compiled { profile, explanation, facts, egress })
}

/// The files and folders that are given, each once.
fn files(ask: &CommandAsk, explanation: &mut Explanation) -> Result<Vec<Granted>, CompileRefused> {
    let mut granted: BTreeMap<PathBuf, Granted> = BTreeMap::new();
    for wish in &ask.files {
        let Wish { path, access, from, covered } = wish;
        match ask.never.check(path, *access) {
            Err(Never::Root | Never::Home { .. } | Never::Place { relation: Relation::Holds, .. })
                if *covered && matches!(access, Access::Read | Access::Exec) => {}
            checked => {
                checked.map_err(|why| CompileRefused::NeverGranted { path: path.clone(), from: from.clone(), why })?
            }
        }
        if let Some(hidden) = ask.masks.iter().find(|mask| mask.kind == MaskKind::Hidden && mask.path == *path) {
            let (granted, hidden) = (from.clone(), hidden.from.to_string());
            return Err(CompileRefused::GrantedAndHidden { path: path.clone(), granted, hidden });
        }
        let of_command = vec![Source::Command { option: from.clone() }];
        explanation.rule(RuleKind::Files, grants::describe(*access, path), of_command);
        let new = Granted { path: path.clone(), access: *access, label: sigil_types::Label::top() };
        let known = granted.entry(path.clone()).or_insert(new);
        if known.access.min(*access) == Access::Exec && known.access.max(*access) == Access::Write {
            return Err(CompileRefused::WritableCode(path.clone()));
        }
        known.access = known.access.max(*access);
    }
    Ok(granted.into_values().collect())
}

/// Takes back what `masks` say. The narrower of a grant and a mask counts.
fn cover(profile: &mut Profile, granted: &[Granted], masks: &[Mask], explanation: &mut Explanation) {
    let mut binds: BTreeMap<PathBuf, Bind> = std::mem::take(&mut profile.binds).into_iter().map(keyed).collect();
    let mut sorted: Vec<&Mask> = masks.iter().collect();
    sorted.sort_by(|a, b| (&a.path, a.kind).cmp(&(&b.path, b.kind)));
    sorted.dedup_by(|b, a| a.path == b.path);
    for Mask { path, kind, from } in sorted {
        let given_below = |hidden: &Path| {
            granted.iter().any(|g| g.path != hidden && g.path.starts_with(hidden) && path.starts_with(&g.path))
        };
        if profile.hidden.iter().any(|hidden| path.starts_with(hidden) && !given_below(hidden)) {
            // It is hidden with the folder around it; to cover it would show it.
            continue;
        }
        let carved = |bind: &Path| {
            granted.iter().any(|g| g.path != *path && g.path.starts_with(path) && bind.starts_with(&g.path))
        };
        let above = path.ancestors().skip(1).find_map(|above| binds.get(above)).map(|bind| bind.access);
        let what = match kind {
            MaskKind::Hidden => {
                binds.retain(|target, _| !target.starts_with(path) || carved(target));
                if above.is_some() {
                    profile.hidden.push(path.clone());
                }
                format!("hide {}", path.display())
            }
            MaskKind::ReadOnly => {
                let writable = |access| matches!(access, Access::Write | Access::Scratch);
                match binds.get_mut(path) {
                    Some(same) if writable(same.access) => (same.access, same.optional) = (Access::Read, false),
                    None if above.is_some_and(writable) => {
                        binds.insert(path.clone(), bind(path, Access::Read));
                    }
                    _ => {}
                }
                format!("keep {}", path.display())
            }
        };
        explanation.rule(RuleKind::Files, what, vec![from.clone()]);
        pins::hold(&mut binds, path);
    }
    profile.binds = binds.into_values().collect();
}

fn keyed(bind: Bind) -> (PathBuf, Bind) {
    (bind.target.clone(), bind)
}

fn bind(path: &Path, access: Access) -> Bind {
    Bind { source: path.to_owned(), target: path.to_owned(), access, optional: false, link: LinkRule::Refuse }
}

/// Puts the limits that a person names in the place of the base profile's. He divides what is his own, so they may be higher.
fn limit(limits: &mut Limits, asked: &Limits, explanation: &mut Explanation) {
    let mut note = |what: &str, value: u64| {
        let option = format!("--limit {what}");
        explanation.rule(RuleKind::Limit, format!("{what} {value}"), vec![Source::Command { option }]);
        Some(value)
    };
    if let Some(bytes) = asked.cgroup_memory_bytes {
        limits.cgroup_memory_bytes = note("memory", bytes);
    }
    // Without a control group, the process's own writable memory is limited by the same number.
    limits.data_bytes = limits.cgroup_memory_bytes;
    if let Some(seconds) = asked.cpu_seconds {
        limits.cpu_seconds = note("cpu", seconds);
    }
    if let Some(number) = asked.processes {
        limits.processes = note("processes", number);
        limits.cgroup_processes = Some(number);
    }
    if let Some(number) = asked.open_files {
        limits.open_files = note("files", number);
    }
    if let Some(bytes) = asked.file_bytes {
        limits.file_bytes = note("file-size", bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_in_a_hidden_folder_stays_hidden_and_its_way_is_held() {
        let mask = |path: &str, kind| Mask { path: path.into(), kind, from: Source::Sigil { why: "test".to_owned() } };
        let profile = compile_command(CommandAsk {
            profile: "native".to_owned(),
            files: vec![
                Wish::new("/srv/w".into(), Access::Write),
                Wish::new("/srv/w/h/given".into(), Access::Write),
                Wish::new("/srv/w/a/r".into(), Access::Read),
            ],
            masks: vec![
                mask("/srv/w/h", MaskKind::Hidden),
                mask("/srv/w/h/x/y", MaskKind::ReadOnly),
                mask("/srv/w/h/given/b/kept", MaskKind::ReadOnly),
                mask("/srv/w/c/secret", MaskKind::Hidden),
            ],
            hosts: Vec::new(),
            exec: Exec {
                path: "/bin/true".into(),
                argv: vec!["true".to_owned()],
                env: BTreeMap::new(),
                cwd: "/".into(),
            },
            never: NeverGrant::default(),
            host_ids: (501, 20),
            posture: None,
            limits: Limits::default(),
            terminal: false,
        });
        let profile = profile.unwrap().profile;
        assert_eq!(profile.hidden, [Path::new("/srv/w/c/secret"), Path::new("/srv/w/h")]);
        let access =
            |path: &str| profile.binds.iter().find(|bind| bind.target == Path::new(path)).map(|bind| bind.access);
        for gone in ["/srv/w/h", "/srv/w/h/x", "/srv/w/h/x/y"] {
            assert_eq!(access(gone), None, "{gone}");
        }
        for held in ["/srv/w/a", "/srv/w/c", "/srv/w/h/given/b"] {
            assert_eq!(access(held), Some(Access::Write), "{held}");
        }
        assert_eq!(access("/srv/w/h/given/b/kept"), Some(Access::Read));
    }
}
