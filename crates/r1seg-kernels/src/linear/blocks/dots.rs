//! Products of words of integers, a weight's with those of all lanes.

use std::arch::x86_64::*;

use super::Blocks;
use crate::linear::rounded::{avx2, avx512};
use crate::simd::{Avx2, Avx512, Simd};

/// How a block of 32 weights is multiplied with the activations of as many rows as there are lanes.
///
/// # Safety
/// Every function needs a machine with the implementor's instructions, and is meant to be inlined into a function
/// that enables them. `load` needs as many words as there are lanes.
pub(in crate::linear) trait Dots {
    type Lanes: Simd;
    /// A word for each lane.
    type Words: Copy;
    /// A sum of products for each lane.
    type Sums: Copy;
    /// How the integers lie.
    const BLOCKS: Blocks;
    /// Rows of a tile two vectors wide, whose sums of integers and of numbers fit the registers.
    const ROWS: usize;

    unsafe fn load(words: *const f32) -> Self::Words;
    /// The same word for each lane.
    unsafe fn splat(word: i32) -> Self::Words;
    /// Sums that start with a number.
    unsafe fn start(number: i32) -> Self::Sums;
    unsafe fn add(sums: Self::Sums, x: Self::Words, w: Self::Words) -> Self::Sums;
    unsafe fn numbers(sums: Self::Sums) -> <Self::Lanes as Simd>::V;
}

/// What AVX-512 has for both.
macro_rules! sixteen_lanes {
    () => {
        type Lanes = Avx512;
        type Words = __m512i;
        type Sums = __m512i;
        // 24 sums, 2 activations and 1 weight in 32 registers.
        const ROWS: usize = 6;

        #[inline(always)]
        unsafe fn load(words: *const f32) -> __m512i {
            // SAFETY: the contract gives the instructions and the words; no alignment needed.
            unsafe { _mm512_loadu_si512(words.cast()) }
        }
        #[inline(always)]
        unsafe fn splat(word: i32) -> __m512i {
            // SAFETY: the contract gives the instructions.
            unsafe { _mm512_set1_epi32(word) }
        }
        #[inline(always)]
        unsafe fn start(number: i32) -> __m512i {
            // SAFETY: the contract gives the instructions.
            unsafe { _mm512_set1_epi32(number) }
        }
    };
}

/// Bytes in one instruction of AVX512-VNNI. A sum has 32 products of an activation, at most 255, and a weight, at
/// most 128: below `2^21`.
pub(in crate::linear) struct Bytes512;

impl Dots for Bytes512 {
    const BLOCKS: Blocks = Blocks::Bytes;
    sixteen_lanes!();

    #[inline(always)]
    unsafe fn add(sums: __m512i, x: __m512i, w: __m512i) -> __m512i {
        // SAFETY: the contract gives the instructions.
        unsafe { _mm512_dpbusd_epi32(sums, x, w) }
    }
    #[inline(always)]
    unsafe fn numbers(sums: __m512i) -> __m512 {
        // SAFETY: the contract gives the instructions.
        unsafe { _mm512_cvtepi32_ps(sums) }
    }
}

/// What AVX2 has for all three.
macro_rules! eight_lanes {
    () => {
        type Lanes = Avx2;
        type Words = __m256i;
        type Sums = __m256i;
        // 12 sums, 2 activations and 1 weight in 16 registers.
        const ROWS: usize = 3;

        #[inline(always)]
        unsafe fn load(words: *const f32) -> __m256i {
            // SAFETY: the contract gives the instructions and the words; no alignment needed.
            unsafe { _mm256_loadu_si256(words.cast()) }
        }
        #[inline(always)]
        unsafe fn splat(word: i32) -> __m256i {
            // SAFETY: the contract gives the instructions.
            unsafe { _mm256_set1_epi32(word) }
        }
        #[inline(always)]
        unsafe fn start(number: i32) -> __m256i {
            // SAFETY: the contract gives the instructions.
            unsafe { _mm256_set1_epi32(number) }
        }
    };
}

/// The same with AVX-VNNI.
pub(in crate::linear) struct Bytes256;

impl Dots for Bytes256 {
    const BLOCKS: Blocks = Blocks::Bytes;
    eight_lanes!();

    #[inline(always)]
    unsafe fn add(sums: __m256i, x: __m256i, w: __m256i) -> __m256i {
        // SAFETY: the contract gives the instructions.
        unsafe { _mm256_dpbusd_avx_epi32(sums, x, w) }
    }
    #[inline(always)]
    unsafe fn numbers(sums: __m256i) -> __m256 {
        // SAFETY: the contract gives the instructions.
        unsafe { _mm256_cvtepi32_ps(sums) }
    }
}

/// Weights of four bits with AVX2, in sums of 16 bits. Each has 16 products of an activation, at most 127, and a
/// weight, at most 15: below `2^15`.
pub(in crate::linear) struct Nibbles;

impl Dots for Nibbles {
    const BLOCKS: Blocks = Blocks::Nibbles;
    eight_lanes!();

    #[inline(always)]
    unsafe fn add(sums: __m256i, x: __m256i, w: __m256i) -> __m256i {
        // SAFETY: the contract gives the instructions.
        unsafe { _mm256_add_epi16(sums, _mm256_maddubs_epi16(w, x)) }
    }
    #[inline(always)]
    unsafe fn numbers(sums: __m256i) -> __m256 {
        // SAFETY: the contract gives the instructions.
        unsafe { _mm256_cvtepi32_ps(_mm256_madd_epi16(sums, _mm256_set1_epi16(1))) }
    }
}

/// Halves with AVX2 or AVX-VNNI. A sum has 32 products: of an activation, at most 32767, and a weight, at most 128,
/// below `2^27`; or of two numbers that are at most 8191, below `2^31`.
///
/// Weights of 8 bits go this way without VNNI: bytes would have to have their signs exchanged for every product, which
/// takes as long.
pub(in crate::linear) struct Halves256<const VNNI: bool>;

impl<const VNNI: bool> Dots for Halves256<VNNI> {
    const BLOCKS: Blocks = Blocks::Halves;
    eight_lanes!();

    #[inline(always)]
    unsafe fn add(sums: __m256i, x: __m256i, w: __m256i) -> __m256i {
        // SAFETY: the contract gives the instructions.
        unsafe { avx2::dot::<VNNI>(sums, w, x) }
    }
    #[inline(always)]
    unsafe fn numbers(sums: __m256i) -> __m256 {
        // SAFETY: the contract gives the instructions.
        unsafe { _mm256_cvtepi32_ps(sums) }
    }
}

/// Halves in one instruction of AVX512-VNNI.
pub(in crate::linear) struct Halves512;

impl Dots for Halves512 {
    const BLOCKS: Blocks = Blocks::Halves;
    sixteen_lanes!();

    #[inline(always)]
    unsafe fn add(sums: __m512i, x: __m512i, w: __m512i) -> __m512i {
        // SAFETY: the contract gives the instructions.
        unsafe { avx512::dot::<true>(sums, w, x) }
    }
    #[inline(always)]
    unsafe fn numbers(sums: __m512i) -> __m512 {
        // SAFETY: the contract gives the instructions.
        unsafe { _mm512_cvtepi32_ps(sums) }
    }
}
