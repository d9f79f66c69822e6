//! Scaled dot-product attention with an f32 softmax.

use candle_core::{
    CpuStorage, CustomOp1, CustomOp3, D, DType, Device, Layout, Result, Shape, Tensor,
};
pub use r1seg_kernels::Mask as AttentionMask;
use r1seg_kernels::{AttentionArgs, Bias};

mod bias;
mod cached;
mod cross;

pub use bias::AttentionBias;
pub use cached::{CachedAttention, Rotary};
pub use cross::CrossAttention;

/// Scores that one pass may hold at once where they are materialized: bounds the memory of long
/// sequences (64 MiB of f32). They are in half precision on a CPU.
pub const MAX_SCORES: usize = 16 << 20;

/// `softmax(scale * q kᵀ + mask) v`, the softmax in f32 whatever the dtype.
///
/// # Shapes
/// - `q`: `[B, heads, Lq, dim]`    - `k`, `v`: `[B, kv_heads, Lk, dim]`, `heads % kv_heads == 0`
/// - returns: `[B, heads, Lq, dim]`; on a GPU a view of `[B, Lq, heads, dim]`
///
/// Query head `h` reads key head `h / (heads / kv_heads)` (grouped-query attention).
///
/// # Errors
/// When the shapes do not fit or the backend cannot run the operation.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    scale: f64,
    mask: AttentionMask,
) -> Result<Tensor> {
    let (_, heads, _, _) = q.dims4()?;
    let (_, kv_heads, _, _) = k.dims4()?;
    if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
        candle_core::bail!("{heads} query heads cannot share {kv_heads} key heads")
    }
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(q) && q.dim(3)? <= crate::cuda::MAX_HEAD {
        return on_gpu([q, k, v], crate::cuda::Scores { scale, mask, bias: None, rotary: None });
    }
    if q.device().is_cpu() && q.dtype() == DType::F32 {
        return q.contiguous()?.apply_op3_no_bwd(
            &rows_in_place(k)?,
            &rows_in_place(v)?,
            &BlockedAttention { scale: scale as f32, mask },
        );
    }
    composed([q, k, v], scale, mask, None)
}

/// In one launch, without scores in memory.
#[cfg(feature = "cuda")]
fn on_gpu(operands: [&Tensor; 3], scores: crate::cuda::Scores<'_>) -> Result<Tensor> {
    let whole = |x: &Tensor| match x.stride() {
        [.., 1] => Ok(x.clone()),
        _ => x.contiguous(),
    };
    let [q, k, v] = operands.map(whole);
    crate::cuda::attend(&q?, &k?, &v?, scores)
}

/// By products of tensors, on any device.
///
/// # Shapes
/// - as of [`attention`]    - `bias`: `[1 or B, 1 or heads, Lq, Lk]`
fn composed(
    [q, k, v]: [&Tensor; 3],
    scale: f64,
    mask: AttentionMask,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let (b, heads, lq, dim) = q.dims4()?;
    let (_, kv_heads, lk, _) = k.dims4()?;
    let group = heads / kv_heads;
    // Queries that share a key head become rows of one product: keys are never copied.
    let q = q.contiguous()?.reshape((b, kv_heads, group * lq, dim))?;
    let k_t = k.transpose(2, 3)?;
    let step = (MAX_SCORES / (b * group * lq * lk).max(1)).clamp(1, kv_heads);
    let mut outputs = Vec::with_capacity(kv_heads.div_ceil(step));
    for first in (0..kv_heads).step_by(step) {
        let n = step.min(kv_heads - first);
        let part = |t: &Tensor| -> Result<Tensor> {
            // A view of a cache goes into the product as it is; only parts of a larger batch have
            // strides that a product cannot read.
            match (n == kv_heads, b) {
                (true, _) => Ok(t.clone()),
                (false, 1) => t.narrow(1, first, n),
                (false, _) => t.narrow(1, first, n)?.contiguous(),
            }
        };
        let (q, k_t, v) = (part(&q)?, part(&k_t)?, part(v)?);
        let scores = q.matmul(&k_t)?.reshape((b, n * group, lq, lk))?;
        let weights = match bias {
            None => softmax(scores, scale, mask)?,
            Some(bias) => {
                let dtype = scores.dtype();
                let bias = match bias.dim(1)? {
                    1 => bias.clone(),
                    _ => bias.narrow(1, first * group, n * group)?,
                };
                let wide = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
                let scores = (scores.to_dtype(wide)? * scale)?;
                let scores = scores.broadcast_add(&bias.to_dtype(wide)?)?;
                softmax(scores, 1.0, mask)?.to_dtype(dtype)?
            }
        };
        let weights = weights.reshape((b, n, group * lq, lk))?;
        outputs.push(weights.matmul(&v)?);
    }
    let out = if outputs.len() == 1 { outputs.remove(0) } else { Tensor::cat(&outputs, 1)? };
    out.reshape((b, heads, lq, dim))
}

/// A view whose heads are contiguous matrices, wherever they lie, is read in place (the KV cache
/// has room behind each head); any other is copied.
fn rows_in_place(x: &Tensor) -> Result<Tensor> {
    let dim = x.dim(3)?;
    match x.stride() {
        [_, _, row, 1] if *row == dim => Ok(x.clone()),
        _ => x.contiguous(),
    }
}

/// The CPU's path in f32: no scores in memory, keys and values read where they are.
struct BlockedAttention {
    scale: f32,
    mask: AttentionMask,
}

/// Storage and layout of an operand.
type Operand<'a> = (&'a CpuStorage, &'a Layout);

impl BlockedAttention {
    const NAME: &'static str = "blocked-attention";

    /// With a bias for each of the batch.
    fn run<'b>(
        &self,
        (q, q_layout): Operand<'_>,
        (k, k_layout): Operand<'_>,
        (v, v_layout): Operand<'_>,
        bias: impl Fn(usize) -> Bias<'b>,
    ) -> Result<(CpuStorage, Shape)> {
        let (batch, heads, lq, dim) = q_layout.shape().dims4()?;
        let (_, kv_heads, lk, _) = k_layout.shape().dims4()?;
        let q = crate::cpu::f32_slice(q, q_layout, Self::NAME)?;
        let (k, v) = (k.as_slice::<f32>()?, v.as_slice::<f32>()?);
        let mut out = vec![0f32; q.len()];
        let size = heads * lq * dim;
        for b in 0..batch {
            r1seg_kernels::attention(AttentionArgs {
                q: &q[b * size..][..size],
                k: &k[k_layout.start_offset() + b * k_layout.stride()[0]..],
                v: &v[v_layout.start_offset() + b * v_layout.stride()[0]..],
                out: &mut out[b * size..][..size],
                heads,
                kv_heads,
                lq,
                lk,
                dim,
                k_head_stride: k_layout.stride()[1],
                v_head_stride: v_layout.stride()[1],
                scale: self.scale,
                mask: self.mask,
                bias: bias(b),
            });
        }
        Ok((CpuStorage::F32(out), q_layout.shape().clone()))
    }
}

impl CustomOp3 for BlockedAttention {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.run((q, q_layout), (k, k_layout), (v, v_layout), |_| Bias::None)
    }
}

/// `softmax(scale * scores + mask)`, in f32 whatever the dtype.
///
/// # Shapes
/// - `scores`: `[B, heads, Lq, Lk]`, unscaled    - returns: the same, rows that sum to one
///
/// # Errors
/// When the backend cannot run the operation.
pub fn softmax(scores: Tensor, scale: f64, mask: AttentionMask) -> Result<Tensor> {
    let (_, _, lq, lk) = scores.dims4()?;
    let dtype = scores.dtype();
    if scores.device().is_cpu() && dtype == DType::F32 && mask == AttentionMask::None {
        return scores.contiguous()?.apply_op1_no_bwd(&RowSoftmax { scale: scale as f32 });
    }
    let scores = (scores.to_dtype(DType::F32)? * scale)?;
    let scores = match mask {
        AttentionMask::None => scores,
        // A single query at the end of the cache sees everything that is in it.
        AttentionMask::Causal { past, window: None } if lq == 1 && past + 1 == lk => scores,
        AttentionMask::Causal { past, window } => {
            scores.broadcast_add(&additive_mask(lq, lk, past, window, scores.device())?)?
        }
    };
    let max = scores.max_keepdim(D::Minus1)?;
    let exp = scores.broadcast_sub(&max)?.exp()?;
    exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)?.to_dtype(dtype)
}

struct RowSoftmax {
    scale: f32,
}

impl CustomOp1 for RowSoftmax {
    fn name(&self) -> &'static str {
        "row-softmax"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, _, _, width) = layout.shape().dims4()?;
        let x = crate::cpu::f32_slice(x, layout, self.name())?;
        let y = r1seg_kernels::softmax(x, width, self.scale);
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }
}

fn additive_mask(
    lq: usize,
    lk: usize,
    past: usize,
    window: Option<usize>,
    device: &Device,
) -> Result<Tensor> {
    let mut mask = vec![f32::NEG_INFINITY; lq * lk];
    for (i, row) in mask.chunks_exact_mut(lk).enumerate() {
        let end = (past + i + 1).min(lk);
        let start = window.map_or(0, |w| (past + i + 1).saturating_sub(w)).min(end);
        row[start..end].fill(0.0);
    }
    Tensor::from_vec(mask, (lq, lk), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{device, gap, random};

    fn reference(
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        scale: f64,
        mask: AttentionMask,
    ) -> Result<Tensor> {
        let (_, heads, lq, _) = q.dims4()?;
        let (_, kv_heads, lk, _) = k.dims4()?;
        let index: Vec<u32> = (0..heads).map(|h| (h / (heads / kv_heads)) as u32).collect();
        let index = Tensor::new(index, q.device())?;
        let [q, k, v] = [q, k, v].map(|t| t.to_dtype(DType::F64));
        let (k, v) = (k?.index_select(&index, 1)?, v?.index_select(&index, 1)?);
        let mut scores = (q?.matmul(&k.transpose(2, 3)?)? * scale)?;
        if let AttentionMask::Causal { past, window } = mask {
            let m = additive_mask(lq, lk, past, window, &device()?)?.to_dtype(DType::F64)?;
            scores = scores.broadcast_add(&m)?;
        }
        let exp = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
        exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)?.matmul(&v)
    }

    #[test]
    fn attention_equals_an_f64_reference() -> Result<()> {
        for (heads, kv_heads, lq, lk, dim) in
            [(4, 4, 7, 7, 16), (6, 2, 5, 9, 8), (8, 1, 1, 33, 24), (3, 3, 70, 70, 5)]
        {
            let q = random(0.0, 2.0, (2, heads, lq, dim))?;
            let k = random(0.0, 2.0, (2, kv_heads, lk, dim))?;
            let v = random(0.0, 2.0, (2, kv_heads, lk, dim))?;
            for mask in [
                AttentionMask::None,
                AttentionMask::Causal { past: lk - lq, window: None },
                AttentionMask::Causal { past: lk - lq, window: Some(3) },
            ] {
                let out = attention(&q, &k, &v, 0.3, mask)?;
                let gap = gap(&out, &reference(&q, &k, &v, 0.3, mask)?)?;
                assert!(gap < 5e-6, "{heads}/{kv_heads} {lq}x{lk} {mask:?}: {gap}");
            }
        }
        Ok(())
    }

    #[test]
    fn heads_of_every_width_attend_in_every_dtype() -> Result<()> {
        for dim in [24, 64, 80, 96, 128, 256, 300] {
            for lq in [1, 20, 130, 1100] {
                let lk = if lq == 1100 { 40 } else { 150 };
                let q = random(0.0, 1.0, (1, 2, lq, dim))?;
                let k = random(0.0, 1.0, (1, 1, lk, dim))?;
                let v = random(0.0, 1.0, (1, 1, lk, dim))?;
                let scale = (dim as f64).powf(-0.5);
                // Probabilities and results are each rounded to 8 bits: half a unit of 2^-8 of the largest
                // value, for both, and as much again for the sum over keys.
                let largest = v.abs()?.max_all()?.to_scalar::<f32>()?;
                let of_bf16 = largest / 128.0;
                let masks = match lk.checked_sub(lq) {
                    Some(past) => vec![
                        AttentionMask::Causal { past, window: None },
                        AttentionMask::Causal { past, window: Some(9) },
                    ],
                    None => vec![AttentionMask::None],
                };
                for (dtype, tolerance) in [(DType::F32, 3e-6), (DType::BF16, of_bf16)] {
                    let [q, k, v] = [&q, &k, &v].map(|t| t.to_dtype(dtype));
                    let (q, k, v) = (q?, k?, v?);
                    for mask in &masks {
                        let got = attention(&q, &k, &v, scale, *mask)?;
                        let exact = reference(&q, &k, &v, scale, *mask)?;
                        let gap = gap(&got, &exact)?;
                        assert!(gap < tolerance, "{dim} {lq} {dtype:?} {mask:?}: {gap}");
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn attention_reads_a_cache_view_without_copying_it_wrongly() -> Result<()> {
        let q = random(0.0, 1.0, (1, 4, 1, 8))?;
        let store = random(0.0, 1.0, (1, 2, 64, 8))?;
        let view = store.narrow(2, 0, 20)?;
        let mask = AttentionMask::Causal { past: 19, window: None };
        let a = attention(&q, &view, &view, 1.0, mask)?;
        let b = attention(&q, &view.contiguous()?, &view.contiguous()?, 1.0, mask)?;
        assert_eq!(a.flatten_all()?.to_vec1::<f32>()?, b.flatten_all()?.to_vec1::<f32>()?);
        Ok(())
    }

    #[test]
    fn long_sequences_are_computed_in_parts_with_the_same_result() -> Result<()> {
        let (b, heads, kv_heads, l) = (2, 4, 2, 1500);
        assert!(b * heads * l * l > MAX_SCORES);
        let q = random(0.0, 1.0, (b, heads, l, 8))?;
        let k = random(0.0, 1.0, (b, kv_heads, l, 8))?;
        let v = random(0.0, 1.0, (b, kv_heads, l, 8))?;
        let mask = AttentionMask::Causal { past: 0, window: None };
        let out = attention(&q, &k, &v, 0.35, mask)?;
        assert!(gap(&out, &reference(&q, &k, &v, 0.35, mask)?)? < 5e-6);
        // f64 takes the path that materializes the scores.
        let [q, k, v] = [q, k, v].map(|t| t.to_dtype(DType::F64));
        let (q, k, v) = (q?, k?, v?);
        let parts = attention(&q, &k, &v, 0.35, mask)?;
        assert!(gap(&parts, &reference(&q, &k, &v, 0.35, mask)?)? < 5e-6);
        Ok(())
    }

    #[test]
    fn softmax_of_short_rows_is_that_of_f64() -> Result<()> {
        let scores = random(0.0, 9.0, (2, 300, 8, 6))?;
        let exact = softmax(scores.to_dtype(DType::F64)?, 0.4, AttentionMask::None)?;
        let gap = gap(&softmax(scores, 0.4, AttentionMask::None)?, &exact)?;
        assert!(gap < 1e-6, "{gap}");
        Ok(())
    }

    #[test]
    fn softmax_of_half_precision_scores_is_computed_in_f32() -> Result<()> {
        let q = random(0.0, 1.0, (1, 1, 1, 16))?;
        let k = random(0.0, 1.0, (1, 1, 600, 16))?;
        let ones = Tensor::ones((1, 1, 600, 16), DType::BF16, &device()?)?;
        let [q, k] = [q, k].map(|t| t.to_dtype(DType::BF16));
        let out = attention(&q?, &k?, &ones, 0.25, AttentionMask::None)?;
        // Weights that were summed in bf16 would miss one by several percent.
        for x in out.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()? {
            assert!((x - 1.0).abs() < 0.01, "{x}");
        }
        Ok(())
    }
}
