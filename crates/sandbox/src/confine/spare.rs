//! [`Spare`]: namespaces that are made before they are needed.
//!
//! A network namespace costs more than everything else of a launch together. Under root a launcher makes the next
//! program's while nobody waits: a process that has made them and sleeps. A launch joins them instead of making its own;
//! each is used once, and nothing ever ran in it. They belong to the host's user namespace, so that no program has any
//! right over them, not even in a user namespace of its own.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::failure::StartFailed;
use super::prepared::Prepared;
use crate::profile::Layer;
use crate::sys::{self, Forked};

/// The layers whose namespaces a spare has.
const LAYERS: [Layer; 4] = [Layer::NetNs, Layer::IpcNs, Layer::UtsNs, Layer::CgroupNs];

/// The namespaces that a spare has.
pub(super) const NAMESPACES: libc::c_int =
    libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP;

/// Unused namespaces, and the sleeping process that holds them. Dropping it ends them.
#[derive(Debug)]
pub struct Spare {
    holder: Pid,
    pidfd: OwnedFd,
}

impl Spare {
    /// Makes one, if this user can: `None` for an ordinary user, whose namespaces belong to a user namespace that must be
    /// the program's own.
    ///
    /// The calling process must have one thread.
    ///
    /// # Errors
    /// [`StartFailed::Host`] with the kernel's answer.
    pub fn make() -> Result<Option<Self>, StartFailed> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let host = |source| StartFailed::Host { what: "cannot make namespaces in advance", source };
        let launcher = rustix::process::getpid();
        let holder = match sys::clone_process(NAMESPACES).map_err(host)? {
            Forked::Child => hold(launcher),
            Forked::Parent(pid) => pid,
        };
        match pidfd_open(holder, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Some(Self { holder, pidfd })),
            Err(errno) => {
                let _ = sys::kill_process(holder, Signal::KILL);
                let _ = sys::wait_for(holder);
                Err(host(errno))
            }
        }
    }

    /// Whether `prepared` would make just these namespaces itself.
    pub(super) fn suits(&self, prepared: &Prepared) -> bool {
        prepared.as_root() && LAYERS.iter().all(|layer| prepared.wants(*layer))
    }

    /// What setns(2) takes.
    pub(super) fn handle(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        // By its descriptor: whatever has become of it, no other process is meant.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = sys::wait_for(self.holder);
    }
}

/// The holder's life: it has no descriptors, dies with the launcher, and sleeps.
fn hold(launcher: Pid) -> ! {
    let settled: Result<(), Errno> = (|| {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // The launcher may have died before the signal was asked for.
        if rustix::process::getppid() != Some(launcher) {
            return Err(Errno::SRCH);
        }
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        sys::close_all()
    })();
    if settled.is_ok() {
        sys::sleep_for_ever();
    }
    sys::exit_now(1)
}
