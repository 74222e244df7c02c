//! [`Mounts`]: what is mounted where, as far as it decides whether a sandbox may be made ahead.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

/// File systems of this machine: looking at a file of them never waits for another machine or another process.
const LOCAL: [&str; 19] = [
    "bcachefs", "btrfs", "devtmpfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "iso9660", "jfs", "ntfs3",
    "overlay", "ramfs", "squashfs", "tmpfs", "vfat", "xfs", "zfs",
];

/// The mounts of a process's namespace: it polls as [`Watch::CHANGED`] once anything was mounted, unmounted or remounted
/// there since this was made.
#[derive(Debug)]
pub(crate) struct Watch(OwnedFd);

impl Watch {
    pub(crate) const CHANGED: PollFlags = PollFlags::PRI.union(PollFlags::ERR);

    /// Of this process's namespace, from now on.
    pub(crate) fn begin() -> Result<Self, Errno> {
        openat(CWD, "/proc/self/mountinfo", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map(Self)
    }
}

impl From<OwnedFd> for Watch {
    fn from(info: OwnedFd) -> Self {
        Self(info)
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The mounts of this process's namespace, as they were at one moment.
#[derive(Debug)]
pub(crate) struct Mounts {
    watch: Watch,
    /// Mount points and file systems; a later one covers an earlier one.
    mounts: Vec<(PathBuf, String)>,
}

impl Mounts {
    /// Reads them (proc_pid_mountinfo(5)).
    pub(crate) fn read() -> Result<Self, Errno> {
        let watch = Watch::begin()?;
        let (mut text, mut buffer) = (Vec::new(), [0; 8192]);
        loop {
            match rustix::io::read(&watch.0, &mut buffer) {
                Ok(0) => break,
                Ok(count) => text.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(Self { watch, mounts: text.split(|byte| *byte == b'\n').filter_map(mount).collect() })
    }

    /// Whether anything was mounted, unmounted or remounted since.
    pub(super) fn changed(&self) -> bool {
        let mut fds = [PollFd::new(&self.watch, Watch::CHANGED)];
        poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// Whether `path` and everything on the way to it is on this machine.
    pub(crate) fn is_local(&self, path: &Path) -> bool {
        path.ancestors().all(|at| {
            let covering = self.mounts.iter().rev().find(|(point, _)| point == at);
            covering.is_none_or(|(_, kind)| LOCAL.contains(&kind.as_str()))
        })
    }
}

/// Mount point and file system of one line.
fn mount(line: &[u8]) -> Option<(PathBuf, String)> {
    let point = line.split(|byte| *byte == b' ').nth(4)?;
    let (_, after) = line.split_at(line.windows(3).position(|window| window == b" - ")? + 3);
    let kind = after.split(|byte| *byte == b' ').next()?;
    Some((PathBuf::from(OsString::from_vec(unescaped(point))), String::from_utf8_lossy(kind).into_owned()))
}

/// Blanks, line breaks and backslashes stand there in octal: `\040`.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|_| *byte == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        plain.push(octal.unwrap_or(*byte));
        rest = if octal.is_some() { tail.get(3..).unwrap_or_default() } else { tail };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "22 1 252:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
        23 22 0:20 / /proc rw,nosuid - proc proc rw\n\
        40 22 0:40 / /home/ann/my\\040cloud rw,nosuid - fuse.sshfs ann@far: rw\n\
        41 40 0:41 / /home/ann/my\\040cloud/deep rw - tmpfs tmpfs rw\n\
        42 22 0:42 / /srv rw master:2 - nfs4 far:/srv rw\n\
        43 22 0:43 / /srv rw - ext4 /dev/vdb rw\n";

    #[test]
    fn what_lies_elsewhere_is_known_without_looking_at_it() {
        let info = openat(CWD, "/dev/null", OFlags::RDONLY, Mode::empty()).unwrap();
        let mounts = Mounts {
            watch: Watch(info),
            mounts: INFO.as_bytes().split(|byte| *byte == b'\n').filter_map(mount).collect(),
        };
        let local = |path: &str| mounts.is_local(Path::new(path));
        assert!(local("/") && local("/usr/lib") && local("/home/ann/notes") && local("/home/ann/my"));
        assert!(!local("/home/ann/my cloud") && !local("/home/ann/my cloud/a/b"));
        assert!(!local("/home/ann/my cloud/deep/a"), "the way to it leads elsewhere");
        assert!(!local("/proc/1/root"), "unknown file systems are not local");
        assert!(local("/srv/a"), "the later mount covers the earlier one");
    }

    #[test]
    fn the_mounts_of_this_process_can_be_read() {
        let mounts = Mounts::read().unwrap();
        assert!(mounts.mounts.iter().any(|(point, _)| point == Path::new("/")));
        assert_eq!(unescaped(br"a\040b\134\011c\9"), b"a b\\\tc\\9");
    }
}
