//! The maps of user namespaces: the program's own, and those of id-mapped mounts.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{DumpableBehavior, Pid, Signal, set_dumpable_behavior};

use super::failure::{At, Failure, Stage};
use crate::sys::{self, Forked};

/// Who the program is, in its namespace and outside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ids {
    pub(super) inside: (u32, u32),
    pub(super) outside: (u32, u32),
}

fn write_file(path: &str, text: &str) -> Result<(), Errno> {
    let file = openat(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, text.as_bytes()).map(drop)
}

/// Maps exactly one user and one group into the calling process's new user namespace, and becomes them.
pub(super) fn map_self(ids: Ids) -> Result<(), Failure> {
    let stage = Stage::UserNamespace;
    // The files below /proc/self belong to root unless the process is dumpable.
    set_dumpable_behavior(DumpableBehavior::Dumpable).at(stage)?;
    let write = |path: &str, text: String| write_file(path, &text).at_what(stage, || path.to_owned());
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/uid_map", format!("{} {} 1", ids.inside.0, ids.outside.0))?;
    write("/proc/self/gid_map", format!("{} {} 1", ids.inside.1, ids.outside.1))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).at(stage)?;
    sys::set_ids(ids.inside.0, ids.inside.1, false).at(Stage::Identity)
}

/// Id-mapped mounts for a launch under root: each owner of a granted folder appears as the program's user, on the
/// mount only (mount_setattr(2), `MOUNT_ATTR_IDMAP`). What the program writes belongs to the folder's owner.
#[derive(Debug)]
pub(super) struct OwnerMaps {
    outside: (u32, u32),
    made: Vec<((u32, u32), OwnedFd)>,
}

impl OwnerMaps {
    pub(super) const fn new(outside: (u32, u32)) -> Self {
        Self { outside, made: Vec::new() }
    }

    /// Makes the files of `owner` on the detached mount `tree` appear as the program's.
    pub(super) fn apply(&mut self, tree: BorrowedFd<'_>, uid: u32, gid: u32) -> Result<(), Errno> {
        if (uid, gid) == self.outside {
            return Ok(());
        }
        if !self.made.iter().any(|(owner, _)| *owner == (uid, gid)) {
            let namespace = namespace_with_map((uid, gid), self.outside)?;
            self.made.push(((uid, gid), namespace));
        }
        let namespace = self.made.iter().find(|(owner, _)| *owner == (uid, gid)).ok_or(Errno::INVAL)?;
        sys::set_mount_id_map(tree, namespace.1.as_fd())
    }
}

/// A user namespace that exists only for its map `from` → `to`. Its one process is gone when this returns.
fn namespace_with_map(from: (u32, u32), to: (u32, u32)) -> Result<OwnedFd, Errno> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    match sys::clone_process(0)? {
        Forked::Child => sys::exit_now(i32::from(hold_namespace(theirs.as_fd(), ours).is_err())),
        Forked::Parent(pid) => {
            drop(theirs);
            let namespace = map_other(ours.as_fd(), from, to);
            let _ = sys::kill_process(pid, Signal::KILL);
            sys::wait_for(pid)?;
            namespace
        }
    }
}

/// The holder: makes the namespace, says its process id as `/proc` has it, and waits to be killed.
fn hold_namespace(socket: BorrowedFd<'_>, other_end: OwnedFd) -> Result<(), Errno> {
    drop(other_end);
    sys::unshare(libc::CLONE_NEWUSER)?;
    let pid = rustix::fs::readlinkat(CWD, "/proc/self", Vec::new())?;
    sys::send_with_fds(socket, pid.as_bytes(), &[])?;
    let mut byte = [0];
    rustix::io::read(socket, &mut byte).map(drop)
}

fn map_other(socket: BorrowedFd<'_>, from: (u32, u32), to: (u32, u32)) -> Result<OwnedFd, Errno> {
    let mut buffer = [0; 32];
    let (length, _) = sys::receive_with_fds(socket, &mut buffer)?;
    let pid = buffer.get(..length).and_then(|bytes| std::str::from_utf8(bytes).ok()).ok_or(Errno::INVAL)?;
    let pid = pid.parse().ok().and_then(Pid::from_raw).ok_or(Errno::INVAL)?;
    let process = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    let text = |ids: (u32, u32)| format!("{} {} 1", ids.0, ids.1);
    for (file, map) in [("uid_map", text((from.0, to.0))), ("gid_map", text((from.1, to.1)))] {
        write_file(process.join(file).to_str().ok_or(Errno::INVAL)?, &map)?;
    }
    openat(CWD, process.join("ns/user"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}
