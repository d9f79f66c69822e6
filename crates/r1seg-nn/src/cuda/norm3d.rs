//! Norms of volumes.

use candle_core::{DType, Result, Tensor, bail};
use r1seg_kernels::cuda::NORM3D;

use super::{Grid, Parameters, Pointer, device_of, launch, unfilled};

#[repr(C)]
struct InstanceArgs<'a> {
    x: Pointer<'a>,
    weight: Pointer<'a>,
    bias: Pointer<'a>,
    parts: Pointer<'a>,
    y: Pointer<'a>,
    voxels: i64,
    channels: i32,
    eps: f32,
    relu: i32,
}

// SAFETY: as `InstanceNorm` of norm3d.cu; `instance_norm` checks the lengths.
unsafe impl Parameters for InstanceArgs<'_> {}

#[repr(C)]
struct ChannelArgs<'a> {
    x: Pointer<'a>,
    weight: Pointer<'a>,
    bias: Pointer<'a>,
    y: Pointer<'a>,
    voxels: i64,
    channels: i32,
    eps: f32,
}

// SAFETY: as `ChannelNorm` of norm3d.cu; `channel_norm` checks the lengths.
unsafe impl Parameters for ChannelArgs<'_> {}

/// Voxels of a part of a channel, and those that a block normalizes.
const PART: usize = 8 << 10;
const STRETCH: usize = 16 << 10;

/// Each channel of each volume normalized over its voxels.
///
/// # Shapes
/// - `x`: `[B, C, D, H, W]`    - `factors`: the weight and the bias, `[C]` each in f32
/// - returns: as `x`
pub(crate) fn instance_norm(x: &Tensor, factors: Option<[&Tensor; 2]>, eps: f64) -> Result<Tensor> {
    let (x, [b, channels, voxels]) = checked(x, factors)?;
    let (device, dtype) = (device_of(&x)?, x.dtype());
    let y = unfilled(x.shape(), dtype, &device)?;
    if y.elem_count() == 0 {
        return Ok(y);
    }
    let (rows, count) = (b * channels, voxels.div_ceil(PART));
    let parts = unfilled((rows, count, 2), DType::F32, &device)?;
    for (kernel, blocks) in [("instance_parts", count), ("instance_norm", voxels.div_ceil(STRETCH))]
    {
        let args = InstanceArgs {
            x: Pointer::of(&x)?,
            weight: Pointer::of_optional(factors.map(|[weight, _]| weight))?,
            bias: Pointer::of_optional(factors.map(|[_, bias]| bias))?,
            parts: Pointer::of(&parts)?,
            y: Pointer::of(&y)?,
            voxels: voxels as i64,
            channels: channels as i32,
            eps: eps as f32,
            relu: 0,
        };
        let grid = Grid::new([blocks, rows, 1], 256);
        launch(&device, (NORM3D, kernel, dtype), grid, args)?;
    }
    Ok(y)
}

/// The layer norm over the channels of each voxel.
///
/// # Shapes
/// - `x`: `[B, C, D, H, W]`    - `weight`, `bias`: `[C]` in f32
/// - returns: as `x`
pub(crate) fn channel_norm(x: &Tensor, [weight, bias]: [&Tensor; 2], eps: f64) -> Result<Tensor> {
    let (x, [b, channels, voxels]) = checked(x, Some([weight, bias]))?;
    let (device, dtype) = (device_of(&x)?, x.dtype());
    let y = unfilled(x.shape(), dtype, &device)?;
    if y.elem_count() == 0 {
        return Ok(y);
    }
    let args = ChannelArgs {
        x: Pointer::of(&x)?,
        weight: Pointer::of(weight)?,
        bias: Pointer::of(bias)?,
        y: Pointer::of(&y)?,
        voxels: voxels as i64,
        channels: channels as i32,
        eps: eps as f32,
    };
    let grid = Grid::new([voxels.div_ceil(32), b, 1], 256);
    launch(&device, (NORM3D, "channel_norm", dtype), grid, args)?;
    Ok(y)
}

/// `x` as the kernels read it, and its sizes.
fn checked(x: &Tensor, factors: Option<[&Tensor; 2]>) -> Result<(Tensor, [usize; 3])> {
    let (b, channels, d, h, w) = x.dims5()?;
    let fits = |t: &Tensor| t.dims() == [channels] && t.dtype() == DType::F32;
    if factors.is_some_and(|factors| !factors.into_iter().all(fits)) {
        bail!("a norm of other channels got an input of shape {:?}", x.dims())
    }
    Ok((x.contiguous()?, [b, channels, d * h * w]))
}
