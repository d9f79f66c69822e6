//! The last convolution of the point head. Keys: `weight`, `bias`.

use candle_core::{DType, Result, Tensor};
use r1seg_nn::{Conv3d, Conv3dConfig, Weights};

/// The last convolution, of which a mask needs a single channel: the product of a voxel's `F` results with
/// the weights of the mask is one convolution whose kernel is the product of both.
#[derive(Debug, Clone)]
pub(super) struct Smoothing {
    config: Conv3dConfig,
    /// `[F, F, 3, 3, 3]`
    weight: Tensor,
    /// `[F]`
    bias: Tensor,
}

impl Smoothing {
    pub(super) fn new(config: Conv3dConfig, weights: &Weights) -> Result<Self> {
        let Conv3dConfig { in_channels, out_channels, kernel: [kd, kh, kw], .. } = config;
        Ok(Self {
            config,
            weight: weights.get((out_channels, in_channels, kd, kh, kw), "weight")?,
            bias: weights.get(out_channels, "bias")?,
        })
    }

    /// # Shapes
    /// - `map`: `[1, F, D, H, W]`    - returns: the same
    pub(super) fn forward(&self, map: &Tensor) -> Result<Tensor> {
        Conv3d::new(self.config, &self.weight, Some(self.bias.clone()))?.forward(map)
    }

    /// # Shapes
    /// - `map`: `[1, F, D, H, W]`    - `kernel`: `[1, 1, F]`    - returns: `[1, 1, D, H, W]`
    pub(super) fn mask(&self, map: &Tensor, kernel: &Tensor) -> Result<Tensor> {
        let (out, input, kd, kh, kw) = self.weight.dims5()?;
        let kernel = kernel.to_dtype(DType::F32)?.reshape((1, out))?;
        let product = |factor: &Tensor, width: usize| {
            let joined = kernel.matmul(&factor.to_dtype(DType::F32)?.reshape((out, width))?)?;
            joined.to_dtype(factor.dtype())
        };
        let weight = product(&self.weight, input * kd * kh * kw)?;
        let bias = product(&self.bias, 1)?.reshape(1)?;
        let config = Conv3dConfig { out_channels: 1, ..self.config };
        Conv3d::new(config, &weight.reshape((1, input, kd, kh, kw))?, Some(bias))?.forward(map)
    }
}
