//! What distinguishes one decoder from another, validated once.
//!
//! Field names are those of Hugging Face's `config.json`; the adapters, one file per family, apply
//! the defaults of transformers 4.46.3 where a field is absent.

mod eos;
mod error;
mod fields;
mod llama;
mod mistral;
mod phi3;
mod qwen2;

pub use eos::eos_token_ids;
pub use error::ConfigError;

use error::invalid;

const MAX_LAYERS: usize = 1024;
const MAX_HEADS: usize = 1024;
const MAX_HEAD_DIM: usize = 1024;
const MAX_WIDTH: usize = 1 << 20;
const MAX_VOCABULARY: usize = 1 << 24;
const MAX_POSITIONS: usize = 1 << 30;

/// The architecture of a [`Decoder`](crate::Decoder).
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width between the two halves of an MLP.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key and value heads; divides the number of query heads.
    pub num_key_value_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Rows of the embedding table (`V`).
    pub vocab_size: usize,
    /// Added to the mean square in every norm.
    pub rms_norm_eps: f64,
    /// Longest sequence that the model was made for. Positions beyond it are computed all the
    /// same; refusing them is the caller's decision.
    pub max_position_embeddings: usize,
    /// A query sees only the last so many keys, itself included.
    pub sliding_window: Option<usize>,
    /// The embedding table is also the output layer.
    pub tie_word_embeddings: bool,
    /// How the checkpoint stores the attention projections.
    pub attention: AttentionLayout,
    /// How the checkpoint stores the MLP projections.
    pub mlp: MlpLayout,
    /// The rotary position embedding.
    pub rope: RopeConfig,
}

/// How a checkpoint stores the query, key and value projections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionLayout {
    /// One `qkv_proj` without bias: rows of q, then k, then v.
    Fused,
    /// `q_proj`, `k_proj` and `v_proj`.
    Split {
        /// Which of the projections have a bias.
        bias: AttentionBias,
    },
}

/// Which attention projections have a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionBias {
    /// None of them.
    None,
    /// q, k and v (Qwen2).
    Qkv,
    /// q, k, v and the output (Llama's `attention_bias`).
    All,
}

/// How a checkpoint stores the gate and up projections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MlpLayout {
    /// One `gate_up_proj` without bias: rows of the gate, then of up.
    Fused,
    /// `gate_proj` and `up_proj`.
    Split {
        /// Whether gate, up and down have a bias (Llama's `mlp_bias`).
        bias: bool,
    },
}

/// The rotary position embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeConfig {
    /// Base of the geometric series of wavelengths.
    pub theta: f64,
    /// The part of a head's elements that rotates; those behind it keep their values.
    pub partial_rotary_factor: f64,
    /// How the frequencies depart from that series.
    pub scaling: RopeScaling,
}

/// `rope_scaling` of a `config.json`.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// The plain geometric series.
    None,
    /// `rope_type` "llama3".
    Llama3(Llama3Scaling),
    /// `type` "longrope" (also written "su" and "yarn" by early Phi-3 files).
    LongRope(LongRopeScaling),
}

/// Llama 3.1: long wavelengths are stretched, short ones kept, those between blended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Llama3Scaling {
    /// How much the long wavelengths are stretched.
    pub factor: f64,
    /// Wavelengths above `original_max_position_embeddings / low_freq_factor` are stretched.
    pub low_freq_factor: f64,
    /// Wavelengths below `original_max_position_embeddings / high_freq_factor` are kept.
    pub high_freq_factor: f64,
    /// Sequence length of the pretraining.
    pub original_max_position_embeddings: usize,
}

/// Phi-3: one divisor per frequency, in two sets.
#[derive(Debug, Clone, PartialEq)]
pub struct LongRopeScaling {
    /// Divisors for sequences of up to `original_max_position_embeddings` tokens.
    pub short_factor: Vec<f64>,
    /// Divisors for longer sequences.
    pub long_factor: Vec<f64>,
    /// Sequence length of the pretraining.
    pub original_max_position_embeddings: usize,
}

impl DecoderConfig {
    /// Bytes of keys and values of so many positions, in f32.
    pub fn cache_bytes(&self, positions: usize) -> u64 {
        [2, self.num_hidden_layers, positions, self.num_key_value_heads, self.head_dim]
            .iter()
            .fold(4u64, |n, size| n.saturating_mul(*size as u64))
    }

    /// Checks every field against its range and against the others.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] names the first field that is out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        within("hidden_size", self.hidden_size, MAX_WIDTH)?;
        within("intermediate_size", self.intermediate_size, MAX_WIDTH)?;
        within("num_hidden_layers", self.num_hidden_layers, MAX_LAYERS)?;
        within("num_attention_heads", self.num_attention_heads, MAX_HEADS)?;
        within("num_key_value_heads", self.num_key_value_heads, MAX_HEADS)?;
        within("head_dim", self.head_dim, MAX_HEAD_DIM)?;
        within("vocab_size", self.vocab_size, MAX_VOCABULARY)?;
        within("max_position_embeddings", self.max_position_embeddings, MAX_POSITIONS)?;
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            return Err(invalid(
                "num_key_value_heads",
                self.num_key_value_heads,
                format!("a divisor of num_attention_heads = {}", self.num_attention_heads),
            ));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(invalid("head_dim", self.head_dim, "an even number"));
        }
        if let Some(window) = self.sliding_window {
            within("sliding_window", window, MAX_POSITIONS)?;
        }
        if !(0.0 < self.rms_norm_eps && self.rms_norm_eps < 1.0) {
            return Err(invalid("rms_norm_eps", self.rms_norm_eps, "a number between 0 and 1"));
        }
        self.rope.validate(self.head_dim)
    }
}

impl RopeConfig {
    /// How many of a head's elements rotate, rounded down as transformers does.
    pub fn rotary_dim(&self, head_dim: usize) -> usize {
        (head_dim as f64 * self.partial_rotary_factor) as usize
    }

    fn validate(&self, head_dim: usize) -> Result<(), ConfigError> {
        if !(self.theta.is_finite() && 1.0 <= self.theta) {
            return Err(invalid("rope_theta", self.theta, "a finite number of at least 1"));
        }
        let (part, rotary_dim) = (self.partial_rotary_factor, self.rotary_dim(head_dim));
        if !(rotary_dim.is_multiple_of(2) && (2..=head_dim).contains(&rotary_dim)) {
            return Err(invalid(
                "partial_rotary_factor",
                part,
                format!("an even part of the {head_dim} elements of a head"),
            ));
        }
        match &self.scaling {
            RopeScaling::None => Ok(()),
            RopeScaling::Llama3(scaling) => scaling.validate(),
            RopeScaling::LongRope(scaling) => scaling.validate(rotary_dim),
        }
    }
}

impl Llama3Scaling {
    fn validate(&self) -> Result<(), ConfigError> {
        if !(self.factor.is_finite() && 1.0 <= self.factor) {
            return Err(invalid(
                "rope_scaling.factor",
                self.factor,
                "a finite number of at least 1",
            ));
        }
        if !(self.low_freq_factor.is_finite() && 0.0 < self.low_freq_factor) {
            return Err(invalid(
                "rope_scaling.low_freq_factor",
                self.low_freq_factor,
                "a finite positive number",
            ));
        }
        if !(self.high_freq_factor.is_finite() && self.low_freq_factor < self.high_freq_factor) {
            return Err(invalid(
                "rope_scaling.high_freq_factor",
                self.high_freq_factor,
                format!("a finite number above low_freq_factor = {}", self.low_freq_factor),
            ));
        }
        within(
            "rope_scaling.original_max_position_embeddings",
            self.original_max_position_embeddings,
            MAX_POSITIONS,
        )
    }
}

impl LongRopeScaling {
    fn validate(&self, rotary_dim: usize) -> Result<(), ConfigError> {
        for (field, factors) in [
            ("rope_scaling.short_factor", &self.short_factor),
            ("rope_scaling.long_factor", &self.long_factor),
        ] {
            if factors.len() != rotary_dim / 2 {
                return Err(invalid(
                    field,
                    format!("a list of {}", factors.len()),
                    format!("a list of {} numbers (half of what rotates)", rotary_dim / 2),
                ));
            }
            if let Some(bad) = factors.iter().find(|f| !(f.is_finite() && 0.0 < **f)) {
                return Err(invalid(field, bad, "finite positive numbers"));
            }
        }
        // The attention factor divides by the logarithm of this length.
        if self.original_max_position_embeddings < 2 {
            return Err(invalid(
                "original_max_position_embeddings",
                self.original_max_position_embeddings,
                "at least 2",
            ));
        }
        within(
            "original_max_position_embeddings",
            self.original_max_position_embeddings,
            MAX_POSITIONS,
        )
    }
}

fn within(field: &'static str, value: usize, max: usize) -> Result<(), ConfigError> {
    if (1..=max).contains(&value) {
        return Ok(());
    }
    Err(invalid(field, value, format!("an integer from 1 to {max}")))
}

#[cfg(test)]
mod tests;
