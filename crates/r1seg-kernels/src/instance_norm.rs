//! The norm of each row on its own, and what follows it in the same pass over memory.

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
        let isa = Isa::detect();
        let rows = rows(x, n);
        assert!(plus.is_none_or(|plus| plus.len() == x.len()), "a summand of another length");
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
        let chunks = n.div_ceil(CHUNK);
        let least = (CHUNK / n).max(1);
        let stretch = |task: usize| {
            let first = task % chunks * CHUNK;
            task / chunks * n + first..task / chunks * n + (first + CHUNK).min(n)
        };
        let parts = (0..rows * chunks).into_par_iter().with_min_len(least).map(|task| {
            let mut part = Part::default();
            // SAFETY: the machine has `isa`.
            unsafe { simd::run(isa, Measure { x: &x[stretch(task)], part: &mut part }) };
            part
        });
        let parts: Vec<Part> = parts.collect();
        let of_row = parts.chunks_exact(chunks).map(|parts| {
            let (mean, variance) = joined(parts, true);
            (mean, inverse(variance, self.eps))
        });
        let of_row: Vec<(f32, f32)> = of_row.collect();
        let run = |y: SharedMut, task: usize| {
            let (row, range) = (task / chunks, stretch(task));
            let (mean, inverse) = of_row[row];
            let (weight, bias) = self.factors.map_or((1.0, 0.0), |(weight, bias)| {
                (weight[row % weight.len()], bias[row % bias.len()])
            });
            let (x, plus) = (&x[range.clone()], plus.map(|plus| &plus[range.clone()]));
            // SAFETY: the machine has `isa`; the stretches are disjoint and within the output.
            unsafe {
                let y = y.get().add(range.start);
                let scale = inverse * weight;
                simd::run(isa, Shift { x, plus, mean, scale, bias, after, y });
            }
        };
        // SAFETY: the stretches are the whole.
        unsafe {
            written(x.len(), |y| {
                let tasks = (0..rows * chunks).into_par_iter().with_min_len(least);
                tasks.for_each(|task| run(y, task));
            })
        }
    }
}

/// `(x - mean) * scale + bias + plus`, and what follows. `plus` and `y` reach as far as `x`.
struct Shift<'a> {
    x: &'a [f32],
    plus: Option<&'a [f32]>,
    mean: f32,
    scale: f32,
    bias: f32,
    after: AfterNorm,
    y: *mut f32,
}

impl Kernel for Shift<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { x, plus, mean, scale, bias, after, y } = self;
        let slope = if let AfterNorm::LeakyRelu(slope) = after { slope } else { 1.0 };
        let leaky = |v: f32| if v < 0.0 { v * slope } else { v };
        // SAFETY: `y` reaches as far as `x`.
        unsafe {
            match plus {
                None => {
                    for (i, x) in x.iter().enumerate() {
                        *y.add(i) = leaky((x - mean) * scale + bias);
                    }
                }
                Some(plus) => {
                    for (i, (x, plus)) in x.iter().zip(plus).enumerate() {
                        *y.add(i) = leaky((x - mean) * scale + bias + plus);
                    }
                }
            }
            if after == AfterNorm::Gelu {
                Gelu { x: y, y, len: x.len() }.run::<S>();
            }
        }
    }
}
