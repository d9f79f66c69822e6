//! Random-Fourier position encoding, as SegVol's 3D port of SAM trained it.
//! Keys: `pe_layer.positional_encoding_gaussian_matrix`.

use std::f64::consts::PI;

use candle_core::{DType, Device, Result, Tensor};
use r1seg_nn::Weights;

/// `[sin(2π c G), cos(2π c G)]` of coordinates `c` in `-1..=1`, in f32 whatever the dtype.
///
/// The port keeps two leftovers of the 2D original, which the weights were trained with: the
/// channels read the axes in the order (1, 0, 2), and prompt coordinates `(c0, c1, c2)` are divided
/// by the sizes of axes (1, 0, 2).
#[derive(Debug, Clone)]
pub struct PositionEncoding {
    /// `[3, E / 2]`
    gaussian: Tensor,
}

impl PositionEncoding {
    /// Loads from `weights`, the prefix `prompt_encoder.pe_layer`.
    ///
    /// # Errors
    /// When the matrix is missing or misshaped: it is random, so it must come from the checkpoint.
    pub fn new(embed_dim: usize, weights: Weights) -> Result<Self> {
        let gaussian = weights.get((3, embed_dim / 2), "positional_encoding_gaussian_matrix")?;
        Ok(Self { gaussian: gaussian.to_dtype(DType::F32)? })
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
                    coords.extend([center(j, h), center(i, d), center(k, w)]);
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
        let [d, h, w] = image_size.map(|n| n as f32);
        let coords = coords
            .iter()
            .flat_map(|&[c0, c1, c2]| [(c0 + 0.5) / h, (c1 + 0.5) / d, (c2 + 0.5) / w]);
        self.encode(coords.collect(), self.gaussian.device())
    }

    fn encode(&self, coords: Vec<f32>, device: &Device) -> Result<Tensor> {
        let points = coords.len() / 3;
        let coords = Tensor::from_vec(coords, (points, 3), device)?.affine(2.0, -1.0)?;
        let angles = (coords.matmul(&self.gaussian)? * (2.0 * PI))?;
        Tensor::cat(&[angles.sin()?, angles.cos()?], 1)?.unsqueeze(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoding() -> Result<PositionEncoding> {
        let gaussian = Tensor::new(&[[0.25f32, 0.], [0., 0.25], [0., 0.]], &Device::Cpu)?;
        Ok(PositionEncoding { gaussian })
    }

    #[test]
    fn channels_read_the_axes_in_the_order_1_0_2() -> Result<()> {
        let pe = encoding()?.dense([1, 2, 1])?.squeeze(0)?.to_vec2::<f32>()?;
        // Cell (0, 0, 0): axis 1 at -0.5, axis 0 at 0.
        let expected = [-(PI / 4.0).sin(), 0.0, (PI / 4.0).cos(), 1.0];
        for (x, e) in pe[0].iter().zip(expected) {
            assert!((f64::from(*x) - e).abs() < 1e-6);
        }
        assert!((f64::from(pe[1][0]) - (PI / 4.0).sin()).abs() < 1e-6);
        Ok(())
    }

    #[test]
    fn points_are_divided_by_the_sizes_of_axes_1_0_2() -> Result<()> {
        let pe = encoding()?.points(&[[127.5, 15.5, 0.0]], [32, 256, 256])?;
        // (127.5 + .5) / 256 and (15.5 + .5) / 32 are both the center.
        let pe = pe.flatten_all()?.to_vec1::<f32>()?;
        for (x, e) in pe.iter().zip([0.0f32, 0.0, 1.0, 1.0]) {
            assert!((x - e).abs() < 1e-6, "{pe:?}");
        }
        Ok(())
    }
}
