//! CPU passes that candle runs on one thread, in half precision or not at all: plain safe loops
//! that the compiler vectorises for the instruction set found at run time.

use candle_core::{CpuStorage, CustomOp1, InplaceOp1, Layout, Result, Shape, bail};
use rayon::prelude::*;

/// Elements that one rayon task handles: large enough to hide the scheduling, small enough to
/// stay in the second-level cache.
const CHUNK: usize = 16 * 1024;

/// The contiguous f32 elements of a storage, or an error that names the operator.
pub(crate) fn f32_slice<'a>(
    storage: &'a CpuStorage,
    layout: &Layout,
    op: &str,
) -> Result<&'a [f32]> {
    let data = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&data[start..end]),
        None => bail!("{op} needs a contiguous input"),
    }
}

/// `e^x` for `x <= 0` (values below -87 give a number below 1e-37), relative error below 3e-7.
///
/// The Cephes polynomial on `[-ln2/2, ln2/2]`; the addition of 1.5 * 2^23 rounds to the nearest
/// integer and leaves it in the low mantissa bits, so that the loop has no float-to-int
/// conversion in it and vectorises.
#[inline(always)]
pub(crate) fn exp_nonpositive(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    let x = x.max(-87.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let p = p * (r * r) + (r + 1.0);
    p * f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23))
}

/// Which scores of a row take part in its softmax.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Visible {
    /// Number of query positions; score rows repeat with this period.
    pub(crate) queries: usize,
    /// Keys that precede the first query.
    pub(crate) past: usize,
    /// Only the last `window` keys up to the query itself are seen.
    pub(crate) window: Option<usize>,
}

impl Visible {
    fn range(&self, row: usize, keys: usize) -> std::ops::Range<usize> {
        let position = self.past + row % self.queries;
        let end = (position + 1).min(keys);
        let start = self.window.map_or(0, |w| (position + 1).saturating_sub(w));
        start.min(end)..end
    }
}

/// In-place softmax of `scale * x` over the last dimension of contiguous f32 scores.
pub(crate) struct SoftmaxRows {
    pub(crate) scale: f32,
    pub(crate) causal: Option<Visible>,
}

impl SoftmaxRows {
    #[inline(always)]
    fn row(&self, row: &mut [f32]) {
        const LANES: usize = 16;
        let mut max = [f32::NEG_INFINITY; LANES];
        let mut chunks = row.chunks_exact(LANES);
        for chunk in &mut chunks {
            for (m, &x) in max.iter_mut().zip(chunk) {
                *m = m.max(x);
            }
        }
        let tail = chunks.remainder().iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let max = max.into_iter().fold(tail, f32::max);
        let mut sum = [0f32; LANES];
        let mut chunks = row.chunks_exact_mut(LANES);
        for chunk in &mut chunks {
            for (s, x) in sum.iter_mut().zip(chunk) {
                *x = exp_nonpositive((*x - max) * self.scale);
                *s += *x;
            }
        }
        let mut total = 0f32;
        for x in chunks.into_remainder() {
            *x = exp_nonpositive((*x - max) * self.scale);
            total += *x;
        }
        let inverse = 1.0 / (total + sum.iter().sum::<f32>());
        for x in row {
            *x *= inverse;
        }
    }
}

impl InplaceOp1 for SoftmaxRows {
    fn name(&self) -> &'static str {
        "softmax-rows"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let keys = layout.dims().last().copied().unwrap_or(1);
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("softmax needs contiguous scores")
        };
        let CpuStorage::F32(data) = storage else { bail!("softmax needs f32 scores") };
        let rows_per_task = (CHUNK / keys.max(1)).max(1);
        let arch = pulp::Arch::new();
        data[start..end].par_chunks_mut(rows_per_task * keys).enumerate().for_each(|(t, rows)| {
            arch.dispatch(
                #[inline(always)]
                || {
                    for (i, row) in rows.chunks_exact_mut(keys).enumerate() {
                        match &self.causal {
                            None => self.row(row),
                            Some(visible) => {
                                let seen = visible.range(t * rows_per_task + i, keys);
                                row[..seen.start].fill(0.0);
                                row[seen.end..].fill(0.0);
                                self.row(&mut row[seen]);
                            }
                        }
                    }
                },
            )
        });
        Ok(())
    }
}

/// `f` on every element of a contiguous f32 tensor, in parallel.
pub(crate) struct Map {
    pub(crate) name: &'static str,
    pub(crate) f: fn(&mut [f32], &[f32]),
}

impl CustomOp1 for Map {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = f32_slice(storage, layout, self.name)?;
        let mut y = vec![0f32; x.len()];
        y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| (self.f)(y, x));
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_3e_7_of_f64_over_its_range() {
        let worst = (0..870_000)
            .map(|i| -(i as f32) * 1e-4)
            .map(|x| (exp_nonpositive(x) as f64 / (x as f64).exp() - 1.0).abs())
            .fold(0.0, f64::max);
        assert!(worst < 3e-7, "{worst:e}");
        assert_eq!(exp_nonpositive(0.0), 1.0);
        assert!(exp_nonpositive(f32::NEG_INFINITY) < 1e-37);
    }
}
