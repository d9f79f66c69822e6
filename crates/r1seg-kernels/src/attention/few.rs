//! Few queries: keys and values are read in place, once for all queries that share them.

use super::{Job, PASS, exponentials};
use crate::simd::{Kernel, Simd};
use crate::tile::{F32, PANEL, Start, Strides, Tile};

/// Rows of the largest register tile.
const ROWS: usize = 12;

/// The few queries of a key head's group against keys in place.
pub(super) struct FewQueries<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) kv_head: usize,
    /// `[group * lq][lk + 32]`
    pub(super) scores: &'a mut [f32],
}

impl Kernel for FewQueries<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let &Job { q, keys, values, out, group, lq, lk, dim, scale, mask, .. } = self.job;
        let Self { kv_head, scores, .. } = self;
        let (rows, stride) = (group * lq, lk + PANEL);
        let (keys, values) = (keys.head(kv_head), values.head(kv_head));
        let first = kv_head * rows * dim;
        let q = &q[first..][..rows * dim];
        // SAFETY: the outputs of this key head's group, which are this task's own.
        let out = unsafe { std::slice::from_raw_parts_mut(out.get().add(first), rows * dim) };
        // A few keys at a time, so that the rows share one read of them.
        for chunk in (0..lk).step_by(PANEL) {
            let chunk = chunk..(chunk + PANEL).min(lk);
            for (row, q) in q.chunks_exact(dim).enumerate() {
                let seen = mask.visible(row % lq, lk);
                let (start, end) = (chunk.start.max(seen.start), chunk.end.min(seen.end));
                for j in start..end {
                    // SAFETY: the caller has the instructions.
                    scores[row * stride + j] = unsafe { dot::<S>(q, &keys[j * dim..][..dim]) };
                }
            }
        }
        let mut inverse = [0f32; ROWS];
        // Queries of equal position see the same keys, and share one read of the values.
        let alike = if lq == 1 { S::ROWS } else { 1 };
        for (block, out) in out.chunks_mut(alike * dim).enumerate() {
            let (first, count) = (block * alike, out.len() / dim);
            let seen = mask.visible(first % lq, lk);
            out.fill(0.0);
            if seen.is_empty() {
                continue;
            }
            let weights = &mut scores[first * stride..][..count * stride];
            for (row, inverse) in weights.chunks_exact_mut(stride).zip(&mut inverse) {
                // SAFETY: there is a panel of slack behind the scores.
                *inverse = 1.0 / unsafe { exponentials::<S>(row, seen.clone(), scale) };
            }
            let whole = dim / PANEL * PANEL;
            for pass in seen.clone().step_by(PASS) {
                for t in (0..whole).step_by(PANEL) {
                    let tile = Tile {
                        a: weights[pass..].as_ptr(),
                        a_strides: Strides::rows(stride),
                        b: values[pass * dim + t..].as_ptr(),
                        b_stride: dim,
                        steps: PASS.min(seen.end - pass),
                        c: out[t..].as_mut_ptr(),
                        c_stride: dim,
                        start: Start::Output,
                    };
                    // SAFETY: `count` rows, and columns `t..t + 32` of values and output.
                    unsafe { tile.run::<S, F32>(count, PANEL) };
                }
            }
            for (i, out) in out.chunks_exact_mut(dim).enumerate() {
                for j in seen.clone() {
                    let (weight, value) = (weights[i * stride + j], &values[j * dim..][whole..dim]);
                    for (out, value) in out[whole..].iter_mut().zip(value) {
                        *out += weight * value;
                    }
                }
                for x in out {
                    *x *= inverse[i];
                }
            }
        }
    }
}

/// # Safety
/// As of [`Simd`].
#[inline(always)]
unsafe fn dot<S: Simd>(a: &[f32], b: &[f32]) -> f32 {
    let whole = a.len().min(b.len()) / S::LANES * S::LANES;
    // SAFETY: all accesses are below `whole`.
    let sum = unsafe {
        let mut sum = S::splat(0.0);
        for i in (0..whole).step_by(S::LANES) {
            sum = S::fma(S::load(a.as_ptr().add(i)), S::load(b.as_ptr().add(i)), sum);
        }
        S::sum(sum)
    };
    let rest: f32 = a[whole..].iter().zip(&b[whole..]).map(|(a, b)| a * b).sum();
    sum + rest
}
