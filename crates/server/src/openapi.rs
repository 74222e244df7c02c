//! The OpenAPI description, generated from the routes and their types.

use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, ContentBuilder, Info, OpenApi, Ref, ResponseBuilder};
use utoipa::{PartialSchema, ToSchema};

use crate::api;
use crate::problem::{Fix, Pointed, Problem};
use crate::scope::Scope;

/// The name of the security scheme.
const SCHEME: &str = "bearer";

/// The OpenAPI 3.1 description of the API.
#[must_use]
pub fn openapi() -> OpenApi {
    crate::routes::description()
}

/// What the description says about the whole.
pub(crate) fn base() -> OpenApi {
    let mut info = Info::new("Sigil", env!("CARGO_PKG_VERSION"));
    info.description = Some(
        "The API of one Sigil. Errors are problem documents (RFC 9457) with a stable `code`. Over the Unix socket, a \
         process of the user who runs Sigil needs no token."
            .to_owned(),
    );
    let mut api = OpenApi::new(info, utoipa::openapi::Paths::new());
    let scheme =
        HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("sgl_<kind>_<id>_<secret><crc>").build();
    let mut components = Components::new();
    components.add_security_scheme(SCHEME, SecurityScheme::Http(scheme));
    components.schemas.insert("Problem".to_owned(), Problem::schema());
    components.schemas.insert("Fix".to_owned(), Fix::schema());
    components.schemas.insert("Pointed".to_owned(), Pointed::schema());
    components.schemas.insert("Envelope".to_owned(), api::Envelope::schema());
    components.schemas.insert(api::TurnEventData::name().into_owned(), api::TurnEventData::schema());
    api.components = Some(components);
    api
}

/// Adds to a guarded operation what is true for all of them.
pub(crate) fn guarded(operation: &mut Operation, scope: Scope) {
    operation.security = Some(vec![SecurityRequirement::new(SCHEME, [scope.as_str()])]);
    for (status, what) in [
        ("401", "No credential that counts."),
        ("403", "The credential, policy or the person's rights say no."),
        ("429", "Too much at once."),
        ("default", "Any other problem."),
    ] {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let response = ResponseBuilder::new().description(what).content("application/problem+json", content).build();
        operation.responses.responses.entry(status.to_owned()).or_insert(response.into());
    }
}
