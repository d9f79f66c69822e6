//! CLIP's text transformer. Port of `CLIPTextTransformer` of transformers 4.46.3.
//! Keys: `embeddings.{token_embedding,position_embedding}`, `encoder.layers.N.{self_attn,
//! layer_norm1,layer_norm2,mlp}`, `final_layer_norm`.

use candle_core::{Result, Tensor, bail};
use r1seg_nn::{
    Activation, AttentionMask, Embedding, LayerNorm, Probe, Weights, embedding, layer_norm,
};

use crate::ClipTextConfig;
use crate::attention::{Layers, SelfAttention};
use crate::config::end_position;
use crate::mlp::Mlp;

/// What [`ClipTextModel`] makes of a text.
#[derive(Debug, Clone)]
pub struct ClipText {
    /// The state of every token after the final norm, `[1, L, E]`.
    pub last_hidden_state: Tensor,
    /// The state of the end token, `[1, E]`. No projection is applied.
    pub pooled: Tensor,
}

/// CLIP's text transformer: pre-norm blocks in which a token sees those before it.
#[derive(Debug, Clone)]
pub struct ClipTextModel {
    token_embedding: Embedding,
    position_embedding: Embedding,
    layers: Vec<Layer>,
    final_layer_norm: LayerNorm,
    max_tokens: usize,
    eos_token_id: u32,
}

impl ClipTextModel {
    /// Loads from `weights`, the prefix `text_model` of a checkpoint.
    ///
    /// # Errors
    /// When the configuration is inconsistent, or a tensor is missing or misshaped.
    pub fn new(cfg: &ClipTextConfig, weights: Weights) -> Result<Self> {
        cfg.validate().map_err(candle_core::Error::msg)?;
        let (e, max_tokens) = (cfg.hidden_size, cfg.max_position_embeddings);
        let embeddings = weights.pp("embeddings");
        let table = |name: &str, rows: usize| -> Result<Embedding> {
            embedding(rows, e, embeddings.pp(name))
        };
        let layers = weights.pp("encoder").pp("layers");
        Ok(Self {
            token_embedding: table("token_embedding", cfg.vocab_size)?,
            position_embedding: table("position_embedding", max_tokens)?,
            layers: (0..cfg.num_hidden_layers)
                .map(|i| Layer::new(cfg, layers.pp(i)))
                .collect::<Result<_>>()?,
            final_layer_norm: layer_norm(e, cfg.layer_norm_eps, weights.pp("final_layer_norm"))?,
            max_tokens,
            eos_token_id: cfg.eos_token_id,
        })
    }

    /// Encodes one text. Shows `text.block_0` (after the first block, `[1, L, E]`) to the probe.
    ///
    /// # Shapes
    /// - `ids`: `L` of them, with the start and end tokens
    ///
    /// # Errors
    /// When there are more ids than positions, an id is out of range, none is the end token, or
    /// `probe` ends the pass.
    pub fn forward(&self, ids: &[u32], probe: &mut dyn Probe) -> Result<ClipText> {
        if ids.len() > self.max_tokens {
            bail!("a text of {} tokens; the encoder reads {}", ids.len(), self.max_tokens)
        }
        let Some(end) = end_position(self.eos_token_id, ids) else {
            bail!("a text without an end token")
        };
        let positions: Vec<u32> = (0..).take(ids.len()).collect();
        let positions = self.position_embedding.forward(&positions)?;
        let mut x = (self.token_embedding.forward(ids)? + positions)?.unsqueeze(0)?;
        for (i, layer) in self.layers.iter().enumerate() {
            probe.check_cancelled()?;
            x = layer.forward(&x)?;
            if i == 0 {
                probe.record("text.block_0", &x)?;
            }
        }
        let last_hidden_state = self.final_layer_norm.forward(&x)?;
        let pooled = last_hidden_state.narrow(1, end, 1)?.squeeze(1)?;
        Ok(ClipText { last_hidden_state, pooled })
    }
}

/// `x + attn(norm1(x))`, then `x + mlp(norm2(x))`.
#[derive(Debug, Clone)]
struct Layer {
    layer_norm1: LayerNorm,
    self_attn: SelfAttention,
    layer_norm2: LayerNorm,
    mlp: Mlp,
}

impl Layer {
    fn new(cfg: &ClipTextConfig, weights: Weights) -> Result<Self> {
        let (e, eps) = (cfg.hidden_size, cfg.layer_norm_eps);
        let (self_attn, mlp) = (weights.pp("self_attn"), weights.pp("mlp"));
        let causal = AttentionMask::Causal { past: 0, window: None };
        let layers = Layers {
            query: self_attn.pp("q_proj"),
            key: self_attn.pp("k_proj"),
            value: self_attn.pp("v_proj"),
            output: self_attn.pp("out_proj"),
        };
        let widths = (e, cfg.intermediate_size);
        Ok(Self {
            layer_norm1: layer_norm(e, eps, weights.pp("layer_norm1"))?,
            self_attn: SelfAttention::new(e, cfg.num_attention_heads, causal, layers)?,
            layer_norm2: layer_norm(e, eps, weights.pp("layer_norm2"))?,
            mlp: Mlp::new(widths, Activation::QuickGelu, mlp.pp("fc1"), mlp.pp("fc2"))?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = (x + self.self_attn.forward(&self.layer_norm1.forward(x)?)?)?;
        self.mlp.forward_add(&self.layer_norm2.forward(&x)?, &x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random_weights;
    use r1seg_nn::{NoProbe, Recording};

    fn config(eos_token_id: u32) -> ClipTextConfig {
        ClipTextConfig {
            vocab_size: 20,
            hidden_size: 16,
            intermediate_size: 24,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            max_position_embeddings: 7,
            eos_token_id,
            ..ClipTextConfig::default()
        }
    }

    fn model(eos_token_id: u32) -> Result<ClipTextModel> {
        ClipTextModel::new(&config(eos_token_id), random_weights())
    }

    fn numbers(x: &Tensor) -> Result<Vec<f32>> {
        x.flatten_all()?.to_vec1()
    }

    #[test]
    fn a_text_is_pooled_at_its_first_end_token() -> Result<()> {
        for eos_token_id in [19, 2] {
            let mut probe = Recording::default();
            let text = model(eos_token_id)?.forward(&[18, 3, 19, 5, 19], &mut probe)?;
            assert_eq!(text.last_hidden_state.dims(), [1, 5, 16]);
            assert_eq!(text.pooled.dims(), [1, 16]);
            let third = text.last_hidden_state.narrow(1, 2, 1)?;
            assert_eq!(numbers(&text.pooled)?, numbers(&third)?);
            assert_eq!(probe.tensors.len(), 1);
        }
        Ok(())
    }

    #[test]
    fn tokens_after_the_end_change_nothing() -> Result<()> {
        let model = model(19)?;
        let short = model.forward(&[18, 3, 19], &mut NoProbe)?.pooled;
        let padded = model.forward(&[18, 3, 19, 19, 19, 19], &mut NoProbe)?.pooled;
        for (a, b) in numbers(&short)?.into_iter().zip(numbers(&padded)?) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
        Ok(())
    }

    #[test]
    fn texts_that_cannot_be_encoded_are_refused() -> Result<()> {
        let model = model(19)?;
        for (ids, words) in [
            (vec![18, 1, 2, 3, 4, 5, 6, 19], "8 tokens; the encoder reads 7"),
            (vec![18, 1], "without an end token"),
            (vec![], "without an end token"),
            (vec![18, 20, 19], "20 rows"),
        ] {
            let error = model.forward(&ids, &mut NoProbe).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        Ok(())
    }
}
