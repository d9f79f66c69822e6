//! Linear layers of a few rows, what follows the products of many, and quantized weights.

use candle_core::{DType, Result, Tensor, bail};
use r1seg_kernels::WeightType;
use r1seg_kernels::cuda::{LINEAR, Module, QUANTIZED};

use super::{Grid, Parameters, Pointer, device_of, launch, unfilled};
use crate::activation::Activation;
use crate::quantized::QuantizedMatrix;

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
        let halves = self.activation != Activation::SiluGate || weight_rows.is_multiple_of(2);
        halves && is(self.bias, weight_rows) && is(self.residual, rows * self.outputs(weight_rows))
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

/// A weight `[n, k]` on the device.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Matrix<'a> {
    /// Of the dtype of the activations.
    Dense(&'a Tensor),
    Quantized(&'a QuantizedMatrix),
}

impl<'a> Matrix<'a> {
    fn shape(&self) -> Result<(usize, usize)> {
        match self {
            Self::Dense(weight) => weight.dims2(),
            Self::Quantized(weight) => Ok(weight.shape()),
        }
    }

    /// Its numbers or blocks.
    fn numbers(&self) -> &'a Tensor {
        match self {
            Self::Dense(weight) => weight,
            Self::Quantized(weight) => weight.bytes(),
        }
    }

    /// Where its kernels are, and how they are called.
    fn kernels(&self) -> Result<(Module, &'static str)> {
        match self {
            Self::Dense(_) => Ok((LINEAR, "few_rows")),
            Self::Quantized(weight) => Ok((QUANTIZED, name(weight, ["few_q8_0", "few_q4k"])?)),
        }
    }
}

/// The name of a kernel, of those for Q8_0 and Q4_K.
fn name(weight: &QuantizedMatrix, [q8_0, q4k]: [&'static str; 2]) -> Result<&'static str> {
    match weight.weight_type() {
        WeightType::Q8_0 => Ok(q8_0),
        WeightType::Q4K => Ok(q4k),
        other => bail!("kernels take no {other:?}"),
    }
}

/// A linear layer of at most [`MAX_FEW_ROWS`] rows, in one launch.
///
/// # Shapes
/// - `x`: `[rows, k]`    - `weight`: `[n, k]`
/// - returns: `[rows, n]`, `[rows, n / 2]` when gated, in the dtype of `x` or, when `wide`, in f32
pub(crate) fn few_rows(
    x: &Tensor,
    weight: Matrix<'_>,
    then: Then<'_>,
    wide: bool,
) -> Result<Tensor> {
    let ((rows, k), (weight_rows, width)) = (x.dims2()?, weight.shape()?);
    let dtype = x.dtype();
    let known = match weight {
        Matrix::Dense(weight) => weight.dtype() == dtype,
        Matrix::Quantized(_) => true,
    };
    if !known || k != width || !then.fits((rows, weight_rows), dtype) || rows > MAX_FEW_ROWS {
        bail!("a layer of {weight_rows}x{width} weights got rows of shape {:?}", x.dims())
    }
    let n = then.outputs(weight_rows);
    let device = device_of(x)?;
    let out = unfilled((rows, n), if wide { DType::F32 } else { dtype }, &device)?;
    // Blocks of weights meet 16 bytes of activations at a time.
    let x = match weight {
        Matrix::Quantized(_) if !Pointer::of(x)?.0.is_multiple_of(16) => &x.force_contiguous()?,
        _ => x,
    };
    let args = Args {
        x: Pointer::of(x)?,
        weight: Pointer::of(weight.numbers())?,
        bias: Pointer::of_optional(then.bias)?,
        residual: Pointer::of_optional(then.residual)?,
        out: Pointer::of(&out)?,
        n: n as i64,
        k: k as i64,
        rows: rows as i32,
        activation: then.activation as i32,
        wide_out: i32::from(wide),
    };
    let together = match rows {
        3 => 4,
        5.. => MAX_FEW_ROWS,
        rows => rows.max(1),
    };
    let (module, kernel) = weight.kernels()?;
    // A warp takes two rows of the weight.
    let grid = Grid::new([weight_rows.div_ceil(2 * WARPS), 1, 1], 32 * WARPS);
    launch(&device, (module, &format!("{kernel}_{together}"), dtype), grid, args)?;
    Ok(out)
}

#[repr(C)]
struct WidenArgs<'a> {
    weight: Pointer<'a>,
    out: Pointer<'a>,
    n: i64,
    k: i64,
}

// SAFETY: as `Widen` of linear/quantized.cu; a `QuantizedMatrix` has as many bytes as its shape says.
unsafe impl Parameters for WidenArgs<'_> {}

/// All weights of a quantized matrix.
///
/// # Shapes
/// - returns: `[n, k]`
pub(crate) fn widen(weight: &QuantizedMatrix, dtype: DType) -> Result<Tensor> {
    let (n, k) = weight.shape();
    let device = device_of(weight.bytes())?;
    let out = unfilled((n, k), dtype, &device)?;
    let args = WidenArgs {
        weight: Pointer::of(weight.bytes())?,
        out: Pointer::of(&out)?,
        n: n as i64,
        k: k as i64,
    };
    // Numbers that a thread widens.
    let piece = if weight.weight_type() == WeightType::Q8_0 { 16 } else { 32 };
    let kernel = name(weight, ["widen_q8_0", "widen_q4k"])?;
    launch(&device, (QUANTIZED, kernel, dtype), Grid::for_each(n * k / piece), args)?;
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
