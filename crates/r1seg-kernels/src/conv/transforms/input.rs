//! From input voxels to their values at the points.

use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};
use std::ptr::null;

use super::super::fusion::{ConvNorm, Normalize};
use super::{COLUMNS, Run, SIX, TILE};
use crate::simd::{Simd, WIDEST};

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

/// The numbers of a row of `width` from column `at` on, and zeros outside of it.
///
/// # Safety
/// The row must have this width.
#[cold]
#[inline(never)]
unsafe fn edge(
    row: *const f32,
    at: isize,
    width: usize,
    norm: Option<(ConvNorm<'_>, usize)>,
) -> [f32; WIDEST] {
    let mut numbers = [0f32; WIDEST];
    for (column, number) in (at..).zip(&mut numbers) {
        if (0..width as isize).contains(&column) {
            // SAFETY: this lies inside of the row.
            let x = unsafe { *row.offset(column) };
            *number = norm.map_or(x, |(norm, channel)| norm.apply(channel, x));
        }
    }
    numbers
}

/// A vector of a row, normalized. What is outside of the input, where `row` is null, is zero.
///
/// # Safety
/// As of [`Simd`].
#[inline(always)]
unsafe fn whole<S: Simd>(row: *const f32, at: isize, norm: Option<Normalize<S>>) -> S::V {
    // SAFETY: the caller has the instructions and vouches for the pointer.
    unsafe {
        if row.is_null() {
            return S::splat(0.0);
        }
        let x = S::load(row.offset(at));
        match norm {
            Some(norm) => norm.apply(x),
            None => x,
        }
    }
}

/// What [`input`] reads.
#[derive(Clone, Copy)]
pub(in super::super) struct Input<'a> {
    /// `[channels, size..]`, normalized as they are read
    pub(in super::super) numbers: &'a [f32],
    pub(in super::super) channels: usize,
    pub(in super::super) norm: Option<ConvNorm<'a>>,
}

/// Where [`input`] puts its numbers.
#[derive(Clone, Copy)]
pub(in super::super) struct Transformed {
    /// `[POINTS][tiles][channels]`
    pub(in super::super) numbers: *mut f32,
    pub(in super::super) point_stride: usize,
    pub(in super::super) tile_stride: usize,
}

/// The input of a run of tiles at the points of a plane.
///
/// # Safety
/// As of [`Simd`]; `from` must have its shape, `to` must reach over the tiles and over `channels` in whole
/// vectors, `scratch` over [`SCRATCH`].
#[inline(always)]
pub(in super::super) unsafe fn input<S: Simd>(
    from: Input<'_>,
    size: [usize; 3],
    run: Run,
    plane: usize,
    to: Transformed,
    scratch: *mut f32,
) {
    let Input { numbers: x, channels, norm } = from;
    let [depth, height, width] = size;
    let voxels = depth * height * width;
    let (first, second, sign) = [(0, 2, -1.0), (1, 2, 1.0), (2, 1, -1.0), (1, 3, -1.0)][plane];
    // The input begins one voxel before the output.
    let row = |d: usize, h: usize| {
        let d = (run.at[0] + d).checked_sub(1).filter(|d| *d < depth)?;
        let h = (run.at[1] + h).checked_sub(1).filter(|h| *h < height)?;
        Some((d * height + h) * width)
    };
    let mut rows = [[None; 2]; SIX];
    for (h, rows) in rows.iter_mut().enumerate() {
        *rows = [row(first, h), row(second, h)];
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
                let rows = rows.map(|pair| pair.map(|r| r.map_or(null(), |r: usize| x.add(r))));
                #[expect(
                    clippy::manual_map,
                    reason = "a closure would not be compiled for the caller's instructions"
                )]
                let vectors = match norm {
                    Some(norm) => Some(Normalize::<S>::new(norm, group + lane)),
                    None => None,
                };
                for column in (0..columns).step_by(S::LANES) {
                    let at = begin + column as isize;
                    let mut d = [zero; SIX];
                    if at >= 0 && at as usize + S::LANES <= width {
                        for (d, [first, second]) in d.iter_mut().zip(rows) {
                            let second = whole::<S>(second, at, vectors);
                            *d = S::fma(second, sign, whole::<S>(first, at, vectors));
                        }
                    } else if at + S::LANES as isize > 0 && at < width as isize {
                        let norm = norm.map(|norm| (norm, group + lane));
                        for (d, pair) in d.iter_mut().zip(rows) {
                            let mut numbers = [[0f32; WIDEST]; 2];
                            for (numbers, row) in numbers.iter_mut().zip(pair) {
                                if !row.is_null() {
                                    *numbers = edge(row, at, width, norm);
                                }
                            }
                            let [first, second] = numbers.map(|n| S::load(n.as_ptr()));
                            *d = S::fma(second, sign, first);
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
