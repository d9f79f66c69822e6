//! Resizing of volumes and of tokens, each in one launch.

use candle_core::{DType, Result, Tensor, bail};
use r1seg_kernels::cuda::RESIZE;

use super::{Grid, Parameters, Pointer, device_of, launch, unfilled};

#[repr(C)]
struct TrilinearArgs<'a> {
    x: Pointer<'a>,
    y: Pointer<'a>,
    rows: i64,
    from: [i32; 3],
    to: [i32; 3],
}

// SAFETY: as `Trilinear` of resize.cu; `trilinear` makes an output of these sizes.
unsafe impl Parameters for TrilinearArgs<'_> {}

#[repr(C)]
struct NearestArgs<'a> {
    x: Pointer<'a>,
    y: Pointer<'a>,
    size: [i32; 3],
    channels: i32,
    factor: i32,
}

// SAFETY: as `Nearest` of resize.cu; `nearest` makes an output of these sizes.
unsafe impl Parameters for NearestArgs<'_> {}

/// Blocks that a grid may have along its second axis; the kernel goes on from there.
const MAX_ROWS: usize = 65_535;

/// # Shapes
/// - `x`: `[B, C, D, H, W]`    - returns: `[B, C, size..]` in f32
pub(crate) fn trilinear(x: &Tensor, size: [usize; 3]) -> Result<Tensor> {
    let (b, c, d, h, w) = x.dims5()?;
    let (device, x) = (device_of(x)?, x.contiguous()?);
    let y = unfilled((b, c, size[0], size[1], size[2]), DType::F32, &device)?;
    if y.elem_count() == 0 {
        return Ok(y);
    }
    if x.elem_count() == 0 {
        bail!("{:?} cannot be resized to {size:?}", x.dims())
    }
    let args = TrilinearArgs {
        x: Pointer::of(&x)?,
        y: Pointer::of(&y)?,
        rows: (b * c) as i64,
        from: [d, h, w].map(|n| n as i32),
        to: size.map(|n| n as i32),
    };
    let blocks = size.iter().product::<usize>().div_ceil(256);
    let grid = Grid::new([blocks, (b * c).min(MAX_ROWS), 1], 256);
    launch(&device, (RESIZE, "trilinear", x.dtype()), grid, args)?;
    Ok(y)
}

/// # Shapes
/// - `x`: `[B, D, H, W, C]`    - returns: `[B, D * factor, H * factor, W * factor, C]`
pub(crate) fn nearest(x: &Tensor, factor: usize) -> Result<Tensor> {
    let (b, d, h, w, c) = x.dims5()?;
    let (device, x) = (device_of(x)?, x.contiguous()?);
    let y = unfilled((b, d * factor, h * factor, w * factor, c), x.dtype(), &device)?;
    if y.elem_count() == 0 {
        return Ok(y);
    }
    let args = NearestArgs {
        x: Pointer::of(&x)?,
        y: Pointer::of(&y)?,
        size: [d, h, w].map(|n| n as i32),
        channels: c as i32,
        factor: factor as i32,
    };
    let grid = Grid::new([y.elem_count() / c, 1, 1], c.next_multiple_of(32).min(256));
    launch(&device, (RESIZE, "nearest", x.dtype()), grid, args)?;
    Ok(y)
}
