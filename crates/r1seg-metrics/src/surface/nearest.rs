//! Distances from the points of one surface to the nearest point of another.
//!
//! Surfaces that are compared mostly lie close to each other. The rows around a point are looked through,
//! the nearest first, up to a reach; what has no neighbor within it is found in the exact distance
//! transform of the whole box. Both ways end at the same steps between voxels, and round once.

use r1seg_volume::{Beyond, Column, DistanceTransform};
use rayon::prelude::*;

use crate::bits::Bits;

/// About as many rows are looked through for a point.
const ROWS: f64 = 200.0;
/// Of every so many points one tells whether the reach is long enough for most.
const SAMPLE: usize = 61;

/// A point of a surface: how far it is from the other one, in mm, and how much it counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    pub(super) mm: f64,
    pub(super) weight: f64,
}

/// A row at so many steps along D and H, and the square of the way there in mm².
struct Near {
    steps: [isize; 2],
    squared: f64,
}

/// The points that distances end at.
struct Seeds<'a> {
    bits: &'a Bits,
    /// First and last point of each row.
    spans: Vec<Option<[usize; 2]>>,
    spacing_mm: [f64; 3],
    /// All rows within the reach, the nearest first.
    near: Vec<Near>,
    /// The square of the reach.
    reach: f64,
}

/// The distance from each point of `from`, which `weights` gives row by row with its weight, to the nearest
/// of `to`: infinity if that has none. Both are of the same shape.
pub(super) fn distances(
    from: &Bits,
    to: &Bits,
    spacing_mm: [f64; 3],
    weights: impl Fn([usize; 2], &mut dyn FnMut(usize, f64)) + Sync,
) -> Vec<Point> {
    let [d, h, _] = from.shape();
    let places: Vec<([usize; 3], f64)> = (0..d)
        .into_par_iter()
        .flat_map_iter(|z| {
            let mut found = Vec::new();
            (0..h).for_each(|y| weights([z, y], &mut |x, weight| found.push(([z, y, x], weight))));
            found
        })
        .collect();
    let seeds = Seeds::new(to, spacing_mm);
    if seeds.spans.iter().all(Option::is_none) {
        return places
            .iter()
            .map(|(_, weight)| Point { mm: f64::INFINITY, weight: *weight })
            .collect();
    }
    let sample: Vec<_> = places.iter().step_by(SAMPLE).collect();
    let near = sample.par_iter().filter(|(place, _)| seeds.within_reach(*place).is_some()).count();
    let squares: Vec<Option<f64>> = match sample.len() <= 2 * near {
        true => places.par_iter().map(|(place, _)| seeds.within_reach(*place)).collect(),
        false => vec![None; places.len()],
    };
    let far: Vec<usize> = (0..places.len()).filter(|n| squares[*n].is_none()).collect();
    let mut points: Vec<Point> = places
        .iter()
        .zip(&squares)
        .map(|((_, weight), squared)| Point {
            mm: squared.unwrap_or(f64::INFINITY).sqrt(),
            weight: *weight,
        })
        .collect();
    if !far.is_empty() {
        let places: Vec<[usize; 3]> = far.iter().map(|n| places[*n].0).collect();
        for (n, squared) in far.iter().zip(transformed(&places, to, spacing_mm)) {
            points[*n].mm = squared.sqrt();
        }
    }
    points
}

/// The squares of the distances of these places.
fn transformed(places: &[[usize; 3]], to: &Bits, spacing_mm: [f64; 3]) -> Vec<f64> {
    let seeds = |[z, y]: [usize; 2], row: &mut [bool]| to.each_in_row([z, y], |x| row[x] = true);
    let transform = DistanceTransform::new(to.shape(), spacing_mm, Beyond::Nothing, seeds);
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.par_sort_unstable_by_key(|n| [places[*n][1], places[*n][2], places[*n][0]]);
    let columns: Vec<&[usize]> =
        order.chunk_by(|a, b| places[*a][1..] == places[*b][1..]).collect();
    let found: Vec<(usize, f64)> = columns
        .par_iter()
        .flat_map_iter(|column| {
            let mut memory = Column::default();
            let [_, y, x] = places[column[0]];
            let squares = transform.column([y, x], &mut memory);
            column.iter().map(|n| (*n, squares[places[*n][0]])).collect::<Vec<_>>()
        })
        .collect();
    let mut squares = vec![f64::INFINITY; places.len()];
    found.into_iter().for_each(|(n, squared)| squares[n] = squared);
    squares
}

impl<'a> Seeds<'a> {
    fn new(bits: &'a Bits, spacing_mm: [f64; 3]) -> Self {
        let [d, h, _] = bits.shape();
        let span = |n: usize| {
            let row = bits.row(n / h, n % h);
            let first = row.iter().position(|word| *word != 0)?;
            let last = row.iter().rposition(|word| *word != 0)?;
            let from = 64 * first + row[first].trailing_zeros() as usize;
            Some([from, 64 * last + 63 - row[last].leading_zeros() as usize])
        };
        let [slice_mm, row_mm, _] = spacing_mm;
        // A circle of so many rows, but a circle at least that reaches the next row along either axis.
        let reach = (ROWS * slice_mm * row_mm / std::f64::consts::PI)
            .max(1.01 * slice_mm.min(row_mm).powi(2));
        // A slice that is farther away than the reach is of no use; the number of rows stays bounded.
        let most = |mm: f64, size: usize| ((reach.sqrt() / mm) as usize).min(size) as isize;
        let (slices, rows) = (most(slice_mm, d), most(row_mm, h));
        let mut near = Vec::new();
        for steps in (-slices..=slices).flat_map(|z| (-rows..=rows).map(move |y| [z, y])) {
            let squared = (steps[0] as f64 * slice_mm).powi(2) + (steps[1] as f64 * row_mm).powi(2);
            if squared <= reach {
                near.push(Near { steps, squared });
            }
        }
        near.sort_by(|a, b| a.squared.total_cmp(&b.squared));
        let spans = (0..d * h).into_par_iter().map(span).collect();
        Self { bits, spans, spacing_mm, near, reach }
    }

    /// The square of the distance to the nearest, unless that may be farther than the reach.
    fn within_reach(&self, [z, y, x]: [usize; 3]) -> Option<f64> {
        let [d, h, _] = self.bits.shape();
        let mut best = f64::INFINITY;
        for near in &self.near {
            if best <= near.squared {
                break;
            }
            let z = z.checked_add_signed(near.steps[0]).filter(|z| *z < d);
            let y = y.checked_add_signed(near.steps[1]).filter(|y| *y < h);
            let (Some(z), Some(y)) = (z, y) else { continue };
            let Some(span) = self.spans[z * h + y] else { continue };
            let steps = steps_along(self.bits.row(z, y), span, x);
            best = best.min(near.squared + (steps as f64 * self.spacing_mm[2]).powi(2));
        }
        (best <= self.reach).then_some(best)
    }
}

/// Steps from `x` to the nearest set bit of a row, whose first and last are known.
fn steps_along(row: &[u64], [first, last]: [usize; 2], x: usize) -> usize {
    if x <= first {
        return first - x;
    }
    if last <= x {
        return x - last;
    }
    // There is one on each side.
    let (word, bit) = (x / 64, x % 64);
    let mut left = row[word] << (63 - bit);
    let mut steps_left = left.leading_zeros() as usize;
    let mut n = word;
    while left == 0 && 0 < n {
        n -= 1;
        left = row[n];
        steps_left = bit + 1 + 64 * (word - n - 1) + left.leading_zeros() as usize;
    }
    let mut right = row[word] >> bit;
    let mut steps_right = right.trailing_zeros() as usize;
    let mut n = word;
    while right == 0 && n + 1 < row.len() && 64 * (n - word) < steps_left {
        n += 1;
        right = row[n];
        steps_right = 64 * (n - word) - bit + right.trailing_zeros() as usize;
    }
    match right {
        0 => steps_left,
        _ => steps_left.min(steps_right),
    }
}

#[cfg(test)]
mod tests {
    use r1seg_volume::Region;

    use super::*;

    fn random_bits(shape: [usize; 3], share: u32, state: &mut u32) -> Bits {
        let values: Vec<u8> = (0..shape.iter().product())
            .map(|_| {
                *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                u8::from((*state >> 8).is_multiple_of(share))
            })
            .collect();
        Bits::of(&values, shape, Region::whole(shape), Region::whole(shape), |v| v != 0)
    }

    #[test]
    fn distances_within_reach_and_beyond_are_those_of_the_transform() {
        let mut state = 7;
        for (shape, mm) in [
            ([5, 9, 200], [5.0, 0.7, 0.7]),
            ([9, 70, 30], [0.5, 0.5, 3.0]),
            ([40, 40, 40], [1.0, 1.0, 1.0]),
            ([1, 3, 300], [1.0, 2.0, 0.1]),
        ] {
            for share in [5, 300, 20_000] {
                let (from, to) =
                    (random_bits(shape, 7, &mut state), random_bits(shape, share, &mut state));
                let points = distances(&from, &to, mm, |place, found| {
                    from.each_in_row(place, |x| found(x, 1.0));
                });
                let mut places = Vec::new();
                for (z, y) in (0..shape[0]).flat_map(|z| (0..shape[1]).map(move |y| (z, y))) {
                    from.each_in_row([z, y], |x| places.push([z, y, x]));
                }
                let expected = transformed(&places, &to, mm);
                assert_eq!(points.len(), expected.len());
                for (point, squared) in points.iter().zip(&expected) {
                    let mm = squared.sqrt();
                    assert!(point.mm == mm || (point.mm - mm).abs() < 1e-12 * mm, "{point:?} {mm}");
                }
            }
        }
    }

    #[test]
    fn the_nearest_bit_of_a_row_is_found_across_words() {
        let mut row = [0_u64; 5];
        let set = [3_usize, 70, 71, 200, 310];
        set.iter().for_each(|x| row[x / 64] |= 1 << (x % 64));
        for x in 0..320 {
            let expected = set.iter().map(|at| at.abs_diff(x)).min();
            assert_eq!(Some(steps_along(&row, [3, 310], x)), expected, "{x}");
        }
    }
}
