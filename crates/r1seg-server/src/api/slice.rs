//! Slices drawn by the server: for thumbnails, and for screens that draw none themselves.

use axum::extract::{Extension, Path, State};
use axum::http::Uri;
use axum::response::Response;
use r1seg_results::preview::{Scene, SliceAxis, Window, render_slice};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{Errors, download, results, volumes};
use crate::Error;
use crate::queue::Client;
use crate::shelf::Kept;
use crate::state::App;

const DEFAULT_SIZE: usize = 512;
const LARGEST: usize = 2048;

/// Which slice, and how it looks.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct SliceQuery {
    /// `axial` if left out.
    #[param(inline)]
    axis: Option<Axis>,
    /// The voxel index along the array axis that the slice is normal to; the middle if left out.
    index: Option<usize>,
    /// The intensity in the middle of the window, such as 40. Chosen for what is seen if left out.
    level: Option<f32>,
    /// The width of the window, above 0, such as 400.
    width: Option<f32>,
    /// The id of a result whose masks are drawn over the volume.
    result: Option<String>,
    /// Pixels of the longer side; 512 if left out.
    #[param(minimum = 16, maximum = 2048)]
    size: Option<usize>,
}

/// Which way a slice cuts through the patient.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Axis {
    Axial,
    Coronal,
    Sagittal,
}

/// A slice as a picture, as radiologists look at it.
#[utoipa::path(
    get,
    path = "/v1/volumes/{id}/slice.png",
    tag = "volumes",
    security(("key" = [])),
    params(("id" = String, Path, description = "`vol_..`"), SliceQuery),
    responses((status = 200, description = "PNG", content_type = "image/png"), Errors)
)]
pub(super) async fn slice(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Response, Error> {
    let query = axum::extract::Query::<SliceQuery>::try_from_uri(&uri);
    let query = query.map_err(|e| Error::invalid("query", e.body_text()))?.0;
    let volume = volumes::stored(&app, &id, client)?;
    let size = query.size.unwrap_or(DEFAULT_SIZE);
    if !(16..=LARGEST).contains(&size) {
        return Err(Error::invalid("size", format!("16 to {LARGEST} pixels are drawn")));
    }
    let window = window(query.level, query.width)?;
    let found = query.result.map(|id| results::found(&app, &id, client)).transpose()?;
    if found.as_ref().is_some_and(|found| found.volume != volume.id()) {
        return Err(Error::invalid("result", "it is about another volume"));
    }
    let axis = match query.axis.unwrap_or(Axis::Axial) {
        Axis::Axial => SliceAxis::Axial,
        Axis::Coronal => SliceAxis::Coronal,
        Axis::Sagittal => SliceAxis::Sagittal,
    };
    let png = download::blocking(move || {
        let masks = found.filter(|found| !found.reply.masks.is_empty());
        let map = masks.map(|found| results::labels(&found)).transpose()?;
        let labels = map.as_ref().map(|map| map.labels()).unwrap_or_default();
        let scene = Scene { labels, window, ..Scene::of(&volume.input.volume) };
        Ok(render_slice(&scene, axis, query.index, [size; 2]).png()?)
    })
    .await?;
    Ok(download::bytes(png, "slice.png", download::PNG))
}

fn window(level: Option<f32>, width: Option<f32>) -> Result<Option<Window>, Error> {
    let (level, width) = match (level, width) {
        (None, None) => return Ok(None),
        (Some(level), Some(width)) => (level, width),
        _ => return Err(Error::invalid("level", "a level and a width belong together")),
    };
    let window = format!("{level},{width}").parse();
    window.map(Some).map_err(|_| Error::invalid("width", "a width above 0 is needed"))
}
