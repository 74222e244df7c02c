//! How the host and a launched plugin find each other: the inherited socket, or go-plugin's handshake.

pub mod handshake;
pub mod peer;

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use sigil_types::Code;
use tokio::net::UnixStream;

use handshake::{Handshake, HandshakeRefused};
use peer::PeerRefused;

/// Why there is no connection to a plugin that was launched.
#[derive(Debug, thiserror::Error)]
pub enum ConnectFailed {
    /// The launcher handed out no socket for this transport.
    #[error("the launcher handed out no {0}")]
    Missing(&'static str),
    /// A descriptor cannot be used.
    #[error("the plugin's socket cannot be used: {0}")]
    Socket(#[from] io::Error),
    /// The handshake is not one that Sigil accepts.
    #[error("the plugin's handshake is refused: {0}")]
    Handshake(#[from] HandshakeRefused),
    /// Somebody else serves on its socket.
    #[error(transparent)]
    Peer(#[from] PeerRefused),
    /// It said nothing in time.
    #[error("the plugin said no handshake within {0:?}")]
    Silent(Duration),
    /// It ended.
    #[error("the plugin ended before its handshake")]
    Ended,
}

impl ConnectFailed {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Missing(_) | Self::Socket(_) => const { Code::new("host.plugin.connect.socket") },
            Self::Handshake(refused) => refused.code(),
            Self::Peer(refused) => refused.code(),
            Self::Silent(_) => const { Code::new("host.plugin.connect.timeout") },
            Self::Ended => const { Code::new("host.plugin.connect.ended") },
        }
    }
}

/// Takes the socket that an SDK plugin inherited the other end of.
pub(crate) fn inherited(rpc: OwnedFd) -> Result<UnixStream, ConnectFailed> {
    let stream = std::os::unix::net::UnixStream::from(rpc);
    stream.set_nonblocking(true)?;
    Ok(UnixStream::from_std(stream)?)
}

/// Connects to the socket that a go-plugin program named in its handshake.
///
/// Of the address only the last name is used: it is opened in `folder`, the folder of this launch that the program sees
/// as its `/tmp`, beneath it and through no symbolic link, and must be a socket. Who serves there is checked before
/// anything is sent, see [`peer::check`].
pub(crate) async fn named(folder: &OwnedFd, handshake: &Handshake) -> Result<UnixStream, ConnectFailed> {
    let stream = open(folder, handshake).await?;
    peer::check(&stream, folder)?;
    Ok(stream)
}

async fn open(folder: &OwnedFd, handshake: &Handshake) -> Result<UnixStream, ConnectFailed> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let socket = openat2(folder, handshake.socket(), flags, Mode::empty(), how).map_err(io::Error::from)?;
    if FileType::from_raw_mode(fstat(&socket).map_err(io::Error::from)?.st_mode) != FileType::Socket {
        return Err(HandshakeRefused::NotASocket.into());
    }
    // The name is not resolved a second time: what was opened is what is connected to.
    let socket = File::from(socket);
    Ok(UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    async fn connect(folder: &std::path::Path, name: &str) -> Result<UnixStream, ConnectFailed> {
        let handshake = Handshake::parse(&format!("1|1|unix|/tmp/{name}|grpc|"), 1)?;
        open(&File::open(folder).expect("opened").into(), &handshake).await
    }

    #[tokio::test]
    async fn only_a_socket_in_the_launch_s_own_folder_is_connected_to() {
        let own = tempfile::tempdir().expect("a folder");
        let other = tempfile::tempdir().expect("a folder");
        let _own = UnixListener::bind(own.path().join("plugin1")).expect("bound");
        let _other = UnixListener::bind(other.path().join("plugin2")).expect("bound");
        std::os::unix::fs::symlink(other.path().join("plugin2"), own.path().join("link")).expect("linked");
        std::os::unix::fs::symlink("plugin1", own.path().join("near")).expect("linked");
        std::fs::write(own.path().join("file"), "").expect("written");
        connect(own.path(), "plugin1").await.expect("connected");
        for refused in ["link", "near", "file", "absent"] {
            assert!(connect(own.path(), refused).await.is_err(), "{refused}");
        }
    }
}
