//! How the host and a launched plugin find each other: the inherited socket, or go-plugin's handshake.

pub mod handshake;

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use sigil_sandbox::client::LaunchRefused;
use sigil_types::Code;
use tokio::net::UnixStream;

use handshake::HandshakeRefused;

/// Why there is no connection to a plugin that was launched.
#[derive(Debug, thiserror::Error)]
pub enum ConnectFailed {
    /// The launcher handed out another kind of socket than this transport needs.
    #[error("the launcher handed out no socket for this transport")]
    Missing,
    /// A descriptor cannot be used.
    #[error("the plugin's socket cannot be used: {0}")]
    Socket(#[from] io::Error),
    /// The handshake is not one that Sigil accepts.
    #[error("the plugin's handshake is refused: {0}")]
    Handshake(#[from] HandshakeRefused),
    /// The launcher did not connect to the socket that the plugin named.
    #[error(transparent)]
    Named(#[from] LaunchRefused),
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
    pub fn code(&self) -> Code {
        match self {
            Self::Missing | Self::Socket(_) => const { Code::new("host.plugin.connect.socket") },
            Self::Handshake(refused) => refused.code(),
            Self::Named(refused) => refused.code(),
            Self::Silent(_) => const { Code::new("host.plugin.connect.timeout") },
            Self::Ended => const { Code::new("host.plugin.connect.ended") },
        }
    }
}

/// Takes a connected socket from the launcher: that of which an SDK plugin inherited the other end, or that to the socket
/// which a go-plugin program serves on.
pub(crate) fn connected(rpc: OwnedFd) -> Result<UnixStream, ConnectFailed> {
    let stream = std::os::unix::net::UnixStream::from(rpc);
    stream.set_nonblocking(true)?;
    Ok(UnixStream::from_std(stream)?)
}

#[cfg(test)]
mod tests {
    use std::io::{IoSlice, Read};
    use std::mem::MaybeUninit;
    use std::os::fd::AsFd;

    use rustix::net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg,
        socketpair,
    };
    use tokio::io::AsyncReadExt;

    use super::*;

    /// What a plugin sends beside its bytes is closed by the kernel: nothing here asks for descriptors.
    #[tokio::test]
    async fn descriptors_beside_the_bytes_are_never_received() {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("a pair");
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let rights = [writer.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        assert!(beside.push(SendAncillaryMessage::ScmRights(&rights)));
        sendmsg(&theirs, &[IoSlice::new(b"x")], &mut beside, SendFlags::empty()).expect("sent");
        drop(writer);

        let mut stream = connected(ours).expect("a stream");
        assert_eq!(stream.read_u8().await.expect("a byte"), b'x');
        // The end of the pipe says that its last writer, which was in the message, is closed, though the stream lives.
        assert_eq!(reader.read(&mut [0]).expect("its end"), 0);
        drop(stream);
    }
}
