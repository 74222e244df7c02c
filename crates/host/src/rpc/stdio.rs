//! What a go-plugin program prints once it serves: its server streams it, because the library takes the place of the
//! program's standard output and error.

use sigil_proto::goplugin::StdioData;
use sigil_proto::goplugin::stdio_data::Channel;
use tonic::Streaming;

use super::{Client, RpcFailed};
use crate::logs::LogStream;

/// The most bytes of one piece. go-plugin sends at most 1 KiB at a time.
pub(super) const MAX_PIECE: usize = 64 * 1024;

/// The output of a go-plugin program.
#[derive(Debug)]
pub(crate) struct Stdio(Streaming<StdioData>);

impl Client {
    /// Asks for the output. May be asked once per launch, and waits for the first output: grpc-go sends nothing before.
    ///
    /// # Errors
    /// [`RpcFailed`]; go-plugin before 1.2 has no such service.
    pub(crate) async fn stdio(&self) -> Result<Stdio, RpcFailed> {
        Ok(Stdio(self.stdio.clone().stream_stdio(()).await?.into_inner()))
    }
}

impl Stdio {
    /// The next piece. `None` when there will be no more, for whatever reason: the plugin's end is watched elsewhere.
    pub(crate) async fn next(&mut self) -> Option<(LogStream, Vec<u8>)> {
        while let Ok(Some(piece)) = self.0.message().await {
            match piece.channel() {
                Channel::Stdout => return Some((LogStream::Stdout, piece.data)),
                Channel::Stderr => return Some((LogStream::Stderr, piece.data)),
                // Of no known stream: nothing to show it as.
                Channel::Invalid => {}
            }
        }
        None
    }
}
