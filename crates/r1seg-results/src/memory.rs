//! How much memory a run takes beside the volume and the model.

use r1seg::volume::{Geometry, Volume};
use r1seg::{AutomaticConfig, CheckpointSource, InferenceMode, Purpose, QUESTIONS_AT_ONCE};

/// Bytes for what a model with classes stitches windows over a volume in, where so many classes keep the
/// voxels that they share; 0 for other models.
///
/// # Errors
/// Those of reading `config.json`.
pub fn stitching_memory(
    source: &CheckpointSource,
    geometry: &Geometry,
    apart: usize,
) -> Result<u64, r1seg::Error> {
    match source.family()?.has_classes() {
        true => Ok(AutomaticConfig::read(source)?.stitching_bytes(geometry, apart)),
        false => Ok(0),
    }
}

/// Bytes for what is made of a volume when so many prompts are run on it: beside the volume itself, the
/// model, and what the model's networks need. `turns` says whether the model sees it in another
/// orientation than the stored one.
pub fn working_memory(
    purpose: Purpose,
    mode: InferenceMode,
    turns: bool,
    volume: &Volume,
    prompts: usize,
) -> u64 {
    let stored = volume.voxels().len() as u64;
    let at_once = match purpose {
        Purpose::Answer => prompts.min(QUESTIONS_AT_ONCE) as u64,
        _ => 1,
    };
    // In windows: normalized intensities, and of each prompt that runs at once the sums of logits, their
    // number and their mean, all f32. In one pass, only the model's own grid is made.
    let grids = match (purpose, mode) {
        (_, InferenceMode::Resize | InferenceMode::Crop | InferenceMode::Grow) => 0,
        (Purpose::Answer, _) => 2 + 2 * at_once,
        _ => 3,
    };
    // Around crops: the volume in voxels of 1.5 mm, as f32; and where they grow, sums of logits and a
    // mask as well.
    let spacing = volume.geometry().spacing_mm().unwrap_or([1.5; 3]);
    let resampled = (stored as f64 * spacing.iter().map(|mm| mm / 1.5).product::<f64>()) as u64;
    let around_crops = match mode {
        InferenceMode::Crop => resampled.saturating_mul(4),
        InferenceMode::Grow => resampled.max(stored).saturating_mul(4 + 4 + 4 + 1),
        _ => 0,
    };
    // A mask for each prompt that runs at once, the label map in two bytes, a mask that is measured, and
    // a layer of the segmentation for each prompt at the worst, when all masks overlap.
    let layers = if prompts > 1 { 2 * prompts as u64 } else { 0 };
    // While a mask is turned back to the stored grid, there are two of it.
    let bytes_per_voxel = 4 * grids + at_once + 3 + layers + u64::from(turns);
    bytes_per_voxel.saturating_mul(stored).saturating_add(around_crops)
}
