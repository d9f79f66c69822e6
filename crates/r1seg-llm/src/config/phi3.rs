//! Phi-3 and Phi-4-mini: fused projections, longrope, and in the latter heads of which a part
//! rotates. Defaults of `Phi3Config`, transformers 4.46.3.

use serde_json::Value;

use super::error::unsupported;
use super::fields::{Defaults, Fields, common, rope_scaling};
use super::{AttentionLayout, ConfigError, DecoderConfig, LongRopeScaling, MlpLayout, RopeScaling};

impl DecoderConfig {
    /// Reads a `config.json` whose language model is a Phi-3.
    ///
    /// # Errors
    /// [`ConfigError`] when a field is missing, out of range or asks for something unsupported.
    pub fn phi3(config: &Value) -> Result<Self, ConfigError> {
        let fields = Fields::root(config)?;
        let mut decoder = common(
            &fields,
            Defaults {
                rms_norm_eps: 1e-5,
                max_position_embeddings: 4096,
                attention: AttentionLayout::Fused,
                mlp: MlpLayout::Fused,
                partial_rotary: true,
            },
        )?;
        decoder.sliding_window = fields.size("sliding_window")?;
        decoder.rope.scaling = match rope_scaling(&fields)? {
            None => RopeScaling::None,
            // The names that longrope had in the first Phi-3 files, as transformers reads them.
            Some((scaling, "longrope" | "su" | "yarn")) => {
                let original = "original_max_position_embeddings";
                RopeScaling::LongRope(LongRopeScaling {
                    short_factor: scaling.numbers("short_factor")?,
                    long_factor: scaling.numbers("long_factor")?,
                    original_max_position_embeddings: fields.size(original)?.unwrap_or(4096),
                })
            }
            Some((scaling, kind)) => {
                return Err(unsupported(
                    scaling.name("type"),
                    format!("\"{kind}\""),
                    "\"longrope\"",
                ));
            }
        };
        decoder.validate()?;
        Ok(decoder)
    }
}
