//! Many rows against weights of 8 bits and fewer, in integers: activations are rounded to 8 bits
//! with a scale per 32 of them, which is how `Q8_0` rounds weights, and halves the instructions that
//! bf16 would take.
//!
//! Both operands lie in blocks of 32: eight words of four integers each, and what turns a sum of
//! products into a number. The processor multiplies unsigned by signed integers, so activations
//! have 128 added, which each sum starts without.
//!
//! # Bounds
//! A sum has 32 products of an activation, at most 255, and a weight, at most 128: below `2^21`.

use std::arch::x86_64::*;

use super::many::Tiles;
use crate::buffer::LINE;
use crate::simd::{Avx512, WIDEST};
use crate::stored::{Q4K, Stored, half};
use crate::tile::{PANEL, Start, Strides, Tile};
use crate::weights::WeightType;

/// Numbers of a block.
pub(super) const LEN: usize = 32;

/// Words of a block of activations: integers, their scale, and the sum of what they stand for.
pub(super) const X_WORDS: usize = LEN / 4 + 2;

/// Where a block has its scale.
const SCALE: usize = LEN / 4;

/// Where a block of weights has what its sums of products start from.
const START: usize = SCALE + 1;

/// Where a block of weights has its offset, which the sum of the activations is multiplied by.
const OFFSET: usize = SCALE + 2;

/// Rows of a tile: sums of integers and of numbers, two vectors wide, in 32 registers.
pub(super) const ROWS: usize = 6;

/// Whether such weights are multiplied this way: scales of fewer weights would cost what is won.
pub(super) fn takes(weight_type: WeightType) -> bool {
    matches!(weight_type, WeightType::Q8_0 | WeightType::Q4K)
}

/// Rounds whole blocks.
///
/// # Shapes
/// - `x`: `[blocks, LEN]`    - `words`: `[blocks, X_WORDS]` and zeros
#[inline(always)]
pub(super) fn round(x: &[f32], words: &mut [f32]) {
    let (blocks, _) = x.as_chunks::<LEN>();
    let (rounded, rest) = words.split_at_mut(blocks.len() * X_WORDS);
    rest.fill(0.0);
    for (x, words) in blocks.iter().zip(rounded.chunks_exact_mut(X_WORDS)) {
        // As bits, so that a NaN counts as the largest.
        let mut largest = 0;
        for x in x {
            largest = largest.max(x.to_bits() & 0x7fff_ffff);
        }
        let scale = f32::from_bits(largest) / 127.0;
        // What is too small to divide by counts as zero, below 1e-35.
        let (scale, inverse) =
            if scale < f32::MIN_POSITIVE { (0.0, 0.0) } else { (scale, scale.recip()) };
        // Adding 1.5 * 2^23 rounds to nearest even and leaves the integer in the low bits.
        let magic = 12_582_912f32;
        let mut sum = 0;
        let mut bytes = [0u8; LEN];
        for (byte, x) in bytes.iter_mut().zip(x) {
            let q = (x * inverse + magic).to_bits() as i8;
            sum += i32::from(q);
            *byte = q as u8 ^ 0x80;
        }
        let (quads, _) = bytes.as_chunks::<4>();
        for (word, quad) in words.iter_mut().zip(quads) {
            *word = f32::from_bits(u32::from_le_bytes(*quad));
        }
        words[SCALE] = scale;
        words[SCALE + 1] = scale * sum as f32;
    }
}

/// Writes the blocks of a row of weights into lines that lie `stride` words apart.
///
/// # Safety
/// Needs AVX-512F, BW, VL and VNNI; there must be a line for each block of `row`, whose type
/// [`takes`] accepts.
#[inline(always)]
pub(super) unsafe fn stage(weight_type: WeightType, row: &[u8], line: *mut f32, stride: usize) {
    // SAFETY: the caller has the instructions and the lines; reads are of whole blocks.
    unsafe {
        if weight_type == WeightType::Q8_0 {
            for (i, block) in row.as_chunks::<34>().0.iter().enumerate() {
                let scale = half::<Avx512>(block.as_ptr());
                let q = _mm256_loadu_si256(block.as_ptr().add(2).cast());
                write(line.add(i * stride), q, scale, 0.0);
            }
            return;
        }
        let low = _mm256_set1_epi8(15);
        for (i, block) in row.as_chunks::<144>().0.iter().enumerate() {
            let (numbers, d, min) = <Q4K as Stored<Avx512>>::head(block.as_ptr());
            for pair in 0..4 {
                let q = _mm256_loadu_si256(block.as_ptr().add(16 + pair * LEN).cast());
                let halves = [q, _mm256_srli_epi16::<4>(q)];
                for (high, q) in halves.into_iter().enumerate() {
                    let j = 2 * pair + high;
                    let line = line.add((8 * i + j) * stride);
                    let q = _mm256_and_si256(q, low);
                    write(line, q, d * numbers[j], -min * numbers[j + 8]);
                }
            }
        }
    }
}

/// A block of weights: signed bytes, what they are multiplied by, and what is added to each.
///
/// # Safety
/// As of [`stage`].
#[inline(always)]
unsafe fn write(line: *mut f32, q: __m256i, scale: f32, offset: f32) {
    // SAFETY: the caller has the instructions and a line.
    unsafe {
        let sums = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), q);
        let sums = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
        let sums = _mm_add_epi32(sums, _mm_shuffle_epi32::<0x4e>(sums));
        let sums = _mm_add_epi32(sums, _mm_shuffle_epi32::<0xb1>(sums));
        _mm256_storeu_si256(line.cast(), q);
        line.add(SCALE).write(scale);
        line.add(START).cast::<i32>().write(-128 * _mm_cvtsi128_si32(sums));
        line.add(OFFSET).write(offset);
    }
}

/// Tiles of blocks, of weights with offsets or without.
pub(super) struct EightBits<const OFFSETS: bool>;

impl<const OFFSETS: bool> Tiles<Avx512> for EightBits<OFFSETS> {
    const X_LINE: usize = X_WORDS;

    fn height(_: usize) -> usize {
        ROWS
    }

    #[inline(always)]
    unsafe fn run(tile: Tile, rows: usize, columns: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            if columns <= WIDEST {
                Self::rows::<1>(tile, rows);
            } else {
                Self::rows::<2>(tile, rows);
            }
        }
    }
}

impl<const OFFSETS: bool> EightBits<OFFSETS> {
    #[inline(always)]
    unsafe fn rows<const V: usize>(tile: Tile, rows: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            if rows == ROWS {
                return Self::fixed::<ROWS, V>(tile);
            }
            for i in 0..rows {
                let a = tile.a.add(i * tile.a_strides.row);
                let c = tile.c.add(i * tile.c_stride);
                Self::fixed::<1, V>(Tile { a, c, ..tile });
            }
        }
    }

    #[inline(always)]
    unsafe fn fixed<const M: usize, const V: usize>(tile: Tile) {
        let Tile { a, a_strides: Strides { row, line, .. }, b, c, c_stride, .. } = tile;
        // SAFETY: the caller has the instructions, blocks in `M` rows of `a` and in `V`
        // vectors of `b`, and as many rows of `c`.
        unsafe {
            let mut sums = [[_mm512_setzero_ps(); V]; M];
            if let Start::Output = tile.start {
                for (i, sums) in sums.iter_mut().enumerate() {
                    for (v, sum) in sums.iter_mut().enumerate() {
                        *sum = _mm512_loadu_ps(c.add(i * c_stride + v * WIDEST));
                    }
                }
            }
            for block in 0..tile.steps / LINE {
                let (a, b) = (a.add(block * line), b.add(block * X_WORDS * PANEL));
                let mut products = [[_mm512_setzero_si512(); V]; M];
                for (i, products) in products.iter_mut().enumerate() {
                    let start = a.add(i * row + START).cast::<i32>().read();
                    *products = [_mm512_set1_epi32(start); V];
                }
                for word in 0..LEN / 4 {
                    let mut x = [_mm512_setzero_si512(); V];
                    for (v, x) in x.iter_mut().enumerate() {
                        *x = _mm512_loadu_si512(b.add(word * PANEL + v * WIDEST).cast());
                    }
                    for (i, products) in products.iter_mut().enumerate() {
                        let w = a.add(i * row + word).cast::<i32>().read();
                        let w = _mm512_set1_epi32(w);
                        for (product, x) in products.iter_mut().zip(x) {
                            *product = _mm512_dpbusd_epi32(*product, x, w);
                        }
                    }
                }
                let mut scales = [[_mm512_setzero_ps(); V]; 2];
                for (s, scales) in scales.iter_mut().enumerate() {
                    for (v, scale) in scales.iter_mut().enumerate() {
                        let at = (SCALE + s) * PANEL + v * WIDEST;
                        *scale = _mm512_loadu_ps(b.add(at));
                    }
                }
                for (i, (sums, products)) in sums.iter_mut().zip(products).enumerate() {
                    let scale = _mm512_set1_ps(*a.add(i * row + SCALE));
                    let offset = _mm512_set1_ps(*a.add(i * row + OFFSET));
                    for (v, sum) in sums.iter_mut().enumerate() {
                        let scale = _mm512_mul_ps(scale, scales[0][v]);
                        let product = _mm512_cvtepi32_ps(products[v]);
                        *sum = _mm512_fmadd_ps(product, scale, *sum);
                        if OFFSETS {
                            *sum = _mm512_fmadd_ps(offset, scales[1][v], *sum);
                        }
                    }
                }
            }
            for (i, sums) in sums.iter().enumerate() {
                for (v, sum) in sums.iter().enumerate() {
                    _mm512_storeu_ps(c.add(i * c_stride + v * WIDEST), *sum);
                }
            }
        }
    }
}
