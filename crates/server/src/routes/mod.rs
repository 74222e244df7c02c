//! The routes, and the one way to register one: with its scope, or in the list of public ones.

mod admin;
mod approvals;
mod audit;
mod public;
mod sessions;
mod status;
mod turns;

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::routing::MethodRouter;
use bytes::Bytes;
use http::StatusCode;
use sigil_store::GatewayStore;
use sigil_types::{Clock, UserId};
use tokio::sync::watch;
use utoipa::openapi::OpenApi;
use utoipa::openapi::path::PathItem;
use utoipa_axum::router::UtoipaMethodRouter;

use crate::guard::{self, Demand};
use crate::limits::{Buckets, Caps, Cursors};
use crate::metrics::Metrics;
use crate::openapi;
use crate::operations::Operations;
use crate::problem::Refusal;
use crate::scope::Scope;
use crate::settings::Settings;

/// A body of a route that takes next to nothing.
const SMALL: usize = 16 * 1024;

/// What all routes share.
pub(crate) struct App {
    pub(crate) settings: Settings,
    pub(crate) operations: Arc<dyn Operations>,
    pub(crate) store: Arc<dyn GatewayStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) uid: u32,
    pub(crate) streams: Caps<UserId>,
    pub(crate) buckets: Buckets,
    pub(crate) cursors: Cursors,
    pub(crate) metrics: Metrics,
    pub(crate) closing: watch::Sender<bool>,
    pub(crate) openapi: Bytes,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("App")
    }
}

impl App {
    pub(crate) fn new(
        settings: Settings,
        operations: Arc<dyn Operations>,
        store: Arc<dyn GatewayStore>,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        Ok(Self {
            streams: Caps::new(settings.limits.streams_per_principal),
            settings,
            operations,
            store,
            clock,
            uid: rustix::process::geteuid().as_raw(),
            buckets: Buckets::default(),
            cursors: Cursors::new().map_err(|_| io::Error::other("the system has no randomness to give"))?,
            metrics: Metrics::default(),
            closing: watch::Sender::new(false),
            openapi: serde_json::to_vec(&description()).map(Bytes::from)?,
        })
    }
}

/// A route: who may use it, how it is described, and what answers it.
struct Route {
    /// `None` for a public route.
    scope: Option<Scope>,
    /// Largest body in bytes.
    body: usize,
    /// The router's path, where its grammar cannot say the described one.
    path: Option<&'static str>,
    described: UtoipaMethodRouter<Arc<App>>,
}

impl Route {
    const fn public(described: UtoipaMethodRouter<Arc<App>>) -> Self {
        Self { scope: None, body: 0, path: None, described }
    }

    const fn scoped(scope: Scope, described: UtoipaMethodRouter<Arc<App>>) -> Self {
        Self { scope: Some(scope), body: SMALL, path: None, described }
    }

    const fn body(mut self, bytes: usize) -> Self {
        self.body = bytes;
        self
    }

    const fn routed_as(mut self, path: &'static str) -> Self {
        self.path = Some(path);
        self
    }
}

fn routes() -> Vec<Route> {
    [
        public::routes(),
        status::routes(),
        sessions::routes(),
        turns::routes(),
        approvals::routes(),
        audit::routes(),
        admin::routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The description of all routes.
pub(crate) fn description() -> OpenApi {
    let mut api = openapi::base();
    for route in routes() {
        let (schemas, paths, _) = route.described;
        if let Some(components) = &mut api.components {
            components.schemas.extend(schemas);
        }
        for (path, mut item) in paths.paths {
            if let Some(scope) = route.scope {
                operations(&mut item).for_each(|operation| openapi::guarded(operation, scope));
            }
            match api.paths.paths.get_mut(&path) {
                Some(known) => known.merge_operations(item),
                None => {
                    api.paths.paths.insert(path, item);
                }
            }
        }
    }
    api
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut utoipa::openapi::path::Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch].into_iter().flatten()
}

/// The router: every route behind its guard, everything behind the frame.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let mut router: Router<Arc<App>> = Router::new();
    for route in routes() {
        let (_, paths, methods) = route.described;
        let methods: MethodRouter<Arc<App>> = match route.scope {
            None => methods,
            Some(scope) => {
                let demand = Demand { app: Arc::clone(app), scope, body: route.body };
                methods.route_layer(middleware::from_fn_with_state(demand, guard::guard))
            }
        };
        for path in paths.paths.keys() {
            router = router.route(route.path.unwrap_or(path), methods.clone());
        }
    }
    router
        .fallback(|| async { absent() })
        .method_not_allowed_fallback(|| async { wrong_method() })
        .layer(middleware::from_fn_with_state(Arc::clone(app), guard::frame))
        .with_state(Arc::clone(app))
}

fn absent() -> Refusal {
    let why = "The routes are listed in /openapi.json.";
    Refusal::new(StatusCode::NOT_FOUND, "server.route.find.absent", "There is no such route.", why)
}

fn wrong_method() -> Refusal {
    let why = "The route exists, and answers other methods; see /openapi.json.";
    let code = "server.route.method.unknown";
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, code, "This route does not answer that method.", why)
}
