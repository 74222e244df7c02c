//! The plugins' proxy: one listener, made inside the plugin's network namespace, is one identity.
//!
//! HTTP and SOCKS 5 are spoken on the same listener. Order, for each connection: read the request strictly, judge its target
//! by its text, resolve once, check every address, write the audit entry, dial a checked address, compare the server name,
//! pass bytes. No step is repeated with another reading of the same name.

mod connection;
pub mod ended;
mod exchange;
pub mod hello;
mod limits;
mod meter;
mod opening;
mod pace;
mod record;
pub mod request;
pub mod socks;
mod tunnel;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use sigil_audit::AuditLog;
use sigil_policy::NetworkLimits;
use sigil_types::Code;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

pub use limits::ProxyLimits;

use crate::EgressRule;
use crate::client::{Roots, Tls};
use crate::resolve::{Lookup, Resolver};
use crate::rules::Identity;
use crate::surroundings::Surroundings;
use connection::Connection;
use ended::Ended;
use pace::{Bucket, Ledger};

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
    /// What hosts are believed by, where TLS is ended.
    roots: Arc<Tls>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// One identity and all that its connections share.
#[derive(Debug)]
struct Instance {
    identity: RwLock<Arc<Identity>>,
    /// Those that it began with: what is replaced later are rules.
    limits: NetworkLimits,
    ledger: Ledger,
    counters: Counters,
    /// What TLS is ended with, for the hosts for which it is.
    ended: Option<Ended>,
}

impl Instance {
    fn new(identity: Identity, ended: Option<Ended>) -> Self {
        let limits = identity.limits;
        let (identity, counters) = (RwLock::new(Arc::new(identity)), Counters::default());
        Self { identity, limits, ledger: Ledger::new(&limits), counters, ended }
    }

    /// The identity, with the rules now in force.
    fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.identity.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A listener that is being served. Dropping it closes the listener and all its connections.
#[derive(Debug)]
pub struct ProxyHandle {
    instance: Arc<Instance>,
    task: tokio::task::JoinHandle<()>,
}

impl ProxyHandle {
    /// What happened so far.
    #[must_use]
    pub fn stats(&self) -> ProxyStats {
        let counters = &self.instance.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ProxyStats {
            accepted: read(&counters.accepted),
            refused: read(&counters.refused),
            up: read(&counters.up),
            down: read(&counters.down),
        }
    }

    /// Puts other rules in force for connections from now on; those under way keep theirs. Drop the handle to end them.
    pub fn replace_rules(&self, rules: Vec<EgressRule>, local: Vec<SocketAddr>) {
        let mut identity = self.instance.identity.write().unwrap_or_else(PoisonError::into_inner);
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
        Self { audit, lookup, limits: Arc::new(limits), roots: Arc::new(Tls::new(Roots::Machine)) }
    }

    /// The same, with other certificates that hosts are checked against where TLS is ended.
    #[must_use]
    pub fn with_roots(self, roots: Roots) -> Self {
        Self { roots: Arc::new(Tls::new(roots)), ..self }
    }

    /// Serves `listener`, a listening TCP socket, for `identity`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`ServeFailed`] when `listener` is no such socket.
    pub fn serve(&self, listener: OwnedFd, identity: Identity) -> Result<ProxyHandle, ServeFailed> {
        self.serve_ended(listener, identity, None)
    }

    /// As [`Proxy::serve`], with TLS ended for some hosts. Their rules stay as long as the listener.
    ///
    /// # Errors
    /// [`ServeFailed`] when `listener` is no such socket.
    pub fn serve_ended(
        &self,
        listener: OwnedFd,
        identity: Identity,
        ended: Option<Ended>,
    ) -> Result<ProxyHandle, ServeFailed> {
        let listener = std::net::TcpListener::from(listener);
        listener.set_nonblocking(true).map_err(ServeFailed::Listener)?;
        let listener = TcpListener::from_std(listener).map_err(ServeFailed::Listener)?;
        listener.local_addr().map_err(ServeFailed::Listener)?;
        let instance = Arc::new(Instance::new(identity, ended));
        let task = tokio::spawn(accept(self.clone(), listener, Arc::clone(&instance)));
        Ok(ProxyHandle { instance, task })
    }
}

async fn accept(proxy: Proxy, listener: TcpListener, instance: Arc<Instance>) {
    let slots = Arc::new(Semaphore::new(usize::try_from(instance.limits.connections).unwrap_or(0)));
    let rate = f64::from(instance.limits.connections_per_second);
    let mut pace = Bucket::new(rate, rate * 10.0);
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
        instance.counters.accepted.fetch_add(1, Ordering::Relaxed);
        let connection = Connection::new(proxy.clone(), Arc::clone(&instance), stream);
        match Arc::clone(&slots).try_acquire_owned() {
            Ok(slot) if pace.take(1.0, Instant::now()) => {
                connections.spawn(async move {
                    connection.run().await;
                    drop(slot);
                });
            }
            _ => connection.turn_away(),
        }
    }
}
