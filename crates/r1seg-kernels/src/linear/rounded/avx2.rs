//! The products of a block in integers, eight lanes at a time.

use std::arch::asm;
use std::arch::x86_64::*;

use super::{FACTORS, LEN, SCALES, SHORT_WORDS, WORDS};
use crate::linear::few::Unit;
use crate::simd::Avx2;

/// Adds the products of 16 weights, two to a sum.
///
/// # Safety
/// Needs AVX2, and AVX-VNNI where it is asked for.
#[inline(always)]
pub(in crate::linear) unsafe fn dot<const VNNI: bool>(
    sums: __m256i,
    weights: __m256i,
    x: __m256i,
) -> __m256i {
    // SAFETY: the caller has the instructions.
    unsafe {
        if VNNI {
            fused(sums, weights, x)
        } else {
            _mm256_add_epi32(sums, _mm256_madd_epi16(weights, x))
        }
    }
}

/// In one instruction, which the compiler would split in two to wait less: here rows do not wait for each other, and
/// the number of instructions counts.
///
/// # Safety
/// Needs AVX-VNNI.
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
unsafe fn fused(mut sums: __m256i, weights: __m256i, x: __m256i) -> __m256i {
    // SAFETY: the caller has the instructions; nothing else is touched.
    unsafe {
        asm!(
            "{{vex}} vpdpwssd {0}, {1}, {2}",
            inlateout(ymm_reg) sums,
            in(ymm_reg) weights,
            in(ymm_reg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// Adds to each row's sums the products of 16 weights each with the activations at `x`, which are `step` words apart,
/// and those of the next row `stride`.
///
/// # Safety
/// Needs AVX2, and AVX-VNNI where it is asked for; the activations must be there.
#[inline(always)]
unsafe fn add<const VNNI: bool, const M: usize, const N: usize>(
    sums: &mut [[__m256i; 2]; M],
    weights: [__m256i; N],
    x: *const f32,
    step: usize,
    stride: usize,
) {
    // Two chains for one row, which has nothing else to do while a product is on its way.
    let chains = if M == 1 { 2 } else { 1 };
    for (v, weights) in weights.into_iter().enumerate() {
        for (i, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                let x = _mm256_loadu_si256(x.add(i * stride + step * v).cast());
                sums[v % chains] = dot::<VNNI>(sums[v % chains], weights, x);
            }
        }
    }
}

/// The sums of a row, converted.
///
/// # Safety
/// Needs AVX2.
#[inline(always)]
unsafe fn converted([first, second]: [__m256i; 2]) -> __m256 {
    // SAFETY: the caller has the instructions.
    unsafe { _mm256_cvtepi32_ps(_mm256_add_epi32(first, second)) }
}

/// 32 bytes as 16-bit words: the low halves of even bytes, of odd ones, and the high halves of both.
///
/// # Safety
/// Needs AVX2, and the bytes.
#[inline(always)]
unsafe fn nibbles(p: *const u8) -> [__m256i; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        let (bytes, mask) = (_mm256_loadu_si256(p.cast()), _mm256_set1_epi16(15));
        [
            _mm256_and_si256(bytes, mask),
            _mm256_and_si256(_mm256_srli_epi16::<8>(bytes), mask),
            _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), mask),
            _mm256_srli_epi16::<12>(bytes),
        ]
    }
}

/// One of some bytes, which both halves have, as a number of 16 bits in every lane.
///
/// # Safety
/// Needs AVX2.
#[inline(always)]
unsafe fn spread(bytes: __m256i, at: usize) -> __m256i {
    // The high byte of an index sets that of a number to zero.
    // SAFETY: the caller has the instructions.
    unsafe { _mm256_shuffle_epi8(bytes, _mm256_set1_epi16((0x8000 + at) as i16)) }
}

/// Of eight numbers of 16 bits, which both halves have, number `at` in every lane of the lower half, and number
/// `at + 1` in the upper.
///
/// # Safety
/// Needs AVX2.
#[inline(always)]
unsafe fn spread_two(numbers: __m256i, at: usize) -> __m256i {
    let both = |at: usize| (0x0100 + 0x0202 * at) as i16;
    // SAFETY: the caller has the instructions.
    unsafe {
        let lanes = _mm256_set_m128i(_mm_set1_epi16(both(at + 1)), _mm_set1_epi16(both(at)));
        _mm256_shuffle_epi8(numbers, lanes)
    }
}

/// The eight scales of a 4-bit block, in the first bytes of both halves, and its eight minima.
///
/// # Safety
/// Needs AVX2, and the block.
#[inline(always)]
unsafe fn six_bits(w: *const u8) -> (__m256i, __m256i) {
    // SAFETY: the caller's promise. Behind the two factors, four bytes at a time: the low four scales, the low four
    // minima, and the rest of both.
    unsafe {
        let words = _mm_loadu_si128(w.cast());
        // Words 1, 3, 2 and 3, and the top bits of 1 and 2 where those of 3 are.
        let low =
            _mm_srlv_epi32(_mm_shuffle_epi32::<0b11_10_11_01>(words), _mm_setr_epi32(0, 0, 0, 4));
        let (six, four, top) = (0x3f3f_3f3f, 0x0f0f_0f0f, 0x3030_3030);
        let low = _mm_and_si128(low, _mm_setr_epi32(six, four, six, four));
        let high = _mm_srli_epi32::<2>(_mm_shuffle_epi32::<0b10_00_01_00>(words));
        let high = _mm_and_si128(high, _mm_setr_epi32(0, top, 0, top));
        let bytes = _mm_or_si128(low, high);
        (_mm256_broadcastsi128_si256(bytes), _mm256_cvtepu8_epi32(_mm_unpackhi_epi64(bytes, bytes)))
    }
}

/// Adds the products of 64 weights of a row with the high bytes of activations and with their low bytes, to a sum each.
///
/// # Safety
/// Needs AVX2, and AVX-VNNI where it is asked for; there must be 32 bytes of weights, and twice as many of activations.
#[inline(always)]
unsafe fn in_bytes<const VNNI: bool>(
    sums: &mut [__m256i; 2],
    weights: *const u8,
    scales: __m256i,
    quarter: usize,
    x: *const f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let (bytes, mask) = (_mm256_loadu_si256(weights.cast()), _mm256_set1_epi8(15));
        let low = _mm256_and_si256(bytes, mask);
        let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), mask);
        for (part, q) in [low, high].into_iter().enumerate() {
            let scale = spread(scales, 2 * quarter + part);
            for (byte, sum) in sums.iter_mut().enumerate() {
                let x = _mm256_loadu_si256(x.add(16 * part + 8 * byte).cast());
                *sum = dot::<VNNI>(*sum, _mm256_maddubs_epi16(q, x), scale);
            }
        }
    }
}

/// 4-bit blocks, with AVX-VNNI or without.
pub(in crate::linear) struct Q4K<const VNNI: bool>;

impl<const VNNI: bool> Unit<Avx2> for Q4K<VNNI> {
    const LEN: usize = LEN;
    const BYTES: usize = 144;
    const WORDS: usize = WORDS;
    const SHARED: bool = true;

    #[inline(always)]
    unsafe fn add<const M: usize>(
        sums: &mut [__m256; M],
        w: *const u8,
        x: *const f32,
        stride: usize,
    ) {
        // SAFETY: the caller has the instructions, a block, and the activations.
        unsafe {
            let (scales, minima) = six_bits(w);
            let mut block = [[_mm256_setzero_si256(); 2]; M];
            for quarter in 0..4 {
                let bytes = w.add(16 + 32 * quarter);
                // As `super::in_bytes` tells those who round.
                if M == 1 {
                    let x = x.add(quarter * (LEN / 8));
                    in_bytes::<VNNI>(&mut block[0], bytes, scales, quarter, x);
                } else {
                    let x = x.add(quarter / 2 * (LEN / 4) + quarter % 2 * 8);
                    let mut weights = nibbles(bytes);
                    for (part, q) in weights.iter_mut().enumerate() {
                        *q = _mm256_mullo_epi16(*q, spread(scales, 2 * quarter + part / 2));
                    }
                    add::<VNNI, M, 4>(&mut block, weights, x, 16, stride);
                }
            }
            if M == 1 {
                // High bytes of activations and low ones have a sum each.
                block[0][0] = _mm256_slli_epi32::<8>(block[0][0]);
            }
            let unit = _mm_cvtph_ps(_mm_castps_si128(_mm_load_ss(w.cast())));
            let d = _mm256_broadcastss_ps(unit);
            let minima = _mm256_mul_ps(
                _mm256_cvtepi32_ps(minima),
                _mm256_broadcastss_ps(_mm_movehdup_ps(unit)),
            );
            for (i, (sum, block)) in sums.iter_mut().zip(block).enumerate() {
                let x = x.add(i * stride);
                *sum = _mm256_fmadd_ps(minima, _mm256_loadu_ps(x.add(FACTORS)), *sum);
                let scale = _mm256_mul_ps(d, _mm256_loadu_ps(x.add(SCALES)));
                *sum = _mm256_fmadd_ps(converted(block), scale, *sum);
            }
        }
    }
}

/// 6-bit blocks, with AVX-VNNI or without.
pub(in crate::linear) struct Q6K<const VNNI: bool>;

impl<const VNNI: bool> Unit<Avx2> for Q6K<VNNI> {
    const LEN: usize = LEN;
    const BYTES: usize = 210;
    const WORDS: usize = WORDS;
    const SHARED: bool = true;

    #[inline(always)]
    unsafe fn add<const M: usize>(
        sums: &mut [__m256; M],
        w: *const u8,
        x: *const f32,
        stride: usize,
    ) {
        // SAFETY: the caller has the instructions, a block, and the activations.
        unsafe {
            let d = _mm256_cvtph_ps(_mm_set1_epi16(w.add(208).cast::<i16>().read_unaligned()));
            let mut blocks = [_mm256_setzero_ps(); M];
            // The products of a half are as many as 32 bits hold the sums of.
            for half in 0..2 {
                let scales = _mm_cvtepi8_epi16(_mm_loadl_epi64(w.add(192 + 8 * half).cast()));
                let scales = _mm256_broadcastsi128_si256(scales);
                let mut sums = [[_mm256_setzero_si256(); 2]; M];
                let top = _mm256_loadu_si256(w.add(128 + 32 * half).cast());
                // Bits 0, 1, 4 and 5 of each byte: the second 32 bytes take the other four.
                for (second, top) in [top, _mm256_srli_epi16::<2>(top)].into_iter().enumerate() {
                    let tops = [
                        _mm256_slli_epi16::<4>(top),
                        _mm256_srli_epi16::<4>(top),
                        top,
                        _mm256_srli_epi16::<8>(top),
                    ];
                    let mut weights = nibbles(w.add(64 * half + 32 * second));
                    for (part, (q, top)) in weights.iter_mut().zip(tops).enumerate() {
                        let top = _mm256_and_si256(top, _mm256_set1_epi16(0x30));
                        let all = _mm256_or_si256(*q, top);
                        // 16 bytes have a scale for their low halves and one for the high ones.
                        let scales = spread_two(scales, 4 * (part / 2) + 2 * second);
                        let centered = _mm256_sub_epi16(all, _mm256_set1_epi16(32));
                        *q = _mm256_mullo_epi16(centered, scales);
                    }
                    let x = x.add(half * (LEN / 4) + second * 8);
                    add::<VNNI, M, 4>(&mut sums, weights, x, 16, stride);
                }
                for (block, sums) in blocks.iter_mut().zip(sums) {
                    *block = _mm256_add_ps(*block, converted(sums));
                }
            }
            for (i, (sum, block)) in sums.iter_mut().zip(blocks).enumerate() {
                let scale = _mm256_mul_ps(d, _mm256_loadu_ps(x.add(i * stride + SCALES)));
                *sum = _mm256_fmadd_ps(block, scale, *sum);
            }
        }
    }
}

/// 8-bit blocks, with AVX-VNNI or without.
pub(in crate::linear) struct Q8_0<const VNNI: bool>;

impl<const VNNI: bool> Unit<Avx2> for Q8_0<VNNI> {
    const LEN: usize = 32;
    const BYTES: usize = 34;
    const WORDS: usize = SHORT_WORDS;
    const SHARED: bool = true;

    #[inline(always)]
    unsafe fn add<const M: usize>(
        sums: &mut [__m256; M],
        w: *const u8,
        x: *const f32,
        stride: usize,
    ) {
        // SAFETY: the caller has the instructions, a block, and the activations.
        unsafe {
            let d = _mm256_cvtph_ps(_mm_set1_epi16(w.cast::<i16>().read_unaligned()));
            let first = _mm256_cvtepi8_epi16(_mm_loadu_si128(w.add(2).cast()));
            let second = _mm256_cvtepi8_epi16(_mm_loadu_si128(w.add(18).cast()));
            let mut block = [[_mm256_setzero_si256(); 2]; M];
            add::<VNNI, M, 2>(&mut block, [first, second], x, 8, stride);
            for (i, (sum, block)) in sums.iter_mut().zip(block).enumerate() {
                let scale = _mm256_mul_ps(d, _mm256_loadu_ps(x.add(i * stride + 16)));
                *sum = _mm256_fmadd_ps(converted(block), scale, *sum);
            }
        }
    }
}
