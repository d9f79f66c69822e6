//! Many queries: the keys are reordered once, for all blocks of queries.

use super::{BLOCK, Bias, Job, PASS, exponentials};
use crate::simd::{Kernel, Simd};
use crate::tile::{F32, PANEL, Start, Strides, Tile};

impl Job<'_> {
    /// # Shapes
    /// - `keys`: `[lk, dim]`    - `packed`: `[lk / 32][dim][32]`
    pub(super) fn pack_keys(&self, keys: &[f32], packed: &mut [f32]) {
        let dim = self.dim;
        for (p, panel) in packed.chunks_exact_mut(dim * PANEL).enumerate() {
            let count = PANEL.min(self.lk - p * PANEL);
            if count < PANEL {
                panel.fill(0.0);
            }
            let keys = &keys[p * PANEL * dim..][..count * dim];
            for (t, row) in panel.chunks_exact_mut(PANEL).enumerate() {
                for (to, from) in row.iter_mut().zip(keys[t..].iter().step_by(dim)) {
                    *to = *from;
                }
            }
        }
    }

    /// # Shapes
    /// - `values`: `[lk, dim]`    - `packed`: `[dim / 32][lk][32]`, or empty
    pub(super) fn pack_values(&self, values: &[f32], packed: &mut [f32]) {
        for (t, panel) in packed.chunks_exact_mut(self.lk * PANEL).enumerate() {
            let columns = PANEL.min(self.dim - t * PANEL);
            for (j, row) in panel.chunks_exact_mut(PANEL).enumerate() {
                row[..columns].copy_from_slice(&values[j * self.dim + t * PANEL..][..columns]);
                row[columns..].fill(0.0);
            }
        }
    }
}

/// Queries of one head against packed keys.
pub(super) struct ManyQueries<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) head: usize,
    pub(super) queries: std::ops::Range<usize>,
    /// `[queries][score_stride]`
    pub(super) scores: &'a mut [f32],
}

impl Kernel for ManyQueries<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let &Job { q, keys, values, out, group, lq, lk, dim, scale, mask, bias, .. } = self.job;
        let Self { head, queries, scores, .. } = self;
        let (first, last) = self.job.seen_by_any(&queries);
        let stride = self.job.score_stride(&queries);
        let rows = queries.len();
        let q = &q[(head * lq + queries.start) * dim..][..rows * dim];
        let (keys, values) = (keys.head(head / group), values.head(head / group));
        // SAFETY: `rows * dim` outputs start here and belong to this task.
        let out = unsafe { out.get().add((head * lq + queries.start) * dim) };
        for panel in first / PANEL..last.div_ceil(PANEL) {
            for i in (0..rows).step_by(S::ROWS) {
                let tile = Tile {
                    a: q[i * dim..].as_ptr(),
                    a_strides: Strides::rows(dim),
                    b: keys[panel * dim * PANEL..].as_ptr(),
                    b_stride: PANEL,
                    steps: dim,
                    c: scores[i * stride + panel * PANEL - first..].as_mut_ptr(),
                    c_stride: stride,
                    start: Start::Zero,
                };
                // SAFETY: the tile covers whole rows and panels of the operands.
                unsafe { tile.run::<S, F32>(S::ROWS.min(rows - i), PANEL) };
            }
        }
        let scale = if let Bias::None = bias {
            scale
        } else {
            for (i, row) in scores.chunks_exact_mut(stride).enumerate() {
                bias.add(&mut row[..lk], scale, head, (queries.start + i, lq));
            }
            1.0
        };
        let mut inverse = [0f32; BLOCK];
        for (i, inverse) in inverse[..rows].iter_mut().enumerate() {
            let seen = mask.visible(queries.start + i, lk);
            let row = &mut scores[i * stride..][..stride];
            if seen.is_empty() {
                row.fill(0.0);
                continue;
            }
            row[..seen.start - first].fill(0.0);
            // SAFETY: there is a vector's slack behind the last panel.
            *inverse = 1.0
                / unsafe { exponentials::<S>(row, seen.start - first..seen.end - first, scale) };
            row[seen.end - first..].fill(0.0);
        }
        let (step, panel_stride) =
            if dim.is_multiple_of(PANEL) { (dim, PANEL) } else { (PANEL, lk * PANEL) };
        for pass in (first..last.max(first + 1)).step_by(PASS) {
            for t in 0..dim.div_ceil(PANEL) {
                let columns = PANEL.min(dim - t * PANEL);
                for i in (0..rows).step_by(S::ROWS) {
                    let tile = Tile {
                        a: scores[i * stride + pass - first..].as_ptr(),
                        a_strides: Strides::rows(stride),
                        b: values[t * panel_stride..].as_ptr().wrapping_add(pass * step),
                        b_stride: step,
                        steps: PASS.min(last - pass),
                        c: out.wrapping_add(i * dim + t * PANEL),
                        c_stride: dim,
                        start: if pass == first { Start::Zero } else { Start::Output },
                    };
                    // SAFETY: keys up to `last` exist in `scores` and `values`, and the
                    // tile's rows and columns in `out`.
                    unsafe { tile.run::<S, F32>(S::ROWS.min(rows - i), columns) };
                }
            }
        }
        for (i, inverse) in inverse[..rows].iter().enumerate() {
            // SAFETY: row `i` of this task's output.
            let row = unsafe { std::slice::from_raw_parts_mut(out.add(i * dim), dim) };
            for x in row {
                *x *= inverse;
            }
        }
    }
}
