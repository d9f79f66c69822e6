//! VISTA3D: an encoder of convolutions, two decoders, a head for classes and one for points.

use crate::layout::{Init, Layout, TensorPlan};

/// Constants of `vista3d132` in MONAI.
const WIDTH: usize = 48;
const BLOCKS: [usize; 5] = [1, 2, 2, 4, 4];
const CLASSES: usize = 512;
const POINT_MLP: usize = 512;

pub(crate) fn tensors() -> Vec<TensorPlan> {
    let mut layout = Layout::default();
    encoder(&mut layout, "image_encoder.encoder");
    for decoder in ["up_layers", "up_layers_auto"] {
        for level in 0..BLOCKS.len() - 1 {
            let up = format!("image_encoder.{decoder}.{level}");
            let outputs = WIDTH << (BLOCKS.len() - 2 - level);
            kernel(&mut layout, &format!("{up}.upsample.deconv"), [2 * outputs, outputs]);
            block(&mut layout, &format!("{up}.blocks.0"), outputs);
        }
        let head = format!("image_encoder.{decoder}.{}.head", BLOCKS.len() - 2);
        layout.linear(&head, &[WIDTH, WIDTH, 1, 1, 1]);
    }
    layout.push("class_head.class_embeddings.weight", &[CLASSES, WIDTH], Init::Normal);
    for index in [0, 3] {
        layout.linear(&format!("class_head.mlp.{index}"), &[WIDTH, WIDTH]);
    }
    for (index, conv) in [(0, 1), (0, 2), (1, 1), (1, 2)] {
        let mapping = format!("class_head.image_post_mapping.{index}.layer.conv{conv}.conv");
        kernel(&mut layout, &mapping, [WIDTH; 2]);
    }
    point_head(&mut layout, "point_head");
    layout.0
}

/// A neighborhood without a bias.
fn kernel(layout: &mut Layout, prefix: &str, [first, second]: [usize; 2]) {
    layout.matrix(&format!("{prefix}.weight"), &[first, second, 3, 3, 3]);
}

fn block(layout: &mut Layout, prefix: &str, channels: usize) {
    for index in 1..=2 {
        layout.layer_norm(&format!("{prefix}.norm{index}"), &[channels]);
        kernel(layout, &format!("{prefix}.conv{index}"), [channels; 2]);
    }
}

fn encoder(layout: &mut Layout, prefix: &str) {
    kernel(layout, &format!("{prefix}.conv_init"), [WIDTH, 1]);
    for (level, blocks) in BLOCKS.into_iter().enumerate() {
        let (layer, channels) = (format!("{prefix}.layers.{level}"), WIDTH << level);
        for index in 0..blocks {
            block(layout, &format!("{layer}.blocks.{index}"), channels);
        }
        if level + 1 < BLOCKS.len() {
            kernel(layout, &format!("{layer}.downsample"), [2 * channels, channels]);
        }
    }
}

fn point_head(layout: &mut Layout, head: &str) {
    for part in ["feat_downsample.0", "feat_downsample.3"] {
        layout.linear(&format!("{head}.{part}"), &[WIDTH, WIDTH, 3, 3, 3]);
    }
    let gaussian = format!("{head}.pe_layer.positional_encoding_gaussian_matrix");
    layout.push(&gaussian, &[3, WIDTH / 2], Init::Normal);
    for token in [
        "point_embeddings.0",
        "point_embeddings.1",
        "not_a_point_embed",
        "special_class_embed",
        "mask_tokens",
        "supported_embed",
        "zeroshot_embed",
    ] {
        layout.matrix(&format!("{head}.{token}.weight"), &[1, WIDTH]);
    }
    let transformer = format!("{head}.transformer");
    let attention = |layout: &mut Layout, prefix: &str, inner: usize| {
        for projection in ["q_proj", "k_proj", "v_proj"] {
            layout.linear(&format!("{prefix}.{projection}"), &[inner, WIDTH]);
        }
        layout.linear(&format!("{prefix}.out_proj"), &[WIDTH, inner]);
    };
    for index in 0..2 {
        let layer = format!("{transformer}.layers.{index}");
        attention(layout, &format!("{layer}.self_attn"), WIDTH);
        for cross in ["cross_attn_token_to_image", "cross_attn_image_to_token"] {
            attention(layout, &format!("{layer}.{cross}"), WIDTH / 2);
        }
        for norm in 1..=4 {
            layout.layer_norm(&format!("{layer}.norm{norm}"), &[WIDTH]);
        }
        layout.linear(&format!("{layer}.mlp.linear1"), &[POINT_MLP, WIDTH]);
        layout.linear(&format!("{layer}.mlp.linear2"), &[WIDTH, POINT_MLP]);
    }
    attention(layout, &format!("{transformer}.final_attn_token_to_image"), WIDTH / 2);
    layout.layer_norm(&format!("{transformer}.norm_final_attn"), &[WIDTH]);
    for part in ["output_upscaling.0", "output_upscaling.3"] {
        layout.linear(&format!("{head}.{part}"), &[WIDTH, WIDTH, 3, 3, 3]);
    }
    for index in 0..3 {
        let mlp = format!("{head}.output_hypernetworks_mlps.layers.{index}");
        layout.linear(&mlp, &[WIDTH, WIDTH]);
    }
    // These two are never read.
    layout.linear(&format!("{head}.mask_downsample"), &[2, 2, 3, 3, 3]);
    layout.push(&format!("{head}.class_embeddings.weight"), &[CLASSES, WIDTH], Init::Normal);
}
