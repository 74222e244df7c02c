//! The plugin's end of the gRPC connection.

use std::convert::Infallible;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sigil_proto::v1::plugin_server::{self, PluginServer};
use sigil_proto::v1::tool_plugin_server::{self, ToolPluginServer};
use sigil_proto::v1::{
    CallEvent, CallRequest, Chunk, DescribeRequest, DescribeResponse, Done, HealthRequest, HealthResponse, InitRequest,
    InitResponse, ShutdownRequest, ShutdownResponse, call_event, health_response,
};
use sigil_proto::{MAX_MESSAGE, PROTOCOL, RPC_FD, RPC_FD_NUMBER};
use tokio::sync::Notify;
use tonic::server::NamedService;
use tonic::{Request, Response, Status};
use tower::Service;

use crate::context::Instance;
use crate::{Context, Plugin, ServeFailed, Tool};

/// Results are sent in pieces of this size.
const CHUNK: usize = 256 * 1024;

/// A call without a deadline gets this one.
const DEFAULT_TIME: Duration = Duration::from_secs(30);

/// Takes over the socket to the host: standard input, which afterwards is `/dev/null`, so that no child inherits it.
pub(crate) fn inherited() -> Result<UnixStream, ServeFailed> {
    if std::env::var(RPC_FD).ok().as_deref() != Some(RPC_FD_NUMBER.to_string().as_str()) {
        return Err(ServeFailed::NotAPlugin);
    }
    let take = || -> io::Result<UnixStream> {
        let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        let null = std::fs::File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(&null)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    take().map_err(ServeFailed::Socket)
}

/// Serves one connection until it ends or the host says stop.
pub(crate) async fn serve(plugin: &Plugin, socket: UnixStream) -> Result<(), ServeFailed> {
    let socket = tokio::net::UnixStream::from_std(socket).map_err(ServeFailed::Socket)?;
    let server = Arc::new(Server {
        name: plugin.name,
        version: plugin.version,
        tools: plugin.tools.clone(),
        instance: OnceLock::new(),
        stop: Notify::new(),
    });
    let plugin = PluginServer::from_arc(Arc::clone(&server)).max_decoding_message_size(MAX_MESSAGE);
    let tools = ToolPluginServer::from_arc(Arc::clone(&server)).max_decoding_message_size(MAX_MESSAGE);
    let route = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let (mut plugin, mut tools) = (plugin.clone(), tools.clone());
        async move {
            let service = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default().to_owned();
            let answer = match service.as_str() {
                <PluginServer<Server> as NamedService>::NAME => plugin.call(request).await,
                <ToolPluginServer<Server> as NamedService>::NAME => tools.call(request).await,
                _ => Ok(Status::unimplemented("no such service").into_http()),
            };
            answer.map_err(|never: Infallible| never)
        }
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(64)
        .serve_connection(TokioIo::new(socket), route);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended.or_else(gone_or_broken),
        () = server.stop.notified() => {}
    }
    // The answer to `Shutdown` is still to be written; calls that run may finish until the host's patience ends.
    connection.as_mut().graceful_shutdown();
    connection.await.or_else(gone_or_broken)
}

/// A host that goes away is a regular end, however abruptly it goes; anything else is not.
fn gone_or_broken(error: hyper::Error) -> Result<(), ServeFailed> {
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        let kind = inner.downcast_ref::<io::Error>().map(io::Error::kind);
        let gone = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset, io::ErrorKind::UnexpectedEof];
        if kind.is_some_and(|kind| gone.contains(&kind)) {
            return Ok(());
        }
        cause = inner.source();
    }
    Err(ServeFailed::Connection(error.to_string()))
}

struct Server {
    name: &'static str,
    version: &'static str,
    tools: Vec<Tool>,
    instance: OnceLock<Arc<Instance>>,
    stop: Notify,
}

#[tonic::async_trait]
impl plugin_server::Plugin for Server {
    async fn init(&self, request: Request<InitRequest>) -> Result<Response<InitResponse>, Status> {
        let request = request.into_inner();
        if request.protocol != PROTOCOL {
            let why = format!("this plugin speaks version {PROTOCOL} of the protocol, the host {}", request.protocol);
            return Err(Status::failed_precondition(why));
        }
        let instance = Instance::new(request).map_err(Status::invalid_argument)?;
        self.instance.set(Arc::new(instance)).map_err(|_| Status::failed_precondition("Init was called before"))?;
        Ok(Response::new(InitResponse { name: self.name.to_owned(), version: self.version.to_owned() }))
    }

    async fn health(&self, _: Request<HealthRequest>) -> Result<Response<HealthResponse>, Status> {
        let status = health_response::Status::Serving.into();
        Ok(Response::new(HealthResponse { status, detail: String::new() }))
    }

    async fn shutdown(&self, _: Request<ShutdownRequest>) -> Result<Response<ShutdownResponse>, Status> {
        self.stop.notify_one();
        Ok(Response::new(ShutdownResponse {}))
    }
}

#[tonic::async_trait]
impl tool_plugin_server::ToolPlugin for Server {
    type CallStream = BoxStream<'static, Result<CallEvent, Status>>;

    async fn describe(&self, _: Request<DescribeRequest>) -> Result<Response<DescribeResponse>, Status> {
        let tools = self.tools.iter().map(|tool| tool.description.clone()).collect();
        Ok(Response::new(DescribeResponse { tools }))
    }

    async fn call(&self, request: Request<CallRequest>) -> Result<Response<Self::CallStream>, Status> {
        let CallRequest { call_id, tool, arguments_json, deadline_ms } = request.into_inner();
        let instance = self.instance.get().ok_or_else(|| Status::failed_precondition("Init was not called"))?;
        let found = self.tools.iter().find(|known| known.description.name == tool);
        let run = Arc::clone(&found.ok_or_else(|| Status::not_found("no such tool"))?.run);
        let time = if deadline_ms == 0 { DEFAULT_TIME } else { Duration::from_millis(deadline_ms.into()) };
        let context = Context::new(Arc::clone(instance), call_id, time);
        let outcome = tokio::task::spawn_blocking(move || run(&context, &arguments_json)).await;
        let (ok, content, media_type) = match outcome {
            Ok(Ok(reply)) => (true, reply.content, reply.media_type),
            Ok(Err(failed)) => (false, failed.0.into_bytes(), "text/plain"),
            Err(_) => return Err(Status::internal("the tool panicked; its standard error says where")),
        };
        Ok(Response::new(events(ok, content, media_type)))
    }
}

/// A result as chunks and an end. A small one is the end alone.
fn events(ok: bool, content: Vec<u8>, media_type: &'static str) -> BoxStream<'static, Result<CallEvent, Status>> {
    let done = |content| call_event::Event::Done(Done { ok, content, media_type: media_type.to_owned() });
    let events = if content.len() <= CHUNK {
        vec![done(content)]
    } else {
        let chunks = content.chunks(CHUNK).map(|piece| call_event::Event::Chunk(Chunk { content: piece.to_vec() }));
        chunks.chain(std::iter::once(done(Vec::new()))).collect()
    };
    stream::iter(events).map(|event| Ok(CallEvent { event: Some(event) })).boxed()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

    /// Serves a plugin without tools to a host that says `said`, reads the first frame, and goes away.
    fn served_to(said: &[u8]) -> Result<(), ServeFailed> {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let said = said.to_vec();
        let host = std::thread::spawn(move || {
            let mut host = ours;
            host.write_all(&said).expect("sent");
            host.read_exact(&mut [0; 9]).expect("its first frame");
        });
        theirs.set_nonblocking(true).expect("set");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let outcome = runtime.block_on(serve(&Plugin::new("x", "0.1.0"), theirs));
        host.join().expect("joined");
        outcome
    }

    #[test]
    fn a_host_that_goes_away_is_a_regular_end() {
        served_to(PREFACE).expect("regular");
    }

    #[test]
    fn a_peer_that_speaks_otherwise_is_an_error() {
        assert!(served_to(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").is_err());
    }
}
