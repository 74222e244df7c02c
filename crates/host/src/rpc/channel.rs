//! One HTTP/2 connection over a socket that the launcher handed out: no dialling, no reconnecting, bounded buffers.

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tower::Service;

use super::RpcFailed;

/// Flow control windows: what a plugin can make this process hold for one call, and for all.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// The sending side of a connection. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Channel(http2::SendRequest<tonic::body::Body>);

/// The connection itself, which runs in a task of its own. Dropping it closes the socket.
#[derive(Debug)]
pub(crate) struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Channel {
    pub(crate) async fn open(stream: UnixStream) -> Result<(Self, Connection), RpcFailed> {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(16 * 1024)
            .max_concurrent_reset_streams(16)
            .max_send_buf_size(1 << 20)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| RpcFailed::Closed)?;
        // How it ends is not of interest: every call on it then fails, and the process's end is watched by itself.
        let task = tokio::spawn(async move { drop(connection.await) });
        Ok((Self(sender), Connection(task)))
    }
}

impl Service<http::Request<tonic::body::Body>> for Channel {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
