//! Seatbelt profiles for macOS, made from the same [`Profile`] that the launcher applies on Linux.
//!
//! **Generated, never run on macOS**: no part of this was tried on a Mac. What is proven, on any machine, is the text: it reads
//! back, every path is a parameter, no path stands in it, and under both known readings of the order of rules it allows exactly
//! what the profile's binds allow (`tests/seatbelt.rs`).
//!
//! A Mac has no mount namespace: a program sees all names, and a rule decides on each. So a bind's *source* is what is granted,
//! what a program knows by another name (its tree, its temporary folder) is renamed in its arguments and environment, and
//! files that are made up for it do not exist. [`Seatbelt::gaps`] says what is lost.

mod check;
mod data;
pub mod form;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use sigil_types::Code;

pub use check::{CheckFailed, check};

use crate::profile::base::{BaseProfile, LoadBase};
use crate::profile::{Access, Bind, Exec, Limits, Network, Profile};
use data::MacOs;
use rules::{Filter, Place as At, Rules};

/// The program of macOS that applies a profile and executes a program in it.
pub const SANDBOX_EXEC: &str = "/usr/bin/sandbox-exec";

/// Longest path on macOS, in bytes (`MAXPATHLEN` of `sys/param.h`, without its end).
const MAX_PATH: usize = 1023;

/// What of a launch on a Mac the profile does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The folder that is made for this launch and stands for its private `/tmp`.
    pub scratch: PathBuf,
    /// The port on the machine's own loopback on which the egress proxy serves this launch alone. There is no network
    /// namespace that would keep others from it: the proxy must know its client by other means.
    pub proxy_port: Option<u16>,
    /// The terminal device that the program may use, as `ttyname(3)` names it.
    pub terminal: Option<PathBuf>,
    /// Sources of binds that are single files: their rules cover the file alone and nothing below its name.
    pub files: BTreeSet<PathBuf>,
}

/// A profile in Seatbelt's language, and what it is applied with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seatbelt {
    /// The profile's text: printable ASCII, and no path in it but those of every Mac.
    pub text: String,
    /// Its parameters (`sandbox-exec -D NAME=value`).
    pub parameters: BTreeMap<String, String>,
    /// What is executed, with the names that it has on a Mac.
    pub exec: Exec,
    /// Limits by `setrlimit(2)`, of those that macOS has.
    pub limits: Limits,
    /// What the profile has on Linux and this one has not.
    pub gaps: Vec<&'static str>,
}

impl Seatbelt {
    /// The command that applies it and executes the program.
    #[must_use]
    pub fn argv(&self) -> Vec<String> {
        let mut argv = vec![SANDBOX_EXEC.to_owned(), "-p".to_owned(), self.text.clone()];
        for (name, value) in &self.parameters {
            argv.extend(["-D".to_owned(), format!("{name}={value}")]);
        }
        argv.push(self.exec.path.to_string_lossy().into_owned());
        argv.extend(self.exec.argv.iter().skip(1).cloned());
        argv
    }
}

/// Why there is no Seatbelt profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenerateFailed {
    /// The base profile, or what stands for it on a Mac, cannot be had.
    #[error(transparent)]
    Base(#[from] LoadBase),
    /// A path that a Mac cannot have, or that has more than one form.
    #[error("{path:?} cannot stand in a Seatbelt profile: {why}; use another path")]
    Path {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: &'static str,
    },
    /// Hosts are to be reached, and the proxy's port is not known.
    #[error("the profile reaches hosts through the egress proxy, whose port was not given; give the port")]
    NoPort,
    /// Something of what is granted is hidden.
    #[error("what is granted and hidden in part cannot be expressed for macOS yet; grant narrower folders")]
    Hidden,
    /// A go-plugin program, which serves on a socket of its own.
    #[error(
        "the program serves on a Unix socket (transport go-plugin), which needs connections from outside; on macOS only \
         plugins with the transport sdk have a profile"
    )]
    Listener,
    /// The text did not pass its own check: a mistake of the generator, and nothing to be used.
    #[error("the generated profile is not sound: {0}; report this")]
    Unsound(#[from] CheckFailed),
}

impl GenerateFailed {
    /// The stable code of this error.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Base(error) => error.code(),
            Self::Path { .. } => const { Code::new("sandbox.seatbelt.path.unusable") },
            Self::NoPort => const { Code::new("sandbox.seatbelt.port.missing") },
            Self::Hidden => const { Code::new("sandbox.seatbelt.hidden.unsupported") },
            Self::Listener => const { Code::new("sandbox.seatbelt.listener.unsupported") },
            Self::Unsound(_) => const { Code::new("sandbox.seatbelt.profile.unsound") },
        }
    }
}

/// Makes the Seatbelt profile of `profile`, and checks it.
///
/// # Errors
/// [`GenerateFailed`]; then nothing was made.
pub fn generate(profile: &Profile, place: &Place) -> Result<Seatbelt, GenerateFailed> {
    let data = MacOs::load()?;
    let base = BaseProfile::load(&profile.name)?;
    let of_base = |bind: &Bind| {
        let same = |known: &crate::profile::base::BaseBind| known.path == bind.target && known.access == bind.access;
        bind.source == bind.target && base.bind.iter().any(same)
    };
    let (system, granted): (Vec<&Bind>, Vec<&Bind>) = profile.binds.iter().partition(|bind| of_base(bind));
    if granted.iter().any(|bind| bind.access == Access::Scratch) {
        return Err(GenerateFailed::Listener);
    }
    if !profile.hidden.is_empty() {
        return Err(GenerateFailed::Hidden);
    }

    let mut places: BTreeMap<PathBuf, At> = BTreeMap::new();
    for path in data.paths(&system) {
        places.insert(path.path.clone(), At { access: path.access, only: path.only, own: false });
    }
    let own = granted.iter().map(|bind| (&bind.source, bind.access, place.files.contains(&bind.source)));
    for (path, access, only) in own.chain([(&place.scratch, Access::Scratch, false)]) {
        let path = data.resolved(usable(path)?);
        let at = places.entry(path).or_insert(At { access, only, own: true });
        // Both are granted, each under a name of its own; here they have one.
        *at = At { access: at.access.max(access), only: at.only && only, own: true };
    }

    let mut rules = Rules::new(data, &places);
    rules.files();
    rules.devices(&profile.devices);
    if let Some(terminal) = &place.terminal {
        rules.terminal(&data.resolved(usable(terminal)?));
    }
    rules.processes(["fork", "vfork"].iter().any(|call| profile.seccomp.allow.contains_key(*call)));
    rules.kernel(data.services(&system).map(|service| service.name.as_str()));
    let port = match profile.network {
        Network::None => None,
        Network::Proxy(inside) => {
            let port = place.proxy_port.filter(|port| *port != 0).ok_or(GenerateFailed::NoPort)?;
            rules.outbound(&Filter::loopback(port));
            Some((inside, port))
        }
    };
    let (text, parameters) = rules.finish();
    check(&text, &parameters)?;
    Ok(Seatbelt {
        text,
        parameters,
        exec: renamed(profile, place, port),
        limits: limits(&profile.limits),
        gaps: gaps(profile),
    })
}

/// Checks that a path is absolute, in its one form, and one that a Mac can have.
fn usable(path: &Path) -> Result<&Path, GenerateFailed> {
    let refused = |why| GenerateFailed::Path { path: path.to_owned(), why };
    let text = path.to_str().ok_or_else(|| refused("it is not UTF-8"))?;
    if text.contains('\0') {
        return Err(refused("it contains a NUL character"));
    }
    if text.len() > MAX_PATH {
        return Err(refused("it is longer than 1023 bytes"));
    }
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    // `components` passes over `//`, `/./` and a slash at the end.
    let whole = path.components().collect::<PathBuf>().as_os_str() == path.as_os_str();
    if !path.is_absolute() || path == Path::new("/") || !plain || !whole {
        return Err(refused(
            "it is not an absolute path below `/` without `.`, `..`, empty parts or a slash at its end",
        ));
    }
    Ok(path)
}

/// What is executed, by the names that it has outside a root of its own.
fn renamed(profile: &Profile, place: &Place, port: Option<(u16, u16)>) -> Exec {
    let mut names: BTreeMap<&Path, &Path> =
        profile.tmpfs.iter().map(|tmpfs| (tmpfs.path.as_path(), place.scratch.as_path())).collect();
    names.extend(profile.binds.iter().map(|bind| (bind.target.as_path(), bind.source.as_path())));
    let path = |path: &Path| {
        let found = path.ancestors().find_map(|above| names.get(above).map(|source| (above, *source)));
        let moved =
            found.and_then(|(above, source)| path.strip_prefix(above).ok().map(|rest| data::joined(source, rest)));
        moved.unwrap_or_else(|| path.to_owned())
    };
    let text = |text: &String| match Path::new(text).is_absolute() && !text.contains(':') {
        true => path(Path::new(text)).to_string_lossy().into_owned(),
        false => text.clone(),
    };
    // Whatever the scheme: the proxy speaks several on its one port.
    let proxy = |text: String| match port {
        Some((inside, outside)) => {
            let address = text.strip_suffix(&format!("://127.0.0.1:{inside}")).map(str::to_owned);
            address.map_or(text, |scheme| format!("{scheme}://127.0.0.1:{outside}"))
        }
        None => text,
    };
    let Exec { path: program, argv, env, cwd } = &profile.exec;
    Exec {
        path: path(program),
        argv: argv.iter().map(text).collect(),
        env: env.iter().map(|(name, value)| (name.clone(), proxy(text(value)))).collect(),
        cwd: path(cwd),
    }
}

/// The limits that `setrlimit(2)` of macOS has.
fn limits(limits: &Limits) -> Limits {
    Limits {
        core_bytes: limits.core_bytes,
        open_files: limits.open_files,
        file_bytes: limits.file_bytes,
        processes: limits.processes,
        data_bytes: limits.data_bytes,
        stack_bytes: limits.stack_bytes,
        locked_bytes: limits.locked_bytes,
        cpu_seconds: limits.cpu_seconds,
        ..Limits::default()
    }
}

/// What of `profile` has no counterpart.
fn gaps(profile: &Profile) -> Vec<&'static str> {
    let mut gaps = vec![
        "generated, never run on macOS",
        "no namespaces: other programs, users and the machine's name can be seen; what is not granted is refused, not absent",
        "no filter of system calls",
        "processes and memory are limited for each process (setrlimit), not for all of them together",
        "the temporary folder is an ordinary folder: its size is not limited, and whoever launches must remove it",
        "on a volume that ignores case, a name inside a granted folder that is kept read-only can be made in other letters \
         while it does not exist",
    ];
    if !profile.files.is_empty() {
        gaps.push(
            "files that are made up for the program do not exist; those of the system at their places are refused",
        );
    }
    if profile.tmpfs.iter().any(|tmpfs| tmpfs.path.starts_with("/dev")) {
        gaps.push("no shared memory: /dev/shm does not exist on macOS, and POSIX shared memory is refused");
    }
    if matches!(profile.network, Network::Proxy(_)) {
        gaps.push("the proxy's port is on the machine's own loopback: other programs of the machine can connect to it");
    }
    gaps
}
