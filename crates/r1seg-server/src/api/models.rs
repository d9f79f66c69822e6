//! What is served, and how it fares.

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use super::Errors;
use crate::metrics;
use crate::models::{Entry, ModelList};
use crate::state::App;

/// The server, for those who are about to use it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Info {
    version: &'static str,
    /// Whether requests must name a key.
    key_required: bool,
    limits: LimitsReply,
    /// Whether the embedded model is served, which knows only synthetic phantoms.
    demo: bool,
    /// Always true: r1seg is not a medical device.
    research_use_only: bool,
}

/// What the server takes at most.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Limits)]
struct LimitsReply {
    max_body_bytes: u64,
    /// Seconds that volumes and results are kept after their last use.
    ttl_s: u64,
    /// Requests that may wait.
    queue: usize,
    /// Seconds that a request may take.
    timeout_s: u64,
}

/// The server's version and limits.
#[utoipa::path(
    get,
    path = "/v1/info",
    tag = "server",
    responses((status = 200, description = "They are these", body = Info), Errors)
)]
pub(super) async fn info(State(app): State<App>) -> Json<Info> {
    let limits = &app.config.limits;
    Json(Info {
        version: env!("CARGO_PKG_VERSION"),
        key_required: app.config.keys.are_required(),
        limits: LimitsReply {
            max_body_bytes: limits.max_body_bytes,
            ttl_s: limits.ttl.as_secs(),
            queue: limits.queue,
            timeout_s: limits.timeout.as_secs(),
        },
        demo: app.models.has_demo(),
        research_use_only: true,
    })
}

/// The models that are served, in OpenAI's form and more.
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "server",
    security(("key" = [])),
    responses((status = 200, description = "All of them", body = ModelList), Errors)
)]
pub(super) async fn list(State(app): State<App>) -> Json<ModelList> {
    let data = app.models.iter().map(Entry::reply).collect();
    Json(ModelList { object: "list", data })
}

/// What the server counts, for Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "server",
    security(("key" = [])),
    responses(
        (status = 200, description = "As text", body = String, content_type = "text/plain"),
        Errors
    )
)]
pub(super) async fn metrics(State(app): State<App>) -> impl IntoResponse {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], app.metrics.encode())
}
