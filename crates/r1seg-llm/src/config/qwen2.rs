//! Qwen2 and Qwen2.5: split projections, biases on q, k and v. Defaults of `Qwen2Config`,
//! transformers 4.46.3.

use serde_json::Value;

use super::fields::{Defaults, Fields, common, llama_scaling};
use super::{AttentionBias, AttentionLayout, ConfigError, DecoderConfig, MlpLayout};

impl DecoderConfig {
    /// Reads a `config.json` whose language model is a Qwen2.
    ///
    /// With `use_sliding_window` every layer has the window, as in transformers' eager attention,
    /// which does not look at `max_window_layers`.
    ///
    /// # Errors
    /// [`ConfigError`] when a field is missing, out of range or asks for something unsupported.
    pub fn qwen2(config: &Value) -> Result<Self, ConfigError> {
        let fields = Fields::root(config)?;
        let mut decoder = common(
            &fields,
            Defaults {
                rms_norm_eps: 1e-6,
                max_position_embeddings: 32_768,
                attention: AttentionLayout::Split { bias: AttentionBias::Qkv },
                mlp: MlpLayout::Split { bias: false },
                partial_rotary: false,
            },
        )?;
        if fields.flag("use_sliding_window")? {
            decoder.sliding_window = match fields.size("sliding_window")? {
                None if !fields.contains("sliding_window") => Some(4096),
                window => window,
            };
        }
        decoder.rope.scaling = llama_scaling(&fields)?;
        decoder.validate()?;
        Ok(decoder)
    }
}
