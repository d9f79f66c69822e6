//! Widths of the published models, and `config.json` as their authors save it.

use serde_json::{Value, json};

use crate::tokenizer::Vocabulary;
use crate::weights::WeightDtype;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// Fused `qkv_proj` and `gate_up_proj`.
    Phi3,
    /// Split projections.
    Llama,
    /// No language model: SegVol.
    SegVol,
    /// No language model: R1Seg-3D-SAM.
    Sam,
    /// Neither a language model nor a text encoder: SAM-Med3D.
    SamMed3d,
    Vista3d,
    /// Two vision transformers and a Phi-4-mini: HSENet.
    HseNet,
}

/// Widths of CLIP ViT-B/32's text encoder.
pub(crate) struct Clip;

impl Clip {
    pub(crate) const HIDDEN: usize = 512;
    pub(crate) const LAYERS: usize = 12;
    pub(crate) const POSITIONS: usize = 77;
}

/// Widths of the image encoder that a published config leaves to the reference's defaults.
#[derive(PartialEq, Eq)]
pub(crate) struct VitWidths {
    pub(crate) mlp_dim: usize,
    pub(crate) num_layers: usize,
    pub(crate) num_heads: usize,
}

const VIT_DEFAULTS: VitWidths = VitWidths { mlp_dim: 3072, num_layers: 12, num_heads: 12 };

pub(crate) struct Variant {
    pub(crate) family: Family,
    pub(crate) hidden_size: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) num_key_value_heads: usize,
    sliding_window: Option<usize>,
    pub(crate) vocabulary: Vocabulary,
    pub(crate) img_size: [usize; 3],
    pub(crate) patch_size: [usize; 3],
    pub(crate) mm_hidden_size: usize,
    pub(crate) vit: VitWidths,
}

/// On Phi-3-mini-4k-instruct.
const PHI3_MINI: Variant = Variant {
    family: Family::Phi3,
    hidden_size: 3072,
    intermediate_size: 8192,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: 32,
    sliding_window: Some(2047),
    vocabulary: Vocabulary::PHI3,
    img_size: [32, 256, 256],
    patch_size: [4, 16, 16],
    mm_hidden_size: 768,
    vit: VIT_DEFAULTS,
};

/// On the base model Llama-3.1-8B.
const LLAMA31_8B: Variant = Variant {
    family: Family::Llama,
    hidden_size: 4096,
    intermediate_size: 14336,
    num_key_value_heads: 8,
    sliding_window: None,
    vocabulary: Vocabulary::LLAMA3,
    ..PHI3_MINI
};

const SEGVOL: Variant = Variant {
    family: Family::SegVol,
    num_hidden_layers: 0,
    vocabulary: Vocabulary::CLIP,
    ..PHI3_MINI
};

const R1SEG_3D_SAM: Variant = Variant { family: Family::Sam, ..SEGVOL };

const SAM_MED3D: Variant =
    Variant { family: Family::SamMed3d, img_size: [128; 3], patch_size: [16; 3], ..SEGVOL };

/// NVIDIA publishes it as NV-Segment-CT. Its sizes are those of its module.
const VISTA3D: Variant = Variant { family: Family::Vista3d, ..SAM_MED3D };

/// On Phi-4-mini-instruct.
const HSENET: Variant = Variant {
    family: Family::HseNet,
    num_attention_heads: 24,
    num_key_value_heads: 8,
    vocabulary: Vocabulary::PHI4_MINI,
    ..PHI3_MINI
};

/// A Phi-3 in which everything is small.
const TINY: Variant = Variant {
    hidden_size: 64,
    intermediate_size: 96,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 4,
    sliding_window: None,
    vocabulary: Vocabulary::SMALL,
    img_size: [16, 64, 64],
    mm_hidden_size: 48,
    vit: VitWidths { mlp_dim: 64, num_layers: 2, num_heads: 4 },
    ..PHI3_MINI
};

impl Variant {
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        match name {
            "phi3-mini" => Some(PHI3_MINI),
            "llama31-8b" => Some(LLAMA31_8B),
            "segvol" => Some(SEGVOL),
            "r1seg-3dsam" => Some(R1SEG_3D_SAM),
            "sam-med3d" => Some(SAM_MED3D),
            "vista3d" => Some(VISTA3D),
            "hsenet" => Some(HSENET),
            "tiny" => Some(TINY),
            _ => None,
        }
    }

    pub(crate) fn has_language_model(&self) -> bool {
        matches!(self.family, Family::Phi3 | Family::Llama | Family::HseNet)
    }

    pub(crate) fn reads_words(&self) -> bool {
        !matches!(self.family, Family::SamMed3d | Family::Vista3d)
    }

    pub(crate) fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// Patches along each axis, `[D, H, W]`.
    pub(crate) fn grid(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.img_size[axis] / self.patch_size[axis])
    }

    pub(crate) fn config(&self, dtype: WeightDtype) -> Value {
        let family = match self.family {
            Family::SegVol => {
                return json!({
                    "model_type": "segvol",
                    "spatial_size": self.img_size,
                    "patch_size": self.patch_size,
                    "test_mode": true,
                });
            }
            Family::Sam => {
                return json!({
                    "model_type": "r1seg-3dsam",
                    "img_size": self.img_size,
                    "patch_size": self.patch_size,
                    "num_clicks": 1,
                    "need_text_en": true,
                });
            }
            // Its sizes are the defaults.
            Family::SamMed3d => return json!({ "model_type": "sam_med3d" }),
            Family::Vista3d => return json!({ "model_type": "vista3d" }),
            Family::HseNet => {
                return merged([self.language_model_config(dtype), crate::hsenet::config(self)]);
            }
            Family::Phi3 => json!({
                "architectures": ["LamedPhi3ForCausalLMCrossA"],
                "model_type": "lamed_phi3_cross",
                "embd_pdrop": 0.0,
                "resid_pdrop": 0.0,
                "max_position_embeddings": 4096,
                "original_max_position_embeddings": 4096,
                "rope_theta": 10000.0,
                "rope_scaling": null,
                "sliding_window": self.sliding_window,
            }),
            Family::Llama => json!({
                "architectures": ["LamedLlamaForCausalLM"],
                "model_type": "lamed_llama",
                "head_dim": self.head_dim(),
                "mlp_bias": false,
                "pretraining_tp": 1,
                "max_position_embeddings": 131072,
                "rope_theta": 500000.0,
                "rope_scaling": {
                    "rope_type": "llama3",
                    "factor": 8.0,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 8192,
                },
            }),
        };
        let vit = match &self.vit {
            &VIT_DEFAULTS => json!({}),
            vit => json!({
                "mlp_dim": vit.mlp_dim,
                "num_layers": vit.num_layers,
                "num_heads": vit.num_heads,
            }),
        };
        merged([self.language_model_config(dtype), family, self.vision_config(), vit])
    }

    /// What both families say alike.
    fn language_model_config(&self, dtype: WeightDtype) -> Value {
        json!({
            "attention_bias": false,
            "attention_dropout": 0.0,
            "bos_token_id": self.vocabulary.bos,
            "eos_token_id": self.vocabulary.eos,
            "pad_token_id": self.vocabulary.pad,
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "initializer_range": 0.02,
            "intermediate_size": self.intermediate_size,
            "num_attention_heads": self.num_attention_heads,
            "num_hidden_layers": self.num_hidden_layers,
            "num_key_value_heads": self.num_key_value_heads,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": false,
            "torch_dtype": dtype.torch_name(),
            "transformers_version": "4.46.3",
            "use_cache": false,
            "vocab_size": self.vocabulary.len(),
        })
    }

    fn vision_config(&self) -> Value {
        json!({
            "img_size": self.img_size,
            "patch_size": self.patch_size,
            "image_channel": 1,
            "mm_hidden_size": self.mm_hidden_size,
            "mm_projector_type": "spp",
            "proj_layer_type": "mlp",
            "proj_layer_num": 2,
            "proj_pooling_type": "spatial",
            "proj_pooling_size": 2,
            "vision_module": "vit3dseg",
            "vision_select_layer": -1,
            "vision_select_feature": "patch",
            "num_clicks": 2,
            "need_text_en": false,
            "test_mode": false,
            "seg_token_id": self.vocabulary.seg(),
        })
    }

    pub(crate) fn generation_config(&self) -> Value {
        let Vocabulary { bos, eos, also_ends, pad, .. } = self.vocabulary;
        let eos = match also_ends {
            [] => json!(eos),
            more => json!([&[eos], more].concat()),
        };
        let ids = json!({
            "_from_model_config": true,
            "bos_token_id": bos,
            "eos_token_id": eos,
            "pad_token_id": pad,
            "transformers_version": "4.46.3",
        });
        let sampling = match self.family {
            // The base model's own.
            Family::Llama => json!({ "do_sample": true, "temperature": 0.6, "top_p": 0.9 }),
            _ => json!({}),
        };
        merged([ids, sampling])
    }
}

/// One object with the fields of all; a later field replaces an earlier one.
fn merged<const N: usize>(objects: [Value; N]) -> Value {
    let maps = objects.into_iter().filter_map(|object| match object {
        Value::Object(map) => Some(map),
        _ => None,
    });
    Value::Object(maps.flatten().collect())
}
