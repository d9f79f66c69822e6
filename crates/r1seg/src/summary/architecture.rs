//! The networks of a model in numbers, from its configuration.

use r1seg_text_encoder::{BertConfig, ClipTextConfig};
use r1seg_vit3d::{HieraConfig, ImageEncoderConfig};

use crate::ModelConfig;

/// The vision transformer of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VisionSummary {
    /// Voxels of its input, `[D, H, W]`.
    pub image_size: [usize; 3],
    /// Voxels of a patch, `[D, H, W]`.
    pub patch_size: [usize; 3],
    /// Cells of the image embeddings, `[D, H, W]`.
    pub grid: [usize; 3],
    /// Width of a token, in the first stage where there are several.
    pub hidden_size: usize,
    /// Width inside its MLPs, in the first stage where there are several.
    pub mlp_dim: usize,
    /// Blocks.
    pub num_layers: usize,
    /// Attention heads, in the first stage where there are several.
    pub num_heads: usize,
    /// Tokens that the language model reads of a volume, if there is one.
    pub visual_tokens: Option<usize>,
}

impl VisionSummary {
    pub(super) fn of(encoder: &ImageEncoderConfig, visual_tokens: Option<usize>) -> Self {
        let (patch_size, hidden_size, mlp_dim, num_heads) = match encoder {
            ImageEncoderConfig::Monai(vit) => {
                (vit.patch_size, vit.hidden_size, vit.mlp_dim, vit.num_heads)
            }
            ImageEncoderConfig::Sam(vit) => {
                ([vit.patch_size; 3], vit.hidden_size, vit.mlp_dim, vit.num_heads)
            }
            ImageEncoderConfig::Hiera(hiera) => {
                let (width, mlp_dim) = (hiera.hidden_size, hiera.mlp_dim());
                ([HieraConfig::PATCH_SIZE; 3], width, mlp_dim, hiera.num_heads)
            }
        };
        Self {
            image_size: encoder.image_size(),
            patch_size,
            grid: encoder.grid(),
            hidden_size,
            mlp_dim,
            num_layers: encoder.num_layers(),
            num_heads,
            visual_tokens,
        }
    }
}

/// The language model, or the text encoder of a model that has none.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LanguageSummary {
    /// Such as `Phi-3`.
    pub family: &'static str,
    /// Width of a token.
    pub hidden_size: usize,
    /// Width inside its MLPs.
    pub intermediate_size: usize,
    /// Layers.
    pub num_layers: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Key and value heads.
    pub num_key_value_heads: usize,
    /// Rows of the embedding table.
    pub vocab_size: usize,
    /// Longest sequence that it was made for.
    pub max_positions: usize,
}

impl LanguageSummary {
    pub(super) fn of(config: &ModelConfig) -> Self {
        let llm = &config.decoder;
        Self {
            family: config.language_model,
            hidden_size: llm.hidden_size,
            intermediate_size: llm.intermediate_size,
            num_layers: llm.num_hidden_layers,
            num_heads: llm.num_attention_heads,
            num_key_value_heads: llm.num_key_value_heads,
            vocab_size: llm.vocab_size,
            max_positions: llm.max_position_embeddings,
        }
    }

    pub(super) fn of_clip(config: &ClipTextConfig) -> Self {
        Self {
            family: "CLIP",
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            num_layers: config.num_hidden_layers,
            num_heads: config.num_attention_heads,
            num_key_value_heads: config.num_attention_heads,
            vocab_size: config.vocab_size,
            max_positions: config.max_position_embeddings,
        }
    }

    pub(super) fn of_bert(config: &BertConfig) -> Self {
        Self {
            family: "BERT",
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            num_layers: config.num_hidden_layers,
            num_heads: config.num_attention_heads,
            num_key_value_heads: config.num_attention_heads,
            vocab_size: config.vocab_size,
            max_positions: config.max_position_embeddings,
        }
    }
}
