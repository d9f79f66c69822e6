//! The products of a block in integers.

use std::arch::asm;
use std::arch::x86_64::*;

use super::{FACTORS, LEN, SCALES, WORDS};
use crate::linear::few::Unit;
use crate::simd::Avx512;
use crate::stored;

/// Adds the products of 32 weights, two to a sum.
///
/// # Safety
/// Needs AVX-512BW, and VNNI where it is asked for.
#[inline(always)]
pub(in crate::linear) unsafe fn dot<const VNNI: bool>(
    sums: __m512i,
    weights: __m512i,
    x: __m512i,
) -> __m512i {
    // SAFETY: the caller has the instructions.
    unsafe {
        if VNNI {
            fused(sums, weights, x)
        } else {
            _mm512_add_epi32(sums, _mm512_madd_epi16(weights, x))
        }
    }
}

/// In one instruction, which the compiler would split in two to wait less: here rows do not wait for each other, and
/// the number of instructions counts.
///
/// # Safety
/// Needs AVX-512 VNNI.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn fused(mut sums: __m512i, weights: __m512i, x: __m512i) -> __m512i {
    // SAFETY: the caller has the instructions; nothing else is touched.
    unsafe {
        asm!(
            "vpdpwssd {0}, {1}, {2}",
            inlateout(zmm_reg) sums,
            in(zmm_reg) weights,
            in(zmm_reg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// Adds the products of a block, given its weights times their scales, 32 at a time.
///
/// # Safety
/// Needs AVX-512BW, and VNNI where it is asked for; there must be a block at each of the rows of `x`, `stride` words
/// apart.
#[inline(always)]
unsafe fn add<const VNNI: bool, const M: usize>(
    sums: &mut [__m512; M],
    weights: &[__m512i; LEN / 32],
    d: __m512,
    x: *const f32,
    stride: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        // Two chains for one row, which has nothing else to do while a product is on its way.
        let chains = if M == 1 { 2 } else { 1 };
        let mut block = [[_mm512_setzero_si512(); 2]; M];
        for (v, weights) in weights.iter().enumerate() {
            for (i, block) in block.iter_mut().enumerate() {
                let x = _mm512_loadu_si512(x.add(i * stride + 16 * v).cast());
                block[v % chains] = dot::<VNNI>(block[v % chains], *weights, x);
            }
        }
        for (i, (sum, [first, second])) in sums.iter_mut().zip(block).enumerate() {
            let products = _mm512_cvtepi32_ps(_mm512_add_epi32(first, second));
            let scale = _mm512_mul_ps(d, _mm512_set1_ps(*x.add(i * stride + SCALES)));
            *sum = _mm512_fmadd_ps(products, scale, *sum);
        }
    }
}

/// 64 bytes as 16-bit words: the low halves of even bytes, of odd ones, and the high halves of both.
///
/// # Safety
/// Needs AVX-512BW, and the bytes.
#[inline(always)]
unsafe fn nibbles(p: *const u8) -> [__m512i; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        let (bytes, mask) = (_mm512_loadu_si512(p.cast()), _mm512_set1_epi16(15));
        [
            _mm512_and_si512(bytes, mask),
            _mm512_and_si512(_mm512_srli_epi16::<8>(bytes), mask),
            _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), mask),
            _mm512_srli_epi16::<12>(bytes),
        ]
    }
}

/// For each lane of 16 bits the scale at index `first + lanes[lane]`.
///
/// # Safety
/// Needs AVX-512BW.
#[inline(always)]
unsafe fn spread(scales: __m512i, lanes: __m512i, first: usize) -> __m512i {
    // SAFETY: the caller has the instructions.
    unsafe {
        let at = _mm512_add_epi16(lanes, _mm512_set1_epi16(first as i16));
        _mm512_permutexvar_epi16(at, scales)
    }
}

/// 4-bit blocks, with VNNI or without.
pub(in crate::linear) struct Q4K<const VNNI: bool>;

impl<const VNNI: bool> Unit<Avx512> for Q4K<VNNI> {
    const LEN: usize = LEN;
    const BYTES: usize = 144;
    const WORDS: usize = WORDS;
    const SHARED: bool = true;

    #[inline(always)]
    unsafe fn add<const M: usize>(
        sums: &mut [__m512; M],
        w: *const u8,
        x: *const f32,
        stride: usize,
    ) {
        // SAFETY: the caller has the instructions, a block, and the activations.
        unsafe {
            let [scales, minima] = stored::Q4K::six_bits(w);
            let scales = _mm_cvtepu8_epi16(_mm_cvtsi64_si128(scales.cast_signed()));
            let scales = _mm512_castsi128_si512(scales);
            // 32 bytes have a scale for their low halves and one for the high ones.
            let lanes = _mm512_inserti64x4::<1>(_mm512_setzero_si512(), _mm256_set1_epi16(2));
            let mut weights = [_mm512_setzero_si512(); LEN / 32];
            for half in 0..2 {
                for (part, q) in nibbles(w.add(16 + 64 * half)).into_iter().enumerate() {
                    let scale = spread(scales, lanes, 4 * half + part / 2);
                    weights[4 * half + part] = _mm512_mullo_epi16(q, scale);
                }
            }
            let unit = _mm_cvtph_ps(_mm_castps_si128(_mm_load_ss(w.cast())));
            let minima = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(minima.cast_signed()));
            let minima = _mm256_mul_ps(
                _mm256_cvtepi32_ps(minima),
                _mm256_broadcastss_ps(_mm_movehdup_ps(unit)),
            );
            let minima = _mm512_zextps256_ps512(minima);
            for (i, sum) in sums.iter_mut().enumerate() {
                let factors = _mm256_loadu_ps(x.add(i * stride + FACTORS));
                *sum = _mm512_fmadd_ps(minima, _mm512_zextps256_ps512(factors), *sum);
            }
            add::<VNNI, M>(sums, &weights, _mm512_broadcastss_ps(unit), x, stride);
        }
    }
}

/// 6-bit blocks, with VNNI or without.
pub(in crate::linear) struct Q6K<const VNNI: bool>;

impl<const VNNI: bool> Unit<Avx512> for Q6K<VNNI> {
    const LEN: usize = LEN;
    const BYTES: usize = 210;
    const WORDS: usize = WORDS;
    const SHARED: bool = true;

    #[inline(always)]
    unsafe fn add<const M: usize>(
        sums: &mut [__m512; M],
        w: *const u8,
        x: *const f32,
        stride: usize,
    ) {
        // SAFETY: the caller has the instructions, a block, and the activations.
        unsafe {
            let d = _mm512_cvtph_ps(_mm256_set1_epi16(w.add(208).cast::<i16>().read_unaligned()));
            let scales = _mm256_cvtepi8_epi16(_mm_loadu_si128(w.add(192).cast()));
            let scales = _mm512_castsi256_si512(scales);
            // 16 bytes have a scale for their low halves and one for the high ones.
            let lanes =
                _mm512_set_epi64(3 * EVERY, 3 * EVERY, 2 * EVERY, 2 * EVERY, EVERY, EVERY, 0, 0);
            let mut weights = [_mm512_setzero_si512(); LEN / 32];
            for half in 0..2 {
                // Bits 0, 1, 4 and 5 of each byte: the second 32 bytes take the other four.
                let shifts = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2);
                let top = _mm256_loadu_si256(w.add(128 + 32 * half).cast());
                let top = _mm512_srlv_epi32(_mm512_broadcast_i64x4(top), shifts);
                let tops = [
                    _mm512_slli_epi16::<4>(top),
                    _mm512_srli_epi16::<4>(top),
                    top,
                    _mm512_srli_epi16::<8>(top),
                ];
                let low = nibbles(w.add(64 * half));
                for (part, (low, top)) in low.into_iter().zip(tops).enumerate() {
                    let top = _mm512_and_si512(top, _mm512_set1_epi16(0x30));
                    let q = _mm512_sub_epi16(_mm512_or_si512(low, top), _mm512_set1_epi16(32));
                    let scale = spread(scales, lanes, 8 * half + 4 * (part / 2));
                    weights[4 * half + part] = _mm512_mullo_epi16(q, scale);
                }
            }
            add::<VNNI, M>(sums, &weights, d, x, stride);
        }
    }
}

/// A one in each of four lanes of 16 bits.
const EVERY: i64 = 0x0001_0001_0001_0001;
