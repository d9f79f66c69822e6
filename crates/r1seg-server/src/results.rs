//! What models found, as the API shows it.

use std::path::PathBuf;
use std::sync::Arc;

use r1seg::volume::Geometry;
use serde::Serialize;
use tempfile::TempDir;
use utoipa::ToSchema;

use crate::budget::Reserved;
use crate::ids::Id;
use crate::keys::Owner;
use crate::shelf::{Kept, Lease};
use crate::volumes::WarningReply;

/// What the prompts of a request got. Voxel indexes are (i, j, k) in the order of the file.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Result)]
pub(crate) struct ResultReply {
    #[schema(example = "res_0123456789abcdef0123456789abcdef")]
    pub(crate) id: String,
    /// Always `result`.
    pub(crate) object: &'static str,
    /// The model that was asked.
    pub(crate) model: String,
    /// The volume that it was asked about.
    pub(crate) volume: String,
    /// One for each prompt.
    pub(crate) answers: Vec<AnswerReply>,
    pub(crate) masks: Vec<MaskReply>,
    pub(crate) warnings: Vec<WarningReply>,
    /// Milliseconds by stage, as in report.json.
    #[schema(value_type = Object)]
    pub(crate) timings_ms: serde_json::Value,
    /// Names for `/v1/results/{id}/files/{name}`.
    pub(crate) files: Vec<String>,
    /// Unix seconds. Any use of the result moves it.
    pub(crate) expires: u64,
}

/// What a prompt got.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Answer)]
pub(crate) struct AnswerReply {
    /// The words of the prompt, or its name where it has none.
    pub(crate) prompt: String,
    /// Of the model; empty where it gives none.
    pub(crate) text: String,
    /// `found`, `empty_mask` or `not_found`.
    pub(crate) status: &'static str,
    /// `stop`, or `length` where the answer was cut; null where the model gives no words.
    pub(crate) finish_reason: Option<&'static str>,
    /// Of its masks.
    pub(crate) labels: Vec<u16>,
    /// Boxes in the answer: the first and the last voxel of each.
    pub(crate) boxes: Vec<[[usize; 3]; 2]>,
    /// Questions that are like those of the model's training, where no mask was found.
    pub(crate) suggestions: Vec<String>,
}

/// A mask, measured.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Mask)]
pub(crate) struct MaskReply {
    /// The voxels with this number are its own.
    pub(crate) label: u16,
    pub(crate) name: String,
    /// Red, green and blue, as in the picture.
    pub(crate) color: [u8; 3],
    pub(crate) voxels: usize,
    pub(crate) volume_ml: Option<f64>,
    /// Where the volume is in Hounsfield units.
    pub(crate) mean_hu: Option<f64>,
    /// In RAS+.
    pub(crate) centroid_mm: Option<[f64; 3]>,
    pub(crate) centroid_voxel: Option<[f64; 3]>,
    /// The first and the last voxel.
    pub(crate) bbox: Option<[[usize; 3]; 2]>,
    /// Connected parts.
    pub(crate) components: usize,
    pub(crate) touches_border: bool,
    /// The label of the mask that it was made from by another model.
    pub(crate) refines: Option<u16>,
    /// The file that it is in.
    pub(crate) file: Option<String>,
}

/// What a language model read and wrote.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tokens {
    pub(crate) prompt: usize,
    pub(crate) generated: usize,
}

/// A result that is kept, with its files.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) id: Id,
    pub(crate) owner: Owner,
    /// The id of its volume.
    pub(crate) volume: String,
    pub(crate) reply: ResultReply,
    /// The grid of its masks, which is that of the volume.
    pub(crate) geometry: Geometry,
    pub(crate) tokens: Tokens,
    pub(crate) lease: Lease,
    pub(crate) folder: TempDir,
    pub(crate) _disk: Reserved,
}

impl Kept for Found {
    fn id(&self) -> &str {
        self.id.as_str()
    }

    fn owner(&self) -> Owner {
        self.owner
    }

    fn lease(&self) -> &Lease {
        &self.lease
    }
}

impl Found {
    /// As the API shows it now.
    pub(crate) fn reply(&self) -> ResultReply {
        ResultReply { expires: self.lease.expires(), ..self.reply.clone() }
    }

    /// One of its files, by a name that stands in its list.
    pub(crate) fn file(&self, name: &str) -> Option<PathBuf> {
        let known = self.reply.files.iter().find(|file| *file == name)?;
        Some(self.folder.path().join(known))
    }

    /// Removes its files at once, whoever else still holds it.
    pub(crate) fn wipe(self: &Arc<Self>) {
        let _ = std::fs::remove_dir_all(self.folder.path());
    }
}
