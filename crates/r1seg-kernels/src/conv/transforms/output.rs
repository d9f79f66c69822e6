//! From products at the points to output voxels.

use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};
use std::ptr::copy_nonoverlapping;

use super::{Run, SIX, TILE};
use crate::buffer::LINE;
use crate::simd::{Simd, WIDEST};

/// Four output voxels along an axis of the products at six points.
#[inline(always)]
unsafe fn output_of_six<S: Simd>(m: [S::V; SIX]) -> [S::V; 4] {
    // SAFETY: the caller has the instructions.
    unsafe {
        let (near, far) = (S::add(m[1], m[2]), S::add(m[3], m[4]));
        let (odd_near, odd_far) = (S::sub(m[1], m[2]), S::sub(m[3], m[4]));
        let odd = S::mul(odd_far, S::splat(SQRT_2));
        [
            S::add(m[0], S::add(near, far)),
            S::fma(odd_near, S::splat(FRAC_1_SQRT_2), odd),
            S::fma(near, S::splat(0.5), S::add(far, far)),
            S::fma(odd_near, S::splat(FRAC_1_SQRT_2 / 2.0), S::fma(odd, S::splat(2.0), m[5])),
        ]
    }
}

/// Adds what the products of a plane are to the output of one tile.
///
/// # Shapes
/// - `products`: `[POINTS, LINE]`    - `y`: `[2, 4, row_stride]`, of 4 voxels `stride` apart
///
/// # Safety
/// As of [`Simd`]; the pointers must reach over these shapes.
#[inline(always)]
pub(in super::super) unsafe fn output<S: Simd>(
    products: *const f32,
    plane: usize,
    y: *mut f32,
    row_stride: usize,
    stride: usize,
) {
    // SAFETY: the caller has the instructions and vouches for the pointers.
    unsafe {
        for lane in (0..LINE).step_by(S::LANES) {
            let mut rows = [[S::splat(0.0); SIX]; 4];
            for w in 0..SIX {
                let mut m = [S::splat(0.0); SIX];
                for (h, m) in m.iter_mut().enumerate() {
                    *m = S::load(products.add((h * SIX + w) * LINE + lane));
                }
                for (row, y) in rows.iter_mut().zip(output_of_six::<S>(m)) {
                    row[w] = y;
                }
            }
            for (h, row) in rows.into_iter().enumerate() {
                let (front, back) = (y.add(h * row_stride + lane), 4 * row_stride);
                for (w, sum) in output_of_six::<S>(row).into_iter().enumerate() {
                    let front = front.add(w * stride);
                    let back = front.wrapping_add(back);
                    match plane {
                        0 => S::store(front, sum),
                        1 => {
                            S::store(front, S::add(S::load(front), sum));
                            S::store(back, sum);
                        }
                        2 => {
                            S::store(front, S::add(S::load(front), sum));
                            S::store(back, S::sub(S::load(back), sum));
                        }
                        _ => S::store(back, S::sub(S::load(back), sum)),
                    }
                }
            }
        }
    }
}

/// Where [`write`] puts the output of some channels, and what it adds to it.
#[derive(Clone, Copy)]
pub(in super::super) struct Output<'a> {
    /// `[channels]`
    pub(in super::super) bias: Option<&'a [f32]>,
    /// Null, or as `to`.
    pub(in super::super) plus: *const f32,
    /// `[channels, size..]`
    pub(in super::super) to: *mut f32,
}

/// The output of a run of tiles, from channels last to channels first.
///
/// # Shapes
/// - `sums`: `[2, 4, 4 len, stride]`, of which the first `channels` are used
///
/// # Safety
/// As of [`Simd`]; the pointers must reach over these shapes, `sums` over whole vectors of voxels and
/// of channels, and nothing else may access the voxels of the run.
#[inline(always)]
pub(in super::super) unsafe fn write<S: Simd>(
    sums: *const f32,
    stride: usize,
    run: Run,
    size: [usize; 3],
    channels: usize,
    into: Output<'_>,
) {
    let Output { bias, plus, to } = into;
    let [depth, height, width] = size;
    let voxels = depth * height * width;
    let columns = (run.len * TILE[2]).min(width - run.at[2]);
    let mut square = [0f32; WIDEST * WIDEST];
    // SAFETY: the caller has the instructions and vouches for the pointers.
    unsafe {
        for group in (0..channels).step_by(S::LANES) {
            for d in 0..TILE[0].min(depth - run.at[0]) {
                for h in 0..TILE[1].min(height - run.at[1]) {
                    let row = (run.at[0] + d) * height + run.at[1] + h;
                    let at = group * voxels + row * width + run.at[2];
                    let from = sums.add((d * 4 + h) * run.len * TILE[2] * stride + group);
                    for column in (0..columns).step_by(S::LANES) {
                        let from = from.add(column * stride).cast::<u8>();
                        S::transpose(from, 4 * stride, square.as_mut_ptr(), S::LANES);
                        for lane in 0..S::LANES.min(channels - group) {
                            let at = at + lane * voxels + column;
                            let to = to.add(at);
                            let bias = bias.map_or(0.0, |bias| bias[group + lane]);
                            let from = square.as_mut_ptr().add(lane * S::LANES);
                            let mut y = S::add(S::load(from), S::splat(bias));
                            if column + S::LANES <= columns {
                                if !plus.is_null() {
                                    y = S::add(y, S::load(plus.add(at)));
                                }
                                S::store(to, y);
                                continue;
                            }
                            let rest = columns - column;
                            if !plus.is_null() {
                                let mut numbers = [0f32; WIDEST];
                                copy_nonoverlapping(plus.add(at), numbers.as_mut_ptr(), rest);
                                y = S::add(y, S::load(numbers.as_ptr()));
                            }
                            S::store(from, y);
                            copy_nonoverlapping(from, to, rest);
                        }
                    }
                }
            }
        }
    }
}
