//! A few rows: what reading the weights costs is shared, but for large blocks that are widened.

mod operands;

use std::marker::PhantomData;
use std::ops::Range;

use super::pack::without_denormals;
use super::{FEW_ROWS, Job};
use crate::simd::{self, Kernel, Simd};
use crate::stored::{Bf16, F16, F32, MAX_VECTORS, Q4K, Q6K, Q8_0, Stored, first_of};
use crate::weights::{Matrix, WeightType};
use operands::Operands;

/// Weight rows that are read side by side, far apart from each other where there is one row of activations: the
/// processor fetches several streams ahead of their use sooner than one.
const STREAMS: usize = 4;

/// How far ahead of their use weights are fetched, in bytes. Where a block takes long to multiply, the processor
/// itself does not look that far.
const AHEAD: usize = 2048;

/// Bytes of a weight row that are multiplied at a time where there are several rows of activations. The processor does
/// not look beyond such a piece, so that those of a later group of rows are fetched meanwhile.
const PIECE_BYTES: usize = 1024;

/// How many groups of rows ahead pieces are fetched.
const GROUPS_AHEAD: usize = 2;

/// Words of activations, of all rows, that stay in the first-level cache for the pieces of a band of weight rows.
const PIECE_WORDS: usize = 3072;

/// Weight rows of a band, whose sums wait in the first-level cache, too.
const BAND: usize = 32;

// As many as `FewRows::of` has kernels for.
const _: () = assert!(FEW_ROWS <= 6);

/// Rows of activations as the kernels have them: with one of zeros when there are three or five.
pub(super) fn padded(m: usize) -> usize {
    if m == 1 { 1 } else { m.next_multiple_of(2) }
}

/// Rows of activations, filled up with zeros to whole units, and with zeros for denormal numbers.
///
/// # Shapes
/// - `x`: `[m, k]`    - `filled`: `[padded(m), words(k)]`
pub(super) fn fill_up(x: &[f32], k: usize, filled: &mut [f32]) {
    let mut rows = x.chunks_exact(k.max(1));
    for filled in filled.chunks_exact_mut(words(k).max(1)) {
        let (row, rest) = filled.split_at_mut(k);
        match rows.next() {
            Some(x) => without_denormals(x, row),
            None => row.fill(0.0),
        }
        rest.fill(0.0);
    }
}

/// Words of a row of `k` activations.
pub(super) fn words(k: usize) -> usize {
    k.next_multiple_of(CUT)
}

/// Weights of the largest unit that may be cut short.
const CUT: usize = 64;

/// Weights that are read at a time, and the activations that belong to them.
pub(super) trait Unit<S: Simd> {
    /// Weights of a unit.
    const LEN: usize;
    /// Bytes of a unit.
    const BYTES: usize;
    /// Words of the activations of a unit.
    const WORDS: usize;
    /// Whether several rows of activations share one read of the weights. Widening large blocks costs
    /// more than reading them, and is not worth the size of that code.
    const SHARED: bool;

    /// Adds the products of the unit at `w` with `M` rows of `x`, `stride` words apart. Each row has one sum, so that
    /// it gets what it gets alone.
    ///
    /// # Safety
    /// As of [`Simd`]; there must be a unit at `w` and at each row of `x`.
    unsafe fn add<const M: usize>(sums: &mut [S::V; M], w: *const u8, x: *const f32, stride: usize);
}

/// Weights that are widened, by activations as they are.
struct Exact<W>(PhantomData<W>);

impl<S: Simd, W: Stored<S>> Unit<S> for Exact<W> {
    const LEN: usize = W::LEN;
    const BYTES: usize = W::BYTES;
    const WORDS: usize = W::LEN;
    const SHARED: bool = W::LEN <= CUT;

    #[inline(always)]
    unsafe fn add<const M: usize>(
        sums: &mut [S::V; M],
        w: *const u8,
        x: *const f32,
        stride: usize,
    ) {
        // SAFETY: the caller has a unit of weights and as many numbers of each row.
        unsafe {
            let head = W::head(w);
            for group in 0..W::LEN / W::GROUP {
                let mut wide = [S::splat(0.0); MAX_VECTORS];
                W::group(w, &head, group, &mut wide);
                for (v, &wide) in wide.iter().take(W::GROUP / S::LANES).enumerate() {
                    let x = x.add(group * W::GROUP + v * S::LANES);
                    for (i, sum) in sums.iter_mut().enumerate() {
                        *sum = S::fma(wide, S::load(x.add(i * stride)), *sum);
                    }
                }
            }
        }
    }
}

/// Some rows of a part, which are columns of `y`.
pub(super) struct FewRows<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) part: &'a Matrix<'a>,
    /// As given, filled up, or rounded; on cache-line boundaries.
    pub(super) x: &'a [f32],
    pub(super) rounded: bool,
    /// Where the part's columns start in `y`.
    pub(super) first: usize,
    pub(super) rows: Range<usize>,
}

impl FewRows<'_> {
    /// # Safety
    /// The machine must have the job's instruction set, the job's slices must have their lengths,
    /// and no other thread may access these columns of `y`.
    pub(super) unsafe fn run(self) {
        #[cfg(target_arch = "x86_64")]
        if self.rounded {
            use super::rounded::{avx2, avx512};
            use crate::isa::Isa;
            #[target_feature(
                enable = "avx512vnni,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"
            )]
            unsafe fn with_avx512_vnni(task: FewRows<'_>) {
                // SAFETY: the caller's promise.
                unsafe {
                    match task.part.weight_type() {
                        WeightType::Q4K => task.of::<simd::Avx512, avx512::Q4K<true>>(),
                        _ => task.of::<simd::Avx512, avx512::Q6K<true>>(),
                    }
                }
            }
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
            unsafe fn with_avx512(task: FewRows<'_>) {
                // SAFETY: the caller's promise.
                unsafe {
                    match task.part.weight_type() {
                        WeightType::Q4K => task.of::<simd::Avx512, avx512::Q4K<false>>(),
                        _ => task.of::<simd::Avx512, avx512::Q6K<false>>(),
                    }
                }
            }
            #[target_feature(enable = "avxvnni,avx2,fma,f16c")]
            unsafe fn with_avx_vnni(task: FewRows<'_>) {
                // SAFETY: the caller's promise.
                unsafe {
                    match task.part.weight_type() {
                        WeightType::Q4K => task.of::<simd::Avx2, avx2::Q4K<true>>(),
                        WeightType::Q6K => task.of::<simd::Avx2, avx2::Q6K<true>>(),
                        _ => task.of::<simd::Avx2, avx2::Q8_0<true>>(),
                    }
                }
            }
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn with_avx2(task: FewRows<'_>) {
                // SAFETY: the caller's promise.
                unsafe {
                    match task.part.weight_type() {
                        WeightType::Q4K => task.of::<simd::Avx2, avx2::Q4K<false>>(),
                        WeightType::Q6K => task.of::<simd::Avx2, avx2::Q6K<false>>(),
                        _ => task.of::<simd::Avx2, avx2::Q8_0<false>>(),
                    }
                }
            }
            // SAFETY: activations are rounded with AVX2 or AVX-512 alone, and the machine has the job's.
            return unsafe {
                match self.job.isa {
                    Isa::AvxVnni => with_avx_vnni(self),
                    Isa::Avx2 => with_avx2(self),
                    Isa::Avx512 => with_avx512(self),
                    _ => with_avx512_vnni(self),
                }
            };
        }
        // SAFETY: the caller's promise.
        unsafe { simd::run(self.job.isa, Widening(self)) }
    }

    #[inline(always)]
    unsafe fn of<S: Simd, U: Unit<S>>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            match padded(self.job.m) {
                m if m == 1 || !U::SHARED => {
                    for i in 0..self.job.m {
                        if U::LEN > CUT {
                            self.streams::<S, U, 1>(i);
                        } else {
                            self.streams::<S, U, STREAMS>(i);
                        }
                    }
                }
                // Sums stay in registers: those of several weight rows where the compiler unrolls the loop over them,
                // which it does for small units.
                2 if U::LEN > CUT => self.bands::<S, U, 2, 1>(),
                4 if U::LEN > CUT => self.bands::<S, U, 4, 1>(),
                6 if U::LEN > CUT => self.bands::<S, U, 6, 1>(),
                2 => self.bands::<S, U, 2, STREAMS>(),
                4 if S::ROWS > 6 => self.bands::<S, U, 4, STREAMS>(),
                4 => self.bands::<S, U, 4, 2>(),
                6 if S::ROWS > 6 => self.bands::<S, U, 6, STREAMS>(),
                6 => self.bands::<S, U, 6, 2>(),
                m => debug_assert!(m == 0, "{m} rows are not few"),
            }
        }
    }

    /// All weight rows by one row of activations.
    #[inline(always)]
    unsafe fn streams<S: Simd, U: Unit<S>, const R: usize>(&self, row: usize) {
        let all = Operands::new(self.part, self.x, padded(self.job.m), U::LEN);
        let height = self.rows.len() / R;
        let left = self.rows.start + R * height..self.rows.end;
        // SAFETY: the caller's promise; a row is `whole` units and what is left of one.
        unsafe {
            let x = all.x.add(row * all.stride);
            for first in self.rows.start..self.rows.start + height {
                let rows: [usize; R] = std::array::from_fn(|r| first + r * height);
                let w = rows.map(|row| all.row(row));
                let ahead = w.map(|w| w.wrapping_add(AHEAD));
                let mut sums = [[S::splat(0.0)]; R];
                all.piece::<S, U, 1, R>(&mut sums, w, ahead, x, 0..all.whole);
                for (sums, weight_row) in sums.into_iter().zip(rows) {
                    self.finish::<S, U, 1>(&all, sums, weight_row, row);
                }
            }
            for weight_row in left {
                let w = all.row(weight_row);
                let mut sums = [[S::splat(0.0)]];
                all.piece::<S, U, 1, 1>(&mut sums, [w], [w.wrapping_add(AHEAD)], x, 0..all.whole);
                self.finish::<S, U, 1>(&all, sums[0], weight_row, row);
            }
        }
    }

    /// All weight rows by all `M` rows of activations, `R` weight rows at a time. A piece of the activations is used
    /// for all rows of a band, so that it comes from the first-level cache.
    #[inline(always)]
    unsafe fn bands<S: Simd, U: Unit<S>, const M: usize, const R: usize>(&self) {
        let all = Operands::new(self.part, self.x, padded(self.job.m), U::LEN);
        let Operands { x, whole, row_bytes, .. } = all;
        let piece = (PIECE_WORDS / (M * U::WORDS)).min(PIECE_BYTES / U::BYTES).max(1);
        for top in self.rows.clone().step_by(BAND) {
            let rows = top..self.rows.end.min(top + BAND);
            // SAFETY: the caller's promise.
            unsafe {
                let mut sums = [[S::splat(0.0); M]; BAND];
                for first in (0..whole).step_by(piece) {
                    let units = first..whole.min(first + piece);
                    let (groups, left) = sums[..rows.len()].as_chunks_mut::<R>();
                    let left_row = rows.end - left.len();
                    for (group, sums) in groups.iter_mut().enumerate() {
                        let row = top + group * R;
                        // Behind the last group of a band its next pieces follow, and in the end other rows.
                        let (row_ahead, unit_ahead) = match row + GROUPS_AHEAD * R {
                            ahead if ahead < rows.end => (ahead, 0),
                            ahead if units.end < whole => (ahead - rows.len(), piece),
                            ahead => (ahead, 0usize.wrapping_sub(first)),
                        };
                        let ahead = all.row(row_ahead);
                        let ahead = ahead.wrapping_add(unit_ahead.wrapping_mul(U::BYTES));
                        let w = std::array::from_fn(|r| all.row(row + r));
                        let ahead = std::array::from_fn(|r| ahead.wrapping_add(r * row_bytes));
                        all.piece::<S, U, M, R>(sums, w, ahead, x, units.clone());
                    }
                    for (i, sums) in left.iter_mut().enumerate() {
                        let w = all.row(left_row + i);
                        let sums = std::array::from_mut(sums);
                        all.piece::<S, U, M, 1>(sums, [w], [w], x, units.clone());
                    }
                }
                for (sums, row) in sums.into_iter().zip(rows) {
                    self.finish::<S, U, M>(&all, sums, row, 0);
                }
            }
        }
    }

    /// Adds the products of what is left of a weight row behind whole units, and writes the sums with `M` rows of
    /// activations from `top` on.
    #[inline(always)]
    unsafe fn finish<S: Simd, U: Unit<S>, const M: usize>(
        &self,
        all: &Operands,
        mut sums: [S::V; M],
        row: usize,
        top: usize,
    ) {
        let &Job { n, m, k, bias, y, .. } = self.job;
        let rest = k % U::LEN;
        // SAFETY: a row is whole units and `rest` weights; the output has `M` rows of `n` columns, of which this
        // one is the task's own.
        unsafe {
            if rest > 0 {
                let w = all.row(row).add(all.whole * U::BYTES);
                let w = first_of(w, rest * (U::BYTES / U::LEN));
                let x = all.x.add(top * all.stride + all.whole * U::WORDS);
                U::add(&mut sums, w.as_ptr(), x, all.stride);
            }
            let column = self.first + row;
            let bias = bias.map_or(0.0, |bias| bias[column]);
            for (i, &sum) in sums.iter().take(m - top).enumerate() {
                *y.get().add((top + i) * n + column) = S::sum(sum) + bias;
            }
        }
    }
}

struct Widening<'a>(FewRows<'a>);

impl Kernel for Widening<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.0.part.weight_type() {
                WeightType::F32 => self.0.of::<S, Exact<F32>>(),
                WeightType::F16 => self.0.of::<S, Exact<F16>>(),
                WeightType::Bf16 => self.0.of::<S, Exact<Bf16>>(),
                WeightType::Q8_0 => self.0.of::<S, Exact<Q8_0>>(),
                WeightType::Q4K => self.0.of::<S, Exact<Q4K>>(),
                WeightType::Q6K => self.0.of::<S, Exact<Q6K>>(),
            }
        }
    }
}
