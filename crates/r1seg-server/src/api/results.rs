//! Results and their files.

use std::io::{Cursor, Write};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use r1seg::volume::{LabelMap, MaskFormat, ReadOptions, read, write_labels_to};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::Errors;
use super::download::{self, NIFTI_GZ};
use crate::Error;
use crate::queue::Client;
use crate::results::{Found, ResultReply};
use crate::state::App;

/// The result that a path names.
pub(super) fn found(app: &App, id: &str, client: Client) -> Result<Arc<Found>, Error> {
    app.results.get(id, client.owner).ok_or(Error::NotFound { what: "result" })
}

/// A result; or, with `.zip` behind its id, all of its files.
#[utoipa::path(
    get,
    path = "/v1/results/{id}",
    tag = "prompts",
    security(("key" = [])),
    params(("id" = String, Path, description = "`res_..`, or `res_...zip`")),
    responses(
        (status = 200, description = "It is this", content(
            (ResultReply = "application/json"),
            (String = "application/zip")
        )),
        Errors
    )
)]
pub(super) async fn show(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let Some(plain) = id.strip_suffix(".zip") else {
        return Ok(Json(found(&app, &id, client)?.reply()).into_response());
    };
    let found = found(&app, plain, client)?;
    let archive = download::blocking(move || zipped(&found)).await?;
    Ok(download::bytes(archive, &id, download::media_type(&id)))
}

/// All files of a result in an archive. Most of them are compressed already.
fn zipped(found: &Found) -> Result<Vec<u8>, Error> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let failed = |error: zip::result::ZipError| Error::from(std::io::Error::other(error));
    for name in &found.reply.files {
        let Some(path) = found.file(name) else { continue };
        let bytes = std::fs::read(path).map_err(|_| Error::NotFound { what: "result" })?;
        archive.start_file(name, SimpleFileOptions::default()).map_err(failed)?;
        archive.write_all(&bytes)?;
    }
    Ok(archive.finish().map_err(failed)?.into_inner())
}

/// Deletes a result with its files.
#[utoipa::path(
    delete,
    path = "/v1/results/{id}",
    tag = "prompts",
    security(("key" = [])),
    params(("id" = String, Path, description = "`res_..`")),
    responses((status = 204, description = "Nothing is left of it"), Errors)
)]
pub(super) async fn delete(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Path(id): Path<String>,
) -> Result<StatusCode, Error> {
    let found = app.results.take(&id, client.owner).ok_or(Error::NotFound { what: "result" })?;
    download::blocking(move || {
        found.wipe();
        Ok(())
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A file of a result, as the command line writes it.
#[utoipa::path(
    get,
    path = "/v1/results/{id}/files/{name}",
    tag = "prompts",
    security(("key" = [])),
    params(
        ("id" = String, Path, description = "`res_..`"),
        ("name" = String, Path, description = "One of the result's `files`")
    ),
    responses(
        (status = 200, description = "The file", content_type = "application/octet-stream"),
        Errors
    )
)]
pub(super) async fn file(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Path((id, name)): Path<(String, String)>,
) -> Result<Response, Error> {
    let found = found(&app, &id, client)?;
    let path = found.file(&name).ok_or(Error::NotFound { what: "file" })?;
    download::file(&path, &name, download::media_type(&name)).await
}

/// The mask of a result as NIfTI (`.nii.gz`), for 3D Slicer (`.seg.nrrd`), or as a picture (`.png`).
#[utoipa::path(
    get,
    path = "/v1/masks/{file}",
    tag = "prompts",
    security(("key" = [])),
    params(("file" = String, Path, description = "`res_...nii.gz`, `res_...seg.nrrd` or `res_...png`")),
    responses(
        (status = 200, description = "The file", content_type = "application/octet-stream"),
        Errors
    )
)]
pub(super) async fn mask(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Path(name): Path<String>,
) -> Result<Response, Error> {
    let (id, ending) = name.split_once('.').ok_or(Error::NotFound { what: "file" })?;
    let found = found(&app, id, client)?;
    let own = match ending {
        "nii.gz" => "mask.nii.gz",
        "seg.nrrd" => "mask.seg.nrrd",
        "png" => "preview.png",
        _ => return Err(Error::NotFound { what: "file" }),
    };
    if let Some(path) = found.file(own) {
        return download::file(&path, own, download::media_type(own)).await;
    }
    if ending != "nii.gz" || found.reply.masks.is_empty() {
        return Err(Error::NotFound { what: "file" });
    }
    let bytes = download::blocking(move || {
        let mut bytes = Vec::new();
        write_labels_to(&mut bytes, &labels(&found)?, MaskFormat::NiftiGz)?;
        Ok(bytes)
    })
    .await?;
    Ok(download::bytes(bytes, own, NIFTI_GZ))
}

/// All masks of a result in one map; blocks.
///
/// # Errors
/// [`Error::NotFound`] for a result without masks, or one that has gone meanwhile.
pub(crate) fn labels(found: &Found) -> Result<LabelMap, Error> {
    let none = || Error::NotFound { what: "mask" };
    let open = |name: &str| -> Result<LabelMap, Error> {
        let path = found.file(name).ok_or_else(none)?;
        let loaded = read(&path, &ReadOptions::default().with_min_axis(1)).map_err(|_| none())?;
        Ok(LabelMap::from_volume(&loaded.volume)?)
    };
    let files: Vec<&String> = found.reply.masks.iter().filter_map(|m| m.file.as_ref()).collect();
    let first = files.first().ok_or_else(none)?;
    if files.iter().all(|file| file == first) {
        return open(first);
    }
    // Masks that overlap have files of their own.
    let mut all: Option<LabelMap> = None;
    for mask in &found.reply.masks {
        let own = open(mask.file.as_ref().ok_or_else(none)?)?;
        let map = all.get_or_insert_with(|| LabelMap::new(own.geometry().clone()));
        map.reserve(mask.label);
        map.push_as(mask.label, &own.any_label())?;
    }
    all.ok_or_else(none)
}
