//! Turns: send a message, watch what it causes.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Deserialize;
use sigil_types::{Digest, TurnId};
use utoipa::IntoParams;
use utoipa_axum::routes;

use super::{App, Route};
use crate::json::{Body, Params};
use crate::operations::{Caller, Failure};
use crate::problem::Refusal;
use crate::scope::Scope;
use crate::{api, events};

/// Largest message, in bytes.
const MAX_TEXT: usize = 256 * 1024;
const IDEMPOTENCY_KEY: &str = "idempotency-key";

pub(super) fn routes() -> Vec<Route> {
    vec![
        // JSON may write one byte as six (`\u0007`).
        Route::scoped(Scope::TurnsWrite, routes!(start)).body(MAX_TEXT * 6 + 1024),
        Route::scoped(Scope::TurnsRead, routes!(one)),
        Route::scoped(Scope::TurnsRead, routes!(watch)),
    ]
}

/// Takes a message, durably; its turn answers it.
#[utoipa::path(post, path = "/api/v1/sessions/{id}/turns", tag = "turns", request_body = api::NewTurn,
    params(("id" = String, Path, description = "`ss_…`"),
        ("Idempotency-Key" = String, Header, description = "The client's own name for this message; the same again finds the same turn.")),
    responses((status = 202, body = api::TurnAccepted, description = "Watch `Location`.")))]
async fn start(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Arc<Caller>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(turn): Body<api::NewTurn>,
) -> Result<Response, Refusal> {
    let session = id.parse().map_err(|_| Failure::not_found("session"))?;
    let key = idempotency_key(&headers)?;
    if turn.text.is_empty() || turn.text.len() > MAX_TEXT {
        let why = format!("A message has 1 to {MAX_TEXT} bytes.");
        let code = "server.turn.text.size";
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, code, "The message is empty or too long.", why)
            .at("/text", "1 to 262144 bytes"));
    }
    // Two people's keys, or two sessions', never meet.
    let parts = [caller.principal.user.as_str(), id.as_str(), key];
    let key = Digest::of(parts.join("\0").as_bytes()).to_string();
    let accepted = app.operations.start_turn(&caller, session, turn, key).await?;
    let location = format!("/api/v1/turns/{}/events", accepted.turn);
    let replayed = !accepted.fresh;
    let mut response = (StatusCode::ACCEPTED, Json(accepted)).into_response();
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    if replayed {
        response.headers_mut().insert(HeaderName::from_static("idempotent-replayed"), HeaderValue::from_static("true"));
    }
    Ok(response)
}

fn idempotency_key(headers: &HeaderMap) -> Result<&str, Refusal> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let one = match (given.next(), given.next()) {
        (Some(one), None) => one.to_str().ok().filter(|key| (1..=255).contains(&key.len())),
        _ => None,
    };
    one.ok_or_else(|| {
        let why = "A message must not be sent twice when an answer is lost; the key makes a repetition harmless.";
        let code = "server.idempotency.key.missing";
        Refusal::new(StatusCode::BAD_REQUEST, code, "The request does not have one Idempotency-Key header.", why)
            .fix("Send a key of 1 to 255 characters, such as a UUID; the same one when you repeat the request.", None)
    })
}

/// One turn.
#[utoipa::path(get, path = "/api/v1/turns/{id}", tag = "turns", params(("id" = String, Path, description = "`tn_…`")),
    responses((status = 200, body = api::Turn)))]
async fn one(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Arc<Caller>>,
    Path(id): Path<String>,
) -> Result<Json<api::Turn>, Refusal> {
    let id = id.parse().map_err(|_| Failure::not_found("turn"))?;
    Ok(Json(app.operations.turn(&caller, id).await?))
}

/// Where to go on.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Since {
    /// Only events after this number. `Last-Event-ID` wins.
    since: Option<u64>,
}

/// What a turn does, as it does it.
#[utoipa::path(get, path = "/api/v1/turns/{id}/events", tag = "turns",
    params(("id" = String, Path, description = "`tn_…`"), Since,
        ("Last-Event-ID" = Option<u64>, Header, description = "Only events after this number.")),
    responses((status = 200, body = api::Envelope, content_type = "text/event-stream",
        description = "Server-sent events; each `data:` is an envelope. The stream ends after `finished`.")))]
async fn watch(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Arc<Caller>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Params(query): Params<Since>,
) -> Result<Response, Refusal> {
    let turn: TurnId = id.parse().map_err(|_| Failure::not_found("turn"))?;
    let after = match headers.get("last-event-id") {
        None => query.since.unwrap_or(0),
        Some(last) => last.to_str().ok().and_then(|last| last.parse().ok()).ok_or_else(|| {
            let why = "It is the number that the last event had as `id`.";
            let code = "server.request.event-id.invalid";
            Refusal::new(StatusCode::BAD_REQUEST, code, "Last-Event-ID is not a number.", why)
        })?,
    };
    let slot = app.streams.hold(&caller.principal.user).ok_or_else(|| {
        let why = format!("One person may have {} open at a time.", app.settings.limits.streams_per_principal);
        let code = "server.stream.count.exhausted";
        Refusal::new(StatusCode::TOO_MANY_REQUESTS, code, "There are too many event streams.", why)
            .fix("Close one of them.", None)
            .after(5)
    })?;
    let events = app.operations.events(&caller, turn, after).await?;
    Ok(events::answer(&app, caller, turn, after, events, slot))
}
