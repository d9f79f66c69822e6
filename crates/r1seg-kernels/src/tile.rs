//! The register tile that every matrix product here is made of: `M` rows by two vectors.

use crate::simd::Simd;

/// Columns of a packed panel.
pub(crate) const PANEL: usize = 32;

/// Where a tile's sums start.
#[derive(Clone, Copy)]
pub(crate) enum Start {
    Zero,
    /// [`PANEL`] numbers, the same for every row.
    Bias(*const f32),
    /// The sums of an earlier stretch of the inner dimension, from the output.
    Output,
}

/// One step along the inner dimension.
///
/// # Safety
/// As of [`Simd`]; `a` and `b` must be readable over the step, `b` two vectors wide.
pub(crate) trait Product<S: Simd> {
    /// Elements of the inner dimension that `a` holds per step.
    const A_STEP: usize;

    unsafe fn step<const M: usize>(
        sums: &mut [[S::V; 2]; M],
        a: *const f32,
        strides: (usize, usize),
        b: *const f32,
    );
}

/// f32 by f32.
pub(crate) struct F32;

impl<S: Simd> Product<S> for F32 {
    const A_STEP: usize = 1;

    #[inline(always)]
    unsafe fn step<const M: usize>(
        sums: &mut [[S::V; 2]; M],
        a: *const f32,
        (row, _): (usize, usize),
        b: *const f32,
    ) {
        // SAFETY: the caller vouches for the instructions and for both pointers.
        unsafe {
            let (b0, b1) = (S::load(b), S::load(b.add(S::LANES)));
            for (i, [s0, s1]) in sums.iter_mut().enumerate() {
                let a = S::splat(*a.add(i * row));
                *s0 = S::fma(a, b0, *s0);
                *s1 = S::fma(a, b1, *s1);
            }
        }
    }
}

/// f32 by pairs of bf16, which are widened exactly in registers.
pub(crate) struct WidenBf16;

impl<S: Simd> Product<S> for WidenBf16 {
    const A_STEP: usize = 2;

    #[inline(always)]
    unsafe fn step<const M: usize>(
        sums: &mut [[S::V; 2]; M],
        a: *const f32,
        (row, next): (usize, usize),
        b: *const f32,
    ) {
        // SAFETY: the caller vouches for the instructions and for both pointers.
        unsafe {
            let (b0, b1) = (S::low_bf16(b), S::low_bf16(b.add(S::LANES)));
            for (i, [s0, s1]) in sums.iter_mut().enumerate() {
                let a = S::splat(*a.add(i * row));
                *s0 = S::fma(a, b0, *s0);
                *s1 = S::fma(a, b1, *s1);
            }
            let (b0, b1) = (S::high_bf16(b), S::high_bf16(b.add(S::LANES)));
            for (i, [s0, s1]) in sums.iter_mut().enumerate() {
                let a = S::splat(*a.add(i * row + next));
                *s0 = S::fma(a, b0, *s0);
                *s1 = S::fma(a, b1, *s1);
            }
        }
    }
}

/// Pairs of bf16 by pairs of bf16, in one instruction.
#[cfg(target_arch = "x86_64")]
pub(crate) struct DotBf16;

#[cfg(target_arch = "x86_64")]
impl Product<crate::simd::Avx512> for DotBf16 {
    const A_STEP: usize = 1;

    #[inline(always)]
    unsafe fn step<const M: usize>(
        sums: &mut [[std::arch::x86_64::__m512; 2]; M],
        a: *const f32,
        (row, _): (usize, usize),
        b: *const f32,
    ) {
        use crate::simd::{Avx512, dot_bf16};
        // SAFETY: the caller vouches for the instructions and for both pointers.
        unsafe {
            let (b0, b1) = (Avx512::load(b), Avx512::load(b.add(Avx512::LANES)));
            for (i, [s0, s1]) in sums.iter_mut().enumerate() {
                let a = Avx512::splat(*a.add(i * row));
                *s0 = dot_bf16(*s0, a, b0);
                *s1 = dot_bf16(*s1, a, b1);
            }
        }
    }
}

/// The operands of a tile: `rows` by [`PANEL`] outputs over `steps` of the inner dimension.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    pub(crate) a: *const f32,
    /// Distance in `a` from row to row, and from one inner element to the next.
    pub(crate) a_strides: (usize, usize),
    pub(crate) b: *const f32,
    /// Distance in `b` from step to step.
    pub(crate) b_stride: usize,
    pub(crate) steps: usize,
    pub(crate) c: *mut f32,
    pub(crate) c_stride: usize,
    pub(crate) start: Start,
}

impl Tile {
    /// Computes `rows` (at most `S::ROWS`) by `columns` (at most [`PANEL`]) outputs.
    ///
    /// # Safety
    /// As of [`Simd`]; `a`, `b` and `c` must reach over the tile (`b` over a whole panel,
    /// `c` over `columns`), and nothing else may access that part of `c`.
    #[inline(always)]
    pub(crate) unsafe fn run<S: Simd, P: Product<S>>(self, rows: usize, columns: usize) {
        if columns >= PANEL {
            // SAFETY: the caller's promise.
            return unsafe { self.full::<S, P>(rows) };
        }
        let mut local = [0f32; 12 * PANEL];
        // SAFETY: `c` reaches over `columns` of each row; `local` holds `rows` whole rows.
        unsafe {
            if let Start::Output = self.start {
                for i in 0..rows {
                    let (from, to) =
                        (self.c.add(i * self.c_stride), local.as_mut_ptr().add(i * PANEL));
                    std::ptr::copy_nonoverlapping(from, to, columns);
                }
            }
            Self { c: local.as_mut_ptr(), c_stride: PANEL, ..self }.full::<S, P>(rows);
            for i in 0..rows {
                let (from, to) = (local.as_ptr().add(i * PANEL), self.c.add(i * self.c_stride));
                std::ptr::copy_nonoverlapping(from, to, columns);
            }
        }
    }

    #[inline(always)]
    unsafe fn full<S: Simd, P: Product<S>>(self, rows: usize) {
        // The arms beyond `S::ROWS` vanish at compile time.
        // SAFETY: the caller's promise.
        unsafe {
            match rows {
                1 => self.fixed::<S, P, 1>(),
                2 => self.fixed::<S, P, 2>(),
                3 => self.fixed::<S, P, 3>(),
                4 => self.fixed::<S, P, 4>(),
                5 if S::ROWS > 4 => self.fixed::<S, P, 5>(),
                6 if S::ROWS > 4 => self.fixed::<S, P, 6>(),
                7 if S::ROWS > 6 => self.fixed::<S, P, 7>(),
                8 if S::ROWS > 6 => self.fixed::<S, P, 8>(),
                9 if S::ROWS > 6 => self.fixed::<S, P, 9>(),
                10 if S::ROWS > 6 => self.fixed::<S, P, 10>(),
                11 if S::ROWS > 6 => self.fixed::<S, P, 11>(),
                12 if S::ROWS > 6 => self.fixed::<S, P, 12>(),
                _ => debug_assert!(rows == 0, "a tile of {rows} rows"),
            }
        }
    }

    #[inline(always)]
    unsafe fn fixed<S: Simd, P: Product<S>, const M: usize>(self) {
        let mut first = 0;
        while first < PANEL {
            // SAFETY: the caller's pointers reach over the panel, of which this is a part.
            unsafe {
                let c = self.c.add(first);
                let mut sums = [[S::splat(0.0); 2]; M];
                match self.start {
                    Start::Zero => {}
                    Start::Bias(bias) => {
                        let bias = bias.add(first);
                        sums = [[S::load(bias), S::load(bias.add(S::LANES))]; M];
                    }
                    Start::Output => {
                        for (i, sums) in sums.iter_mut().enumerate() {
                            let c = c.add(i * self.c_stride);
                            *sums = [S::load(c), S::load(c.add(S::LANES))];
                        }
                    }
                }
                let (mut a, mut b) = (self.a, self.b.add(first));
                for _ in 0..self.steps {
                    P::step::<M>(&mut sums, a, self.a_strides, b);
                    // Past the last step these may leave the operands, and are not read.
                    a = a.wrapping_add(P::A_STEP * self.a_strides.1);
                    b = b.wrapping_add(self.b_stride);
                }
                for (i, &[s0, s1]) in sums.iter().enumerate() {
                    let c = c.add(i * self.c_stride);
                    S::store(c, s0);
                    S::store(c.add(S::LANES), s1);
                }
            }
            first += 2 * S::LANES;
        }
    }
}
