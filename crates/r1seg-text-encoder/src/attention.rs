//! Self-attention over a text. CLIP and BERT differ in the names of its layers only.

use candle_core::{Result, Tensor};
use r1seg_nn::{AttentionMask, Linear, Weights, attention, linear, stacked};

/// Where the four layers of an attention lie in a checkpoint.
pub(crate) struct Layers {
    pub(crate) query: Weights,
    pub(crate) key: Weights,
    pub(crate) value: Weights,
    pub(crate) output: Weights,
}

/// Multi-head self-attention; all four layers have biases.
#[derive(Debug, Clone)]
pub(crate) struct SelfAttention {
    qkv: Linear,
    output: Linear,
    num_heads: usize,
    mask: AttentionMask,
}

impl SelfAttention {
    pub(crate) fn new(
        width: usize,
        num_heads: usize,
        mask: AttentionMask,
        layers: Layers,
    ) -> Result<Self> {
        let qkv = [layers.query, layers.key, layers.value].map(|weights| (weights, width));
        Ok(Self {
            qkv: stacked(width, &qkv, true)?,
            output: linear(width, width, layers.output)?,
            num_heads,
            mask,
        })
    }

    /// # Shapes
    /// - `x`: `[B, L, E]`    - returns: the same
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (b, l, e) = x.dims3()?;
        let head_dim = e / self.num_heads;
        let qkv = self.qkv.forward(x)?.reshape((b, l, 3, self.num_heads, head_dim))?;
        let qkv = qkv.permute((2, 0, 3, 1, 4))?.contiguous()?;
        let scale = 1.0 / (head_dim as f64).sqrt();
        let x = attention(&qkv.get(0)?, &qkv.get(1)?, &qkv.get(2)?, scale, self.mask)?;
        self.output.forward(&x.transpose(1, 2)?.reshape((b, l, e))?)
    }
}
