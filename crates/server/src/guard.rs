//! What every request passes: its id, Host and Origin, then credential, scope and rate of its route.

use std::sync::Arc;

use axum::extract::{Extension, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use sigil_types::{Host, HostPort, RequestId};

use crate::auth::{self, Peer};
use crate::limits::Class;
use crate::problem::Refusal;
use crate::routes::App;
use crate::scope::Scope;

/// Largest body of the route, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimit(pub(crate) usize);

/// What a route demands.
#[derive(Clone, Debug)]
pub(crate) struct Demand {
    pub(crate) app: Arc<App>,
    pub(crate) scope: Scope,
    pub(crate) body: usize,
}

/// Around everything: request id, Host, Origin, problem documents, common headers, metrics.
pub(crate) async fn frame(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let id = RequestId::generate(app.clock.now());
    let method = request.method().clone();
    let checked =
        check_host(&app, peer, request.headers(), request.uri()).and_then(|()| check_origin(request.headers()));
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(problem) => {
            let event = app.operations.refused(peer.source(), problem.code.clone(), None);
            problem.audited(event).into_response()
        }
    };
    if let Some(problem) = response.extensions_mut().remove::<Refusal>() {
        tracing::debug!(request = %id, code = %problem.code, status = problem.status, "refused");
        response = problem.answer(id);
    }
    app.metrics.request(response.status());
    tracing::debug!(request = %id, %method, status = response.status().as_u16(), "request");
    finish(response.headers_mut(), id);
    response
}

fn finish(headers: &mut HeaderMap, id: RequestId) {
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Ok(value) = HeaderValue::try_from(id.to_string()) {
        headers.insert(HeaderName::from_static("x-request-id"), value);
    }
}

/// Around one route: credential, scope, rate.
pub(crate) async fn guard(
    State(demand): State<Demand>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let app = &demand.app;
    let caller = auth::caller(app, peer, request.headers()).await?;
    if !caller.may(demand.scope) {
        return Err(auth::forbidden(app, peer, &caller, demand.scope));
    }
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let class = if reads { Class::Reads } else { Class::Writes };
    app.buckets.take(class, caller.principal.user.as_str()).map_err(|wait| {
        let why = "There were many requests of this person in a short time.";
        let code = "server.request.rate.exhausted";
        Refusal::new(StatusCode::TOO_MANY_REQUESTS, code, "Too many requests.", why).after(wait.as_secs() + 1)
    })?;
    request.extensions_mut().insert(BodyLimit(demand.body));
    request.extensions_mut().insert(Arc::new(caller));
    Ok(next.run(request).await)
}

/// DNS rebinding: a page of a foreign name, resolved to loopback, sends that name. Compared by parsed host, never by prefix.
fn check_host(app: &App, peer: Peer, headers: &HeaderMap, uri: &Uri) -> Result<(), Refusal> {
    if matches!(peer, Peer::Unix(_)) {
        return Ok(());
    }
    let mut given = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (given.next(), given.next()) else {
        let why = "HTTP/1.1 asks for exactly one.";
        let code = "server.request.host.missing";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, code, "The request does not have one Host header.", why));
    };
    let known = |text: &str| host_of(text).is_some_and(|host| is_ours(app, &host));
    let in_uri = uri.authority().is_none_or(|authority| known(authority.as_str()));
    if in_uri && host.to_str().is_ok_and(known) {
        return Ok(());
    }
    let why = "Only loopback addresses, localhost and the names in gateway.hosts are answered, so that a page of another \
               name cannot talk to Sigil through its visitor's browser.";
    let code = "server.request.host.unknown";
    Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, code, "Sigil does not answer for this host name.", why)
        .fix("Use http://127.0.0.1:PORT, or add the name to gateway.hosts in sigil.yaml.", None))
}

fn host_of(text: &str) -> Option<Host> {
    text.parse::<Host>().ok().or_else(|| text.parse::<HostPort>().ok().map(|both| both.host))
}

fn is_ours(app: &App, host: &Host) -> bool {
    match host {
        Host::Address(address) if address.is_loopback() => true,
        Host::Name(name) if name.as_str() == "localhost" => true,
        other => app.settings.hosts.contains(other),
    }
}

/// Requests that a browser makes for another site (Fetch metadata; without it, Origin against Host).
fn check_origin(headers: &HeaderMap) -> Result<(), Refusal> {
    let same_site = match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
        Some(b"same-origin" | b"none") => true,
        Some(_) => false,
        None => true,
    };
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let same_origin = match (origins.next(), origins.next()) {
        (None, _) => true,
        (Some(origin), None) => {
            let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
            origin.to_str().is_ok_and(|origin| origin.eq_ignore_ascii_case(&format!("http://{host}")))
        }
        (Some(_), Some(_)) => false,
    };
    if same_site && same_origin {
        return Ok(());
    }
    let why = "Its Sec-Fetch-Site or Origin header names another site than Sigil's own.";
    let code = "server.request.origin.foreign";
    Err(Refusal::new(StatusCode::FORBIDDEN, code, "A page of another site made this request.", why)
        .fix("Call the API from a program, or from Sigil's own pages.", None))
}
