//! What a model needs of the machine's memory.

use r1seg_nn::QuantizedMatrix;
use r1seg_text_encoder::ClipTextConfig;

use crate::checkpoint::{Found, weight_type};
use crate::m3d_clip::M3dClipConfig;
use crate::promptable::PromptableConfig;
use crate::{ModelConfig, QUESTIONS_AT_ONCE, SliceInputConfig};

/// Tokens of a question and its answer that are reckoned with.
const WORDS: usize = 64;

/// Bytes to answer short questions on a CPU beside the weights, asked at once as far as that goes, all
/// activations in f32. With its weights, a full-size Phi-3 checkpoint in bf16 was measured at 99% of it
/// for one question.
pub(crate) fn to_answer(config: &ModelConfig, questions: usize) -> u64 {
    // The keys and values of the image are kept beside those of each question about it.
    let caches = 1 + questions.min(QUESTIONS_AT_ONCE);
    let cache = config.decoder.cache_bytes(config.visual_tokens() + WORDS);
    let encoders = config.branches.iter().map(|branch| branch.vit.working_bytes());
    let mask = config.mask.as_ref().map(|mask| mask.head.working_bytes());
    let slices = config.slices.as_ref().map(of_slices);
    let vision = encoders.chain(mask).chain(slices).max().unwrap_or(0);
    cache.saturating_mul(caches as u64).saturating_add(vision)
}

/// Of the encoder of slices, if there is one.
fn of_slices(slices: &SliceInputConfig) -> u64 {
    slices.encoder.as_ref().map_or(0, |encoder| encoder.network.working_bytes(slices.count))
}

/// The same for a model that takes prompts and segments.
pub(crate) fn to_segment(config: &PromptableConfig) -> u64 {
    let vision = config.image_encoder.working_bytes().max(config.mask_head.working_bytes());
    let text = config.text.as_ref().map_or(0, ClipTextConfig::working_bytes);
    vision.max(text)
}

/// The same for a model that embeds volumes and texts.
pub(crate) fn to_embed(config: &M3dClipConfig) -> u64 {
    let slices = config.slices.as_ref().map_or(0, of_slices);
    config.vit.working_bytes().max(config.text.working_bytes()).max(slices)
}

/// The same on a GPU, where activations, keys and values, `activations` bytes in f32, have the weights'
/// dtype of `size` bytes. Attention scores are never materialized.
pub(crate) fn on_gpu(activations: u64, size: u64) -> u64 {
    /// What a context, its kernels and cuBLAS keep.
    const CONTEXT: u64 = 512 << 20;
    (activations / 4 * size).saturating_add(CONTEXT)
}

/// Whether a GPU keeps a tensor in its blocks.
fn stays_quantized(tensor: &Found) -> bool {
    let width = tensor.shape.last().copied().unwrap_or(0);
    let row = weight_type(tensor.format).and_then(|t| QuantizedMatrix::row_bytes(t, width));
    tensor.shape.len() == 2 && row.is_some()
}

/// Memory of a GPU that a tensor of a checkpoint takes where numbers have `size` bytes. Matrices of which
/// a layer makes one are reckoned to be quantized alike.
pub(crate) fn bytes_on_gpu(tensor: &Found, size: u64) -> u64 {
    match stays_quantized(tensor) {
        true => tensor.bytes,
        false => tensor.numbers().saturating_mul(size),
    }
}

/// What a quantized tensor takes beside itself while many rows are multiplied with it. Twice its
/// numbers, because a gate and the matrix of the same size beside it may be one matrix.
pub(crate) fn widened_on_gpu(tensor: &Found, size: u64) -> u64 {
    match stays_quantized(tensor) {
        true => tensor.numbers().saturating_mul(2 * size),
        false => 0,
    }
}

#[cfg(test)]
mod tests {
    use r1seg_checkpoint::NumberFormat;

    use super::{bytes_on_gpu, widened_on_gpu};
    use crate::checkpoint::Found;
    use crate::{DeviceChoice, Error, LoadOptions, R1SegModel};

    #[test]
    fn a_gpu_keeps_the_blocks_that_it_multiplies_with() {
        let found = |format, shape: &[usize], bytes| Found { format, shape: shape.to_vec(), bytes };
        let q4k = found(NumberFormat::Q4K, &[10, 512], 10 * 288);
        assert_eq!((bytes_on_gpu(&q4k, 2), widened_on_gpu(&q4k, 2)), (2880, 4 * 5120));
        for wide in [
            found(NumberFormat::Q6K, &[10, 512], 10 * 420),
            found(NumberFormat::F32, &[10, 512], 4 * 5120),
        ] {
            assert_eq!((bytes_on_gpu(&wide, 2), widened_on_gpu(&wide, 2)), (2 * 5120, 0));
        }
    }

    #[test]
    fn r1_a_model_is_loaded_exactly_if_the_limit_allows_what_it_needs() {
        let cpu = LoadOptions::default().with_device(DeviceChoice::Cpu);
        let load = |limit| R1SegModel::load_with("demo", &cpu.clone().with_memory_limit(limit));
        let Err(Error::NotEnoughMemory { needed, limit: 1, .. }) = load(1) else {
            panic!("one byte is not enough")
        };
        let demo: usize = r1seg_phantom::checkpoint_files().iter().map(|(_, b)| b.len()).sum();
        assert!(needed > demo as u64 / 2, "{needed}, but the files are {demo}");
        let error = load(needed - 1).unwrap_err();
        assert_eq!((error.code(), error.kind()), ("R-MEM-01", crate::ErrorKind::Resources));
        assert!(load(needed).is_ok());
        let several = |questions| {
            let options = cpu.clone().with_memory_limit(needed).with_questions(questions);
            R1SegModel::load_with("demo", &options)
        };
        let Err(Error::NotEnoughMemory { needed: two, .. }) = several(2) else {
            panic!("each question has keys and values of its own")
        };
        let Err(Error::NotEnoughMemory { needed: many, .. }) = several(1000) else {
            panic!("each question has keys and values of its own")
        };
        let at_once = crate::QUESTIONS_AT_ONCE as u64;
        assert_eq!(many - needed, (at_once - 1) * (two - needed));
    }
}
