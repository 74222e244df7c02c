//! What is never granted, whatever a manifest asks and whoever signed the policy.
//!
//! A grant is refused when it *is* such a place, lies *below* one, or *contains* one: the sandbox has no way to deny a part of
//! what it grants. The check is on the written form; that no link leads elsewhere is checked when the path is opened.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::Access;

/// Places of the system: secrets, other processes, sockets that start programs, and files that others execute or read as
/// settings.
const SYSTEM: [(&str, &str); 41] = [
    ("/proc", "other processes and the kernel's settings"),
    ("/sys", "the kernel's and the devices' settings"),
    ("/dev", "devices"),
    ("/boot", "what the machine starts from"),
    ("/run", "sockets of services that start programs: buses, containers, the system manager"),
    ("/var/run", "sockets of services that start programs"),
    ("/var/lib/docker", "containers of others"),
    ("/var/lib/containerd", "containers of others"),
    ("/var/lib/containers", "containers of others"),
    ("/var/lib/systemd", "state of the system manager"),
    ("/var/spool/cron", "programs that are started by the clock"),
    ("/var/spool/at", "programs that are started by the clock"),
    ("/etc/cron.d", "programs that are started by the clock"),
    ("/etc/cron.daily", "programs that are started by the clock"),
    ("/etc/cron.hourly", "programs that are started by the clock"),
    ("/etc/cron.monthly", "programs that are started by the clock"),
    ("/etc/cron.weekly", "programs that are started by the clock"),
    ("/etc/crontab", "programs that are started by the clock"),
    ("/etc/systemd", "programs that are started with the machine"),
    ("/etc/init.d", "programs that are started with the machine"),
    ("/etc/rc.local", "programs that are started with the machine"),
    ("/etc/xdg/autostart", "programs that are started with a session"),
    ("/etc/shadow", "passwords"),
    ("/etc/shadow-", "passwords"),
    ("/etc/gshadow", "passwords"),
    ("/etc/security/opasswd", "passwords"),
    ("/etc/sudoers", "who may become root"),
    ("/etc/sudoers.d", "who may become root"),
    ("/etc/polkit-1", "who may become root"),
    ("/etc/pam.d", "who may log in"),
    ("/etc/ssh", "keys of this machine"),
    ("/etc/ssl/private", "keys of this machine"),
    ("/etc/profile", "commands that every shell runs"),
    ("/etc/profile.d", "commands that every shell runs"),
    ("/etc/bash.bashrc", "commands that every shell runs"),
    ("/etc/environment", "the environment of every program"),
    ("/etc/ld.so.preload", "code that every program loads"),
    ("/etc/ld.so.conf", "where every program finds its code"),
    ("/etc/ld.so.conf.d", "where every program finds its code"),
    ("/etc/udev", "programs that devices start"),
    ("/etc/dbus-1", "who may call services"),
];

/// Trees of the system's programs and settings, which may be read but are never writable.
const READ_ONLY: [&str; 12] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix", "/snap", "/var/lib"];

/// Names that are protected wherever they stand: people's keys, settings that run commands, sockets that start programs.
const NAMES: [(&str, &str); 47] = [
    (".ssh", "keys"),
    (".gnupg", "keys"),
    (".aws", "keys"),
    (".azure", "keys"),
    (".kube", "keys"),
    (".docker", "keys"),
    (".password-store", "keys"),
    (".netrc", "keys"),
    (".git-credentials", "keys"),
    (".pgpass", "keys"),
    (".my.cnf", "keys"),
    (".npmrc", "keys, and commands that package managers run"),
    (".pypirc", "keys"),
    (".vault-token", "keys"),
    (".mozilla", "a browser's profile"),
    (".thunderbird", "a mail program's profile"),
    (".bashrc", "commands that every shell runs"),
    (".bash_profile", "commands that every shell runs"),
    (".bash_login", "commands that every shell runs"),
    (".bash_logout", "commands that every shell runs"),
    (".bash_aliases", "commands that every shell runs"),
    (".bash_history", "what a person typed"),
    (".zsh_history", "what a person typed"),
    (".python_history", "what a person typed"),
    (".profile", "commands that every shell runs"),
    (".zshrc", "commands that every shell runs"),
    (".zshenv", "commands that every shell runs"),
    (".zprofile", "commands that every shell runs"),
    (".zlogin", "commands that every shell runs"),
    (".kshrc", "commands that every shell runs"),
    (".cshrc", "commands that every shell runs"),
    (".tcshrc", "commands that every shell runs"),
    (".login", "commands that every shell runs"),
    (".inputrc", "what keys do"),
    (".vimrc", "commands that an editor runs"),
    (".emacs", "commands that an editor runs"),
    (".emacs.d", "commands that an editor runs"),
    (".gitconfig", "commands that version control runs"),
    (".xprofile", "commands that a session runs"),
    (".xinitrc", "commands that a session runs"),
    (".xsession", "commands that a session runs"),
    (".xsessionrc", "commands that a session runs"),
    (".pam_environment", "the environment of a session"),
    (".Xauthority", "keys of a display"),
    ("docker.sock", "a socket that starts programs"),
    ("containerd.sock", "a socket that starts programs"),
    ("podman.sock", "a socket that starts programs"),
];

/// The same, for places of more than one name, below a person's folder.
const IN_HOME: [(&str, &str); 24] = [
    (".config/autostart", "programs that are started with a session"),
    (".config/systemd", "programs that are started with a session"),
    (".config/environment.d", "the environment of a session"),
    (".config/fish", "commands that every shell runs"),
    (".config/git", "commands that version control runs"),
    (".config/pip", "commands that package managers run"),
    (".config/gcloud", "keys"),
    (".config/gh", "keys"),
    (".config/op", "keys"),
    (".config/google-chrome", "a browser's profile"),
    (".config/chromium", "a browser's profile"),
    (".config/BraveSoftware", "a browser's profile"),
    (".config/Code", "commands that an editor runs"),
    (".config/nvim", "commands that an editor runs"),
    (".config/sigil", "Sigil's own settings and keys"),
    (".local/share/sigil", "Sigil's own data"),
    (".local/share/systemd", "programs that are started with a session"),
    (".local/share/keyrings", "keys"),
    (".local/share/dbus-1", "programs that a bus starts"),
    (".local/share/applications", "programs that a desktop starts"),
    (".local/bin", PROGRAMS),
    (".cargo/bin", PROGRAMS),
    (".cargo/credentials.toml", "keys"),
    (".cargo/config.toml", "commands that a build runs"),
];

/// What is protected only from being changed: who may read everything may read and run these, too.
const PROGRAMS: &str = "programs that a person starts";

/// What a write grant leaves read-only where it is there: settings of tools that run commands.
pub(crate) const GUARDED: [&str; 7] =
    [".git/hooks", ".git/config", ".hg/hgrc", ".vscode", ".idea", ".envrc", ".mcp.json"];

/// Why a path is never granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Never {
    /// Not in the one form in which a path is written.
    #[error("a path is absolute and has no `.`, `..`, empty part, trailing slash or control character")]
    Form,
    /// Everything.
    #[error("`/` is everything")]
    Root,
    /// A person's folder, or one that holds it.
    #[error("it holds all of a person's files ({home}): keys, settings and history; name a folder in it")]
    Home {
        /// Which.
        home: PathBuf,
    },
    /// A protected place, something in it, or something that holds it.
    #[error("it {} {place}: {what}", .relation.words())]
    Place {
        /// How they relate.
        relation: Relation,
        /// Which.
        place: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// A name that is protected everywhere.
    #[error("`{name}` holds {what}")]
    Name {
        /// Which.
        name: &'static str,
        /// What is there.
        what: &'static str,
    },
    /// A tree that is never writable.
    #[error("{tree} holds the system's programs and settings, which are never writable")]
    ReadOnly {
        /// Which.
        tree: &'static str,
    },
}

/// How a path and a protected place relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// They are the same.
    Same,
    /// The path is in the place.
    Below,
    /// The path holds the place.
    Holds,
}

impl Relation {
    const fn words(self) -> &'static str {
        match self {
            Self::Same => "is",
            Self::Below => "is inside",
            Self::Holds => "contains",
        }
    }

    /// How `path` relates to `place`, if at all.
    fn of(path: &Path, place: &Path) -> Option<Self> {
        if path == place {
            Some(Self::Same)
        } else if path.starts_with(place) {
            Some(Self::Below)
        } else if place.starts_with(path) {
            Some(Self::Holds)
        } else {
            None
        }
    }
}

/// The places that are never granted on this machine.
#[derive(Clone, Debug, Default)]
pub struct NeverGrant {
    /// Sigil's own folders: data, configuration, keys, and the launcher's.
    pub own: Vec<PathBuf>,
    /// The folders of people on this machine.
    pub homes: Vec<PathBuf>,
}

impl NeverGrant {
    /// Checks that `path` may be granted with `access`.
    ///
    /// # Errors
    /// [`Never`]: which protected place it touches, and what is there.
    pub fn check(&self, path: &Path, access: Access) -> Result<(), Never> {
        form(path)?;
        if path == Path::new("/") {
            return Err(Never::Root);
        }
        if let Some(home) = self.homes.iter().find(|home| home.starts_with(path)) {
            return Err(Never::Home { home: home.clone() });
        }
        let own = self.own.iter().map(|place| (place.clone(), "Sigil's own data, settings and keys"));
        let system = SYSTEM.iter().map(|(place, what)| (PathBuf::from(place), *what));
        let people = self.homes.iter().flat_map(|home| IN_HOME.iter().map(|(place, what)| (home.join(place), *what)));
        for (place, what) in own.chain(system).chain(people) {
            if let Some(relation) = Relation::of(path, &place) {
                return Err(Never::Place { relation, place, what });
            }
        }
        for part in path.iter() {
            if let Some((name, what)) = NAMES.iter().find(|(name, _)| part == OsStr::new(name)) {
                return Err(Never::Name { name, what });
            }
        }
        if matches!(access, Access::Write | Access::Scratch) {
            if let Some(tree) = READ_ONLY.iter().find(|tree| Relation::of(path, Path::new(tree)).is_some()) {
                return Err(Never::ReadOnly { tree });
            }
            if path.iter().any(|part| part == OsStr::new(".git")) {
                return Err(Never::Name { name: ".git", what: "commands that version control runs" });
            }
        }
        Ok(())
    }
}

impl NeverGrant {
    /// The places in `path` that are protected from being read, whether they are there or not, and what they hold: Sigil's own,
    /// the system's, and in people's folders what stands at its usual place. Names that are protected wherever they stand
    /// are not looked for further down.
    #[must_use]
    pub fn inside(&self, path: &Path) -> Vec<(PathBuf, &'static str)> {
        let own = self.own.iter().map(|place| (place.clone(), "Sigil's own data, settings and keys"));
        let system = SYSTEM.iter().map(|(place, what)| (PathBuf::from(place), *what));
        let people = self
            .homes
            .iter()
            .flat_map(|home| IN_HOME.iter().chain(&NAMES).map(|(place, what)| (home.join(place), *what)));
        let here = NAMES.iter().map(|(name, what)| (path.join(name), *what));
        own.chain(system)
            .chain(people)
            .chain(here)
            .filter(|(place, what)| place != path && place.starts_with(path) && *what != PROGRAMS)
            .collect()
    }
}

/// Checks that a path is absolute and written in its one form.
fn form(path: &Path) -> Result<(), Never> {
    let bytes = path.as_os_str().as_bytes();
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let rest = bytes.strip_prefix(b"/").ok_or(Never::Form)?;
    let parts = rest.is_empty() || rest.split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."));
    let readable = path.to_str().is_some_and(|text| !text.chars().any(char::is_control));
    if plain && parts && readable && bytes.len() <= 4095 { Ok(()) } else { Err(Never::Form) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn site() -> NeverGrant {
        NeverGrant { own: vec!["/srv/sigil".into()], homes: vec!["/home/ann".into(), "/root".into()] }
    }

    #[test]
    fn what_is_never_granted() {
        for (path, word) in [
            ("/", "everything"),
            ("/home", "person"),
            ("/home/ann", "person"),
            ("/root", "person"),
            ("/proc", "processes"),
            ("/proc/1/mem", "processes"),
            ("/sys/kernel", "kernel"),
            ("/dev/sda", "devices"),
            ("/run/docker.sock", "sockets"),
            ("/run/user/1000/bus", "sockets"),
            ("/var", "sockets"),
            ("/etc", "clock"),
            ("/etc/cron.d/x", "clock"),
            ("/etc/shadow", "passwords"),
            ("/home/ann/.ssh", "keys"),
            ("/home/ann/.ssh/id_ed25519", "keys"),
            ("/home/bob/.gnupg", "keys"),
            ("/home/ann/.bashrc", "shell"),
            ("/home/ann/.config", "session"),
            ("/home/ann/.config/autostart/x.desktop", "session"),
            ("/home/ann/.local", "Sigil"),
            ("/srv", "Sigil"),
            ("/srv/sigil", "Sigil"),
            ("/srv/sigil/keys/owner", "Sigil"),
            ("/opt/x/docker.sock", "socket"),
            ("/a/../b", "form"),
            ("/a/./b", "absolute"),
            ("/a//b", "absolute"),
            ("/a/", "absolute"),
            ("a", "absolute"),
            ("", "absolute"),
            ("/a\nb", "absolute"),
        ] {
            let error = site().check(Path::new(path), Access::Read).expect_err(path).to_string();
            assert!(error.contains(word) || word == "form", "{path:?}: {error}");
        }
        for path in ["/usr/local/x", "/etc/app", "/var/lib/x", "/home/ann/src/.git/hooks"] {
            assert!(site().check(Path::new(path), Access::Write).is_err(), "{path}");
            assert_eq!(site().check(Path::new(path), Access::Read), Ok(()), "{path}");
        }
        for path in ["/home/ann/notes", "/srv/data", "/tmp/x", "/home/ann/.configuration", "/sysadmin", "/home/anna/x"]
        {
            assert_eq!(site().check(Path::new(path), Access::Write), Ok(()), "{path}");
        }
    }

    proptest! {
        #[test]
        fn whatever_touches_a_protected_place_is_refused(
            at in 0..SYSTEM.len() + IN_HOME.len(), below in prop::collection::vec("[a-z]{1,6}", 0..3), up in 0usize..4,
        ) {
            let place = match SYSTEM.get(at) {
                Some((place, _)) => PathBuf::from(place),
                None => Path::new("/home/ann").join(IN_HOME[at - SYSTEM.len()].0),
            };
            let inside = below.iter().fold(place.clone(), |path, part| path.join(part));
            prop_assert!(site().check(&inside, Access::Read).is_err());
            if let Some(above) = place.ancestors().nth(up) {
                prop_assert!(site().check(above, Access::Read).is_err());
            }
        }
    }
}
