//! What a model needs of the machine's memory.

use r1seg_text_encoder::ClipTextConfig;

use crate::m3d_clip::M3dClipConfig;
use crate::promptable::PromptableConfig;
use crate::{ModelConfig, QUESTIONS_AT_ONCE};

/// Tokens of a question and its answer that are reckoned with.
const WORDS: usize = 64;

/// Bytes to keep weights of `weights` bytes on a CPU and to answer short questions with them, asked
/// at once as far as that goes, all activations in f32. A full-size Phi-3 checkpoint in bf16 was
/// measured at 99% of it for one question.
pub(crate) fn needed(config: &ModelConfig, weights: u64, questions: usize) -> u64 {
    // The keys and values of the image are kept beside those of each question about it.
    let caches = 1 + questions.min(QUESTIONS_AT_ONCE);
    let cache = config.decoder.cache_bytes(config.mm_projector.num_tokens() + WORDS);
    let vision = config.vit.working_bytes().max(config.mask_head.working_bytes());
    weights.saturating_add(cache.saturating_mul(caches as u64)).saturating_add(vision)
}

/// The same for a model that takes prompts and segments.
pub(crate) fn needed_to_segment(config: &PromptableConfig, weights: u64) -> u64 {
    let vision = config.image_encoder.working_bytes().max(config.mask_head.working_bytes());
    let text = config.text.as_ref().map_or(0, ClipTextConfig::working_bytes);
    weights.saturating_add(vision.max(text))
}

/// The same for a model that embeds volumes and texts.
pub(crate) fn needed_to_embed(config: &M3dClipConfig, weights: u64) -> u64 {
    weights.saturating_add(config.vit.working_bytes().max(config.text.working_bytes()))
}

/// The same on a GPU, where activations, `activations` bytes in f32, have the weights' dtype of `size`
/// bytes, and attention scores are in memory, of which `scores`, the vision transformer's, are the most. The demo model allocates 93% of it in f32 and 97% in
/// bf16, the context left out, which was not measured.
pub(crate) fn needed_on_gpu(scores: u64, activations: u64, weights: u64, size: u64) -> u64 {
    /// What a context, its kernels and cuBLAS keep.
    const CONTEXT: u64 = 512 << 20;
    let needed = weights.saturating_add(activations / 4 * size);
    needed.saturating_add(scores).saturating_add(CONTEXT)
}

#[cfg(test)]
mod tests {
    use crate::{DeviceChoice, Error, LoadOptions, R1SegModel};

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
