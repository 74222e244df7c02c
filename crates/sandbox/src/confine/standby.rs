//! [`Standby`]: a sandbox that is ready except for its program.
//!
//! Most of a launch is the same each time that a profile is used: namespaces, the new root, Landlock. A launcher takes these
//! steps again after a launch, while nobody waits, and keeps the result for the next one, which then only hands over the
//! streams. Nothing but Sigil's own init runs in it until then, it is used once, and only while every path that it opened
//! still leads to what it opened.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, Stat, lstat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::failure::{At, Failure, Stage, StartFailed};
use super::prepared::Prepared;
use super::start::{STATUS, Streams};
use crate::profile::{Bind, Profile};
use crate::sys;

/// A sandbox that is ready except for its program. Dropping it ends it.
#[derive(Debug)]
pub struct Standby {
    pub(super) init: Init,
    pub(super) status: OwnedFd,
    pub(super) exit: OwnedFd,
    pub(super) ready: OwnedFd,
    /// What was at the sources when this was begun; nothing when it is used at once.
    pub(super) seen: Option<Seen>,
}

impl Standby {
    /// Whether a launch of `prepared`, for which this was made, may use it.
    pub(crate) fn fits(&self, prepared: &Prepared) -> bool {
        self.seen.as_ref().is_none_or(|seen| *seen == Seen::look(prepared.profile()))
            && !sys::peer_gone(self.status.as_fd())
    }

    /// Hands the streams over, which makes the init start the program.
    pub(super) fn hand_over(&self, streams: &Streams<'_>) -> Result<(), Errno> {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let all = [streams.stdin, streams.stdout, streams.stderr].map(|stream| stream.unwrap_or(null.as_fd()));
        sys::send_with_fds(self.status.as_fd(), b"go", &all).map(drop)
    }
}

/// The init's side: waits for the streams and puts them in their places.
pub(super) fn receive_streams() -> Result<(), Failure> {
    let (length, streams) = sys::receive_with_fds(sys::fixed_fd(STATUS), &mut [0; 8])
        .at_what(Stage::Descriptors, || "the streams".into())?;
    if length == 0 || streams.len() != 3 {
        // The launcher does not want this sandbox, or is gone.
        return Err(Failure::new(Stage::Descriptors, Errno::PIPE, "nothing is to be started"));
    }
    for (number, stream) in streams.iter().enumerate() {
        sys::replace_stream(number, stream.as_fd()).at(Stage::Descriptors)?;
    }
    Ok(())
}

/// The init of a sandbox, a child of this process, which ends with this value.
#[derive(Debug)]
pub(super) struct Init {
    pid: Pid,
    /// By it no other process is ever meant, whoever waited for the init meanwhile. Nothing once it was let go.
    handle: Option<OwnedFd>,
}

impl Init {
    pub(super) fn new(pid: Pid) -> Result<Self, StartFailed> {
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => Ok(Self { pid, handle: Some(handle) }),
            Err(source) => {
                let _ = sys::kill_process(pid, Signal::KILL);
                let _ = sys::wait_for(pid);
                Err(StartFailed::Host { what: "cannot watch the new process", source })
            }
        }
    }

    /// Lets it live: somebody else takes care of it.
    pub(super) fn release(mut self) -> Pid {
        self.handle = None;
        self.pid
    }

    /// Ends it, and returns its wait status.
    pub(super) fn end(&mut self) -> i32 {
        let Some(handle) = self.handle.take() else { return 0 };
        let _ = pidfd_send_signal(&handle, Signal::KILL);
        sys::wait_for(self.pid).unwrap_or(0)
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        self.end();
    }
}

/// What is at the sources of a profile, or that there is nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen(Vec<Option<Source>>);

#[derive(Debug, PartialEq, Eq)]
struct Source {
    file: File,
    /// User and group. They decide how a granted folder is mapped.
    owner: (u32, u32),
}

/// Device, inode, mode.
type File = (u64, u64, u32);

const fn file(stat: &Stat) -> File {
    (stat.st_dev, stat.st_ino, stat.st_mode)
}

impl Seen {
    pub(super) fn look(profile: &Profile) -> Self {
        let source = |stat: Stat| Source { file: file(&stat), owner: (stat.st_uid, stat.st_gid) };
        Self(profile.binds.iter().map(|Bind { source: path, .. }| lstat(path).ok().map(source)).collect())
    }

    /// Whether `stat`, what was opened for the bind `number`, is what was seen there. Whose it is looks different from
    /// within a user namespace, and is not compared.
    pub(super) fn holds(&self, number: usize, stat: Option<&Stat>) -> bool {
        self.0.get(number).is_some_and(|seen| seen.as_ref().map(|seen| seen.file) == stat.map(file))
    }
}
