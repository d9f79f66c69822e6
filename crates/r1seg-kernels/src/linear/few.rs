//! A few rows: every weight is read once, in the order of the file.

use std::marker::PhantomData;

use super::Job;
use crate::buffer::LINE;
use crate::simd::{self, Kernel, Simd};
use crate::stored::{Bf16, F16, F32, MAX_VECTORS, Q4K, Q6K, Q8_0, Stored, first_of};
use crate::weights::{Matrix, WeightType};

/// Weight rows that are read side by side, far apart from each other: the processor fetches several
/// streams ahead of their use sooner than one.
const STREAMS: usize = 4;

/// How far ahead of their use weights are fetched, in bytes. Where a block takes long to multiply, the processor
/// itself does not look that far.
const AHEAD: usize = 2048;

const LINE_BYTES: usize = 4 * LINE;

/// Sums per weight row and row of activations, of which a [`Unit`] may use just the first.
pub(super) const CHAINS: usize = 2;

/// Rows of activations as the kernels have them: with one of zeros when there are three or five.
pub(super) fn padded(m: usize) -> usize {
    if m == 1 { 1 } else { m.next_multiple_of(2) }
}

/// Rows of activations, filled up with zeros to whole units.
///
/// # Shapes
/// - `x`: `[m, k]`    - `filled`: `[padded(m), words(k)]`
pub(super) fn fill_up(x: &[f32], k: usize, filled: &mut [f32]) {
    let mut rows = x.chunks_exact(k.max(1));
    for filled in filled.chunks_exact_mut(words(k).max(1)) {
        let (row, rest) = filled.split_at_mut(k);
        match rows.next() {
            Some(x) => row.copy_from_slice(x),
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

    /// Adds the products of the unit at `w` with `M` rows of `x`, `stride` words apart.
    ///
    /// # Safety
    /// As of [`Simd`]; there must be a unit at `w` and at each row of `x`.
    unsafe fn add<const M: usize>(
        sums: &mut [[S::V; CHAINS]; M],
        w: *const u8,
        x: *const f32,
        stride: usize,
    );
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
        sums: &mut [[S::V; CHAINS]; M],
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
                    for (i, sums) in sums.iter_mut().enumerate() {
                        // One sum, however many rows there are: a row gets what it gets alone.
                        sums[0] = S::fma(wide, S::load(x.add(i * stride)), sums[0]);
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
    pub(super) rows: std::ops::Range<usize>,
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
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
            unsafe fn with_avx512(task: FewRows<'_>) {
                // SAFETY: the caller's promise.
                unsafe {
                    match task.part.weight_type() {
                        WeightType::Q4K => task.of::<simd::Avx512, avx512::Q4K>(),
                        _ => task.of::<simd::Avx512, avx512::Q6K>(),
                    }
                }
            }
            #[target_feature(enable = "avxvnni,avx2,fma,f16c")]
            unsafe fn q4k_with_avx_vnni(task: FewRows<'_>) {
                // SAFETY: the caller's promise.
                unsafe { task.of::<simd::Avx2, avx2::Q4K<true>>() }
            }
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn with_avx2(task: FewRows<'_>) {
                // SAFETY: the caller's promise.
                unsafe {
                    match task.part.weight_type() {
                        WeightType::Q4K => task.of::<simd::Avx2, avx2::Q4K<false>>(),
                        WeightType::Q6K => task.of::<simd::Avx2, avx2::Q6K>(),
                        _ => task.of::<simd::Avx2, avx2::Q8_0>(),
                    }
                }
            }
            // SAFETY: activations are rounded with AVX2 or AVX-512 alone, and the machine has the job's.
            return unsafe {
                match (self.job.isa, self.part.weight_type()) {
                    (Isa::AvxVnni, WeightType::Q4K) => q4k_with_avx_vnni(self),
                    (Isa::Avx2 | Isa::AvxVnni, _) => with_avx2(self),
                    _ => with_avx512(self),
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
                1 => self.rows::<S, U, 1>(0),
                _ if !U::SHARED => {
                    for i in 0..self.job.m {
                        self.rows::<S, U, 1>(i);
                    }
                }
                2 => self.rows::<S, U, 2>(0),
                4 => self.rows::<S, U, 4>(0),
                6 => self.rows::<S, U, 6>(0),
                m => debug_assert!(m == 0, "{m} rows are not few"),
            }
        }
    }

    #[inline(always)]
    unsafe fn rows<S: Simd, U: Unit<S>, const M: usize>(&self, top: usize) {
        let height = self.rows.len() / STREAMS;
        let (start, end) = (self.rows.start, self.rows.end);
        // SAFETY: the caller's promise.
        unsafe {
            for row in start..start + height {
                self.streams::<S, U, M>(top, row, height);
            }
            // The few rows that are left over run as that many equal streams.
            for row in start + STREAMS * height..end {
                self.streams::<S, U, M>(top, row, 0);
            }
        }
    }

    /// Weight rows from `first` on, `height` apart, by rows of activations from `top` on.
    #[inline(always)]
    unsafe fn streams<S: Simd, U: Unit<S>, const M: usize>(
        &self,
        top: usize,
        first: usize,
        height: usize,
    ) {
        let &Job { n, m, k, bias, y, .. } = self.job;
        let (whole, rest, stride) = (k / U::LEN, k % U::LEN, self.x.len() / padded(m));
        let (x, row_bytes) = (&self.x[top * stride..], self.part.row_bytes());
        // SAFETY: a row is `whole` units and `rest` weights; `x` has `M` rows, and the output `M`
        // of `n`, of which these columns are the task's own.
        unsafe {
            let mut sums = [[[S::splat(0.0); CHAINS]; M]; STREAMS];
            let w = self.part.bytes().as_ptr().add(first * row_bytes);
            for unit in 0..whole {
                let x = x.as_ptr().add(unit * U::WORDS);
                for (r, sums) in sums.iter_mut().enumerate() {
                    let w = w.add(r * height * row_bytes + unit * U::BYTES);
                    for line in 0..U::BYTES.div_ceil(LINE_BYTES) {
                        S::prefetch_l1(w.wrapping_add(AHEAD + line * LINE_BYTES));
                    }
                    U::add(sums, w, x, stride);
                }
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                if rest > 0 {
                    let w = w.add(r * height * row_bytes + whole * U::BYTES);
                    let w = first_of(w, rest * (U::BYTES / U::LEN));
                    let x = x.as_ptr().add(whole * U::WORDS);
                    U::add(sums, w.as_ptr(), x, stride);
                }
                let column = self.first + first + r * height;
                let bias = bias.map_or(0.0, |bias| bias[column]);
                for (i, &[a, b]) in sums.iter().take(m - top).enumerate() {
                    *y.get().add((top + i) * n + column) = S::sum(S::add(a, b)) + bias;
                }
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
