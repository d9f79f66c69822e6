//! Mistral: split projections, a sliding window. Defaults of `MistralConfig`,
//! transformers 4.46.3.

use serde_json::Value;

use super::error::unsupported;
use super::fields::{Defaults, Fields, common, rope_scaling};
use super::{AttentionBias, AttentionLayout, ConfigError, DecoderConfig, MlpLayout};

impl DecoderConfig {
    /// Reads a `config.json` whose language model is a Mistral.
    ///
    /// # Errors
    /// [`ConfigError`] when a field is missing, out of range or asks for something unsupported.
    pub fn mistral(config: &Value) -> Result<Self, ConfigError> {
        let fields = Fields::root(config)?;
        let mut decoder = common(
            &fields,
            Defaults {
                rms_norm_eps: 1e-6,
                max_position_embeddings: 131_072,
                attention: AttentionLayout::Split { bias: AttentionBias::None },
                mlp: MlpLayout::Split { bias: false },
                partial_rotary: false,
            },
        )?;
        // Where these two are absent transformers has a number; null means "as many as query
        // heads" and "no window".
        if !fields.contains("num_key_value_heads") {
            decoder.num_key_value_heads = 8;
        }
        decoder.sliding_window = match fields.size("sliding_window")? {
            None if !fields.contains("sliding_window") => Some(4096),
            window => window,
        };
        if let Some((scaling, kind)) = rope_scaling(&fields)? {
            return Err(unsupported(
                scaling.name("rope_type"),
                format!("\"{kind}\""),
                "\"default\"",
            ));
        }
        decoder.validate()?;
        Ok(decoder)
    }
}
