//! Llama 2, 3 and 3.1: split projections, llama3 scaling. Defaults of `LlamaConfig`,
//! transformers 4.46.3.

use serde_json::Value;

use super::fields::{Defaults, Fields, common, llama_scaling};
use super::{AttentionBias, AttentionLayout, ConfigError, DecoderConfig, MlpLayout};

impl DecoderConfig {
    /// Reads a `config.json` whose language model is a Llama.
    ///
    /// # Errors
    /// [`ConfigError`] when a field is missing, out of range or asks for something unsupported.
    pub fn llama(config: &Value) -> Result<Self, ConfigError> {
        let fields = Fields::root(config)?;
        let bias = match fields.flag("attention_bias")? {
            true => AttentionBias::All,
            false => AttentionBias::None,
        };
        let mut decoder = common(
            &fields,
            Defaults {
                rms_norm_eps: 1e-6,
                max_position_embeddings: 2048,
                attention: AttentionLayout::Split { bias },
                mlp: MlpLayout::Split { bias: fields.flag("mlp_bias")? },
                partial_rotary: false,
            },
        )?;
        decoder.rope.scaling = llama_scaling(&fields)?;
        decoder.validate()?;
        Ok(decoder)
    }
}
