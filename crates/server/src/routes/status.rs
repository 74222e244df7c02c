//! State and metrics.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::response::IntoResponse;
use http::header;
use utoipa_axum::routes;

use super::{App, Route};
use crate::api;
use crate::operations::Caller;
use crate::problem::Refusal;
use crate::scope::Scope;

pub(super) fn routes() -> Vec<Route> {
    vec![Route::scoped(Scope::StatusRead, routes!(status)), Route::scoped(Scope::MetricsRead, routes!(metrics))]
}

/// State and health of the gateway.
#[utoipa::path(get, path = "/api/v1/status", tag = "status", responses((status = 200, body = api::Status)))]
async fn status(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Arc<Caller>>,
) -> Result<Json<api::Status>, Refusal> {
    Ok(Json(app.operations.status(&caller).await?))
}

/// Metrics in the Prometheus text format.
#[utoipa::path(get, path = "/metrics", tag = "status",
    responses((status = 200, body = String, content_type = "text/plain; version=0.0.4")))]
async fn metrics(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Arc<Caller>>,
) -> Result<impl IntoResponse, Refusal> {
    let mut text = app.operations.metrics(&caller).await?;
    app.metrics.write(&mut text, app.streams.total());
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text))
}
