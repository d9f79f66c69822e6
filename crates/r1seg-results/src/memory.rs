//! How much memory a run takes beside the volume and the model.

use r1seg::registry::Family;
use r1seg::volume::{Step, Volume};
use r1seg::{AutomaticConfig, CheckpointSource, InferenceMode, Purpose, QUESTIONS_AT_ONCE};

/// What is to be run on a volume.
#[derive(Debug, Clone, Copy)]
pub struct Workload<'a> {
    /// The model.
    pub source: &'a CheckpointSource,
    /// How it meets the volume.
    pub mode: InferenceMode,
    /// Whether it sees the volume in another orientation than the stored one.
    pub turns: bool,
    /// The volume, which is in memory already.
    pub volume: &'a Volume,
    /// How many prompts are run. Of a model with classes, all classes that share one label map are one.
    pub prompts: usize,
    /// How many classes keep the voxels that they share with others.
    pub apart: usize,
}

/// Bytes that a run takes beside the volume, the model, and what a pass of its networks needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkingMemory {
    /// How many windows there are at the most, for a model with classes.
    pub windows: Option<usize>,
    /// The sums of features that a model with classes stitches windows in, and the prepared volume.
    pub stitching: u64,
    /// Masks, the label map, and for other models prepared volumes and sums of logits.
    pub results: u64,
    /// The most that is in memory at once: masks of classes are made when the sums are there no longer.
    pub peak: u64,
}

impl WorkingMemory {
    /// # Errors
    /// Those of reading `config.json`.
    pub fn of(work: &Workload<'_>) -> Result<Self, r1seg::Error> {
        let family = work.source.family()?;
        if !family.has_classes() {
            let results = results_bytes(work, family);
            return Ok(Self { results, peak: results, ..Self::default() });
        }
        let (config, geometry) = (AutomaticConfig::read(work.source)?, work.volume.geometry());
        let stitching = config.stitching_bytes(geometry, work.apart);
        // The class of each voxel, in two bytes, and the masks.
        let results = labels_bytes(work, 1).saturating_add(2 * work.volume.voxels().len() as u64);
        let afterwards = config.stitched_bytes(geometry, work.apart).saturating_add(results);
        let windows = Some(config.most_windows(geometry));
        Ok(Self { windows, stitching, results, peak: stitching.max(afterwards) })
    }
}

/// Bytes of the masks of a run on the grid of the volume, of which this many are in memory at once.
fn labels_bytes(work: &Workload<'_>, at_once: u64) -> u64 {
    // A mask for each prompt that runs at once, the label map in two bytes, a mask that is measured, and
    // a layer of the segmentation for each prompt at the worst, when all masks overlap.
    let layers = if work.prompts > 1 { 2 * work.prompts as u64 } else { 0 };
    // While a mask is turned back to the stored grid, there are two of it.
    let bytes_per_voxel = at_once + 3 + layers + u64::from(work.turns);
    bytes_per_voxel.saturating_mul(work.volume.voxels().len() as u64)
}

/// The same with what is prepared of the volume, and sums of logits.
fn results_bytes(work: &Workload<'_>, family: Family) -> u64 {
    let purpose = family.capabilities().purpose();
    let stored = work.volume.voxels().len() as u64;
    let at_once = match purpose {
        Purpose::Answer => work.prompts.min(QUESTIONS_AT_ONCE) as u64,
        _ => 1,
    };
    // In windows: normalized intensities, and of each prompt that runs at once the sums of logits, their
    // number and their mean, all f32. In one pass, only the model's own grid is made.
    let grids = match (purpose, work.mode) {
        (_, InferenceMode::Resize | InferenceMode::Crop | InferenceMode::Grow) => 0,
        (Purpose::Answer, _) => 2 + 2 * at_once,
        _ => 3,
    };
    // Resampled, also around crops: the volume in voxels of another size, as f32; and where crops grow, sums
    // of logits and a mask as well.
    let own = family.entry().recipes.first().and_then(|recipe| {
        recipe.steps().into_iter().find_map(|step| match step {
            Step::Space { mm, .. } => Some(mm),
            _ => None,
        })
    });
    let to = own.unwrap_or([1.5; 3]);
    let from = work.volume.geometry().spacing_mm().unwrap_or(to);
    let scale: f64 = from.iter().zip(to).map(|(from, to)| from / to).product();
    let resampled = (stored as f64 * scale) as u64;
    let around_crops = match work.mode {
        InferenceMode::Resize if own.is_some() => resampled.saturating_mul(4),
        InferenceMode::Crop => resampled.saturating_mul(4),
        InferenceMode::Grow => resampled.max(stored).saturating_mul(4 + 4 + 4 + 1),
        _ => 0,
    };
    let grids = stored.saturating_mul(4 * grids);
    labels_bytes(work, at_once).saturating_add(grids).saturating_add(around_crops)
}
