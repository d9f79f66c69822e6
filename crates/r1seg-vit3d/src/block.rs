//! A pre-norm transformer block. Keys: `norm1`, `attn`, `norm2`, `mlp.linear1`, `mlp.linear2`.

use candle_core::{Result, Tensor};
use r1seg_nn::{LayerNorm, Probe, Weights, layer_norm};

use crate::mlp::Mlp;
use crate::{Attention, Vit3dConfig};

/// torch.nn.LayerNorm's default; no config.json names it.
pub(crate) const LAYER_NORM_EPS: f64 = 1e-5;

/// `x + attn(norm1(x))`, then `x + mlp(norm2(x))`.
#[derive(Debug, Clone)]
pub struct Block {
    norm1: LayerNorm,
    attn: Attention,
    norm2: LayerNorm,
    mlp: Mlp,
}

impl Block {
    /// Loads from `weights`, the prefix `blocks.N` of a checkpoint.
    ///
    /// # Errors
    /// When a tensor is missing or misshaped.
    pub fn new(cfg: &Vit3dConfig, weights: Weights) -> Result<Self> {
        let e = cfg.hidden_size;
        Ok(Self {
            norm1: layer_norm(e, LAYER_NORM_EPS, weights.pp("norm1"))?,
            attn: Attention::new(cfg, weights.pp("attn"))?,
            norm2: layer_norm(e, LAYER_NORM_EPS, weights.pp("norm2"))?,
            mlp: Mlp::new((e, cfg.mlp_dim), &weights.pp("mlp"), ["linear1", "linear2"])?,
        })
    }

    /// # Shapes
    /// - `x`: `[B, N, E]`    - returns: the same
    ///
    /// # Errors
    /// When the backend cannot run the operation, or `probe` ends it between attention and MLP.
    pub fn forward(&self, x: &Tensor, probe: &dyn Probe) -> Result<Tensor> {
        let x = self.attn.forward_add(&self.norm1.forward(x)?, x)?;
        probe.check_cancelled()?;
        self.mlp.forward_add(&self.norm2.forward(&x)?, &x)
    }
}
