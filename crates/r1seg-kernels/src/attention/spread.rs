//! Few queries that all see the same many keys: keys and values are read in place, a stretch of them
//! by each task.

use std::ops::Range;

use rayon::prelude::*;

use super::Job;
use crate::simd::{Kernel, Simd, exp_nonpositive};
use crate::tile::{F32, PANEL, Start, Strides, Tile};

/// Numbers that a stretch of keys leaves for `rows` queries: their sums of values, of exponentials,
/// and their largest scores.
pub(super) fn part_len(rows: usize, dim: usize) -> usize {
    rows * dim + 2 * rows.next_multiple_of(PANEL)
}

/// # Shapes
/// - `q`: `[rows, dim]`    - `packed`: `[rows / 32][dim][32]`
pub(super) fn pack_queries(q: &[f32], rows: usize, dim: usize, packed: &mut [f32]) {
    for (p, panel) in packed.chunks_exact_mut(dim * PANEL).enumerate() {
        for i in 0..PANEL {
            let to = panel[i..].iter_mut().step_by(PANEL);
            if p * PANEL + i < rows {
                to.zip(&q[(p * PANEL + i) * dim..]).for_each(|(to, q)| *to = *q);
            } else {
                to.for_each(|to| *to = 0.0);
            }
        }
    }
}

/// All queries against a stretch of the keys.
pub(super) struct Stretch<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) keys: Range<usize>,
    /// As [`pack_queries`] leaves them.
    pub(super) queries: &'a [f32],
    /// `[keys][columns]`, columns being queries up to a whole panel
    pub(super) scores: &'a mut [f32],
    /// Of [`part_len`].
    pub(super) part: *mut f32,
}

impl Kernel for Stretch<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { job, keys, queries, scores, part } = self;
        let (rows, dim) = (job.group * job.lq, job.dim);
        let (columns, count) = (rows.next_multiple_of(PANEL), keys.len());
        let values = &job.values.head(0)[keys.start * dim..keys.end * dim];
        let keys = &job.keys.head(0)[keys.start * dim..keys.end * dim];
        for (p, panel) in queries.chunks_exact(dim * PANEL).enumerate() {
            for i in (0..count).step_by(S::ROWS) {
                let tile = Tile {
                    a: keys[i * dim..].as_ptr(),
                    a_strides: Strides::rows(dim),
                    b: panel.as_ptr(),
                    b_stride: PANEL,
                    steps: dim,
                    c: scores[i * columns + p * PANEL..].as_mut_ptr(),
                    c_stride: columns,
                    start: Start::Zero,
                };
                // SAFETY: the tile covers rows of keys and scores, and a whole panel of queries.
                unsafe { tile.run::<S, F32>(S::ROWS.min(count - i), PANEL) };
            }
        }
        // SAFETY: `part` has room for all columns behind the sums of values; scores are whole vectors.
        unsafe {
            let (sums, first) = (part.add(rows * dim), scores.as_mut_ptr());
            let scale = S::splat(job.scale);
            for column in (0..columns).step_by(S::LANES) {
                let at = |i: usize| first.add(i * columns + column);
                let mut largest = S::splat(f32::NEG_INFINITY);
                for i in 0..count {
                    largest = S::max(S::mul(S::load(at(i)), scale), largest);
                }
                let offset = S::sub(S::splat(0.0), largest);
                let mut sum = S::splat(0.0);
                for i in 0..count {
                    let e = exp_nonpositive::<S>(S::fma(S::load(at(i)), scale, offset));
                    S::store(at(i), e);
                    sum = S::add(sum, e);
                }
                S::store(sums.add(column), sum);
                S::store(sums.add(columns + column), largest);
            }
        }
        for t in (0..dim).step_by(PANEL) {
            for i in (0..rows).step_by(S::ROWS) {
                let tile = Tile {
                    a: scores[i..].as_ptr(),
                    a_strides: Strides::columns(columns),
                    b: values[t..].as_ptr(),
                    b_stride: dim,
                    steps: count,
                    c: part.wrapping_add(i * dim + t),
                    c_stride: dim,
                    start: Start::Zero,
                };
                // SAFETY: rows of `part`, and whole panels of values and of `part`.
                unsafe { tile.run::<S, F32>(S::ROWS.min(rows - i), PANEL) };
            }
        }
    }
}

/// The softmax over all stretches, in their order.
///
/// # Shapes
/// - `parts`: of [`part_len`] each    - `out`: `[rows, dim]`
pub(super) fn join(parts: &[f32], rows: usize, dim: usize, out: &mut [f32]) {
    let columns = rows.next_multiple_of(PANEL);
    out.par_chunks_exact_mut(dim).enumerate().for_each(|(row, out)| {
        let parts = parts.chunks_exact(part_len(rows, dim));
        let parts = parts.map(|part| {
            let (values, sums) = part.split_at(rows * dim);
            (&values[row * dim..][..dim], sums[row], sums[columns + row])
        });
        let largest = parts.clone().map(|part| part.2).fold(f32::NEG_INFINITY, f32::max);
        let total: f32 = parts.clone().map(|(_, sum, top)| sum * (top - largest).exp()).sum();
        out.fill(0.0);
        for (values, _, top) in parts {
            let share = (top - largest).exp() / total;
            out.iter_mut().zip(values).for_each(|(out, value)| *out += share * value);
        }
    });
}
