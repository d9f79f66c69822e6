//! Attention within windows, and the order in which NeuroSAM3D puts windows together.
//! Keys: `qkv`, `proj`.

use candle_core::{Result, Tensor};
use r1seg_nn::{
    AttentionBias, AttentionMask, Linear, Weights, Windows, attention, linear, max_pool3d,
};

use super::config::BlockConfig;

/// Multi-head self-attention, over the whole grid or within windows.
#[derive(Debug, Clone)]
pub(super) struct Attention {
    qkv: Linear,
    /// The bias of `qkv`: queries, keys and values of a token of zeros.
    padding: Tensor,
    proj: Linear,
    config: BlockConfig,
}

impl Attention {
    /// Loads from `weights`, the prefix `blocks.N.attn` of a checkpoint.
    pub(super) fn new(config: BlockConfig, weights: Weights) -> Result<Self> {
        let BlockConfig { dim, dim_out, .. } = config;
        let qkv = weights.pp("qkv");
        let padding = qkv.get(3 * dim_out, "bias")?;
        let matrix = qkv.matrix((3 * dim_out, dim), "weight")?;
        Ok(Self {
            qkv: Linear::from_matrices(vec![matrix], Some(padding.clone()))?,
            padding,
            proj: linear(dim_out, dim_out, weights.pp("proj"))?,
            config,
        })
    }

    /// # Shapes
    /// - `x`: `[B, s, s, s, dim]`    - returns: `[B, s', s', s', dim_out]`
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let BlockConfig { side, window, .. } = self.config;
        match window {
            None => self.attend(x, 0),
            // What fills up a single window is one key, however often it is there, and the order in
            // which the window is put back leaves its tokens in the grid.
            Some(window) if window >= side => {
                let filling = window * window * window - side * side * side;
                let x = self.attend(x, filling)?;
                merge(&x, 1, self.config.side_out())
            }
            Some(window) => {
                let windows = Windows::new([side; 3], [window; 3])?;
                let x = self.attend(&windows.partition(x)?, 0)?;
                merge(&x, side.div_ceil(window), self.config.side_out())
            }
        }
    }

    /// Attention of the tokens of a cube to one another, and to so many tokens of zeros.
    ///
    /// # Shapes
    /// - `x`: `[B, s, s, s, dim]`    - returns: `[B, s', s', s', dim_out]`
    fn attend(&self, x: &Tensor, filling: usize) -> Result<Tensor> {
        let BlockConfig { dim_out, num_heads, pools, .. } = self.config;
        let (b, mut s, _, _, _) = x.dims5()?;
        let head_dim = dim_out / num_heads;
        // Rows of the fused weight: q, then k, then v, each head-major.
        let qkv = self.qkv.forward(x)?.reshape((b, s * s * s, 3, num_heads, head_dim))?;
        let part = |i: usize| qkv.narrow(2, i, 1)?.squeeze(2);
        let mut q = part(0)?;
        if pools {
            q = max_pool3d(&q.reshape((b, s, s, s, dim_out))?, 2)?;
            s /= 2;
            q = q.reshape((b, s * s * s, num_heads, head_dim))?;
        }
        let by_heads = |t: Tensor| t.transpose(1, 2)?.contiguous();
        let (q, k, v) = (by_heads(q)?, by_heads(part(1)?)?, by_heads(part(2)?)?);
        let scale = 1.0 / (head_dim as f64).sqrt();
        let x = if filling == 0 {
            attention(&q, &k, &v, scale, AttentionMask::None)?
        } else {
            let (k, v) = (self.filled_up(&k, 1)?, self.filled_up(&v, 2)?);
            counted_last(&q, &k, filling)?.attend(&q, &k, &v, scale)?
        };
        self.proj.forward(&x.transpose(1, 2)?.reshape((b, s, s, s, dim_out))?)
    }

    /// Keys or values, the parts 1 and 2 of `qkv`, with those of a token of zeros behind them.
    ///
    /// # Shapes
    /// - `x`: `[B, heads, L, dim]`    - returns: `[B, heads, L + 1, dim]`
    fn filled_up(&self, x: &Tensor, part: usize) -> Result<Tensor> {
        let (b, heads, _, dim) = x.dims4()?;
        let last = self.padding.narrow(0, part * heads * dim, heads * dim)?.to_dtype(x.dtype())?;
        let last = last.reshape((1, heads, 1, dim))?.expand((b, heads, 1, dim))?;
        Tensor::cat(&[x, &last.contiguous()?], 2)
    }
}

/// Lets the last key count as often as it stands for a token: that often in the sum of the softmax,
/// and the logarithm of it on its score.
///
/// # Shapes
/// - `q`, `k`: `[B, heads, Lq or Lk, dim]`
fn counted_last(q: &Tensor, k: &Tensor, count: usize) -> Result<AttentionBias> {
    let (lq, lk) = (q.dim(2)?, k.dim(2)?);
    let mut row = vec![0f32; lk];
    if let Some(last) = row.last_mut() {
        *last = (count as f64).ln() as f32;
    }
    let row = Tensor::from_vec(row, (1, 1, 1, lk), q.device())?;
    Ok(AttentionBias::Full(row.broadcast_as((1, 1, lq, lk))?.contiguous()?))
}

/// Windows as the published code puts them together: not where they were cut out. Along the axes of
/// the window and within it, `(i, j, l, u, v, w)`, tokens follow one another in the order
/// `(i, l, v, j, u, w)` and fill the grid in that order. The models are trained with it; the first two
/// axes change places even where there is one window.
///
/// # Shapes
/// - `windows`: `[B * n * n * n, s, s, s, C]`    - returns: `[B, side, side, side, C]`, cut out of a grid
///   of `n * s`
fn merge(windows: &Tensor, n: usize, side: usize) -> Result<Tensor> {
    let (count, s, _, _, c) = windows.dims5()?;
    let b = count / (n * n * n).max(1);
    let x = windows.contiguous()?.reshape(vec![b, n, n, n, s, s, s, c])?;
    let x = x.permute(vec![0, 1, 3, 5, 2, 4, 6, 7])?.reshape((b, n * s, n * s, n * s, c))?;
    x.narrow(1, 0, side)?.narrow(2, 0, side)?.narrow(3, 0, side)?.contiguous()
}
