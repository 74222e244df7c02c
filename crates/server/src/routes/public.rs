//! The public routes. There are no others.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use http::{StatusCode, header};
use utoipa_axum::routes;

use super::{App, Route};

pub(super) fn routes() -> Vec<Route> {
    vec![Route::public(routes!(health)), Route::public(routes!(ready)), Route::public(routes!(description))]
}

/// The process lives.
#[utoipa::path(get, path = "/health", tag = "public", responses((status = 204, description = "It lives.")))]
async fn health() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// Guarded work is done: policy, audit log and store are usable.
#[utoipa::path(get, path = "/ready", tag = "public",
    responses((status = 204, description = "It is."), (status = 503, description = "It is not; no body.")))]
async fn ready(State(app): State<Arc<App>>) -> StatusCode {
    if app.operations.ready().await { StatusCode::NO_CONTENT } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", tag = "public",
    responses((status = 200, description = "OpenAPI 3.1.", content_type = "application/json")))]
async fn description(State(app): State<Arc<App>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], app.openapi.clone())
}
