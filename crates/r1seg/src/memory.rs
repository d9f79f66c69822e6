//! What a model needs of the machine's memory.

use r1seg_nn::MAX_SCORES;
use r1seg_vit3d::Vit3dConfig;

use crate::{ModelConfig, QUESTIONS_AT_ONCE};

/// Tokens of a question and its answer that are reckoned with.
const WORDS: usize = 64;
/// Maps of the mask decoder that live at the same time.
const MASK_MAPS: u64 = 3;

/// Bytes to keep weights of `weights` bytes on a CPU and to answer short questions with them, asked
/// at once as far as that goes, all activations in f32. A full-size Phi-3 checkpoint in bf16 was
/// measured at 99% of it for one question.
pub(crate) fn needed(config: &ModelConfig, weights: u64, questions: usize) -> u64 {
    let llm = &config.decoder;
    // The keys and values of the image are kept beside those of each question about it.
    let caches = 1 + questions.min(QUESTIONS_AT_ONCE);
    let positions = config.mm_projector.num_tokens() + WORDS;
    let kv_width = llm.num_key_value_heads * llm.head_dim;
    let cache = floats(&[caches, 2, llm.num_hidden_layers, positions, kv_width]);
    weights.saturating_add(cache).saturating_add(vision(&config.vit).max(masks(&config.vit)))
}

/// The same for a model that only looks and segments.
pub(crate) fn needed_to_segment(vit: &Vit3dConfig, weights: u64) -> u64 {
    weights.saturating_add(vision(vit).max(masks(vit)))
}

/// The same for a model that only looks.
pub(crate) fn needed_to_look(vit: &Vit3dConfig, weights: u64) -> u64 {
    weights.saturating_add(vision(vit))
}

/// Bytes of so many floats along each axis.
fn floats(sizes: &[usize]) -> u64 {
    sizes.iter().fold(4_u64, |n, s| n.saturating_mul(*s as u64))
}

fn vision(vit: &Vit3dConfig) -> u64 {
    floats(&[vit.num_patches(), 2 * vit.mlp_dim + 8 * vit.hidden_size])
}

fn masks(vit: &Vit3dConfig) -> u64 {
    let [d, h, w] = vit.image_size;
    // Maps have a quarter of the grid's height and width, and an eighth of the channels.
    let map = floats(&[d, h / 4, w / 4, vit.hidden_size / 8]);
    map.saturating_mul(MASK_MAPS).saturating_add(floats(&[2, d, h, w]))
}

/// The same on a GPU, where activations, `activations` bytes in f32, have the weights' dtype of `size`
/// bytes, and attention scores are in memory. The demo model allocates 93% of it in f32 and 97% in
/// bf16, the context left out, which was not measured.
pub(crate) fn needed_on_gpu(vit: &Vit3dConfig, activations: u64, weights: u64, size: u64) -> u64 {
    /// What a context, its kernels and cuBLAS keep.
    const CONTEXT: u64 = 512 << 20;
    let needed = weights.saturating_add(activations / 4 * size);
    needed.saturating_add(scores(vit)).saturating_add(CONTEXT)
}

/// The attention scores of the vision transformer, the longest sequence: as many heads at once as
/// [`MAX_SCORES`] allows, and one in any case.
fn scores(vit: &Vit3dConfig) -> u64 {
    /// As computed, scaled, as powers and as weights; a copy in half precision counts as a half.
    const COPIES: usize = 4;
    let head = vit.num_patches().saturating_mul(vit.num_patches());
    let heads = (MAX_SCORES / head.max(1)).clamp(1, vit.num_heads.max(1));
    floats(&[COPIES, heads, head])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DeviceChoice, Error, LoadOptions, R1SegModel};

    #[test]
    fn attention_scores_on_a_gpu_count_as_many_heads_as_one_pass_takes() {
        let vit = |patches: usize, num_heads: usize| Vit3dConfig {
            image_size: [patches, 1, 1],
            patch_size: [1, 1, 1],
            in_channels: 1,
            hidden_size: 12,
            mlp_dim: 12,
            num_layers: 1,
            num_heads,
            cls_token: false,
        };
        let copies = 4 * 4;
        assert_eq!(scores(&vit(64, 12)), copies * 12 * 64 * 64);
        assert_eq!(scores(&vit(2048, 12)), copies * 4 * 2048 * 2048);
        assert_eq!(scores(&vit(16384, 12)), copies * 16384 * 16384);
        let with_scores = needed_on_gpu(&vit(2048, 12), 0, 0, 2);
        assert_eq!(with_scores - needed_on_gpu(&vit(0, 12), 0, 0, 2), scores(&vit(2048, 12)));
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
