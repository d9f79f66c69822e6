//! Vectors of x86-64 with AVX-512F.

use std::arch::x86_64::*;

use super::Simd;

/// Sixteen lanes.
#[derive(Clone, Copy)]
pub(crate) struct Avx512;

impl Simd for Avx512 {
    type V = __m512;
    type I = __m512i;
    type Levels = __m512;
    type Narrow = super::Avx2;
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

    #[inline(always)]
    unsafe fn bf16(p: *const u8) -> __m512 {
        // SAFETY: the contract gives the instructions and the bytes; no alignment needed.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn f16(p: *const u8) -> __m512 {
        // SAFETY: the contract gives the instructions and the bytes; no alignment needed.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
    }
    #[inline(always)]
    unsafe fn i8(p: *const u8) -> __m512 {
        // SAFETY: the contract gives the instructions and the bytes; no alignment needed.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn u8(p: *const u8) -> __m512i {
        // SAFETY: the contract gives the instructions and the bytes; no alignment needed.
        unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast())) }
    }
    #[inline(always)]
    unsafe fn shr<const N: u32>(a: __m512i) -> __m512i {
        // SAFETY: the contract gives the instructions.
        unsafe { _mm512_srli_epi32::<N>(a) }
    }
    #[inline(always)]
    unsafe fn pick(low: __m512i, high: __m512i) -> __m512 {
        // SAFETY: the contract gives the instructions.
        unsafe {
            let low = _mm512_and_si512(low, _mm512_set1_epi32(15));
            let high = _mm512_and_si512(_mm512_slli_epi32::<4>(high), _mm512_set1_epi32(0x30));
            _mm512_cvtepi32_ps(_mm512_or_si512(low, high))
        }
    }
    #[inline(always)]
    unsafe fn levels(scale: f32, low: f32) -> __m512 {
        // SAFETY: the contract gives the instructions.
        unsafe {
            let index = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let index = _mm512_cvtepi32_ps(index);
            _mm512_fmadd_ps(index, _mm512_set1_ps(scale), _mm512_set1_ps(low))
        }
    }
    #[inline(always)]
    unsafe fn level(levels: __m512, index: __m512i) -> __m512 {
        // SAFETY: the contract gives the instructions.
        unsafe { _mm512_permutexvar_ps(index, levels) }
    }
    #[inline(always)]
    unsafe fn half(p: *const u8) -> __m512 {
        // SAFETY: the contract gives the instructions and the two bytes.
        unsafe { _mm512_cvtph_ps(_mm256_set1_epi16(p.cast::<i16>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn first(v: __m512) -> f32 {
        // SAFETY: the contract gives the instructions.
        unsafe { _mm512_cvtss_f32(v) }
    }
    #[inline(always)]
    unsafe fn prefetch_l1(p: *const u8) {
        // SAFETY: a hint, which never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn prefetch_l2(p: *const u8) {
        // SAFETY: a hint, which never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u8, v: __m512) {
        // SAFETY: the contract gives the instructions and the bytes; no alignment needed.
        unsafe {
            let bits = _mm512_castps_si512(v);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let up = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
            let rounded = _mm512_srli_epi32::<16>(_mm512_add_epi32(bits, up));
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
            let rounded = _mm512_mask_set1_epi32(rounded, nan, 0x7fc0);
            _mm256_storeu_si256(p.cast(), _mm512_cvtepi32_epi16(rounded));
        }
    }
    #[inline(always)]
    unsafe fn transpose(from: *const u8, stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: the contract gives the instructions and both blocks.
        unsafe {
            // Not a closure, which would not be compiled for these instructions.
            let mut r = [_mm512_setzero_ps(); 16];
            for (i, r) in r.iter_mut().enumerate() {
                *r = Self::load(from.add(i * stride).cast());
            }
            let mut t = r;
            for i in 0..8 {
                t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
                t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
            }
            // `r[4 * q + c]`: column `c` of each 4x4 block in the rows of quad `q`.
            for q in 0..4 {
                r[4 * q] = _mm512_shuffle_ps::<0x44>(t[4 * q], t[4 * q + 2]);
                r[4 * q + 1] = _mm512_shuffle_ps::<0xee>(t[4 * q], t[4 * q + 2]);
                r[4 * q + 2] = _mm512_shuffle_ps::<0x44>(t[4 * q + 1], t[4 * q + 3]);
                r[4 * q + 3] = _mm512_shuffle_ps::<0xee>(t[4 * q + 1], t[4 * q + 3]);
            }
            // The 4x4 grid of 128-bit blocks is transposed in two steps.
            for c in 0..4 {
                let (a, b, d, e) = (r[c], r[4 + c], r[8 + c], r[12 + c]);
                let (ab, de) =
                    (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0x88>(d, e));
                Self::store(to.add(c * to_stride), _mm512_shuffle_f32x4::<0x88>(ab, de));
                Self::store(to.add((8 + c) * to_stride), _mm512_shuffle_f32x4::<0xdd>(ab, de));
                let (ab, de) =
                    (_mm512_shuffle_f32x4::<0xdd>(a, b), _mm512_shuffle_f32x4::<0xdd>(d, e));
                Self::store(to.add((4 + c) * to_stride), _mm512_shuffle_f32x4::<0x88>(ab, de));
                Self::store(to.add((12 + c) * to_stride), _mm512_shuffle_f32x4::<0xdd>(ab, de));
            }
        }
    }
}

/// Vectors that the bf16 dot product exists for.
pub(crate) trait DotBf16: Simd {
    /// `sum + a_low * b_low + a_high * b_high` per lane, over words of two bf16. Denormal inputs and
    /// results count as zero.
    ///
    /// # Safety
    /// Needs AVX512-BF16, and AVX-512VL where vectors are short.
    unsafe fn dot_bf16(a: Self::V, b: Self::V, sum: Self::V) -> Self::V;
}

impl DotBf16 for Avx512 {
    #[inline(always)]
    unsafe fn dot_bf16(a: __m512, b: __m512, sum: __m512) -> __m512 {
        // SAFETY: the two types are 64 bytes of plain bits.
        unsafe {
            let a = std::mem::transmute::<__m512, __m512bh>(a);
            let b = std::mem::transmute::<__m512, __m512bh>(b);
            _mm512_dpbf16_ps(sum, a, b)
        }
    }
}

impl DotBf16 for super::Avx2 {
    #[inline(always)]
    unsafe fn dot_bf16(a: __m256, b: __m256, sum: __m256) -> __m256 {
        // SAFETY: the two types are 32 bytes of plain bits.
        unsafe {
            let a = std::mem::transmute::<__m256, __m256bh>(a);
            let b = std::mem::transmute::<__m256, __m256bh>(b);
            _mm256_dpbf16_ps(sum, a, b)
        }
    }
}
