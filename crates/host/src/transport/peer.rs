//! Who serves on the socket that a go-plugin program made.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::fstat;
use sigil_types::Code;
use tokio::net::UnixStream;

/// Why the peer of a connection is not taken for the plugin.
#[derive(Debug, thiserror::Error)]
pub enum PeerRefused {
    /// The kernel does not say who it is, or what is known of it cannot be read.
    #[error("it cannot be found out who serves on the plugin's socket: {0}")]
    Unknown(#[from] io::Error),
    /// Another user.
    #[error("the plugin's socket is served by another user than the launch has")]
    User,
    /// A process that is not in a sandbox of this host.
    #[error("the plugin's socket is served by a process that is not in a sandbox of this host")]
    Process,
}

impl PeerRefused {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        const { Code::new("host.plugin.connect.peer") }
    }
}

/// Checks that whoever listens on the other end of `stream` can be the launch that `folder` was made for.
///
/// The kernel notes user and process when a socket begins to listen (`SO_PEERCRED`, unix(7)); a descriptor that is
/// passed on does not change that. Two things are compared:
///
/// - The user must be the folder's owner. The launcher made the folder for this launch alone and gave it to the user
///   that the program is outside its namespace: under root one of its own for this plugin and workspace, otherwise the
///   user who runs Sigil.
/// - The process must be in a pid namespace right below this one, as what the launcher starts is. So no ordinary
///   process passes, not even one of the same user.
///
/// Which launch it is follows from the folder, not from these: the launcher does not say the process ids of what it
/// starts. The folder is new, mode 0700, and mounted in the namespace of this launch only, so no other program in a
/// sandbox can make a socket in it; and a program cannot bring one in from a granted folder, because link(2) is not
/// among its calls and rename(2) does not cross mounts.
///
/// # Errors
/// [`PeerRefused`]; also when the answer cannot be known, as where `/proc` is that of another pid namespace.
pub(super) fn check(stream: &UnixStream, folder: &OwnedFd) -> Result<(), PeerRefused> {
    let peer = stream.peer_cred()?;
    if peer.uid() != fstat(folder).map_err(io::Error::from)?.st_uid {
        return Err(PeerRefused::User);
    }
    // 0 stands for a process that cannot be seen from this pid namespace.
    let pid = peer.pid().filter(|pid| *pid > 0).ok_or(PeerRefused::Process)?;
    let status = |process: &str| fs::read_to_string(format!("/proc/{process}/status"));
    match (namespaces(&status("self")?), namespaces(&status(&pid.to_string())?)) {
        (Some(1), Some(2)) => Ok(()),
        _ => Err(PeerRefused::Process),
    }
}

/// How many pid namespaces a process is in, from that of this `/proc` down: the ids in the line `NSpid` of its status
/// (proc(5)).
fn namespaces(status: &str) -> Option<usize> {
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    Some(ids.split_ascii_whitespace().count())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn namespaces_are_counted() {
        assert_eq!(namespaces("Name:\tx\nNSpid:\t812\t2\nNSpgid:\t812\n"), Some(2));
        assert_eq!(namespaces("Name:\tx\nNStgid:\t1\nNSpid:\t1\n"), Some(1));
        assert_eq!(namespaces("Name:\tNSpid:\n"), None);
    }

    #[tokio::test]
    async fn an_ordinary_process_is_not_taken_for_the_plugin() {
        let folder = tempfile::tempdir().expect("a folder");
        let _listener = UnixListener::bind(folder.path().join("plugin1")).expect("bound");
        let stream = UnixStream::connect(folder.path().join("plugin1")).await.expect("connected");
        let own = fs::File::open(folder.path()).expect("opened").into();
        assert!(matches!(check(&stream, &own), Err(PeerRefused::Process)));
        // Root may give a folder to another user, as the launcher does.
        if std::os::unix::fs::chown(folder.path(), Some(0x7000_0001), None).is_ok() {
            assert!(matches!(check(&stream, &own), Err(PeerRefused::User)));
        }
    }
}
