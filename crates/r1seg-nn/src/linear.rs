//! `y = x Wᵀ + b` with weights that may stay in half precision.

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};
use candle_nn::VarBuilder;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

/// Up to this many rows the product is bound by reading the weights, so each weight row is
/// widened once, in cache, for all of them.
const GEMV_ROWS: usize = 8;

/// Weight elements that are widened to f32 at once for a product of many rows (16 MiB): large
/// enough for the matrix product's blocking, small enough to be reused by the allocator.
const WIDEN_BLOCK: usize = 4 << 20;

/// A linear layer.
///
/// The dtype of the input decides the dtype of the computation. f32 activations over bf16 or
/// f16 weights are computed in f32 (the weights are widened exactly, block by block), which on a
/// CPU is both faster and more accurate than half-precision arithmetic.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
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
        weight.dims2()?;
        let bias = match bias {
            Some(bias) if bias.device().is_cpu() => Some(bias.to_dtype(DType::F32)?),
            bias => bias,
        };
        Ok(Self { weight, bias })
    }

    /// The weight, `[out, in]`, in the dtype in which it is stored.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// # Shapes
    /// - `x`: `[.., in]`    - returns: `[.., out]`, in the dtype of `x`
    ///
    /// # Errors
    /// When the widths do not fit or the backend cannot run the operation.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (out_dim, in_dim) = self.weight.dims2()?;
        let mut dims = x.dims().to_vec();
        if dims.last() != Some(&in_dim) {
            bail!("a linear layer of width {in_dim} got an input of shape {:?}", x.dims())
        }
        let rows = x.elem_count() / in_dim;
        let flat = x.contiguous()?.reshape((rows, in_dim))?;
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
        let (m, in_dim) = x.dims2()?;
        let out_dim = self.weight.dim(0)?;
        if x.dtype() == self.weight.dtype() {
            return x.matmul(&self.weight.t()?);
        }
        if !(x.device().is_cpu() && x.dtype() == DType::F32) {
            return x.matmul(&self.weight.to_dtype(x.dtype())?.t()?);
        }
        if m <= GEMV_ROWS {
            return x.apply_op2_no_bwd(&self.weight, &HalfGemv);
        }
        let block = (WIDEN_BLOCK / in_dim.max(1)).clamp(1, out_dim.max(1));
        let mut columns = Vec::with_capacity(out_dim.div_ceil(block));
        for first in (0..out_dim).step_by(block) {
            let part = self.weight.narrow(0, first, block.min(out_dim - first))?;
            columns.push(x.matmul(&part.apply_op1_no_bwd(&Widen)?.t()?)?);
        }
        if columns.len() == 1 { Ok(columns.remove(0)) } else { Tensor::cat(&columns, 1) }
    }
}

/// Exact widening of half-precision numbers, in parallel (candle's cast is single-threaded).
struct Widen;

impl candle_core::CustomOp1 for Widen {
    fn name(&self) -> &'static str {
        "widen"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("widening needs contiguous weights")
        };
        let mut wide = vec![0f32; end - start];
        const CHUNK: usize = 64 * 1024;
        match storage {
            CpuStorage::BF16(x) => wide
                .par_chunks_mut(CHUNK)
                .zip(x[start..end].par_chunks(CHUNK))
                .for_each(|(y, x)| widen_bf16(x, y)),
            CpuStorage::F16(x) => wide
                .par_chunks_mut(CHUNK)
                .zip(x[start..end].par_chunks(CHUNK))
                .for_each(|(y, x)| x.convert_to_f32_slice(y)),
            _ => bail!("only bf16 and f16 weights can be widened"),
        }
        Ok((CpuStorage::F32(wide), layout.shape().clone()))
    }
}

/// bf16 is the upper half of an f32, so this is a shift that the compiler vectorises.
fn widen_bf16(x: &[bf16], y: &mut [f32]) {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            for (y, x) in y.iter_mut().zip(x) {
                *y = f32::from_bits(u32::from(x.to_bits()) << 16);
            }
        },
    );
}

/// `[m, k] x [n, k]ᵀ` for few rows, f32 by half precision, f32 accumulation.
struct HalfGemv;

impl HalfGemv {
    /// Weight rows that one task handles.
    const ROWS: usize = 64;

    fn run<T: Copy + Sync>(
        x: &[f32],
        weight: &[T],
        m: usize,
        k: usize,
        widen: impl Fn(&[T], &mut [f32]) + Sync,
    ) -> Vec<f32> {
        let n = weight.len() / k;
        // [n, m]: each task writes its own rows.
        let mut out = vec![0f32; n * m];
        let arch = pulp::Arch::new();
        out.par_chunks_mut(Self::ROWS * m).zip(weight.par_chunks(Self::ROWS * k)).for_each_init(
            || vec![0f32; k],
            |wide, (out, weight)| {
                for (out, row) in out.chunks_exact_mut(m).zip(weight.chunks_exact(k)) {
                    widen(row, wide);
                    arch.dispatch(
                        #[inline(always)]
                        || {
                            for (out, x) in out.iter_mut().zip(x.chunks_exact(k)) {
                                *out = dot(wide, x);
                            }
                        },
                    );
                }
            },
        );
        if m == 1 {
            return out;
        }
        let mut y = vec![0f32; n * m];
        for (i, y) in y.chunks_exact_mut(n).enumerate() {
            for (y, row) in y.iter_mut().zip(out.chunks_exact(m)) {
                *y = row[i];
            }
        }
        y
    }
}

/// A dot product in 64 independent partial sums: enough to fill the vector units' latency.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 64;
    let mut sums = [0f32; LANES];
    let (mut a, mut b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    for (a, b) in (&mut a).zip(&mut b) {
        for ((s, &a), &b) in sums.iter_mut().zip(a).zip(b) {
            *s += a * b;
        }
    }
    let tail: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            sums[i] += sums[i + width];
        }
        width /= 2;
    }
    sums[0] + tail
}

impl CustomOp2 for HalfGemv {
    fn name(&self) -> &'static str {
        "half-gemv"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (m, k) = x_layout.shape().dims2()?;
        let (n, _) = weight_layout.shape().dims2()?;
        let x = crate::cpu::f32_slice(x, x_layout, self.name())?;
        let Some((start, end)) = weight_layout.contiguous_offsets() else {
            bail!("a linear layer needs contiguous weights")
        };
        let y = match weight {
            CpuStorage::BF16(w) => Self::run(x, &w[start..end], m, k, widen_bf16),
            CpuStorage::F16(w) => {
                Self::run(x, &w[start..end], m, k, |x: &[f16], y| x.convert_to_f32_slice(y))
            }
            _ => bail!("half-gemv needs bf16 or f16 weights"),
        };
        Ok((CpuStorage::F32(y), Shape::from((m, n))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn half_weights_give_what_their_widened_copies_give() -> Result<()> {
        let device = &Device::Cpu;
        for dtype in [DType::BF16, DType::F16] {
            for (m, k, n) in [(1, 64, 7), (1, 100, 130), (5, 33, 65), (9, 48, 20), (40, 96, 17)] {
                let weight = Tensor::randn(0f32, 1., (n, k), device)?.to_dtype(dtype)?;
                let bias = Tensor::randn(0f32, 1., n, device)?.to_dtype(dtype)?;
                let x = Tensor::randn(0f32, 1., (1, m, k), device)?;
                let y = Linear::new(weight.clone(), Some(bias.clone()))?.forward(&x)?;
                let [x, w, b] = [&x, &weight, &bias].map(|t| t.to_dtype(DType::F64));
                let exact = x?.squeeze(0)?.matmul(&w?.t()?)?.broadcast_add(&b?)?;
                let gap = (y.to_dtype(DType::F64)?.squeeze(0)? - exact)?.abs()?.max_all()?;
                assert!(gap.to_scalar::<f64>()? < 2e-5, "{dtype:?} {m}x{k}x{n}: {gap}");
            }
        }
        Ok(())
    }

    #[test]
    fn many_rows_over_several_blocks_equal_one_product() -> Result<()> {
        let (k, n) = (2048, 5000);
        let weight = Tensor::randn(0f32, 0.02, (n, k), &Device::Cpu)?.to_dtype(DType::BF16)?;
        let x = Tensor::randn(0f32, 1., (12, k), &Device::Cpu)?;
        assert!(n * k > WIDEN_BLOCK);
        let blocked = Linear::new(weight.clone(), None)?.forward(&x)?;
        let whole = x.matmul(&weight.to_dtype(DType::F32)?.t()?)?;
        let gap = (blocked - whole)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(gap < 1e-5, "{gap}");
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
