//! Winograd's transforms of a tile of `2x4x4` output voxels: polynomials evaluated at four points
//! along D (0, 1, -1, infinity) and at six along H and W (0, ±√½, ±√2, infinity).
//!
//! With these six points, and not the usual 0, ±1, ±2, the error is that of the direct sums.

use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};

use crate::buffer::LINE;
use crate::simd::{Simd, WIDEST};

/// Points along D.
pub(super) const PLANES: usize = 4;

/// Points along H and W together.
pub(super) const POINTS: usize = SIX * SIX;

/// Points along H or W, which are also the input voxels of a tile.
pub(super) const SIX: usize = 6;

/// Output voxels of a tile.
pub(super) const TILE: [usize; 3] = [2, 4, 4];

/// Weights of a pair of channels.
pub(super) const TAPS: usize = 27;

/// Channels by which weights are asked for before they are used.
const AHEAD: usize = 4;

/// The most tiles of a [`Run`], whose transformed input fits a first-level cache.
const LONGEST: usize = 16;

/// Columns of input that a run reads, in whole vectors from a multiple of a vector on.
const COLUMNS: usize = LONGEST * TILE[2] + 2 * WIDEST;

/// Scratch numbers of [`input`].
pub(super) const SCRATCH: usize = 2 * SIX * WIDEST * COLUMNS;

/// Tiles that follow one another along W.
#[derive(Clone, Copy)]
pub(super) struct Run {
    /// Its first tile, counted within the task.
    pub(super) first: usize,
    pub(super) len: usize,
    /// The first output voxel of its first tile.
    pub(super) at: [usize; 3],
}

impl Run {
    /// The run that begins at a tile, of tiles before `end`, within a grid of tiles.
    pub(super) fn new(tile: usize, first: usize, end: usize, [_, h, w]: [usize; 3]) -> Self {
        let at = [tile / (h * w), tile / w % h, tile % w];
        let len = LONGEST.min(w - at[2]).min(end - tile);
        Self { first, len, at: std::array::from_fn(|axis| at[axis] * TILE[axis]) }
    }
}

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

/// Six input voxels along an axis at six points.
#[inline(always)]
unsafe fn input_at_six<S: Simd>(d: [S::V; SIX]) -> [S::V; SIX] {
    // SAFETY: the caller has the instructions.
    unsafe {
        let (minus_half, minus_two) = (S::splat(-0.5), S::splat(-2.0));
        let both = S::splat(-2.5);
        let near = S::fma(d[2], minus_two, d[4]);
        let odd_near = S::mul(S::fma(d[1], minus_two, d[3]), S::splat(FRAC_1_SQRT_2));
        let far = S::fma(d[2], minus_half, d[4]);
        let odd_far = S::mul(S::fma(d[1], minus_half, d[3]), S::splat(SQRT_2));
        [
            S::fma(d[2], both, S::add(d[0], d[4])),
            S::add(near, odd_near),
            S::sub(near, odd_near),
            S::add(far, odd_far),
            S::sub(far, odd_far),
            S::fma(d[3], both, S::add(d[1], d[5])),
        ]
    }
}

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

/// Weights at the points of a plane.
///
/// # Shapes
/// - `taps`: `[channels, TAPS, LINE]`    - `to`: `[POINTS]` times `[channels, LINE]`, `point_stride`
///   apart
///
/// # Safety
/// As of [`Simd`]; the pointers must reach over these shapes.
#[inline(always)]
pub(super) unsafe fn weights<S: Simd>(
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
                    S::prefetch(taps.wrapping_add((AHEAD * TAPS + line) * LINE).cast());
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

/// The numbers of a row of `width` from column `at` on, and zeros outside of it.
///
/// # Safety
/// The row must have this width.
#[cold]
#[inline(never)]
unsafe fn edge(row: *const f32, at: isize, width: usize) -> [f32; WIDEST] {
    let mut numbers = [0f32; WIDEST];
    for (column, number) in (at..).zip(&mut numbers) {
        if (0..width as isize).contains(&column) {
            // SAFETY: this lies inside of the row.
            *number = unsafe { *row.offset(column) };
        }
    }
    numbers
}

/// Where [`input`] puts its numbers.
#[derive(Clone, Copy)]
pub(super) struct Transformed {
    /// `[POINTS][tiles][channels]`
    pub(super) numbers: *mut f32,
    pub(super) point_stride: usize,
    pub(super) tile_stride: usize,
}

/// The input of a run of tiles at the points of a plane.
///
/// # Shapes
/// - `x`: `[channels, size..]`
///
/// # Safety
/// As of [`Simd`]; `to` must reach over the tiles and over `channels` in whole vectors, `scratch` over
/// [`SCRATCH`].
#[inline(always)]
pub(super) unsafe fn input<S: Simd>(
    x: &[f32],
    channels: usize,
    size: [usize; 3],
    run: Run,
    plane: usize,
    to: Transformed,
    scratch: *mut f32,
) {
    let [depth, height, width] = size;
    let voxels = depth * height * width;
    let (first, second, sign) = [(0, 2, -1.0), (1, 2, 1.0), (2, 1, -1.0), (1, 3, -1.0)][plane];
    // The input begins one voxel before the output.
    let row = |d: usize, h: usize| {
        let d = (run.at[0] + d).checked_sub(1).filter(|d| *d < depth)?;
        let h = (run.at[1] + h).checked_sub(1).filter(|h| *h < height)?;
        Some((d * height + h) * width)
    };
    let zeros = [0f32; WIDEST];
    let mut rows = [[None; 2]; SIX];
    // Rows outside are read at the one place where zeros are.
    let mut masks = [[0isize; 2]; SIX];
    for (h, (rows, masks)) in rows.iter_mut().zip(&mut masks).enumerate() {
        *rows = [row(first, h), row(second, h)];
        *masks = rows.map(|row| -isize::from(row.is_some()));
    }
    // Vectors begin at multiples of their length, so that few reach over the end of a row.
    let begin = (run.at[2] as isize - 1).div_euclid(S::LANES as isize) * S::LANES as isize;
    let skipped = (run.at[2] as isize - 1 - begin) as usize;
    let columns = skipped + run.len * TILE[2] + 2;
    // SAFETY: the caller has the instructions and vouches for the pointers; rows lie inside of `x`.
    unsafe {
        let (zero, sign) = (S::splat(0.0), S::splat(sign));
        // `[SIX, LANES, COLUMNS]` and `[SIX, COLUMNS, LANES]`
        let (by_channel, by_column) = (scratch, scratch.add(SIX * COLUMNS * S::LANES));
        for group in (0..channels).step_by(S::LANES) {
            for lane in 0..S::LANES.min(channels - group) {
                let x = x.as_ptr().add((group + lane) * voxels);
                let from =
                    rows.map(|pair| pair.map(|row| row.map_or(zeros.as_ptr(), |r| x.add(r))));
                for column in (0..columns).step_by(S::LANES) {
                    let at = begin + column as isize;
                    let mut d = [zero; SIX];
                    if at >= 0 && at as usize + S::LANES <= width {
                        for (d, (from, mask)) in d.iter_mut().zip(from.iter().zip(masks)) {
                            let second = S::load(from[1].offset(at & mask[1]));
                            *d = S::fma(second, sign, S::load(from[0].offset(at & mask[0])));
                        }
                    } else if at + S::LANES as isize > 0 && at < width as isize {
                        for (d, rows) in d.iter_mut().zip(rows) {
                            let pair =
                                rows.map(|row| row.map_or(zeros, |r| edge(x.add(r), at, width)));
                            *d = S::fma(S::load(pair[1].as_ptr()), sign, S::load(pair[0].as_ptr()));
                        }
                    }
                    for (h, six) in input_at_six::<S>(d).into_iter().enumerate() {
                        S::store(by_channel.add((h * S::LANES + lane) * COLUMNS + column), six);
                    }
                }
            }
            for h in 0..SIX {
                for column in (0..columns).step_by(S::LANES) {
                    let from = by_channel.add(h * S::LANES * COLUMNS + column).cast::<u8>();
                    let to = by_column.add((h * COLUMNS + column) * S::LANES);
                    S::transpose(from, 4 * COLUMNS, to, S::LANES);
                }
            }
            for h in 0..SIX {
                for tile in 0..run.len {
                    let from = h * COLUMNS + skipped + tile * TILE[2];
                    let from = by_column.add(from * S::LANES);
                    let mut d = [zero; SIX];
                    for (w, d) in d.iter_mut().enumerate() {
                        *d = S::load(from.add(w * S::LANES));
                    }
                    let at = h * SIX * to.point_stride + (run.first + tile) * to.tile_stride;
                    let to_point = to.numbers.add(at + group);
                    for (w, six) in input_at_six::<S>(d).into_iter().enumerate() {
                        S::store(to_point.add(w * to.point_stride), six);
                    }
                }
            }
        }
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
pub(super) unsafe fn output<S: Simd>(
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

/// The output of a run of tiles, from channels last to channels first.
///
/// # Shapes
/// - `sums`: `[2, 4, 4 len, stride]`, of which the first `bias.len()` channels are used
/// - `to`: `[bias.len(), size..]`
///
/// # Safety
/// As of [`Simd`]; the pointers must reach over these shapes, `sums` over whole vectors of voxels and
/// of channels, and nothing else may access the voxels of the run.
#[inline(always)]
pub(super) unsafe fn write<S: Simd>(
    sums: *const f32,
    stride: usize,
    run: Run,
    size: [usize; 3],
    channels: usize,
    bias: Option<&[f32]>,
    to: *mut f32,
) {
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
                    let to = to.add(group * voxels + row * width + run.at[2]);
                    let from = sums.add((d * 4 + h) * run.len * TILE[2] * stride + group);
                    for column in (0..columns).step_by(S::LANES) {
                        let from = from.add(column * stride).cast::<u8>();
                        S::transpose(from, 4 * stride, square.as_mut_ptr(), S::LANES);
                        for lane in 0..S::LANES.min(channels - group) {
                            let to = to.add(lane * voxels + column);
                            let bias = bias.map_or(0.0, |bias| bias[group + lane]);
                            let from = square.as_mut_ptr().add(lane * S::LANES);
                            let y = S::add(S::load(from), S::splat(bias));
                            if column + S::LANES <= columns {
                                S::store(to, y);
                            } else {
                                S::store(from, y);
                                std::ptr::copy_nonoverlapping(from, to, columns - column);
                            }
                        }
                    }
                }
            }
        }
    }
}
