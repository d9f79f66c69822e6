//! HSENet as `r1seg convert` joins it: a Phi-4-mini, two vision transformers with a packer each, and the trunk
//! of BiomedCLIP.

use serde_json::{Value, json};

use crate::layout::{Layout, TensorPlan};
use crate::variant::Variant;

/// Patches of a slice of 224 x 224 pixels, and its class token.
const SLICE_TOKENS: usize = 197;

pub(crate) fn tensors(variant: &Variant) -> Vec<TensorPlan> {
    let (hidden, vision) = (variant.hidden_size, variant.mm_hidden_size);
    let mut layout = Layout::default();
    layout.matrix("model.embed_tokens.weight", &[variant.vocabulary.len(), hidden]);
    for index in 0..variant.num_hidden_layers {
        layout.decoder_layer(&format!("model.layers.{index}"), variant);
    }
    layout.ones("model.norm.weight", &[hidden]);
    for (stage, projector) in [(1, "model.mm_projector"), (2, "model.mm_projector2")] {
        let tower = format!("model.vision_tower.vision_tower_stage{stage}");
        layout.matrix(&format!("{tower}.cls_token"), &[1, 1, vision]);
        layout.image_encoder(&tower, variant);
        if stage == 2 {
            cross_attention(&mut layout, &format!("{tower}.slice_guided_attention"), vision);
            layout.linear(&format!("{tower}.patch_score_proj"), &[1, vision]);
        }
        cross_attention(&mut layout, &format!("{projector}.resolution_attention"), vision);
        layout.linear(&format!("{projector}.proj_mpls.0"), &[hidden, vision]);
        layout.linear(&format!("{projector}.proj_mpls.2"), &[hidden, hidden]);
    }
    slice_encoder(&mut layout, "model.slice_encoder", variant);
    layout.0
}

fn cross_attention(layout: &mut Layout, prefix: &str, width: usize) {
    for name in ["Wq", "Wk", "Wv", "output_linear"] {
        layout.linear(&format!("{prefix}.{name}"), &[width, width]);
    }
    layout.layer_norm(&format!("{prefix}.norm"), &[width]);
}

/// timm's `vit_base_patch16_224`.
fn slice_encoder(layout: &mut Layout, prefix: &str, variant: &Variant) {
    let (width, mlp_dim) = (variant.mm_hidden_size, variant.vit.mlp_dim);
    layout.matrix(&format!("{prefix}.cls_token"), &[1, 1, width]);
    layout.matrix(&format!("{prefix}.pos_embed"), &[1, SLICE_TOKENS, width]);
    layout.linear(&format!("{prefix}.patch_embed.proj"), &[width, 3, 16, 16]);
    for index in 0..variant.vit.num_layers {
        let block = format!("{prefix}.blocks.{index}");
        layout.layer_norm(&format!("{block}.norm1"), &[width]);
        layout.linear(&format!("{block}.attn.qkv"), &[3 * width, width]);
        layout.linear(&format!("{block}.attn.proj"), &[width, width]);
        layout.layer_norm(&format!("{block}.norm2"), &[width]);
        layout.linear(&format!("{block}.mlp.fc1"), &[mlp_dim, width]);
        layout.linear(&format!("{block}.mlp.fc2"), &[width, mlp_dim]);
    }
    layout.layer_norm(&format!("{prefix}.norm"), &[width]);
}

/// What `config.json` has beside the language model's fields.
pub(crate) fn config(variant: &Variant) -> Value {
    let half = variant.head_dim() * 3 / 4 / 2;
    // From 1 to 47.77, as the published factors grow.
    let long: Vec<f64> = (0..half).map(|n| 47.77f64.powf(n as f64 / (half - 1) as f64)).collect();
    let [_, height, width] = variant.grid();
    json!({
        "architectures": ["LamedPhi3ForCausalLM"],
        "model_type": "hsenet_phi4",
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "max_position_embeddings": 131_072,
        "original_max_position_embeddings": 4096,
        "partial_rotary_factor": 0.75,
        "rope_theta": 10000.0,
        "rope_scaling": { "type": "longrope", "short_factor": vec![1.0; half], "long_factor": long },
        "sliding_window": 262_144,
        "tie_word_embeddings": true,
        "image_channel": 1,
        "image_size": variant.img_size,
        "patch_size": variant.patch_size,
        "vision_tower": "vit_stage2_dual_encoders",
        "remain_2d3d_ViT_type": "dual_vits",
        "vision_select_layer": -1,
        "vision_select_feature": "patch",
        "mm_hidden_size": variant.mm_hidden_size,
        "num_layers": variant.vit.num_layers,
        "num_heads": variant.vit.num_heads,
        "mlp_dim": variant.vit.mlp_dim,
        "mm_projector_type": "VisualPacker_3d_phi_v3",
        "use_parallel_projector": true,
        "proj_kernel_size": [1, 4, 4],
        "proj_out_num": 2 * variant.grid()[0] * (height / 4) * (width / 4),
        "num_slices": 32,
        "seg_token_id": variant.vocabulary.seg(),
        "slice_encoder": {
            "image_size": 224,
            "patch_size": 16,
            "hidden_size": variant.mm_hidden_size,
            "num_layers": variant.vit.num_layers,
            "num_heads": 12,
            "mlp_dim": variant.vit.mlp_dim,
        },
    })
}
