//! Where weights and activations lie, and the product of a piece of both.

use std::ops::Range;

use super::Unit;
use crate::buffer::LINE;
use crate::simd::Simd;
use crate::weights::Matrix;

const LINE_BYTES: usize = 4 * LINE;

/// Weights and activations.
pub(super) struct Operands {
    w: *const u8,
    pub(super) row_bytes: usize,
    pub(super) x: *const f32,
    /// Words from a row of activations to the next.
    pub(super) stride: usize,
    /// Whole units of a row.
    pub(super) whole: usize,
}

impl Operands {
    /// Of activations in so many rows, and units of so many weights.
    pub(super) fn new(part: &Matrix<'_>, x: &[f32], rows: usize, unit: usize) -> Self {
        Self {
            w: part.bytes().as_ptr(),
            row_bytes: part.row_bytes(),
            x: x.as_ptr(),
            stride: x.len() / rows,
            whole: part.k() / unit,
        }
    }

    /// Where a weight row begins, if there is one.
    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> *const u8 {
        self.w.wrapping_add(row * self.row_bytes)
    }

    /// Adds the products of some units of `R` weight rows, which begin at `w`, with `M` rows of activations, and
    /// fetches as many units from `ahead`.
    #[inline(always)]
    pub(super) unsafe fn piece<S: Simd, U: Unit<S>, const M: usize, const R: usize>(
        &self,
        sums: &mut [[S::V; M]; R],
        w: [*const u8; R],
        ahead: [*const u8; R],
        x: *const f32,
        units: Range<usize>,
    ) {
        // In registers for as long as the piece takes.
        let mut local = *sums;
        // SAFETY: the caller has these units of each weight row, and `M` rows of activations.
        unsafe {
            for unit in units {
                let x = x.add(unit * U::WORDS);
                for ((sums, w), ahead) in local.iter_mut().zip(w).zip(ahead) {
                    for line in 0..U::BYTES.div_ceil(LINE_BYTES) {
                        S::prefetch_l1(ahead.wrapping_add(unit * U::BYTES + line * LINE_BYTES));
                    }
                    U::add(sums, w.add(unit * U::BYTES), x, self.stride);
                }
            }
        }
        *sums = local;
    }
}
