//! SAM-Med3D: windows with relative positions, and a decoder of half the width.

use crate::layout::{Init, Layout, TensorPlan};
use crate::variant::Variant;

/// Constants of `vit_b_ori` in the authors' registry.
const PROMPT_WIDTH: usize = 384;
const WINDOW: usize = 14;
const GLOBAL_BLOCKS: [usize; 4] = [2, 5, 8, 11];
const MASK_CHANNELS: usize = 16;

pub(crate) fn tensors(variant: &Variant) -> Vec<TensorPlan> {
    let mut layout = Layout::default();
    image_encoder(&mut layout, variant);
    prompt_encoder(&mut layout);
    layout.mask_decoder("mask_decoder", PROMPT_WIDTH, &[PROMPT_WIDTH / 4]);
    layout.0
}

fn image_encoder(layout: &mut Layout, variant: &Variant) {
    let (width, mlp_dim) = (variant.mm_hidden_size, variant.vit.mlp_dim);
    let ([side, ..], [patch, ..]) = (variant.grid(), variant.patch_size);
    layout.linear("image_encoder.patch_embed.proj", &[width, 1, patch, patch, patch]);
    layout.matrix("image_encoder.pos_embed", &[1, side, side, side, width]);
    for index in 0..variant.vit.num_layers {
        let block = format!("image_encoder.blocks.{index}");
        let reach = if GLOBAL_BLOCKS.contains(&index) { side } else { WINDOW };
        layout.layer_norm(&format!("{block}.norm1"), &[width]);
        layout.linear(&format!("{block}.attn.qkv"), &[3 * width, width]);
        layout.linear(&format!("{block}.attn.proj"), &[width, width]);
        for axis in ["d", "h", "w"] {
            let head = width / variant.vit.num_heads;
            layout.matrix(&format!("{block}.attn.rel_pos_{axis}"), &[2 * reach - 1, head]);
        }
        layout.layer_norm(&format!("{block}.norm2"), &[width]);
        layout.linear(&format!("{block}.mlp.lin1"), &[mlp_dim, width]);
        layout.linear(&format!("{block}.mlp.lin2"), &[width, mlp_dim]);
    }
    layout.matrix("image_encoder.neck.0.weight", &[PROMPT_WIDTH, width, 1, 1, 1]);
    layout.layer_norm("image_encoder.neck.1", &[PROMPT_WIDTH]);
    layout.matrix("image_encoder.neck.2.weight", &[PROMPT_WIDTH, PROMPT_WIDTH, 3, 3, 3]);
    layout.layer_norm("image_encoder.neck.3", &[PROMPT_WIDTH]);
}

fn prompt_encoder(layout: &mut Layout) {
    let encoder = "prompt_encoder";
    let gaussian = format!("{encoder}.pe_layer.positional_encoding_gaussian_matrix");
    layout.push(&gaussian, &[3, PROMPT_WIDTH / 3], Init::Normal);
    for kind in ["point_embeddings.0", "point_embeddings.1", "not_a_point_embed", "no_mask_embed"] {
        layout.matrix(&format!("{encoder}.{kind}.weight"), &[1, PROMPT_WIDTH]);
    }
    // nn.Sequential: 2 and 5 are GELU.
    let downscaling = format!("{encoder}.mask_downscaling");
    layout.linear(&format!("{downscaling}.0"), &[MASK_CHANNELS / 4, 1, 2, 2, 2]);
    layout.layer_norm(&format!("{downscaling}.1"), &[MASK_CHANNELS / 4]);
    layout.linear(&format!("{downscaling}.3"), &[MASK_CHANNELS, MASK_CHANNELS / 4, 2, 2, 2]);
    layout.layer_norm(&format!("{downscaling}.4"), &[MASK_CHANNELS]);
    layout.linear(&format!("{downscaling}.6"), &[PROMPT_WIDTH, MASK_CHANNELS, 1, 1, 1]);
}
