//! Elementary functions on vectors.

use super::Simd;

/// `e^x` for `x <= 0`, within 2 ulp; below -87 it stays at `e^-87` (1.6e-38). NaN stays NaN.
#[inline(always)]
pub(crate) unsafe fn exp_nonpositive<S: Simd>(x: S::V) -> S::V {
    // Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // SAFETY: arithmetic; the caller has the instructions.
    unsafe {
        let x = S::max(S::splat(-87.0), x);
        let shifted = S::fma(x, S::splat(std::f32::consts::LOG2_E), S::splat(ROUND));
        let n = S::sub(shifted, S::splat(ROUND));
        // ln 2 in two parts, the first short enough for an exact product.
        let r = S::fma(n, S::splat(-0.693_359_4), x);
        let r = S::fma(n, S::splat(2.121_944_4e-4), r);
        let mut p = S::splat(1.987_569_1e-4);
        for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
            p = S::fma(p, r, S::splat(c));
        }
        let p = S::fma(p, S::mul(r, r), S::add(r, S::splat(1.0)));
        S::mul(p, S::pow2(shifted))
    }
}

/// `1 / (1 + e^-x)`, without ever raising e to a positive power.
#[inline(always)]
pub(crate) unsafe fn sigmoid<S: Simd>(x: S::V) -> S::V {
    // SAFETY: arithmetic; the caller has the instructions.
    unsafe {
        let e = exp_nonpositive::<S>(S::sub(S::splat(0.0), S::abs(x)));
        let one = S::splat(1.0);
        S::div(S::by_sign(x, e, one), S::add(one, e))
    }
}

/// `x` times the share of a standard normal variable below `x`.
///
/// The tail `e^(-x²/2) · t · p(t)` with `t = 1 / (1 + 0.35 |x|)` is a weighted least-squares fit to
/// the upper tail, iterated towards equal relative error (3.2e-8) over `0..=14`.
#[inline(always)]
pub(crate) unsafe fn gelu_erf<S: Simd>(x: S::V) -> S::V {
    const TAIL: [f32; 9] = [
        -0.029_146_124,
        0.143_972_6,
        -0.255_716_06,
        0.159_176_14,
        -0.023_111_122,
        0.105_508_514,
        0.119_832_75,
        0.139_861_88,
        0.139_621_4,
    ];
    // SAFETY: arithmetic; the caller has the instructions.
    unsafe {
        let (zero, one) = (S::splat(0.0), S::splat(1.0));
        // Beyond 14 the tail is zero, and squares stay finite.
        let minus = S::max(S::splat(-14.0), S::sub(zero, S::abs(x)));
        let t = S::div(one, S::fma(minus, S::splat(-0.35), one));
        let mut p = S::splat(TAIL[0]);
        for &c in &TAIL[1..] {
            p = S::fma(p, t, S::splat(c));
        }
        // What rounding took from x² goes back in: far out it is many ulp of the exponential.
        let square = S::mul(minus, minus);
        let lost = S::fma(minus, minus, S::sub(zero, square));
        let e = exp_nonpositive::<S>(S::mul(square, S::splat(-0.5)));
        let e = S::mul(e, S::fma(lost, S::splat(-0.5), one));
        let tail = S::mul(e, S::mul(t, p));
        S::by_sign(x, S::mul(minus, tail), S::mul(x, S::sub(one, tail)))
    }
}
