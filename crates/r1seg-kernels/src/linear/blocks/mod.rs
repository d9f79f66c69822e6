//! Many rows against weights in integers. Activations are rounded to 8, 14 or 16 bits with a scale per 32 of them,
//! which is how `Q8_0` rounds weights; bf16 becomes 14 bits, too, since two products in one instruction take less
//! time than one in f32.
//!
//! Both operands lie in blocks of 32: words of four or two integers each, and what turns a sum of products into a
//! number. How words are multiplied is in [`dots`].

mod dots;
mod tile;

use std::arch::x86_64::*;

use super::integers::{integers, sum};
use crate::buffer::LINE;
use crate::simd::Avx2;
use crate::stored::{Q4K, Stored, half};
use crate::weights::WeightType;

pub(super) use dots::{Bytes256, Bytes512, Halves256, Halves512, Nibbles};
pub(super) use tile::InBlocks;

/// What the integers of a block are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blocks {
    /// Weights in signed bytes by activations in unsigned ones, which have 128 added: each sum starts at -128
    /// times the sum of its weights.
    Bytes,
    /// Weights in four bits by activations in signed bytes.
    Nibbles,
    /// Weights of a byte and activations, in 16 bits.
    Halves,
    /// Weights in bf16 and activations as integers of 14 bits, in 16. A sum of 32 products just fits into 32 bits.
    Fixed,
}

impl Blocks {
    /// Numbers of a block.
    pub(super) const LEN: usize = 32;

    /// Words of its integers.
    const fn words(self) -> usize {
        match self {
            Self::Bytes | Self::Nibbles => Self::LEN / 4,
            Self::Halves | Self::Fixed => Self::LEN / 2,
        }
    }

    /// Lines of a block of weights, of which the last has, behind any integers, the scale, what the sums of products
    /// start from, and the offset, which the sum of the activations is multiplied by.
    pub(super) const fn lines(self) -> usize {
        self.words() / LINE + 1
    }

    /// Words of a block of activations: integers, their scale, and the sum of what they stand for.
    pub(super) const fn x_words(self) -> usize {
        self.words() + 2
    }

    /// The most that activations are rounded to.
    const fn largest(self) -> i16 {
        match self {
            Self::Bytes | Self::Nibbles => 127,
            Self::Halves => 32767,
            Self::Fixed => 8191,
        }
    }

    /// Rounds whole blocks of activations.
    ///
    /// # Shapes
    /// - `x`: `[blocks, LEN]`    - `words`: `[blocks, x_words]` and zeros
    #[inline(always)]
    pub(super) fn round(self, x: &[f32], words: &mut [f32]) {
        let (blocks, _) = x.as_chunks::<{ Self::LEN }>();
        let (rounded, rest) = words.split_at_mut(blocks.len() * self.x_words());
        rest.fill(0.0);
        for (x, words) in blocks.iter().zip(rounded.chunks_exact_mut(self.x_words())) {
            let mut q = [0; Self::LEN];
            let scale = integers(x, self.largest(), &mut q);
            let (packed, numbers) = words.split_at_mut(self.words());
            match self {
                Self::Bytes => pack_bytes(&q, 0x80, packed),
                Self::Nibbles => pack_bytes(&q, 0, packed),
                Self::Halves | Self::Fixed => pack_halves(&q, packed),
            }
            numbers[0] = scale;
            numbers[1] = scale * sum(&q) as f32;
        }
    }

    /// Writes the blocks of a row of weights into lines that lie `stride` words apart.
    ///
    /// # Safety
    /// Needs AVX2 and F16C; there must be room for the lines of each block of `row`, whose type must be one that
    /// [`Path::of`](super::Path::of) gives these blocks.
    #[inline(always)]
    pub(super) unsafe fn stage(
        self,
        weight_type: WeightType,
        row: &[u8],
        line: *mut f32,
        stride: usize,
    ) {
        // SAFETY: the caller has the instructions and the lines; reads are of whole blocks.
        unsafe {
            if weight_type == WeightType::Bf16 {
                for (i, block) in row.as_chunks::<{ 2 * Self::LEN }>().0.iter().enumerate() {
                    let (q, scale) = fixed(block.as_ptr());
                    write_halves(line.add(i * self.lines() * stride), stride, q, scale);
                }
                return;
            }
            if weight_type == WeightType::Q8_0 {
                for (i, block) in row.as_chunks::<34>().0.iter().enumerate() {
                    let scale = half::<Avx2>(block.as_ptr());
                    let q = _mm256_loadu_si256(block.as_ptr().add(2).cast());
                    self.write(line.add(i * self.lines() * stride), stride, q, [scale, 0.0]);
                }
                return;
            }
            let low = _mm256_set1_epi8(15);
            for (i, block) in row.as_chunks::<144>().0.iter().enumerate() {
                let (numbers, d, min) = <Q4K as Stored<Avx2>>::head(block.as_ptr());
                for pair in 0..4 {
                    let q = _mm256_loadu_si256(block.as_ptr().add(16 + pair * 32).cast());
                    let halves = [q, _mm256_srli_epi16::<4>(q)];
                    for (high, q) in halves.into_iter().enumerate() {
                        let j = 2 * pair + high;
                        let line = line.add((8 * i + j) * self.lines() * stride);
                        let q = _mm256_and_si256(q, low);
                        self.write(line, stride, q, [d * numbers[j], -min * numbers[j + 8]]);
                    }
                }
            }
        }
    }

    /// A block of weights: signed bytes, what they are multiplied by, and what is added to each.
    ///
    /// # Safety
    /// As of [`stage`](Self::stage).
    #[inline(always)]
    unsafe fn write(self, line: *mut f32, stride: usize, q: __m256i, [scale, offset]: [f32; 2]) {
        // SAFETY: the caller has the instructions and the lines.
        unsafe {
            if self == Self::Halves {
                let first = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(q));
                let second = _mm256_cvtepi8_epi16(_mm256_extracti128_si256::<1>(q));
                return write_halves(line, stride, [first, second], scale);
            }
            _mm256_storeu_si256(line.cast(), q);
            let start = if self == Self::Bytes { -128 * sum_of_bytes(q) } else { 0 };
            write_numbers(line.add(self.words()), scale, start, offset);
        }
    }
}

/// A block of weights in 16 bits, and what they are multiplied by.
///
/// # Safety
/// Needs AVX2, and two lines `stride` words apart.
#[inline(always)]
unsafe fn write_halves(line: *mut f32, stride: usize, [first, second]: [__m256i; 2], scale: f32) {
    // SAFETY: the caller's promise.
    unsafe {
        _mm256_storeu_si256(line.cast(), first);
        _mm256_storeu_si256(line.add(8).cast(), second);
        write_numbers(line.add(stride), scale, 0, 0.0);
    }
}

/// # Safety
/// There must be room for three words.
#[inline(always)]
unsafe fn write_numbers(words: *mut f32, scale: f32, start: i32, offset: f32) {
    // SAFETY: the caller's promise.
    unsafe {
        words.write(scale);
        words.add(1).cast::<i32>().write(start);
        words.add(2).write(offset);
    }
}

/// 32 weights in bf16 as integers of 14 bits, and the power of two that they are multiples of. It is the largest
/// weight's, so that no weight down to a 32nd of that loses anything.
///
/// # Safety
/// Needs AVX2, and the weights.
#[inline(always)]
unsafe fn fixed(weights: *const u8) -> ([__m256i; 2], f32) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut wide = [_mm256_setzero_ps(); 4];
        let mut largest = _mm256_setzero_si256();
        for (i, wide) in wide.iter_mut().enumerate() {
            let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(weights.add(16 * i).cast()));
            let bits = _mm256_slli_epi32::<16>(bits);
            *wide = _mm256_castsi256_ps(bits);
            // Magnitudes are ordered as their bits are, with NaN behind infinity.
            largest =
                _mm256_max_epi32(largest, _mm256_and_si256(bits, _mm256_set1_epi32(i32::MAX)));
        }
        let halves =
            _mm_max_epi32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256::<1>(largest));
        let pairs = _mm_max_epi32(halves, _mm_shuffle_epi32::<0x4e>(halves));
        let largest = _mm_cvtsi128_si32(_mm_max_epi32(pairs, _mm_shuffle_epi32::<0xb1>(pairs)));
        let (scale, inverse) = power_of_two(largest.cast_unsigned() >> 23);
        let inverse = _mm256_set1_ps(inverse);
        // No closures: they would not be compiled for the caller's instructions.
        let mut q = [_mm256_setzero_si256(); 4];
        for (q, wide) in q.iter_mut().zip(wide) {
            *q = _mm256_cvtps_epi32(_mm256_mul_ps(wide, inverse));
        }
        // Packing goes by halves of vectors.
        let first = _mm256_permute4x64_epi64::<0xd8>(_mm256_packs_epi32(q[0], q[1]));
        let second = _mm256_permute4x64_epi64::<0xd8>(_mm256_packs_epi32(q[2], q[3]));
        ([first, second], scale)
    }
}

/// What integers of 14 bits are multiplied by for numbers up to that biased exponent, and its inverse. Below 2^-114
/// all counts as zero.
#[inline(always)]
fn power_of_two(exponent: u32) -> (f32, f32) {
    /// Bits of such an integer behind the first one.
    const BEHIND: u32 = 12;
    if exponent == 0xff {
        (f32::NAN, 0.0)
    } else if exponent > BEHIND {
        (f32::from_bits((exponent - BEHIND) << 23), f32::from_bits((254 + BEHIND - exponent) << 23))
    } else {
        (0.0, 0.0)
    }
}

/// # Safety
/// Needs AVX2.
#[inline(always)]
unsafe fn sum_of_bytes(q: __m256i) -> i32 {
    // SAFETY: the caller has the instructions.
    unsafe {
        let pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), q);
        let sums = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
        let sums = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
        let sums = _mm_add_epi32(sums, _mm_shuffle_epi32::<0x4e>(sums));
        _mm_cvtsi128_si32(_mm_add_epi32(sums, _mm_shuffle_epi32::<0xb1>(sums)))
    }
}

#[inline(always)]
fn pack_bytes(integers: &[i16; Blocks::LEN], flipped: u8, words: &mut [f32]) {
    let bytes = integers.map(|q| q as u8 ^ flipped);
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = f32::from_bits(u32::from_le_bytes(*bytes));
    }
}

#[inline(always)]
fn pack_halves(integers: &[i16; Blocks::LEN], words: &mut [f32]) {
    for (word, [low, high]) in words.iter_mut().zip(integers.as_chunks::<2>().0) {
        *word = f32::from_bits(u32::from(*low as u16) | u32::from(*high as u16) << 16);
    }
}
