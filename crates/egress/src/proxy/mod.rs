//! The plugins' proxy: one listener, made inside the plugin's network namespace, is one identity.
//!
//! Order, for each connection: read the request strictly, judge its target by its text, resolve once, check every address,
//! write the audit entry, dial a checked address, compare the server name, pass bytes. No step is repeated with another
//! reading of the same name.

mod exchange;
pub mod hello;
mod meter;
mod record;
pub mod request;
mod tunnel;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use sigil_audit::AuditLog;
use sigil_types::{Code, HostPort};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::resolve::{Checked, Lookup, Resolver};
use crate::rules::{Identity, Way};
use crate::surroundings::Surroundings;
use crate::{EgressRule, Refused};
use request::{BadRequest, Kind, Request};

/// How long and how much. Times are each for one wait; sizes are in bytes, for one connection.
#[derive(Debug, Clone)]
pub struct ProxyLimits {
    /// Until the whole request head is there.
    pub request: Duration,
    /// Until the whole ClientHello is there.
    pub hello: Duration,
    /// For a name to be resolved.
    pub resolve: Duration,
    /// For one address to answer.
    pub connect: Duration,
    /// Without a byte in either direction.
    pub idle: Duration,
    /// For a connection as a whole.
    pub total: Duration,
    /// From the plugin.
    pub up: u64,
    /// To the plugin.
    pub down: u64,
    /// Connections of one identity at the same time.
    pub connections: usize,
    /// Connections of one identity in a second, over time; ten times as many at once. Each served one is two audit entries.
    pub rate: u32,
}

impl Default for ProxyLimits {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(10),
            hello: Duration::from_secs(10),
            resolve: Duration::from_secs(5),
            connect: Duration::from_secs(5),
            idle: Duration::from_secs(120),
            total: Duration::from_secs(3600),
            up: 256 << 20,
            down: 1 << 30,
            connections: 64,
            rate: 20,
        }
    }
}

/// Why a listener cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeFailed {
    /// It is not a listening TCP socket, or the runtime did not take it.
    #[error("the plugin's proxy listener cannot be used: {0}")]
    Listener(#[source] io::Error),
}

impl ServeFailed {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        Code::new("egress.listener.serve.failed")
    }
}

/// Counts since the listener was handed over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProxyStats {
    /// Connections accepted.
    pub accepted: u64,
    /// Of these, not served, or not served to their end, whatever the reason.
    pub refused: u64,
    /// Bytes from the plugin to hosts.
    pub up: u64,
    /// Bytes from hosts to the plugin.
    pub down: u64,
}

#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    refused: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
}

/// The proxy. Cheap to clone; serves any number of listeners.
#[derive(Clone)]
pub struct Proxy {
    audit: AuditLog,
    lookup: Lookup,
    limits: Arc<ProxyLimits>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// A listener that is being served. Dropping it closes the listener and all its connections.
#[derive(Debug)]
pub struct ProxyHandle {
    identity: Arc<RwLock<Arc<Identity>>>,
    counters: Arc<Counters>,
    task: tokio::task::JoinHandle<()>,
}

impl ProxyHandle {
    /// What happened so far.
    #[must_use]
    pub fn stats(&self) -> ProxyStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ProxyStats {
            accepted: read(&self.counters.accepted),
            refused: read(&self.counters.refused),
            up: read(&self.counters.up),
            down: read(&self.counters.down),
        }
    }

    /// Puts other rules in force for connections from now on; those under way keep theirs. Drop the handle to end them.
    pub fn replace_rules(&self, rules: Vec<EgressRule>, local: Vec<SocketAddr>) {
        let mut identity = match self.identity.write() {
            Ok(identity) => identity,
            Err(poisoned) => poisoned.into_inner(),
        };
        *identity = Arc::new(Identity { rules, local, ..(**identity).clone() });
    }
}

impl Drop for ProxyHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// A proxy that records in `audit` and resolves by `resolver`.
    #[must_use]
    pub fn new(audit: AuditLog, resolver: Arc<dyn Resolver>, surroundings: Surroundings, limits: ProxyLimits) -> Self {
        let lookup = Lookup { resolver, surroundings, timeout: limits.resolve };
        Self { audit, lookup, limits: Arc::new(limits) }
    }

    /// Serves `listener`, a listening TCP socket, for `identity`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`ServeFailed`] when `listener` is no such socket.
    pub fn serve(&self, listener: OwnedFd, identity: Identity) -> Result<ProxyHandle, ServeFailed> {
        let listener = std::net::TcpListener::from(listener);
        listener.set_nonblocking(true).map_err(ServeFailed::Listener)?;
        let listener = TcpListener::from_std(listener).map_err(ServeFailed::Listener)?;
        listener.local_addr().map_err(ServeFailed::Listener)?;
        let identity = Arc::new(RwLock::new(Arc::new(identity)));
        let counters = Arc::new(Counters::default());
        let task = tokio::spawn(accept(self.clone(), listener, Arc::clone(&identity), Arc::clone(&counters)));
        Ok(ProxyHandle { identity, counters, task })
    }
}

async fn accept(proxy: Proxy, listener: TcpListener, identity: Arc<RwLock<Arc<Identity>>>, counters: Arc<Counters>) {
    let slots = Arc::new(Semaphore::new(proxy.limits.connections));
    let mut pace = Pace::new(proxy.limits.rate);
    // Connections live in the set, and the set in this task: ending the task ends them all.
    let mut connections = JoinSet::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "egress.accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        counters.accepted.fetch_add(1, Ordering::Relaxed);
        let identity = match identity.read() {
            Ok(identity) => Arc::clone(&identity),
            Err(poisoned) => Arc::clone(&poisoned.into_inner()),
        };
        let connection =
            Connection { proxy: proxy.clone(), identity, counters: Arc::clone(&counters), stream, asked: None };
        match Arc::clone(&slots).try_acquire_owned() {
            Ok(slot) if pace.admit(Instant::now()) => {
                connections.spawn(async move {
                    connection.run().await;
                    drop(slot);
                });
            }
            _ => connection.turn_away(),
        }
    }
}

/// A bucket of connections: ten seconds' worth, refilled at the rate.
struct Pace {
    rate: f64,
    left: f64,
    at: Instant,
}

impl Pace {
    fn new(rate: u32) -> Self {
        let rate = f64::from(rate);
        Self { rate, left: rate * 10.0, at: Instant::now() }
    }

    fn admit(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.left = passed.mul_add(self.rate, self.left).min(self.rate * 10.0);
        let admitted = self.left >= 1.0;
        if admitted {
            self.left -= 1.0;
        }
        admitted
    }
}

/// What was asked for, for the owner's log.
#[derive(Debug, Clone)]
struct Asked {
    target: HostPort,
    way: Way,
}

/// One accepted connection of a plugin.
struct Connection {
    proxy: Proxy,
    identity: Arc<Identity>,
    counters: Arc<Counters>,
    stream: TcpStream,
    asked: Option<Asked>,
}

/// A connection whose request was read: the request, and the bytes that came after its head.
struct Read {
    request: Request,
    after: Vec<u8>,
}

impl Connection {
    /// Serves it to its end.
    async fn run(mut self) {
        let outcome = self.serve().await;
        if let Err((refused, answerable)) = outcome {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            record::refusal(&self.proxy.audit, &self.identity, self.asked.as_ref(), refused);
            if answerable {
                let answer = refused.told().bytes();
                let _ = timeout(self.proxy.limits.connect, farewell(&mut self.stream, answer)).await;
            }
        }
    }

    /// Answers that there are too many, without waiting for anything.
    fn turn_away(self) {
        self.counters.refused.fetch_add(1, Ordering::Relaxed);
        record::refusal(&self.proxy.audit, &self.identity, None, Refused::Connections);
        let _ = self.stream.try_write(Refused::Connections.told().bytes());
    }

    /// The road of one connection. With the refusal comes whether an HTTP answer can still be sent.
    async fn serve(&mut self) -> Result<(), (Refused, bool)> {
        let Some(Read { request, after }) = self.read().await.map_err(|refused| (refused, true))? else {
            return Ok(());
        };
        let way = if request.kind == Kind::Connect { Way::Tunnel } else { Way::Plain };
        let asked = Asked { target: request.target.clone(), way };
        self.asked = Some(asked.clone());
        let refuse = |refused| (refused, true);
        let covered = self.identity.judge(&request.target, way).map_err(refuse)?;
        if let Kind::Plain(plain) = &request.kind
            && u64::try_from(after.len()).unwrap_or(u64::MAX) > plain.body_length
        {
            return Err(refuse(BadRequest::Trailing.into()));
        }
        let identity = Arc::clone(&self.identity);
        let named = |address| identity.names_locally(address);
        let checked = self.proxy.lookup.check(&request.target, named).await.map_err(refuse)?;
        let meter = Arc::new(meter::Meter::new(Arc::clone(&self.proxy.limits)));
        let mut open = record::Open::write(&self.proxy.audit, &self.identity, &asked, &checked, Arc::clone(&meter))
            .await
            .map_err(refuse)?;
        let outcome = match dial(&checked, self.proxy.limits.connect).await {
            Err(refused) => Err((refused, true)),
            Ok(server) => match &request.kind {
                Kind::Connect => {
                    let allowed = (!covered.opaque).then_some(&request.target.host);
                    tunnel::run(&mut self.stream, server, after, allowed, &meter).await
                }
                Kind::Plain(plain) => {
                    exchange::run(&mut self.stream, server, after, plain, &request.target, &meter).await
                }
            },
        };
        self.counters.up.fetch_add(meter.up(), Ordering::Relaxed);
        self.counters.down.fetch_add(meter.down(), Ordering::Relaxed);
        match outcome {
            Ok(ending) => {
                open.end(ending.as_str());
                Ok(())
            }
            Err((refused, answerable)) => {
                open.end("refused");
                Err((refused, answerable))
            }
        }
    }

    /// Reads the request head. `None`: the plugin closed the connection without a byte.
    async fn read(&mut self) -> Result<Option<Read>, Refused> {
        match timeout(self.proxy.limits.request, read_head(&mut self.stream)).await {
            Ok(read) => read.map_err(Refused::from),
            Err(_) => Err(Refused::Slow),
        }
    }
}

async fn read_head(stream: &mut TcpStream) -> Result<Option<Read>, BadRequest> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        if let Some(length) = request::head_length(&bytes)? {
            let (head, after) = bytes.split_at_checked(length).ok_or(BadRequest::Head)?;
            let request = request::parse(head)?;
            return Ok(Some(Read { request, after: after.to_vec() }));
        }
        let room = (request::MAX_HEAD + 1).saturating_sub(bytes.len());
        match (&mut *stream).take(u64::try_from(room).unwrap_or(0)).read_buf(&mut bytes).await {
            Ok(0) if bytes.is_empty() => return Ok(None),
            Ok(0) | Err(_) => return Err(BadRequest::Head),
            Ok(_) => {}
        }
    }
}

/// Connects to a checked address, in order, each within `limit`.
async fn dial(checked: &Checked, limit: Duration) -> Result<TcpStream, Refused> {
    for address in checked.iter() {
        if let Ok(Ok(stream)) = timeout(limit, crate::connect(address)).await {
            let _ = stream.set_nodelay(true);
            return Ok(stream);
        }
    }
    Err(Refused::Unreachable)
}

/// Sends a last answer, and reads a little of what is still coming, so that closing does not destroy the answer.
async fn farewell(stream: &mut TcpStream, answer: &[u8]) -> io::Result<()> {
    stream.write_all(answer).await?;
    stream.shutdown().await?;
    let mut rest = stream.take(256 * 1024);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_bounded_and_recovers() {
        let mut pace = Pace::new(2);
        let start = pace.at;
        assert_eq!((0..30).filter(|_| pace.admit(start)).count(), 20);
        assert!(!pace.admit(start + Duration::from_millis(400)));
        assert!(pace.admit(start + Duration::from_secs(1)));
    }
}
