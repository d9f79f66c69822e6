//! Pre-norm transformer blocks, as MONAI and timm name their parts. Keys: `norm1`, `attn`, `norm2`, `mlp`.

use candle_core::{Result, Tensor};
use r1seg_nn::{LayerNorm, Probe, Weights, layer_norm};

use crate::Attention;
use crate::mlp::Mlp;

/// torch.nn.LayerNorm's default; no config.json names it.
pub(crate) const LAYER_NORM_EPS: f64 = 1e-5;

/// Sizes of a [`Block`], and what its publisher calls its parts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockConfig {
    /// Width of a token.
    pub hidden_size: usize,
    /// Width between the two layers of the MLP.
    pub mlp_dim: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Added to the variance of the norms.
    pub norm_eps: f64,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// The layer behind the heads.
    pub out_key: &'static str,
    /// The two layers of the MLP.
    pub mlp_keys: [&'static str; 2],
}

impl BlockConfig {
    /// MONAI's `TransformerBlock`.
    pub const fn monai(hidden_size: usize, mlp_dim: usize, num_heads: usize) -> Self {
        Self {
            hidden_size,
            mlp_dim,
            num_heads,
            norm_eps: LAYER_NORM_EPS,
            qkv_bias: false,
            out_key: "out_proj",
            mlp_keys: ["linear1", "linear2"],
        }
    }

    /// The block of timm's vision transformers.
    pub const fn timm(hidden_size: usize, mlp_dim: usize, num_heads: usize, norm_eps: f64) -> Self {
        Self {
            norm_eps,
            qkv_bias: true,
            out_key: "proj",
            mlp_keys: ["fc1", "fc2"],
            ..Self::monai(hidden_size, mlp_dim, num_heads)
        }
    }
}

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
    pub fn new(cfg: &BlockConfig, weights: Weights) -> Result<Self> {
        let e = cfg.hidden_size;
        Ok(Self {
            norm1: layer_norm(e, cfg.norm_eps, weights.pp("norm1"))?,
            attn: Attention::new(cfg, weights.pp("attn"))?,
            norm2: layer_norm(e, cfg.norm_eps, weights.pp("norm2"))?,
            mlp: Mlp::new((e, cfg.mlp_dim), &weights.pp("mlp"), cfg.mlp_keys)?,
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

/// Blocks of one width one after the other, and the norm behind them. Keys: `blocks.N`, `norm`.
#[derive(Debug, Clone)]
pub(crate) struct Blocks {
    blocks: Vec<Block>,
    norm: LayerNorm,
}

impl Blocks {
    /// Loads from `weights`, the prefix of the encoder.
    ///
    /// # Errors
    /// When a tensor is missing or misshaped.
    pub(crate) fn new(cfg: &BlockConfig, num_layers: usize, weights: &Weights) -> Result<Self> {
        let blocks = weights.pp("blocks");
        Ok(Self {
            blocks: (0..num_layers)
                .map(|i| Block::new(cfg, blocks.pp(i)))
                .collect::<Result<_>>()?,
            norm: layer_norm(cfg.hidden_size, cfg.norm_eps, weights.pp("norm"))?,
        })
    }

    /// Shows what the first block returns to the probe, as `first`.
    ///
    /// # Shapes
    /// - `x`: `[B, N, E]`    - returns: the same
    ///
    /// # Errors
    /// When the backend cannot run the operation, or `probe` ends it.
    pub(crate) fn forward(&self, x: Tensor, first: &str, probe: &mut dyn Probe) -> Result<Tensor> {
        let mut x = x;
        for (i, block) in self.blocks.iter().enumerate() {
            probe.check_cancelled()?;
            x = block.forward(&x, probe)?;
            if i == 0 {
                probe.record(first, &x)?;
            }
        }
        self.norm.forward(&x)
    }
}

/// The class token in front of other tokens.
///
/// # Shapes
/// - `cls`: `[1, 1, E]`    - `x`: `[B, N, E]`    - returns: `[B, 1 + N, E]`
///
/// # Errors
/// When the widths differ.
pub(crate) fn with_class_token(cls: &Tensor, x: &Tensor) -> Result<Tensor> {
    let (b, _, e) = x.dims3()?;
    Tensor::cat(&[&cls.to_dtype(x.dtype())?.expand((b, 1, e))?, x], 1)
}
