//! Images: volumes as a viewer sends them, and label maps on their grid.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use r1seg::volume::{LabelMap, MaskFormat, Volume, Voxels, write_labels_to};
use r1seg_viewers::{Array, ElementType, vxa2};
use serde::Deserialize;
use serde_json::json;

use crate::Error;
use crate::api::download::{self, NIFTI_GZ, blocking};
use crate::compat::array::{self, Framing};
use crate::compat::canonical::canonical;
use crate::ids::Kind;
use crate::queue::Client;
use crate::shelf::Kept;
use crate::state::App;
use crate::upload::Upload;
use crate::volumes::Stored;

const META: HeaderName = HeaderName::from_static("x-meta");
const OCTETS: &str = "application/octet-stream";
/// Bytes per voxel while labels are turned: twice 16 bits, up to four bytes of a volume, and the label map.
const BYTES_PER_LABEL: u64 = 10;
/// Slices that are written at a time, in bytes.
const PART_BYTES: usize = 16 << 20;

#[derive(Debug, Deserialize)]
pub(super) struct Wish {
    /// Whether the volume is wanted back in the order of viewers.
    include_image: Option<bool>,
}

/// The image of an id without a prefix, as VoxTell's ids are.
pub(super) fn stored(app: &App, id: &str, client: Client) -> Result<Arc<Stored>, Error> {
    let id = Kind::Volume.with(id);
    app.volumes.get(&id, client.owner).ok_or_else(|| {
        Error::viewer(404, "the server does not know this image, or no more: load it again")
    })
}

/// Keeps a volume, and says where its voxels are in the order of viewers.
pub(super) async fn upload(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Query(Wish { include_image }): Query<Wish>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    let upload = Upload::of_body(&app, client.owner, &headers, body).await?;
    let image = app.keep(upload, client.owner).await?;
    let geometry = image.input.volume.geometry();
    let map = canonical(geometry);
    // Along the axes of viewers; a file that does not say how large its voxels are has none to speak of.
    let spacing_mm = map.along(geometry.spacing_mm().unwrap_or([1.0; 3]));
    let meta = json!({
        "image_id": Kind::Volume.without(image.id()),
        "spacing": spacing_mm,
        "shape": map.shape(geometry.shape()),
    });
    let mut response = match include_image.unwrap_or(true) {
        true => whole(&app, image).await?,
        false => download::bytes(Vec::new(), "image", OCTETS),
    };
    if let Ok(meta) = HeaderValue::from_str(&meta.to_string()) {
        response.headers_mut().insert(META, meta);
    }
    Ok(response)
}

/// The volume in the order of viewers, which is written beside it first: it may not shrink.
async fn whole(app: &App, image: Arc<Stored>) -> Result<Response, Error> {
    let path = image.folder().join("image.vxa2");
    let (made, state) = (path.clone(), app.clone());
    let turn = image.copying.clone().lock_owned().await;
    blocking(move || {
        let _turn = turn;
        let file = std::fs::File::create(&made)?;
        write_canonical(std::io::BufWriter::new(file), &image.input.volume)?;
        match image.add_bytes(made.metadata()?.len()) {
            true => Ok(()),
            false => {
                std::fs::remove_file(&made)?;
                Err(state.full())
            }
        }
    })
    .await?;
    download::file(&path, "image.vxa2", OCTETS).await
}

/// Writes a volume as f32 in the order of viewers, some slices at a time.
fn write_canonical(out: impl std::io::Write, volume: &Volume) -> Result<(), Error> {
    let (map, stored) = (canonical(volume.geometry()), volume.shape());
    let [depth, height, width] = map.shape(stored);
    let mut writer = vxa2::Writer::new(out, ElementType::F32, &[depth, height, width])?;
    let slices = (PART_BYTES / (4 * height * width)).max(1);
    for first in (0..depth).step_by(slices) {
        let part = first..depth.min(first + slices);
        let values = volume.voxels().turned(map, stored, part)?;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        writer.push(&bytes)?;
    }
    Ok(writer.finish()?)
}

/// A label map in the order of viewers as a file on the grid of the image's own.
pub(super) async fn export(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    let image = stored(&app, &id, client)?;
    let mut received = array::receive(&app, client.owner, &headers, body, Framing::Vxa2).await?;
    let bytes = blocking(move || {
        let voxels = image.input.volume.geometry().voxels() as u64;
        let bytes = voxels.saturating_mul(BYTES_PER_LABEL);
        app.reserve(&mut received.memory, bytes, client.owner)?;
        let labels = on_grid_of(&received.array, &image)?;
        let mut bytes = Vec::new();
        write_labels_to(&mut bytes, &labels, MaskFormat::NiftiGz)?;
        Ok(bytes)
    })
    .await?;
    Ok(download::bytes(bytes, "labels.nii.gz", NIFTI_GZ))
}

fn on_grid_of(array: &Array, image: &Stored) -> Result<LabelMap, Error> {
    let geometry = image.input.volume.geometry();
    let map = canonical(geometry);
    let shape = map.shape(geometry.shape());
    if array.shape() != shape {
        let message =
            format!("the labels have the shape {:?}, and the image {shape:?}", array.shape());
        return Err(Error::viewer(400, message));
    }
    let labels = map.inverse().data(&array.to_labels()?, shape)?;
    // A map takes labels from a volume, whose whole numbers have 16 bits with a sign.
    let signed = labels.iter().map(|label| i16::try_from(*label)).collect::<Result<Vec<_>, _>>();
    let voxels = match signed {
        Ok(stored) => Voxels::from(stored),
        Err(_) => labels.iter().map(|label| f32::from(*label)).collect::<Vec<_>>().into(),
    };
    Ok(LabelMap::from_volume(&Volume::new(voxels, geometry.clone())?)?)
}
