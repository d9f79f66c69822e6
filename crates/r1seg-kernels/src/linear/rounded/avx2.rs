//! The products of a block in integers, eight lanes at a time.

use std::arch::x86_64::*;
use std::hint::black_box;

use super::{BYTES_WORDS, LEN, NIBBLES_WORDS, WORDS};
use crate::linear::few::Unit;
use crate::simd::Avx2;
use crate::stored;

/// The weights of 32 bytes, as `reorder` has the activations: even and odd bytes, low halves and high ones.
type Quarter = [__m256i; 4];

/// Adds the products of 32 bytes of weights, whose activations begin at `x`, 16 words from part to part.
///
/// # Safety
/// Needs AVX2 and FMA; the activations must be there.
#[inline(always)]
unsafe fn products(
    block: __m256,
    weights: &Quarter,
    [low, high]: [__m256; 2],
    x: *const f32,
) -> __m256 {
    // SAFETY: the caller's promise.
    unsafe {
        let part =
            |n: usize| _mm256_madd_epi16(weights[n], _mm256_loadu_si256(x.add(16 * n).cast()));
        let of_low = _mm256_cvtepi32_ps(_mm256_add_epi32(part(0), part(1)));
        let of_high = _mm256_cvtepi32_ps(_mm256_add_epi32(part(2), part(3)));
        _mm256_fmadd_ps(of_high, high, _mm256_fmadd_ps(of_low, low, block))
    }
}

/// Eight bytes, converted.
///
/// # Safety
/// Needs AVX2.
#[inline(always)]
unsafe fn eight_bytes(bytes: u64) -> __m256 {
    // SAFETY: the caller has the instructions.
    unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes.cast_signed()))) }
}

/// The number at an index, in every lane.
///
/// # Safety
/// Needs AVX.
#[inline(always)]
unsafe fn at<const INDEX: i32>(numbers: __m256) -> __m256 {
    // SAFETY: the caller has the instructions.
    unsafe { _mm256_permutevar8x32_ps(numbers, _mm256_set1_epi32(INDEX)) }
}

/// The numbers at two indices, in four lanes each.
///
/// # Safety
/// Needs AVX2.
#[inline(always)]
unsafe fn pair<const FIRST: i32, const SECOND: i32>(numbers: __m256) -> __m256 {
    // SAFETY: the caller has the instructions.
    unsafe {
        let at = _mm256_setr_epi32(FIRST, FIRST, FIRST, FIRST, SECOND, SECOND, SECOND, SECOND);
        _mm256_permutevar8x32_ps(numbers, at)
    }
}

/// 4-bit blocks by bytes, with AVX-VNNI or without.
pub(in crate::linear) struct Q4K<const VNNI: bool>;

impl<const VNNI: bool> Q4K<VNNI> {
    /// Eight sums of the products of 32 weights and activations. Without AVX-VNNI sums of two products are 16 bits
    /// wide: at most `2 * 15 * 127`.
    ///
    /// # Safety
    /// Needs AVX2, and AVX-VNNI where it is asked for.
    #[inline(always)]
    unsafe fn products(weights: __m256i, x: __m256i) -> __m256 {
        // SAFETY: the caller has the instructions.
        unsafe {
            _mm256_cvtepi32_ps(if VNNI {
                _mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), weights, x)
            } else {
                _mm256_madd_epi16(_mm256_maddubs_epi16(weights, x), _mm256_set1_epi16(1))
            })
        }
    }
}

impl<const VNNI: bool> Unit<Avx2> for Q4K<VNNI> {
    const LEN: usize = LEN;
    const BYTES: usize = 144;
    const WORDS: usize = NIBBLES_WORDS;
    const SHARED: bool = true;

    #[inline(always)]
    unsafe fn add<const M: usize>(
        sums: &mut [[__m256; 2]; M],
        w: *const u8,
        x: *const f32,
        stride: usize,
    ) {
        // SAFETY: the caller has the instructions, a block, and the activations.
        unsafe {
            let [scales, minima] = stored::Q4K::six_bits(w);
            let unit =
                _mm256_castps128_ps256(_mm_cvtph_ps(_mm_castps_si128(_mm_load_ss(w.cast()))));
            let scales = _mm256_mul_ps(eight_bytes(scales), at::<0>(unit));
            let minima = _mm256_mul_ps(eight_bytes(minima), at::<1>(unit));
            let mut factors = [[0f32; 8]; M];
            for (i, (factors, [_, offset])) in factors.iter_mut().zip(&mut *sums).enumerate() {
                let x = x.add(i * stride + LEN / 4);
                let factor = _mm256_mul_ps(scales, _mm256_loadu_ps(x));
                _mm256_storeu_ps(factors.as_mut_ptr(), factor);
                *offset = _mm256_fmadd_ps(minima, _mm256_loadu_ps(x.add(8)), *offset);
            }
            // In memory, from where a factor comes in every lane at no cost. The compiler would rather shuffle a
            // register, on the port that the products need.
            let factors = black_box(&factors);
            for quarter in 0..4 {
                let bytes = _mm256_loadu_si256(w.add(16 + 32 * quarter).cast());
                let mask = _mm256_set1_epi8(15);
                let low = _mm256_and_si256(bytes, mask);
                let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), mask);
                for (i, (factors, [sum, _])) in factors.iter().zip(&mut *sums).enumerate() {
                    let x = x.add(i * stride + 16 * quarter);
                    let of_low = Self::products(low, _mm256_loadu_si256(x.cast()));
                    let of_high = Self::products(high, _mm256_loadu_si256(x.add(8).cast()));
                    let factor = |high: usize| _mm256_broadcast_ss(&factors[2 * quarter + high]);
                    *sum = _mm256_fmadd_ps(of_low, factor(0), *sum);
                    *sum = _mm256_fmadd_ps(of_high, factor(1), *sum);
                }
            }
        }
    }
}

/// 6-bit blocks.
pub(in crate::linear) struct Q6K;

impl Q6K {
    /// The weights of 32 bytes of low bits, and of two bits of each of 32 bytes.
    ///
    /// # Safety
    /// Needs AVX2, and the bytes.
    #[inline(always)]
    unsafe fn quarter(low: *const u8, top: __m256i) -> Quarter {
        // SAFETY: the caller's promise.
        unsafe {
            let even = _mm256_loadu_si256(low.cast());
            let odd = _mm256_srli_epi16::<8>(even);
            let (even_top, odd_top) = (_mm256_slli_epi16::<4>(top), _mm256_srli_epi16::<4>(top));
            [
                join::<0x0f, 0x30>(even, even_top),
                join::<0x0f, 0x30>(odd, odd_top),
                join::<0xf0, 0x300>(even, even_top),
                join::<0xf0, 0x300>(odd, odd_top),
            ]
        }
    }
}

/// The bits `LOW` of `low` and `TOP` of `top`, in 16-bit words.
///
/// # Safety
/// Needs AVX2.
#[inline(always)]
unsafe fn join<const LOW: i16, const TOP: i16>(low: __m256i, top: __m256i) -> __m256i {
    // SAFETY: the caller has the instructions.
    unsafe {
        let low = _mm256_and_si256(low, _mm256_set1_epi16(LOW));
        _mm256_or_si256(low, _mm256_and_si256(top, _mm256_set1_epi16(TOP)))
    }
}

impl Unit<Avx2> for Q6K {
    const LEN: usize = LEN;
    const BYTES: usize = 210;
    const WORDS: usize = WORDS;
    const SHARED: bool = true;

    #[inline(always)]
    unsafe fn add<const M: usize>(
        sums: &mut [[__m256; 2]; M],
        w: *const u8,
        x: *const f32,
        stride: usize,
    ) {
        // SAFETY: the caller has the instructions, a block, and the activations.
        unsafe {
            let d = _mm256_cvtph_ps(_mm_set1_epi16(w.add(208).cast::<i16>().read_unaligned()));
            const H: f32 = 1.0 / 16.0;
            let back = _mm256_setr_ps(1., 1., 1., 1., H, H, H, H);
            let mut blocks = [_mm256_setzero_ps(); M];
            for half in 0..2 {
                let integers = _mm256_cvtepi8_epi32(_mm_loadl_epi64(w.add(192 + 8 * half).cast()));
                let minima = _mm256_mul_ps(_mm256_cvtepi32_ps(integers), d);
                let scales = _mm256_mul_ps(minima, back);
                // 16 bytes, which are four sums, have one scale.
                let scales = [
                    [pair::<0, 1>(scales), pair::<4, 5>(scales)],
                    [pair::<2, 3>(scales), pair::<6, 7>(scales)],
                ];
                let top = _mm256_loadu_si256(w.add(128 + 32 * half).cast());
                // Bits 0, 1, 4 and 5 of each byte: the second 32 bytes take the other four.
                let tops = [top, _mm256_srli_epi32::<2>(top)];
                for (second, (scales, top)) in scales.into_iter().zip(tops).enumerate() {
                    let weights = Self::quarter(w.add(64 * half + 32 * second), top);
                    let first = half * (LEN / 4) + second * 8;
                    for (i, block) in blocks.iter_mut().enumerate() {
                        *block = products(*block, &weights, scales, x.add(i * stride + first));
                    }
                }
                for (i, [_, offset]) in sums.iter_mut().enumerate() {
                    let factors = _mm256_loadu_ps(x.add(i * stride + LEN / 2 + 8 * half));
                    *offset = _mm256_fmadd_ps(minima, factors, *offset);
                }
            }
            for (i, ([sum, _], block)) in sums.iter_mut().zip(blocks).enumerate() {
                let scale = _mm256_loadu_ps(x.add(i * stride + LEN / 2 + 16));
                *sum = _mm256_fmadd_ps(block, scale, *sum);
            }
        }
    }
}

/// 8-bit blocks.
pub(in crate::linear) struct Q8_0;

impl Unit<Avx2> for Q8_0 {
    const LEN: usize = 32;
    const BYTES: usize = 34;
    const WORDS: usize = BYTES_WORDS;
    const SHARED: bool = true;

    #[inline(always)]
    unsafe fn add<const M: usize>(
        sums: &mut [[__m256; 2]; M],
        w: *const u8,
        x: *const f32,
        stride: usize,
    ) {
        // SAFETY: the caller has the instructions, a block, and the activations.
        unsafe {
            let d = _mm256_cvtph_ps(_mm_set1_epi16(w.cast::<i16>().read_unaligned()));
            let first = _mm256_cvtepi8_epi16(_mm_loadu_si128(w.add(2).cast()));
            let second = _mm256_cvtepi8_epi16(_mm_loadu_si128(w.add(18).cast()));
            for (i, [sum, _]) in sums.iter_mut().enumerate() {
                let x = x.add(i * stride);
                let first = _mm256_madd_epi16(first, _mm256_loadu_si256(x.cast()));
                let second = _mm256_madd_epi16(second, _mm256_loadu_si256(x.add(8).cast()));
                let products = _mm256_cvtepi32_ps(_mm256_add_epi32(first, second));
                let scale = _mm256_mul_ps(d, _mm256_loadu_ps(x.add(16)));
                *sum = _mm256_fmadd_ps(products, scale, *sum);
            }
        }
    }
}
