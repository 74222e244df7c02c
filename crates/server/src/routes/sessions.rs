//! Sessions and their transcripts.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, State};
use http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::routes;

use super::{App, Route};
use crate::api;
use crate::json::{Body, Params};
use crate::operations::{Caller, Failure, Page, PageRequest};
use crate::problem::Refusal;
use crate::scope::Scope;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::scoped(Scope::SessionsRead, routes!(list)),
        Route::scoped(Scope::SessionsWrite, routes!(create)),
        Route::scoped(Scope::SessionsRead, routes!(one)),
        Route::scoped(Scope::SessionsRead, routes!(messages)),
    ]
}

/// Where a page starts, and how long it is.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
    /// At most this many, 1 to 500; 50 without it.
    limit: Option<usize>,
}

/// Opens the cursor that was sealed for `bound`, and bounds the limit.
pub(super) fn page(app: &App, bound: &str, cursor: Option<&str>, limit: Option<usize>) -> Result<PageRequest, Refusal> {
    let cursor = cursor
        .map(|sealed| {
            app.cursors.open(bound, sealed).map(str::to_owned).ok_or_else(|| {
                let why = "It was made for another list, another person or before a restart.";
                let code = "server.request.cursor.invalid";
                Refusal::new(StatusCode::BAD_REQUEST, code, "The cursor does not continue this list.", why)
                    .fix("Start again without a cursor.", None)
            })
        })
        .transpose()?;
    let limit = limit.unwrap_or(50);
    if !(1..=500).contains(&limit) {
        let why = "A page has 1 to 500 entries.";
        let code = "server.request.query.invalid";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, code, "The limit is out of range.", why).at("limit", why));
    }
    Ok(PageRequest { cursor, limit })
}

/// Seals the next position for `bound`.
pub(super) fn seal<T>(app: &App, bound: &str, mut page: Page<T>) -> Page<T> {
    page.next = page.next.map(|position| app.cursors.seal(bound, &position));
    page
}

/// The caller's sessions, newest first.
#[utoipa::path(get, path = "/api/v1/sessions", tag = "sessions", params(PageQuery),
    responses((status = 200, body = api::SessionList)))]
async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Arc<Caller>>,
    Params(query): Params<PageQuery>,
) -> Result<Json<api::SessionList>, Refusal> {
    let bound = format!("sessions:{}", caller.principal.user);
    let request = page(&app, &bound, query.cursor.as_deref(), query.limit)?;
    let found = app.operations.sessions(&caller, request).await?;
    Ok(Json(seal(&app, &bound, found).into()))
}

/// Begins a session.
#[utoipa::path(post, path = "/api/v1/sessions", tag = "sessions", request_body = api::NewSession,
    responses((status = 201, body = api::Session)))]
async fn create(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Arc<Caller>>,
    Body(new): Body<api::NewSession>,
) -> Result<(StatusCode, Json<api::Session>), Refusal> {
    Ok((StatusCode::CREATED, Json(app.operations.create_session(&caller, new).await?)))
}

/// One session.
#[utoipa::path(get, path = "/api/v1/sessions/{id}", tag = "sessions",
    params(("id" = String, Path, description = "`ss_…`")), responses((status = 200, body = api::Session)))]
async fn one(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Arc<Caller>>,
    Path(id): Path<String>,
) -> Result<Json<api::Session>, Refusal> {
    let id = id.parse().map_err(|_| Failure::not_found("session"))?;
    Ok(Json(app.operations.session(&caller, id).await?))
}

/// The transcript of a session, oldest first.
#[utoipa::path(get, path = "/api/v1/sessions/{id}/messages", tag = "sessions",
    params(("id" = String, Path, description = "`ss_…`"), PageQuery), responses((status = 200, body = api::MessageList)))]
async fn messages(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Arc<Caller>>,
    Path(id): Path<String>,
    Params(query): Params<PageQuery>,
) -> Result<Json<api::MessageList>, Refusal> {
    let id = id.parse().map_err(|_| Failure::not_found("session"))?;
    let bound = format!("messages:{id}:{}", caller.principal.user);
    let request = page(&app, &bound, query.cursor.as_deref(), query.limit)?;
    let found = app.operations.messages(&caller, id, request).await?;
    Ok(Json(seal(&app, &bound, found).into()))
}
