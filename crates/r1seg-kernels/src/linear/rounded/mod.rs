//! A few rows against blocks in integers: activations are rounded to 16 bits with a scale per block of
//! weights, an error of about `1e-5` of the result where 8 bits cost `1e-2`.
//!
//! Blocks of 256 weights have integers for scales, too, which are multiplied with their weights first: that is done
//! once for all rows of activations, and all products of a block add up in 32-bit integers.
//!
//! Weights lie four to a 16-bit word, or have their low bits so. They are cut out of it by shifts and masks alone,
//! those of even bytes apart from those of odd ones, and activations are ordered accordingly.
//!
//! # Bounds
//! A weight times its scale is at most `15 * 63` in 4-bit blocks, and `32 * 128` in 6-bit ones; an activation at most
//! `32767`. So a sum of 32 products of the former fits into 32 bits, and one of 16 products of the latter just does.

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;

use crate::isa::Isa;
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

/// Rounds rows of whole blocks.
///
/// # Shapes
/// - `x`: `[m, k]`    - `rounded`: `[padded(m), words(k)]`
pub(super) fn round(weight_type: WeightType, x: &[f32], rounded: &mut [f32]) {
    match weight_type {
        WeightType::Q8_0 => blocks::<32, SHORT_WORDS>(x, rounded, |q| *q),
        WeightType::Q4K => blocks::<LEN, WORDS>(x, rounded, |q| {
            // Low halves of 32 bytes are 32 weights, high halves the next.
            reordered(q, |half, high, byte| 128 * half + byte / 32 * 64 + 32 * high + byte % 32)
        }),
        _ => blocks::<LEN, WORDS>(x, rounded, |q| {
            reordered(q, |half, high, byte| 128 * half + 64 * high + byte)
        }),
    }
}

/// Rounds blocks of `N` to `W` words each, with the integers in another order.
fn blocks<const N: usize, const W: usize>(
    x: &[f32],
    rounded: &mut [f32],
    order: impl Fn(&[i16; N]) -> [i16; N],
) {
    let (x, _) = x.as_chunks::<N>();
    // Rows beyond those of `x` are zeros.
    let (rounded, zeros) = rounded.split_at_mut(x.len() * W);
    zeros.fill(0.0);
    for (x, block) in x.iter().zip(rounded.as_chunks_mut::<W>().0) {
        let (q, scale) = rounded_block(x);
        let (integers, rest) = block.split_at_mut(N / 2);
        for (word, pair) in integers.iter_mut().zip(order(&q).as_chunks::<2>().0) {
            let [low, high] = pair.map(|q| u32::from(q as u16));
            *word = f32::from_bits(low | high << 16);
        }
        let (factors, scales) = rest.split_at_mut(rest.len() - 8);
        for (factor, q) in factors.iter_mut().zip(q.chunks_exact(32)) {
            *factor = -scale * q.iter().map(|&q| i32::from(q)).sum::<i32>() as f32;
        }
        scales.fill(scale);
    }
}

/// Per half of a block what belongs to the low halves of even bytes, of odd ones, and to the high halves of both.
/// `place` has the weight of a byte of a half, given whether it is in the high half of the byte.
fn reordered(q: &[i16; LEN], place: impl Fn(usize, usize, usize) -> usize) -> [i16; LEN] {
    std::array::from_fn(|i| {
        let (half, part, number) = (i / 128, i / 32 % 4, i % 32);
        q[place(half, part / 2, 2 * number + part % 2)]
    })
}

/// The integers of a block, and what they are multiplied by.
fn rounded_block<const N: usize>(x: &[f32; N]) -> ([i16; N], f32) {
    // As bits, so that a NaN counts as the largest.
    let largest = x.iter().map(|x| x.to_bits() & 0x7fff_ffff).max().unwrap_or(0);
    let scale = f32::from_bits(largest) / 32767.0;
    // What is too small to divide by counts as zero, below 1e-33.
    let (scale, inverse) =
        if scale < f32::MIN_POSITIVE { (0.0, 0.0) } else { (scale, scale.recip()) };
    // Adding 1.5 * 2^23 rounds to nearest even and leaves the integer in the low bits.
    let magic = 12_582_912f32;
    (x.map(|x| (x * inverse + magic).to_bits() as i16), scale)
}
