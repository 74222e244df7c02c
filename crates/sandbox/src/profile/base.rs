//! Base profiles and their filters: the commented data of `sandbox-profiles/`, embedded and read strictly.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::OnceLock;

use serde::Deserialize;
use sigil_types::Code;
use toml::Value;

use super::extends::resolve;
use super::seccomp::{Alternative, FilterData};
use super::{Access, Device, Landlock, Layer, Limits, LinkRule, Namespace, Posture, ProcMode, SyntheticFile, Tmpfs};

/// The files of `sandbox-profiles/`, by name.
const PROFILES: [(&str, &str); 6] = [
    ("chromium", include_str!("../../../../sandbox-profiles/chromium.toml")),
    ("go", include_str!("../../../../sandbox-profiles/go.toml")),
    ("native", include_str!("../../../../sandbox-profiles/native.toml")),
    ("node", include_str!("../../../../sandbox-profiles/node.toml")),
    ("python", include_str!("../../../../sandbox-profiles/python.toml")),
    ("shell", include_str!("../../../../sandbox-profiles/shell.toml")),
];

/// The files of `sandbox-profiles/seccomp/`, by name.
const FILTERS: [(&str, &str); 7] = [
    ("chromium", include_str!("../../../../sandbox-profiles/seccomp/chromium.toml")),
    ("gateway", include_str!("../../../../sandbox-profiles/seccomp/gateway.toml")),
    ("go", include_str!("../../../../sandbox-profiles/seccomp/go.toml")),
    ("native", include_str!("../../../../sandbox-profiles/seccomp/native.toml")),
    ("node", include_str!("../../../../sandbox-profiles/seccomp/node.toml")),
    ("python", include_str!("../../../../sandbox-profiles/seccomp/python.toml")),
    ("shell", include_str!("../../../../sandbox-profiles/seccomp/shell.toml")),
];

/// The most that a kind of program gets without a grant.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseProfile {
    /// Its name.
    pub name: String,
    /// What kind of program it is for.
    pub why: String,
    /// The name of its system call filter.
    seccomp: String,
    /// What every program of the kind needs beyond the plain filter.
    #[serde(default)]
    pub features: BTreeSet<Feature>,
    /// The name of the machine, as the program sees it.
    pub hostname: String,
    /// How much of the sandbox must be there.
    pub posture: Posture,
    /// The namespaces to make.
    pub namespaces: BTreeSet<Namespace>,
    /// The layers without which a launch is refused.
    pub required: BTreeSet<Layer>,
    /// The user id inside.
    pub uid: u32,
    /// The group id inside.
    pub gid: u32,
    /// Size of the new root, in bytes.
    pub root_bytes: u64,
    /// What of `/proc` is there.
    pub proc: ProcMode,
    /// The nodes of `/dev`.
    pub devices: BTreeSet<Device>,
    /// The working directory.
    pub cwd: PathBuf,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// Limits.
    pub limits: Limits,
    /// Private file systems in memory.
    pub tmpfs: Vec<BaseTmpfs>,
    /// The system's files and folders.
    pub bind: Vec<BaseBind>,
    /// Files that are made.
    pub file: Vec<SyntheticFile>,
    /// The Landlock domain.
    pub landlock: Landlock,
    /// The system call filter.
    #[serde(skip)]
    filter: Option<FilterSource>,
}

/// A file or folder of the system, at the same place inside.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseBind {
    /// Where.
    pub path: PathBuf,
    /// What may be done with it.
    pub access: Access,
    /// Whether a launch goes on without it.
    #[serde(default)]
    pub optional: bool,
    /// What happens when it is a symbolic link.
    #[serde(default)]
    pub link: LinkRule,
    /// What it is for.
    pub why: String,
}

/// A private file system in memory.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseTmpfs {
    /// Where.
    pub path: PathBuf,
    /// Its size, in bytes.
    pub bytes: u64,
    /// How many files and folders it may have.
    pub inodes: u64,
    /// What it is for.
    pub why: String,
}

/// The gateway's own file: what it keeps when it confines itself.
const GATEWAY: &str = include_str!("../../../../sandbox-profiles/gateway.toml");

/// The profile of a process that confines itself: it has no root and no namespaces of its own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnProfile {
    /// Its name.
    pub name: String,
    /// What the process does.
    pub why: String,
    /// The name of its system call filter.
    seccomp: String,
    /// The layers without which the process must not go on.
    pub required: BTreeSet<Layer>,
    /// Limits.
    pub limits: OwnLimits,
    /// The system's files and folders that it may read, where there are any.
    pub bind: Vec<OwnBind>,
    /// The Landlock domain.
    pub landlock: Landlock,
    /// The system calls.
    #[serde(skip, default = "FilterData::nothing")]
    pub filter: FilterData,
}

/// The limits of a process that confines itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnLimits {
    /// `RLIMIT_CORE`, in bytes.
    pub core_bytes: Option<u64>,
}

/// A file or folder of the system that a process which confines itself may read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnBind {
    /// Where. Links are followed.
    pub path: PathBuf,
    /// What it is for.
    pub why: String,
}

impl OwnProfile {
    /// The gateway's. Read once in a process.
    ///
    /// # Errors
    /// [`LoadBase`] when the embedded data is malformed.
    pub fn gateway() -> Result<&'static Self, LoadBase> {
        static LOADED: OnceLock<Result<OwnProfile, LoadBase>> = OnceLock::new();
        let read = || {
            let malformed =
                |why: toml::de::Error| LoadBase::Malformed { file: "gateway".to_owned(), why: why.to_string() };
            let mut profile: Self = toml::from_str(GATEWAY).map_err(malformed)?;
            profile.filter = FilterSource::read(&profile.seccomp)?.select(&BTreeSet::new());
            Ok(profile)
        };
        LOADED.get_or_init(read).as_ref().map_err(Clone::clone)
    }
}

/// What a program needs beyond the base, and for which its filter has rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// The egress proxy on its loopback.
    Proxy,
    /// A Unix socket that it makes in its private folder and serves on (go-plugin).
    UnixListener,
}

/// A system call filter as it stands in its file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterSource {
    default_errno: Errno,
    enosys: BTreeSet<String>,
    #[serde(default)]
    kept: Vec<Kept>,
    #[serde(default)]
    group: Vec<Group>,
    #[serde(default)]
    rule: Vec<Rule>,
}

/// The errno of refused calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum Errno {
    #[serde(rename = "EPERM")]
    Perm,
    #[serde(rename = "EACCES")]
    Acces,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    name: String,
    why: String,
    #[serde(default)]
    when: Option<Feature>,
    allow: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    calls: Vec<String>,
    why: String,
    #[serde(default)]
    when: Option<Feature>,
    any: Vec<Alternative>,
}

/// Calls that stay although no program of the family's tests uses them, or not in each form that is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    calls: Vec<String>,
    why: String,
}

/// Why a base profile cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadBase {
    /// There is none of that name.
    #[error("there is no base profile `{name}`; there are {known}")]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// The embedded data is not well-formed.
    #[error("sandbox-profiles/{file}.toml: {why}")]
    Malformed {
        /// Which file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
}

impl LoadBase {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Unknown { .. } => Code::new("sandbox.profile.base.unknown"),
            Self::Malformed { .. } => Code::new("sandbox.profile.base.malformed"),
        }
    }
}

impl BaseTmpfs {
    /// As it stands in a profile.
    #[must_use]
    pub fn tmpfs(&self) -> Tmpfs {
        Tmpfs { path: self.path.clone(), bytes: self.bytes, inodes: self.inodes }
    }
}

impl BaseProfile {
    /// The base profiles of which every other one is a part: what these hold, all hold.
    pub const WIDEST: [&'static str; 2] = ["native", "shell"];

    /// The names of all base profiles.
    pub fn names() -> impl Iterator<Item = &'static str> {
        PROFILES.iter().map(|(name, _)| *name)
    }

    /// The base profile `name`. Read once in a process.
    ///
    /// # Errors
    /// [`LoadBase`] when there is none, or the embedded data is malformed.
    pub fn load(name: &str) -> Result<&'static Self, LoadBase> {
        /// One for each profile: a launch needs one of them, and `sigil sandbox run` reads it for each command.
        static LOADED: [OnceLock<Result<BaseProfile, LoadBase>>; PROFILES.len()] =
            [const { OnceLock::new() }; PROFILES.len()];
        let found = PROFILES.iter().zip(&LOADED).find(|((known, _), _)| *known == name);
        let (_, loaded) = found.ok_or_else(|| LoadBase::Unknown {
            name: name.to_owned(),
            known: Self::names().collect::<Vec<_>>().join(", "),
        })?;
        loaded.get_or_init(|| Self::read(name)).as_ref().map_err(Clone::clone)
    }

    /// The calls that the filter allows although no program of the family's tests uses them, each with the reason.
    #[must_use]
    pub fn kept(&self) -> BTreeMap<&str, &str> {
        let kept = self.filter.iter().flat_map(|source| &source.kept);
        kept.flat_map(|kept| kept.calls.iter().map(|call| (call.as_str(), kept.why.as_str()))).collect()
    }

    /// Where the sandbox has something of its own, which nothing that is granted may cover.
    #[must_use]
    pub fn own_places(&self) -> Vec<PathBuf> {
        let tmpfs = self.tmpfs.iter().map(|tmpfs| tmpfs.path.clone());
        tmpfs.chain(self.file.iter().map(|file| file.path.clone())).chain([super::TREE.into()]).collect()
    }

    /// The system calls of a program that needs `features`.
    #[must_use]
    pub fn filter(&self, features: &BTreeSet<Feature>) -> FilterData {
        // INVARIANT: `read` sets the filter.
        self.filter.as_ref().map_or_else(FilterData::nothing, |source| source.select(features))
    }

    fn read(name: &str) -> Result<Self, LoadBase> {
        let malformed = |why: toml::de::Error| LoadBase::Malformed { file: name.to_owned(), why: why.to_string() };
        let mut profile: Self = Value::Table(resolve(&PROFILES, name)?).try_into().map_err(malformed)?;
        profile.filter = Some(FilterSource::read(&profile.seccomp)?);
        Ok(profile)
    }
}

const EPERM: u32 = libc::EPERM.unsigned_abs();
const EACCES: u32 = libc::EACCES.unsigned_abs();

impl FilterSource {
    fn read(name: &str) -> Result<Self, LoadBase> {
        let malformed = |why: String| LoadBase::Malformed { file: format!("seccomp/{name}"), why };
        let table = resolve(&FILTERS, name)?;
        let source: Self = Value::Table(table).try_into().map_err(|why: toml::de::Error| malformed(why.to_string()))?;
        if let Some(call) = source.kept.iter().flat_map(|kept| &kept.calls).find(|call| !source.names(call)) {
            return Err(malformed(format!("`{call}` is kept for a reason, but is not allowed")));
        }
        let kept = source.kept.iter().map(|kept| ("a kept call", &kept.why));
        let reasons = source.group.iter().map(|group| (group.name.as_str(), &group.why));
        let reasons = reasons.chain(source.rule.iter().map(|rule| ("a rule", &rule.why)));
        if let Some((what, _)) = reasons.chain(kept).find(|(_, why)| why.trim().is_empty()) {
            return Err(malformed(format!("{what} does not say why")));
        }
        Ok(source)
    }

    /// Whether some group or rule allows `call`.
    fn names(&self, call: &String) -> bool {
        let groups = self.group.iter().map(|group| &group.allow);
        groups.chain(self.rule.iter().map(|rule| &rule.calls)).any(|calls| calls.contains(call))
    }

    /// The rules that count for `features`.
    fn select(&self, features: &BTreeSet<Feature>) -> FilterData {
        let counts = |when: &Option<Feature>| when.is_none_or(|feature| features.contains(&feature));
        let mut allow: BTreeMap<String, Vec<Alternative>> = BTreeMap::new();
        for rule in self.rule.iter().filter(|rule| counts(&rule.when)) {
            for call in &rule.calls {
                allow.entry(call.clone()).or_default().extend(rule.any.iter().cloned());
            }
        }
        // A call without conditions is allowed whatever conditions stand elsewhere. One for ENOSYS must be allowed here,
        // because of two filters' errors the later one's counts.
        let groups = self.group.iter().filter(|group| counts(&group.when));
        for call in groups.flat_map(|group| &group.allow).chain(&self.enosys) {
            allow.insert(call.clone(), Vec::new());
        }
        let default_errno = match self.default_errno {
            Errno::Perm => EPERM,
            Errno::Acces => EACCES,
        };
        FilterData { default_errno, enosys: self.enosys.clone(), allow }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::syscalls;

    #[test]
    fn every_base_profile_is_whole() {
        for name in BaseProfile::names() {
            let profile = BaseProfile::load(name).expect("well-formed");
            assert!(!profile.why.is_empty() && !profile.bind.is_empty());
            assert!(profile.uid != 0 && profile.gid != 0, "never root");
            assert!(profile.bind.iter().all(|bind| bind.access != Access::Write), "nothing of the system is writable");
            assert!(profile.bind.iter().all(|bind| !bind.why.is_empty()));
            assert!(profile.landlock.required.is_subset(&profile.landlock.handled));
            let oldest = profile.landlock.required.iter().map(|right| right.since()).max();
            assert!(oldest <= Some(profile.landlock.least_abi), "{name} needs rights younger than its least version");
        }
        assert_eq!(
            BaseProfile::load("naitve").expect_err("unknown").to_string(),
            "there is no base profile `naitve`; there are chromium, go, native, node, python, shell"
        );
    }

    #[test]
    fn every_call_is_known_and_named_once() {
        for (name, _) in FILTERS {
            let source = FilterSource::read(name).expect("well-formed");
            let groups: Vec<&String> = source.group.iter().flat_map(|group| &group.allow).collect();
            let rules = source.rule.iter().flat_map(|rule| &rule.calls);
            for call in groups.iter().copied().chain(rules).chain(&source.enosys) {
                assert!(syscalls::is_known(call), "{name}: {call}");
            }
            for (at, call) in groups.iter().enumerate() {
                assert!(!groups[..at].contains(call), "{name}: `{call}` stands in two groups");
            }
        }
    }

    #[test]
    fn the_shell_has_everything_that_native_has() {
        let filter = |name| BaseProfile::load(name).expect("well-formed").filter(&BTreeSet::new());
        let (native, shell) = (filter("native"), filter("shell"));
        for (call, alternatives) in &native.allow {
            let wider = &shell.allow[call];
            assert!(wider.is_empty() || alternatives.iter().all(|one| wider.contains(one)), "{call}");
        }
        assert!(native.enosys.is_subset(&shell.enosys));
    }

    #[test]
    fn the_others_have_nothing_that_native_has_not_but_what_their_files_say() {
        let all = BTreeSet::from([Feature::Proxy, Feature::UnixListener]);
        let filter = |name| BaseProfile::load(name).expect("well-formed").filter(&all);
        let native = filter("native");
        for (name, own) in [
            ("go", &["mmap"][..]),
            ("python", &[]),
            ("node", &["mmap", "mprotect"]),
            ("chromium", &["mmap", "mprotect"]),
        ] {
            let filter = filter(name);
            assert_eq!(filter.enosys, native.enosys, "{name}");
            for (call, alternatives) in &filter.allow {
                assert!(native.allow.contains_key(call), "{name}: {call}");
                assert!(native.allow[call] == *alternatives || own.contains(&call.as_str()), "{name}: {call}");
            }
            assert!(filter.allow.len() < native.allow.len() - 20, "{name} is not much smaller");
        }
    }
}
