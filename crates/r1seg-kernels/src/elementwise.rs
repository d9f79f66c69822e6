//! Activations, one pass over memory.

use rayon::prelude::*;

use crate::isa::Isa;
use crate::simd::{self, Kernel, Simd};

/// Elements per task.
const CHUNK: usize = 16 << 10;

/// Lanes of the widest vector.
const WIDEST: usize = 16;

/// `torch.nn.GELU()`: `y = x Φ(x)`, with the error function's own distribution `Φ`.
///
/// Within `1.1e-7 * max(1, |x|)` of the exact value. Runs on rayon's current pool.
///
/// # Shapes
/// - `x`, `y`: the same, any
///
/// # Panics
/// When the lengths differ.
pub fn gelu_erf(x: &[f32], y: &mut [f32]) {
    gelu_erf_on(Isa::detect(), x, y);
}

/// `isa` must be one of this machine.
pub(crate) fn gelu_erf_on(isa: Isa, x: &[f32], y: &mut [f32]) {
    assert!(isa <= Isa::detect(), "this machine has no {isa:?}");
    assert_eq!(x.len(), y.len(), "GELU of {} numbers into {}", x.len(), y.len());
    if x.len() <= CHUNK {
        // SAFETY: the machine has `isa`, and the lengths are equal.
        return unsafe { simd::run(isa, Gelu { x, y }) };
    }
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| {
        // SAFETY: as above.
        unsafe { simd::run(isa, Gelu { x, y }) }
    });
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
    assert!(isa <= Isa::detect(), "this machine has no {isa:?}");
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

struct Gelu<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Gelu<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { x, y } = self;
        let whole = x.len() / S::LANES * S::LANES;
        let mut rest = [0f32; WIDEST];
        rest[..x.len() - whole].copy_from_slice(&x[whole..]);
        // SAFETY: `x` and `y` are equally long, and `rest` holds a vector.
        unsafe {
            for i in (0..whole).step_by(S::LANES) {
                let x = S::load(x.as_ptr().add(i));
                S::store(y.as_mut_ptr().add(i), simd::gelu_erf::<S>(x));
            }
            let last = simd::gelu_erf::<S>(S::load(rest.as_ptr()));
            S::store(rest.as_mut_ptr(), last);
        }
        let count = y.len() - whole;
        y[whole..].copy_from_slice(&rest[..count]);
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
