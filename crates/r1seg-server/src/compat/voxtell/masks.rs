//! The masks of a job, in the order of viewers.

use axum::extract::{Extension, Path, State};
use axum::response::Response;
use r1seg::volume::{ConnectedComponents, LabelMap};
use r1seg_viewers::{ElementType, vxa2};

use super::jobs::{End, job};
use crate::Error;
use crate::api::download::{self, blocking};
use crate::api::results;
use crate::compat::canonical::canonical;
use crate::queue::Client;
use crate::results::Found;
use crate::state::App;

/// Bytes per voxel while masks are written: the label map, and a mask in three states.
const BYTES_PER_VOXEL: u64 = 5;

/// A mask for each prompt, `[prompts, Z, Y, X]`.
pub(super) async fn result(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let job = job(&app, &id, client)?;
    let end = job.log.borrow().end.clone();
    let found = match end {
        Some(End::Done(found)) => found,
        Some(End::Failed(message)) => return Err(Error::viewer(500, message)),
        Some(End::Cancelled) => return Err(Error::viewer(409, "the job was cancelled")),
        None => return Err(Error::viewer(409, "the job has not finished")),
    };
    let mut memory = app.memory();
    let keep_largest = job.keep_largest;
    let bytes = blocking(move || {
        let voxels = found.geometry.voxels() as u64;
        app.reserve(&mut memory, voxels.saturating_mul(BYTES_PER_VOXEL), client.owner)?;
        masks(&found, keep_largest)
    })
    .await?;
    Ok(download::bytes(bytes, "masks.vxa2", "application/octet-stream"))
}

fn masks(found: &Found, keep_largest: bool) -> Result<Vec<u8>, Error> {
    let has_masks = found.reply.answers.iter().any(|answer| !answer.labels.is_empty());
    let labels = match has_masks {
        true => results::labels(found)?,
        false => LabelMap::new(found.geometry.clone()),
    };
    let (map, stored) = (canonical(&found.geometry), found.geometry.shape());
    let shape = map.shape(stored);
    let mut bytes = Vec::new();
    let count = found.reply.answers.len();
    let [depth, height, width] = shape;
    let whole = [count, depth, height, width];
    let mut writer = vxa2::Writer::new(&mut bytes, ElementType::U8, &whole)?;
    for answer in &found.reply.answers {
        let mask = map.data(&union(&labels, &answer.labels), stored)?;
        let mask = if keep_largest { largest(mask, shape)? } else { mask };
        writer.push(&mask)?;
    }
    writer.finish()?;
    Ok(bytes)
}

/// The voxels of any of these labels as 1.
fn union(labels: &LabelMap, wanted: &[u16]) -> Vec<u8> {
    let mut masks = wanted.iter().map(|label| labels.label_mask(*label).into_parts().0);
    let mut all = masks.next().unwrap_or_else(|| vec![0; labels.labels().len()]);
    for mask in masks {
        all.iter_mut().zip(mask).for_each(|(voxel, more)| *voxel |= more);
    }
    all
}

/// The largest part whose voxels hang together by their faces; of several, the first.
fn largest(mask: Vec<u8>, shape: [usize; 3]) -> Result<Vec<u8>, Error> {
    let parts = ConnectedComponents::by_faces(&mask, shape, |voxel| voxel != 0)?;
    let chosen = parts.largest();
    Ok(parts.mask(|number| Some(number) == chosen))
}
