//! Vectors in plain Rust: four lanes, which SSE2 and NEON hold in one register.

use half::{bf16, f16};

use super::Simd;

#[derive(Clone, Copy)]
pub(crate) struct Portable;

#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub(crate) struct F32x4([f32; 4]);

#[inline(always)]
fn map(a: F32x4, f: impl Fn(f32) -> f32) -> F32x4 {
    let a = a.0;
    F32x4([f(a[0]), f(a[1]), f(a[2]), f(a[3])])
}

#[inline(always)]
fn zip(a: F32x4, b: F32x4, f: impl Fn(f32, f32) -> f32) -> F32x4 {
    let (a, b) = (a.0, b.0);
    F32x4([f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])])
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
        let (a, b, c) = (a.0, b.0, c.0);
        F32x4([
            fused(a[0], b[0], c[0]),
            fused(a[1], b[1], c[1]),
            fused(a[2], b[2], c[2]),
            fused(a[3], b[3], c[3]),
        ])
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
        let pick = |i: usize| if x.0[i].is_sign_negative() { n[i] } else { o[i] };
        F32x4([pick(0), pick(1), pick(2), pick(3)])
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
        F32x4(bits.map(|bits| f32::from_bits(u32::from(bits) << 16)))
    }
    #[inline(always)]
    unsafe fn f16(p: *const u8) -> F32x4 {
        // SAFETY: the caller has eight readable bytes at `p`.
        let bits = unsafe { p.cast::<[u16; 4]>().read_unaligned() };
        F32x4(bits.map(|bits| f16::from_bits(bits).to_f32()))
    }
    #[inline(always)]
    unsafe fn i8(p: *const u8) -> F32x4 {
        // SAFETY: the caller has four readable bytes at `p`.
        F32x4(unsafe { p.cast::<[i8; 4]>().read() }.map(f32::from))
    }
    #[inline(always)]
    unsafe fn u8(p: *const u8) -> [u32; 4] {
        // SAFETY: the caller has four readable bytes at `p`.
        unsafe { p.cast::<[u8; 4]>().read() }.map(u32::from)
    }
    #[inline(always)]
    unsafe fn shr<const N: u32>(a: [u32; 4]) -> [u32; 4] {
        a.map(|a| a >> N)
    }
    #[inline(always)]
    unsafe fn pick(low: [u32; 4], high: [u32; 4]) -> F32x4 {
        let pick = |i: usize| (low[i] & 15 | (high[i] & 3) << 4) as f32;
        F32x4([pick(0), pick(1), pick(2), pick(3)])
    }
    #[inline(always)]
    unsafe fn levels(scale: f32, low: f32) -> [f32; 2] {
        [scale, low]
    }
    #[inline(always)]
    unsafe fn level([scale, low]: [f32; 2], index: [u32; 4]) -> F32x4 {
        F32x4(index.map(|index| fused((index & 15) as f32, scale, low)))
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
        let bits = v.0.map(|x| bf16::from_f32(x).to_bits());
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
