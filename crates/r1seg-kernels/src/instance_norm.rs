//! The norm of each row on its own, and what follows it in the same pass over memory.

use std::ops::Range;

use rayon::prelude::*;

use crate::buffer::{SharedMut, written};
use crate::elementwise::{CHUNK, Gelu, rows};
use crate::isa::Isa;
use crate::norm::{Measure, Part, inverse, joined};
use crate::simd::{self, Kernel, Simd};

/// The norm of each row on its own, such as of the voxels of a channel: in f32 with sums in f64, on
/// rayon's current pool. Results do not depend on its size.
#[derive(Debug, Clone, Copy)]
pub struct InstanceNorm<'a> {
    /// What normalized numbers are multiplied by and what is then added, `[channels]` each. Row `i`
    /// is of channel `i % channels`.
    pub factors: Option<(&'a [f32], &'a [f32])>,
    /// Added to the variance.
    pub eps: f64,
}

/// What a norm does to the numbers of a row: `(x - mean) * scale + bias`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowNorm {
    /// Of the row.
    pub mean: f32,
    /// One over the standard deviation, times the weight.
    pub scale: f32,
    /// Of the channel.
    pub bias: f32,
}

impl RowNorm {
    #[inline(always)]
    pub(crate) fn apply(self, x: f32) -> f32 {
        (x - self.mean) * self.scale + self.bias
    }
}

/// What follows a norm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AfterNorm {
    /// Negative numbers times this slope: 0 is a ReLU, and 1 leaves all numbers as they are. NaN stays
    /// NaN.
    LeakyRelu(f32),
    /// [`gelu_erf`](crate::gelu_erf)
    Gelu,
}

impl InstanceNorm<'_> {
    /// # Shapes
    /// - `x`: `[rows, n]`    - returns: the same
    ///
    /// # Panics
    /// When `x` is not made of rows of `n` numbers, or the rows not of whole sets of channels.
    pub fn forward(&self, x: &[f32], n: usize) -> Vec<f32> {
        self.forward_then(x, n, None, AfterNorm::LeakyRelu(1.0))
    }

    /// What the norm does to each row.
    ///
    /// # Shapes
    /// - `x`: `[rows, n]`    - returns: `[rows]`
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub fn measure(&self, x: &[f32], n: usize) -> Vec<RowNorm> {
        let (isa, rows) = (Isa::detect(), rows(x, n));
        if let Some((weight, bias)) = self.factors {
            assert_eq!(weight.len(), bias.len(), "a weight and a bias for each channel");
            assert!(
                rows == 0 || !weight.is_empty() && rows.is_multiple_of(weight.len()),
                "{rows} rows of {} channels",
                weight.len()
            );
        }
        if x.is_empty() {
            return Vec::new();
        }
        let stretches = Stretches::new(n);
        let tasks = (0..rows * stretches.in_row).into_par_iter().with_min_len(stretches.least);
        let parts = tasks.map(|task| {
            let mut part = Part::default();
            // SAFETY: the machine has `isa`.
            unsafe { simd::run(isa, Measure { x: &x[stretches.of(task).1], part: &mut part }) };
            part
        });
        let parts: Vec<Part> = parts.collect();
        let of_row = parts.chunks_exact(stretches.in_row).enumerate().map(|(row, parts)| {
            let (mean, variance) = joined(parts, true);
            let (weight, bias) = self.factors.map_or((1.0, 0.0), |(weight, bias)| {
                (weight[row % weight.len()], bias[row % bias.len()])
            });
            RowNorm { mean, scale: inverse(variance, self.eps) * weight, bias }
        });
        of_row.collect()
    }

    /// What follows the norm of `x`, or the sum of that norm and `plus`.
    ///
    /// # Shapes
    /// - `x`, `plus`: `[rows, n]`    - returns: the same
    ///
    /// # Panics
    /// As [`forward`](Self::forward), and when `plus` has another length than `x`.
    pub fn forward_then(
        &self,
        x: &[f32],
        n: usize,
        plus: Option<&[f32]>,
        after: AfterNorm,
    ) -> Vec<f32> {
        assert!(plus.is_none_or(|plus| plus.len() == x.len()), "a summand of another length");
        let (isa, norms) = (Isa::detect(), self.measure(x, n));
        if x.is_empty() {
            return Vec::new();
        }
        let stretches = Stretches::new(n);
        let run = |y: SharedMut, task: usize| {
            let (row, range) = stretches.of(task);
            let (x, plus) = (&x[range.clone()], plus.map(|plus| &plus[range.clone()]));
            // SAFETY: the machine has `isa`; the stretches are disjoint and within the output.
            unsafe {
                let y = y.get().add(range.start);
                simd::run(isa, Shift { x, plus, norm: norms[row], after, y });
            }
        };
        // SAFETY: the stretches are the whole.
        unsafe {
            written(x.len(), |y| {
                let tasks = (0..norms.len() * stretches.in_row).into_par_iter();
                tasks.with_min_len(stretches.least).for_each(|task| run(y, task));
            })
        }
    }
}

/// Rows of `n` numbers in stretches of at most [`CHUNK`].
#[derive(Clone, Copy)]
struct Stretches {
    n: usize,
    /// Stretches of a row.
    in_row: usize,
    /// The fewest stretches of a task.
    least: usize,
}

impl Stretches {
    /// `n` must not be zero.
    fn new(n: usize) -> Self {
        Self { n, in_row: n.div_ceil(CHUNK), least: (CHUNK / n).max(1) }
    }

    /// The row of a stretch, and where it lies.
    fn of(self, stretch: usize) -> (usize, Range<usize>) {
        let (row, first) = (stretch / self.in_row, stretch % self.in_row * CHUNK);
        (row, row * self.n + first..row * self.n + (first + CHUNK).min(self.n))
    }
}

/// The norm of `x` plus `plus`, and what follows. `plus` and `y` reach as far as `x`.
struct Shift<'a> {
    x: &'a [f32],
    plus: Option<&'a [f32]>,
    norm: RowNorm,
    after: AfterNorm,
    y: *mut f32,
}

impl Kernel for Shift<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { x, plus, norm, after, y } = self;
        let slope = if let AfterNorm::LeakyRelu(slope) = after { slope } else { 1.0 };
        let leaky = |v: f32| if v < 0.0 { v * slope } else { v };
        // SAFETY: `y` reaches as far as `x`.
        unsafe {
            match plus {
                None => {
                    for (i, x) in x.iter().enumerate() {
                        *y.add(i) = leaky(norm.apply(*x));
                    }
                }
                Some(plus) => {
                    for (i, (x, plus)) in x.iter().zip(plus).enumerate() {
                        *y.add(i) = leaky(norm.apply(*x) + plus);
                    }
                }
            }
            if after == AfterNorm::Gelu {
                Gelu { x: y, y, len: x.len() }.run::<S>();
            }
        }
    }
}
