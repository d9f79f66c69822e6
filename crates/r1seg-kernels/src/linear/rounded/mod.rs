//! A few rows against blocks in integers: activations are rounded to 16 bits with a scale per block of
//! weights, an error of about `1e-5` of the result where 8 bits cost `1e-2`.
//!
//! Blocks of 256 weights have integers for scales, too, which are multiplied with their weights first: that is done
//! once for all rows of activations, and all products of a block add up in 32-bit integers.
//!
//! Weights lie four to a 16-bit word, or have their low bits so. They are cut out of it by shifts and masks alone,
//! those of even bytes apart from those of odd ones, and activations are ordered accordingly.
//!
//! Vectors of eight lanes have no time for that where there is one row of 4-bit blocks. Its activations are split into
//! bytes, which are multiplied with weights of a byte, twice as many at a time, and their scales come last. Sums of
//! integers are exact, so that the result is the same.
//!
//! # Bounds
//! A weight times its scale is at most `15 * 63` in 4-bit blocks, and `32 * 128` in 6-bit ones; an activation at most
//! [`LARGEST`]. So a sum of 32 products of the former fits into 32 bits, and one of 16 products of the latter just
//! does.

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;

use super::integers::{integers, sum};
use crate::isa::Isa;
use crate::simd::{self, Kernel, Simd};
use crate::weights::WeightType;

/// Weights of a block of 4 or 6 bits each.
const LEN: usize = 256;

/// Words of a block of 256 activations: the integers, the factors of the eight minima, eight times the scale.
const WORDS: usize = LEN / 2 + 8 + 8;

/// Where the factors of minima begin, and where the scales do.
const FACTORS: usize = LEN / 2;
const SCALES: usize = FACTORS + 8;

/// Words of a block of 32 activations: the integers, eight times the scale.
const SHORT_WORDS: usize = 32 / 2 + 8;

/// What activations are rounded to at most: as much as two bytes with signs hold.
const LARGEST: i16 = 127 * 256 + 127;

/// Whether a few rows of such weights are multiplied in integers. Where vectors are wide, widening bytes takes
/// no longer than reading them.
pub(super) fn takes(weight_type: WeightType, isa: Isa) -> bool {
    match weight_type {
        WeightType::Q4K | WeightType::Q6K => isa >= Isa::Avx2,
        WeightType::Q8_0 => matches!(isa, Isa::Avx2 | Isa::AvxVnni),
        _ => false,
    }
}

/// Words of a row of `k` activations.
pub(super) fn words(weight_type: WeightType, k: usize) -> usize {
    match weight_type {
        WeightType::Q8_0 => k / 32 * SHORT_WORDS,
        _ => k / LEN * WORDS,
    }
}

/// Whether activations lie in bytes for a row of such weights.
fn in_bytes(weight_type: WeightType, isa: Isa, m: usize) -> bool {
    m == 1 && weight_type == WeightType::Q4K && matches!(isa, Isa::Avx2 | Isa::AvxVnni)
}

/// Rounds `m` rows of whole blocks for an instruction set.
///
/// # Shapes
/// - `x`: `[m, k]`    - `rounded`: `[padded(m), words(k)]`
///
/// # Safety
/// The machine must have it.
pub(super) unsafe fn round(
    weight_type: WeightType,
    isa: Isa,
    m: usize,
    x: &[f32],
    rounded: &mut [f32],
) {
    let in_bytes = in_bytes(weight_type, isa, m);
    // SAFETY: the caller's promise, and the kernel has no pointers of its own.
    unsafe { simd::run(isa, Round { weight_type, in_bytes, x, rounded }) }
}

/// Plain Rust, which takes a tenth of the time where it is compiled for such an instruction set.
struct Round<'a> {
    weight_type: WeightType,
    in_bytes: bool,
    x: &'a [f32],
    rounded: &'a mut [f32],
}

impl Kernel for Round<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { weight_type, in_bytes, x, rounded } = self;
        match weight_type {
            _ if in_bytes => blocks::<LEN, WORDS>(x, rounded, split),
            WeightType::Q8_0 => blocks::<32, SHORT_WORDS>(x, rounded, as_they_are),
            WeightType::Q4K => blocks::<LEN, WORDS>(x, rounded, for_q4k),
            _ => blocks::<LEN, WORDS>(x, rounded, for_q6k),
        }
    }
}

/// Rounds blocks of `N` to `W` words each, with the integers in another order.
#[inline(always)]
fn blocks<const N: usize, const W: usize>(
    x: &[f32],
    rounded: &mut [f32],
    order: impl Fn(&[i16; N], &mut [i16; N]),
) {
    let (x, _) = x.as_chunks::<N>();
    // Rows beyond those of `x` are zeros.
    let (rounded, zeros) = rounded.split_at_mut(x.len() * W);
    zeros.fill(0.0);
    let (mut q, mut ordered) = ([0; N], [0; N]);
    for (x, block) in x.iter().zip(rounded.as_chunks_mut::<W>().0) {
        let scale = integers(x, LARGEST, &mut q);
        order(&q, &mut ordered);
        let (words, rest) = block.split_at_mut(N / 2);
        for (word, [low, high]) in words.iter_mut().zip(ordered.as_chunks::<2>().0) {
            *word = f32::from_bits(u32::from(*low as u16) | u32::from(*high as u16) << 16);
        }
        let (factors, scales) = rest.split_at_mut(rest.len() - 8);
        for (factor, q) in factors.iter_mut().zip(q.as_chunks::<32>().0) {
            *factor = -scale * sum(q) as f32;
        }
        scales.fill(scale);
    }
}

#[inline(always)]
fn as_they_are<const N: usize>(q: &[i16; N], ordered: &mut [i16; N]) {
    *ordered = *q;
}

/// Per half of a block what belongs to the low halves of even bytes, of odd ones, and to the high halves of both: low
/// halves of 32 bytes are 32 weights, high halves the next.
#[inline(always)]
fn for_q4k(q: &[i16; LEN], ordered: &mut [i16; LEN]) {
    for (i, q) in q.as_chunks::<32>().0.iter().enumerate() {
        let (half, bytes, high) = (i / 4, i / 2 % 2, i % 2);
        apart(q, &mut ordered[128 * half + 64 * high + 16 * bytes..]);
    }
}

/// The same where low halves of 64 bytes are 64 weights, high halves the next.
#[inline(always)]
fn for_q6k(q: &[i16; LEN], ordered: &mut [i16; LEN]) {
    for (q, ordered) in q.as_chunks::<64>().0.iter().zip(ordered.as_chunks_mut::<64>().0) {
        apart(q, ordered);
    }
}

/// Puts what is at even places from the first on, and what is at odd ones 32 behind.
#[inline(always)]
fn apart(q: &[i16], ordered: &mut [i16]) {
    for (n, [even, odd]) in q.as_chunks::<2>().0.iter().enumerate() {
        ordered[n] = *even;
        ordered[32 + n] = *odd;
    }
}

/// Of 32 integers at a time the high bytes, and what is left, in a byte with a sign, too.
#[inline(always)]
fn split(q: &[i16; LEN], ordered: &mut [i16; LEN]) {
    for (q, ordered) in q.as_chunks::<32>().0.iter().zip(ordered.as_chunks_mut::<32>().0) {
        let mut bytes = [0; 64];
        for (i, &q) in q.iter().enumerate() {
            let high = (q + 128) >> 8;
            bytes[i] = high as u8;
            bytes[32 + i] = (q - 256 * high) as u8;
        }
        for (pair, bytes) in ordered.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *pair = i16::from_le_bytes(*bytes);
        }
    }
}
