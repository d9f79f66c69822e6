//! Volumes: uploaded, looked at, deleted.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use r1seg::phantom::{self, Phantom};
use r1seg::volume::{Overwrite, write_volume};
use serde::Deserialize;
use utoipa::ToSchema;

use super::Errors;
use super::download::{self, NIFTI_GZ};
use crate::Error;
use crate::body::{self, Bounds};
use crate::queue::Client;
use crate::state::App;
use crate::upload::{Receiver, Upload};
use crate::volumes::{Stored, VolumeReply};

/// An upload: one file, the two halves of a volume, or the slices of a DICOM series.
#[derive(Debug, ToSchema)]
#[allow(dead_code, reason = "describes the form")]
struct UploadForm {
    /// NIfTI, NRRD, numpy, a DICOM file or a zip archive of one series; or several parts of this name,
    /// each a slice.
    #[schema(value_type = Vec<String>, format = Binary)]
    file: Vec<u8>,
    /// Which DICOM series, by its number or its id.
    series: Option<String>,
    /// Which volume of a file with several, from 0.
    #[schema(minimum = 0)]
    frame: Option<usize>,
    /// Millimeters of a voxel, i,j,k, for a file that does not say.
    #[schema(example = "0.8,0.8,2.5")]
    spacing: Option<String>,
}

/// The volume that a path names.
pub(super) fn stored(app: &App, id: &str, client: Client) -> Result<Arc<Stored>, Error> {
    app.volumes.get(id, client.owner).ok_or(Error::NotFound { what: "volume" })
}

/// Uploads a volume.
///
/// Names of files say nothing but the two halves of a volume: formats are recognized by the first bytes.
#[utoipa::path(
    post,
    path = "/v1/volumes",
    tag = "volumes",
    security(("key" = [])),
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses((status = 201, description = "It was read", body = VolumeReply), Errors)
)]
pub(super) async fn upload(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<VolumeReply>), Error> {
    let upload = Receiver { app: &app, max_request: 0 }.receive(&headers, body).await?;
    let volume = app.keep(upload, client.owner).await?;
    Ok((StatusCode::CREATED, Json(volume.reply())))
}

/// Which phantom.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PhantomRequest {
    /// A seed names one phantom, on every machine.
    seed: u64,
}

/// Draws a synthetic phantom, which the demo model knows.
#[utoipa::path(
    post,
    path = "/v1/volumes/phantom",
    tag = "volumes",
    security(("key" = [])),
    request_body = PhantomRequest,
    responses((status = 201, description = "It was drawn", body = VolumeReply), Errors)
)]
pub(super) async fn phantom(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<VolumeReply>), Error> {
    if !app.models.has_demo() {
        return Err(Error::NotFound { what: "path" });
    }
    let bounds = Bounds::of_json(&app.config.limits);
    let PhantomRequest { seed } = body::json(&headers, body, bounds, &mut app.memory()).await?;
    let folder = app.root.folder()?;
    let file = folder.path().join("phantom.nii.gz");
    let drawn = download::blocking(move || {
        let volume = phantom::volume(&Phantom::draw(seed))?;
        write_volume(&file, &volume, Overwrite::Refuse)?;
        Ok(std::fs::read(&file)?)
    })
    .await?;
    let name = format!("phantom-{seed}.nii.gz");
    let upload = Upload::of_bytes(&app, Some(&name), &drawn).await?;
    let volume = app.keep(upload, client.owner).await?;
    Ok((StatusCode::CREATED, Json(volume.reply())))
}

/// What is known of a volume.
#[utoipa::path(
    get,
    path = "/v1/volumes/{id}",
    tag = "volumes",
    security(("key" = [])),
    params(("id" = String, Path, description = "`vol_..`")),
    responses((status = 200, description = "This", body = VolumeReply), Errors)
)]
pub(super) async fn show(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Path(id): Path<String>,
) -> Result<Json<VolumeReply>, Error> {
    Ok(Json(stored(&app, &id, client)?.reply()))
}

/// Deletes a volume, what models made of it, and all results about it.
#[utoipa::path(
    delete,
    path = "/v1/volumes/{id}",
    tag = "volumes",
    security(("key" = [])),
    params(("id" = String, Path, description = "`vol_..`")),
    responses((status = 204, description = "Nothing is left of it"), Errors)
)]
pub(super) async fn delete(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Path(id): Path<String>,
) -> Result<StatusCode, Error> {
    download::blocking(move || app.delete_volume(&id, client.owner)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The volume on its own grid, as masks lie on it.
#[utoipa::path(
    get,
    path = "/v1/volumes/{id}/volume.nii.gz",
    tag = "volumes",
    security(("key" = [])),
    params(("id" = String, Path, description = "`vol_..`")),
    responses((status = 200, description = "NIfTI", content_type = "application/gzip"), Errors)
)]
pub(super) async fn file(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let volume = stored(&app, &id, client)?;
    let path = volume.folder().join("volume.nii.gz");
    let (made, state) = (path.clone(), app.clone());
    // Of two requests at once, the second one finds the file that the first one made. The turn ends with
    // the writing, which goes on when the client disconnects.
    let turn = volume.copying.clone().lock_owned().await;
    download::blocking(move || {
        let _turn = turn;
        if made.is_file() {
            return Ok(());
        }
        write_volume(&made, &volume.input.volume, Overwrite::Replace)?;
        if !volume.add_bytes(made.metadata()?.len()) {
            std::fs::remove_file(&made)?;
            return Err(state.full());
        }
        Ok(())
    })
    .await?;
    download::file(&path, "volume.nii.gz", NIFTI_GZ).await
}
