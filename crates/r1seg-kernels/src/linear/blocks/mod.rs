//! Many rows against weights of 8 bits and fewer, in integers. Activations are rounded to 8 or 16 bits with a scale
//! per 32 of them, which is how `Q8_0` rounds weights.
//!
//! Both operands lie in blocks of 32: words of four or two integers each, and what turns a sum of products into a
//! number. How words are multiplied is in [`dots`].

mod dots;
mod tile;

use std::arch::x86_64::*;

use crate::buffer::LINE;
use crate::simd::Avx2;
use crate::stored::{Q4K, Stored, half};
use crate::weights::WeightType;

pub(super) use dots::{Bytes256, Bytes512, Halves, Nibbles};
pub(super) use tile::InBlocks;

/// What the integers of a block are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blocks {
    /// Weights in signed bytes by activations in unsigned ones, which have 128 added: each sum starts without.
    Bytes,
    /// Weights in four bits by activations in signed bytes.
    Nibbles,
    /// Weights and activations in 16 bits.
    Halves,
}

impl Blocks {
    /// Numbers of a block.
    pub(super) const LEN: usize = 32;

    /// Words of its integers.
    const fn words(self) -> usize {
        match self {
            Self::Bytes | Self::Nibbles => Self::LEN / 4,
            Self::Halves => Self::LEN / 2,
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
    const fn largest(self) -> f32 {
        match self {
            Self::Bytes | Self::Nibbles => 127.0,
            Self::Halves => 32767.0,
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
            // As bits, so that a NaN counts as the largest.
            let mut largest = 0;
            for x in x {
                largest = largest.max(x.to_bits() & 0x7fff_ffff);
            }
            let scale = f32::from_bits(largest) / self.largest();
            // What is too small to divide by counts as zero, below 1e-33.
            let (scale, inverse) =
                if scale < f32::MIN_POSITIVE { (0.0, 0.0) } else { (scale, scale.recip()) };
            // Adding 1.5 * 2^23 rounds to nearest even and leaves the integer in the low bits.
            let magic = 12_582_912f32;
            let mut integers = [0i32; Self::LEN];
            let mut sum = 0;
            for (integer, x) in integers.iter_mut().zip(x) {
                *integer = i32::from((x * inverse + magic).to_bits() as i16);
                sum += *integer;
            }
            let (packed, numbers) = words.split_at_mut(self.words());
            match self {
                Self::Bytes => pack_bytes(&integers, 0x80, packed),
                Self::Nibbles => pack_bytes(&integers, 0, packed),
                Self::Halves => pack_halves(&integers, packed),
            }
            numbers[0] = scale;
            numbers[1] = scale * sum as f32;
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
            let mut start = 0;
            let numbers = match self {
                Self::Halves => {
                    let first = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(q));
                    let second = _mm256_cvtepi8_epi16(_mm256_extracti128_si256::<1>(q));
                    _mm256_storeu_si256(line.cast(), first);
                    _mm256_storeu_si256(line.add(8).cast(), second);
                    line.add(stride)
                }
                Self::Bytes | Self::Nibbles => {
                    _mm256_storeu_si256(line.cast(), q);
                    if self == Self::Bytes {
                        start = -128 * sum_of_bytes(q);
                    }
                    line.add(self.words())
                }
            };
            numbers.write(scale);
            numbers.add(1).cast::<i32>().write(start);
            numbers.add(2).write(offset);
        }
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
fn pack_bytes(integers: &[i32; Blocks::LEN], flipped: u8, words: &mut [f32]) {
    let bytes = integers.map(|q| q as u8 ^ flipped);
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = f32::from_bits(u32::from_le_bytes(*bytes));
    }
}

#[inline(always)]
fn pack_halves(integers: &[i32; Blocks::LEN], words: &mut [f32]) {
    for (word, [low, high]) in words.iter_mut().zip(integers.as_chunks::<2>().0) {
        *word = f32::from_bits(u32::from(*low as u16) | u32::from(*high as u16) << 16);
    }
}
