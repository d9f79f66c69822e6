//! Self-attention of MONAI's blocks and of timm's. Keys: `qkv`, `out_proj` or `proj`.

use candle_core::{Result, Tensor};
use r1seg_nn::{AttentionMask, Linear, Weights, attention, linear, linear_no_bias};

use crate::BlockConfig;

/// Multi-head self-attention over all tokens.
#[derive(Debug, Clone)]
pub struct Attention {
    qkv: Linear,
    out_proj: Linear,
    num_heads: usize,
}

impl Attention {
    /// Loads from `weights`, the prefix `blocks.N.attn` of a checkpoint.
    ///
    /// # Errors
    /// When a tensor is missing or misshaped.
    pub fn new(cfg: &BlockConfig, weights: Weights) -> Result<Self> {
        let e = cfg.hidden_size;
        let qkv = if cfg.qkv_bias { linear } else { linear_no_bias };
        Ok(Self {
            qkv: qkv(e, 3 * e, weights.pp("qkv"))?,
            out_proj: linear(e, e, weights.pp(cfg.out_key))?,
            num_heads: cfg.num_heads,
        })
    }

    /// # Shapes
    /// - `x`: `[B, N, E]`    - returns: the same
    ///
    /// # Errors
    /// When the backend cannot run the operation.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.out_proj.forward(&self.attend(x)?)
    }

    /// # Shapes
    /// - `x`, `residual`: `[B, N, E]`    - returns: the residual and the attention's result for `x`
    ///
    /// # Errors
    /// When the backend cannot run the operation.
    pub fn forward_add(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        self.out_proj.forward_add(&self.attend(x)?, residual)
    }

    fn attend(&self, x: &Tensor) -> Result<Tensor> {
        let (b, n, e) = x.dims3()?;
        let head_dim = e / self.num_heads;
        // Rows of the fused weight: q, then k, then v, each head-major.
        let qkv = self.qkv.forward(x)?.reshape((b, n, 3, self.num_heads, head_dim))?;
        let qkv = qkv.permute((2, 0, 3, 1, 4))?;
        // Kernels of a GPU read the heads where they lie.
        let qkv = if x.device().is_cpu() { qkv.contiguous()? } else { qkv };
        let scale = 1.0 / (head_dim as f64).sqrt();
        let part = |i: usize| qkv.narrow(0, i, 1)?.squeeze(0);
        let x = attention(&part(0)?, &part(1)?, &part(2)?, scale, AttentionMask::None)?;
        x.transpose(1, 2)?.reshape((b, n, e))
    }
}
