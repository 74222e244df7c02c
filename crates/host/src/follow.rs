//! Tasks that read what a plugin prints, to its end, into its bounded log.

use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use crate::instance::Shared;
use crate::logs::{Lines, LogStream};
use crate::rpc::Client;
use crate::transport::handshake;

/// Reads a stream of the plugin to its end. With `first`, its first line is the handshake and goes there.
pub(crate) async fn pipe(
    shared: Arc<Shared>,
    mut stream: pipe::Receiver,
    kind: LogStream,
    mut first: Option<oneshot::Sender<String>>,
) {
    let mut buffer = vec![0; 16 * 1024];
    let mut lines = Lines::default();
    let mut head = Vec::new();
    while let Ok(count) = stream.read(&mut buffer).await {
        let mut bytes = buffer.get(..count).unwrap_or_default();
        if count == 0 {
            break;
        }
        if let Some(waiting) = first.take() {
            head.extend_from_slice(bytes);
            match head.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    let (line, rest) = head.split_at(end);
                    // Nobody waits any more when the start was given up.
                    let _ = waiting.send(String::from_utf8_lossy(line).into_owned());
                    bytes = rest;
                }
                // Longer than any handshake: as good as a malformed one.
                None if head.len() > handshake::MAX_LINE => drop(waiting.send(String::new())),
                None => {
                    first = Some(waiting);
                    continue;
                }
            }
        }
        write(&shared, kind, lines.push(bytes));
    }
    write(&shared, kind, lines.finish());
}

/// Reads what go-plugin's server streams of the plugin's output, while the connection lasts.
///
/// A plugin without that service runs as well: its log is then what comes through the pipes.
pub(crate) async fn stdio(shared: Arc<Shared>, client: Client) {
    let mut output = match client.stdio().await {
        Ok(output) => output,
        Err(error) => {
            tracing::debug!(plugin = %shared.record.plugin, %error, "host.stdio");
            return;
        }
    };
    let (mut out, mut err) = (Lines::default(), Lines::default());
    while let Some((kind, bytes)) = output.next().await {
        let lines = match kind {
            LogStream::Stdout => &mut out,
            LogStream::Stderr => &mut err,
        };
        write(&shared, kind, lines.push(&bytes));
    }
    write(&shared, LogStream::Stdout, out.finish());
    write(&shared, LogStream::Stderr, err.finish());
}

fn write(shared: &Shared, kind: LogStream, lines: impl IntoIterator<Item = String>) {
    for line in lines {
        shared.logs.push(shared.parts.clock.now(), kind, line);
    }
}
