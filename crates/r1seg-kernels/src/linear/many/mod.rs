//! Many rows: the lanes of a vector are rows of activations, and each word of the weights is
//! multiplied with all of them. So weights need not be transposed: a block of their rows is brought
//! together line by line, or read where it lies, and used for all activations of a task.

mod staging;

use std::ops::Range;

use staging::Staged;

use super::path::Path;
use super::{Job, Task};
use crate::buffer::LINE;
use crate::simd::{self, Kernel, Simd, WIDEST};
use crate::tile::{F32, MAX_ROWS, PANEL, Product, Start, Strides, Tile};
use crate::weights::{Matrix, WeightType};

/// Words of the inner dimension that are multiplied at a time. Those of a panel stream through the
/// first-level cache, 32 KiB of them; fewer would load and store the sums more often. As many of all rows of a task are
/// brought together at a time, in the second-level cache, so that activations, which need not fit into that, are read
/// once for all of these rows.
const PASS: usize = 256;

/// Up to this many panels of activations, weights are read where they lie if they can be.
const IN_PLACE: usize = 2;

/// Bytes of weights that are fetched at a time where they are read in place, into the second-level cache.
const IN_PLACE_BYTES: usize = 256 << 10;

/// Panels of activations per task, which share one read of the weights.
pub(super) const PANELS: usize = 16;

/// Some weight rows of a part by some panels of activations.
pub(super) struct ManyRows<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) part: &'a Matrix<'a>,
    pub(super) path: Path,
    /// Packed for this path.
    pub(super) x: &'a [f32],
    pub(super) task: &'a Task,
    pub(super) scratch: &'a mut [f32],
}

impl ManyRows<'_> {
    /// Sums of the task, staged weights, and those of a row in f32.
    pub(super) fn scratch_words(task: &Task, path: Path, k: usize) -> usize {
        let stretch = PASS.min(path.steps(k));
        let sums = Self::rows_of_sums(task, path) * task.panels.len() * PANEL;
        let staged = Self::staged_rows(task, path) * stretch.next_multiple_of(LINE);
        sums + staged + path.numbers(0..stretch, k).len()
    }

    /// Rows of sums, whole tiles and whole vectors of them.
    fn rows_of_sums(task: &Task, path: Path) -> usize {
        Self::staged_rows(task, path).next_multiple_of(WIDEST)
    }

    /// Rows of staged weights, whole groups of them.
    fn staged_rows(task: &Task, path: Path) -> usize {
        task.rows.len().next_multiple_of(path.group())
    }

    /// # Safety
    /// The machine must have the job's instruction set, the job's slices must have their lengths,
    /// and no other thread may access this part of `y`.
    pub(super) unsafe fn run(self) {
        #[cfg(target_arch = "x86_64")]
        if self.path != Path::F32 {
            // SAFETY: the caller's promise.
            return unsafe { self.rounded() };
        }
        // SAFETY: the caller's promise.
        unsafe { simd::run(self.job.isa, ByF32(self)) }
    }

    /// On a path that rounds activations.
    ///
    /// # Safety
    /// As of [`run`](Self::run).
    #[cfg(target_arch = "x86_64")]
    unsafe fn rounded(self) {
        use super::amx::{AmxTiles, Registers};
        use super::blocks::{Blocks, Bytes256, Bytes512, Halves256, Halves512, InBlocks, Nibbles};
        use crate::isa::Isa;
        use crate::tile::DotBf16;
        use simd::{Avx2, Avx512};

        #[target_feature(
            enable = "avx512f,avx512bf16,avx512vnni,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"
        )]
        unsafe fn with_bf16(task: ManyRows<'_>) {
            // SAFETY: the caller's promise; registers are taken once for each task.
            unsafe {
                match task.path {
                    Path::Amx => {
                        let _registers = Registers::take();
                        task.multiply::<Avx512, AmxTiles>();
                    }
                    _ => task.multiply::<Avx512, Words<DotBf16>>(),
                }
            }
        }
        #[target_feature(enable = "avx512f,avx512vnni,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
        unsafe fn with_avx512_vnni(task: ManyRows<'_>) {
            // SAFETY: the caller's promise.
            unsafe {
                match (task.path, task.part.weight_type()) {
                    (Path::Blocks(Blocks::Fixed), _) => {
                        task.multiply::<Avx512, InBlocks<Halves512, false>>();
                    }
                    (_, WeightType::Q4K) => task.multiply::<Avx512, InBlocks<Bytes512, true>>(),
                    _ => task.multiply::<Avx512, InBlocks<Bytes512, false>>(),
                }
            }
        }
        #[target_feature(enable = "avxvnni,avx2,fma,f16c")]
        unsafe fn with_avx_vnni(task: ManyRows<'_>) {
            // SAFETY: the caller's promise.
            unsafe {
                match (task.path, task.part.weight_type()) {
                    (Path::Blocks(Blocks::Fixed), _) => {
                        task.multiply::<Avx2, InBlocks<Halves256<true>, false>>();
                    }
                    (_, WeightType::Q4K) => task.multiply::<Avx2, InBlocks<Bytes256, true>>(),
                    _ => task.multiply::<Avx2, InBlocks<Bytes256, false>>(),
                }
            }
        }
        #[target_feature(enable = "avx2,fma,f16c")]
        unsafe fn with_avx2(task: ManyRows<'_>) {
            // SAFETY: the caller's promise.
            unsafe {
                match task.path {
                    Path::Blocks(Blocks::Nibbles) => {
                        task.multiply::<Avx2, InBlocks<Nibbles, true>>();
                    }
                    _ => task.multiply::<Avx2, InBlocks<Halves256<false>, false>>(),
                }
            }
        }
        // SAFETY: `Path::of` chooses each path with the instructions that it takes.
        unsafe {
            match (self.job.isa, self.path) {
                (Isa::Avx2, _) => with_avx2(self),
                (Isa::AvxVnni, _) => with_avx_vnni(self),
                (_, Path::Blocks(_)) => with_avx512_vnni(self),
                _ => with_bf16(self),
            }
        }
    }

    #[inline(always)]
    unsafe fn multiply<S: Simd, T: Tiles<S>>(mut self) {
        let &Self { task: Task { rows, panels, .. }, path, job: &Job { k, .. }, .. } = &self;
        let (rows, group, steps) = (rows.clone(), path.group(), path.steps(k));
        let (sums, staging) = std::mem::take(&mut self.scratch)
            .split_at_mut(Self::rows_of_sums(self.task, path) * panels.len() * PANEL);
        if self.in_place() {
            let row_bytes = self.part.row_bytes();
            let height = (IN_PLACE_BYTES / row_bytes.max(1) / group).max(1) * group;
            for first in rows.clone().step_by(height) {
                let block = first..rows.end.min(first + height);
                let later = block.end..self.part.n().min(block.end + height);
                let weights = Staged {
                    first: self.part.bytes()[first * row_bytes..].as_ptr().cast(),
                    strides: Strides::rows(row_bytes / 4),
                    next: group * row_bytes / 4,
                    later: (later, 0..row_bytes),
                };
                // SAFETY: the caller's promise, and these are the rows.
                unsafe { self.block::<S, T>(block, 0..steps, &weights, sums) }
            }
        } else {
            let (staging, wide) = staging.split_at_mut(
                Self::staged_rows(self.task, path) * PASS.min(steps).next_multiple_of(LINE),
            );
            for first in (0..steps).step_by(PASS) {
                let stretch = first..steps.min(first + PASS);
                // The next stretch of these rows, or behind the last the first of those below.
                let (rows_later, steps_later) = if stretch.end < steps {
                    (rows.clone(), stretch.end..steps.min(stretch.end + PASS))
                } else {
                    (rows.end..self.part.n().min(rows.end + rows.len()), 0..steps.min(PASS))
                };
                let weights = Staged {
                    first: staging.as_ptr(),
                    strides: Strides { row: LINE, word: 1, line: group * LINE },
                    next: group * stretch.len().next_multiple_of(LINE),
                    later: (rows_later, self.bytes(steps_later)),
                };
                // SAFETY: the caller's promise, and these are the rows.
                unsafe {
                    self.stage::<S>(stretch.clone(), staging, wide);
                    self.block::<S, T>(rows.clone(), stretch, &weights, sums);
                }
            }
        }
        // SAFETY: the caller's promise.
        unsafe { self.write::<S>(sums) }
    }

    /// Adds to the sums of some rows over some steps.
    ///
    /// # Shapes
    /// - `sums`: `[rows, panels, PANEL]` of the task
    #[inline(always)]
    unsafe fn block<S: Simd, T: Tiles<S>>(
        &self,
        rows: Range<usize>,
        steps: Range<usize>,
        weights: &Staged,
        sums: &mut [f32],
    ) {
        let &Job { k, m, .. } = self.job;
        let Task { panels, rows: all, .. } = self.task;
        let (group, x_line, words) = (self.path.group(), self.path.x_line(), self.path.x_words(k));
        let stride = panels.len() * PANEL;
        let passes = panels.len() * steps.len().div_ceil(PASS);
        let mut pass = 0;
        for panel in panels.clone() {
            let columns = PANEL.min(m - panel * PANEL);
            let height = T::height(columns);
            for first in steps.clone().step_by(PASS) {
                let x = &self.x[(panel * words + first / LINE * x_line) * PANEL..];
                if self.path.fetches_ahead() {
                    // SAFETY: the caller's promise.
                    unsafe { self.fetch::<S>(weights, pass, passes) }
                    pass += 1;
                }
                for i in (0..rows.len()).step_by(height) {
                    let sum = (rows.start - all.start + i) * stride;
                    let sum = &mut sums[sum + (panel - panels.start) * PANEL..];
                    let at = i / group * weights.next + i % group * weights.strides.row;
                    let line = (first - steps.start) / LINE * weights.strides.line;
                    let tile = Tile {
                        a: weights.first.wrapping_add(at + line),
                        a_strides: weights.strides,
                        b: x.as_ptr(),
                        b_stride: PANEL,
                        steps: PASS.min(steps.end - first),
                        c: sum.as_mut_ptr(),
                        c_stride: stride,
                        start: if first == 0 { Start::Zero } else { Start::Output },
                    };
                    // SAFETY: the weights have these rows, the packed activations whole panels, and
                    // the sums both.
                    unsafe { T::run(tile, height.min(rows.len() - i), columns) }
                }
            }
        }
    }

    /// Whether weights are read where they lie: as words for this path, at any alignment.
    fn in_place(&self) -> bool {
        let as_words = match (self.path, self.part.weight_type()) {
            (Path::F32, WeightType::F32) => true,
            #[cfg(target_arch = "x86_64")]
            (Path::Dot, WeightType::Bf16) => self.part.row_bytes().is_multiple_of(4),
            _ => false,
        };
        as_words && self.job.m <= IN_PLACE * PANEL
    }

    /// Turns the sums back into rows of activations, and adds the bias.
    ///
    /// # Shapes
    /// - `sums`: `[rows, panels, PANEL]`
    #[inline(always)]
    unsafe fn write<S: Simd>(&self, sums: &[f32]) {
        let &Job { n, m, bias, y, .. } = self.job;
        let Task { rows, panels, column, .. } = self.task;
        let (stride, top) = (panels.len() * PANEL, panels.start * PANEL);
        let height = m.min(panels.end * PANEL) - top;
        for first in (0..rows.len()).step_by(S::LANES) {
            let width = S::LANES.min(rows.len() - first);
            let column = column + rows.start + first;
            let mut offsets = [0f32; WIDEST];
            if let Some(bias) = bias {
                offsets[..width].copy_from_slice(&bias[column..][..width]);
            }
            for from in (0..height).step_by(S::LANES) {
                let mut block = [0f32; WIDEST * WIDEST];
                // SAFETY: sums reach over whole vectors in both directions, the output over `width`
                // columns of each row below `m`, and the local arrays over a vector.
                unsafe {
                    let sums = sums[first * stride + from..].as_ptr();
                    S::transpose(sums.cast(), stride * 4, block.as_mut_ptr(), S::LANES);
                    let offsets = S::load(offsets.as_ptr());
                    for i in 0..S::LANES.min(height - from) {
                        let row = block.as_mut_ptr().add(i * S::LANES);
                        let y = y.get().add((top + from + i) * n + column);
                        let sums = S::add(S::load(row), offsets);
                        if width == S::LANES {
                            S::store(y, sums);
                        } else {
                            S::store(row, sums);
                            std::ptr::copy_nonoverlapping(row, y, width);
                        }
                    }
                }
            }
        }
    }
}

/// How a panel of activations is multiplied with some rows of weights.
pub(super) trait Tiles<S: Simd> {
    /// Rows of a tile of so many columns, which divide a [group](Path::group).
    fn height(columns: usize) -> usize;

    /// # Safety
    /// As of [`Tile::run`]; `c` must reach over whole vectors.
    unsafe fn run(tile: Tile, rows: usize, columns: usize);
}

/// Tiles of 32-bit words.
struct Words<P>(std::marker::PhantomData<P>);

impl<S: Simd, P: Product<S> + Product<S::Narrow>> Tiles<S> for Words<P> {
    fn height(columns: usize) -> usize {
        if columns <= S::Narrow::LANES { MAX_ROWS } else { S::ROWS }
    }

    #[inline(always)]
    unsafe fn run(tile: Tile, rows: usize, columns: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            if columns <= S::Narrow::LANES {
                tile.narrow::<S::Narrow, P>(rows);
            } else {
                tile.vectors::<S, P>(rows, columns.next_multiple_of(S::LANES));
            }
        }
    }
}

struct ByF32<'a>(ManyRows<'a>);

impl Kernel for ByF32<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller's promise.
        unsafe { self.0.multiply::<S, Words<F32>>() }
    }
}
