//! Many rows: the lanes of a vector are rows of activations, and each word of the weights is
//! multiplied with all of them. So weights need not be transposed: a block of their rows is brought
//! together line by line, or read where it lies, and used for all activations of a task.

use std::ops::Range;

use super::path::Path;
use super::{Job, Task};
use crate::buffer::LINE;
use crate::simd::{self, Kernel, Simd, WIDEST};
use crate::tile::{F32, MAX_ROWS, PANEL, Product, Start, Strides, Tile};
use crate::weights::{Matrix, WeightType, widen};

/// Words of the inner dimension that are multiplied at a time. Those of a panel stream through the
/// first-level cache, 32 KiB of them; fewer would load and store the sums more often.
const PASS: usize = 256;

/// How many rows ahead of those that are brought together by stretches weights are fetched.
const ROWS_AHEAD: usize = 8;

/// Up to this many panels of activations, weights are read where they lie if they can be.
const IN_PLACE: usize = 2;

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
    /// Sums of the task, staged weights, and a row of them in f32.
    pub(super) fn scratch_words(task: &Task, path: Path, k: usize) -> usize {
        let sums = Self::rows_of_sums(task, path) * task.panels.len() * PANEL;
        let staged = Self::staged_rows(path, k) * Self::stretch(path, k).next_multiple_of(LINE);
        sums + staged + k
    }

    /// Steps that are staged at a time. Vectors take so long for a row that all of it is read from the cache
    /// meanwhile. Tiles of AMX do not: what they need next has to be in the second-level cache, the activations of
    /// all panels included.
    fn stretch(path: Path, k: usize) -> usize {
        match path {
            #[cfg(target_arch = "x86_64")]
            Path::Amx => PASS.min(path.steps(k)),
            _ => path.steps(k),
        }
    }

    /// Rows of sums, whole tiles and whole vectors of them.
    fn rows_of_sums(task: &Task, path: Path) -> usize {
        task.rows.len().next_multiple_of(path.group()).next_multiple_of(WIDEST)
    }

    /// Rows of `k` weights that are staged at a time, in whole groups.
    fn staged_rows(path: Path, k: usize) -> usize {
        let group = path.group();
        let fit = path.staged_words() / Self::stretch(path, k).max(1) / group;
        fit.clamp(1, path.rows() / group) * group
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
        use super::blocks::{Blocks, Bytes256, Bytes512, Halves, InBlocks, Nibbles};
        use crate::isa::Isa;
        use crate::tile::DotBf16;
        use simd::{Avx2, Avx512};

        #[target_feature(
            enable = "avx512f,avx512bf16,avx512vnni,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"
        )]
        unsafe fn with_avx512(task: ManyRows<'_>) {
            // SAFETY: the caller's promise; registers are taken once for each task.
            unsafe {
                match (task.path, task.part.weight_type()) {
                    (Path::Amx, _) => {
                        let _registers = Registers::take();
                        task.multiply::<Avx512, AmxTiles>();
                    }
                    (Path::Blocks(_), WeightType::Q4K) => {
                        task.multiply::<Avx512, InBlocks<Bytes512, true>>();
                    }
                    (Path::Blocks(_), _) => task.multiply::<Avx512, InBlocks<Bytes512, false>>(),
                    _ => task.multiply::<Avx512, Words<DotBf16>>(),
                }
            }
        }
        #[target_feature(enable = "avxvnni,avx2,fma,f16c")]
        unsafe fn with_avx_vnni(task: ManyRows<'_>) {
            // SAFETY: the caller's promise.
            unsafe {
                match task.part.weight_type() {
                    WeightType::Q4K => task.multiply::<Avx2, InBlocks<Bytes256, true>>(),
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
                    _ => task.multiply::<Avx2, InBlocks<Halves, false>>(),
                }
            }
        }
        // SAFETY: `Path::of` chooses each path with the instructions that it takes.
        unsafe {
            match self.job.isa {
                Isa::Avx2 => with_avx2(self),
                Isa::AvxVnni => with_avx_vnni(self),
                _ => with_avx512(self),
            }
        }
    }

    #[inline(always)]
    unsafe fn multiply<S: Simd, T: Tiles<S>>(mut self) {
        let &Self { task: Task { rows, panels, .. }, path, job: &Job { k, .. }, .. } = &self;
        let (rows, group, steps) = (rows.clone(), path.group(), path.steps(k));
        let (sums, staging) = std::mem::take(&mut self.scratch)
            .split_at_mut(Self::rows_of_sums(self.task, path) * panels.len() * PANEL);
        let (height, stretch) = (Self::staged_rows(path, k), Self::stretch(path, k));
        for top in (0..rows.len()).step_by(height) {
            let block = rows.start + top..rows.end.min(rows.start + top + height);
            if let Some(weights) = self.in_place(block.clone()) {
                let row = self.part.row_bytes() / 4;
                let strides = Strides::rows(row);
                // SAFETY: the caller's promise, and these are the rows.
                unsafe {
                    self.block::<S, T>(block, 0..steps, weights, strides, group * row, sums);
                }
                continue;
            }
            // A product over nothing is zero, too.
            for first in (0..steps.max(1)).step_by(stretch.max(1)) {
                let steps = first..steps.min(first + stretch);
                let words = steps.len().next_multiple_of(LINE);
                let (staging, wide) = staging.split_at_mut(height * words);
                let strides = Strides { row: LINE, word: 1, line: group * LINE };
                let weights = staging.as_ptr();
                // SAFETY: the caller's promise, and these are the rows.
                unsafe {
                    self.stage::<S>(block.clone(), steps.clone(), staging, wide);
                    self.block::<S, T>(block.clone(), steps, weights, strides, group * words, sums);
                }
            }
        }
        // SAFETY: the caller's promise.
        unsafe { self.write::<S>(sums) }
    }

    /// Adds to the sums of some rows over some steps. The first row is at `weights`, and every group of them `next`
    /// words further.
    ///
    /// # Shapes
    /// - `sums`: `[rows, panels, PANEL]` of the task
    #[inline(always)]
    unsafe fn block<S: Simd, T: Tiles<S>>(
        &self,
        rows: Range<usize>,
        steps: Range<usize>,
        weights: *const f32,
        strides: Strides,
        next: usize,
        sums: &mut [f32],
    ) {
        let &Job { k, m, .. } = self.job;
        let Task { panels, rows: all, .. } = self.task;
        let (group, x_line, words) = (self.path.group(), self.path.x_line(), self.path.x_words(k));
        let stride = panels.len() * PANEL;
        // The rows behind these, of which each pass fetches a share into the second-level cache.
        let ahead = if self.path.fetches_ahead() { rows.len() * self.part.row_bytes() } else { 0 };
        let behind = &self.part.bytes()[rows.end * self.part.row_bytes()..];
        let ahead = &behind[..ahead.min(behind.len())];
        let passes = panels.len() * self.path.steps(k).div_ceil(PASS).max(1);
        let share = ahead.len().div_ceil(passes).max(1);
        let mut shares = ahead.chunks(share).skip(panels.len() * (steps.start / PASS));
        for panel in panels.clone() {
            let columns = PANEL.min(m - panel * PANEL);
            let height = T::height(columns);
            for first in (steps.start..steps.end.max(steps.start + 1)).step_by(PASS) {
                let x = &self.x[(panel * words + first / LINE * x_line) * PANEL..];
                for line in shares.next().unwrap_or_default().chunks(64) {
                    // SAFETY: the caller's promise.
                    unsafe { S::prefetch_l2(line.as_ptr()) }
                }
                for i in (0..rows.len()).step_by(height) {
                    let sum = (rows.start - all.start + i) * stride;
                    let sum = &mut sums[sum + (panel - panels.start) * PANEL..];
                    let at = i / group * next + i % group * strides.row;
                    let tile = Tile {
                        a: weights.wrapping_add(at + (first - steps.start) / LINE * strides.line),
                        a_strides: strides,
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

    /// Where some rows lie as words for this path, at any alignment, if they should be read there.
    fn in_place(&self, rows: Range<usize>) -> Option<*const f32> {
        let row_bytes = self.part.row_bytes();
        let as_words = match (self.path, self.part.weight_type()) {
            (Path::F32, WeightType::F32) => true,
            #[cfg(target_arch = "x86_64")]
            (Path::Dot, WeightType::Bf16) => row_bytes.is_multiple_of(4),
            _ => false,
        };
        let once = self.job.m <= IN_PLACE * PANEL;
        (as_words && once).then(|| self.part.bytes()[rows.start * row_bytes..].as_ptr().cast())
    }

    /// Brings rows together over some steps, so that a tile reads one stream of weights.
    ///
    /// # Shapes
    /// - `staging`: `[rows / group][words / LINE][group][LINE]`    - `wide`: `[k]`
    #[inline(always)]
    unsafe fn stage<S: Simd>(
        &self,
        rows: Range<usize>,
        steps: Range<usize>,
        staging: &mut [f32],
        wide: &mut [f32],
    ) {
        let &Self { part, path, .. } = self;
        let (weight_type, row_bytes) = (part.weight_type(), part.row_bytes());
        let (words, group) = (steps.len().next_multiple_of(LINE), path.group());
        let numbers = path.numbers(steps, part.k());
        let offset = numbers.start / weight_type.block_len() * weight_type.block_bytes();
        let len = numbers.len() / weight_type.block_len() * weight_type.block_bytes();
        let k = numbers.len();
        for (i, row) in rows.clone().enumerate() {
            if !path.fetches_ahead() {
                // Of each row just a stretch is read, too short for the processor to look ahead.
                let later =
                    &part.bytes()[(row + ROWS_AHEAD).min(rows.end - 1) * row_bytes + offset..];
                for line in later[..len].chunks(4 * LINE) {
                    // SAFETY: the caller's promise.
                    unsafe { S::prefetch_l1(line.as_ptr()) }
                }
            }
            let stored = &part.bytes()[row * row_bytes + offset..][..len];
            let wide = &mut wide[..k];
            let at = i / group * group * words + i % group * LINE;
            let lines = &mut staging[at..];
            // SAFETY: a row is `k` weights. Blocks are whole vectors, and what is rounded is shorter
            // than what it replaces.
            let bytes = unsafe {
                match (path, weight_type) {
                    (Path::F32, WeightType::F32) => stored,
                    #[cfg(target_arch = "x86_64")]
                    (Path::Dot | Path::Amx, WeightType::Bf16) => stored,
                    (Path::F32, _) => {
                        widen::<S>(weight_type, stored.as_ptr(), wide);
                        std::slice::from_raw_parts(wide.as_ptr().cast(), 4 * k)
                    }
                    #[cfg(target_arch = "x86_64")]
                    (Path::Dot | Path::Amx, _) => {
                        widen::<S>(weight_type, stored.as_ptr(), wide);
                        let numbers = wide.as_mut_ptr();
                        for i in (0..k).step_by(S::LANES) {
                            let rounded = numbers.cast::<u8>().add(2 * i);
                            S::store_bf16(rounded, S::load(numbers.add(i)));
                        }
                        std::slice::from_raw_parts(numbers.cast(), 2 * k)
                    }
                    #[cfg(target_arch = "x86_64")]
                    (Path::Blocks(blocks), _) => {
                        blocks.stage(weight_type, stored, lines.as_mut_ptr(), group * LINE);
                        continue;
                    }
                }
            };
            for (line, bytes) in lines.chunks_mut(group * LINE).zip(bytes.chunks(4 * LINE)) {
                let line = line.as_mut_ptr().cast::<u8>();
                // SAFETY: a line is as long as this; zeros fill up the last word.
                unsafe {
                    if let Ok(whole) = <&[u8; 4 * LINE]>::try_from(bytes) {
                        line.cast::<[u8; 4 * LINE]>().write_unaligned(*whole);
                    } else {
                        line.write_bytes(0, 4 * LINE);
                        std::ptr::copy_nonoverlapping(bytes.as_ptr(), line, bytes.len());
                    }
                }
            }
        }
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
