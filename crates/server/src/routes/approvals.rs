//! Questions for a human.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, State};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::routes;

use super::{App, Route, absent};
use crate::api;
use crate::json::{Body, Params};
use crate::operations::{Caller, Failure};
use crate::problem::Refusal;
use crate::scope::Scope;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::scoped(Scope::ApprovalsRead, routes!(list)),
        // The router's grammar knows parameters that are whole segments only, so the verb is split off in the handler.
        Route::scoped(Scope::ApprovalsDecide, routes!(decide)).routed_as("/api/v1/approvals/{target}"),
    ]
}

/// Which questions.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// Answered ones too.
    resolved: bool,
}

/// Questions that wait for a human, oldest first.
#[utoipa::path(get, path = "/api/v1/approvals", tag = "approvals", params(Which),
    responses((status = 200, body = api::ApprovalList)))]
async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Arc<Caller>>,
    Params(which): Params<Which>,
) -> Result<Json<api::ApprovalList>, Refusal> {
    let items = app.operations.approvals(&caller, which.resolved).await?;
    Ok(Json(api::ApprovalList { items, next_cursor: None }))
}

/// Answers a question, once, for the plan that was looked at.
#[utoipa::path(post, path = "/api/v1/approvals/{id}:decide", tag = "approvals", request_body = api::Decision,
    params(("id" = String, Path, description = "`ap_…`")), responses((status = 200, body = api::Approval)))]
async fn decide(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Arc<Caller>>,
    Path(target): Path<String>,
    Body(decision): Body<api::Decision>,
) -> Result<Json<api::Approval>, Refusal> {
    let id = target.strip_suffix(":decide").ok_or_else(absent)?;
    let id = id.parse().map_err(|_| Failure::not_found("approval"))?;
    Ok(Json(app.operations.decide(&caller, id, decision).await?))
}
