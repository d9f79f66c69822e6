//! Every tensor of a published checkpoint: key, shape, and what to fill it with.
//!
//! Keys as `R1Seg-3D`, `SegVol`, `SAM-Med3D` and `VISTA3D` save them (without the prefix that `r1seg convert` takes off), the
//! ones that inference never reads included.

use crate::variant::{Clip, Family, Variant};

/// What a tensor holds.
#[derive(Clone, Copy)]
pub(crate) enum Init {
    Constant(f32),
    /// Centered, uniform, with the standard deviation of transformers' `initializer_range`.
    Uniform,
    /// N(0, 1).
    Normal,
}

pub(crate) struct TensorPlan {
    pub(crate) key: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) init: Init,
}

impl TensorPlan {
    pub(crate) fn element_count(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Widths that the reference's mask decoder fixes, whatever the config says.
const DECODER_LAYERS: usize = 2;
const DECODER_MLP: usize = 2048;
const MASK_TOKENS: usize = 4;
const IOU_HIDDEN: usize = 256;
/// `ln(1 / 0.07)`, CLIP's initial temperature.
const LOGIT_SCALE: f32 = 2.659_26;

/// All tensors, in the order of the reference's modules.
pub(crate) fn tensors(variant: &Variant) -> Vec<TensorPlan> {
    match variant.family {
        Family::SegVol | Family::Sam => promptable(variant),
        Family::SamMed3d => crate::sam_med3d::tensors(variant),
        Family::Vista3d => crate::vista3d::tensors(),
        Family::HseNet => crate::hsenet::tensors(variant),
        Family::Phi3 | Family::Llama => language_model(variant),
    }
}

fn promptable(variant: &Variant) -> Vec<TensorPlan> {
    let vision = variant.mm_hidden_size;
    let mut layout = Layout::default();
    layout.image_encoder("image_encoder", variant);
    if variant.family == Family::SegVol {
        layout.position_encoding("prompt_encoder", vision);
        layout.points("prompt_encoder", vision);
    } else {
        layout.prompt_encoder("prompt_encoder", vision);
        for unused in ["mm_vision_proj", "mm_language_proj"] {
            layout.linear(unused, &[vision, vision]);
        }
        layout.push("logit_scale", &[], Init::Constant(LOGIT_SCALE));
    }
    layout.segvol_mask_decoder("mask_decoder", vision, variant.grid());
    layout.text_encoder("text_encoder.clip_text_model.text_model", variant.vocabulary.len());
    layout.linear("text_encoder.dim_align", &[vision, Clip::HIDDEN]);
    layout.0
}

fn language_model(variant: &Variant) -> Vec<TensorPlan> {
    let (hidden, vision) = (variant.hidden_size, variant.mm_hidden_size);
    let vocab = variant.vocabulary.len();
    let mut layout = Layout::default();
    layout.matrix("model.embed_tokens.weight", &[vocab, hidden]);
    for index in 0..variant.num_hidden_layers {
        layout.decoder_layer(&format!("model.layers.{index}"), variant);
    }
    layout.ones("model.norm.weight", &[hidden]);
    layout.image_encoder("model.vision_module.image_encoder", variant);
    layout.prompt_encoder("model.vision_module.prompt_encoder", vision);
    layout.segvol_mask_decoder("model.vision_module.mask_decoder", vision, variant.grid());
    for unused in ["mm_vision_proj", "mm_language_proj"] {
        layout.linear(&format!("model.vision_module.{unused}"), &[vision, vision]);
    }
    layout.push("model.vision_module.logit_scale", &[], Init::Constant(LOGIT_SCALE));
    layout.linear("model.mm_projector.projector.0", &[hidden, vision]);
    layout.linear("model.mm_projector.projector.2", &[hidden, hidden]);
    layout.linear("model.seg_projector.0", &[hidden, hidden]);
    layout.linear("model.seg_projector.2", &[vision, hidden]);
    layout.matrix("lm_head.weight", &[vocab, hidden]);
    layout.0
}

#[derive(Default)]
pub(crate) struct Layout(pub(crate) Vec<TensorPlan>);

impl Layout {
    pub(crate) fn push(&mut self, key: &str, shape: &[usize], init: Init) {
        self.0.push(TensorPlan { key: key.to_owned(), shape: shape.to_vec(), init });
    }

    pub(crate) fn matrix(&mut self, key: &str, shape: &[usize]) {
        self.push(key, shape, Init::Uniform);
    }

    pub(crate) fn ones(&mut self, key: &str, shape: &[usize]) {
        self.push(key, shape, Init::Constant(1.0));
    }

    /// A weight whose first axis is the output's, as in `Linear` and `Conv3d`, and a bias.
    pub(crate) fn linear(&mut self, prefix: &str, shape: &[usize]) {
        self.matrix(&format!("{prefix}.weight"), shape);
        self.push(&format!("{prefix}.bias"), &shape[..1], Init::Constant(0.0));
    }

    /// A `ConvTranspose3d` that doubles each axis: its weight's first axis is the input's.
    fn upscaling(&mut self, prefix: &str, inputs: usize, outputs: usize) {
        self.matrix(&format!("{prefix}.weight"), &[inputs, outputs, 2, 2, 2]);
        self.push(&format!("{prefix}.bias"), &[outputs], Init::Constant(0.0));
    }

    pub(crate) fn layer_norm(&mut self, prefix: &str, shape: &[usize]) {
        self.ones(&format!("{prefix}.weight"), shape);
        self.push(&format!("{prefix}.bias"), shape, Init::Constant(0.0));
    }

    /// Linear layers from each width to the next.
    fn mlp(&mut self, prefix: &str, widths: [usize; 4]) {
        for (index, pair) in widths.windows(2).enumerate() {
            self.linear(&format!("{prefix}.layers.{index}"), &[pair[1], pair[0]]);
        }
    }

    pub(crate) fn decoder_layer(&mut self, prefix: &str, variant: &Variant) {
        let (hidden, inner) = (variant.hidden_size, variant.intermediate_size);
        let queries = variant.num_attention_heads * variant.head_dim();
        let keys = variant.num_key_value_heads * variant.head_dim();
        self.matrix(&format!("{prefix}.self_attn.o_proj.weight"), &[hidden, queries]);
        self.matrix(&format!("{prefix}.mlp.down_proj.weight"), &[hidden, inner]);
        let inputs: &[(&str, usize)] = match variant.family {
            Family::Phi3 | Family::HseNet => {
                &[("self_attn.qkv_proj", queries + 2 * keys), ("mlp.gate_up_proj", 2 * inner)]
            }
            Family::Llama => &[
                ("self_attn.q_proj", queries),
                ("self_attn.k_proj", keys),
                ("self_attn.v_proj", keys),
                ("mlp.gate_proj", inner),
                ("mlp.up_proj", inner),
            ],
            Family::SegVol | Family::Sam | Family::SamMed3d | Family::Vista3d => &[],
        };
        for (name, outputs) in inputs {
            self.matrix(&format!("{prefix}.{name}.weight"), &[*outputs, hidden]);
        }
        self.ones(&format!("{prefix}.input_layernorm.weight"), &[hidden]);
        self.ones(&format!("{prefix}.post_attention_layernorm.weight"), &[hidden]);
    }

    pub(crate) fn image_encoder(&mut self, prefix: &str, variant: &Variant) {
        let (width, mlp_dim) = (variant.mm_hidden_size, variant.vit.mlp_dim);
        let patches = variant.grid().iter().product();
        let voxels = variant.patch_size.iter().product();
        let embedding = format!("{prefix}.patch_embedding");
        self.matrix(&format!("{embedding}.position_embeddings"), &[1, patches, width]);
        // nn.Sequential: 0 is the rearrangement into patches, which has no weights.
        self.linear(&format!("{embedding}.patch_embeddings.1"), &[width, voxels]);
        for index in 0..variant.vit.num_layers {
            let block = format!("{prefix}.blocks.{index}");
            self.layer_norm(&format!("{block}.norm1"), &[width]);
            self.matrix(&format!("{block}.attn.qkv.weight"), &[3 * width, width]);
            self.linear(&format!("{block}.attn.out_proj"), &[width, width]);
            self.layer_norm(&format!("{block}.norm2"), &[width]);
            self.linear(&format!("{block}.mlp.linear1"), &[mlp_dim, width]);
            self.linear(&format!("{block}.mlp.linear2"), &[width, mlp_dim]);
        }
        self.layer_norm(&format!("{prefix}.norm"), &[width]);
    }

    fn position_encoding(&mut self, prefix: &str, width: usize) {
        let matrix = format!("{prefix}.pe_layer.positional_encoding_gaussian_matrix");
        self.push(&matrix, &[3, width / 2], Init::Normal);
        self.matrix(&format!("{prefix}.no_mask_embed.weight"), &[1, width]);
    }

    /// SegVol's, with the layers of SAM that no 3D mask goes through.
    fn points(&mut self, prefix: &str, width: usize) {
        for kind in 0..4 {
            self.matrix(&format!("{prefix}.point_embeddings.{kind}.weight"), &[1, width]);
        }
        self.matrix(&format!("{prefix}.not_a_point_embed.weight"), &[1, width]);
        let downscaling = format!("{prefix}.mask_downscaling");
        self.linear(&format!("{downscaling}.0"), &[4, 1, 2, 2]);
        self.layer_norm(&format!("{downscaling}.1"), &[4]);
        self.linear(&format!("{downscaling}.3"), &[16, 4, 2, 2]);
        self.layer_norm(&format!("{downscaling}.4"), &[16]);
        self.linear(&format!("{downscaling}.6"), &[width, 16, 1, 1]);
    }

    /// CLIP ViT-B/32's.
    fn text_encoder(&mut self, prefix: &str, vocab: usize) {
        let width = Clip::HIDDEN;
        let table = |name: &str| format!("{prefix}.embeddings.{name}.weight");
        self.matrix(&table("token_embedding"), &[vocab, width]);
        self.matrix(&table("position_embedding"), &[Clip::POSITIONS, width]);
        for index in 0..Clip::LAYERS {
            let layer = format!("{prefix}.encoder.layers.{index}");
            for name in ["q_proj", "k_proj", "v_proj", "out_proj"] {
                self.linear(&format!("{layer}.self_attn.{name}"), &[width, width]);
            }
            self.layer_norm(&format!("{layer}.layer_norm1"), &[width]);
            self.linear(&format!("{layer}.mlp.fc1"), &[4 * width, width]);
            self.linear(&format!("{layer}.mlp.fc2"), &[width, 4 * width]);
            self.layer_norm(&format!("{layer}.layer_norm2"), &[width]);
        }
        self.layer_norm(&format!("{prefix}.final_layer_norm"), &[width]);
    }

    fn prompt_encoder(&mut self, prefix: &str, width: usize) {
        self.position_encoding(prefix, width);
        // nn.Sequential: 2 and 5 are GELU.
        let downscaling = format!("{prefix}.mask3D_downscaling");
        self.linear(&format!("{downscaling}.0"), &[4, 1, 2, 2, 2]);
        self.layer_norm(&format!("{downscaling}.1"), &[4]);
        self.linear(&format!("{downscaling}.3"), &[16, 4, 2, 2, 2]);
        self.layer_norm(&format!("{downscaling}.4"), &[16]);
        self.linear(&format!("{downscaling}.6"), &[width, 16, 1, 1, 1]);
    }

    /// SegVol's, which compares voxels with a text.
    fn segvol_mask_decoder(&mut self, prefix: &str, width: usize, grid: [usize; 3]) {
        // The norm spans channels and the doubled grid.
        let [d, h, w] = grid.map(|cells| 2 * cells);
        self.mask_decoder(prefix, width, &[width / 4, d, h, w]);
        self.linear(&format!("{prefix}.txt_align_upscaled_embedding"), &[width / 8, width]);
    }

    /// `norm` is the shape of that behind the first upscaling.
    pub(crate) fn mask_decoder(&mut self, prefix: &str, width: usize, norm: &[usize]) {
        self.matrix(&format!("{prefix}.iou_token.weight"), &[1, width]);
        self.matrix(&format!("{prefix}.mask_tokens.weight"), &[MASK_TOKENS, width]);
        let transformer = format!("{prefix}.transformer");
        for index in 0..DECODER_LAYERS {
            let layer = format!("{transformer}.layers.{index}");
            self.attention(&format!("{layer}.self_attn"), width, width);
            self.attention(&format!("{layer}.cross_attn_token_to_image"), width, width / 2);
            self.attention(&format!("{layer}.cross_attn_image_to_token"), width, width / 2);
            self.linear(&format!("{layer}.mlp.lin1"), &[DECODER_MLP, width]);
            self.linear(&format!("{layer}.mlp.lin2"), &[width, DECODER_MLP]);
            for norm in 1..=4 {
                self.layer_norm(&format!("{layer}.norm{norm}"), &[width]);
            }
        }
        self.attention(&format!("{transformer}.final_attn_token_to_image"), width, width / 2);
        self.layer_norm(&format!("{transformer}.norm_final_attn"), &[width]);
        // nn.Sequential: 2 and 4 are GELU.
        let upscaling = format!("{prefix}.output_upscaling");
        self.upscaling(&format!("{upscaling}.0"), width, width / 4);
        self.layer_norm(&format!("{upscaling}.1"), norm);
        self.upscaling(&format!("{upscaling}.3"), width / 4, width / 8);
        for index in 0..MASK_TOKENS {
            let hypernetwork = format!("{prefix}.output_hypernetworks_mlps.{index}");
            self.mlp(&hypernetwork, [width, width, width, width / 8]);
        }
        let iou_head = format!("{prefix}.iou_prediction_head");
        self.mlp(&iou_head, [width, IOU_HIDDEN, IOU_HIDDEN, MASK_TOKENS]);
    }

    /// SAM's attention, which may work in a narrower width than its tokens have.
    fn attention(&mut self, prefix: &str, width: usize, inner: usize) {
        for name in ["q_proj", "k_proj", "v_proj"] {
            self.linear(&format!("{prefix}.{name}"), &[inner, width]);
        }
        self.linear(&format!("{prefix}.out_proj"), &[width, inner]);
    }
}
