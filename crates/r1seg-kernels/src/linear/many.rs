//! Many rows: stretches of weights are brought into the order of the register tile, once for all
//! rows of a task.

use super::{Job, Path, Task};
use crate::simd::{self, Kernel, Simd};
use crate::tile::{F32, PANEL, Product, Start, Tile, WidenBf16};
use crate::weights::{Matrix, WeightType, widen};

/// Inner steps of a stretch. A panel's stretch is 64 KiB, and those of a task stay in the
/// second-level cache. Blocks of quantised weights end with a stretch.
const PASS: usize = 512;

/// Panels per task, which share one read of the activations.
pub(super) const PANELS: usize = 4;

/// Words of a panel's stretch.
const STRETCH: usize = PASS * PANEL;

/// Rows that are staged at a time: the lanes of the widest vector.
const STAGED: usize = 16;

/// Some panels of a part by some blocks of rows.
pub(super) struct ManyRows<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) part: &'a Matrix<'a>,
    pub(super) path: Path,
    /// Packed for this path.
    pub(super) x: &'a [f32],
    pub(super) tile_rows: usize,
    pub(super) task: &'a Task,
    /// Stretches of the panels, staged rows, and a row in f32.
    pub(super) scratch: &'a mut [f32],
}

impl ManyRows<'_> {
    pub(super) fn scratch_words(panels: usize) -> usize {
        panels * STRETCH + STAGED * PASS + 2 * PASS
    }

    /// # Safety
    /// The machine must have the job's instruction set, the job's slices must have their lengths,
    /// and no other thread may access this part of `y`.
    pub(super) unsafe fn run(self) {
        #[cfg(target_arch = "x86_64")]
        if self.path == Path::Dot {
            #[target_feature(
                enable = "avx512f,avx512bf16,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"
            )]
            unsafe fn dot(task: ManyRows<'_>) {
                // SAFETY: the caller's promise.
                unsafe { task.multiply::<simd::Avx512, crate::tile::DotBf16>() }
            }
            // SAFETY: this path is chosen with AVX512-BF16 alone.
            return unsafe { dot(self) };
        }
        let isa = self.job.isa;
        // SAFETY: the caller's promise.
        unsafe {
            match self.path {
                Path::F32 => simd::run(isa, ByF32(self)),
                Path::Widen | Path::Dot => simd::run(isa, ByBf16(self)),
            }
        }
    }

    #[inline(always)]
    unsafe fn multiply<S: Simd, P: Product<S>>(self) {
        let &Job { n, k, m, bias, y, .. } = self.job;
        let Self { part, path, x, tile_rows, task, scratch, .. } = self;
        let (steps, words) = match path {
            Path::F32 => (k, k.next_multiple_of(2)),
            Path::Widen => (k.div_ceil(2), k.next_multiple_of(2)),
            Path::Dot => (k.div_ceil(2), k.div_ceil(2)),
        };
        let (stretches, staging) = scratch.split_at_mut(task.panels.len() * STRETCH);
        // A product over nothing still writes its bias.
        for first in (0..steps.max(1)).step_by(PASS) {
            let count = PASS.min(steps - first);
            for (panel, stretch) in task.panels.clone().zip(stretches.chunks_exact_mut(STRETCH)) {
                // Behind the last panel follows the first one's next stretch, and in the end the
                // next task, which most often is this thread's.
                let next = match panel + 1 {
                    next if next < task.panels.end => (next, first),
                    _ if first + count < steps => (task.panels.start, first + count),
                    next => (next, 0),
                };
                let fill = Fill { part, path, panel, first, count, next };
                // SAFETY: the caller's promise.
                unsafe { fill.run::<S>(stretch, staging) }
            }
            for block in task.blocks.clone() {
                let rows = tile_rows.min(m - block * tile_rows);
                for (panel, stretch) in task.panels.clone().zip(stretches.chunks_exact(STRETCH)) {
                    let columns = PANEL.min(part.n() - panel * PANEL);
                    let column = task.column + panel * PANEL;
                    let mut edge = [0f32; PANEL];
                    let start = match bias {
                        _ if first > 0 => Start::Output,
                        None => Start::Zero,
                        Some(bias) => {
                            edge[..columns].copy_from_slice(&bias[column..][..columns]);
                            Start::Bias(edge.as_ptr())
                        }
                    };
                    let x = &x[block * tile_rows * words + first * P::A_STEP * rows..];
                    // SAFETY: the tile's rows and columns lie inside `y`, which has m * n
                    // elements; blocks and stretches reach over `count` by construction.
                    unsafe {
                        let tile = Tile {
                            a: x.as_ptr(),
                            a_strides: (1, rows),
                            b: stretch.as_ptr(),
                            b_stride: PANEL,
                            steps: count,
                            c: y.get().add(block * tile_rows * n + column),
                            c_stride: n,
                            start,
                        };
                        tile.run::<S, P>(rows, columns);
                    }
                }
            }
        }
    }
}

/// Steps `first..first + count` of a panel, which are words of one f32 or of two bf16.
struct Fill<'a> {
    part: &'a Matrix<'a>,
    path: Path,
    panel: usize,
    first: usize,
    count: usize,
    /// Panel and first step of the stretch that is filled next.
    next: (usize, usize),
}

impl Fill<'_> {
    /// # Shapes
    /// - `stretch`: `[PASS, PANEL]`    - `staging`: `[STAGED, PASS]` and two more rows
    #[inline(always)]
    unsafe fn run<S: Simd>(self, stretch: &mut [f32], staging: &mut [f32]) {
        let Self { part, path, panel, first, count, next } = self;
        let (row_bytes, top) = (part.row_bytes(), panel * PANEL);
        let rows = PANEL.min(part.n() - top);
        // Words that can be taken from where they are.
        let in_place = match (path, part.weight_type()) {
            _ if rows < PANEL => 0,
            (Path::F32, WeightType::F32) => count,
            (_, WeightType::Bf16) => count.min(part.k() / 2 - first),
            _ => 0,
        };
        let in_place = in_place / S::LANES * S::LANES;
        let staged = (count - in_place).next_multiple_of(S::LANES);
        let (staging, row) = staging.split_at_mut(STAGED * PASS);
        for group in (0..PANEL).step_by(S::LANES) {
            let to = stretch[group..].as_mut_ptr();
            // SAFETY: whole blocks of words lie inside the rows or the staging area, and inside
            // the stretch, which is a multiple of every number of lanes long.
            unsafe {
                let weights = part.bytes().as_ptr();
                let from = weights.add((top + group) * row_bytes + first * 4);
                let next = weights.wrapping_add((next.0 * PANEL + group) * row_bytes + next.1 * 4);
                for s in (0..in_place).step_by(S::LANES) {
                    for i in 0..S::LANES {
                        S::prefetch(next.wrapping_add(i * row_bytes + s * 4));
                    }
                    S::transpose(from.add(s * 4), row_bytes, to.add(s * PANEL), PANEL);
                }
                if staged == 0 {
                    continue;
                }
                for (i, words) in staging.chunks_exact_mut(PASS).take(S::LANES).enumerate() {
                    let words = &mut words[..staged];
                    if group + i < rows {
                        self.stage::<S>(top + group + i, in_place, words, row);
                    } else {
                        words.fill(0.0);
                    }
                }
                for s in (0..staged).step_by(S::LANES) {
                    let from = staging.as_ptr().add(s).cast();
                    S::transpose(from, PASS * 4, to.add((in_place + s) * PANEL), PANEL);
                }
            }
        }
    }

    /// Words of a row from `skipped` on, with zeros behind its end.
    #[inline(always)]
    unsafe fn stage<S: Simd>(
        &self,
        row: usize,
        skipped: usize,
        words: &mut [f32],
        wide: &mut [f32],
    ) {
        let &Self { part, path, first, .. } = self;
        let weight_type = part.weight_type();
        let per_word = if path == Path::F32 { 1 } else { 2 };
        let start = (first + skipped) * per_word;
        let count = (words.len() * per_word).min(part.k() - start);
        let offset = start / weight_type.block_len() * weight_type.block_bytes();
        let from = part.bytes()[row * part.row_bytes()..][offset..].as_ptr();
        // SAFETY: `count` weights of the row follow, in whole blocks: a stretch that starts inside
        // a row of blocks starts with one, and the row ends with one.
        unsafe {
            match (path, weight_type) {
                (Path::F32, _) => {
                    widen::<S>(weight_type, from, &mut words[..count]);
                    words[count..].fill(0.0);
                }
                (_, WeightType::Bf16) => {
                    words.fill(0.0);
                    std::ptr::copy_nonoverlapping(from, words.as_mut_ptr().cast(), 2 * count);
                }
                _ => {
                    widen::<S>(weight_type, from, &mut wide[..count]);
                    wide[count..].fill(0.0);
                    for i in (0..2 * words.len()).step_by(S::LANES) {
                        let to = words.as_mut_ptr().cast::<u8>().add(2 * i);
                        S::store_bf16(to, S::load(wide.as_ptr().add(i)));
                    }
                }
            }
        }
    }
}

struct ByF32<'a>(ManyRows<'a>);

impl Kernel for ByF32<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller's promise.
        unsafe { self.0.multiply::<S, F32>() }
    }
}

struct ByBf16<'a>(ManyRows<'a>);

impl Kernel for ByBf16<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller's promise.
        unsafe { self.0.multiply::<S, WidenBf16>() }
    }
}
