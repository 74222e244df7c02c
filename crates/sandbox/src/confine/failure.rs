//! What the confined half says to the launching half before the program starts.

use std::collections::BTreeSet;
use std::fmt;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sigil_types::Code;

use crate::profile::Layer;
use crate::report::LayerReport;

/// A step of a launch, in the order in which they are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Making the process and its namespaces.
    Fork,
    /// Closing all descriptors but those that are meant.
    Descriptors,
    /// A session of its own, the file mode mask, the working directory.
    Session,
    /// Dying with the launcher.
    ParentDeath,
    /// Opening what the profile binds.
    Sources,
    /// Becoming the unprivileged user.
    Identity,
    /// Writing the maps of the user namespace.
    UserNamespace,
    /// Resource limits.
    Limits,
    /// Building the new root.
    Root,
    /// The fresh `/proc`.
    Proc,
    /// Loopback and the proxy's listener.
    Network,
    /// The host name.
    Hostname,
    /// Dropping capabilities.
    Privileges,
    /// Landlock.
    Landlock,
    /// Trying the layers from inside.
    SelfTest,
    /// The system-call filter.
    Seccomp,
    /// Opening the program, and executing it.
    Exec,
}

impl Stage {
    /// Its name, as it stands in error texts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fork => "fork",
            Self::Descriptors => "descriptors",
            Self::Session => "session",
            Self::ParentDeath => "parent_death",
            Self::Sources => "sources",
            Self::Identity => "identity",
            Self::UserNamespace => "user_namespace",
            Self::Limits => "limits",
            Self::Root => "root",
            Self::Proc => "proc",
            Self::Network => "network",
            Self::Hostname => "hostname",
            Self::Privileges => "privileges",
            Self::Landlock => "landlock",
            Self::SelfTest => "self_test",
            Self::Seccomp => "seccomp",
            Self::Exec => "exec",
        }
    }

    /// What can be done about a failure here, if something general can be said.
    #[must_use]
    pub const fn remedy(self, errno: i32) -> &'static str {
        match (self, errno) {
            (
                Self::Fork | Self::UserNamespace | Self::Root | Self::Proc | Self::Network,
                libc::EPERM | libc::EACCES,
            ) => {
                "This host does not let this user make namespaces. On Ubuntu, install Sigil's AppArmor profile; in a \
                 container, allow unshare, mount and pivot_root in its seccomp profile. `sigil doctor` says which \
                 layer is missing"
            }
            (Self::Fork, libc::ENOSPC) => "Raise user.max_user_namespaces, or stop programs that hold namespaces",
            (Self::Fork, libc::EAGAIN | libc::ENOMEM) => "The host is out of processes or memory; stop something",
            (Self::Sources, libc::ENOENT) => "Create the path, or take it out of what is granted",
            (Self::Sources, libc::ELOOP) => {
                "A symbolic link stands on the way: name the path that it points to (realpath prints it)"
            }
            (Self::Sources, libc::EACCES) => "The user who runs Sigil cannot reach this path; grant another",
            (Self::Sources, libc::EPERM) => {
                "Grant a folder without it, or run Sigil where it can make namespaces: `sigil doctor` says how"
            }
            (Self::Sources, libc::EINVAL | libc::EOPNOTSUPP) => {
                "Its file system cannot map owners (id-mapped mounts): grant a folder on another one, or run Sigil as the \
                 folder's owner"
            }
            (Self::Sources, libc::ESTALE) => "It was replaced after it was verified; launch again",
            (Self::Landlock, _) => {
                "Use a kernel with Landlock (5.13 or later, 6.2 for posture standard) that is switched on"
            }
            (Self::Exec, libc::ENOENT) => {
                "The program, or the interpreter that it names, does not exist inside the sandbox: bind it"
            }
            (Self::Exec, libc::EACCES) => "It is not executable inside: bind it with access `exec`, and check its mode",
            (Self::Exec, libc::EPERM) => "The profile's system-call list must allow execve and execveat",
            (Self::Exec, libc::ENOEXEC) => "It is neither an executable for this machine nor a script with `#!`",
            _ => "Run `sigil doctor` to see what this host lacks",
        }
    }
}

/// Why a launch was given up: the step, the kernel's answer, and what it was about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// The step.
    pub stage: Stage,
    /// The kernel's answer (errno(3)); 0 when it was not the kernel that refused.
    pub errno: i32,
    /// What it was about: a path, a right, a limit.
    pub what: String,
}

impl Failure {
    pub(super) fn new(stage: Stage, errno: Errno, what: impl Into<String>) -> Self {
        Self { stage, errno: errno.raw_os_error(), what: what.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step `{}` failed", self.stage.name())?;
        if !self.what.is_empty() {
            write!(f, " at {}", self.what)?;
        }
        if self.errno != 0 {
            write!(f, ": {}", std::io::Error::from_raw_os_error(self.errno))?;
        }
        write!(f, ". {}", self.stage.remedy(self.errno))
    }
}

/// Gives an error of the kernel its step and object.
pub(super) trait At<T> {
    /// This happened at `stage`.
    fn at(self, stage: Stage) -> Result<T, Failure>;
    /// This happened at `stage`, and was about `what`.
    fn at_what(self, stage: Stage, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T> At<T> for Result<T, Errno> {
    fn at(self, stage: Stage) -> Result<T, Failure> {
        self.map_err(|errno| Failure::new(stage, errno, ""))
    }

    fn at_what(self, stage: Stage, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|errno| Failure::new(stage, errno, what()))
    }
}

/// One message over the status socket.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Message {
    /// The proxy's listener; its descriptor comes with it.
    Listener,
    /// The listener of the system call filter; its descriptor comes with it.
    Asks,
    /// The mounts of the namespace; the descriptor comes with it.
    Mounts,
    /// All layers stand; the program is executed next.
    Applied(LayerReport),
    /// The launch was given up.
    Failed(Failure),
}

/// Why a program was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartFailed {
    /// The profile contradicts itself or names something that this Sigil does not do.
    #[error("the profile cannot be applied: {0}")]
    Profile(String),
    /// A required layer was not applied, or did not hold when it was tried from inside.
    #[error("refused: required layer missing: {}. Run `sigil doctor` to see why this host lacks it", names(.0))]
    LayerMissing(BTreeSet<Layer>),
    /// A step failed.
    #[error("the sandbox was not set up: {0}")]
    Step(Failure),
    /// The process ended before it said anything.
    #[error("the program's process ended during set-up with wait status {0:#x}; nothing was executed")]
    Died(i32),
    /// The process did not get ready in time, and was killed.
    #[error(
        "the sandbox was not ready after {0} s; the process was killed. Is a granted folder on a dead network mount?"
    )]
    TimedOut(u64),
    /// The calling process could not do its own part.
    #[error("{what}: {source}")]
    Host {
        /// What it could not do.
        what: &'static str,
        /// The kernel's answer.
        source: Errno,
    },
}

fn names(layers: &BTreeSet<Layer>) -> String {
    let names: Vec<String> =
        layers.iter().filter_map(|layer| serde_json::to_value(layer).ok()?.as_str().map(str::to_owned)).collect();
    names.join(", ")
}

impl StartFailed {
    /// The stable code of this refusal.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Profile(_) => const { Code::new("sandbox.launch.profile.invalid") },
            Self::LayerMissing(_) => const { Code::new("sandbox.launch.layer.missing") },
            Self::Step(_) => const { Code::new("sandbox.launch.step.failed") },
            Self::Died(_) => const { Code::new("sandbox.launch.process.died") },
            Self::TimedOut(_) => const { Code::new("sandbox.launch.process.late") },
            Self::Host { .. } => const { Code::new("sandbox.launch.host.failed") },
        }
    }
}

impl From<Failure> for StartFailed {
    fn from(failure: Failure) -> Self {
        Self::Step(failure)
    }
}
