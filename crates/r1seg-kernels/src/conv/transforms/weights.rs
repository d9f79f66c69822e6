//! From weights to their values at the points.

use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};

use super::{SIX, TAPS};
use crate::buffer::LINE;
use crate::simd::Simd;

/// Channels by which weights are asked for before they are used.
const AHEAD: usize = 4;

/// Three weights along an axis at six points.
#[inline(always)]
unsafe fn weights_at_six<S: Simd>([g0, g1, g2]: [S::V; 3]) -> [S::V; SIX] {
    // SAFETY: the caller has the instructions.
    unsafe {
        let (near, far) = (S::splat(-2.0 / 3.0), S::splat(1.0 / 6.0));
        let half = S::mul(S::fma(g2, S::splat(0.5), g0), near);
        let twice = S::mul(S::fma(g2, S::splat(2.0), g0), far);
        let odd_half = S::mul(g1, S::splat(-2.0 / 3.0 * FRAC_1_SQRT_2));
        let odd_twice = S::mul(g1, S::splat(SQRT_2 / 6.0));
        [
            g0,
            S::add(half, odd_half),
            S::sub(half, odd_half),
            S::add(twice, odd_twice),
            S::sub(twice, odd_twice),
            g2,
        ]
    }
}

/// Weights at the points of a plane.
///
/// # Shapes
/// - `taps`: `[channels, TAPS, LINE]`    - `to`: `[POINTS]` times `[channels, LINE]`, `point_stride`
///   apart
///
/// # Safety
/// As of [`Simd`]; the pointers must reach over these shapes.
#[inline(always)]
pub(in super::super) unsafe fn weights<S: Simd>(
    taps: *const f32,
    channels: usize,
    plane: usize,
    to: *mut f32,
    point_stride: usize,
) {
    // SAFETY: the caller has the instructions and vouches for the pointers.
    unsafe {
        let (zero, odd) = (S::splat(0.0), S::splat(if plane == 2 { -1.0 } else { 1.0 }));
        let read = [0..TAPS / 3, 0..TAPS, 0..TAPS, TAPS - TAPS / 3..TAPS];
        let read = &read[plane];
        for vector in 0..channels * LINE / S::LANES {
            let (channel, lane) = (vector * S::LANES / LINE, vector * S::LANES % LINE);
            let taps = taps.add(channel * TAPS * LINE + lane);
            if lane == 0 {
                for line in read.clone() {
                    S::prefetch_l2(taps.wrapping_add((AHEAD * TAPS + line) * LINE).cast());
                }
            }
            let mut rows = [[zero; 3]; SIX];
            for w in 0..3 {
                let mut column = [zero; 3];
                for (h, column) in column.iter_mut().enumerate() {
                    let at = |d: usize| taps.wrapping_add((d * 9 + h * 3 + w) * LINE);
                    *column = match plane {
                        0 => S::load(at(0)),
                        3 => S::load(at(2)),
                        _ => {
                            let even = S::add(S::load(at(0)), S::load(at(2)));
                            S::mul(S::fma(S::load(at(1)), odd, even), S::splat(0.5))
                        }
                    };
                }
                let six = weights_at_six::<S>(column);
                for (row, six) in rows.iter_mut().zip(six) {
                    row[w] = six;
                }
            }
            for (h, row) in rows.into_iter().enumerate() {
                let six = weights_at_six::<S>(row);
                for (w, six) in six.into_iter().enumerate() {
                    S::store(to.add((h * SIX + w) * point_stride + channel * LINE + lane), six);
                }
            }
        }
    }
}
