//! A thin vector type per instruction set, and the one place that enables instructions.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod math;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::{Avx512, DotBf16};
pub(crate) use math::{exp_nonpositive, gelu_erf, sigmoid};
pub(crate) use portable::Portable;

use crate::isa::Isa;

/// Lanes of the widest vector.
pub(crate) const WIDEST: usize = 16;

/// Vectors of `LANES` f32.
///
/// # Safety
/// Every function needs a machine with the implementor's instructions, and is meant to be inlined
/// into a function that enables them ([`run`]). `load` and `store` need `LANES` readable or writable
/// elements at `p`, of any alignment.
pub(crate) trait Simd: Copy {
    type V: Copy;
    /// `LANES` integers of 32 bits.
    type I: Copy;
    /// Sixteen evenly spaced numbers.
    type Levels: Copy;
    /// A narrower vector of the same machine, for tiles of few columns.
    type Narrow: Simd;
    const LANES: usize;
    /// Rows of a register tile two vectors wide: as many as the registers hold.
    const ROWS: usize;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, fused where the instruction set can.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger number; `b` where either is NaN.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn abs(a: Self::V) -> Self::V;
    /// `negative` where the sign bit of `x` is set, else `other`.
    unsafe fn by_sign(x: Self::V, negative: Self::V, other: Self::V) -> Self::V;
    /// `2^n`, given `n + 1.5 * 2^23` for an integer `n` in `-126..=127`.
    unsafe fn pow2(shifted: Self::V) -> Self::V;
    /// The sum of the lanes.
    unsafe fn sum(v: Self::V) -> f32;
    /// The largest lane.
    unsafe fn largest(v: Self::V) -> f32;

    /// `LANES` bf16, widened exactly.
    unsafe fn bf16(p: *const u8) -> Self::V;
    /// `LANES` f16, widened exactly.
    unsafe fn f16(p: *const u8) -> Self::V;
    /// `LANES` signed bytes, converted.
    unsafe fn i8(p: *const u8) -> Self::V;
    /// `LANES` bytes.
    unsafe fn u8(p: *const u8) -> Self::I;
    /// `a >> N`.
    unsafe fn shr<const N: u32>(a: Self::I) -> Self::I;
    /// The low four bits of `low` and above them the low two of `high`, converted.
    unsafe fn pick(low: Self::I, high: Self::I) -> Self::V;
    /// `low + i * scale` for `i` in `0..16`, each rounded once where the instruction set can.
    unsafe fn levels(scale: f32, low: f32) -> Self::Levels;
    /// The levels of the low four bits of `index`.
    unsafe fn level(levels: Self::Levels, index: Self::I) -> Self::V;
    /// The f16 at `p`, in every lane.
    unsafe fn half(p: *const u8) -> Self::V;
    /// The first lane.
    unsafe fn first(v: Self::V) -> f32;
    /// A hint that the line at `p`, which need not be valid, is read next.
    unsafe fn prefetch_l1(p: *const u8);
    /// A hint that the line at `p`, which need not be valid, is read soon.
    unsafe fn prefetch_l2(p: *const u8);
    /// `LANES` bf16, rounded to nearest even.
    unsafe fn store_bf16(p: *mut u8, v: Self::V);
    /// `LANES` rows of `LANES` 32-bit words, `stride` bytes apart, to columns `to_stride` apart.
    unsafe fn transpose(from: *const u8, stride: usize, to: *mut f32, to_stride: usize);
}

/// Work that is written once for every instruction set.
pub(crate) trait Kernel {
    /// # Safety
    /// As of [`Simd`], and what the kernel itself asks of its pointers.
    unsafe fn run<S: Simd>(self);
}

/// Runs `kernel` with the instructions of `isa`.
///
/// # Safety
/// The machine must have `isa`, and the kernel's own pointers must be valid.
#[inline]
pub(crate) unsafe fn run<K: Kernel>(isa: Isa, kernel: K) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
        unsafe fn avx512<K: Kernel>(kernel: K) {
            // SAFETY: the caller has the instructions and vouches for the pointers.
            unsafe { kernel.run::<Avx512>() }
        }
        #[target_feature(enable = "avx2,fma,f16c")]
        unsafe fn avx2<K: Kernel>(kernel: K) {
            // SAFETY: the caller has the instructions and vouches for the pointers.
            unsafe { kernel.run::<Avx2>() }
        }
        // SAFETY: the caller guarantees that the machine has `isa`.
        unsafe {
            match isa {
                Isa::Avx512 | Isa::Avx512Vnni | Isa::Avx512Bf16 | Isa::AmxBf16 => {
                    return avx512(kernel);
                }
                Isa::Avx2 | Isa::AvxVnni => return avx2(kernel),
                Isa::Portable => {}
            }
        }
    }
    let _ = isa;
    // SAFETY: plain Rust runs anywhere; the caller vouches for the pointers.
    unsafe { kernel.run::<Portable>() }
}

/// Rows of a register tile of `isa`.
pub(crate) fn tile_rows(isa: Isa) -> usize {
    #[cfg(target_arch = "x86_64")]
    match isa {
        Isa::Avx512 | Isa::Avx512Vnni | Isa::Avx512Bf16 | Isa::AmxBf16 => return Avx512::ROWS,
        Isa::Avx2 | Isa::AvxVnni => return Avx2::ROWS,
        Isa::Portable => {}
    }
    let _ = isa;
    Portable::ROWS
}
