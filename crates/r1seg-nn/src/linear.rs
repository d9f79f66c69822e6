//! `y = x Wᵀ + b` with weights that may stay in half precision.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};
use candle_nn::VarBuilder;
use half::slice::HalfFloatSliceExt;
use r1seg_kernels::{Matrix, WeightType};
use rayon::prelude::*;

/// f16 weights are widened to f32 in blocks of this many elements (16 MiB): large enough for the
/// matrix product's blocking, small enough to be reused by the allocator.
const WIDEN_BLOCK: usize = 4 << 20;

/// A linear layer.
///
/// The dtype of the input decides the dtype of the result. On a CPU, f32 and bf16 weights are
/// copied at construction, and the original is dropped. f32 weights are multiplied in f32.
/// bf16 weights are multiplied in f32 too, except that products of many rows round the
/// activations to bf16 where the processor has instructions for that (AVX512-BF16), which doubles
/// their speed; sums are f32 everywhere.
#[derive(Clone)]
pub struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
    in_dim: usize,
    out_dim: usize,
}

#[derive(Clone)]
enum Weight {
    /// On a CPU: bytes as in a file.
    Bytes(Arc<Vec<u8>>, WeightType),
    /// On a GPU, and f16 on a CPU. `[out, in]`
    Plain(Tensor),
}

impl std::fmt::Debug for Linear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match &self.weight {
            Weight::Bytes(_, weight_type) => format!("{weight_type:?}, bytes"),
            Weight::Plain(weight) => format!("{:?}", weight.dtype()),
        };
        write!(f, "Linear({} -> {}, {kind})", self.in_dim, self.out_dim)
    }
}

/// A [`Linear`] from the keys `weight` and `bias`.
///
/// # Errors
/// When a tensor is missing or misshaped.
pub fn linear(in_dim: usize, out_dim: usize, vb: VarBuilder) -> Result<Linear> {
    Linear::new(vb.get((out_dim, in_dim), "weight")?, Some(vb.get(out_dim, "bias")?))
}

/// A [`Linear`] from the key `weight` alone.
///
/// # Errors
/// When the tensor is missing or misshaped.
pub fn linear_no_bias(in_dim: usize, out_dim: usize, vb: VarBuilder) -> Result<Linear> {
    Linear::new(vb.get((out_dim, in_dim), "weight")?, None)
}

impl Linear {
    /// # Shapes
    /// - `weight`: `[out, in]`    - `bias`: `[out]`
    ///
    /// # Errors
    /// When the weight is no matrix.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        let (out_dim, in_dim) = weight.dims2()?;
        let on_cpu = weight.device().is_cpu();
        let bias = match bias {
            Some(bias) if on_cpu => Some(bias.to_dtype(DType::F32)?),
            bias => bias,
        };
        let weight = if on_cpu { bytes(weight)? } else { Weight::Plain(weight) };
        Ok(Self { weight, bias, in_dim, out_dim })
    }

    /// # Shapes
    /// - `x`: `[.., in]`    - returns: `[.., out]`, in the dtype of `x`
    ///
    /// # Errors
    /// When the widths do not fit or the backend cannot run the operation.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (out_dim, in_dim) = (self.out_dim, self.in_dim);
        let mut dims = x.dims().to_vec();
        if dims.last() != Some(&in_dim) {
            bail!("a linear layer of width {in_dim} got an input of shape {:?}", x.dims())
        }
        let flat = x.contiguous()?.reshape((x.elem_count() / in_dim, in_dim))?;
        let y = self.product(&flat)?;
        let y = match &self.bias {
            Some(bias) => y.broadcast_add(&bias.to_dtype(y.dtype())?)?,
            None => y,
        };
        if let Some(last) = dims.last_mut() {
            *last = out_dim;
        }
        y.reshape(dims)
    }

    /// # Shapes
    /// - `x`: `[M, in]`    - returns: `[M, out]`
    fn product(&self, x: &Tensor) -> Result<Tensor> {
        match &self.weight {
            Weight::Bytes(bytes, weight_type) => {
                let op = BytesProduct {
                    bytes: bytes.clone(),
                    weight_type: *weight_type,
                    n: self.out_dim,
                    k: self.in_dim,
                };
                x.to_dtype(DType::F32)?.apply_op1_no_bwd(&op)?.to_dtype(x.dtype())
            }
            Weight::Plain(weight) if weight.dtype() == x.dtype() => x.matmul(&weight.t()?),
            Weight::Plain(weight) if x.device().is_cpu() && x.dtype() == DType::F32 => {
                let block = (WIDEN_BLOCK / self.in_dim.max(1)).clamp(1, self.out_dim.max(1));
                let mut columns = Vec::with_capacity(self.out_dim.div_ceil(block));
                for first in (0..self.out_dim).step_by(block) {
                    let part = weight.narrow(0, first, block.min(self.out_dim - first))?;
                    columns.push(x.matmul(&part.apply_op1_no_bwd(&Widen)?.t()?)?);
                }
                if columns.len() == 1 { Ok(columns.remove(0)) } else { Tensor::cat(&columns, 1) }
            }
            Weight::Plain(weight) => x.matmul(&weight.to_dtype(x.dtype())?.t()?),
        }
    }
}

fn bytes(weight: Tensor) -> Result<Weight> {
    let weight = weight.contiguous()?;
    let bytes = {
        let (storage, layout) = weight.storage_and_layout();
        let candle_core::Storage::Cpu(storage) = &*storage else {
            bail!("only weights on a CPU have bytes")
        };
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("a linear layer needs contiguous weights")
        };
        match storage {
            CpuStorage::BF16(w) => {
                let bytes = w[start..end].iter().flat_map(|w| w.to_le_bytes()).collect();
                Some((bytes, WeightType::Bf16))
            }
            CpuStorage::F32(w) => {
                let bytes = w[start..end].iter().flat_map(|w| w.to_le_bytes()).collect();
                Some((bytes, WeightType::F32))
            }
            _ => None,
        }
    };
    Ok(match bytes {
        Some((bytes, weight_type)) => Weight::Bytes(Arc::new(bytes), weight_type),
        None => Weight::Plain(weight),
    })
}

struct BytesProduct {
    bytes: Arc<Vec<u8>>,
    weight_type: WeightType,
    n: usize,
    k: usize,
}

impl CustomOp1 for BytesProduct {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let &Self { weight_type, n, k, .. } = self;
        let (m, _) = layout.shape().dims2()?;
        let x = crate::cpu::f32_slice(x, layout, self.name())?;
        let Some(matrix) = Matrix::new(&self.bytes, weight_type, n, k) else {
            bail!("weights of [{n}, {k}] have other bytes")
        };
        let mut y = vec![0f32; m * n];
        matrix.forward(x, m, None, &mut y);
        Ok((CpuStorage::F32(y), Shape::from((m, n))))
    }
}

/// Exact widening of f16 weights, in parallel (candle's cast is single-threaded).
struct Widen;

impl CustomOp1 for Widen {
    fn name(&self) -> &'static str {
        "widen"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (CpuStorage::F16(x), Some((start, end))) = (storage, layout.contiguous_offsets())
        else {
            bail!("widening needs contiguous f16 weights")
        };
        let mut wide = vec![0f32; end - start];
        const CHUNK: usize = 64 * 1024;
        wide.par_chunks_mut(CHUNK)
            .zip(x[start..end].par_chunks(CHUNK))
            .for_each(|(y, x)| x.convert_to_f32_slice(y));
        Ok((CpuStorage::F32(wide), layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// Largest deviation from f64, over the largest result.
    fn deviation(weight: &Tensor, bias: Option<&Tensor>, m: usize) -> Result<f64> {
        let (_, k) = weight.dims2()?;
        let x = Tensor::randn(0f32, 1., (1, m, k), &Device::Cpu)?;
        let y = Linear::new(weight.clone(), bias.cloned())?.forward(&x)?;
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
    fn many_f16_rows_over_several_blocks_equal_one_product() -> Result<()> {
        let (k, n) = (2048, 5000);
        let weight = Tensor::randn(0f32, 0.02, (n, k), &Device::Cpu)?.to_dtype(DType::F16)?;
        assert!(n * k > WIDEN_BLOCK);
        assert!(deviation(&weight, None, 12)? < 1e-6);
        Ok(())
    }

    #[test]
    fn half_precision_activations_keep_their_dtype() -> Result<()> {
        let weight = Tensor::randn(0f32, 1., (8, 16), &Device::Cpu)?.to_dtype(DType::BF16)?;
        let x = Tensor::randn(0f32, 1., (3, 16), &Device::Cpu)?.to_dtype(DType::BF16)?;
        assert_eq!(Linear::new(weight, None)?.forward(&x)?.dtype(), DType::BF16);
        Ok(())
    }

    #[test]
    fn a_wrong_width_is_refused_by_name() -> Result<()> {
        let layer = Linear::new(Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?, None)?;
        let error = layer.forward(&Tensor::zeros((1, 4), DType::F32, &Device::Cpu)?);
        assert!(error.is_err_and(|e| e.to_string().contains("width 3")));
        Ok(())
    }
}
