//! Namespaces, and what the kernel says about its other means.

use rustix::io::Errno;

use super::clone::{check, last_errno};
use crate::profile::{Layer, Namespace, Profile};

/// The `CLONE_NEW*` flags of the namespaces of `profile` whose layers are `wanted`.
pub(crate) fn namespaces(profile: &Profile, wanted: impl Fn(Layer) -> bool) -> libc::c_int {
    profile.namespaces.iter().fold(0, |flags, namespace| {
        let (layer, flag) = match namespace {
            Namespace::User => (Layer::UserNs, libc::CLONE_NEWUSER),
            Namespace::Mount => (Layer::MountNs, libc::CLONE_NEWNS),
            Namespace::Pid => (Layer::PidNs, libc::CLONE_NEWPID),
            Namespace::Ipc => (Layer::IpcNs, libc::CLONE_NEWIPC),
            Namespace::Uts => (Layer::UtsNs, libc::CLONE_NEWUTS),
            Namespace::Net => (Layer::NetNs, libc::CLONE_NEWNET),
            Namespace::Cgroup => (Layer::CgroupNs, libc::CLONE_NEWCGROUP),
        };
        if wanted(layer) { flags | flag } else { flags }
    })
}

/// Moves the calling process into new namespaces (unshare(2)).
///
/// # Errors
/// `EPERM` without the right to, `ENOSPC` at a limit.
pub(crate) fn unshare(flags: libc::c_int) -> Result<(), Errno> {
    // SAFETY: the flags are those of namespaces only: no memory or descriptor table that another thread uses is
    // touched, and callers have one thread.
    check(i64::from(unsafe { libc::unshare(flags) })).map(drop)
}

/// Whether a call that no profile allows fails with `errno`, as the filter makes it: kcmp(2) of this process with
/// itself, which would succeed or not exist otherwise.
#[must_use]
pub(crate) fn is_filtered(errno: u32) -> bool {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    // SAFETY: takes numbers only: compares the descriptor 0 with itself.
    let result = unsafe { libc::syscall(libc::SYS_kcmp, own, own, 0, 0, 0) };
    result == -1 && last_errno().raw_os_error().unsigned_abs() == errno
}

/// The version of the kernel's Landlock interface; 0 when there is none or it is switched off (landlock(7)).
#[must_use]
pub(crate) fn landlock_abi() -> u32 {
    const CREATE_RULESET_VERSION: u32 = 1;
    // SAFETY: asked for the version, the call takes a null pointer and a size of 0.
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, CREATE_RULESET_VERSION)
    };
    let version = u32::try_from(version).unwrap_or(0);
    #[cfg(test)]
    let version = version.min(crate::confine::tests::landlock_abi());
    version
}
