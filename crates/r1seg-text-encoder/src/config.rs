//! The `text_config` of a checkpoint's config.json. A field that it leaves out has transformers'
//! default, which is the published size.

use serde::Deserialize;

/// Far beyond any text encoder, and small enough that products of a few do not overflow.
const MAX_SIZE: usize = 1 << 20;

/// Widths of a [`ClipTextModel`](crate::ClipTextModel); the default is CLIP ViT-B/32's.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct ClipTextConfig {
    /// Rows of the table of tokens.
    pub vocab_size: usize,
    /// Width of a token.
    pub hidden_size: usize,
    /// Width between the two layers of a block's MLP.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Attention heads per block.
    pub num_attention_heads: usize,
    /// The most tokens that a text may have.
    pub max_position_embeddings: usize,
    /// Added to the variance in the norms.
    pub layer_norm_eps: f64,
    /// The activation; `quick_gelu` is the only one that is computed.
    pub hidden_act: String,
    /// Id of the end token, at which a text is pooled. 2, which old files say, stands for the
    /// largest id of the text.
    pub eos_token_id: u32,
}

impl Default for ClipTextConfig {
    fn default() -> Self {
        Self {
            vocab_size: 49408,
            hidden_size: 512,
            intermediate_size: 2048,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            layer_norm_eps: 1e-5,
            hidden_act: "quick_gelu".to_string(),
            eos_token_id: 49407,
        }
    }
}

impl ClipTextConfig {
    /// Bytes of the largest activations of the longest text, in f32.
    pub fn working_bytes(&self) -> u64 {
        working_bytes(self.max_position_embeddings, self.intermediate_size, self.hidden_size)
    }

    /// Says what does not fit, in the terms of the configuration.
    ///
    /// # Errors
    /// The first field that cannot be used, with its value.
    pub fn validate(&self) -> Result<(), String> {
        sizes(&[
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("max_position_embeddings", self.max_position_embeddings),
        ])?;
        heads(self.hidden_size, self.num_attention_heads)?;
        choice("hidden_act", &self.hidden_act, "quick_gelu")?;
        epsilon(self.layer_norm_eps)
    }

    /// The position at which a text of these ids is pooled: that of its first end token.
    pub fn end_position(&self, ids: &[u32]) -> Option<usize> {
        end_position(self.eos_token_id, ids)
    }
}

pub(crate) fn end_position(eos_token_id: u32, ids: &[u32]) -> Option<usize> {
    /// In files older than the fix of transformers' pull request 24773 this stands for the largest
    /// id.
    const LARGEST: u32 = 2;
    let end = if eos_token_id == LARGEST { *ids.iter().max()? } else { eos_token_id };
    ids.iter().position(|id| *id == end)
}

/// Widths of a [`BertModel`](crate::BertModel); the default is bert-base-uncased's.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct BertConfig {
    /// Rows of the table of tokens.
    pub vocab_size: usize,
    /// Width of a token.
    pub hidden_size: usize,
    /// Width between the two layers of a block's MLP.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Attention heads per block.
    pub num_attention_heads: usize,
    /// The most tokens that a text may have.
    pub max_position_embeddings: usize,
    /// Rows of the table of token types.
    pub type_vocab_size: usize,
    /// Added to the variance in the norms.
    pub layer_norm_eps: f64,
    /// The activation; `gelu`, the one with the error function, is the only one that is computed.
    pub hidden_act: String,
    /// How positions enter; `absolute` is the only way that is computed.
    pub position_embedding_type: String,
}

impl Default for BertConfig {
    fn default() -> Self {
        Self {
            vocab_size: 30522,
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            layer_norm_eps: 1e-12,
            hidden_act: "gelu".to_string(),
            position_embedding_type: "absolute".to_string(),
        }
    }
}

impl BertConfig {
    /// Bytes of the largest activations of the longest text, in f32.
    pub fn working_bytes(&self) -> u64 {
        working_bytes(self.max_position_embeddings, self.intermediate_size, self.hidden_size)
    }

    /// Says what does not fit, in the terms of the configuration.
    ///
    /// # Errors
    /// The first field that cannot be used, with its value.
    pub fn validate(&self) -> Result<(), String> {
        sizes(&[
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ])?;
        heads(self.hidden_size, self.num_attention_heads)?;
        choice("hidden_act", &self.hidden_act, "gelu")?;
        choice("position_embedding_type", &self.position_embedding_type, "absolute")?;
        epsilon(self.layer_norm_eps)
    }
}

fn working_bytes(tokens: usize, intermediate_size: usize, hidden_size: usize) -> u64 {
    let widths = intermediate_size.saturating_mul(2).saturating_add(hidden_size.saturating_mul(8));
    4u64.saturating_mul(tokens as u64).saturating_mul(widths as u64)
}

fn sizes(fields: &[(&str, usize)]) -> Result<(), String> {
    match fields.iter().find(|(_, value)| *value == 0 || *value > MAX_SIZE) {
        Some((name, value)) => {
            Err(format!("text_config.{name} is {value}, expected 1 to {MAX_SIZE}"))
        }
        None => Ok(()),
    }
}

fn heads(width: usize, heads: usize) -> Result<(), String> {
    if width.is_multiple_of(heads) {
        return Ok(());
    }
    Err(format!(
        "text_config.hidden_size {width} is not divisible by its num_attention_heads, {heads}"
    ))
}

fn choice(field: &str, value: &str, expected: &str) -> Result<(), String> {
    if value == expected {
        return Ok(());
    }
    Err(format!("text_config.{field} is `{value}`, expected `{expected}`"))
}

fn epsilon(eps: f64) -> Result<(), String> {
    if eps > 0.0 && eps < 1.0 {
        return Ok(());
    }
    Err(format!("text_config.layer_norm_eps is {eps}, expected a small positive number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_fields_have_the_published_sizes() {
        let clip: ClipTextConfig = serde_json::from_str("{}").unwrap();
        assert_eq!((clip.hidden_size, clip.max_position_embeddings), (512, 77));
        let bert: BertConfig = serde_json::from_str(r#"{"hidden_size": 32}"#).unwrap();
        assert_eq!((bert.hidden_size, bert.vocab_size), (32, 30522));
        assert_eq!((clip.validate(), BertConfig::default().validate()), (Ok(()), Ok(())));
    }

    #[test]
    fn a_configuration_that_does_not_fit_names_its_field() {
        let clip = ClipTextConfig::default;
        for (field, config) in [
            ("num_hidden_layers", ClipTextConfig { num_hidden_layers: 0, ..clip() }),
            ("num_attention_heads", ClipTextConfig { num_attention_heads: 7, ..clip() }),
            ("vocab_size", ClipTextConfig { vocab_size: usize::MAX, ..clip() }),
            ("hidden_act", ClipTextConfig { hidden_act: "gelu".to_string(), ..clip() }),
            ("layer_norm_eps", ClipTextConfig { layer_norm_eps: f64::NAN, ..clip() }),
        ] {
            let error = config.validate().unwrap_err();
            assert!(error.contains(field), "{error}");
        }
        let bert = BertConfig::default;
        for (field, config) in [
            ("type_vocab_size", BertConfig { type_vocab_size: 0, ..bert() }),
            ("hidden_act", BertConfig { hidden_act: "relu".to_string(), ..bert() }),
            (
                "position_embedding_type",
                BertConfig { position_embedding_type: "relative_key".to_string(), ..bert() },
            ),
        ] {
            let error = config.validate().unwrap_err();
            assert!(error.contains(field), "{error}");
        }
    }
}
