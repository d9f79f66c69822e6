//! `y = x Wᵀ + b` with weights that may stay in half precision, quantized, and in their file.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};

use crate::activation::{Activation, add};
use crate::matrix::{StoredMatrix, WeightMatrix};
use crate::quantized::QuantizedMatrix;
use crate::weights::Weights;

/// A linear layer.
///
/// The dtype of the input decides the dtype of the result. On a CPU, weights are multiplied where
/// they are stored, often a memory-mapped file; [`r1seg_kernels::Matrix`] says when activations are
/// rounded. Sums are f32 everywhere.
#[derive(Clone)]
pub struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
    in_dim: usize,
    out_dim: usize,
}

#[derive(Clone)]
enum Weight {
    /// On a CPU: matrices whose rows follow one another, and the bias.
    Stored(Arc<Stored>),
    /// On a GPU, in blocks.
    Quantized(QuantizedMatrix),
    /// On a GPU. `[out, in]`
    Tensor(Tensor),
}

struct Stored {
    parts: Vec<StoredMatrix>,
    bias: Option<Vec<f32>>,
    out_dim: usize,
}

impl std::fmt::Debug for Linear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Linear({} -> {}, ", self.in_dim, self.out_dim)?;
        match &self.weight {
            Weight::Stored(stored) => write!(f, "{:?})", stored.parts),
            Weight::Quantized(quantized) => write!(f, "{quantized:?})"),
            Weight::Tensor(weight) => write!(f, "{:?})", weight.dtype()),
        }
    }
}

/// A [`Linear`] from the keys `weight` and `bias`.
///
/// # Errors
/// When a tensor is missing or misshaped.
pub fn linear(in_dim: usize, out_dim: usize, weights: Weights) -> Result<Linear> {
    stacked(in_dim, &[(weights, out_dim)], true)
}

/// A [`Linear`] from the key `weight` alone.
///
/// # Errors
/// When the tensor is missing or misshaped.
pub fn linear_no_bias(in_dim: usize, out_dim: usize, weights: Weights) -> Result<Linear> {
    stacked(in_dim, &[(weights, out_dim)], false)
}

/// One [`Linear`] whose outputs are those of `parts`, one after the other: a single pass over the
/// input for what a checkpoint splits. Each part is a place with the key `weight` (and `bias`) and
/// a number of outputs.
///
/// # Errors
/// When a tensor is missing or misshaped.
pub fn stacked(in_dim: usize, parts: &[(Weights, usize)], bias: bool) -> Result<Linear> {
    let matrices = Weights::matrices(parts, in_dim, "weight")?;
    let biases = parts
        .iter()
        .filter(|_| bias)
        .map(|(weights, out_dim)| weights.get(*out_dim, "bias"))
        .collect::<Result<Vec<_>>>()?;
    let bias = if biases.is_empty() { None } else { Some(Tensor::cat(&biases, 0)?) };
    Linear::from_matrices(matrices, bias)
}

impl Linear {
    /// # Shapes
    /// - `weight`: `[out, in]`    - `bias`: `[out]`
    ///
    /// # Errors
    /// When the weight is no matrix of floats.
    pub fn new(weight: &Tensor, bias: Option<Tensor>) -> Result<Self> {
        Self::from_matrices(vec![WeightMatrix::from_tensor(weight)?], bias)
    }

    /// A layer whose outputs are those of `matrices`, one after the other.
    ///
    /// # Shapes
    /// - `matrices`: `[out_i, in]`    - `bias`: `[sum of out_i]`
    ///
    /// # Errors
    /// When the widths differ, or the matrices lie on different devices or are quantized in part.
    pub fn from_matrices(matrices: Vec<WeightMatrix>, bias: Option<Tensor>) -> Result<Self> {
        let (mut out_dim, mut in_dim) = (0, None);
        let (mut parts, mut quantized, mut tensors) = (Vec::new(), Vec::new(), Vec::new());
        for matrix in matrices {
            let (n, k) = matrix.shape()?;
            if in_dim.is_some_and(|width| width != k) {
                bail!("matrices of different widths cannot be stacked")
            }
            (out_dim, in_dim) = (out_dim + n, Some(k));
            match matrix {
                WeightMatrix::Stored(part) => parts.push(part),
                WeightMatrix::Quantized(part) => quantized.push(part),
                WeightMatrix::Tensor(tensor) => tensors.push(tensor),
            }
        }
        let Some(in_dim) = in_dim else { bail!("a linear layer needs a weight") };
        let weight = match (parts.is_empty(), quantized.is_empty(), tensors.as_slice()) {
            (false, true, []) => {
                let bias = match &bias {
                    Some(bias) => Some(bias.to_dtype(DType::F32)?.to_vec1()?),
                    None => None,
                };
                Weight::Stored(Arc::new(Stored { parts, bias, out_dim }))
            }
            (true, false, []) => Weight::Quantized(QuantizedMatrix::joined(&quantized)?),
            (true, true, [one]) => Weight::Tensor(one.clone()),
            (true, true, _) => Weight::Tensor(Tensor::cat(&tensors, 0)?),
            _ => bail!("the parts of a linear layer are not kept in one way"),
        };
        Ok(Self { weight, bias, in_dim, out_dim })
    }

    /// # Shapes
    /// - `x`: `[.., in]`    - returns: `[.., out]`, in the dtype of `x`
    ///
    /// # Errors
    /// When the widths do not fit or the backend cannot run the operation.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_activated(x, Activation::None)
    }

    /// The activation of the layer's result.
    ///
    /// # Shapes
    /// - `x`: `[.., in]`    - returns: `[.., out]`, half as wide with a gate, in the dtype of `x`
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and when a width is odd that is to be halved.
    pub fn forward_activated(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        let rows = self.rows(x)?;
        #[cfg(feature = "cuda")]
        if let Some(y) = self.on_gpu(&rows, activation, None, false)? {
            return reshaped(y, x);
        }
        reshaped(activation.apply(&self.product(&rows)?)?, x)
    }

    /// The layer's result and `residual`.
    ///
    /// # Shapes
    /// - `x`: `[.., in]`    - `residual`: `[.., out]`    - returns: `[.., out]`, in the dtype of `x`
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and when the residual has another shape than the result.
    pub fn forward_add(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        let rows = self.rows(x)?;
        #[cfg(feature = "cuda")]
        if residual.dtype() == x.dtype() {
            let residual = residual.contiguous()?;
            if let Some(y) = self.on_gpu(&rows, Activation::None, Some(&residual), false)? {
                return y.reshape(residual.dims());
            }
        }
        add(residual, &self.product(&rows)?.reshape(residual.dims())?)
    }

    /// As [`forward`](Self::forward), in f32 whatever the dtype of `x`. A GPU rounds the results of more
    /// than eight rows to that dtype before.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_f32(&self, x: &Tensor) -> Result<Tensor> {
        let rows = self.rows(x)?;
        #[cfg(feature = "cuda")]
        if let Some(y) = self.on_gpu(&rows, Activation::None, None, true)? {
            return reshaped(y, x);
        }
        reshaped(self.product(&rows)?.to_dtype(DType::F32)?, x)
    }

    /// # Shapes
    /// - returns: `[rows, in]`
    fn rows(&self, x: &Tensor) -> Result<Tensor> {
        let in_dim = self.in_dim;
        if x.dims().last() != Some(&in_dim) {
            bail!("a linear layer of width {in_dim} got an input of shape {:?}", x.dims())
        }
        x.contiguous()?.reshape((x.elem_count() / in_dim.max(1), in_dim))
    }

    /// # Shapes
    /// - `rows`: `[rows, in]`    - returns: `[rows, out]`
    fn product(&self, rows: &Tensor) -> Result<Tensor> {
        match &self.weight {
            Weight::Stored(stored) => {
                let wide = rows.to_dtype(DType::F32)?;
                wide.apply_op1_no_bwd(&Product(stored.clone()))?.to_dtype(rows.dtype())
            }
            Weight::Quantized(weight) => self.dense(rows, &weight.to_tensor(rows.dtype())?),
            Weight::Tensor(weight) => self.dense(rows, weight),
        }
    }

    /// With `weight` in place of this layer's.
    fn dense(&self, rows: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let y = rows.matmul(&weight.to_dtype(rows.dtype())?.t()?)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(&bias.to_dtype(y.dtype())?),
            None => Ok(y),
        }
    }

    /// The product of a few rows and what follows it in one launch, that of many rows in two.
    ///
    /// # Shapes
    /// - `rows`: `[rows, in]`    - returns: `[rows, out]`, half as wide with a gate
    #[cfg(feature = "cuda")]
    fn on_gpu(
        &self,
        rows: &Tensor,
        activation: Activation,
        residual: Option<&Tensor>,
        wide: bool,
    ) -> Result<Option<Tensor>> {
        use crate::cuda::{MAX_FEW_ROWS, Matrix, Then, few_rows, finish};
        let dtype = rows.dtype();
        let few = rows.dim(0)? <= MAX_FEW_ROWS;
        let bias = self.bias.as_ref().map(|bias| bias.to_dtype(dtype)).transpose()?;
        let then = Then { bias: bias.as_ref(), activation, residual };
        let weight = match &self.weight {
            _ if !crate::cuda::takes(rows) => return Ok(None),
            Weight::Stored(_) => return Ok(None),
            Weight::Quantized(weight) if few => {
                return few_rows(rows, Matrix::Quantized(weight), then, wide).map(Some);
            }
            Weight::Quantized(weight) => weight.to_tensor(dtype)?,
            Weight::Tensor(weight) => weight.to_dtype(dtype)?,
        };
        if few {
            return few_rows(rows, Matrix::Dense(&weight), then, wide).map(Some);
        }
        let y = finish(rows.matmul(&weight.t()?)?, then)?;
        Ok(Some(if wide { y.to_dtype(DType::F32)? } else { y }))
    }
}

/// Restores the leading dimensions of `like`.
fn reshaped(rows: Tensor, like: &Tensor) -> Result<Tensor> {
    let mut dims = like.dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = rows.dim(1)?;
    }
    rows.reshape(dims)
}

struct Product(Arc<Stored>);

impl CustomOp1 for Product {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (m, _) = layout.shape().dims2()?;
        let x = crate::cpu::f32_slice(x, layout, self.name())?;
        let Stored { parts, bias, out_dim } = &*self.0;
        let parts = parts.iter().map(StoredMatrix::view).collect::<Result<Vec<_>>>()?;
        let y = r1seg_kernels::forward_stacked(&parts, x, m, bias.as_deref());
        Ok((CpuStorage::F32(y), Shape::from((m, *out_dim))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{gap, wave};
    use candle_core::Device;

    /// Largest deviation from f64, over the largest result.
    fn deviation(weight: &Tensor, bias: Option<&Tensor>, m: usize) -> Result<f64> {
        let (_, k) = weight.dims2()?;
        let x = Tensor::randn(0f32, 1., (1, m, k), &Device::Cpu)?;
        let y = Linear::new(weight, bias.cloned())?.forward(&x)?;
        let exact =
            x.to_dtype(DType::F64)?.squeeze(0)?.matmul(&weight.to_dtype(DType::F64)?.t()?)?;
        let exact = match bias {
            Some(bias) => exact.broadcast_add(&bias.to_dtype(DType::F64)?)?,
            None => exact,
        };
        let max = |t: Tensor| t.abs()?.max_all()?.to_scalar::<f64>();
        Ok(max((y.to_dtype(DType::F64)?.squeeze(0)? - &exact)?)? / max(exact)?)
    }

    #[test]
    fn products_are_exact_to_the_precision_of_their_activations() -> Result<()> {
        for (dtype, tolerance) in [(DType::F32, 1e-6), (DType::F16, 1e-6), (DType::BF16, 4e-3)] {
            for (m, k, n) in
                [(1, 64, 7), (1, 100, 130), (5, 33, 65), (9, 48, 20), (40, 96, 17), (300, 5, 3)]
            {
                let weight = Tensor::randn(0f32, 1., (n, k), &Device::Cpu)?.to_dtype(dtype)?;
                let bias = Tensor::randn(0f32, 1., n, &Device::Cpu)?.to_dtype(dtype)?;
                let gap = deviation(&weight, Some(&bias), m)?;
                // A single row is never rounded: it is bound by reading the weights.
                let tolerance = if m == 1 { 1e-6 } else { tolerance };
                assert!(gap < tolerance, "{dtype:?} {m}x{k}x{n}: {gap:e}");
            }
        }
        Ok(())
    }

    #[test]
    fn what_follows_a_product_equals_the_unfused_operations() -> Result<()> {
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            for (m, k, n) in [(1, 64, 6), (2, 33, 10), (3, 136, 14), (7, 40, 2), (33, 24, 18)] {
                let (weight, x) = (wave(&[n, k], 0.7)?.to_dtype(dtype)?, wave(&[m, k], 1.3)?);
                let x = x.to_dtype(dtype)?;
                let bias = wave(&[n], 0.9)?.to_dtype(dtype)?;
                let residual = wave(&[m, n], 0.4)?.to_dtype(dtype)?;
                let layer = Linear::new(&weight, Some(bias.clone()))?;
                let wide = |t: &Tensor| t.to_device(&Device::Cpu)?.to_dtype(DType::F64);
                let plain = wide(&x)?.matmul(&wide(&weight)?.t()?)?.broadcast_add(&wide(&bias)?)?;
                // Of the largest number: half precision rounds the activations of many rows on a CPU,
                // and results.
                let tolerance = if dtype == DType::F32 { 2e-6 } else { 1e-2 };
                let check = |got: Tensor, exact: Tensor, what: &str| -> Result<()> {
                    // Activations of small numbers are small; what was rounded before them is not.
                    let largest = exact.abs()?.max_all()?.to_scalar::<f64>()?.max(1.0);
                    let gap = gap(&got, &exact)? / largest;
                    assert!(gap < tolerance, "{what} {dtype:?} {m}x{k}x{n}: {gap:e}");
                    Ok(())
                };
                check(layer.forward(&x)?, plain.clone(), "plain")?;
                check(layer.forward_f32(&x)?, plain.clone(), "f32")?;
                assert_eq!(layer.forward_f32(&x)?.dtype(), DType::F32);
                check(layer.forward_add(&x, &residual)?, (&plain + wide(&residual)?)?, "residual")?;
                let gelu = layer.forward_activated(&x, Activation::GeluErf)?;
                check(gelu, plain.gelu_erf()?, "GELU")?;
                check(layer.forward_activated(&x, Activation::Relu)?, plain.relu()?, "ReLU")?;
                let gated = layer.forward_activated(&x, Activation::SiluGate)?;
                let (gate, up) = (plain.narrow(1, 0, n / 2)?, plain.narrow(1, n / 2, n / 2)?);
                check(gated, (gate.silu()? * up)?, "gate")?;
            }
        }
        Ok(())
    }

    #[test]
    fn parts_give_what_their_joined_matrix_gives() -> Result<()> {
        let (k, parts) = (96, [20, 7, 33]);
        let matrices = parts
            .iter()
            .map(|n| Tensor::randn(0f32, 1., (*n, k), &Device::Cpu))
            .collect::<Result<Vec<_>>>()?;
        let joined = Linear::new(&Tensor::cat(&matrices, 0)?, None)?;
        let parts = matrices.iter().map(WeightMatrix::from_tensor).collect::<Result<Vec<_>>>()?;
        let stacked = Linear::from_matrices(parts, None)?;
        for m in [1, 5, 40] {
            let x = Tensor::randn(0f32, 1., (m, k), &Device::Cpu)?;
            let gap = (joined.forward(&x)? - stacked.forward(&x)?)?.abs()?.max_all()?;
            assert!(gap.to_scalar::<f32>()? < 1e-4, "{m} rows");
        }
        Ok(())
    }

    #[test]
    fn weights_that_were_not_loaded_are_an_error() -> Result<()> {
        let absent = StoredMatrix::new(bytes::Bytes::new(), crate::WeightType::F32, (2, 3));
        let layer = Linear::from_matrices(vec![WeightMatrix::Stored(absent)], None)?;
        let error = layer.forward(&Tensor::zeros((1, 3), DType::F32, &Device::Cpu)?);
        assert!(error.is_err_and(|e| e.to_string().contains("not loaded")));
        Ok(())
    }

    #[test]
    fn half_precision_activations_keep_their_dtype() -> Result<()> {
        let weight = Tensor::randn(0f32, 1., (8, 16), &Device::Cpu)?.to_dtype(DType::BF16)?;
        let x = Tensor::randn(0f32, 1., (3, 16), &Device::Cpu)?.to_dtype(DType::BF16)?;
        assert_eq!(Linear::new(&weight, None)?.forward(&x)?.dtype(), DType::BF16);
        Ok(())
    }

    #[test]
    fn a_wrong_width_is_refused_by_name() -> Result<()> {
        let layer = Linear::new(&Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?, None)?;
        let error = layer.forward(&Tensor::zeros((1, 4), DType::F32, &Device::Cpu)?);
        assert!(error.is_err_and(|e| e.to_string().contains("width 3")));
        Ok(())
    }
}
