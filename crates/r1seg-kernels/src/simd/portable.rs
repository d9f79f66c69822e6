//! Vectors in plain Rust: four lanes, which SSE2 and NEON hold in one register.

use half::{bf16, f16};

use super::Simd;

#[derive(Clone, Copy)]
pub(crate) struct Portable;

#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub(crate) struct F32x4([f32; 4]);

/// Four numbers. `map` of arrays is a function of the library that is not always inlined: in these kernels it was
/// called for every four f16.
#[inline(always)]
fn lanes<T>(f: impl Fn(usize) -> T) -> [T; 4] {
    [f(0), f(1), f(2), f(3)]
}

#[inline(always)]
fn map(a: F32x4, f: impl Fn(f32) -> f32) -> F32x4 {
    F32x4(lanes(|i| f(a.0[i])))
}

#[inline(always)]
fn zip(a: F32x4, b: F32x4, f: impl Fn(f32, f32) -> f32) -> F32x4 {
    F32x4(lanes(|i| f(a.0[i], b.0[i])))
}

/// An f16 as `f16::to_f32` widens it, which asks for every number what the processor can. Without branches, so that
/// four are widened at once.
#[inline(always)]
fn widen(half: u16) -> f32 {
    /// By how much the exponents of the two formats differ.
    const REBIAS: u32 = (127 - 15) << 23;
    const EXPONENT: u32 = 0x1f << 23;
    const SMALLEST: u32 = 113 << 23;
    /// The bit of a quiet NaN.
    const QUIET: u32 = 1 << 22;
    let half = u32::from(half);
    let rest = (half & 0x7fff) << 13;
    let exponent = rest & EXPONENT;
    // Numbers below the smallest normal one are so many parts of it.
    let small = f32::from_bits(rest + SMALLEST) - f32::from_bits(SMALLEST);
    let wide = rest + if exponent == EXPONENT { 2 * REBIAS } else { REBIAS };
    let wide = wide | if rest > EXPONENT { QUIET } else { 0 };
    let bits = if exponent == 0 { small.to_bits() } else { wide };
    f32::from_bits((half & 0x8000) << 16 | bits)
}

/// Without the instruction `mul_add` is a library call, hundreds of times slower.
#[inline(always)]
fn fused(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) {
        a.mul_add(b, c)
    } else {
        a * b + c
    }
}

impl Simd for Portable {
    type V = F32x4;
    type I = [u32; 4];
    type Levels = [f32; 2];
    type Narrow = Self;
    const LANES: usize = 4;
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> F32x4 {
        F32x4([x; 4])
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> F32x4 {
        // SAFETY: the caller has four readable elements at `p`.
        F32x4(unsafe { p.cast::<[f32; 4]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: F32x4) {
        // SAFETY: the caller has four writable elements at `p`.
        unsafe { p.cast::<[f32; 4]>().write_unaligned(v.0) }
    }
    #[inline(always)]
    unsafe fn add(a: F32x4, b: F32x4) -> F32x4 {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: F32x4, b: F32x4) -> F32x4 {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: F32x4, b: F32x4) -> F32x4 {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(a: F32x4, b: F32x4) -> F32x4 {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn fma(a: F32x4, b: F32x4, c: F32x4) -> F32x4 {
        F32x4(lanes(|i| fused(a.0[i], b.0[i], c.0[i])))
    }
    #[inline(always)]
    unsafe fn max(a: F32x4, b: F32x4) -> F32x4 {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn abs(a: F32x4) -> F32x4 {
        map(a, f32::abs)
    }
    #[inline(always)]
    unsafe fn by_sign(x: F32x4, negative: F32x4, other: F32x4) -> F32x4 {
        let (n, o) = (negative.0, other.0);
        F32x4(lanes(|i| if x.0[i].is_sign_negative() { n[i] } else { o[i] }))
    }
    #[inline(always)]
    unsafe fn pow2(shifted: F32x4) -> F32x4 {
        map(shifted, |s| f32::from_bits((s.to_bits() << 23).wrapping_add(127 << 23)))
    }
    #[inline(always)]
    unsafe fn sum(v: F32x4) -> f32 {
        (v.0[0] + v.0[2]) + (v.0[1] + v.0[3])
    }
    #[inline(always)]
    unsafe fn largest(v: F32x4) -> f32 {
        v.0[0].max(v.0[2]).max(v.0[1].max(v.0[3]))
    }

    #[inline(always)]
    unsafe fn bf16(p: *const u8) -> F32x4 {
        // SAFETY: the caller has eight readable bytes at `p`.
        let bits = unsafe { p.cast::<[u16; 4]>().read_unaligned() };
        F32x4(lanes(|i| f32::from_bits(u32::from(bits[i]) << 16)))
    }
    #[inline(always)]
    unsafe fn f16(p: *const u8) -> F32x4 {
        // SAFETY: the caller has eight readable bytes at `p`.
        let bits = unsafe { p.cast::<[u16; 4]>().read_unaligned() };
        F32x4(lanes(|i| widen(bits[i])))
    }
    #[inline(always)]
    unsafe fn i8(p: *const u8) -> F32x4 {
        // SAFETY: the caller has four readable bytes at `p`.
        let bytes = unsafe { p.cast::<[i8; 4]>().read() };
        F32x4(lanes(|i| f32::from(bytes[i])))
    }
    #[inline(always)]
    unsafe fn u8(p: *const u8) -> [u32; 4] {
        // SAFETY: the caller has four readable bytes at `p`.
        let bytes = unsafe { p.cast::<[u8; 4]>().read() };
        lanes(|i| u32::from(bytes[i]))
    }
    #[inline(always)]
    unsafe fn shr<const N: u32>(a: [u32; 4]) -> [u32; 4] {
        lanes(|i| a[i] >> N)
    }
    #[inline(always)]
    unsafe fn pick(low: [u32; 4], high: [u32; 4]) -> F32x4 {
        // As signed integers, which SSE2 converts at once.
        F32x4(lanes(|i| (low[i] & 15 | (high[i] & 3) << 4) as i32 as f32))
    }
    #[inline(always)]
    unsafe fn levels(scale: f32, low: f32) -> [f32; 2] {
        [scale, low]
    }
    #[inline(always)]
    unsafe fn level([scale, low]: [f32; 2], index: [u32; 4]) -> F32x4 {
        F32x4(lanes(|i| fused((index[i] & 15) as i32 as f32, scale, low)))
    }
    #[inline(always)]
    unsafe fn half(p: *const u8) -> F32x4 {
        // SAFETY: the caller has two readable bytes at `p`.
        F32x4([f16::from_bits(unsafe { p.cast::<u16>().read_unaligned() }).to_f32(); 4])
    }
    #[inline(always)]
    unsafe fn first(v: F32x4) -> f32 {
        v.0[0]
    }
    #[inline(always)]
    unsafe fn prefetch_l1(_: *const u8) {}
    #[inline(always)]
    unsafe fn prefetch_l2(_: *const u8) {}
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u8, v: F32x4) {
        let bits = lanes(|i| bf16::from_f32(v.0[i]).to_bits());
        // SAFETY: the caller has eight writable bytes at `p`.
        unsafe { p.cast::<[u16; 4]>().write_unaligned(bits) }
    }
    #[inline(always)]
    unsafe fn transpose(from: *const u8, stride: usize, to: *mut f32, to_stride: usize) {
        for i in 0..4 {
            for j in 0..4 {
                // SAFETY: the caller has both blocks.
                unsafe {
                    let word = from.add(i * stride).cast::<f32>().add(j).read_unaligned();
                    *to.add(j * to_stride + i) = word;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::widen;

    #[test]
    fn every_f16_is_widened_as_the_library_does_it() {
        for bits in 0..=u16::MAX {
            let (own, other) = (widen(bits), f16::from_bits(bits).to_f32());
            assert_eq!(own.to_bits(), other.to_bits(), "{bits:#06x}");
        }
    }
}
