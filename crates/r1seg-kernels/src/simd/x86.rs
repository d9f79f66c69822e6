//! Vectors of x86-64: AVX2 with FMA, and AVX-512F.

use std::arch::x86_64::*;

use super::Simd;

/// Eight lanes.
#[derive(Clone, Copy)]
pub(crate) struct Avx2;

/// Sixteen lanes.
#[derive(Clone, Copy)]
pub(crate) struct Avx512;

impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    // 12 sums, 2 weights and 1 activation in 16 registers.
    const ROWS: usize = 6;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m256 {
        // SAFETY: the contract gives the instructions.
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m256 {
        // SAFETY: the contract gives the instructions and `LANES` elements; no alignment needed.
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m256) {
        // SAFETY: the contract gives the instructions and `LANES` elements; no alignment needed.
        unsafe { _mm256_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn low_bf16(p: *const f32) -> __m256 {
        // SAFETY: the contract gives the instructions and `LANES` elements; no alignment needed.
        unsafe {
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(_mm256_loadu_ps(p))))
        }
    }
    #[inline(always)]
    unsafe fn high_bf16(p: *const f32) -> __m256 {
        // SAFETY: the contract gives the instructions and `LANES` elements; no alignment needed.
        unsafe {
            let high = _mm256_castsi256_ps(_mm256_set1_epi32(0xffff_0000_u32 as i32));
            _mm256_and_ps(_mm256_loadu_ps(p), high)
        }
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the contract gives the instructions.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the contract gives the instructions.
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the contract gives the instructions.
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the contract gives the instructions.
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: the contract gives the instructions.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the contract gives the instructions.
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn abs(a: __m256) -> __m256 {
        // SAFETY: the contract gives the instructions.
        unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), a) }
    }
    #[inline(always)]
    unsafe fn by_sign(x: __m256, negative: __m256, other: __m256) -> __m256 {
        // SAFETY: the contract gives the instructions.
        unsafe { _mm256_blendv_ps(other, negative, x) }
    }
    #[inline(always)]
    unsafe fn pow2(shifted: __m256) -> __m256 {
        // SAFETY: the contract gives the instructions.
        unsafe {
            let n = _mm256_slli_epi32::<23>(_mm256_castps_si256(shifted));
            _mm256_castsi256_ps(_mm256_add_epi32(n, _mm256_set1_epi32(127 << 23)))
        }
    }
    #[inline(always)]
    unsafe fn sum(v: __m256) -> f32 {
        // SAFETY: the contract gives the instructions.
        unsafe {
            let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_add_ss(v, _mm_shuffle_ps::<1>(v, v)))
        }
    }
    #[inline(always)]
    unsafe fn largest(v: __m256) -> f32 {
        // SAFETY: the contract gives the instructions.
        unsafe {
            let v = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_max_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_max_ss(v, _mm_shuffle_ps::<1>(v, v)))
        }
    }
}

impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;
    // 24 sums, up to 4 widened weights and 1 activation in 32 registers.
    const ROWS: usize = 12;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        // SAFETY: the contract gives the instructions.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m512 {
        // SAFETY: the contract gives the instructions and `LANES` elements; no alignment needed.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m512) {
        // SAFETY: the contract gives the instructions and `LANES` elements; no alignment needed.
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn low_bf16(p: *const f32) -> __m512 {
        // SAFETY: the contract gives the instructions and `LANES` elements; no alignment needed.
        unsafe {
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(_mm512_loadu_ps(p))))
        }
    }
    #[inline(always)]
    unsafe fn high_bf16(p: *const f32) -> __m512 {
        // SAFETY: the contract gives the instructions and `LANES` elements; no alignment needed.
        unsafe {
            let high = _mm512_set1_epi32(0xffff_0000_u32 as i32);
            _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(_mm512_loadu_ps(p)), high))
        }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the contract gives the instructions.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the contract gives the instructions.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the contract gives the instructions.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the contract gives the instructions.
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the contract gives the instructions.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the contract gives the instructions.
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn abs(a: __m512) -> __m512 {
        // SAFETY: the contract gives the instructions.
        unsafe { _mm512_abs_ps(a) }
    }
    #[inline(always)]
    unsafe fn by_sign(x: __m512, negative: __m512, other: __m512) -> __m512 {
        // SAFETY: the contract gives the instructions.
        unsafe {
            let set = _mm512_cmplt_epi32_mask(_mm512_castps_si512(x), _mm512_setzero_si512());
            _mm512_mask_blend_ps(set, other, negative)
        }
    }
    #[inline(always)]
    unsafe fn pow2(shifted: __m512) -> __m512 {
        // SAFETY: the contract gives the instructions.
        unsafe {
            let n = _mm512_slli_epi32::<23>(_mm512_castps_si512(shifted));
            _mm512_castsi512_ps(_mm512_add_epi32(n, _mm512_set1_epi32(127 << 23)))
        }
    }
    #[inline(always)]
    unsafe fn sum(v: __m512) -> f32 {
        // SAFETY: the contract gives the instructions.
        unsafe { _mm512_reduce_add_ps(v) }
    }
    #[inline(always)]
    unsafe fn largest(v: __m512) -> f32 {
        // SAFETY: the contract gives the instructions.
        unsafe { _mm512_reduce_max_ps(v) }
    }
}

/// `sum + a_low * b_low + a_high * b_high` per lane, over words of two bf16. Denormal inputs and
/// results count as zero.
///
/// # Safety
/// Needs AVX-512F and AVX512-BF16.
#[inline(always)]
pub(crate) unsafe fn dot_bf16(sum: __m512, a: __m512, b: __m512) -> __m512 {
    // SAFETY: the two types are 64 bytes of plain bits.
    unsafe {
        let [a, b] = [a, b].map(|v| std::mem::transmute::<__m512, __m512bh>(v));
        _mm512_dpbf16_ps(sum, a, b)
    }
}
