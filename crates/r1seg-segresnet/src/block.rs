//! A residual block. Keys: `norm1`, `conv1`, `norm2`, `conv2` (convolutions without bias).

use candle_core::{Result, Tensor};
use r1seg_nn::{
    Conv3d, Conv3dConfig, InstanceNorm3d, Probe, Weights, conv3d_no_bias, instance_norm3d,
};

/// torch.nn.InstanceNorm3d's default.
pub(crate) const NORM_EPS: f64 = 1e-5;

/// A convolution with kernel 3 and without bias that keeps the grid.
///
/// # Errors
/// When a tensor is missing or misshaped.
pub(crate) fn neighbors(from: usize, to: usize, weights: Weights) -> Result<Conv3d> {
    conv3d_no_bias(Conv3dConfig::new(from, to, [3; 3]).with_padding([1; 3]), weights)
}

/// `x + conv2(relu(norm2(conv1(relu(norm1(x))))))`
#[derive(Debug, Clone)]
pub(crate) struct Block {
    norm1: InstanceNorm3d,
    conv1: Conv3d,
    norm2: InstanceNorm3d,
    conv2: Conv3d,
}

impl Block {
    /// Loads from `weights`, the prefix `blocks.N` of a checkpoint.
    ///
    /// # Errors
    /// When a tensor is missing or misshaped.
    pub(crate) fn new(channels: usize, weights: Weights) -> Result<Self> {
        let norm = |name: &str| instance_norm3d(channels, NORM_EPS, weights.pp(name));
        let conv = |name: &str| neighbors(channels, channels, weights.pp(name));
        Ok(Self {
            norm1: norm("norm1")?,
            conv1: conv("conv1")?,
            norm2: norm("norm2")?,
            conv2: conv("conv2")?,
        })
    }

    /// # Shapes
    /// - `x`: `[B, C, D, H, W]`    - returns: the same
    ///
    /// # Errors
    /// When the channels differ from the weights', or `probe` ends the pass.
    pub(crate) fn forward(&self, x: &Tensor, probe: &dyn Probe) -> Result<Tensor> {
        let y = self.conv1.forward_normalized(x, &self.norm1, 0.0, None)?;
        probe.check_cancelled()?;
        let y = self.conv2.forward_normalized(&y, &self.norm2, 0.0, Some(x))?;
        probe.check_cancelled()?;
        Ok(y)
    }
}
