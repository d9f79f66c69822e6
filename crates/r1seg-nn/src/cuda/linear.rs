//! Linear layers of a few rows, and what follows the products of many.

use candle_core::{DType, Result, Tensor, bail};
use r1seg_kernels::cuda::LINEAR;

use super::{Grid, Parameters, Pointer, device_of, launch, unfilled};
use crate::activation::Activation;

/// Rows of activations up to which [`few_rows`] reads a weight matrix once for all.
pub(crate) const MAX_FEW_ROWS: usize = 8;

/// Warps of a block, as in few.cu.
const WARPS: usize = 4;

/// What follows the product of a linear layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Then<'a> {
    /// A number per row of the weight.
    pub(crate) bias: Option<&'a Tensor>,
    pub(crate) activation: Activation,
    /// What is added last, of the shape of the result.
    pub(crate) residual: Option<&'a Tensor>,
}

impl Then<'_> {
    /// Whether nothing follows.
    pub(crate) fn is_nothing(&self) -> bool {
        self.bias.is_none() && self.activation == Activation::None && self.residual.is_none()
    }

    /// Outputs of so many rows of a weight.
    fn outputs(&self, weight_rows: usize) -> usize {
        if self.activation == Activation::SiluGate { weight_rows / 2 } else { weight_rows }
    }

    /// Whether its tensors are those of `rows` results from `weight_rows` rows of a weight.
    fn fits(&self, (rows, weight_rows): (usize, usize), dtype: DType) -> bool {
        let is = |t: Option<&Tensor>, len: usize| {
            t.is_none_or(|t| t.elem_count() == len && t.dtype() == dtype)
        };
        is(self.bias, weight_rows) && is(self.residual, rows * self.outputs(weight_rows))
    }
}

#[repr(C)]
struct Args<'a> {
    x: Pointer<'a>,
    weight: Pointer<'a>,
    bias: Pointer<'a>,
    residual: Pointer<'a>,
    out: Pointer<'a>,
    n: i64,
    k: i64,
    rows: i32,
    activation: i32,
    wide_out: i32,
}

// SAFETY: as `FewRows` of linear/few.cu; the functions below check the lengths.
unsafe impl Parameters for Args<'_> {}

/// A linear layer of at most [`MAX_FEW_ROWS`] rows, in one launch.
///
/// # Shapes
/// - `x`: `[rows, k]`    - `weight`: `[n, k]`, of the same dtype
/// - returns: `[rows, n]`, `[rows, n / 2]` when gated, in the dtype of `x` or, when `wide`, in f32
pub(crate) fn few_rows(x: &Tensor, weight: &Tensor, then: Then<'_>, wide: bool) -> Result<Tensor> {
    let ((rows, k), (weight_rows, width)) = (x.dims2()?, weight.dims2()?);
    let dtype = x.dtype();
    let fits = k == width && weight.dtype() == dtype && then.fits((rows, weight_rows), dtype);
    if !fits || rows > MAX_FEW_ROWS {
        bail!("a layer of shape {:?} got rows of shape {:?}", weight.dims(), x.dims())
    }
    let n = then.outputs(weight_rows);
    let device = device_of(x)?;
    let out = unfilled((rows, n), if wide { DType::F32 } else { dtype }, &device)?;
    let args = Args {
        x: Pointer::of(x)?,
        weight: Pointer::of(weight)?,
        bias: Pointer::of_optional(then.bias)?,
        residual: Pointer::of_optional(then.residual)?,
        out: Pointer::of(&out)?,
        n: n as i64,
        k: k as i64,
        rows: rows as i32,
        activation: then.activation as i32,
        wide_out: i32::from(wide),
    };
    let kernel = match rows {
        1 => "few_rows_1",
        2 => "few_rows_2",
        3 | 4 => "few_rows_4",
        _ => "few_rows_8",
    };
    // A warp takes two rows of the weight.
    let grid = Grid::new([weight_rows.div_ceil(2 * WARPS), 1, 1], 32 * WARPS);
    launch(&device, (LINEAR, kernel, dtype), grid, args)?;
    Ok(out)
}

/// What follows a product of many rows, in one launch.
///
/// # Shapes
/// - `product`: `[rows, weight_rows]`
/// - returns: the same, half as wide when gated
pub(crate) fn finish(product: Tensor, then: Then<'_>) -> Result<Tensor> {
    if then.is_nothing() {
        return Ok(product);
    }
    let ((rows, weight_rows), dtype) = (product.dims2()?, product.dtype());
    if !then.fits((rows, weight_rows), dtype) {
        bail!("a product of shape {:?} got a bias or residual of another", product.dims())
    }
    let (n, device) = (then.outputs(weight_rows), device_of(&product)?);
    let out = unfilled((rows, n), dtype, &device)?;
    let args = Args {
        x: Pointer::of(&product)?,
        weight: Pointer::NULL,
        bias: Pointer::of_optional(then.bias)?,
        residual: Pointer::of_optional(then.residual)?,
        out: Pointer::of(&out)?,
        n: n as i64,
        k: 0,
        rows: i32::try_from(rows).map_err(candle_core::Error::wrap)?,
        activation: then.activation as i32,
        wide_out: 0,
    };
    launch(&device, (LINEAR, "finish", dtype), Grid::for_each(rows * n), args)?;
    Ok(out)
}
