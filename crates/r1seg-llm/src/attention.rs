//! Causal self-attention with grouped key heads. Keys: `qkv_proj` or `q_proj`, `k_proj`, `v_proj`;
//! `o_proj`.

use candle_core::{Result, Tensor};
use r1seg_nn::{CachedAttention, Linear, Weights, stacked};

use crate::config::{AttentionBias, AttentionLayout, DecoderConfig};
use crate::decoder::{Positions, Sequence, split};

#[derive(Debug, Clone)]
pub(crate) struct Attention {
    qkv_proj: Linear,
    o_proj: Linear,
    attention: CachedAttention,
    kv_heads: usize,
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
            attention: CachedAttention {
                heads,
                head_dim: config.head_dim,
                window: config.sliding_window,
            },
            kv_heads,
        })
    }

    /// Each sequence attends to its own positions alone; the projections see the rows of all.
    ///
    /// # Shapes
    /// - `x`: `[1, R, hidden]`, the rows of all sequences, one after the other
    /// - `residual`: `[1, sum of positions, hidden]`
    /// - returns: the residual and what was attended to, of the same shape
    pub(crate) fn forward_add(
        &self,
        x: &Tensor,
        layer: usize,
        sequences: &mut [Sequence<'_>],
        positions: Positions,
        residual: &Tensor,
    ) -> Result<Tensor> {
        let qkv = self.qkv_proj.forward(x)?;
        let qkv = split(&qkv, sequences.iter().map(|sequence| sequence.len))?;
        let attended = qkv
            .iter()
            .zip(sequences)
            .map(|(qkv, sequence)| positions.select(&self.attend(qkv, layer, sequence)?));
        let attended = Tensor::cat(&attended.collect::<Result<Vec<_>>>()?, 1)?;
        self.o_proj.forward_add(&attended, residual)
    }

    /// # Shapes
    /// - `qkv`: `[1, L, (heads + 2 kv_heads) head_dim]`, of one sequence
    /// - returns: `[1, L, heads head_dim]`
    fn attend(&self, qkv: &Tensor, layer: usize, sequence: &mut Sequence<'_>) -> Result<Tensor> {
        let Sequence { len, rotary, cache } = sequence;
        let past = cache.len();
        let rows = cache.room(layer, *len, (self.kv_heads, self.attention.head_dim), qkv)?;
        self.attention.forward(qkv, rotary, rows, past)
    }
}
