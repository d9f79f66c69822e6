//! The networks of a model in numbers, from its configuration.

use r1seg_text_encoder::{BertConfig, ClipTextConfig};
use r1seg_vit3d::Vit3dConfig;

use crate::ModelConfig;

/// The vision transformer of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VisionSummary {
    /// Its configuration.
    pub vit: Vit3dConfig,
    /// Tokens that the language model reads of a volume, if there is one.
    pub visual_tokens: Option<usize>,
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
