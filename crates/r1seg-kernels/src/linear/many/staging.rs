//! Brings weights together for tiles, and fetches those that follow.

use std::ops::Range;

use super::ManyRows;
use crate::buffer::LINE;
use crate::linear::path::Path;
use crate::simd::Simd;
use crate::tile::Strides;
use crate::weights::{WeightType, widen};

/// How many rows ahead weights are fetched while rows are brought together, on paths that fetch none before.
const ROWS_AHEAD: usize = 8;

/// Weights that lie ready for tiles.
pub(super) struct Staged {
    pub(super) first: *const f32,
    pub(super) strides: Strides,
    /// Words from a group of rows to the next.
    pub(super) next: usize,
    /// Rows, and the bytes of each, that are used after them.
    pub(super) later: (Range<usize>, Range<usize>),
}

impl ManyRows<'_> {
    /// The bytes of a row that some steps are about, whole blocks of them.
    pub(super) fn bytes(&self, steps: Range<usize>) -> Range<usize> {
        let weight_type = self.part.weight_type();
        let numbers = self.path.numbers(steps, self.part.k());
        let byte = |number: usize| number / weight_type.block_len() * weight_type.block_bytes();
        byte(numbers.start)..byte(numbers.end)
    }

    /// Brings the rows of the task together over some steps, so that a tile reads one stream of weights.
    ///
    /// # Shapes
    /// - `staging`: `[rows / group][words / LINE][group][LINE]`    - `wide`: `[numbers]`
    #[inline(always)]
    pub(super) unsafe fn stage<S: Simd>(
        &self,
        steps: Range<usize>,
        staging: &mut [f32],
        wide: &mut [f32],
    ) {
        let &Self { part, path, task, .. } = self;
        let (weight_type, row_bytes, rows) = (part.weight_type(), part.row_bytes(), &task.rows);
        let (words, group) = (steps.len().next_multiple_of(LINE), path.group());
        let k = path.numbers(steps.clone(), part.k()).len();
        let of_row = self.bytes(steps);
        for (i, row) in rows.clone().enumerate() {
            if !path.fetches_ahead() {
                // Of each row just a stretch is read, too short for the processor to look ahead.
                let later = (row + ROWS_AHEAD).min(rows.end - 1) * row_bytes;
                for line in part.bytes()[later..][of_row.clone()].chunks(4 * LINE) {
                    // SAFETY: the caller's promise.
                    unsafe { S::prefetch_l1(line.as_ptr()) }
                }
            }
            let stored = &part.bytes()[row * row_bytes..][of_row.clone()];
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

    /// Fetches a share of the weights that are used later into the second-level cache.
    ///
    /// # Safety
    /// As of [`Simd`].
    #[inline(always)]
    pub(super) unsafe fn fetch<S: Simd>(&self, weights: &Staged, pass: usize, passes: usize) {
        let (rows, bytes) = &weights.later;
        let row = |pass: usize| rows.start + rows.len() * pass / passes;
        for row in row(pass)..row(pass + 1) {
            let row = &self.part.bytes()[row * self.part.row_bytes()..][bytes.clone()];
            for line in row.chunks(4 * LINE) {
                // SAFETY: the caller's promise.
                unsafe { S::prefetch_l2(line.as_ptr()) }
            }
        }
    }
}
