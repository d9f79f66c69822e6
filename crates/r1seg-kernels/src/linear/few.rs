//! A few rows: every weight is read once, in the order of the file.

use super::{FEW, Job};
use crate::simd::{Kernel, Simd};
use crate::stored::{Bf16, F16, F32, MAX_CUT, MAX_VECTORS, Q4K, Q6K, Q8_0, Stored, first_of};
use crate::weights::{Matrix, WeightType};

/// How far ahead of their use weights are asked for, in bytes.
const AHEAD: usize = 4096;

/// Sums per row, so that additions need not wait for each other.
const CHAINS: usize = 4;

/// The largest unit of plain numbers.
const CUT: usize = 64;

/// Some rows of a part, which are columns of `y`.
pub(super) struct FewRows<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) part: &'a Matrix<'a>,
    /// Where the part's columns start in `y`.
    pub(super) first: usize,
    pub(super) rows: std::ops::Range<usize>,
}

impl Kernel for FewRows<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.part.weight_type() {
                WeightType::F32 => self.of::<S, F32>(),
                WeightType::F16 => self.of::<S, F16>(),
                WeightType::Bf16 => self.of::<S, Bf16>(),
                WeightType::Q8_0 => self.of::<S, Q8_0>(),
                WeightType::Q4K => self.of::<S, Q4K>(),
                WeightType::Q6K => self.of::<S, Q6K>(),
            }
        }
    }
}

impl FewRows<'_> {
    #[inline(always)]
    unsafe fn of<S: Simd, W: Stored>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.job.m {
                1 => self.rows::<S, W, 1>(),
                2 => self.rows::<S, W, 2>(),
                3 => self.rows::<S, W, 3>(),
                4 => self.rows::<S, W, 4>(),
                5 => self.rows::<S, W, 5>(),
                6 => self.rows::<S, W, 6>(),
                m => debug_assert!(m == 0, "{m} rows are not few"),
            }
        }
    }

    #[inline(always)]
    unsafe fn rows<S: Simd, W: Stored, const M: usize>(self) {
        let &Job { n, k, x, bias, y, .. } = self.job;
        let (whole, rest) = (k / W::LEN, k % W::LEN);
        let row_bytes = self.part.row_bytes();
        let weights = &self.part.bytes()[self.rows.start * row_bytes..self.rows.end * row_bytes];
        // The end of each row of `x`, filled up with zeros as that of a row of weights is.
        let mut last = [0f32; FEW * CUT];
        for (last, x) in last.chunks_exact_mut(CUT).zip(x.chunks_exact(k.max(1))) {
            last[..rest].copy_from_slice(&x[k - rest..]);
        }
        for (i, row) in self.rows.enumerate() {
            // SAFETY: a row is `whole` units and `rest` weights; `x` has `M` rows of `k`, and the
            // output `M` of `n`, of which this column is the task's own.
            unsafe {
                let mut sums = [[S::splat(0.0); CHAINS]; M];
                let mut w = weights.as_ptr().add(i * row_bytes);
                for unit in 0..whole {
                    for line in (0..W::BYTES).step_by(64) {
                        S::prefetch(w.wrapping_add(AHEAD + line));
                    }
                    add_unit::<S, W, M>(&mut sums, w, x.as_ptr().add(unit * W::LEN), k);
                    w = w.add(W::BYTES);
                }
                if rest > 0 {
                    let w: [u8; MAX_CUT] = first_of::<W>(w, rest);
                    add_unit::<S, W, M>(&mut sums, w.as_ptr(), last.as_ptr(), CUT);
                }
                let column = self.first + row;
                let bias = bias.map_or(0.0, |bias| bias[column]);
                for (i, &[a, b, c, d]) in sums.iter().enumerate() {
                    let sum = S::sum(S::add(S::add(a, b), S::add(c, d)));
                    *y.get().add(i * n + column) = sum + bias;
                }
            }
        }
    }
}

/// Adds the products of a unit at `w` with `M` rows of `x`, `stride` apart.
#[inline(always)]
unsafe fn add_unit<S: Simd, W: Stored, const M: usize>(
    sums: &mut [[S::V; CHAINS]; M],
    w: *const u8,
    x: *const f32,
    stride: usize,
) {
    // Several rows are several chains already, and registers are few.
    let chains = (6 / M).clamp(1, CHAINS);
    // SAFETY: the caller has a unit of weights and as many numbers of each row.
    unsafe {
        let head = W::head::<S>(w);
        for group in 0..W::LEN / W::GROUP {
            let mut wide = [S::splat(0.0); MAX_VECTORS];
            W::group::<S>(w, &head, group, &mut wide);
            for v in 0..W::GROUP / S::LANES {
                let x = x.add(group * W::GROUP + v * S::LANES);
                for (i, sums) in sums.iter_mut().enumerate() {
                    let sum = &mut sums[v % chains];
                    *sum = S::fma(wide[v], S::load(x.add(i * stride)), *sum);
                }
            }
        }
    }
}
