//! Connecting to the socket that a go-plugin program made, and making sure who serves there.
//!
//! The launcher does it, not the gateway: the gateway can make no Unix socket at all, and so reaches none of this machine's.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::net::sockopt::socket_peercred;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use sigil_types::Code;

/// The name of a socket in the private folder of a launch.
///
/// INVARIANT: it has 1 to 107 characters of `A-Z a-z 0-9 . _ -`, and is neither `.` nor `..`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SocketName(String);

/// Not the name of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a socket's name has 1 to 107 characters of A-Z a-z 0-9 . _ -")]
pub struct BadSocketName;

impl TryFrom<String> for SocketName {
    type Error = BadSocketName;

    fn try_from(name: String) -> Result<Self, BadSocketName> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let named = (1..=107).contains(&name.len()) && name.bytes().all(plain) && name != "." && name != "..";
        if named { Ok(Self(name)) } else { Err(BadSocketName) }
    }
}

impl From<SocketName> for String {
    fn from(name: SocketName) -> Self {
        name.0
    }
}

impl SocketName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectRefused {
    /// The program does not run, or has no private folder.
    #[error("the program does not run, or is none that serves on a socket of its own")]
    NoFolder,
    /// There is no such socket, or nobody listens on it.
    #[error("the program's socket cannot be connected to: {0}")]
    Socket(#[from] io::Error),
    /// What is there is no socket.
    #[error("what the program named is not a socket")]
    NotASocket,
    /// It is not known who serves.
    #[error("it cannot be found out who serves on the program's socket: {0}")]
    Unknown(#[source] io::Error),
    /// Another user.
    #[error("the program's socket is served by another user than the launch has")]
    User,
    /// Another process.
    #[error("the program's socket is served by a process that is not of this launch")]
    Process,
}

impl ConnectRefused {
    /// The stable code.
    pub(super) const fn code(&self) -> Code {
        match self {
            Self::NoFolder => const { Code::new("sandbox.connect.launch.none") },
            Self::Socket(_) | Self::NotASocket => const { Code::new("sandbox.connect.socket.unusable") },
            Self::Unknown(_) | Self::User | Self::Process => const { Code::new("sandbox.connect.peer.other") },
        }
    }
}

/// Connects to the socket `name` in `folder`, the private folder of the launch whose first process is `init`.
///
/// The name is opened beneath the folder and through no symbolic link, and what was opened is what is connected to. The
/// connection does not block.
pub(super) fn to(folder: &Path, name: &SocketName, init: Pid) -> Result<OwnedFd, ConnectRefused> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = openat(CWD, folder, flags, Mode::empty()).map_err(io::Error::from)?;
    let stream = open(&folder, name)?;
    check(&stream, &folder, init)?;
    Ok(stream)
}

fn open(folder: &OwnedFd, name: &SocketName) -> Result<OwnedFd, ConnectRefused> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = openat2(folder, name.as_str(), flags, Mode::empty(), how).map_err(io::Error::from)?;
    if FileType::from_raw_mode(fstat(&found).map_err(io::Error::from)?.st_mode) != FileType::Socket {
        return Err(ConnectRefused::NotASocket);
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(io::Error::from)?;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}", found.as_raw_fd())).map_err(io::Error::from)?;
    connect(&stream, &address).map_err(io::Error::from)?;
    Ok(stream)
}

/// Checks that whoever listens on the other end of `stream` is of the launch.
///
/// The kernel notes user and process when a socket begins to listen (`SO_PEERCRED`, unix(7)); a descriptor that is
/// passed on does not change that. The user must be the owner of the folder, which was made for this launch alone, and the
/// process must be in the pid namespace of the launch's first process.
fn check(stream: &OwnedFd, folder: &OwnedFd, init: Pid) -> Result<(), ConnectRefused> {
    let unknown = |errno: rustix::io::Errno| ConnectRefused::Unknown(errno.into());
    let peer = socket_peercred(stream).map_err(unknown)?;
    if peer.uid.as_raw() != fstat(folder).map_err(unknown)?.st_uid {
        return Err(ConnectRefused::User);
    }
    let namespace = |pid: Pid| fs::read_link(format!("/proc/{}/ns/pid", pid.as_raw_nonzero()));
    let ours = namespace(init).map_err(ConnectRefused::Unknown)?;
    // A process that has ended, or is none that the launcher may look at, is not of the launch.
    if namespace(peer.pid).is_ok_and(|theirs| theirs == ours) { Ok(()) } else { Err(ConnectRefused::Process) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn name(text: &str) -> SocketName {
        text.to_owned().try_into().expect("a name")
    }

    /// This process stands for the launch: it is in its own pid namespace.
    fn connect(folder: &Path, socket: &str) -> Result<OwnedFd, ConnectRefused> {
        to(folder, &name(socket), rustix::process::getpid())
    }

    #[test]
    fn names_are_plain() {
        for bad in ["", ".", "..", "a/b", "a b", "/x", "ä", "a\0", &"x".repeat(108)] {
            assert!(SocketName::try_from(bad.to_owned()).is_err(), "{bad:?}");
            assert!(serde_json::from_value::<SocketName>(bad.into()).is_err(), "{bad:?}");
        }
        assert_eq!(name(&"x".repeat(107)).as_str().len(), 107);
    }

    #[test]
    fn only_a_socket_in_the_launch_s_own_folder_is_connected_to() {
        let own = tempfile::tempdir().expect("a folder");
        let other = tempfile::tempdir().expect("a folder");
        let _own = UnixListener::bind(own.path().join("plugin1")).expect("bound");
        let _other = UnixListener::bind(other.path().join("plugin2")).expect("bound");
        std::os::unix::fs::symlink(other.path().join("plugin2"), own.path().join("link")).expect("linked");
        std::os::unix::fs::symlink("plugin1", own.path().join("near")).expect("linked");
        fs::write(own.path().join("file"), "").expect("written");
        drop(UnixListener::bind(own.path().join("deaf")).expect("bound"));
        connect(own.path(), "plugin1").expect("connected");
        for refused in ["deaf", "absent"] {
            assert!(matches!(connect(own.path(), refused), Err(ConnectRefused::Socket(_))), "{refused}");
        }
        // A link is opened as what it is, never followed.
        for refused in ["file", "link", "near"] {
            assert!(matches!(connect(own.path(), refused), Err(ConnectRefused::NotASocket)), "{refused}");
        }
    }

    #[test]
    fn another_s_socket_is_not_taken_for_the_launch_s() {
        let folder = tempfile::tempdir().expect("a folder");
        let _listener = UnixListener::bind(folder.path().join("plugin1")).expect("bound");
        let elsewhere = crate::sys::clone_process(libc::CLONE_NEWUSER | libc::CLONE_NEWPID).expect("a namespace");
        let crate::sys::Forked::Parent(elsewhere) = elsewhere else {
            // Nothing is waited for: it stays until it is killed.
            loop {
                _ = rustix::event::poll(&mut [], None);
            }
        };
        let refused = to(folder.path(), &name("plugin1"), elsewhere);
        crate::sys::kill_process(elsewhere, rustix::process::Signal::KILL).expect("killed");
        crate::sys::wait_for(elsewhere).expect("its end");
        assert!(matches!(refused, Err(ConnectRefused::Process)), "{refused:?}");
        // Root may give a folder to another user, as the launcher does.
        if std::os::unix::fs::chown(folder.path(), Some(0x7000_0001), None).is_ok() {
            assert!(matches!(connect(folder.path(), "plugin1"), Err(ConnectRefused::User)));
        }
    }
}
