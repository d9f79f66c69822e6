//! Activations, sums, rows of a table, and a search for broken numbers.

use candle_core::{DType, Result, Tensor, bail};
use r1seg_kernels::cuda::ELEMENTWISE;

use super::{Grid, Parameters, Pointer, device_of, launch, unfilled};
use crate::activation::Activation;

#[repr(C)]
struct Args<'a> {
    x: Pointer<'a>,
    y: Pointer<'a>,
    out: Pointer<'a>,
    len: i64,
    width: i64,
    activation: i32,
}

// SAFETY: as `Elementwise` of elementwise.cu; the functions below check the lengths.
unsafe impl Parameters for Args<'_> {}

/// One launch of `kernel` over `x` and `y`, to `out`.
fn run(
    (kernel, grid): (&str, Grid),
    (x, y, out): (&Tensor, Option<&Tensor>, &Tensor),
    (len, width): (usize, usize),
    activation: Activation,
) -> Result<()> {
    let args = Args {
        x: Pointer::of(x)?,
        y: Pointer::of_optional(y)?,
        out: Pointer::of(out)?,
        len: len as i64,
        width: width as i64,
        activation: activation as i32,
    };
    launch(&device_of(x)?, (ELEMENTWISE, kernel, x.dtype()), grid, args)
}

/// # Shapes
/// - `x`: any    - returns: the same
pub(crate) fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    let len = x.elem_count();
    let out = unfilled(x.shape(), x.dtype(), &device_of(x)?)?;
    let grid = Grid::for_each(len);
    run(("activate", grid), (x, None, &out), (len, 0), activation)?;
    Ok(out)
}

/// `silu(gate) * up`.
///
/// # Shapes
/// - `x`: `[.., 2 * F]`, the gate in the first half    - returns: `[.., F]`
pub(crate) fn gated(x: &Tensor) -> Result<Tensor> {
    let mut dims = x.dims().to_vec();
    let Some(last) = dims.last_mut().filter(|last| last.is_multiple_of(2)) else {
        bail!("a gate needs an even last dimension, got {:?}", x.dims())
    };
    *last /= 2;
    let (width, len) = (*last, x.elem_count() / 2);
    let out = unfilled(dims, x.dtype(), &device_of(x)?)?;
    run(("gated", Grid::for_each(len)), (x, None, &out), (len, width), Activation::None)?;
    Ok(out)
}

/// `x + y`, with `y` as often as it takes.
///
/// # Shapes
/// - `x`: `[.., *dims]`    - `y`: `dims`, of the same dtype    - returns: the shape of `x`
pub(crate) fn sum(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let (len, width) = (x.elem_count(), y.elem_count());
    if width == 0 || !len.is_multiple_of(width) || x.dtype() != y.dtype() {
        bail!("{:?} {:?} cannot be added to {:?}", y.dtype(), y.dims(), x.dims())
    }
    let out = unfilled(x.shape(), x.dtype(), &device_of(x)?)?;
    run(("sum", Grid::for_each(len)), (x, Some(y), &out), (len, width), Activation::None)?;
    Ok(out)
}

/// The product of GELU of each row with `weights`.
///
/// # Shapes
/// - `x`: `[rows, n]`    - `weights`: `[n]`, of the same dtype    - returns: `[rows]`
pub(crate) fn gelu_dot(x: &Tensor, weights: &Tensor) -> Result<Tensor> {
    let (rows, width) = x.dims2()?;
    if weights.elem_count() != width || x.dtype() != weights.dtype() {
        bail!("rows of {width} got weights of shape {:?}", weights.dims())
    }
    let out = unfilled(rows, x.dtype(), &device_of(x)?)?;
    let grid = Grid::for_each(32 * rows);
    run(("gelu_dot", grid), (x, Some(weights), &out), (rows, width), Activation::None)?;
    Ok(out)
}

/// Rows of a table.
///
/// # Shapes
/// - `table`: `[V, width]`    - `ids`: `L` in u32, each below `V`    - returns: `[L, width]`
pub(crate) fn gather(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let ((_, width), len) = (table.dims2()?, ids.dims1()?);
    if ids.dtype() != DType::U32 {
        bail!("rows are chosen by u32, got {:?}", ids.dtype())
    }
    let out = unfilled((len, width), table.dtype(), &device_of(table)?)?;
    let grid = Grid::new([len, 1, 1], 256);
    run(("gather", grid), (table, Some(ids), &out), (len, width), Activation::None)?;
    Ok(out)
}

/// Whether no number is NaN or infinite. The host waits.
pub(crate) fn all_finite(x: &Tensor) -> Result<bool> {
    /// Blocks that keep a device busy.
    const ENOUGH: usize = 512;
    let len = x.elem_count();
    let broken = Tensor::zeros((), DType::U32, x.device())?;
    let mut grid = Grid::for_each(len);
    grid.blocks[0] = grid.blocks[0].min(ENOUGH);
    run(("find_broken", grid), (x, None, &broken), (len, 0), Activation::None)?;
    Ok(broken.to_scalar::<u32>()? == 0)
}
