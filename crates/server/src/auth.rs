//! Who asks: from the Unix socket's peer or a stored token, never from what a request claims.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderMap, StatusCode, header};
use sigil_store::TokenState;
use sigil_types::{Code, Principal, Role};

use crate::limits::Class;
use crate::operations::{Caller, Via};
use crate::problem::Refusal;
use crate::routes::App;
use crate::scope::Scope;
use crate::token::{Token, TokenKind, same};

/// The other end of a connection. Put into every request by the server itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A TCP connection.
    Tcp(SocketAddr),
    /// A Unix socket connection, and the user id that the kernel says (`SO_PEERCRED`, unix(7)).
    Unix(u32),
}

impl Peer {
    /// The source that refusals and failures are counted by.
    pub(crate) fn source(self) -> String {
        match self {
            Self::Tcp(address) => format!("tcp:{}", address.ip()),
            Self::Unix(uid) => format!("uid:{uid}"),
        }
    }
}

const INVALID: &str = "server.auth.token.invalid";

/// Who sent a request with these headers over this connection.
pub(crate) async fn caller(app: &Arc<App>, peer: Peer, headers: &HeaderMap) -> Result<Caller, Refusal> {
    let source = peer.source();
    if let Err(wait) = app.buckets.peek(Class::Failures, &source) {
        let why = "There were many failed attempts from the same address.";
        let code = "server.auth.attempts.exhausted";
        return Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, code, "Too many failed attempts.", why)
            .after(wait.as_secs() + 1));
    }
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let result = match (given.next(), given.next(), peer) {
        (None, _, Peer::Unix(uid)) if uid == app.uid => return Ok(local_owner(app)),
        (None, ..) => Err(missing(peer)),
        (Some(_), Some(_), _) => Err(denied(INVALID, "There is more than one Authorization header.")),
        (Some(one), None, _) => by_token(app, one.to_str().unwrap_or_default()).await,
    };
    result.map_err(|problem| {
        // A store that cannot be read is no failed attempt.
        if problem.status != StatusCode::UNAUTHORIZED.as_u16() {
            return problem;
        }
        if app.buckets.take(Class::Failures, &source).is_err() {
            tracing::warn!(%source, "authentication failures are at their limit");
        }
        let event = app.operations.refused(source.clone(), problem.code.clone(), None);
        problem.audited(event)
    })
}

fn local_owner(app: &App) -> Caller {
    let principal = Principal { user: app.settings.owner.clone(), role: Role::Owner };
    Caller { principal, via: Via::LocalSocket, scopes: Scope::ALL.into_iter().collect(), expires: None }
}

fn denied(code: &'static str, why: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, code, "This needs a credential that Sigil accepts.", why)
        .fix("Use a current token, or the Unix socket as the user who runs Sigil.", Some("sigil init --help"))
}

fn missing(peer: Peer) -> Refusal {
    let why = match peer {
        Peer::Tcp(_) => "There is no Authorization: Bearer header.",
        Peer::Unix(_) => "The process at the other end belongs to another user, and sent no token.",
    };
    denied("server.auth.token.missing", why)
}

async fn by_token(app: &Arc<App>, header: &str) -> Result<Caller, Refusal> {
    // One text for every way of not being a token that counts: nothing can be learned by trying.
    let invalid = || denied(INVALID, "The token is not one that this Sigil knows.");
    let text = match header.split_once(' ') {
        Some((scheme, text)) if scheme.eq_ignore_ascii_case("bearer") => text.trim(),
        _ => return Err(denied(INVALID, "The Authorization header does not say Bearer.")),
    };
    let token: Token = text.parse().map_err(|_| invalid())?;
    let unavailable = |error: sigil_store::StoreFailed| {
        tracing::error!(code = %error.code(), "tokens cannot be read");
        let why = "The store cannot be read, so nobody can be let in by token.";
        let code = "server.auth.store.unavailable";
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, code, "Tokens cannot be checked.", why)
            .fix("Look at the store.", Some("sigil doctor"))
    };
    let found = app.store.token_by_digest(token.digest).await.map_err(unavailable)?;
    let record = found.filter(|record| same(&record.token.digest, &token.digest)).ok_or_else(invalid)?;
    if record.token.id != token.id || token.kind != TokenKind::Personal {
        return Err(invalid());
    }
    let now = app.clock.now();
    match record.state(now) {
        TokenState::Active => {}
        TokenState::Expired => return Err(denied("server.auth.token.expired", "The token's time is over.")),
        TokenState::Revoked => return Err(denied("server.auth.token.revoked", "The token was revoked.")),
    }
    let user = app.store.user(record.token.user.clone()).await.map_err(unavailable)?;
    let user = user.filter(|user| user.disabled.is_none_or(|since| since > now)).ok_or_else(invalid)?;
    let (app, id) = (Arc::clone(app), token.id);
    tokio::spawn(async move { drop(app.store.touch_token(id, now).await) });
    Ok(Caller {
        principal: Principal { user: user.id, role: user.role },
        via: Via::Token(id),
        scopes: record.token.scopes.iter().filter_map(|scope| scope.parse().ok()).collect(),
        expires: record.token.expires,
    })
}

/// Whether `caller` may still do what it could when its stream was opened.
pub(crate) async fn still(app: &Arc<App>, caller: &Caller) -> bool {
    let Via::Token(id) = caller.via else { return true };
    let Ok(tokens) = app.store.tokens().await else { return false };
    let active = |record: &sigil_store::TokenRecord| {
        record.token.id == id && record.state(app.clock.now()) == TokenState::Active
    };
    if !tokens.iter().any(active) {
        return false;
    }
    let user = app.store.user(caller.principal.user.clone()).await;
    user.is_ok_and(|user| user.is_some_and(|user| user.disabled.is_none() && user.role == caller.principal.role))
}

/// The refusal of a caller who is known, and may not do this.
pub(crate) fn forbidden(app: &App, peer: Peer, caller: &Caller, scope: Scope) -> Refusal {
    let code = "server.auth.scope.missing";
    let why = if caller.scopes.contains(&scope) {
        format!("`{scope}` counts for owners only, and {} is not one.", caller.principal.user)
    } else {
        format!("The credential does not have the scope `{scope}`.")
    };
    let event = app.operations.refused(peer.source(), Code::new(code), Some(&caller.principal));
    Refusal::new(StatusCode::FORBIDDEN, code, "This credential may not do that.", why)
        .fix("Use a token that has this scope.", None)
        .audited(event)
}
