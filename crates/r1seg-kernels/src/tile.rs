//! The register tile that every matrix product here is made of: `M` rows by one or two vectors.

use crate::buffer::LINE;
use crate::simd::Simd;

/// Columns of a packed panel.
pub(crate) const PANEL: usize = 32;

/// The most rows of a tile, which one vector wide every instruction set has the registers for.
pub(crate) const MAX_ROWS: usize = 12;

/// Where a tile's sums start.
#[derive(Clone, Copy)]
pub(crate) enum Start {
    Zero,
    /// The sums of an earlier stretch of the inner dimension, from the output.
    Output,
    /// A number per row.
    Rows(*const f32),
}

/// One step along the inner dimension, of one 32-bit word of either operand.
///
/// # Safety
/// As of [`Simd`]; `a` must be readable in each of its `M` rows, at any alignment, and `b` must be
/// `V` vectors wide.
pub(crate) trait Product<S: Simd> {
    unsafe fn step<const M: usize, const V: usize>(
        sums: &mut [[S::V; V]; M],
        a: *const f32,
        row: usize,
        b: *const f32,
    );
}

/// `sum + a * b` of every row by every vector. `a` and `b` are read here, and not through a closure,
/// which would not be compiled for the caller's instructions.
macro_rules! step {
    ($multiply_add:path) => {
        #[inline(always)]
        unsafe fn step<const M: usize, const V: usize>(
            sums: &mut [[S::V; V]; M],
            a: *const f32,
            row: usize,
            b: *const f32,
        ) {
            // SAFETY: the caller vouches for the instructions and for both pointers.
            unsafe {
                let mut vectors = [S::splat(0.0); V];
                for (v, vector) in vectors.iter_mut().enumerate() {
                    *vector = S::load(b.add(v * S::LANES));
                }
                for (i, sums) in sums.iter_mut().enumerate() {
                    let a = S::splat(a.add(i * row).read_unaligned());
                    for (sum, b) in sums.iter_mut().zip(vectors) {
                        *sum = $multiply_add(a, b, *sum);
                    }
                }
            }
        }
    };
}

/// f32 by f32.
pub(crate) struct F32;

impl<S: Simd> Product<S> for F32 {
    step!(S::fma);
}

/// Pairs of bf16 by pairs of bf16, in one instruction.
#[cfg(target_arch = "x86_64")]
pub(crate) struct DotBf16;

#[cfg(target_arch = "x86_64")]
impl<S: crate::simd::DotBf16> Product<S> for DotBf16 {
    step!(S::dot_bf16);
}

/// Distances in [`Tile::a`].
#[derive(Clone, Copy)]
pub(crate) struct Strides {
    pub(crate) row: usize,
    /// From one word of a [`LINE`] to the next.
    pub(crate) word: usize,
    /// From one line of a row to the next.
    pub(crate) line: usize,
}

impl Strides {
    /// Of rows that lie `row` words apart.
    pub(crate) fn rows(row: usize) -> Self {
        Self { row, word: 1, line: LINE }
    }

    /// Of rows that are the columns of a matrix of so many.
    pub(crate) fn columns(columns: usize) -> Self {
        Self { row: 1, word: columns, line: LINE * columns }
    }
}

/// The operands of a tile: some rows by up to [`PANEL`] outputs over `steps` of the inner dimension.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    pub(crate) a: *const f32,
    pub(crate) a_strides: Strides,
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
    /// As of [`Simd`]; `a`, `b` and `c` must reach over the tile (`b` over whole vectors, `c` over
    /// `columns`), and nothing else may access that part of `c`. [`Start::Rows`] must have `rows` numbers.
    #[inline(always)]
    pub(crate) unsafe fn run<S: Simd, P: Product<S>>(self, rows: usize, columns: usize) {
        if columns.is_multiple_of(S::LANES) {
            // SAFETY: the caller's promise.
            return unsafe { self.vectors::<S, P>(rows, columns) };
        }
        let mut local = [0f32; MAX_ROWS * PANEL];
        // SAFETY: `c` reaches over `columns` of each row; `local` holds `rows` whole rows.
        unsafe {
            if let Start::Output = self.start {
                for i in 0..rows {
                    let (from, to) =
                        (self.c.add(i * self.c_stride), local.as_mut_ptr().add(i * PANEL));
                    std::ptr::copy_nonoverlapping(from, to, columns);
                }
            }
            let tile = Self { c: local.as_mut_ptr(), c_stride: PANEL, ..self };
            tile.vectors::<S, P>(rows, columns.next_multiple_of(S::LANES));
            for i in 0..rows {
                let (from, to) = (local.as_ptr().add(i * PANEL), self.c.add(i * self.c_stride));
                std::ptr::copy_nonoverlapping(from, to, columns);
            }
        }
    }

    /// As [`run`](Self::run), of whole vectors.
    ///
    /// # Safety
    /// As of [`run`](Self::run).
    #[inline(always)]
    pub(crate) unsafe fn vectors<S: Simd, P: Product<S>>(self, rows: usize, columns: usize) {
        // The arms beyond `S::ROWS` vanish at compile time.
        // SAFETY: the caller's promise.
        unsafe {
            match rows {
                1 => self.fixed::<S, P, 1>(columns),
                2 => self.fixed::<S, P, 2>(columns),
                3 => self.fixed::<S, P, 3>(columns),
                4 => self.fixed::<S, P, 4>(columns),
                5 if S::ROWS > 4 => self.fixed::<S, P, 5>(columns),
                6 if S::ROWS > 4 => self.fixed::<S, P, 6>(columns),
                7 if S::ROWS > 6 => self.fixed::<S, P, 7>(columns),
                8 if S::ROWS > 6 => self.fixed::<S, P, 8>(columns),
                9 if S::ROWS > 6 => self.fixed::<S, P, 9>(columns),
                10 if S::ROWS > 6 => self.fixed::<S, P, 10>(columns),
                11 if S::ROWS > 6 => self.fixed::<S, P, 11>(columns),
                12 if S::ROWS > 6 => self.fixed::<S, P, 12>(columns),
                _ => debug_assert!(rows == 0, "a tile of {rows} rows"),
            }
        }
    }

    /// Computes `rows` (at most [`MAX_ROWS`]) by one vector of outputs.
    ///
    /// # Safety
    /// As of [`run`](Self::run).
    #[inline(always)]
    pub(crate) unsafe fn narrow<S: Simd, P: Product<S>>(self, rows: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            match rows {
                MAX_ROWS => self.at::<S, P, MAX_ROWS, 1>(0),
                _ => {
                    for i in 0..rows {
                        let a = self.a.add(i * self.a_strides.row);
                        let c = self.c.add(i * self.c_stride);
                        Self { a, c, ..self }.at::<S, P, 1, 1>(0);
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn fixed<S: Simd, P: Product<S>, const M: usize>(self, columns: usize) {
        let mut first = 0;
        // SAFETY: the caller's pointers reach over the columns, of which these are parts.
        unsafe {
            while first + S::LANES < columns {
                self.at::<S, P, M, 2>(first);
                first += 2 * S::LANES;
            }
            if first < columns {
                self.at::<S, P, M, 1>(first);
            }
        }
    }

    /// `M` rows by `V` vectors from column `first` on.
    #[inline(always)]
    unsafe fn at<S: Simd, P: Product<S>, const M: usize, const V: usize>(self, first: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let c = self.c.add(first);
            let mut sums = [[S::splat(0.0); V]; M];
            match self.start {
                Start::Zero => {}
                Start::Output => {
                    for (i, sums) in sums.iter_mut().enumerate() {
                        for (v, sum) in sums.iter_mut().enumerate() {
                            *sum = S::load(c.add(i * self.c_stride + v * S::LANES));
                        }
                    }
                }
                Start::Rows(numbers) => {
                    for (i, sums) in sums.iter_mut().enumerate() {
                        *sums = [S::splat(*numbers.add(i)); V];
                    }
                }
            }
            let Strides { row, word, line } = self.a_strides;
            let mut b = self.b.add(first);
            for at in 0..self.steps.div_ceil(LINE) {
                let mut a = self.a.add(at * line);
                for _ in 0..LINE.min(self.steps - at * LINE) {
                    P::step::<M, V>(&mut sums, a, row, b);
                    // Past the last step these may leave the operands, and are not read.
                    a = a.wrapping_add(word);
                    b = b.wrapping_add(self.b_stride);
                }
            }
            for (i, sums) in sums.iter().enumerate() {
                for (v, &sum) in sums.iter().enumerate() {
                    S::store(c.add(i * self.c_stride + v * S::LANES), sum);
                }
            }
        }
    }
}
