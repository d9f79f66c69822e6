//! The products of a block in integers.

use std::arch::x86_64::*;

use super::{LEN, WORDS};
use crate::linear::few::Unit;
use crate::simd::Avx512;
use crate::stored;

/// The weights of half a block, as `reorder` has the activations.
type Half = [__m512i; 4];

/// Adds the products of a block.
///
/// # Safety
/// Needs AVX-512F and BW; there must be a block at each of the rows of `x`, `stride` words apart.
#[inline(always)]
unsafe fn add<const M: usize>(
    sums: &mut [[__m512; 2]; M],
    halves: [Half; 2],
    // Of either half block: of the low and of the high halves of its bytes.
    scales: [[__m512; 2]; 2],
    minima: __m512,
    x: *const f32,
    stride: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for (i, [sum, offset]) in sums.iter_mut().enumerate() {
            let x = x.add(i * stride);
            let mut block = _mm512_setzero_ps();
            for (half, (weights, scales)) in halves.iter().zip(&scales).enumerate() {
                for (high, scale) in scales.iter().enumerate() {
                    let (at, w) = (4 * half + 2 * high, &weights[2 * high..]);
                    let even = _mm512_madd_epi16(w[0], _mm512_loadu_si512(x.add(16 * at).cast()));
                    let odd =
                        _mm512_madd_epi16(w[1], _mm512_loadu_si512(x.add(16 * (at + 1)).cast()));
                    let products = _mm512_cvtepi32_ps(_mm512_add_epi32(even, odd));
                    block = _mm512_fmadd_ps(products, *scale, block);
                }
            }
            *offset = _mm512_fmadd_ps(minima, _mm512_loadu_ps(x.add(LEN / 2)), *offset);
            *sum = _mm512_fmadd_ps(block, _mm512_loadu_ps(x.add(LEN / 2 + 16)), *sum);
        }
    }
}

/// Per lane the scale at its index and `FIRST`.
///
/// # Safety
/// Needs AVX-512F.
#[inline(always)]
unsafe fn spread<const FIRST: i32>(at: __m512i, scales: __m512) -> __m512 {
    // SAFETY: the caller has the instructions.
    unsafe { _mm512_permutexvar_ps(_mm512_add_epi32(at, _mm512_set1_epi32(FIRST)), scales) }
}

/// 4-bit blocks.
pub(in crate::linear) struct Q4K;

impl Q4K {
    /// The weights of 64 bytes.
    ///
    /// # Safety
    /// Needs AVX-512BW, and the bytes.
    #[inline(always)]
    unsafe fn half(w: *const u8) -> Half {
        // SAFETY: the caller's promise.
        unsafe {
            let even = _mm512_loadu_si512(w.cast());
            let odd = _mm512_srli_epi16::<8>(even);
            let (low, high) = (_mm512_set1_epi16(0x0f), _mm512_set1_epi16(0xf0));
            [
                _mm512_and_si512(even, low),
                _mm512_and_si512(odd, low),
                _mm512_and_si512(even, high),
                _mm512_and_si512(odd, high),
            ]
        }
    }
}

impl Unit<Avx512> for Q4K {
    const LEN: usize = LEN;
    const BYTES: usize = 144;
    const WORDS: usize = WORDS;
    const SHARED: bool = true;

    #[inline(always)]
    unsafe fn add<const M: usize>(
        sums: &mut [[__m512; 2]; M],
        w: *const u8,
        x: *const f32,
        stride: usize,
    ) {
        // SAFETY: the caller has the instructions, a block, and the activations.
        unsafe {
            let [scales, minima] = stored::Q4K::six_bits(w);
            let six_bits = _mm512_cvtepu8_epi32(_mm_set_epi64x(minima as i64, scales as i64));
            let unit = _mm_cvtph_ps(_mm_castps_si128(_mm_load_ss(w.cast())));
            let d_or_min = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
            let unit = _mm512_permutexvar_ps(d_or_min, _mm512_castps128_ps512(unit));
            let minima = _mm512_mul_ps(_mm512_cvtepi32_ps(six_bits), unit);
            // Odd scales belong to the high halves of bytes.
            const H: f32 = 1.0 / 16.0;
            let back = _mm512_setr_ps(1., H, 1., H, 1., H, 1., H, 0., 0., 0., 0., 0., 0., 0., 0.);
            let scales = _mm512_mul_ps(minima, back);
            // 32 bytes, which are eight sums, have one scale.
            let at = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2);
            let scales = [
                [spread::<0>(at, scales), spread::<1>(at, scales)],
                [spread::<4>(at, scales), spread::<5>(at, scales)],
            ];
            let halves = [Self::half(w.add(16)), Self::half(w.add(80))];
            add(sums, halves, scales, minima, x, stride);
        }
    }
}

/// 6-bit blocks.
pub(in crate::linear) struct Q6K;

impl Q6K {
    /// The weights of 64 bytes of low bits and 32 bytes of high bits.
    ///
    /// # Safety
    /// Needs AVX-512BW, and the bytes.
    #[inline(always)]
    unsafe fn half(low: *const u8, high: *const u8) -> Half {
        // SAFETY: the caller's promise.
        unsafe {
            let even = _mm512_loadu_si512(low.cast());
            let odd = _mm512_srli_epi16::<8>(even);
            // Bits 0, 1, 4 and 5 of each byte: the second 32 bytes take the other four.
            let shifts = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2);
            let top = _mm512_broadcast_i64x4(_mm256_loadu_si256(high.cast()));
            let top = _mm512_srlv_epi32(top, shifts);
            let (even_top, odd_top) = (_mm512_slli_epi16::<4>(top), _mm512_srli_epi16::<4>(top));
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
/// Needs AVX-512BW.
#[inline(always)]
unsafe fn join<const LOW: i16, const TOP: i16>(low: __m512i, top: __m512i) -> __m512i {
    // SAFETY: the caller has the instructions.
    unsafe {
        let low = _mm512_and_si512(low, _mm512_set1_epi16(LOW));
        _mm512_or_si512(low, _mm512_and_si512(top, _mm512_set1_epi16(TOP)))
    }
}

impl Unit<Avx512> for Q6K {
    const LEN: usize = LEN;
    const BYTES: usize = 210;
    const WORDS: usize = WORDS;
    const SHARED: bool = true;

    #[inline(always)]
    unsafe fn add<const M: usize>(
        sums: &mut [[__m512; 2]; M],
        w: *const u8,
        x: *const f32,
        stride: usize,
    ) {
        // SAFETY: the caller has the instructions, a block, and the activations.
        unsafe {
            let d = _mm512_cvtph_ps(_mm256_set1_epi16(w.add(208).cast::<i16>().read_unaligned()));
            let integers = _mm512_cvtepi8_epi32(_mm_loadu_si128(w.add(192).cast()));
            let minima = _mm512_mul_ps(_mm512_cvtepi32_ps(integers), d);
            const H: f32 = 1.0 / 16.0;
            let back = _mm512_setr_ps(1., 1., 1., 1., H, H, H, H, 1., 1., 1., 1., H, H, H, H);
            let scales = _mm512_mul_ps(minima, back);
            // 16 bytes, which are four sums, have one scale.
            let at = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
            let scales = [
                [spread::<0>(at, scales), spread::<4>(at, scales)],
                [spread::<8>(at, scales), spread::<12>(at, scales)],
            ];
            let halves = [Self::half(w, w.add(128)), Self::half(w.add(64), w.add(160))];
            add(sums, halves, scales, minima, x, stride);
        }
    }
}
