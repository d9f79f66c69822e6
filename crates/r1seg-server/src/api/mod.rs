//! The paths of the API, each documented by what it reads and writes.

mod chat;
mod chat_form;
pub(crate) mod download;
mod health;
mod mcp;
mod models;
mod page;
pub(crate) mod prompts;
pub(crate) mod results;
mod segment;
mod slice;
pub(crate) mod sse;
mod volumes;

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::Extension;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use bytes::Bytes;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi as Document, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoResponses, Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Error;
use crate::compat;
use crate::guard::authorize;
use crate::layers::outer;
use crate::reply::ErrorReply;
use crate::state::App;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "r1seg",
        description = "Questions about a CT, and masks that lie exactly on it. For research use only: \
                       not a medical device.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(ErrorReply)),
    modifiers(&Key),
    tags(
        (name = "volumes", description = "CTs that prompts are about"),
        (name = "prompts", description = "Questions and what they got"),
        (name = "server", description = "The server itself")
    )
)]
struct Api;

/// The key, where the server asks for one.
struct Key;

impl Modify for Key {
    fn modify(&self, document: &mut Document) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("key", SecurityScheme::Http(bearer));
    }
}

/// The responses that any path may have beside its own.
pub(crate) struct Errors;

impl IntoResponses for Errors {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let response = |about: &str| {
            let content =
                ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorReply"))).build();
            let response = ResponseBuilder::new().description(about);
            RefOr::T(response.content("application/json", content).build())
        };
        [
            ("400", "The request cannot be read"),
            ("401", "No key, or an unknown one"),
            ("403", "From a page of another origin"),
            ("404", "Not there, or expired, or another key's"),
            ("408", "The request did not arrive in time"),
            ("409", "One of several DICOM series must be chosen"),
            ("413", "Larger than the server takes"),
            ("415", "Of a format that is not read"),
            ("421", "Sent to another host"),
            ("422", "The request was read and cannot be used"),
            ("429", "Too many requests, or no room; `Retry-After` says when to come back"),
            ("500", "A fault of r1seg"),
            ("503", "Not ready, about to stop, or out of time"),
        ]
        .into_iter()
        .map(|(status, about)| (status.to_string(), response(about)))
        .collect()
    }
}

/// All paths, and their description.
pub(crate) fn router(app: &App) -> (Router, Document) {
    let open = OpenApiRouter::new()
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(models::info))
        .routes(routes!(openapi))
        .routes(routes!(page::index));
    let limited = OpenApiRouter::new()
        .routes(routes!(models::list))
        .routes(routes!(models::metrics))
        .routes(routes!(volumes::upload))
        .routes(routes!(volumes::phantom))
        .routes(routes!(volumes::show, volumes::delete))
        .routes(routes!(volumes::file))
        .routes(routes!(slice::slice))
        .routes(routes!(segment::segment))
        .routes(routes!(results::show, results::delete))
        .routes(routes!(results::file))
        .routes(routes!(results::mask))
        .routes(routes!(chat::completions))
        .route_service("/mcp", mcp::service(app))
        .route_layer(from_fn_with_state(app.clone(), authorize));
    let all = OpenApiRouter::with_openapi(Api::openapi()).merge(open).merge(limited);
    let (router, document) = all.with_state(app.clone()).split_for_parts();
    let text = Described(document.to_json().unwrap_or_default().into());
    let router = router
        .merge(compat::router(app))
        .method_not_allowed_fallback(|| async { Error::Method })
        .fallback(page::asset)
        .layer(Extension(text))
        .layer(from_fn_with_state(app.clone(), outer));
    (router, document)
}

/// The description as it is served.
#[derive(Debug, Clone)]
struct Described(Bytes);

/// This description of the API.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "server",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json"), Errors)
)]
async fn openapi(Extension(Described(text)): Extension<Described>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], text)
}
