//! Layer norms and RMS norms.

use candle_core::{DType, Result, Tensor, bail};
use r1seg_kernels::cuda::NORM;

use super::{Grid, Parameters, Pointer, SHARED, device_of, launch, unfilled};

/// What is done to each row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowNorm {
    pub(crate) eps: f64,
    /// A layer norm, whose weights are followed by biases; else an RMS norm.
    pub(crate) centered: bool,
    pub(crate) gelu: bool,
}

#[repr(C)]
struct Args<'a> {
    x: Pointer<'a>,
    plus: Pointer<'a>,
    factors: Pointer<'a>,
    out: Pointer<'a>,
    parts: Pointer<'a>,
    width: i64,
    part: i32,
    eps: f32,
    centered: i32,
    gelu: i32,
    staged: i32,
}

// SAFETY: as `RowNorm` of norm.cu; `row_norm` checks the lengths.
unsafe impl Parameters for Args<'_> {}

/// Widths above this are shared by several blocks.
const LONG: usize = 16 << 10;

/// Numbers of a long row that one block takes.
const PART: usize = 8 << 10;

/// Bytes of shared memory that the sums of a block take.
const SUMS: usize = 4 * 32;

/// The norm of the rows of `x + plus`.
///
/// # Shapes
/// - `x`, `plus`: `[rows, width]`    - `factors`: `[width]`, twice when centered, in f32
/// - returns: `[rows, width]`, in the dtype of `x`
pub(crate) fn row_norm(
    x: &Tensor,
    plus: Option<&Tensor>,
    factors: &Tensor,
    norm: RowNorm,
) -> Result<Tensor> {
    let (rows, width) = x.dims2()?;
    let fits = factors.elem_count() == width * (1 + usize::from(norm.centered))
        && factors.dtype() == DType::F32
        && plus.is_none_or(|plus| plus.shape() == x.shape() && plus.dtype() == x.dtype());
    if !fits {
        bail!("a norm of [{rows}, {width}] got factors of shape {:?}", factors.dims())
    }
    let (device, dtype) = (device_of(x)?, x.dtype());
    let out = unfilled((rows, width), dtype, &device)?;
    let parts = width.div_ceil(PART);
    let joined =
        if width > LONG { Some(unfilled((rows, parts, 2), DType::F32, &device)?) } else { None };
    let staged = 4 * width + SUMS <= SHARED;
    let args = || {
        Ok::<_, candle_core::Error>(Args {
            x: Pointer::of(x)?,
            plus: Pointer::of_optional(plus)?,
            factors: Pointer::of(factors)?,
            out: Pointer::of(&out)?,
            parts: Pointer::of_optional(joined.as_ref())?,
            width: width as i64,
            part: PART as i32,
            eps: norm.eps as f32,
            centered: i32::from(norm.centered),
            gelu: i32::from(norm.gelu),
            staged: i32::from(staged),
        })
    };
    if joined.is_some() {
        let grid = || Grid::new([parts, rows, 1], 256);
        launch(&device, (NORM, "row_parts", dtype), grid(), args()?)?;
        launch(&device, (NORM, "long_norm", dtype), grid(), args()?)?;
    } else {
        // A few numbers for each thread, as long as there are enough threads.
        let threads = width.div_ceil(4).next_multiple_of(32).clamp(32, 512);
        let shared = if staged { 4 * width } else { 0 };
        let grid = Grid { blocks: [rows, 1, 1], threads, shared };
        launch(&device, (NORM, "row_norm", dtype), grid, args()?)?;
    }
    Ok(out)
}
