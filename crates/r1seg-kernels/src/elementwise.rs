//! Activations and sums, one pass over memory.

use std::ops::Range;

use rayon::prelude::*;

use crate::buffer::{SharedMut, with_scratch, written};
use crate::isa::Isa;
use crate::simd::{self, Kernel, Simd, WIDEST};

/// Elements per task.
pub(crate) const CHUNK: usize = 16 << 10;

/// Calls `run` with stretches of `0..len`, several of them on rayon's current pool.
pub(crate) fn in_chunks(len: usize, chunk: usize, run: impl Fn(Range<usize>) + Sync) {
    if len == 0 {
        return;
    }
    if len <= chunk {
        return run(0..len);
    }
    (0..len.div_ceil(chunk)).into_par_iter().for_each(|i| {
        run(i * chunk..((i + 1) * chunk).min(len));
    });
}

/// `torch.nn.GELU()`: `x Φ(x)`, with the error function's own distribution `Φ`.
///
/// Within `1.1e-7 * max(1, |x|)` of the exact value. Runs on rayon's current pool.
pub fn gelu_erf(x: &[f32]) -> Vec<f32> {
    gelu_erf_on(Isa::detect(), x)
}

/// `isa` must be one of this machine.
pub(crate) fn gelu_erf_on(isa: Isa, x: &[f32]) -> Vec<f32> {
    assert!(isa.is_here(), "this machine has no {isa:?}");
    let run = |y: SharedMut, range: Range<usize>| {
        let x = &x[range.clone()];
        // SAFETY: the machine has `isa`; the stretches are disjoint and within the output.
        unsafe {
            let y = y.get().add(range.start);
            simd::run(isa, Gelu { x: x.as_ptr(), y, len: x.len() });
        }
    };
    // SAFETY: the stretches are the whole.
    unsafe { written(x.len(), |y| in_chunks(x.len(), CHUNK, |range| run(y, range))) }
}

/// The product of GELU ([`gelu_erf`]) of each row with `weights`, without writing the rows. Runs on
/// rayon's current pool.
///
/// # Shapes
/// - `x`: `[rows, n]`    - `weights`: `[n]`    - returns: `[rows]`
///
/// # Panics
/// When `x` is not made of rows of `n` numbers.
pub fn gelu_dot(x: &[f32], weights: &[f32]) -> Vec<f32> {
    gelu_dot_on(Isa::detect(), x, weights)
}

/// `isa` must be one of this machine.
pub(crate) fn gelu_dot_on(isa: Isa, x: &[f32], weights: &[f32]) -> Vec<f32> {
    assert!(isa.is_here(), "this machine has no {isa:?}");
    let rows = rows(x, weights.len());
    let run = |y: SharedMut, range: Range<usize>| {
        let x = &x[range.start * weights.len()..range.end * weights.len()];
        // SAFETY: the machine has `isa`; the stretches are disjoint and within the output.
        unsafe { simd::run(isa, GeluDot { x, weights, y: y.get().add(range.start) }) }
    };
    let chunk = (CHUNK / weights.len().max(1)).max(1);
    // SAFETY: the stretches are the whole.
    unsafe { written(rows, |y| in_chunks(rows, chunk, |range| run(y, range))) }
}

/// `x + y`, with `y` as often as it goes into `x`. Runs on rayon's current pool.
///
/// # Shapes
/// - `x`: `[rows, n]`    - `y`: `[n]`    - returns: `[rows, n]`
///
/// # Panics
/// When `x` is not made of rows of `n` numbers.
pub fn add(x: &[f32], y: &[f32]) -> Vec<f32> {
    let isa = Isa::detect();
    rows(x, y.len());
    let run = |out: SharedMut, range: Range<usize>| {
        let (x, from) = (&x[range.clone()], range.start % y.len());
        // SAFETY: the machine has `isa`; the stretches are disjoint and within the output.
        unsafe { simd::run(isa, Add { x, y, from, out: out.get().add(range.start) }) }
    };
    // SAFETY: the stretches are the whole.
    unsafe { written(x.len(), |out| in_chunks(x.len(), CHUNK, |range| run(out, range))) }
}

/// `softmax(scale * x)` of each row, with no score above the row's largest. Runs on rayon's current
/// pool.
///
/// # Shapes
/// - `x`: `[rows, n]`    - returns: the same, rows that sum to one
///
/// # Panics
/// When `x` is not made of rows of `n` numbers.
pub fn softmax(x: &[f32], n: usize, scale: f32) -> Vec<f32> {
    softmax_on(Isa::detect(), x, n, scale)
}

/// `isa` must be one of this machine.
pub(crate) fn softmax_on(isa: Isa, x: &[f32], n: usize, scale: f32) -> Vec<f32> {
    assert!(isa.is_here(), "this machine has no {isa:?}");
    let run = |y: SharedMut, range: Range<usize>| {
        let x = &x[range.start * n..range.end * n];
        with_scratch(x.len() + WIDEST, |scratch| {
            // SAFETY: the machine has `isa`; the stretches are disjoint and within the output.
            unsafe {
                let y = y.get().add(range.start * n);
                simd::run(isa, Softmax { x, n, scale, scratch, y });
            }
        });
    };
    let (rows, chunk) = (rows(x, n), (CHUNK / n.max(1)).max(1));
    // SAFETY: the stretches are the whole.
    unsafe { written(x.len(), |y| in_chunks(rows, chunk, |range| run(y, range))) }
}

/// Rows of `n` numbers in `x`.
pub(crate) fn rows(x: &[f32], n: usize) -> usize {
    if x.is_empty() {
        return 0;
    }
    assert!(n > 0 && x.len().is_multiple_of(n), "{} numbers in rows of {n}", x.len());
    x.len() / n
}

/// `y = silu(gate) * up`, the gated activation of the Llama family on a fused projection.
///
/// Within 4 ulp of the exact value. Runs on rayon's current pool.
///
/// # Shapes
/// - `gate_up`: `[rows, 2 * f]`, the gate in the first half    - `y`: `[rows, f]`
///
/// # Panics
/// When a slice has another length.
pub fn silu_mul(gate_up: &[f32], f: usize, y: &mut [f32]) {
    silu_mul_on(Isa::detect(), gate_up, f, y);
}

/// `isa` must be one of this machine.
pub(crate) fn silu_mul_on(isa: Isa, gate_up: &[f32], f: usize, y: &mut [f32]) {
    assert!(isa.is_here(), "this machine has no {isa:?}");
    if y.is_empty() && gate_up.is_empty() {
        return;
    }
    assert!(f > 0 && y.len().is_multiple_of(f), "{} numbers in rows of {f}", y.len());
    assert_eq!(Some(gate_up.len()), y.len().checked_mul(2), "gates of [{}, 2 * {f}]", y.len() / f);
    let rows = (CHUNK / f).max(1);
    let run = |(y, gate_up): (&mut [f32], &[f32])| {
        for (y, row) in y.chunks_exact_mut(f).zip(gate_up.chunks_exact(2 * f)) {
            let (gate, up) = row.split_at(f);
            // SAFETY: the machine has `isa`, and the three lengths are `f`.
            unsafe { simd::run(isa, SiluMul { gate, up, y }) }
        }
    };
    if y.len() <= CHUNK {
        return run((y, gate_up));
    }
    y.par_chunks_mut(rows * f).zip(gate_up.par_chunks(rows * 2 * f)).for_each(run);
}

/// `y` may be `x`. Both reach over `len` numbers.
pub(crate) struct Gelu {
    pub(crate) x: *const f32,
    pub(crate) y: *mut f32,
    pub(crate) len: usize,
}

impl Kernel for Gelu {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { x, y, len } = self;
        let whole = len / S::LANES * S::LANES;
        let mut rest = [0f32; WIDEST];
        // SAFETY: all accesses are below `len`, and `rest` holds a vector.
        unsafe {
            for i in (0..whole).step_by(S::LANES) {
                S::store(y.add(i), simd::gelu_erf::<S>(S::load(x.add(i))));
            }
            std::ptr::copy_nonoverlapping(x.add(whole), rest.as_mut_ptr(), len - whole);
            let last = simd::gelu_erf::<S>(S::load(rest.as_ptr()));
            S::store(rest.as_mut_ptr(), last);
            std::ptr::copy_nonoverlapping(rest.as_ptr(), y.add(whole), len - whole);
        }
    }
}

/// `y` reaches over a number for each row of `x`.
struct GeluDot<'a> {
    x: &'a [f32],
    weights: &'a [f32],
    y: *mut f32,
}

impl Kernel for GeluDot<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { x, weights, y } = self;
        let n = weights.len();
        let whole = n / S::LANES * S::LANES;
        let mut rest = [[0f32; WIDEST]; 2];
        rest[0][..n - whole].copy_from_slice(&weights[whole..]);
        for (i, x) in x.chunks_exact(n).enumerate() {
            rest[1][..n - whole].copy_from_slice(&x[whole..]);
            // SAFETY: rows and weights are `n` long, `rest` holds vectors, and `y` a number per row.
            unsafe {
                let last = simd::gelu_erf::<S>(S::load(rest[1].as_ptr()));
                let mut sum = S::mul(last, S::load(rest[0].as_ptr()));
                for j in (0..whole).step_by(S::LANES) {
                    let x = simd::gelu_erf::<S>(S::load(x.as_ptr().add(j)));
                    sum = S::fma(x, S::load(weights.as_ptr().add(j)), sum);
                }
                *y.add(i) = S::sum(sum);
            }
        }
    }
}

/// `x` begins at number `from` of `y`; `out` reaches as far as `x`.
struct Add<'a> {
    x: &'a [f32],
    y: &'a [f32],
    from: usize,
    out: *mut f32,
}

impl Kernel for Add<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { mut x, y, mut from, mut out } = self;
        while !x.is_empty() {
            let count = x.len().min(y.len() - from);
            for (i, (x, y)) in x.iter().zip(&y[from..][..count]).enumerate() {
                // SAFETY: `out` reaches as far as `x`.
                unsafe { *out.add(i) = x + y };
            }
            // SAFETY: as above.
            out = unsafe { out.add(count) };
            (x, from) = (&x[count..], 0);
        }
    }
}

/// `y` reaches as far as `x`, and `scratch` a vector further.
struct Softmax<'a> {
    x: &'a [f32],
    n: usize,
    scale: f32,
    scratch: &'a mut [f32],
    y: *mut f32,
}

impl Kernel for Softmax<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { x, n, scale, scratch, y } = self;
        for (x, row) in x.chunks_exact(n).zip(scratch.chunks_exact_mut(n)) {
            let largest = x.iter().map(|x| x * scale).fold(f32::NEG_INFINITY, f32::max);
            for (to, x) in row.iter_mut().zip(x) {
                *to = x * scale - largest;
            }
        }
        scratch[x.len()..].fill(0.0);
        for i in (0..x.len()).step_by(S::LANES) {
            // SAFETY: there is a vector behind the last row.
            unsafe {
                let at = scratch.as_mut_ptr().add(i);
                S::store(at, simd::exp_nonpositive::<S>(S::load(at)));
            }
        }
        for (i, row) in scratch[..x.len()].chunks_exact(n).enumerate() {
            let inverse = 1.0 / row.iter().sum::<f32>();
            for (j, e) in row.iter().enumerate() {
                // SAFETY: `y` reaches as far as `x`.
                unsafe { *y.add(i * n + j) = e * inverse };
            }
        }
    }
}

struct SiluMul<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for SiluMul<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { gate, up, y } = self;
        let whole = y.len() / S::LANES * S::LANES;
        let count = y.len() - whole;
        let mut rest = [[0f32; WIDEST]; 2];
        rest[0][..count].copy_from_slice(&gate[whole..]);
        rest[1][..count].copy_from_slice(&up[whole..]);
        // SAFETY: the three slices are equally long, and `rest` holds vectors.
        unsafe {
            for i in (0..whole).step_by(S::LANES) {
                let (gate, up) = (S::load(gate.as_ptr().add(i)), S::load(up.as_ptr().add(i)));
                let silu = S::mul(gate, simd::sigmoid::<S>(gate));
                S::store(y.as_mut_ptr().add(i), S::mul(silu, up));
            }
            let (gate, up) = (S::load(rest[0].as_ptr()), S::load(rest[1].as_ptr()));
            let silu = S::mul(gate, simd::sigmoid::<S>(gate));
            S::store(rest[0].as_mut_ptr(), S::mul(silu, up));
        }
        y[whole..].copy_from_slice(&rest[0][..count]);
    }
}
