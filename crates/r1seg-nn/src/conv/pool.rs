//! Pooling of grids whose blocks do not overlap.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};

use super::patch::blocks;
use crate::cpu::f32_slice;

/// Average pooling with kernel = stride = `kernel` on every axis; what does not fill a last
/// block is left out, as in PyTorch.
///
/// # Shapes
/// - `x`: `[B, C, D, H, W]`    - returns: `[B, C, D / kernel, H / kernel, W / kernel]`
///
/// # Errors
/// When the kernel is zero or larger than an axis.
pub fn avg_pool3d(x: &Tensor, kernel: usize) -> Result<Tensor> {
    let (b, c, d, h, w) = x.dims5()?;
    if kernel == 0 || [d, h, w].iter().any(|&n| n < kernel) {
        bail!("a grid of {d}x{h}x{w} cannot be pooled by {kernel}")
    }
    let [gd, gh, gw] = [d, h, w].map(|n| n / kernel);
    let x = x.narrow(2, 0, gd * kernel)?.narrow(3, 0, gh * kernel)?.narrow(4, 0, gw * kernel)?;
    let (blocks, _) = blocks(&x, [kernel; 3])?;
    let blocks = blocks.permute(vec![0, 1, 2, 4, 6, 3, 5, 7])?;
    blocks.reshape((b, c, gd, gh, gw, kernel * kernel * kernel))?.mean(5)
}

/// Max pooling of tokens with kernel = stride = `kernel` on every axis; what does not fill a last
/// block is left out, as in PyTorch.
///
/// # Shapes
/// - `x`: `[B, D, H, W, C]`    - returns: `[B, D / kernel, H / kernel, W / kernel, C]`
///
/// # Errors
/// When the kernel is zero or larger than an axis.
pub fn max_pool3d(x: &Tensor, kernel: usize) -> Result<Tensor> {
    let (b, d, h, w, c) = x.dims5()?;
    if kernel == 0 || [d, h, w].iter().any(|&n| n < kernel) {
        bail!("a grid of {d}x{h}x{w} cannot be pooled by {kernel}")
    }
    if x.device().is_cpu() && x.dtype() == DType::F32 {
        return x.contiguous()?.apply_op1_no_bwd(&MaxPool { kernel });
    }
    let [gd, gh, gw] = [d, h, w].map(|n| n / kernel);
    let x = x.narrow(1, 0, gd * kernel)?.narrow(2, 0, gh * kernel)?.narrow(3, 0, gw * kernel)?;
    let x = x.contiguous()?.reshape(vec![b, gd, kernel, gh, kernel, gw, kernel, c])?;
    let x = largest(&x, 6)?;
    let x = largest(&x.reshape(vec![b, gd, kernel, gh, kernel, gw, c])?, 4)?;
    largest(&x.reshape((b, gd, kernel, gh * gw * c))?, 2)?.reshape((b, gd, gh, gw, c))
}

/// The largest along `axis`, which is left with one element.
fn largest(x: &Tensor, axis: usize) -> Result<Tensor> {
    let mut largest = x.narrow(axis, 0, 1)?;
    for i in 1..x.dim(axis)? {
        largest = largest.maximum(&x.narrow(axis, i, 1)?)?;
    }
    largest.contiguous()
}

/// The CPU's path in f32.
struct MaxPool {
    kernel: usize,
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max-pool3d"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (b, d, h, w, c) = layout.shape().dims5()?;
        let x = f32_slice(x, layout, self.name())?;
        let kernel = self.kernel;
        let [gd, gh, gw] = [d, h, w].map(|n| n / kernel);
        let mut y = vec![f32::NEG_INFINITY; b * gd * gh * gw * c];
        // An input row of cells goes to one row of the output.
        for (row, to) in y.chunks_exact_mut((gw * c).max(1)).enumerate() {
            let [n, i, j] = [row / (gd * gh), row / gh % gd, row % gh];
            for (z, y) in
                (0..kernel * kernel).map(|k| (i * kernel + k / kernel, j * kernel + k % kernel))
            {
                let from = &x[((n * d + z) * h + y) * w * c..][..gw * kernel * c];
                for (to, from) in to.chunks_exact_mut(c).zip(from.chunks_exact(kernel * c)) {
                    for cell in from.chunks_exact(c) {
                        for (to, x) in to.iter_mut().zip(cell) {
                            // NaN must not end here: it tells of numbers that overflowed.
                            *to = if *x <= *to || to.is_nan() { *to } else { *x };
                        }
                    }
                }
            }
        }
        Ok((CpuStorage::F32(y), Shape::from((b, gd, gh, gw, c))))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::testing::{gap, wave};

    #[test]
    fn pooling_averages_blocks_and_drops_the_rest() -> Result<()> {
        let x = Tensor::arange(0f32, 20., &Device::Cpu)?.reshape((1, 1, 2, 2, 5))?;
        let y = avg_pool3d(&x, 2)?.flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(y, [8.0, 10.0]);
        assert!(avg_pool3d(&x, 3).is_err());
        Ok(())
    }

    #[test]
    fn the_largest_of_every_block_is_kept_in_every_channel() -> Result<()> {
        for ([b, d, h, w, c], kernel) in
            [([2, 4, 2, 6, 3], 2), ([1, 7, 3, 5, 8], 3), ([1, 5, 4, 3, 2], 2)]
        {
            let x = wave(&[b, d, h, w, c], 0.7)?;
            let flat = x.flatten_all()?.to_vec1::<f32>()?;
            let [gd, gh, gw] = [d, h, w].map(|n| n / kernel);
            let mut expected = vec![f32::NEG_INFINITY; b * gd * gh * gw * c];
            for (at, x) in flat.iter().enumerate() {
                let [n, z, y, x_at] =
                    [at / (d * h * w * c), at / (h * w * c) % d, at / (w * c) % h, at / c % w];
                let [z, y, x_at] = [z, y, x_at].map(|i| i / kernel);
                if z < gd && y < gh && x_at < gw {
                    let to = (((n * gd + z) * gh + y) * gw + x_at) * c + at % c;
                    expected[to] = expected[to].max(*x);
                }
            }
            let expected = Tensor::from_vec(expected, (b, gd, gh, gw, c), &Device::Cpu)?;
            assert_eq!(gap(&max_pool3d(&x, kernel)?, &expected)?, 0.0);
            // f64 takes the way of a GPU.
            assert_eq!(gap(&max_pool3d(&x.to_dtype(DType::F64)?, kernel)?, &expected)?, 0.0);
        }
        Ok(())
    }

    #[test]
    fn nan_is_the_largest_of_its_block() -> Result<()> {
        for nan in 0..8 {
            let mut cells = [1f32, 2., 3., 4., 5., 6., 7., 8.];
            cells[nan] = f32::NAN;
            let x = Tensor::new(&cells, &Device::Cpu)?.reshape((1, 2, 2, 2, 1))?;
            let y = max_pool3d(&x, 2)?.flatten_all()?.to_vec1::<f32>()?;
            assert!(y[0].is_nan(), "{nan}");
        }
        Ok(())
    }

    #[test]
    fn a_grid_smaller_than_a_block_is_refused() -> Result<()> {
        assert!(max_pool3d(&wave(&[1, 2, 2, 1, 3], 0.7)?, 2).is_err());
        assert!(max_pool3d(&wave(&[1, 2, 2, 2, 3], 0.7)?, 0).is_err());
        Ok(())
    }
}
