//! [`Server`]: accepts connections, serves them within their limits, and stops without cutting answers off.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use sigil_store::GatewayStore;
use sigil_types::Clock;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::auth::Peer;
use crate::listen::Listeners;
use crate::operations::Operations;
use crate::routes::{self, App};
use crate::settings::Settings;
use crate::stall::Stall;

/// Largest request head in bytes, and most headers.
const HEAD_BYTES: usize = 32 * 1024;
const MAX_HEADERS: usize = 64;

/// The HTTP server.
pub struct Server {
    app: Arc<App>,
    router: Router,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}

impl Server {
    /// A server that asks `operations` for everything, and knows callers from `store`.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn new(
        settings: Settings,
        operations: Arc<dyn Operations>,
        store: Arc<dyn GatewayStore>,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let app = Arc::new(App::new(settings, operations, store, clock)?);
        let router = routes::router(&app);
        Ok(Self { app, router })
    }

    /// Serves `listeners` until `stop` is there; then takes no new connection, ends streams, lets open requests finish
    /// within the drain time, and returns.
    ///
    /// # Errors
    /// When a listener cannot be handed to the runtime.
    pub async fn run(self, mut listeners: Listeners, stop: impl Future<Output = ()> + Send) -> io::Result<()> {
        let tcp = listeners.tcp.take().map(TcpListener::from_std).transpose()?;
        let unix = listeners.unix.take().map(UnixListener::from_std).transpose()?;
        let places = Arc::new(Semaphore::new(self.app.settings.limits.connections));
        let mut connections = JoinSet::new();
        tokio::pin!(stop);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = accept_tcp(tcp.as_ref()) => accepted.map(|(stream, peer)| (Either::Tcp(stream), peer)),
                accepted = accept_unix(unix.as_ref()) => accepted.map(|(stream, peer)| (Either::Unix(stream), peer)),
                Some(_) = connections.join_next() => continue,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors or the like: pause, instead of spinning until one is free.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                self.app.metrics.refused_connection();
                continue;
            };
            let (app, router) = (Arc::clone(&self.app), self.router.clone());
            connections.spawn(async move {
                app.metrics.connected();
                match stream {
                    Either::Tcp(stream) => serve(&app, router, stream, peer).await,
                    Either::Unix(stream) => serve(&app, router, stream, peer).await,
                }
                app.metrics.disconnected();
                drop(place);
            });
        }
        drop((tcp, unix));
        self.app.closing.send_replace(true);
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(self.app.settings.limits.drain, all).await.is_err() {
            tracing::warn!("some requests did not finish within the drain time");
        }
        drop(listeners);
        Ok(())
    }
}

enum Either {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

async fn accept_tcp(listener: Option<&TcpListener>) -> io::Result<(tokio::net::TcpStream, Peer)> {
    let Some(listener) = listener else { return std::future::pending().await };
    let (stream, address) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, Peer::Tcp(address)))
}

async fn accept_unix(listener: Option<&UnixListener>) -> io::Result<(tokio::net::UnixStream, Peer)> {
    let Some(listener) = listener else { return std::future::pending().await };
    let (stream, _) = listener.accept().await?;
    let uid = stream.peer_cred()?.uid();
    Ok((stream, Peer::Unix(uid)))
}

async fn serve(app: &Arc<App>, router: Router, stream: impl AsyncRead + AsyncWrite + Unpin, peer: Peer) {
    let limits = &app.settings.limits;
    let io = TokioIo::new(Stall::new(stream, limits.write_timeout));
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let router = router.clone();
        async move {
            Ok::<_, Infallible>(router.oneshot(request.map(Body::new)).await.unwrap_or_else(|never| match never {}))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .half_close(false)
        .serve_connection(io, service);
    tokio::pin!(connection);
    let mut closing: watch::Receiver<bool> = app.closing.subscribe();
    let closed = async move { drop(closing.wait_for(|closing| *closing).await) };
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = closed => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, source = %peer.source(), "connection ended");
    }
}
