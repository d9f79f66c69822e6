//! A block. Keys: `norm1`, `attn`, `norm2`, `mlp.lin1`, `mlp.lin2`.

use candle_core::{Result, Tensor};
use r1seg_nn::{LayerNorm, Probe, Weights, add, layer_norm};

use super::attention::Attention;
use super::{NORM_EPS, SamVitConfig};
use crate::mlp::Mlp;

/// `x + attn(norm1(x))`, then `x + mlp(norm2(x))`.
#[derive(Debug, Clone)]
pub(super) struct Block {
    norm1: LayerNorm,
    attn: Attention,
    norm2: LayerNorm,
    mlp: Mlp,
}

impl Block {
    /// Loads block `index` from `weights`, the prefix `blocks.N` of a checkpoint.
    ///
    /// # Errors
    /// When a tensor is missing or misshaped.
    pub(super) fn new(cfg: &SamVitConfig, index: usize, weights: Weights) -> Result<Self> {
        let e = cfg.hidden_size;
        Ok(Self {
            norm1: layer_norm(e, NORM_EPS, weights.pp("norm1"))?,
            attn: Attention::new(cfg, cfg.window(index), weights.pp("attn"))?,
            norm2: layer_norm(e, NORM_EPS, weights.pp("norm2"))?,
            mlp: Mlp::new((e, cfg.mlp_dim), &weights.pp("mlp"), ["lin1", "lin2"])?,
        })
    }

    /// # Shapes
    /// - `x`: `[B, N, E]`    - returns: the same
    ///
    /// # Errors
    /// When the backend cannot run the operation, or `probe` ends it between attention and MLP.
    pub(super) fn forward(&self, x: &Tensor, probe: &dyn Probe) -> Result<Tensor> {
        let x = add(x, &self.attn.forward(&self.norm1.forward(x)?)?)?;
        probe.check_cancelled()?;
        self.mlp.forward_add(&self.norm2.forward(&x)?, &x)
    }
}
