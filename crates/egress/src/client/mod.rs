//! The host's own HTTP client: for model providers, to endpoints that signed policy names, and nowhere else.

mod request;
mod response;
mod tls;

use std::collections::{BTreeSet, HashMap};
use std::error::Error as _;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use sigil_policy::{Ceilings, EgressIdentity, Endpoint, Scheme};
use sigil_types::{Code, Host, HostName, HostPort};
use tokio::time::timeout;

use crate::Refused;
use crate::resolve::{Lookup, Resolver};
use crate::rules::canonical;
use crate::surroundings::Surroundings;

pub use request::{BadHttpRequest, HttpRequest};
pub use response::HttpResponse;
pub use tls::Roots;
pub(crate) use tls::Tls;

/// Where the host itself may connect: the signed ceilings' part for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostRights {
    /// The endpoints of the providers.
    pub endpoints: BTreeSet<Endpoint>,
    /// Loopback and private addresses, each named exactly (`egress.local` for `host`).
    pub local: Vec<SocketAddr>,
}

impl HostRights {
    /// What `ceilings` give to the host.
    #[must_use]
    pub fn of(ceilings: &Ceilings) -> Self {
        Self {
            endpoints: ceilings.providers.iter().filter_map(|provider| provider.endpoint.clone()).collect(),
            local: ceilings.local_addresses(&EgressIdentity::Host).collect(),
        }
    }

    fn names(&self, address: SocketAddr) -> bool {
        self.local.iter().any(|named| canonical(*named) == canonical(address))
    }
}

/// How long the host's client waits, and how much it reads. Callers that know more about their other side wait less.
#[derive(Debug, Clone)]
pub struct ClientLimits {
    /// For a name to be resolved.
    pub resolve: Duration,
    /// For connection and TLS handshake.
    pub connect: Duration,
    /// From the request to the head of its answer.
    pub first_byte: Duration,
    /// Between two pieces of the body.
    pub idle: Duration,
    /// The largest body in bytes.
    pub body: u64,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            resolve: Duration::from_secs(5),
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(600),
            idle: Duration::from_secs(600),
            body: 64 << 20,
        }
    }
}

/// Why a request of the host was not answered.
#[derive(Debug, thiserror::Error)]
pub enum RequestFailed {
    /// The endpoint is not in the signed policy.
    #[error("signed policy names no provider at {endpoint}. Add it under `providers` and sign the policy")]
    Endpoint {
        /// Which.
        endpoint: Endpoint,
    },
    /// Plain HTTP to something that is not named under `egress.local`: keys would go over the wire in clear.
    #[error("{endpoint} is plain HTTP, and signed policy does not name that address under `egress.local` for `host`")]
    Plain {
        /// Which.
        endpoint: Endpoint,
    },
    /// An address may not be dialled, or the name has none.
    #[error("{endpoint}: {refused}. {}", refused.remedy())]
    Address {
        /// Which.
        endpoint: Endpoint,
        /// Why.
        refused: Refused,
    },
    /// The request itself is malformed.
    #[error(transparent)]
    Request(#[from] BadHttpRequest),
    /// TLS cannot be used: the machine's certificates could not be read, or there are none.
    #[error("TLS cannot be used: {reason}. Install this system's CA certificates (package `ca-certificates`)")]
    Tls {
        /// Why.
        reason: String,
    },
    /// No connection.
    #[error("could not connect to {endpoint}: {reason}")]
    Connect {
        /// Where to.
        endpoint: Endpoint,
        /// What the system or TLS said.
        reason: String,
    },
    /// Nothing came in time.
    #[error("{endpoint} did not answer within {} s", within.as_secs_f32())]
    Slow {
        /// Who.
        endpoint: Endpoint,
        /// How long was waited.
        within: Duration,
    },
    /// The connection broke.
    #[error("the connection to {endpoint} broke: {reason}")]
    Broken {
        /// Which.
        endpoint: Endpoint,
        /// How.
        reason: String,
    },
    /// The body is larger than allowed.
    #[error("the answer of {endpoint} is larger than {limit} bytes")]
    Size {
        /// Whose.
        endpoint: Endpoint,
        /// The limit.
        limit: u64,
    },
}

impl RequestFailed {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        Code::new(match self {
            Self::Endpoint { .. } => "egress.endpoint.denied",
            Self::Plain { .. } => "egress.endpoint.plain.denied",
            Self::Address { refused, .. } => return refused.code(),
            Self::Request(_) => "egress.request.malformed",
            Self::Tls { .. } => "egress.tls.roots.missing",
            Self::Connect { .. } => "egress.endpoint.unreachable",
            Self::Slow { .. } => "egress.endpoint.slow",
            Self::Broken { .. } => "egress.endpoint.broken",
            Self::Size { .. } => "egress.answer.size.exceeded",
        })
    }

    /// Whether another attempt, or another endpoint, may do better.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Slow { .. } | Self::Broken { .. } => true,
            Self::Address { refused, .. } => !refused.is_denial(),
            _ => false,
        }
    }
}

/// The client. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct HttpClient {
    inner: Arc<Inner>,
}

struct Inner {
    lookup: Lookup,
    limits: ClientLimits,
    rights: RwLock<Arc<HostRights>>,
    tls: Tls,
    /// One for each endpoint, so that what was resolved for one is never used for another.
    clients: Mutex<HashMap<Endpoint, reqwest::Client>>,
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").field("limits", &self.inner.limits).finish_non_exhaustive()
    }
}

impl HttpClient {
    /// A client that reaches what `rights` name. Nothing is read or opened before the first request, or [`Self::warm`].
    #[must_use]
    pub fn new(
        resolver: Arc<dyn Resolver>,
        surroundings: Surroundings,
        roots: Roots,
        limits: ClientLimits,
        rights: HostRights,
    ) -> Self {
        let lookup = Lookup { resolver, surroundings, timeout: limits.resolve };
        let inner = Inner {
            lookup,
            limits,
            rights: RwLock::new(Arc::new(rights)),
            tls: Tls::new(roots),
            clients: Mutex::new(HashMap::new()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Reads the certificates that servers are checked against now, for a process that will not be able to later.
    ///
    /// # Errors
    /// [`RequestFailed::Tls`] when there are none.
    pub fn warm(&self) -> Result<(), RequestFailed> {
        self.inner.tls.config().map(drop)
    }

    /// Puts the rights of a new policy in force, and drops all idle connections.
    pub fn replace_rights(&self, rights: HostRights) {
        *self.inner.rights.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rights);
        self.inner.clients.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Sends `request` and waits for the head of its answer, whatever its status. Redirects are not followed.
    ///
    /// # Errors
    /// [`RequestFailed`]: what is denied fails before a name is resolved or a byte is sent.
    pub async fn send(&self, request: HttpRequest) -> Result<HttpResponse, RequestFailed> {
        let endpoint = request.endpoint().clone();
        let rights = Arc::clone(&self.inner.rights.read().unwrap_or_else(PoisonError::into_inner));
        if !rights.endpoints.contains(&endpoint) {
            return Err(RequestFailed::Endpoint { endpoint });
        }
        if let Host::Address(ip) = endpoint.at.host {
            // A literal address never reaches the resolver, so it is checked here.
            let address = SocketAddr::new(ip, endpoint.at.port);
            if endpoint.scheme == Scheme::Http && !rights.names(address) {
                return Err(RequestFailed::Plain { endpoint });
            }
            self.inner
                .lookup
                .check(&endpoint.at, |address| rights.names(address))
                .await
                .map_err(|refused| RequestFailed::Address { endpoint: endpoint.clone(), refused })?;
        } else if endpoint.scheme == Scheme::Http {
            return Err(RequestFailed::Plain { endpoint });
        }
        let client = self.client(&endpoint, rights)?;
        let request = request.build(&client)?;
        let limits = &self.inner.limits;
        let response = match timeout(limits.first_byte, client.execute(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(failed(&endpoint, &error, limits)),
            Err(_) => return Err(RequestFailed::Slow { endpoint, within: limits.first_byte }),
        };
        Ok(HttpResponse::new(endpoint, response, limits.idle, limits.body))
    }

    fn client(&self, endpoint: &Endpoint, rights: Arc<HostRights>) -> Result<reqwest::Client, RequestFailed> {
        let mut clients = self.inner.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(endpoint) {
            return Ok(client.clone());
        }
        let tls = match endpoint.scheme {
            Scheme::Https => self.inner.tls.config()?,
            Scheme::Http => tls::unused()?,
        };
        let pinned = Pinned { lookup: self.inner.lookup.clone(), at: endpoint.at.clone(), rights };
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(Arc::new(pinned))
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .http1_only()
            .connect_timeout(self.inner.limits.connect)
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(4)
            .user_agent(concat!("sigil/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| RequestFailed::Tls { reason: error.to_string() })?;
        clients.insert(endpoint.clone(), client.clone());
        Ok(client)
    }
}

/// Says why reqwest failed, without its URL.
fn failed(endpoint: &Endpoint, error: &reqwest::Error, limits: &ClientLimits) -> RequestFailed {
    let endpoint = endpoint.clone();
    let mut reason = String::from("no reason given");
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(refused) = inner.downcast_ref::<Refused>() {
            return RequestFailed::Address { endpoint, refused: *refused };
        }
        reason = inner.to_string();
        source = inner.source();
    }
    if error.is_timeout() {
        return RequestFailed::Slow { endpoint, within: limits.connect };
    }
    if error.is_connect() {
        RequestFailed::Connect { endpoint, reason }
    } else {
        RequestFailed::Broken { endpoint, reason }
    }
}

/// Resolves the one name of one endpoint, and hands out checked addresses only.
struct Pinned {
    lookup: Lookup,
    at: HostPort,
    rights: Arc<HostRights>,
}

impl Resolve for Pinned {
    fn resolve(&self, name: Name) -> Resolving {
        let (lookup, at, rights) = (self.lookup.clone(), self.at.clone(), Arc::clone(&self.rights));
        Box::pin(async move {
            let asked = name.as_str().parse::<HostName>().ok().map(Host::Name);
            if asked.as_ref() != Some(&at.host) {
                return Err(Refused::Host.into());
            }
            let checked = lookup.check(&at, |address| rights.names(address)).await?;
            let addresses: Vec<SocketAddr> = checked.iter().collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
