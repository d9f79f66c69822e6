//! Causal self-attention with grouped key heads. Keys: `qkv_proj` or `q_proj`, `k_proj`, `v_proj`;
//! `o_proj`.

use candle_core::{Result, Tensor};
use r1seg_nn::{AttentionMask, Linear, Weights, attention, stacked};

use crate::config::{AttentionBias, AttentionLayout, DecoderConfig};
use crate::decoder::{Positions, Sequence, split};

#[derive(Debug, Clone)]
pub(crate) struct Attention {
    qkv_proj: Linear,
    o_proj: Linear,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    window: Option<usize>,
}

impl Attention {
    pub(crate) fn new(config: &DecoderConfig, weights: &Weights) -> Result<Self> {
        let (hidden, heads, kv_heads) =
            (config.hidden_size, config.num_attention_heads, config.num_key_value_heads);
        let (q_dim, kv_dim) = (heads * config.head_dim, kv_heads * config.head_dim);
        let (qkv_proj, bias) = match config.attention {
            // HF splits the fused qkv by rows: q, then k, then v.
            AttentionLayout::Fused => {
                (stacked(hidden, &[(weights.pp("qkv_proj"), q_dim + 2 * kv_dim)], false)?, false)
            }
            AttentionLayout::Split { bias } => {
                let parts = [("q_proj", q_dim), ("k_proj", kv_dim), ("v_proj", kv_dim)];
                let parts = parts.map(|(key, out_dim)| (weights.pp(key), out_dim));
                let qkv_proj = stacked(hidden, &parts, bias != AttentionBias::None)?;
                (qkv_proj, bias == AttentionBias::All)
            }
        };
        Ok(Self {
            qkv_proj,
            o_proj: stacked(q_dim, &[(weights.pp("o_proj"), hidden)], bias)?,
            heads,
            kv_heads,
            head_dim: config.head_dim,
            window: config.sliding_window,
        })
    }

    /// Each sequence attends to its own positions alone; the projections see the rows of all.
    ///
    /// # Shapes
    /// - `x`: `[1, R, hidden]`, the rows of all sequences, one after the other
    /// - returns: `[1, sum of positions, hidden]`
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        layer: usize,
        sequences: &mut [Sequence<'_>],
        positions: Positions,
    ) -> Result<Tensor> {
        let qkv = self.qkv_proj.forward(x)?;
        let qkv = split(&qkv, sequences.iter().map(|sequence| sequence.len))?;
        let attended = qkv
            .iter()
            .zip(sequences)
            .map(|(qkv, sequence)| positions.select(&self.attend(qkv, layer, sequence)?));
        self.o_proj.forward(&Tensor::cat(&attended.collect::<Result<Vec<_>>>()?, 1)?)
    }

    /// # Shapes
    /// - `qkv`: `[1, L, (heads + 2 kv_heads) head_dim]`, of one sequence
    /// - returns: `[1, L, heads head_dim]`
    fn attend(&self, qkv: &Tensor, layer: usize, sequence: &mut Sequence<'_>) -> Result<Tensor> {
        let Sequence { len, rotary, cache } = sequence;
        let split = |first: usize, heads: usize| {
            qkv.narrow(2, first * self.head_dim, heads * self.head_dim)?
                .reshape((1, *len, heads, self.head_dim))?
                .transpose(1, 2) // [1, heads, L, head_dim]
        };
        let q = rotary.rotate(&split(0, self.heads)?)?;
        let k = rotary.rotate(&split(self.heads, self.kv_heads)?)?;
        let v = split(self.heads + self.kv_heads, self.kv_heads)?;
        let mask = AttentionMask::Causal { past: cache.len(), window: self.window };
        let (k, v) = cache.append(layer, &k, &v)?;
        let scale = (self.head_dim as f64).powf(-0.5);
        let out = attention(&q, &k, &v, scale, mask)?;
        out.transpose(1, 2)?.reshape((1, *len, self.heads * self.head_dim))
    }
}
