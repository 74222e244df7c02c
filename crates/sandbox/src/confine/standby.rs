//! [`Standby`]: a sandbox that is ready except for its program.
//!
//! Most of a launch is the same each time that a profile is used: namespaces, the new root, Landlock. A launcher takes these
//! steps again after a launch, while nobody waits, and keeps the result for the next one, which then only hands over the
//! streams. Nothing but Sigil's own init runs in it until then, and it is used once, only while every path that was bound
//! still leads to what was bound, and nothing was mounted or unmounted since. The program itself is opened when it is
//! wanted, after its tree was verified.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, Stat, readlinkat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::failure::{At, Failure, Stage, StartFailed};
use super::mounts::Mounts;
use super::prepared::Prepared;
use super::sources::open_path;
use super::start::{STATUS, Streams};
use crate::cgroup::Group;
use crate::profile::Profile;
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
    /// Its control group, if it has one. After the init, which must be gone before its folder goes.
    pub(super) group: Option<Group>,
}

impl Standby {
    /// Whether a launch of `prepared`, for which this was made, may use it.
    pub(crate) fn fits(&self, prepared: &Prepared) -> bool {
        self.seen.as_ref().is_none_or(|seen| seen.still_holds(prepared.profile()))
            && !sys::peer_gone(self.status.as_fd())
    }

    /// Hands the streams over, which makes the init start the program.
    pub(super) fn hand_over(&self, streams: &Streams<'_>) -> Result<(), Errno> {
        let given = [streams.stdin, streams.stdout, streams.stderr];
        let null = if given.iter().all(Option::is_some) {
            None
        } else {
            Some(rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
        };
        let all: Vec<_> = given.into_iter().filter_map(|stream| stream.or(null.as_ref().map(AsFd::as_fd))).collect();
        match sys::send_with_fds(self.status.as_fd(), b"go", &all) {
            // It has ended already; what it said is still to be read.
            Ok(_) | Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
            Err(errno) => Err(errno),
        }
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
    /// Ends it without waiting, which could take long while it looks at a file of another machine. Whoever reaps the
    /// launcher's children reaps it; its number means nothing to anybody any more.
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            let _ = pidfd_send_signal(&handle, Signal::KILL);
        }
    }
}

/// What is at the sources of a profile.
#[derive(Debug)]
pub(super) struct Seen {
    /// For each bind what is there, or that there is nothing.
    sources: Vec<Option<Source>>,
    /// What is mounted, the folders below the sources included.
    mounts: Mounts,
}

#[derive(Debug, PartialEq, Eq)]
struct Source {
    /// Device, inode, mode.
    file: (u64, u64, u32),
    /// User and group. They decide how a granted folder is mapped.
    owner: (u32, u32),
    /// Where it leads, if it is a link.
    link: Option<CString>,
}

impl Seen {
    /// Looks at the sources of `profile`; `None` when looking may take long, as something of them lies on another machine.
    pub(super) fn look(profile: &Profile) -> Result<Option<Self>, Errno> {
        let mounts = Mounts::read()?;
        if !profile.binds.iter().all(|bind| mounts.is_local(&bind.source)) {
            return Ok(None);
        }
        let sources = Self::sources(profile)?;
        Ok(Some(Self { sources, mounts }))
    }

    fn sources(profile: &Profile) -> Result<Vec<Option<Source>>, Errno> {
        profile.binds.iter().map(|bind| Source::at(&bind.source)).collect()
    }

    /// Whether all is as it was. Nothing is looked at when something was mounted meanwhile: it may lie anywhere.
    fn still_holds(&self, profile: &Profile) -> bool {
        !self.mounts.changed() && Self::sources(profile).is_ok_and(|now| now == self.sources)
    }

    /// Whether `stat`, what was opened for the bind `number`, is what was seen there. Whose it is looks different from
    /// within a user namespace, and is compared where the launching user opens it (`with_owner`).
    pub(super) fn holds(&self, number: usize, stat: Option<&Stat>, with_owner: bool) -> bool {
        let same = |seen: &Source, stat: &Stat| {
            seen.file == file(stat) && (!with_owner || seen.owner == (stat.st_uid, stat.st_gid))
        };
        match (self.sources.get(number), stat) {
            (Some(Some(seen)), Some(stat)) => same(seen, stat),
            (Some(None), None) => true,
            _ => false,
        }
    }
}

impl Source {
    fn at(path: &Path) -> Result<Option<Self>, Errno> {
        let (fd, stat) = match open_path(path) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => return Ok(None),
            other => other?,
        };
        let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        let link = if is_link { Some(readlinkat(&fd, "", Vec::new())?) } else { None };
        Ok(Some(Self { file: file(&stat), owner: (stat.st_uid, stat.st_gid), link }))
    }
}

const fn file(stat: &Stat) -> (u64, u64, u32) {
    (stat.st_dev, stat.st_ino, stat.st_mode)
}
