//! Norms of rows with weights for each number: of a layer's width, or of millions of numbers.

use std::ops::Range;

use rayon::prelude::*;

use crate::buffer::{SharedMut, with_scratch, written};
use crate::elementwise::{CHUNK, Gelu, in_chunks, rows};
use crate::isa::Isa;
use crate::simd::{self, Kernel, Simd};

/// A norm of rows of `n` numbers, in f32 with sums in f64, on rayon's current pool. Results do not
/// depend on its size.
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a> {
    /// What normalized numbers are multiplied by, `[n]`.
    pub weight: &'a [f32],
    /// `[n]`. With one it is a layer norm; without it a root-mean-square norm, which subtracts no
    /// mean.
    pub bias: Option<&'a [f32]>,
    /// Added to the variance.
    pub eps: f64,
}

impl Norm<'_> {
    /// # Shapes
    /// - `x`: `[rows, n]`    - returns: the same
    ///
    /// # Panics
    /// When a slice has another length.
    pub fn forward(&self, x: &[f32]) -> Vec<f32> {
        self.rows_of(x, None, false)
    }

    /// The norm of `x + y`.
    ///
    /// # Shapes
    /// - `x`, `y`: `[rows, n]`    - returns: the same
    ///
    /// # Panics
    /// When a slice has another length.
    pub fn forward_sum(&self, x: &[f32], y: &[f32]) -> Vec<f32> {
        assert_eq!(x.len(), y.len(), "the norm of a sum");
        self.rows_of(x, Some(y), false)
    }

    /// [`gelu_erf`](crate::gelu_erf) of the norm.
    ///
    /// # Shapes
    /// - `x`: `[rows, n]`    - returns: the same
    ///
    /// # Panics
    /// When a slice has another length.
    pub fn forward_gelu(&self, x: &[f32]) -> Vec<f32> {
        self.rows_of(x, None, true)
    }

    fn rows_of(&self, x: &[f32], plus: Option<&[f32]>, gelu: bool) -> Vec<f32> {
        let (isa, n) = (Isa::detect(), self.weight.len());
        assert!(self.bias.is_none_or(|bias| bias.len() == n), "a bias of [{n}]");
        let rows = rows(x, n);
        let one = |y: SharedMut, row: usize| {
            let x = &x[row * n..][..n];
            let plus = plus.map(|plus| &plus[row * n..][..n]);
            with_scratch(if plus.is_some() { n } else { 0 }, |scratch| {
                // SAFETY: the machine has `isa`; the rows are disjoint and within the output.
                unsafe {
                    let y = y.get().add(row * n);
                    simd::run(isa, Row { norm: self, x, plus, scratch, gelu, y });
                }
            });
        };
        let each = (CHUNK / n.max(1)).max(1);
        let write = |y: SharedMut| {
            if n <= CHUNK || plus.is_some() {
                in_chunks(rows, each, |range| range.for_each(|row| one(y, row)));
            } else {
                (0..rows).for_each(|row| self.long_row(isa, &x[row * n..][..n], gelu, y, row * n));
            }
        };
        // SAFETY: every row is written.
        unsafe { written(x.len(), write) }
    }

    /// A row that several tasks share. `y` reaches as far as `x` from `at`.
    fn long_row(&self, isa: Isa, x: &[f32], gelu: bool, y: SharedMut, at: usize) {
        let parts = x.par_chunks(CHUNK).map(|x| {
            let mut part = Part::default();
            // SAFETY: the machine has `isa`.
            unsafe { simd::run(isa, Measure { x, part: &mut part }) };
            part
        });
        let parts: Vec<Part> = parts.collect();
        let (mean, variance) = joined(&parts, self.bias.is_some());
        let inverse = inverse(variance, self.eps);
        in_chunks(x.len(), CHUNK, |range: Range<usize>| {
            let (start, part) = (
                range.start,
                Norm {
                    weight: &self.weight[range.clone()],
                    bias: self.bias.map(|bias| &bias[range.clone()]),
                    eps: self.eps,
                },
            );
            let x = &x[range];
            // SAFETY: the machine has `isa`; the stretches are disjoint and within the output.
            unsafe {
                let y = y.get().add(at + start);
                simd::run(isa, Apply { norm: &part, x, mean, inverse, gelu, y });
            }
        });
    }
}

pub(crate) fn inverse(variance: f64, eps: f64) -> f32 {
    (1.0 / (variance + eps).sqrt()) as f32
}

/// Mean and variance of a row of several parts; without `centered` the mean counts as zero.
pub(crate) fn joined(parts: &[Part], centered: bool) -> (f32, f64) {
    // Summed in order, whichever came first.
    let n = parts.iter().map(|part| part.n).sum::<f64>();
    let center =
        if centered { parts.iter().map(|part| part.n * part.mean).sum::<f64>() / n } else { 0.0 };
    let squares = parts.iter().map(|part| {
        let (near, far) = (part.mean - f64::from(part.about), part.mean - center);
        part.squares + part.n * (far * far - near * near)
    });
    (center as f32, squares.sum::<f64>() / n)
}

/// Sum in f32 lanes, carried over into f64 every few thousand elements.
#[inline(always)]
fn sum(row: &[f32], f: impl Fn(f32) -> f32) -> f64 {
    const LANES: usize = 16;
    row.chunks(4096)
        .map(|block| {
            let mut lanes = [0f32; LANES];
            let mut chunks = block.chunks_exact(LANES);
            for chunk in &mut chunks {
                for (lane, &x) in lanes.iter_mut().zip(chunk) {
                    *lane += f(x);
                }
            }
            let tail: f32 = chunks.remainder().iter().map(|&x| f(x)).sum();
            f64::from(lanes.iter().sum::<f32>() + tail)
        })
        .sum()
}

/// Sums of the differences to any one element keep the digits that a large mean would take.
#[inline(always)]
fn mean(x: &[f32]) -> f64 {
    let first = x.first().copied().unwrap_or(0.0);
    f64::from(first) + sum(x, |x| x - first) / x.len() as f64
}

/// One row on one thread. `scratch` holds a row if there is a summand; `y` reaches as far as `x`.
struct Row<'a> {
    norm: &'a Norm<'a>,
    x: &'a [f32],
    plus: Option<&'a [f32]>,
    scratch: &'a mut [f32],
    gelu: bool,
    y: *mut f32,
}

impl Kernel for Row<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { norm, x, plus, scratch, gelu, y } = self;
        let x = match plus {
            Some(plus) => {
                for ((to, x), plus) in scratch.iter_mut().zip(x).zip(plus) {
                    *to = x + plus;
                }
                &*scratch
            }
            None => x,
        };
        let mean = if norm.bias.is_some() { mean(x) as f32 } else { 0.0 };
        let variance = sum(x, |x| (x - mean) * (x - mean)) / x.len() as f64;
        let inverse = inverse(variance, norm.eps);
        // SAFETY: the caller's promise.
        unsafe { Apply { norm, x, mean, inverse, gelu, y }.run::<S>() }
    }
}

/// What a stretch adds to the mean and the variance of a row.
#[derive(Default)]
pub(crate) struct Part {
    n: f64,
    mean: f64,
    /// The sum of squared differences to `about`, which is the rounded mean.
    squares: f64,
    about: f32,
}

pub(crate) struct Measure<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) part: &'a mut Part,
}

impl Kernel for Measure<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let mean = mean(self.x);
        let about = mean as f32;
        let squares = sum(self.x, |x| (x - about) * (x - about));
        *self.part = Part { n: self.x.len() as f64, mean, squares, about };
    }
}

/// `y` reaches as far as `x`, and so do the weights.
struct Apply<'a> {
    norm: &'a Norm<'a>,
    x: &'a [f32],
    mean: f32,
    inverse: f32,
    gelu: bool,
    y: *mut f32,
}

impl Kernel for Apply<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { norm, x, mean, inverse, gelu, y } = self;
        let weighted = x.iter().zip(norm.weight).enumerate();
        // SAFETY: `y` reaches as far as `x`.
        unsafe {
            match norm.bias {
                Some(bias) => {
                    for ((i, (x, w)), b) in weighted.zip(bias) {
                        *y.add(i) = (x - mean) * inverse * w + b;
                    }
                }
                None => {
                    for (i, (x, w)) in weighted {
                        *y.add(i) = x * inverse * w;
                    }
                }
            }
            if gelu {
                Gelu { x: y, y, len: x.len() }.run::<S>();
            }
        }
    }
}
