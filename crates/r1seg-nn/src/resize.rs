//! Resizing as `torch.nn.functional.interpolate`.

use candle_core::{DType, Device, Result, Tensor};

/// Resizes to `size` (`[D, H, W]`) by trilinear interpolation with `align_corners=False` and without
/// anti-aliasing.
///
/// Separable: one interpolation matrix per axis, in f32; on a CUDA device one kernel with the same
/// weights.
///
/// # Shapes
/// - `x`: `[B, C, D, H, W]`    - returns: `[B, C, size[0], size[1], size[2]]`, in f32
///
/// # Errors
/// When the backend cannot run the operation.
pub fn trilinear(x: &Tensor, size: [usize; 3]) -> Result<Tensor> {
    let (b, c, d, h, w) = x.dims5()?;
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(x) && size != [d, h, w] {
        return crate::cuda::trilinear(x, size);
    }
    let x = x.to_dtype(DType::F32)?.contiguous()?;
    let device = &x.device().clone();
    let [od, oh, ow] = size;
    let x = if ow == w {
        x
    } else {
        let m = interpolation_matrix(w, ow, device)?.t()?;
        x.reshape((b * c * d * h, w))?.matmul(&m)?
    };
    let x = if oh == h {
        x
    } else {
        let m = interpolation_matrix(h, oh, device)?;
        let x = x.reshape((b * c * d, h, ow))?;
        m.broadcast_left(b * c * d)?.matmul(&x)?
    };
    let x = if od == d {
        x
    } else {
        let m = interpolation_matrix(d, od, device)?;
        let x = x.reshape((b * c, d, oh * ow))?;
        m.broadcast_left(b * c)?.matmul(&x)?
    };
    x.reshape((b, c, od, oh, ow))
}

/// Repeats every token `factor` times along each axis: nearest-neighbor upsampling.
///
/// # Shapes
/// - `x`: `[B, D, H, W, C]`    - returns: `[B, D * factor, H * factor, W * factor, C]`
///
/// # Errors
/// When the backend cannot run the operation.
pub fn nearest(x: &Tensor, factor: usize) -> Result<Tensor> {
    let (b, d, h, w, c) = x.dims5()?;
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(x) {
        return crate::cuda::nearest(x, factor);
    }
    let x = x.contiguous()?.reshape(vec![b, d, 1, h, 1, w, 1, c])?;
    let x = x.broadcast_as(vec![b, d, factor, h, factor, w, factor, c])?;
    x.reshape((b, d * factor, h * factor, w * factor, c))
}

/// # Shapes
/// - returns: `[output, input]`, rows that sum to one
fn interpolation_matrix(input: usize, output: usize, device: &Device) -> Result<Tensor> {
    let mut matrix = vec![0f32; output * input];
    for (i, row) in matrix.chunks_exact_mut(input).enumerate() {
        let source = ((i as f32 + 0.5) * (input as f32 / output as f32) - 0.5).max(0.0);
        let low = (source as usize).min(input - 1);
        let high = (low + 1).min(input - 1);
        let fraction = source - low as f32;
        row[low] += 1.0 - fraction;
        row[high] += fraction;
    }
    Tensor::from_vec(matrix, (output, input), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{device, random};

    /// Direct evaluation at one output voxel, in f64.
    fn direct(x: &[f32], from: [usize; 3], to: [usize; 3], at: [usize; 3]) -> f64 {
        let axis = |a: usize| {
            let s = ((at[a] as f64 + 0.5) * from[a] as f64 / to[a] as f64 - 0.5).max(0.0);
            let low = (s.floor() as usize).min(from[a] - 1);
            [(low, 1.0 - (s - low as f64)), ((low + 1).min(from[a] - 1), s - low as f64)]
        };
        let mut sum = 0.0;
        for (d, wd) in axis(0) {
            for (h, wh) in axis(1) {
                for (w, ww) in axis(2) {
                    sum += wd * wh * ww * f64::from(x[(d * from[1] + h) * from[2] + w]);
                }
            }
        }
        sum
    }

    #[test]
    fn trilinear_equals_direct_evaluation() -> Result<()> {
        for (from, to) in [([4, 5, 6], [8, 20, 9]), ([7, 3, 5], [3, 3, 2]), ([2, 2, 2], [1, 4, 4])]
        {
            let x = random(0.0, 1.0, (1, 1, from[0], from[1], from[2]))?;
            let flat = x.flatten_all()?.to_vec1::<f32>()?;
            let y = trilinear(&x, to)?.flatten_all()?.to_vec1::<f32>()?;
            for (i, y) in y.iter().enumerate() {
                let at = [i / (to[1] * to[2]), i / to[2] % to[1], i % to[2]];
                let expected = direct(&flat, from, to, at);
                assert!((f64::from(*y) - expected).abs() < 2e-6, "{from:?} {to:?} {at:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn batch_rows_resize_as_they_do_alone() -> Result<()> {
        let x = random(0.0, 1.0, (2, 3, 4, 5, 6))?;
        let all = trilinear(&x, [6, 7, 8])?;
        let one = trilinear(&x.narrow(0, 1, 1)?.narrow(1, 2, 1)?, [6, 7, 8])?;
        let all = all.narrow(0, 1, 1)?.narrow(1, 2, 1)?;
        assert!((all - one)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-6);
        Ok(())
    }

    #[test]
    fn every_token_is_repeated_along_each_axis() -> Result<()> {
        let x = Tensor::new(&[1f32, 10., 2., 20.], &device()?)?.reshape((1, 1, 1, 2, 2))?;
        let y = nearest(&x, 2)?;
        assert_eq!(y.dims(), [1, 2, 2, 4, 2]);
        let row = [1f32, 10., 1., 10., 2., 20., 2., 20.];
        assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, row.repeat(4));
        let x = Tensor::new(&[1f32, 2., 3., 4.], &device()?)?.reshape((2, 2, 1, 1, 1))?;
        let y = nearest(&x, 2)?.flatten_all()?.to_vec1::<f32>()?;
        let halves: Vec<f32> = [1., 2., 3., 4.].into_iter().flat_map(|x| [x; 8]).collect();
        assert_eq!(y, halves);
        Ok(())
    }
}
