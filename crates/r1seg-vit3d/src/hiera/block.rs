//! A block of a stage. Keys: `norm1`, `attn`, `norm2`, `mlp.layers.{0,1}`, and `proj` where the width
//! changes.

use candle_core::{Result, Tensor};
use r1seg_nn::{
    Activation, LayerNorm, Linear, Probe, Weights, add, layer_norm, linear, max_pool3d,
};

use super::attention::Attention;
use super::config::{BlockConfig, MLP_RATIO};

const LAYER_NORM_EPS: f64 = 1e-6;

/// `x + attn(norm1(x))`, then `x + mlp(norm2(x))`. Where the width changes, the first `x` is
/// `proj(norm1(x))`, pooled as the queries are.
#[derive(Debug, Clone)]
pub(super) struct Block {
    norm1: LayerNorm,
    attn: Attention,
    proj: Option<Linear>,
    norm2: LayerNorm,
    mlp: [Linear; 2],
    pools: bool,
}

impl Block {
    /// Loads from `weights`, the prefix `blocks.N` of a checkpoint.
    pub(super) fn new(config: BlockConfig, weights: Weights) -> Result<Self> {
        let BlockConfig { dim, dim_out, .. } = config;
        let proj =
            if dim == dim_out { None } else { Some(linear(dim, dim_out, weights.pp("proj"))?) };
        let layers = weights.pp("mlp").pp("layers");
        let hidden = MLP_RATIO * dim_out;
        Ok(Self {
            norm1: layer_norm(dim, LAYER_NORM_EPS, weights.pp("norm1"))?,
            attn: Attention::new(config, weights.pp("attn"))?,
            proj,
            norm2: layer_norm(dim_out, LAYER_NORM_EPS, weights.pp("norm2"))?,
            mlp: [linear(dim_out, hidden, layers.pp(0))?, linear(hidden, dim_out, layers.pp(1))?],
            pools: config.pools,
        })
    }

    /// # Shapes
    /// - `x`: `[B, s, s, s, dim]`    - returns: `[B, s', s', s', dim_out]`
    ///
    /// # Errors
    /// When the backend cannot run the operation, or `probe` ends it between attention and MLP.
    pub(super) fn forward(&self, x: &Tensor, probe: &dyn Probe) -> Result<Tensor> {
        let normed = self.norm1.forward(x)?;
        let x = match &self.proj {
            None => x.clone(),
            Some(proj) if self.pools => max_pool3d(&proj.forward(&normed)?, 2)?,
            Some(proj) => proj.forward(&normed)?,
        };
        let x = add(&x, &self.attn.forward(&normed)?)?;
        probe.check_cancelled()?;
        let [first, second] = &self.mlp;
        let inner = first.forward_activated(&self.norm2.forward(&x)?, Activation::GeluErf)?;
        second.forward_add(&inner, &x)
    }
}
