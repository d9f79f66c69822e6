//! 3D convolution as a sum of products of matrices.

use candle_core::{DType, Result, Tensor, bail};
use r1seg_kernels::ConvGeometry;

/// One product for each voxel of the kernel: what any device can do.
///
/// # Shapes
/// - `x`: `[B, in, D, H, W]`    - `taps`: `[kd * kh * kw, out, in]`
/// - returns: `[B, out, D', H', W']`, in f32 or f64
pub(super) fn sum_of_taps(
    x: &Tensor,
    taps: &Tensor,
    kernel: [usize; 3],
    geometry: ConvGeometry,
) -> Result<Tensor> {
    let ConvGeometry { input, output: [d, h, w], stride: [sd, sh, sw], padding } = geometry;
    let (b, c, ..) = x.dims5()?;
    let (_, out, _) = taps.dims3()?;
    let wide = if x.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    let mut padded = x.clone();
    for axis in 0..3 {
        let reach = kernel[axis] - 1 + geometry.stride[axis] * geometry.output[axis];
        let behind = reach.saturating_sub(input[axis] + padding[axis]);
        padded = padded.pad_with_zeros(2 + axis, padding[axis], behind)?;
    }
    let [_, kh, kw] = kernel;
    let mut sum: Option<Tensor> = None;
    for tap in 0..kernel.iter().product() {
        let part = padded.narrow(2, tap / (kh * kw), sd * d)?;
        let part = part.narrow(3, tap / kw % kh, sh * h)?.narrow(4, tap % kw, sw * w)?;
        let part = if [sd, sh, sw] == [1; 3] {
            part
        } else {
            let part = part.contiguous()?.reshape(vec![b, c, d, sd, h, sh, w, sw])?;
            part.narrow(3, 0, 1)?.narrow(5, 0, 1)?.narrow(7, 0, 1)?
        };
        let part = part.contiguous()?.reshape((b, c, d * h * w))?;
        let weight = taps.get(tap)?.to_dtype(x.dtype())?.broadcast_left(b)?;
        let product = weight.matmul(&part)?.to_dtype(wide)?;
        sum = Some(match sum {
            Some(sum) => (sum + product)?,
            None => product,
        });
    }
    match sum {
        Some(sum) => sum.reshape((b, out, d, h, w)),
        None => bail!("a convolution without a kernel"),
    }
}
