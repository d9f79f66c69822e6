//! A few rows against blocks in integers: activations are rounded to 16 bits with a scale per block of
//! weights, an error of about `1e-5` of the result where 8 bits cost `1e-2`. With the short vectors of AVX2, products
//! of 16 bits would keep memory waiting for 4-bit blocks: there activations are rounded to 8 bits with a scale per 32
//! of them, as for many rows.
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
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;

use crate::isa::Isa;
use crate::weights::WeightType;

/// Weights of a block of 4 or 6 bits each.
const LEN: usize = 256;

/// Words of the activations of a block of 8 bits each: 32 of 16 bits, eight times the scale.
const BYTES_WORDS: usize = 32 / 2 + 8;

/// Words of a block of activations: 256 of 16 bits, the factors of the 16 minima, 16 times the scale.
const WORDS: usize = LEN / 2 + 16 + 16;

/// Words of a block of activations in bytes: 256 of these, eight scales, and the factors of the eight minima.
const NIBBLES_WORDS: usize = LEN / 4 + 8 + 8;

/// Whether a few rows of such weights are multiplied in integers. Where vectors are wide, widening bytes takes
/// no longer than reading them.
pub(super) fn takes(weight_type: WeightType, isa: Isa) -> bool {
    match weight_type {
        WeightType::Q4K | WeightType::Q6K => isa >= Isa::Avx2,
        WeightType::Q8_0 => is_short(isa),
        _ => false,
    }
}

/// Whether activations are rounded to 8 bits.
fn takes_bytes(weight_type: WeightType, isa: Isa) -> bool {
    weight_type == WeightType::Q4K && is_short(isa)
}

/// Words of a row of `k` activations.
pub(super) fn words(weight_type: WeightType, isa: Isa, k: usize) -> usize {
    match weight_type {
        WeightType::Q8_0 => k / 32 * BYTES_WORDS,
        _ if takes_bytes(weight_type, isa) => k / LEN * NIBBLES_WORDS,
        _ => k / LEN * WORDS,
    }
}

/// Whether vectors have the length of AVX2's.
fn is_short(isa: Isa) -> bool {
    matches!(isa, Isa::Avx2 | Isa::AvxVnni)
}

/// Rounds rows of whole blocks.
///
/// # Shapes
/// - `x`: `[m, k]`    - `rounded`: `[padded(m), words(k)]`
pub(super) fn round(x: &[f32], weight_type: WeightType, isa: Isa, rounded: &mut [f32]) {
    match weight_type {
        WeightType::Q8_0 => return round_for_bytes(x, rounded),
        _ if takes_bytes(weight_type, isa) => return round_for_nibbles(x, rounded),
        _ => {}
    }
    let (blocks, _) = x.as_chunks::<LEN>();
    // Rows beyond those of `x` are zeros.
    let (rounded, zeros) = rounded.split_at_mut(blocks.len() * WORDS);
    zeros.fill(0.0);
    for (x, block) in blocks.iter().zip(rounded.chunks_exact_mut(WORDS)) {
        let (q, scale) = rounded_block(x, 32767.0);
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

/// The integers of a block, up to `most`, and what they are multiplied by.
fn rounded_block<const N: usize>(x: &[f32; N], most: f32) -> ([i16; N], f32) {
    // As bits, so that a NaN counts as the largest.
    let largest = x.iter().map(|x| x.to_bits() & 0x7fff_ffff).max().unwrap_or(0);
    let scale = f32::from_bits(largest) / most;
    // What is too small to divide by counts as zero, below 1e-33.
    let (scale, inverse) =
        if scale < f32::MIN_POSITIVE { (0.0, 0.0) } else { (scale, scale.recip()) };
    // Adding 1.5 * 2^23 rounds to nearest even and leaves the integer in the low bits.
    let magic = 12_582_912f32;
    (x.map(|x| (x * inverse + magic).to_bits() as i16), scale)
}

/// The same in bytes, in the order of the weights.
fn round_for_nibbles(x: &[f32], rounded: &mut [f32]) {
    let (blocks, _) = x.as_chunks::<LEN>();
    let (rounded, zeros) = rounded.split_at_mut(blocks.len() * NIBBLES_WORDS);
    zeros.fill(0.0);
    for (x, block) in blocks.iter().zip(rounded.chunks_exact_mut(NIBBLES_WORDS)) {
        let (numbers, rest) = block.split_at_mut(LEN / 4);
        let (scales, minima) = rest.split_at_mut(8);
        let parts = x.as_chunks::<32>().0.iter().zip(numbers.as_chunks_mut::<8>().0);
        for ((x, words), (scale, minimum)) in parts.zip(scales.iter_mut().zip(minima)) {
            let (q, unit) = rounded_block(x, 127.0);
            for (word, quad) in words.iter_mut().zip(q.as_chunks::<4>().0) {
                *word = f32::from_bits(u32::from_le_bytes(quad.map(|q| q as u8)));
            }
            *scale = unit;
            *minimum = -unit * q.iter().map(|&q| i32::from(q)).sum::<i32>() as f32;
        }
    }
}

/// The same for blocks of bytes, in their order.
fn round_for_bytes(x: &[f32], rounded: &mut [f32]) {
    let (blocks, _) = x.as_chunks::<32>();
    let (rounded, zeros) = rounded.split_at_mut(blocks.len() * BYTES_WORDS);
    zeros.fill(0.0);
    for (x, block) in blocks.iter().zip(rounded.chunks_exact_mut(BYTES_WORDS)) {
        let (q, scale) = rounded_block(x, 32767.0);
        let (numbers, scales) = block.split_at_mut(16);
        for (word, pair) in numbers.iter_mut().zip(q.as_chunks::<2>().0) {
            let pair = pair.map(|q| u32::from(q as u16));
            *word = f32::from_bits(pair[0] | pair[1] << 16);
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
