//! Attention within the windows of a grid. Keys: `qkv`, `proj`, and those of [`RelativePositions`].

use candle_core::{Result, Tensor};
use r1seg_nn::{Linear, Weights, linear};

use super::SamVitConfig;
use super::positions::RelativePositions;

/// Multi-head self-attention of the cells of each window.
#[derive(Debug, Clone)]
pub(super) struct Attention {
    qkv: Linear,
    proj: Linear,
    positions: RelativePositions,
    num_heads: usize,
    /// Cells of the grid along an axis.
    side: usize,
    /// Cells of a window along an axis.
    window: usize,
}

impl Attention {
    /// Loads from `weights`, the prefix `blocks.N.attn` of a checkpoint.
    ///
    /// # Errors
    /// When a tensor is missing or misshaped.
    pub(super) fn new(cfg: &SamVitConfig, window: usize, weights: Weights) -> Result<Self> {
        let e = cfg.hidden_size;
        Ok(Self {
            qkv: linear(e, 3 * e, weights.pp("qkv"))?,
            proj: linear(e, e, weights.pp("proj"))?,
            positions: RelativePositions::new(window, e / cfg.num_heads, &weights)?,
            num_heads: cfg.num_heads,
            side: cfg.side(),
            window,
        })
    }

    /// # Shapes
    /// - `x`: `[B, N, E]`    - returns: the same
    ///
    /// # Errors
    /// When the backend cannot run the operation.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (b, n, e) = x.dims3()?;
        let side = self.side;
        if self.window == side {
            return self.proj.forward(&self.attend(&self.qkv.forward(x)?, [side; 3])?);
        }
        // One more row of zeros becomes the query, key and value of the filling.
        let qkv = self.qkv.forward(&x.pad_with_zeros(1, 0, 1)?)?;
        if self.window > side {
            return self.proj.forward(&self.attend(&qkv, [side; 3])?);
        }
        let filling = qkv.narrow(1, n, 1)?;
        let grid = qkv.narrow(1, 0, n)?.reshape((b, side, side, side, 3 * e))?;
        let spans: Vec<_> = (0..side)
            .step_by(self.window)
            .map(|start| (start, self.window.min(side - start)))
            .collect();
        let along = |axis: usize, part: &dyn Fn((usize, usize)) -> Result<Tensor>| {
            let parts: Vec<_> = spans.iter().map(|span| part(*span)).collect::<Result<_>>()?;
            Tensor::cat(&parts, 1 + axis)
        };
        let x = along(0, &|planes| {
            let grid = grid.narrow(1, planes.0, planes.1)?;
            along(1, &|rows| {
                let grid = grid.narrow(2, rows.0, rows.1)?;
                along(2, &|cells| {
                    let part = grid.narrow(3, cells.0, cells.1)?;
                    let size = [planes.1, rows.1, cells.1];
                    let mut part = part.reshape((b, size.iter().product::<usize>(), 3 * e))?;
                    if size != [self.window; 3] {
                        part = Tensor::cat(&[&part, &filling], 1)?;
                    }
                    self.attend(&part, size)?.reshape((b, size[0], size[1], size[2], e))
                })
            })
        })?;
        self.proj.forward(&x.reshape((b, n, e))?)
    }

    /// The cells of one window. A window of which the grid covers a part has the filling behind its
    /// cells.
    ///
    /// # Shapes
    /// - `qkv`: `[B, cells, 3 E]`, or `[B, cells + 1, 3 E]`    - returns: `[B, cells, E]`
    ///
    /// # Errors
    /// When the backend cannot run the operation.
    fn attend(&self, qkv: &Tensor, size: [usize; 3]) -> Result<Tensor> {
        let (b, rows, width) = qkv.dims3()?;
        let (cells, e) = (size.iter().product::<usize>(), width / 3);
        let head_dim = e / self.num_heads;
        // Rows of the fused weight: q, then k, then v, each head-major.
        let qkv = qkv.reshape((b, rows, 3, self.num_heads, head_dim))?;
        let q = qkv.narrow(2, 0, 1)?.squeeze(2)?;
        let filling = match rows - cells {
            0 => None,
            _ => Some(q.get(0)?.get(cells)?),
        };
        let q = q.narrow(1, 0, cells)?.transpose(1, 2)?.contiguous()?;
        let kv = qkv.narrow(2, 1, 2)?.permute((2, 0, 3, 1, 4))?.contiguous()?;
        let bias = self.positions.bias(&q, filling.as_ref(), size)?;
        let scale = 1.0 / (head_dim as f64).sqrt();
        let x = bias.attend(&q, &kv.get(0)?, &kv.get(1)?, scale)?;
        x.transpose(1, 2)?.reshape((b, cells, e))
    }
}
