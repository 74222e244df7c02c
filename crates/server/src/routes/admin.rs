//! Plugins, policy, sandbox, scanner.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, State};
use utoipa_axum::routes;

use super::{App, Route};
use crate::api;
use crate::json::Body;
use crate::operations::{Caller, Failure};
use crate::problem::Refusal;
use crate::scope::Scope;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::scoped(Scope::AdminPlugins, routes!(plugins)),
        Route::scoped(Scope::AdminPlugins, routes!(plugin)),
        Route::scoped(Scope::AdminPlugins, routes!(denials)),
        Route::scoped(Scope::PolicyRead, routes!(policy)),
        Route::scoped(Scope::SandboxRead, routes!(sandbox)),
        Route::scoped(Scope::ScanRun, routes!(scan)).body(1024 * 1024),
    ]
}

/// All plugins that are known.
#[utoipa::path(get, path = "/api/v1/plugins", tag = "plugins", responses((status = 200, body = api::PluginList)))]
async fn plugins(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Arc<Caller>>,
) -> Result<Json<api::PluginList>, Refusal> {
    let items = app.operations.plugins(&caller).await?;
    Ok(Json(api::PluginList { items, next_cursor: None }))
}

/// One plugin, with its tools and its sandbox.
#[utoipa::path(get, path = "/api/v1/plugins/{name}", tag = "plugins",
    params(("name" = String, Path, description = "The name in its manifest.")),
    responses((status = 200, body = api::PluginDetail)))]
async fn plugin(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Arc<Caller>>,
    Path(name): Path<String>,
) -> Result<Json<api::PluginDetail>, Refusal> {
    let name = name.parse().map_err(|_| Failure::not_found("plugin"))?;
    Ok(Json(app.operations.plugin(&caller, name).await?))
}

/// What a plugin was refused, why, and the narrowest grant that would change it.
#[utoipa::path(get, path = "/api/v1/plugins/{name}/denials", tag = "plugins",
    params(("name" = String, Path, description = "The name in its manifest.")),
    responses((status = 200, body = api::Denials)))]
async fn denials(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Arc<Caller>>,
    Path(name): Path<String>,
) -> Result<Json<api::Denials>, Refusal> {
    let name = name.parse().map_err(|_| Failure::not_found("plugin"))?;
    Ok(Json(app.operations.denials(&caller, name).await?))
}

/// The signed policy in force.
#[utoipa::path(get, path = "/api/v1/policy", tag = "policy", responses((status = 200, body = api::Policy)))]
async fn policy(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Arc<Caller>>,
) -> Result<Json<api::Policy>, Refusal> {
    Ok(Json(app.operations.policy(&caller).await?))
}

/// The sandbox of this host.
#[utoipa::path(get, path = "/api/v1/sandbox", tag = "sandbox", responses((status = 200, body = api::Sandbox)))]
async fn sandbox(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Arc<Caller>>,
) -> Result<Json<api::Sandbox>, Refusal> {
    Ok(Json(app.operations.sandbox(&caller).await?))
}

/// Scans a text as the gate would.
#[utoipa::path(post, path = "/api/v1/scan", tag = "scan", request_body = api::ScanRequest,
    responses((status = 200, body = api::ScanReport)))]
async fn scan(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Arc<Caller>>,
    Body(request): Body<api::ScanRequest>,
) -> Result<Json<api::ScanReport>, Refusal> {
    Ok(Json(app.operations.scan(&caller, request).await?))
}
