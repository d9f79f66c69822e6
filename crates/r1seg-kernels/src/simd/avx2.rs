//! Vectors of x86-64 with AVX2, FMA and F16C.

use std::arch::x86_64::*;

use super::Simd;

/// Eight lanes.
#[derive(Clone, Copy)]
pub(crate) struct Avx2;

impl Simd for Avx2 {
    type V = __m256;
    type I = __m256i;
    type Levels = [__m256; 2];
    type Narrow = Self;
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

    #[inline(always)]
    unsafe fn bf16(p: *const u8) -> __m256 {
        // SAFETY: the contract gives the instructions and the bytes; no alignment needed.
        unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn f16(p: *const u8) -> __m256 {
        // SAFETY: the contract gives the instructions and the bytes; no alignment needed.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) }
    }
    #[inline(always)]
    unsafe fn i8(p: *const u8) -> __m256 {
        // SAFETY: the contract gives the instructions and the bytes; no alignment needed.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn u8(p: *const u8) -> __m256i {
        // SAFETY: the contract gives the instructions and the bytes; no alignment needed.
        unsafe { _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast())) }
    }
    #[inline(always)]
    unsafe fn shr<const N: u32>(a: __m256i) -> __m256i {
        // SAFETY: the contract gives the instructions.
        unsafe { _mm256_srl_epi32(a, _mm_cvtsi32_si128(N as i32)) }
    }
    #[inline(always)]
    unsafe fn pick(low: __m256i, high: __m256i) -> __m256 {
        // SAFETY: the contract gives the instructions.
        unsafe {
            let low = _mm256_and_si256(low, _mm256_set1_epi32(15));
            let high = _mm256_and_si256(_mm256_slli_epi32::<4>(high), _mm256_set1_epi32(0x30));
            _mm256_cvtepi32_ps(_mm256_or_si256(low, high))
        }
    }
    #[inline(always)]
    unsafe fn levels(scale: f32, low: f32) -> [__m256; 2] {
        // SAFETY: the contract gives the instructions.
        unsafe { [_mm256_set1_ps(scale), _mm256_set1_ps(low)] }
    }
    #[inline(always)]
    unsafe fn level([scale, low]: [__m256; 2], index: __m256i) -> __m256 {
        // SAFETY: the contract gives the instructions.
        unsafe {
            let index = _mm256_and_si256(index, _mm256_set1_epi32(15));
            _mm256_fmadd_ps(_mm256_cvtepi32_ps(index), scale, low)
        }
    }
    #[inline(always)]
    unsafe fn half(p: *const u8) -> __m256 {
        // SAFETY: the contract gives the instructions and the two bytes.
        unsafe { _mm256_cvtph_ps(_mm_set1_epi16(p.cast::<i16>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn first(v: __m256) -> f32 {
        // SAFETY: the contract gives the instructions.
        unsafe { _mm256_cvtss_f32(v) }
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
    unsafe fn store_bf16(p: *mut u8, v: __m256) {
        // SAFETY: the contract gives the instructions and the bytes; no alignment needed.
        unsafe {
            let bits = _mm256_castps_si256(v);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let up = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
            let rounded = _mm256_srli_epi32::<16>(_mm256_add_epi32(bits, up));
            let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
            let rounded = _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc0), nan);
            let halves = _mm256_permute4x64_epi64::<8>(_mm256_packus_epi32(rounded, rounded));
            _mm_storeu_si128(p.cast(), _mm256_castsi256_si128(halves));
        }
    }
    #[inline(always)]
    unsafe fn transpose(from: *const u8, stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: the contract gives the instructions and both blocks.
        unsafe {
            let r: [__m256; 8] = std::array::from_fn(|i| Self::load(from.add(i * stride).cast()));
            // Pairs, quads and halves of rows change places.
            let mut t = r;
            for i in 0..4 {
                t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
                t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
            }
            let quad = |a: usize, b: usize, high: bool| {
                if high {
                    _mm256_shuffle_ps::<0xee>(t[a], t[b])
                } else {
                    _mm256_shuffle_ps::<0x44>(t[a], t[b])
                }
            };
            let top = [quad(0, 2, false), quad(0, 2, true), quad(1, 3, false), quad(1, 3, true)];
            let bottom = [quad(4, 6, false), quad(4, 6, true), quad(5, 7, false), quad(5, 7, true)];
            for i in 0..4 {
                let low = _mm256_permute2f128_ps::<0x20>(top[i], bottom[i]);
                let high = _mm256_permute2f128_ps::<0x31>(top[i], bottom[i]);
                Self::store(to.add(i * to_stride), low);
                Self::store(to.add((i + 4) * to_stride), high);
            }
        }
    }
}
