//! 3D convolutions whose kernel equals their stride: a regrouping of voxels and one product.

use candle_core::{Result, Tensor, bail};

use crate::linear::Linear;
use crate::weights::{Rearranged, Weights};

/// Cuts a volume into patches, each flattened in the order `(pd, ph, pw, C)` of MONAI's
/// "perceptron" patch embedding.
///
/// # Shapes
/// - `x`: `[B, C, D, H, W]`    - returns: `[B, N, pd * ph * pw * C]`, patches depth-major
///
/// # Errors
/// When a patch does not divide the volume.
pub fn patchify(x: &Tensor, patch: [usize; 3]) -> Result<Tensor> {
    let (b, _, _, _, _) = x.dims5()?;
    let [pd, ph, pw] = patch;
    let (blocks, [gd, gh, gw]) = blocks(x, patch)?;
    let c = x.dim(1)?;
    blocks.permute(vec![0, 2, 4, 6, 3, 5, 7, 1])?.reshape((b, gd * gh * gw, pd * ph * pw * c))
}

/// # Shapes
/// - returns: `[B, C, gd, kd, gh, kh, gw, kw]` and the grid `[gd, gh, gw]`
pub(super) fn blocks(x: &Tensor, kernel: [usize; 3]) -> Result<(Tensor, [usize; 3])> {
    let (b, c, d, h, w) = x.dims5()?;
    let [kd, kh, kw] = kernel;
    if kernel.contains(&0)
        || !d.is_multiple_of(kd)
        || !h.is_multiple_of(kh)
        || !w.is_multiple_of(kw)
    {
        bail!("a grid of {d}x{h}x{w} cannot be cut into blocks of {kd}x{kh}x{kw}")
    }
    let grid = [d / kd, h / kh, w / kw];
    let x = x.contiguous()?.reshape(vec![b, c, grid[0], kd, grid[1], kh, grid[2], kw])?;
    Ok((x, grid))
}

/// A 3D convolution with kernel = stride and no padding (1x1x1 included), over blocks of voxels that
/// lie one behind the other.
#[derive(Debug, Clone)]
pub struct PatchConv3d {
    /// `[out, kd * kh * kw * in]`
    linear: Linear,
    in_channels: usize,
    /// `kd * kh * kw`
    size: usize,
}

/// A [`PatchConv3d`] from the keys `weight` (`[out, in, kd, kh, kw]`) and `bias`.
///
/// # Errors
/// When a tensor is missing or misshaped.
pub fn patch_conv3d(
    in_channels: usize,
    out_channels: usize,
    kernel: [usize; 3],
    weights: Weights,
) -> Result<PatchConv3d> {
    let [kd, kh, kw] = kernel;
    let size = kd * kh * kw;
    let shapes = Rearranged::new(
        (out_channels, in_channels, kd, kh, kw),
        (out_channels, size * in_channels),
    );
    let weight = weights.factor_as(&shapes, "weight", PatchConv3d::matrix)?;
    let bias = weights.get(out_channels, "bias")?;
    Ok(PatchConv3d { linear: Linear::new(&weight, Some(bias))?, in_channels, size })
}

impl PatchConv3d {
    /// # Shapes
    /// - `weight`: `[out, in, kd, kh, kw]`    - `bias`: `[out]`
    ///
    /// # Errors
    /// When the weight has another rank.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        let (_, in_channels, kd, kh, kw) = weight.dims5()?;
        let linear = Linear::new(&Self::matrix(weight)?, bias)?;
        Ok(Self { linear, in_channels, size: kd * kh * kw })
    }

    /// Channels last, as a transposed convolution leaves them.
    ///
    /// # Shapes
    /// - `weight`: `[out, in, kd, kh, kw]`    - returns: `[out, kd * kh * kw * in]`
    fn matrix(weight: Tensor) -> Result<Tensor> {
        let (out_channels, in_channels, kd, kh, kw) = weight.dims5()?;
        let size = kd * kh * kw;
        let weight = weight.reshape((out_channels, in_channels, size))?.transpose(1, 2)?;
        weight.contiguous()?.reshape((out_channels, size * in_channels))
    }

    /// The reverse of [`PatchConvTranspose3d::forward_blocks`]: what each block of voxels, one after the
    /// other in the order `(kd, kh, kw)`, becomes.
    ///
    /// # Shapes
    /// - `rows`: `[B, L * kd * kh * kw, in]`    - returns: `[B, L, out]`
    ///
    /// # Errors
    /// When the channels differ from the weight's, or blocks are not whole.
    pub fn forward_blocks(&self, rows: &Tensor) -> Result<Tensor> {
        let (b, l, _) = rows.dims3()?;
        if !l.is_multiple_of(self.size) {
            bail!("{l} voxels are not blocks of {}", self.size)
        }
        self.linear.forward(&rows.reshape((b, l / self.size, self.size * self.in_channels))?)
    }
}

/// A 3D transposed convolution with kernel = stride and no padding.
#[derive(Debug, Clone)]
pub struct PatchConvTranspose3d {
    /// `[kd * kh * kw * out, in]`
    linear: Linear,
    out_channels: usize,
    kernel: [usize; 3],
}

/// A [`PatchConvTranspose3d`] from the keys `weight` (`[in, out, kd, kh, kw]`) and `bias`.
///
/// # Errors
/// When a tensor is missing or misshaped.
pub fn patch_conv_transpose3d(
    in_channels: usize,
    out_channels: usize,
    kernel: [usize; 3],
    weights: Weights,
) -> Result<PatchConvTranspose3d> {
    let [kd, kh, kw] = kernel;
    let shapes = Rearranged::new(
        (in_channels, out_channels, kd, kh, kw),
        (kd * kh * kw * out_channels, in_channels),
    );
    let weight = weights.factor_as(&shapes, "weight", PatchConvTranspose3d::matrix)?;
    let bias = weights.get(out_channels, "bias")?;
    PatchConvTranspose3d::from_matrix(&weight, &bias, kernel)
}

impl PatchConvTranspose3d {
    /// # Shapes
    /// - `weight`: `[in, out, kd, kh, kw]`    - `bias`: `[out]`
    ///
    /// # Errors
    /// When the weight has another rank.
    pub fn new(weight: Tensor, bias: Tensor) -> Result<Self> {
        let (_, _, kd, kh, kw) = weight.dims5()?;
        Self::from_matrix(&Self::matrix(weight)?, &bias, [kd, kh, kw])
    }

    fn from_matrix(weight: &Tensor, bias: &Tensor, kernel: [usize; 3]) -> Result<Self> {
        let (size, out_channels) = (kernel.iter().product::<usize>(), bias.dim(0)?);
        let bias = bias.unsqueeze(0)?.repeat((size, 1))?.flatten_all()?;
        Ok(Self { linear: Linear::new(weight, Some(bias))?, out_channels, kernel })
    }

    /// Channels last, so that what follows a block of voxels never has to regroup it.
    ///
    /// # Shapes
    /// - `weight`: `[in, out, kd, kh, kw]`    - returns: `[kd * kh * kw * out, in]`
    fn matrix(weight: Tensor) -> Result<Tensor> {
        let (c, out_channels, kd, kh, kw) = weight.dims5()?;
        let size = kd * kh * kw;
        let weight = weight.reshape((c, out_channels, size))?.permute((2, 1, 0))?;
        weight.contiguous()?.reshape((size * out_channels, c))
    }

    /// The voxels that each input voxel becomes, one after the other: nothing is regrouped.
    ///
    /// # Shapes
    /// - `rows`: `[B, L, C]`    - returns: `[B, L * kd * kh * kw, out]`
    ///
    /// # Errors
    /// When the channels differ from the weight's.
    pub fn forward_blocks(&self, rows: &Tensor) -> Result<Tensor> {
        let (b, l, _) = rows.dims3()?;
        let size: usize = self.kernel.iter().product();
        self.linear.forward(rows)?.reshape((b, l * size, self.out_channels))
    }

    /// # Shapes
    /// - `x`: `[B, C, D, H, W]`    - returns: `[B, out, D * kd, H * kh, W * kw]`
    ///
    /// # Errors
    /// When the channels differ from the weight's.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (b, c, d, h, w) = x.dims5()?;
        let [kd, kh, kw] = self.kernel;
        let out = self.out_channels;
        let y = self.forward_blocks(&x.reshape((b, c, d * h * w))?.transpose(1, 2)?)?;
        let y = y.reshape(vec![b, d, h, w, kd, kh, kw, out])?;
        y.permute(vec![0, 7, 1, 4, 2, 5, 3, 6])?.reshape((b, out, d * kd, h * kh, w * kw))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn ramp(shape: &[usize]) -> Result<Tensor> {
        let n: usize = shape.iter().product();
        Tensor::arange(0f32, n as f32, &Device::Cpu)?.reshape(shape)
    }

    #[test]
    fn patches_are_depth_major_and_their_features_run_over_width_first() -> Result<()> {
        // einops: "b c (h p1)(w p2)(d p3) -> b (h w d)(p1 p2 p3 c)" on a 32x256x256 volume puts
        // voxels 0..16 of row 0, then row 1, into token 0; token 1 starts at x = 16.
        let x = ramp(&[1, 1, 8, 32, 48])?;
        let tokens = patchify(&x, [4, 16, 16])?;
        assert_eq!(tokens.dims(), [1, 2 * 2 * 3, 1024]);
        let tokens = tokens.squeeze(0)?.to_vec2::<f32>()?;
        assert_eq!(tokens[0][..3], [0., 1., 2.]);
        assert_eq!(tokens[0][16], 48.0);
        assert_eq!(tokens[0][256], 32. * 48.);
        assert_eq!(tokens[1][0], 16.0);
        assert_eq!(tokens[3][0], 16. * 48.);
        assert_eq!(tokens[6][0], 4. * 32. * 48.);
        Ok(())
    }

    #[test]
    fn patches_keep_channels_last() -> Result<()> {
        let x = ramp(&[1, 2, 2, 2, 2])?;
        let token = patchify(&x, [2, 2, 2])?.flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(token[..4], [0., 8., 1., 9.]);
        Ok(())
    }

    #[test]
    fn conv_equals_its_definition() -> Result<()> {
        let d = &Device::Cpu;
        let x = Tensor::randn(0f32, 1., (2, 3, 4, 6, 4), d)?;
        let weight = Tensor::randn(0f32, 1., (5, 3, 2, 3, 2), d)?;
        let bias = Tensor::randn(0f32, 1., 5, d)?;
        let (cut, _) = blocks(&x, [2, 3, 2])?;
        let rows = cut.permute(vec![0, 2, 4, 6, 3, 5, 7, 1])?.reshape((2, 8 * 12, 3))?;
        let conv = PatchConv3d::new(weight.clone(), Some(bias.clone()))?;
        let y = conv.forward_blocks(&rows)?;
        assert_eq!(y.dims(), [2, 8, 5]);
        assert!(conv.forward_blocks(&rows.narrow(1, 0, 13)?).is_err());
        let y = y.transpose(1, 2)?.reshape((2, 5, 2, 2, 2))?;
        let at = |t: &Tensor, i: &[usize]| -> Result<f32> {
            let mut t = t.clone();
            for &i in i {
                t = t.get(i)?;
            }
            t.to_scalar()
        };
        for (n, o, gd, gh, gw) in [(0, 0, 0, 0, 0), (1, 4, 1, 0, 1), (0, 2, 0, 1, 1)] {
            let mut sum = at(&bias, &[o])?;
            for c in 0..3 {
                for (i, j, k) in (0..12).map(|q| (q / 6, q / 2 % 3, q % 2)) {
                    sum += at(&weight, &[o, c, i, j, k])?
                        * at(&x, &[n, c, gd * 2 + i, gh * 3 + j, gw * 2 + k])?;
                }
            }
            assert!((at(&y, &[n, o, gd, gh, gw])? - sum).abs() < 1e-5);
        }
        Ok(())
    }

    #[test]
    fn transposed_conv_equals_its_definition() -> Result<()> {
        let d = &Device::Cpu;
        let x = Tensor::randn(0f32, 1., (1, 3, 2, 2, 3), d)?;
        let weight = Tensor::randn(0f32, 1., (3, 4, 2, 2, 2), d)?;
        let bias = Tensor::randn(0f32, 1., 4, d)?;
        let y = PatchConvTranspose3d::new(weight.clone(), bias.clone())?.forward(&x)?;
        assert_eq!(y.dims(), [1, 4, 4, 4, 6]);
        let y = y.squeeze(0)?;
        for (o, i, j, k) in [(0, 0, 0, 0), (3, 3, 2, 5), (1, 2, 1, 4)] {
            let mut sum = bias.get(o)?.to_scalar::<f32>()?;
            for c in 0..3 {
                let input = x.get(0)?.get(c)?.get(i / 2)?.get(j / 2)?.get(k / 2)?;
                let w = weight.get(c)?.get(o)?.get(i % 2)?.get(j % 2)?.get(k % 2)?;
                sum += input.to_scalar::<f32>()? * w.to_scalar::<f32>()?;
            }
            assert!((y.get(o)?.get(i)?.get(j)?.get(k)?.to_scalar::<f32>()? - sum).abs() < 1e-5);
        }
        Ok(())
    }

    #[test]
    fn a_patch_that_does_not_divide_the_volume_is_refused() -> Result<()> {
        let error = patchify(&ramp(&[1, 1, 5, 4, 4])?, [2, 2, 2]);
        assert!(error.is_err_and(|e| e.to_string().contains("5x4x4")));
        Ok(())
    }
}
