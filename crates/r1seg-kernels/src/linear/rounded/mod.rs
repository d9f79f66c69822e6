//! A few rows against 4-bit and 6-bit blocks in integers: activations are rounded to 16 bits with a
//! scale per 256 of them, an error of about `1e-5` of the result where 8 bits would cost `1e-2`.
//!
//! Small weights lie several to a 16-bit word, and are cut out of it by masks alone: those of even
//! bytes from the word, those of odd bytes from the word shifted down by 8. Weights in the high half
//! of their byte stay 16 times as large, which their scale takes back. The activations of a block
//! are ordered accordingly.
//!
//! # Bounds
//! A product sum of 32 bits has four products of an activation, at most 32767, and a weight, at most
//! `16 * 15` in 4-bit blocks and `16 * 63` in 6-bit ones: below `2^27`. Scales are applied to it in
//! f32.

#[cfg(target_arch = "x86_64")]
mod avx512;

use crate::weights::WeightType;

#[cfg(target_arch = "x86_64")]
pub(super) use avx512::{Q4K, Q6K};

/// Weights of a block.
const LEN: usize = 256;

/// Words of a block of activations: 256 of 16 bits, the factors of the 16 minima, 16 times the scale.
const WORDS: usize = LEN / 2 + 16 + 16;

/// Words of a row of `k` activations.
pub(super) fn words(k: usize) -> usize {
    k / LEN * WORDS
}

/// Rounds rows of whole blocks.
///
/// # Shapes
/// - `x`: `[m, k]`    - `rounded`: `[padded(m), words(k)]`
pub(super) fn round(x: &[f32], weight_type: WeightType, rounded: &mut [f32]) {
    let (blocks, _) = x.as_chunks::<LEN>();
    // Rows beyond those of `x` are zeros.
    let (rounded, zeros) = rounded.split_at_mut(blocks.len() * WORDS);
    zeros.fill(0.0);
    for (x, block) in blocks.iter().zip(rounded.chunks_exact_mut(WORDS)) {
        // As bits, so that a NaN counts as the largest.
        let largest = x.iter().map(|x| x.to_bits() & 0x7fff_ffff).max().unwrap_or(0);
        let scale = f32::from_bits(largest) / 32767.0;
        // What is too small to divide by counts as zero, below 1e-33.
        let (scale, inverse) =
            if scale < f32::MIN_POSITIVE { (0.0, 0.0) } else { (scale, scale.recip()) };
        // Adding 1.5 * 2^23 rounds to nearest even and leaves the integer in the low bits.
        let magic = 12_582_912f32;
        let q = x.map(|x| (x * inverse + magic).to_bits() as i16);
        let (numbers, rest) = block.split_at_mut(LEN / 2);
        let (minima, scales) = rest.split_at_mut(16);
        reorder(&q, weight_type, numbers);
        let sum = |q: &[i16]| q.iter().map(|&q| i32::from(q)).sum::<i32>() as f32;
        if weight_type == WeightType::Q4K {
            // The first eight factors belong to the scales.
            minima[..8].fill(0.0);
            for (minimum, q) in minima[8..].iter_mut().zip(q.chunks_exact(32)) {
                *minimum = -scale * sum(q);
            }
        } else {
            for (minimum, q) in minima.iter_mut().zip(q.chunks_exact(16)) {
                *minimum = -32.0 * scale * sum(q);
            }
        }
        scales.fill(scale);
    }
}

/// Per half of a block, what belongs to even bytes, to odd ones, and the same for the high halves of
/// the bytes.
fn reorder(q: &[i16; LEN], weight_type: WeightType, words: &mut [f32]) {
    for (half, words) in words.chunks_exact_mut(LEN / 4).enumerate() {
        for (part, words) in words.chunks_exact_mut(16).enumerate() {
            let (odd, high) = (part % 2, part / 2);
            for (i, word) in words.iter_mut().enumerate() {
                let at = |byte: usize| match weight_type {
                    WeightType::Q4K => q[128 * half + byte / 32 * 64 + high * 32 + byte % 32],
                    _ => q[128 * half + high * 64 + byte],
                };
                let pair = [at(4 * i + odd), at(4 * i + 2 + odd)].map(|q| u32::from(q as u16));
                *word = f32::from_bits(pair[0] | pair[1] << 16);
            }
        }
    }
}
