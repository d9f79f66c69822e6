//! A case of a product: its operands, and what each instruction set makes of them before it multiplies.

use half::{bf16, f16};

use crate::linear::{FEW_ROWS, forward_on};
use crate::tests::Random;
use crate::{Isa, Matrix, WeightType, reference};

/// Over the sum of the products' magnitudes: a dozen roundings of 2^-24 that all point one way. Plain
/// Rust rounds twice per product.
const TOLERANCE: f64 = 8e-7;

/// Weights that start at odd addresses, of an allocation that ends with them.
pub(super) struct Weights {
    weight_type: WeightType,
    pub(super) n: usize,
    k: usize,
    pub(super) shifted: Box<[u8]>,
}

impl Weights {
    /// Any bytes are numbers of any type, but for scales that are far too large.
    pub(super) fn new(random: &mut Random, weight_type: WeightType, n: usize, k: usize) -> Self {
        let mut bytes = vec![0u8];
        let scale = |random: &mut Random| f16::from_f32(random.normal() / 64.0).to_le_bytes();
        for _ in 0..n * k / weight_type.block_len() {
            let mut block = random.bytes(weight_type.block_bytes());
            match weight_type {
                WeightType::F32 => block.copy_from_slice(&random.normal().to_le_bytes()),
                WeightType::F16 => {
                    block.copy_from_slice(&f16::from_f32(random.normal()).to_le_bytes());
                }
                WeightType::Bf16 => {
                    block.copy_from_slice(&bf16::from_f32(random.normal()).to_le_bytes());
                }
                WeightType::Q8_0 => block[..2].copy_from_slice(&scale(random)),
                WeightType::Q4K => {
                    block[..2].copy_from_slice(&scale(random));
                    block[2..4].copy_from_slice(&scale(random));
                }
                WeightType::Q6K => block[208..].copy_from_slice(&scale(random)),
            }
            bytes.extend(block);
        }
        Self { weight_type, n, k, shifted: bytes.into_boxed_slice() }
    }

    pub(super) fn matrix(&self) -> Matrix<'_> {
        Matrix::new(&self.shifted[1..], self.weight_type, self.n, self.k).unwrap()
    }

    pub(super) fn wide(&self) -> Vec<f64> {
        reference::widen(&self.shifted[1..], self.weight_type)
    }

    /// What the products of `m` rows multiply with.
    fn seen(&self, isa: Isa, m: usize, exact: bool) -> Vec<f64> {
        if rounds_to_14_bits(isa, self.weight_type, (m, self.k), exact) {
            return self.wide().chunks(32).flat_map(weights_of_14_bits).collect();
        }
        let round = rounds(isa, self.weight_type, m, exact);
        self.wide().into_iter().map(|w| if round { rounded(w) } else { w }).collect()
    }
}

fn rounded(x: f64) -> f64 {
    bf16::from_f32(x as f32).to_f64()
}

/// What a block of activations is rounded to where they are multiplied as integers up to a limit.
fn rounded_to(limit: f32, x: &[f64]) -> impl Iterator<Item = f64> {
    let scale = x.iter().fold(0f64, |largest, x| largest.max(x.abs())) as f32 / limit;
    let round = move |x: &f64| (*x as f32 * scale.recip()).round_ties_even() * scale;
    x.iter().map(round).map(f64::from)
}

/// What 32 weights are rounded to where they are multiplied as integers of 14 bits.
fn weights_of_14_bits(weights: &[f64]) -> impl Iterator<Item = f64> {
    let largest = weights.iter().fold(0f64, |largest, w| largest.max(w.abs()));
    let unit = (largest.log2().floor() - 12.0).exp2();
    weights.iter().map(move |w| (w / unit).round_ties_even() * unit)
}

pub(super) fn rounds(isa: Isa, weight_type: WeightType, m: usize, exact: bool) -> bool {
    let rounded = match isa {
        Isa::AmxBf16 => !matches!(weight_type, WeightType::F32 | WeightType::F16),
        Isa::Avx512Bf16 => matches!(weight_type, WeightType::Bf16 | WeightType::Q6K),
        _ => false,
    };
    m > FEW_ROWS && !exact && rounded
}

fn rounds_to_8_bits(isa: Isa, weight_type: WeightType, m: usize, exact: bool) -> bool {
    let bytes = match isa {
        Isa::AvxVnni | Isa::Avx512Vnni | Isa::Avx512Bf16 => {
            matches!(weight_type, WeightType::Q8_0 | WeightType::Q4K)
        }
        Isa::Avx2 => weight_type == WeightType::Q4K,
        _ => false,
    };
    !exact && bytes && m > FEW_ROWS
}

pub(super) fn rounds_to_14_bits(
    isa: Isa,
    weight_type: WeightType,
    (m, k): (usize, usize),
    exact: bool,
) -> bool {
    let halves = matches!(isa, Isa::Avx2 | Isa::AvxVnni | Isa::Avx512Vnni);
    let whole = weight_type == WeightType::Bf16 && k.is_multiple_of(32);
    !exact && halves && whole && m > FEW_ROWS
}

/// The activations that share a scale where they are rounded to 16 bits.
fn rounds_to_16_bits(isa: Isa, weight_type: WeightType, m: usize, exact: bool) -> Option<usize> {
    let block = match (weight_type, isa) {
        (WeightType::Q4K | WeightType::Q6K, _) if isa >= Isa::Avx2 && m <= FEW_ROWS => 256,
        (WeightType::Q8_0, Isa::Avx2) => 32,
        (WeightType::Q8_0, Isa::AvxVnni) if m <= FEW_ROWS => 32,
        _ => return None,
    };
    (!exact).then_some(block)
}

pub(super) struct Case {
    pub(super) x: Vec<f32>,
    pub(super) bias: Vec<f32>,
    m: usize,
    k: usize,
    n: usize,
}

impl Case {
    pub(super) fn new(random: &mut Random, (m, k, n): (usize, usize, usize)) -> Self {
        Self { x: random.normals(m * k), bias: random.normals(n), m, k, n }
    }

    /// The largest error over the sum of the products' magnitudes, of columns `first..`.
    fn error(&self, y: &[f32], x: &[f64], weights: &[f64], first: usize, biased: bool) -> f64 {
        let n = weights.len() / self.k;
        let bias = biased.then_some(&self.bias[first..first + n]);
        let (exact, size) = reference::linear(x, weights, bias, (self.m, self.k, n));
        let mut worst = 0f64;
        for (i, (e, size)) in exact.iter().zip(size).enumerate() {
            let y = f64::from(y[i / n * self.n + first + i % n]);
            let error = (y - e).abs() / (size + 1e-30);
            // A NaN must not pass for a small error.
            if error.is_nan() || error > worst {
                worst = error;
            }
        }
        worst
    }

    pub(super) fn check(&self, isa: Isa, parts: &[Weights]) {
        let &Self { m, k, n, .. } = self;
        for (exact, biased) in [(false, true), (true, false)] {
            let bias = biased.then_some(self.bias.as_slice());
            // What was there before must not matter.
            let mut y = vec![f32::NAN; m * n];
            let matrices: Vec<Matrix<'_>> = parts.iter().map(Weights::matrix).collect();
            forward_on(isa, exact, &matrices, &self.x, m, bias, &mut y);
            let mut first = 0;
            for part in parts {
                let kind = part.weight_type;
                let fixed = rounds_to_14_bits(isa, kind, (m, k), exact);
                let given: Vec<f64> = self.x.iter().map(|&x| f64::from(x)).collect();
                let x: Vec<f64> = if rounds(isa, kind, m, exact) {
                    given.iter().copied().map(rounded).collect()
                } else if rounds_to_8_bits(isa, kind, m, exact) {
                    given.chunks(32).flat_map(|x| rounded_to(127.0, x)).collect()
                } else if fixed {
                    given.chunks(32).flat_map(|x| rounded_to(8191.0, x)).collect()
                } else if let Some(block) = rounds_to_16_bits(isa, kind, m, exact) {
                    // A row of few is split into bytes.
                    let limit = if m <= FEW_ROWS { 32639.0 } else { 32767.0 };
                    given.chunks(block).flat_map(|x| rounded_to(limit, x)).collect()
                } else {
                    given.clone()
                };
                let weights = part.seen(isa, m, exact);
                let error = self.error(&y, &x, &weights, first, biased);
                let label = format!("{isa:?} {kind:?} exact={exact} {m}x{k}x{n}");
                assert!(error < TOLERANCE, "{label}: {error:e}");
                // Half of 1 in 32767 or 8191 of a block's largest activation, some four times as large as the
                // others, and some of it cancels.
                let allowed = if m <= FEW_ROWS { Some(3e-5) } else { fixed.then_some(2e-4) };
                if let Some(allowed) = allowed {
                    let error = self.error(&y, &given, &part.wide(), first, biased);
                    assert!(error < allowed, "{label}, as given: {error:e}");
                }
                first += part.n;
            }
        }
    }
}
