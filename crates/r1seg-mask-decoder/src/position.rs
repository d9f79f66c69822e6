//! Random-Fourier position encoding, as SegVol's 3D port of SAM trained it.
//! Keys: `pe_layer.positional_encoding_gaussian_matrix`.

use std::f64::consts::PI;

use candle_core::{DType, Device, Result, Tensor};
use r1seg_nn::Weights;

use crate::{Bands, PositionConfig};

/// Sines and cosines of `2π c G` of coordinates `c` in `-1..=1`, in f32 whatever the dtype.
///
/// Weights were trained with the axes in the orders that the configuration names, so they stay.
#[derive(Debug, Clone)]
pub struct PositionEncoding {
    /// `[3, E / bands]`
    gaussian: Tensor,
    config: PositionConfig,
}

impl PositionEncoding {
    /// Loads from `weights`, the prefix `prompt_encoder.pe_layer`.
    ///
    /// # Errors
    /// When the matrix is missing or misshaped: it is random, so it must come from the checkpoint.
    pub fn new(config: PositionConfig, embed_dim: usize, weights: Weights) -> Result<Self> {
        let width = embed_dim / config.bands.count();
        let gaussian = weights.get((3, width), "positional_encoding_gaussian_matrix")?;
        Ok(Self { gaussian: gaussian.to_dtype(DType::F32)?, config })
    }

    /// Encodes every cell of a grid at its center.
    ///
    /// # Shapes
    /// - returns: `[1, D * H * W, E]`, cells depth-major
    ///
    /// # Errors
    /// When the backend cannot run the operation.
    pub fn dense(&self, grid: [usize; 3]) -> Result<Tensor> {
        let [d, h, w] = grid;
        let center = |i: usize, n: usize| (i as f32 + 0.5) / n as f32;
        let mut coords = Vec::with_capacity(d * h * w * 3);
        for i in 0..d {
            for j in 0..h {
                for k in 0..w {
                    let at = [center(i, d), center(j, h), center(k, w)];
                    coords.extend(self.config.dense_axes.of(at));
                }
            }
        }
        self.encode(coords, self.gaussian.device())
    }

    /// Encodes voxel coordinates.
    ///
    /// # Shapes
    /// - `coords`: `P` times `(d, h, w)`, in voxels of an image of `image_size`
    /// - returns: `[1, P, E]`
    ///
    /// # Errors
    /// When the backend cannot run the operation.
    pub fn points(&self, coords: &[[f32; 3]], image_size: [usize; 3]) -> Result<Tensor> {
        let sizes = self.config.point_sizes.of(image_size.map(|n| n as f32));
        let coords =
            coords.iter().flat_map(|at| (0..3).map(move |axis| (at[axis] + 0.5) / sizes[axis]));
        self.encode(coords.collect(), self.gaussian.device())
    }

    fn encode(&self, coords: Vec<f32>, device: &Device) -> Result<Tensor> {
        let points = coords.len() / 3;
        let coords = Tensor::from_vec(coords, (points, 3), device)?.affine(2.0, -1.0)?;
        let angles = (coords.matmul(&self.gaussian)? * (2.0 * PI))?;
        let (sin, cos) = (angles.sin()?, angles.cos()?);
        let bands = match self.config.bands {
            Bands::SinCos => vec![&sin, &cos],
            Bands::SinCosSin => vec![&sin, &cos, &sin],
        };
        Tensor::cat(&bands, 1)?.unsqueeze(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AxisOrder;

    fn encoding(bands: Bands, order: AxisOrder) -> Result<PositionEncoding> {
        let gaussian = Tensor::new(&[[0.25f32, 0.], [0., 0.25], [0., 0.]], &Device::Cpu)?;
        let config = PositionConfig { bands, dense_axes: order, point_sizes: order };
        Ok(PositionEncoding { gaussian, config })
    }

    fn assert_close(got: &[f32], expected: &[f64]) {
        assert_eq!(got.len(), expected.len());
        for (x, e) in got.iter().zip(expected) {
            assert!((f64::from(*x) - e).abs() < 1e-6, "{got:?}");
        }
    }

    #[test]
    fn swapped_channels_read_the_axes_in_the_order_1_0_2() -> Result<()> {
        let pe = encoding(Bands::SinCos, AxisOrder::Swapped)?.dense([1, 2, 1])?;
        let pe = pe.squeeze(0)?.to_vec2::<f32>()?;
        // Cell (0, 0, 0): axis 1 at -0.5, axis 0 at 0.
        assert_close(&pe[0], &[-(PI / 4.0).sin(), 0.0, (PI / 4.0).cos(), 1.0]);
        assert!((f64::from(pe[1][0]) - (PI / 4.0).sin()).abs() < 1e-6);
        Ok(())
    }

    #[test]
    fn channels_in_order_and_with_three_bands_repeat_the_sines() -> Result<()> {
        let pe = encoding(Bands::SinCosSin, AxisOrder::Natural)?.dense([1, 2, 1])?;
        let pe = pe.squeeze(0)?.to_vec2::<f32>()?;
        let sin = -(PI / 4.0).sin();
        assert_close(&pe[0], &[0.0, sin, 1.0, (PI / 4.0).cos(), 0.0, sin]);
        Ok(())
    }

    #[test]
    fn points_are_divided_by_the_sizes_of_the_axes_in_their_order() -> Result<()> {
        let center = [0.0, 0.0, 1.0, 1.0];
        // (127.5 + .5) / 256 and (15.5 + .5) / 32 are both the center.
        for (order, at) in
            [(AxisOrder::Swapped, [127.5, 15.5, 0.0]), (AxisOrder::Natural, [15.5, 127.5, 0.0])]
        {
            let pe = encoding(Bands::SinCos, order)?.points(&[at], [32, 256, 256])?;
            assert_close(&pe.flatten_all()?.to_vec1::<f32>()?, &center);
        }
        Ok(())
    }
}
