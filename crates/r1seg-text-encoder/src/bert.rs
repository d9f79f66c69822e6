//! BERT. Port of `BertModel` of transformers 4.46.3, without its pooler, which nothing reads.
//! Keys: `embeddings.{word_embeddings,position_embeddings,token_type_embeddings,LayerNorm}`,
//! `encoder.layer.N.{attention.self,attention.output,intermediate,output}`.

use candle_core::{Result, Tensor, bail};
use r1seg_nn::{
    Activation, AttentionMask, Embedding, LayerNorm, Probe, Weights, embedding, layer_norm,
};

use crate::BertConfig;
use crate::attention::{Layers, SelfAttention};
use crate::mlp::Mlp;

/// BERT: post-norm blocks in which every token sees every other.
#[derive(Debug, Clone)]
pub struct BertModel {
    word_embeddings: Embedding,
    position_embeddings: Embedding,
    token_type_embeddings: Embedding,
    layer_norm: LayerNorm,
    layers: Vec<Layer>,
    max_tokens: usize,
}

impl BertModel {
    /// Loads from `weights`, the prefix of the model (`language_encoder` in M3D-CLIP).
    ///
    /// # Errors
    /// When the configuration is inconsistent, or a tensor is missing or misshaped.
    pub fn new(cfg: &BertConfig, weights: Weights) -> Result<Self> {
        cfg.validate().map_err(candle_core::Error::msg)?;
        let (e, max_tokens) = (cfg.hidden_size, cfg.max_position_embeddings);
        let embeddings = weights.pp("embeddings");
        let table = |name: &str, rows: usize| -> Result<Embedding> {
            embedding(rows, e, embeddings.pp(name))
        };
        let layers = weights.pp("encoder").pp("layer");
        Ok(Self {
            word_embeddings: table("word_embeddings", cfg.vocab_size)?,
            position_embeddings: table("position_embeddings", max_tokens)?,
            token_type_embeddings: table("token_type_embeddings", cfg.type_vocab_size)?,
            layer_norm: layer_norm(e, cfg.layer_norm_eps, embeddings.pp("LayerNorm"))?,
            layers: (0..cfg.num_hidden_layers)
                .map(|i| Layer::new(cfg, layers.pp(i)))
                .collect::<Result<_>>()?,
            max_tokens,
        })
    }

    /// The states of one text's tokens after the last block; the first is that of `[CLS]`. All
    /// tokens are of type 0. Shows `text.block_0` (after the first block, `[1, L, E]`) to the probe.
    ///
    /// # Shapes
    /// - `ids`: `L` of them, with `[CLS]` and `[SEP]`    - returns: `[1, L, E]`
    ///
    /// # Errors
    /// When there are no ids, more ids than positions, an id is out of range, or `probe` ends the pass.
    pub fn forward(&self, ids: &[u32], probe: &mut dyn Probe) -> Result<Tensor> {
        if ids.is_empty() || ids.len() > self.max_tokens {
            bail!("a text of {} tokens; the encoder reads 1 to {}", ids.len(), self.max_tokens)
        }
        let positions: Vec<u32> = (0..).take(ids.len()).collect();
        let types = self.token_type_embeddings.forward(&vec![0; ids.len()])?;
        let x = (self.word_embeddings.forward(ids)? + types)?;
        let x = (x + self.position_embeddings.forward(&positions)?)?;
        let mut x = self.layer_norm.forward(&x.unsqueeze(0)?)?;
        for (i, layer) in self.layers.iter().enumerate() {
            probe.check_cancelled()?;
            x = layer.forward(&x)?;
            if i == 0 {
                probe.record("text.block_0", &x)?;
            }
        }
        Ok(x)
    }
}

/// `norm(x + attn(x))`, then `norm(x + mlp(x))`.
#[derive(Debug, Clone)]
struct Layer {
    attention: SelfAttention,
    attention_norm: LayerNorm,
    mlp: Mlp,
    output_norm: LayerNorm,
}

impl Layer {
    fn new(cfg: &BertConfig, weights: Weights) -> Result<Self> {
        let (e, eps) = (cfg.hidden_size, cfg.layer_norm_eps);
        let (attention, output) = (weights.pp("attention"), weights.pp("output"));
        let (this, attention_output) = (attention.pp("self"), attention.pp("output"));
        let layers = Layers {
            query: this.pp("query"),
            key: this.pp("key"),
            value: this.pp("value"),
            output: attention_output.pp("dense"),
        };
        let inner = weights.pp("intermediate").pp("dense");
        let widths = (e, cfg.intermediate_size);
        Ok(Self {
            attention: SelfAttention::new(e, cfg.num_attention_heads, AttentionMask::None, layers)?,
            attention_norm: layer_norm(e, eps, attention_output.pp("LayerNorm"))?,
            mlp: Mlp::new(widths, Activation::GeluErf, inner, output.pp("dense"))?,
            output_norm: layer_norm(e, eps, output.pp("LayerNorm"))?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.attention_norm.forward(&(x + self.attention.forward(x)?)?)?;
        self.output_norm.forward(&self.mlp.forward_add(&x, &x)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random_weights;
    use r1seg_nn::{NoProbe, Recording};

    fn model() -> Result<BertModel> {
        let config = BertConfig {
            vocab_size: 20,
            hidden_size: 16,
            intermediate_size: 24,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            max_position_embeddings: 7,
            ..BertConfig::default()
        };
        BertModel::new(&config, random_weights())
    }

    #[test]
    fn every_token_has_a_state() -> Result<()> {
        let mut probe = Recording::default();
        assert_eq!(model()?.forward(&[1, 5, 2], &mut probe)?.dims(), [1, 3, 16]);
        assert_eq!(probe.tensors.len(), 1);
        Ok(())
    }

    #[test]
    fn the_first_token_sees_the_last() -> Result<()> {
        let model = model()?;
        let first = |ids: &[u32]| -> Result<Vec<f32>> {
            model.forward(ids, &mut NoProbe)?.get(0)?.get(0)?.to_vec1()
        };
        assert_ne!(first(&[1, 5, 2])?, first(&[1, 5, 3])?);
        Ok(())
    }

    #[test]
    fn texts_that_cannot_be_encoded_are_refused() -> Result<()> {
        let model = model()?;
        for (ids, words) in [
            (vec![1; 8], "8 tokens; the encoder reads 1 to 7"),
            (vec![], "0 tokens"),
            (vec![1, 20], "20 rows"),
        ] {
            let error = model.forward(&ids, &mut NoProbe).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        Ok(())
    }
}
