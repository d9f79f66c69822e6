//! Whether the server lives, and whether it can work.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::Errors;
use crate::Error;
use crate::state::App;

/// That all is well.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// Always `ok`.
    status: &'static str,
}

/// Whether the process answers.
#[utoipa::path(
    get,
    path = "/v1/health/live",
    tag = "server",
    responses((status = 200, description = "It does", body = Health), Errors)
)]
pub(super) async fn live() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Whether models are loaded and warm, and the server is not about to stop.
#[utoipa::path(
    get,
    path = "/v1/health/ready",
    tag = "server",
    responses((status = 200, description = "They are", body = Health), Errors)
)]
pub(super) async fn ready(State(app): State<App>) -> Result<Json<Health>, Error> {
    match (app.is_ready(), app.is_draining()) {
        (true, _) => Ok(Json(Health { status: "ok" })),
        (false, true) => Err(Error::Draining),
        (false, false) => Err(Error::NotReady),
    }
}
