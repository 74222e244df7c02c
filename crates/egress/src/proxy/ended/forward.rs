//! One request after the other: judged, sent to the host over TLS of our own, and answered.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use http::{Request, Response, Version};
use http_body_util::BodyExt as _;
use http_body_util::Full;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use sigil_types::{Credentials, EndedHost, Host, HostPort, Method, Name, UrlPath};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::body::{Cut, Down, Up};
use super::counted::Counted;
use super::secrets::Held;
use super::sentinel::stands_in_encoded;
use super::{Ended, HTTP_1, Here, NotForwarded, rules};
use crate::Refused;
use crate::proxy::meter::{Ending, Meter};
use crate::proxy::record;

/// The most bytes of an answer's head.
const MAX_ANSWER_HEAD: usize = 64 * 1024;
/// Fields of an answer by which a client would leave this road.
const LEADS_AWAY: [&str; 6] = ["alt-svc", "connection", "keep-alive", "proxy-authenticate", "trailer", "upgrade"];

pub(super) type Body = BoxBody<Bytes, Cut>;

/// One connection of a plugin to one host.
pub(super) struct Forward<'a> {
    pub(super) here: &'a Here<'a>,
    pub(super) ended: &'a Ended,
    pub(super) rule: &'a EndedHost,
    pub(super) target: &'a HostPort,
    pub(super) meter: &'a Arc<Meter>,
    /// What ended the connection to the host, if that was a limit.
    pub(super) over: Arc<OnceLock<Ending>>,
    pub(super) state: Mutex<State>,
}

/// What the requests of a connection share. They come one after the other.
pub(super) struct State {
    upstream: Upstream,
    /// Fetched for the first request that is allowed.
    held: Option<Held>,
    /// The secrets of which the log has it that they are sent.
    recorded: BTreeSet<Name>,
}

impl State {
    pub(super) const fn new(server: TcpStream) -> Self {
        Self { upstream: Upstream::Silent(server), held: None, recorded: BTreeSet::new() }
    }
}

/// The connection to the host, which begins with the first request that is allowed.
enum Upstream {
    /// Connected, and not a byte sent.
    Silent(TcpStream),
    /// In use. Ending the set ends the connection.
    Speaks { sender: SendRequest<Up>, _driver: JoinSet<()> },
    /// Over.
    Gone,
}

/// The plugin's connection ends as the host's did, without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the host has closed the connection")]
pub(super) struct Closed;

impl Forward<'_> {
    /// Serves one request.
    pub(super) async fn serve(&self, request: Request<Incoming>) -> Result<Response<Body>, Closed> {
        match self.forward(request).await {
            Ok(answer) => Ok(answer),
            Err(Failed::Closed) => Err(Closed),
            Err(Failed::Not(why)) => {
                self.here.refused.fetch_add(1, Ordering::Relaxed);
                record::refusal(self.here.audit, self.here.identity, Some(self.here.asked), Refused::Ended(why));
                Ok(refusal(why))
            }
        }
    }

    async fn forward(&self, request: Request<Incoming>) -> Result<Response<Body>, Failed> {
        let (method, mut fields) = self.judge(&request)?;
        let mut state = self.state.lock().await;
        let State { upstream, held, recorded } = &mut *state;
        let held = match held {
            Some(held) => held,
            None => held.insert(Held::fetch(self.ended, self.here.identity, &self.target.host).await?),
        };
        let used = held.put_in(self.ended, self.rule.credentials, &self.target.host, &mut fields)?;
        // What goes wrong from here on leaves nothing to go on with.
        let sender = match std::mem::replace(upstream, Upstream::Gone) {
            Upstream::Gone => return Err(Failed::Closed),
            speaks @ Upstream::Speaks { .. } => speaks,
            Upstream::Silent(stream) => self.begin(stream).await?,
        };
        let unrecorded: Vec<Name> = used.into_iter().filter(|name| !recorded.contains(name)).collect();
        if !unrecorded.is_empty() {
            let entry = record::secrets_used(self.here.audit, self.here.identity, self.here.asked, &unrecorded);
            entry.await.map_err(|_| NotForwarded::Audit)?;
            recorded.extend(unrecorded);
        }
        *upstream = sender;
        let Upstream::Speaks { sender, .. } = upstream else { return Err(Failed::Closed) };
        let found = Arc::new(AtomicBool::new(false));
        let (parts, body) = request.into_parts();
        let mut sent = Request::new(Up::new(body, Arc::clone(&found)));
        *sent.method_mut() = parts.method;
        *sent.uri_mut() = parts.uri;
        *sent.headers_mut() = fields;
        if sender.ready().await.is_err() {
            return Err(Failed::Closed);
        }
        let answer = match sender.send_request(sent).await {
            Ok(answer) => answer,
            Err(_) if found.load(Ordering::Acquire) => return Err(NotForwarded::SentinelPlace.into()),
            Err(_) => return Err(NotForwarded::Answer.into()),
        };
        let answer = clean(answer, held, method)?;
        if found.load(Ordering::Acquire) {
            return Err(NotForwarded::SentinelPlace.into());
        }
        Ok(answer)
    }

    /// Judges what can be judged by the head alone, and writes its fields anew.
    fn judge(&self, request: &Request<Incoming>) -> Result<(Method, HeaderMap), NotForwarded> {
        if request.version() != Version::HTTP_11 {
            return Err(NotForwarded::Version);
        }
        let uri = request.uri();
        let mut hosts = request.headers().get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(NotForwarded::Authority) };
        if uri.scheme().is_some() || uri.authority().is_some() || !self.is_target(host) {
            return Err(NotForwarded::Authority);
        }
        let method: Method = request.method().as_str().parse().map_err(|_| NotForwarded::Method)?;
        let path: UrlPath = uri.path().parse().map_err(|_| NotForwarded::Path)?;
        rules::judge(self.rule, method, &path, uri.query())?;
        let target = uri.path_and_query().map_or("", |whole| whole.as_str());
        if super::sentinel::stands_in(path.as_str().as_bytes()) || stands_in_encoded(target) {
            return Err(NotForwarded::SentinelPlace);
        }
        if self.rule.credentials == Credentials::None && method.only_reads() && !request.body().is_end_stream() {
            return Err(NotForwarded::Body);
        }
        let mut fields = rules::fields(self.rule, request.headers())?;
        fields.insert(HOST, self.host()?);
        Ok((method, fields))
    }

    /// The tunnel's host as a `Host` field, in its one form.
    fn host(&self) -> Result<HeaderValue, NotForwarded> {
        let HostPort { host, port } = self.target;
        let text = if *port == 443 { host.to_string() } else { self.target.to_string() };
        HeaderValue::try_from(text).map_err(|_| NotForwarded::Authority)
    }

    /// Whether a `Host` is the tunnel's.
    fn is_target(&self, host: &HeaderValue) -> bool {
        let Ok(text) = host.to_str() else { return false };
        match text.parse::<HostPort>() {
            Ok(named) => named == *self.target,
            Err(_) => self.target.port == 443 && text.parse::<Host>().is_ok_and(|host| host == self.target.host),
        }
    }

    /// Speaks TLS to the host, whose certificate must be its own.
    async fn begin(&self, stream: TcpStream) -> Result<Upstream, NotForwarded> {
        let mut config = self.here.roots.config().map_err(|_| NotForwarded::Upstream)?;
        config.alpn_protocols = vec![HTTP_1.to_vec()];
        let name = match &self.target.host {
            Host::Name(name) => ServerName::try_from(name.to_string()).map_err(|_| NotForwarded::Upstream)?,
            Host::Address(address) => ServerName::from(*address),
        };
        let stream = Counted::new(stream, Arc::clone(self.meter), Arc::clone(&self.over));
        let limit = self.meter.limits().connect;
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let stream = match timeout(limit, connecting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(_)) | Err(_) => return Err(NotForwarded::Upstream),
        };
        let shaken = Builder::new().max_buf_size(MAX_ANSWER_HEAD).handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|_| NotForwarded::Answer)?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            let _ = connection.await;
        });
        Ok(Upstream::Speaks { sender, _driver: driver })
    }
}

enum Failed {
    Not(NotForwarded),
    Closed,
}

impl From<NotForwarded> for Failed {
    fn from(why: NotForwarded) -> Self {
        Self::Not(why)
    }
}

/// The answer as the plugin gets it.
fn clean(answer: Response<Incoming>, held: &Held, method: Method) -> Result<Response<Body>, NotForwarded> {
    let (parts, body) = answer.into_parts();
    let is = |name: &HeaderName, only: &str| {
        parts.headers.get_all(name).iter().all(|value| value.as_bytes().eq_ignore_ascii_case(only.as_bytes()))
    };
    if parts.status == http::StatusCode::SWITCHING_PROTOCOLS || !is(&TRANSFER_ENCODING, "chunked") {
        return Err(NotForwarded::Answer);
    }
    // Without a secret there is nothing to look for, and an answer may be encoded as the host likes.
    if !held.patterns.is_empty() && !is(&CONTENT_ENCODING, "identity") && method != Method::Head {
        return Err(NotForwarded::Encoded);
    }
    let closes = !matches!(parts.version, Version::HTTP_11) || is_closing(&parts.headers);
    let mut clean = Response::new(Down::new(body, &held.patterns).boxed());
    *clean.status_mut() = parts.status;
    for (name, value) in &parts.headers {
        let text = name.as_str();
        if LEADS_AWAY.contains(&text) || *name == TRANSFER_ENCODING || held.patterns.scrub(text.as_bytes()).is_some() {
            continue;
        }
        let value = match held.patterns.scrub(value.as_bytes()) {
            None => value.clone(),
            Some(bytes) => HeaderValue::from_bytes(&bytes).map_err(|_| NotForwarded::Answer)?,
        };
        clean.headers_mut().append(name, value);
    }
    if closes {
        clean.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(clean)
}

fn is_closing(fields: &HeaderMap) -> bool {
    let mut values = fields.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.any(|value| value.split(',').any(|word| word.trim().eq_ignore_ascii_case("close")))
}

fn refusal(why: NotForwarded) -> Response<Body> {
    let body = Full::new(Bytes::from(why.json())).map_err(|never: Infallible| match never {});
    let mut answer = Response::new(body.boxed());
    *answer.status_mut() = why.status();
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // What is left of the request is not read.
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}
