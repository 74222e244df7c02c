//! What this host has of the sandbox: each layer by doing it, and the escape battery inside the real profiles.
//!
//! Nothing is concluded from a setting that can be read: on some systems making a user namespace succeeds, and what it is for
//! fails later.

use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::system::sethostname;
use serde::{Deserialize, Serialize};

use crate::battery::{self, BatteryReport, Setting};
use crate::profile::base::BaseProfile;
use crate::profile::{Layer, seccomp};
use crate::report::LayerReport;
use crate::sys::{self, Forked};

/// What this host has of the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Doctor {
    /// The strongest posture that can be had here.
    pub posture: Reached,
    /// The version of the kernel's Landlock interface; 0 when there is none.
    pub landlock_abi: u32,
    /// Every layer.
    pub layers: Vec<LayerStatus>,
    /// What the battery said; nothing when no probe could be started.
    pub battery: BatteryReport,
    /// Why no probe could be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// A posture that a host reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reached {
    /// None: no plugin is started.
    None,
    /// Landlock and seccomp alone. No plugin is started in it yet.
    Reduced,
    /// Namespaces, Landlock 3 or later, seccomp.
    Standard,
    /// Standard, control group limits, Landlock 6 or later.
    Strict,
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

/// All layers of a launch, in the order in which they are applied. The proxy is no part of the host.
const LAYERS: [Layer; 18] = [
    Layer::Descriptors,
    Layer::Environment,
    Layer::Session,
    Layer::ParentDeath,
    Layer::Rlimits,
    Layer::UserNs,
    Layer::MountNs,
    Layer::PidNs,
    Layer::IpcNs,
    Layer::UtsNs,
    Layer::NetNs,
    Layer::CgroupNs,
    Layer::Cgroup,
    Layer::Identity,
    Layer::Capabilities,
    Layer::NoNewPrivs,
    Layer::Landlock,
    Layer::Seccomp,
];

/// Tries the sandbox on this host. The calling process must have one thread, as for every launch.
#[must_use]
pub fn doctor() -> Doctor {
    let (battery, report, failed) = match battery::run(&Setting::ALL) {
        Ok((battery, report)) => (battery, report, None),
        Err(error) => (BatteryReport::default(), LayerReport::default(), Some(error.to_string())),
    };
    let landlock_abi = sys::landlock_abi();
    let layers: Vec<LayerStatus> = LAYERS.iter().map(|layer| status(*layer, &report, failed.is_some())).collect();
    let posture = if failed.is_some() { Reached::None } else { reached(&report) };
    Doctor { posture, landlock_abi, layers, battery, failed }
}

/// The posture that the applied layers of a launch make.
#[must_use]
pub fn reached(report: &LayerReport) -> Reached {
    let has = |wanted: &[Layer]| wanted.iter().all(|layer| report.applied.contains(layer));
    let namespaces = has(&[Layer::UserNs, Layer::MountNs, Layer::NetNs, Layer::PidNs]);
    match (namespaces, has(&[Layer::Landlock, Layer::Seccomp, Layer::NoNewPrivs])) {
        (true, true) if report.landlock_abi >= 6 && has(&[Layer::Cgroup]) => Reached::Strict,
        (true, true) if report.landlock_abi >= 3 => Reached::Standard,
        (false, true) => Reached::Reduced,
        _ => Reached::None,
    }
}

fn status(layer: Layer, report: &LayerReport, failed: bool) -> LayerStatus {
    let row = |status, detail: String, fix: &str| LayerStatus { name: layer, status, detail, fix: fix.to_owned() };
    if report.applied.contains(&layer) {
        let detail = match layer {
            Layer::Landlock => format!("version {} of the kernel's interface", report.landlock_abi),
            _ if report.proven.contains(&layer) => "applied, and seen at work from inside".to_owned(),
            _ => "applied".to_owned(),
        };
        return row(State::Applied, detail, "");
    }
    if layer == Layer::Cgroup {
        let detail = "limits by control groups are not built yet; limits of the process stand in".to_owned();
        return row(State::Missing, detail, "");
    }
    if !failed {
        return row(State::Missing, "was not applied".to_owned(), "sigil explain sandbox.launch.layer.missing");
    }
    match alone(layer) {
        Ok(()) if fix(layer).is_empty() => row(State::Applied, "needs nothing special of the host".to_owned(), ""),
        Ok(()) => row(State::Applied, "can be had by itself".to_owned(), ""),
        Err(errno @ (Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP)) => {
            row(State::Missing, format!("this kernel does not have it: {errno}"), fix(layer))
        }
        Err(errno) => row(State::Refused, format!("refused: {errno}"), fix(layer)),
    }
}

const fn fix(layer: Layer) -> &'static str {
    match layer {
        Layer::Landlock => "use a kernel of 6.2 or later with `landlock` in its lsm= list",
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
        _ => "",
    }
}

/// Does what the layer is, in a process of its own.
fn alone(layer: Layer) -> Result<(), Errno> {
    match sys::fork_process()? {
        Forked::Child => {
            let status = act(layer).map_or_else(|errno| errno.raw_os_error(), |()| 0);
            sys::exit_now(status)
        }
        Forked::Parent(child) => match sys::wait_for(child)? {
            0 => Ok(()),
            status => Err(Errno::from_raw_os_error(if libc::WIFEXITED(status) {
                libc::WEXITSTATUS(status)
            } else {
                libc::EIO
            })),
        },
    }
}

fn act(layer: Layer) -> Result<(), Errno> {
    let with = |namespace: i32| sys::unshare(libc::CLONE_NEWUSER | namespace);
    match layer {
        Layer::UserNs => with(0),
        Layer::MountNs => {
            with(libc::CLONE_NEWNS)?;
            // Where only the namespace is let through, this is what fails.
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        }
        Layer::PidNs => with(libc::CLONE_NEWPID),
        Layer::IpcNs => with(libc::CLONE_NEWIPC),
        Layer::UtsNs => {
            with(libc::CLONE_NEWUTS)?;
            sethostname(b"sandbox")
        }
        Layer::NetNs => {
            with(libc::CLONE_NEWNET)?;
            sys::loopback_up()
        }
        Layer::CgroupNs => with(libc::CLONE_NEWCGROUP),
        Layer::Capabilities => {
            with(0)?;
            sys::drop_all_privileges(None)
        }
        Layer::NoNewPrivs => rustix::thread::set_no_new_privs(true),
        Layer::Landlock if sys::landlock_abi() >= 3 => Ok(()),
        Layer::Landlock => Err(Errno::NOSYS),
        Layer::Seccomp => filter(),
        // What needs nothing of the kernel but what every program has.
        _ => Ok(()),
    }
}

fn filter() -> Result<(), Errno> {
    let base = BaseProfile::load("native").map_err(|_| Errno::INVAL)?;
    let programs = seccomp::compile(&base.filter(&std::collections::BTreeSet::new())).map_err(|_| Errno::INVAL)?;
    for program in &programs {
        seccompiler::apply_filter(program).map_err(|_| Errno::PERM)?;
    }
    if sys::is_filtered(libc::EPERM.unsigned_abs()) { Ok(()) } else { Err(Errno::NOSYS) }
}
