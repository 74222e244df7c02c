//! What this host gives of the sandbox: each layer by doing it.
//!
//! Nothing is concluded from a setting that can be read: on some systems making a user namespace succeeds, and what it is for
//! fails later.

use std::fmt;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::cgroup::Offer;
use crate::confine::trial;
use crate::profile::Layer;
use crate::sys;

/// A posture that a host reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reached {
    /// None: no plugin is started.
    None,
    /// Landlock and seccomp alone, and no network.
    Reduced,
    /// Namespaces, Landlock 3 or later, seccomp.
    Standard,
    /// Standard, control group limits, Landlock 6 or later.
    Strict,
}

impl fmt::Display for Reached {
    /// The word that policy and reports use.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// One layer on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerStatus {
    /// Which.
    pub name: Layer,
    /// Whether it can be had.
    pub status: State,
    /// What was seen.
    pub detail: String,
    /// What to do; empty when nothing needs to be done.
    pub fix: String,
}

/// Whether a layer can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It was applied.
    Applied,
    /// This kernel, or this Sigil, does not have it.
    Missing,
    /// This host does not let this user have it.
    Refused,
}

/// What a host gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// The strongest posture.
    pub posture: Reached,
    /// The version of the kernel's Landlock interface; 0 when there is none.
    pub landlock_abi: u32,
    /// What there is of control groups.
    pub cgroup: Offer,
    /// The layers that are missing for the next stronger posture, with what to do.
    pub missing: Vec<LayerStatus>,
}

/// The oldest Landlock interface that any posture does with: without the right to truncate, what is granted to read could
/// be emptied.
pub const LEAST_ABI: u32 = 3;

/// The oldest Landlock interface of posture `strict`, which scopes signals and abstract sockets.
pub const STRICT_ABI: u32 = 6;

impl Host {
    /// Tries what each posture needs, in processes of their own. The calling process must have one thread.
    #[must_use]
    pub fn look(cgroup: Offer) -> Self {
        let landlock_abi = sys::landlock_abi();
        let mut missing = Vec::new();
        let mut lacks = |layer, errno: Errno| missing.push(LayerStatus::of_error(layer, errno));
        let filters = trial::restrict().inspect_err(|(layer, errno)| lacks(*layer, *errno)).is_ok();
        if !filters || landlock_abi < LEAST_ABI {
            if filters {
                lacks(Layer::Landlock, Errno::NOSYS);
            }
            return Self { posture: Reached::None, landlock_abi, cgroup, missing };
        }
        if let Err((layer, errno)) = trial::namespaces() {
            lacks(layer, errno);
            return Self { posture: Reached::Reduced, landlock_abi, cgroup, missing };
        }
        if landlock_abi < STRICT_ABI {
            lacks(Layer::Landlock, Errno::NOSYS);
        }
        if !cgroup.limits() {
            missing.push(LayerStatus {
                name: Layer::Cgroup,
                status: State::Missing,
                detail: cgroup.to_string(),
                fix: fix(Layer::Cgroup).to_owned(),
            });
        }
        let posture = if missing.is_empty() { Reached::Strict } else { Reached::Standard };
        Self { posture, landlock_abi, cgroup, missing }
    }

    /// The missing layers in one sentence, for the texts of refusals; empty when nothing is missing.
    #[must_use]
    pub fn lacks(&self) -> String {
        let one = |layer: &LayerStatus| {
            let word = if layer.status == State::Missing { "missing" } else { "refused" };
            format!("{} is {word} ({}): {}", layer.name, layer.detail, layer.fix)
        };
        self.missing.iter().map(one).collect::<Vec<_>>().join("; ")
    }
}

impl LayerStatus {
    fn of_error(name: Layer, errno: Errno) -> Self {
        let (status, detail) = match errno {
            Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP => (State::Missing, "this kernel does not have it"),
            _ => (State::Refused, "refused"),
        };
        Self { name, status, detail: format!("{detail}: {errno}"), fix: fix(name).to_owned() }
    }

    /// `layer` by itself, where no posture is reached with it.
    pub(crate) fn alone(layer: Layer) -> Self {
        match trial::alone(layer) {
            Ok(()) => {
                let detail =
                    if fix(layer).is_empty() { "needs nothing special of the host" } else { "can be had by itself" };
                Self { name: layer, status: State::Applied, detail: detail.to_owned(), fix: String::new() }
            }
            Err(errno) => Self::of_error(layer, errno),
        }
    }
}

/// What to do about a layer that is missing.
#[must_use]
pub const fn fix(layer: Layer) -> &'static str {
    match layer {
        Layer::Landlock => "use a kernel of 6.2 or later (6.12 for posture strict) with `landlock` in its lsm= list",
        Layer::Seccomp | Layer::NoNewPrivs => {
            "use a kernel with CONFIG_SECCOMP_FILTER; in a container, allow seccomp(2)"
        }
        Layer::UserNs
        | Layer::MountNs
        | Layer::PidNs
        | Layer::IpcNs
        | Layer::UtsNs
        | Layer::NetNs
        | Layer::CgroupNs
        | Layer::Capabilities => {
            "allow this user to make user namespaces: on Ubuntu an AppArmor profile with `userns,` for the sigil program, \
             elsewhere user.max_user_namespaces above 0; in a container allow unshare(2), mount(2) and pivot_root(2)"
        }
        Layer::Identity => {
            "root can become no ordinary user here: run Sigil as one, or, in a container, allow setuid(2) and map other users"
        }
        Layer::Cgroup => {
            "for posture strict, run Sigil as a systemd service with Delegate=yes, or name a control group of version 2 that \
             belongs to its user and has the controllers memory, pids and cpu"
        }
        _ => "",
    }
}
