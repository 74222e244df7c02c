//! mount_setattr(2), which rustix does not have.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::clone::check;

/// Flags of a mount. All of them can be added to any mount; none is ever taken away here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MountFlags {
    /// Nothing can be written.
    pub(crate) read_only: bool,
    /// Nothing can be executed or mapped executable.
    pub(crate) no_exec: bool,
    /// Device nodes do not work.
    pub(crate) no_dev: bool,
    /// For this mount only, not for those below it.
    pub(crate) shallow: bool,
}

/// `struct mount_attr` (linux/mount.h).
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

fn mount_setattr(mount: BorrowedFd<'_>, recursive: bool, attr: &MountAttr) -> Result<(), Errno> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, and `attr` has the size that is passed with it.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}

/// Sets `flags`, and nosuid always, on `mount` and the mounts below it.
///
/// # Errors
/// `EPERM` without the right to; `ENOSYS` before Linux 5.12.
pub(crate) fn set_mount_flags(mount: BorrowedFd<'_>, flags: MountFlags) -> Result<(), Errno> {
    let mut attr_set = libc::MOUNT_ATTR_NOSUID;
    for (wanted, bit) in [
        (flags.read_only, libc::MOUNT_ATTR_RDONLY),
        (flags.no_exec, libc::MOUNT_ATTR_NOEXEC),
        (flags.no_dev, libc::MOUNT_ATTR_NODEV),
    ] {
        if wanted {
            attr_set |= bit;
        }
    }
    mount_setattr(mount, !flags.shallow, &MountAttr { attr_set, ..MountAttr::default() })
}

/// Makes the files of the detached `mount` appear with owners as `user_namespace` maps them.
///
/// # Errors
/// `EINVAL` when the file system does not support it; `EPERM` without the right to.
pub(crate) fn set_mount_id_map(mount: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>) -> Result<(), Errno> {
    let userns_fd = u64::try_from(user_namespace.as_raw_fd()).map_err(|_| Errno::BADF)?;
    let attr = MountAttr { attr_set: libc::MOUNT_ATTR_IDMAP, userns_fd, ..MountAttr::default() };
    mount_setattr(mount, false, &attr)
}
