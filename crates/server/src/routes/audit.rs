//! The audit log.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::response::IntoResponse;
use http::header;
use utoipa_axum::routes;

use super::sessions::{page, seal};
use super::{App, Route};
use crate::api;
use crate::json::Params;
use crate::operations::Caller;
use crate::problem::Refusal;
use crate::scope::Scope;

pub(super) fn routes() -> Vec<Route> {
    vec![Route::scoped(Scope::AuditRead, routes!(events)), Route::scoped(Scope::AuditRead, routes!(checkpoint))]
}

/// Entries of the audit log, newest first.
#[utoipa::path(get, path = "/api/v1/audit/events", tag = "audit", params(api::AuditQuery),
    responses((status = 200, body = api::AuditEventList)))]
async fn events(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Arc<Caller>>,
    Params(mut query): Params<api::AuditQuery>,
) -> Result<Json<api::AuditEventList>, Refusal> {
    let filter = api::AuditQuery { cursor: None, limit: None, ..query.clone() };
    let filter = serde_json::to_string(&filter).unwrap_or_default();
    let bound = format!("audit:{}:{filter}", caller.principal.user);
    let request = page(&app, &bound, query.cursor.as_deref(), query.limit)?;
    query.cursor = request.cursor;
    query.limit = Some(request.limit);
    let found = app.operations.audit_events(&caller, query).await?;
    Ok(Json(seal(&app, &bound, found).into()))
}

/// The newest signed head of the audit log, in the C2SP tlog-checkpoint form.
#[utoipa::path(get, path = "/api/v1/audit/checkpoint", tag = "audit",
    responses((status = 200, body = String, content_type = "text/plain; charset=utf-8")))]
async fn checkpoint(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Arc<Caller>>,
) -> Result<impl IntoResponse, Refusal> {
    let text = app.operations.audit_checkpoint(&caller).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text))
}
