//! From tokens to the image embedding. Keys: `0` and `2` (convolutions without bias), `1` and `3`
//! (norms).

use candle_core::{Result, Tensor};
use r1seg_nn::{
    Conv3d, Conv3dConfig, LayerNorm, Linear, Rearranged, Weights, conv3d_no_bias, layer_norm,
};

use super::{NORM_EPS, SamVitConfig};

/// A convolution of each cell and one of its neighborhood, each with a norm over the channels.
#[derive(Debug, Clone)]
pub(super) struct Neck {
    cells: Linear,
    norm1: LayerNorm,
    neighbors: Conv3d,
    norm2: LayerNorm,
    grid: [usize; 3],
}

impl Neck {
    /// Loads from `weights`, the prefix `neck` of a checkpoint.
    ///
    /// # Errors
    /// When a tensor is missing or misshaped.
    pub(super) fn new(cfg: &SamVitConfig, weights: Weights) -> Result<Self> {
        let (e, c) = (cfg.hidden_size, cfg.out_channels);
        let shapes = Rearranged::new((c, e, 1, 1, 1), (c, e));
        let cells = weights.pp(0).factor_as(&shapes, "weight", |t| t.reshape((c, e)))?;
        let neighbors = Conv3dConfig::new(c, c, [3; 3]).with_padding([1; 3]);
        Ok(Self {
            cells: Linear::new(&cells, None)?,
            norm1: layer_norm(c, NORM_EPS, weights.pp(1))?,
            neighbors: conv3d_no_bias(neighbors, weights.pp(2))?,
            norm2: layer_norm(c, NORM_EPS, weights.pp(3))?,
            grid: cfg.grid(),
        })
    }

    /// # Shapes
    /// - `x`: `[B, N, E]`    - returns: `[B, N, C]`
    ///
    /// # Errors
    /// When the backend cannot run the operation.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.norm1.forward(&self.cells.forward(x)?)?.transpose(1, 2)?;
        let (b, c, n) = x.dims3()?;
        let [d, h, w] = self.grid;
        let x = self.neighbors.forward(&x.reshape((b, c, d, h, w))?)?;
        self.norm2.forward(&x.reshape((b, c, n))?.transpose(1, 2)?)
    }
}
