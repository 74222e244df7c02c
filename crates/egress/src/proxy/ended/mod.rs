//! TLS that Sigil ends, by consent: manifest and signed policy both name the host, and the plugin trusts the instance's own
//! certificate authority for it.
//!
//! Order, for each tunnel: the ClientHello names the tunnel's host, each request names it again, its method, path and query
//! are allowed, its fields are written anew, stand-ins for credentials become the vault's, and only then TLS to the host
//! begins, whose certificate is checked as anybody's. What comes back is freed of the vault's credentials.

mod body;
mod ca;
mod counted;
mod forward;
mod refused;
mod rules;
pub mod scrub;
mod secrets;
pub mod sentinel;

use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::server::Acceptor;
use sigil_audit::AuditLog;
use sigil_types::{EndedHost, Host, HostPort};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;

use super::connection::Asked;
use super::meter::{Ending, Meter};
use crate::Refused;
use crate::client::Tls;
use crate::rules::Identity;
use forward::{Forward, State};

pub use ca::{CaFailed, InstanceCa};
pub use refused::NotForwarded;
pub use secrets::{MIN_SECRET, SecretSource, VaultUnavailable};
pub use sentinel::{NoRandomness, Sentinel};

const HTTP_1: &[u8] = b"http/1.1";
/// The most bytes of a request's head.
const MAX_REQUEST_HEAD: usize = 32 * 1024;

/// What one plugin instance's TLS is ended with, and for which hosts.
#[derive(Debug, Clone)]
pub struct Ended {
    ca: Arc<InstanceCa>,
    hosts: Vec<EndedHost>,
    sentinels: Vec<Sentinel>,
    source: Option<Arc<dyn SecretSource>>,
}

impl Ended {
    /// TLS to `hosts`, as the launcher compiled them, ended with `ca`. No credential of the vault can pass.
    #[must_use]
    pub const fn new(ca: Arc<InstanceCa>, hosts: Vec<EndedHost>) -> Self {
        Self { ca, hosts, sentinels: Vec::new(), source: None }
    }

    /// The same, with credentials of the vault for their stand-ins.
    #[must_use]
    pub fn with_secrets(self, sentinels: Vec<Sentinel>, source: Arc<dyn SecretSource>) -> Self {
        Self { sentinels, source: Some(source), ..self }
    }

    /// What requests to `host` may be, if TLS to it is ended.
    pub(super) fn rule(&self, host: &Host) -> Option<&EndedHost> {
        self.hosts.iter().find(|rule| rule.covers(host))
    }
}

/// The connection as those see it who do not own it.
pub(super) struct Here<'a> {
    pub(super) audit: &'a AuditLog,
    pub(super) identity: &'a Identity,
    /// How many were refused.
    pub(super) refused: &'a AtomicU64,
    pub(super) asked: &'a Asked,
    pub(super) roots: &'a Tls,
}

/// How a tunnel begins: what the plugin is told when it stands, and what the plugin has sent by then.
pub(super) struct Start {
    pub(super) established: &'static [u8],
    pub(super) early: Vec<u8>,
}

/// Runs a tunnel whose TLS is ended here, to its end.
pub(super) async fn run(
    here: &Here<'_>,
    (ended, rule): (&Ended, &EndedHost),
    (client, server): (&mut TcpStream, TcpStream),
    start: Start,
    meter: &Arc<Meter>,
) -> Result<Ending, (Refused, bool)> {
    tokio::select! {
        outcome = serve(here, (ended, rule), (client, server), start, meter) => outcome,
        ending = meter.watch() => Ok(ending),
    }
}

async fn serve(
    here: &Here<'_>,
    (ended, rule): (&Ended, &EndedHost),
    (client, server): (&mut TcpStream, TcpStream),
    start: Start,
    meter: &Arc<Meter>,
) -> Result<Ending, (Refused, bool)> {
    let target: &HostPort = &here.asked.target;
    let config = ended.ca.server(&target.host).map_err(|_| (Refused::Ended(NotForwarded::Certificate), true))?;
    if client.write_all(start.established).await.is_err() {
        return Ok(Ending::Broken);
    }
    // HTTP is over on this connection: from here on it can only be closed.
    let refuse = |refused| (refused, false);
    let (from_client, to_client) = client.split();
    let stream = tokio::io::join(Cursor::new(start.early).chain(from_client), to_client);
    let accept = async {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await;
        let hello = hello.map_err(|_| Refused::Ended(NotForwarded::Handshake))?;
        names(&target.host, hello.client_hello().server_name())?;
        hello.into_stream(config).await.map_err(|_| Refused::Ended(NotForwarded::Handshake))
    };
    let stream = match timeout(meter.limits().hello, accept).await {
        Ok(accepted) => accepted.map_err(refuse)?,
        Err(_) => return Err(refuse(Refused::Slow)),
    };
    let forward =
        Forward { here, ended, rule, target, meter, over: Arc::default(), state: Mutex::new(State::new(server)) };
    let service = service_fn(|request| forward.serve(request));
    let served = Builder::new().max_buf_size(MAX_REQUEST_HEAD).serve_connection(TokioIo::new(stream), service).await;
    Ok(match (forward.over.get(), served) {
        (Some(ending), _) => *ending,
        (None, Ok(())) => Ending::Done,
        (None, Err(_)) => Ending::Broken,
    })
}

/// Compares the ClientHello's name with the tunnel's. An address is never sent as a name (RFC 6066, 3).
fn names(host: &Host, named: Option<&str>) -> Result<(), Refused> {
    match (host, named) {
        (Host::Name(_), None) => Err(Refused::NoServerName),
        (Host::Address(_), None) => Ok(()),
        (Host::Name(_), Some(named)) if named.parse::<Host>().is_ok_and(|named| named == *host) => Ok(()),
        (_, Some(_)) => Err(Refused::OtherServerName),
    }
}
