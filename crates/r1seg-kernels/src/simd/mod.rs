//! A thin vector type per instruction set, and the one place that enables instructions.

mod math;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use math::{exp_nonpositive, gelu_erf, sigmoid};
pub(crate) use portable::Portable;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512, dot_bf16};

use crate::isa::Isa;

/// Vectors of `LANES` f32.
///
/// # Safety
/// Every function needs a machine with the implementor's instructions, and is meant to be inlined
/// into a function that enables them ([`run`]). `load`, `store`, `low_bf16` and `high_bf16` need
/// `LANES` readable or writable elements at `p`, of any alignment.
pub(crate) trait Simd: Copy {
    type V: Copy;
    const LANES: usize;
    /// Rows of a register tile two vectors wide: as many as the registers hold.
    const ROWS: usize;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    /// The low bf16 of each 32-bit word, widened exactly.
    unsafe fn low_bf16(p: *const f32) -> Self::V;
    /// The high bf16 of each 32-bit word, widened exactly.
    unsafe fn high_bf16(p: *const f32) -> Self::V;
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
        #[target_feature(enable = "avx512f")]
        unsafe fn avx512<K: Kernel>(kernel: K) {
            // SAFETY: the caller has the instructions and vouches for the pointers.
            unsafe { kernel.run::<Avx512>() }
        }
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2<K: Kernel>(kernel: K) {
            // SAFETY: the caller has the instructions and vouches for the pointers.
            unsafe { kernel.run::<Avx2>() }
        }
        // SAFETY: the caller guarantees that the machine has `isa`.
        unsafe {
            match isa {
                Isa::Avx512 | Isa::Avx512Bf16 => return avx512(kernel),
                Isa::Avx2 => return avx2(kernel),
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
        Isa::Avx512 | Isa::Avx512Bf16 => return Avx512::ROWS,
        Isa::Avx2 => return Avx2::ROWS,
        Isa::Portable => {}
    }
    let _ = isa;
    Portable::ROWS
}
