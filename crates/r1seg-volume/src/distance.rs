//! Exact distances to the nearest of some voxels, in mm along the axes of the grid.
//!
//! The transform of Felzenszwalb and Huttenlocher ("Distance Transforms of Sampled Functions", 2012): the
//! lower envelope of a parabola for each voxel of a line, along one axis after the other. What is kept
//! between the axes are steps in whole voxels, so that a distance is rounded once, from its three steps.

use rayon::prelude::*;

/// What is assumed to lie beyond the edges of a grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beyond {
    /// Nothing that a distance could end at.
    Nothing,
    /// Seeds on all sides.
    Seeds,
}

/// The distance from each voxel of a grid to the nearest seed.
///
/// Four bytes are kept for each voxel, and eight for grids with an axis of more than 65,534 voxels.
///
/// ```
/// use r1seg_volume::{Beyond, DistanceTransform};
///
/// // One seed at the beginning of a line of four voxels of 0.5 mm.
/// let shape = [1, 1, 4];
/// let seeds = |_: [usize; 2], row: &mut [bool]| row[0] = true;
/// let distances = DistanceTransform::new(shape, [1.0, 1.0, 0.5], Beyond::Nothing, seeds);
/// let mut found = Vec::new();
/// distances.plane(0, |_, squared| found.push(squared.sqrt()));
/// assert_eq!(found, [0.0, 0.5, 1.0, 1.5]);
/// ```
#[derive(Debug)]
pub struct DistanceTransform {
    shape: [usize; 3],
    spacing_mm: [f64; 3],
    beyond: Beyond,
    steps: Steps,
}

/// Steps along H and W to the nearest seed of the slice, for each voxel.
#[derive(Debug)]
enum Steps {
    Short(Vec<[u16; 2]>),
    Long(Vec<[u32; 2]>),
}

impl DistanceTransform {
    /// Of a grid of `shape` with voxels of `spacing_mm`, both `[D, H, W]`. `seeds` is called with the place
    /// `[D, H]` of each row, and sets those of the row's voxels that are seeds; all of them are unset
    /// before.
    pub fn new(
        shape: [usize; 3],
        spacing_mm: [f64; 3],
        beyond: Beyond,
        seeds: impl Fn([usize; 2], &mut [bool]) + Sync,
    ) -> Self {
        let slices = Slices { shape, spacing_mm, beyond, seeds };
        let is_short = shape.iter().all(|size| *size < usize::from(u16::MAX));
        let steps =
            if is_short { Steps::Short(slices.steps()) } else { Steps::Long(slices.steps()) };
        Self { shape, spacing_mm, beyond, steps }
    }

    /// Calls `found` with each voxel `[D, H, W]` of the plane at height `y`, and the square of its distance
    /// in mm: infinity where there is no seed, and 0 for a seed.
    pub fn plane(&self, y: usize, mut found: impl FnMut([usize; 3], f64)) {
        let mut column = Column::default();
        for x in 0..self.shape[2] {
            let squares = self.column([y, x], &mut column);
            squares.iter().enumerate().for_each(|(z, squared)| found([z, y, x], *squared));
        }
    }

    /// The squares of the distances of all voxels along D at `[H, W]`. Infinity where there is no seed.
    pub fn column<'a>(&self, [y, x]: [usize; 2], column: &'a mut Column) -> &'a [f64] {
        let [d, h, w] = self.shape;
        let [_, row_mm, column_mm] = self.spacing_mm;
        column.within.clear();
        column.within.extend((0..d).map(|z| {
            let steps = self.get((z * h + y) * w + x);
            let square = |steps: usize, mm: f64| (steps as f64 * mm).powi(2);
            steps.map(|[rows, columns]| [square(rows, row_mm), square(columns, column_mm)])
        }));
        let within = &column.within;
        let heights = within.iter().map(|squares| squares.map(|[rows, columns]| rows + columns));
        column.envelope.build(heights, self.spacing_mm[0], self.beyond);
        column.squares.clear();
        let squares = &mut column.squares;
        column.envelope.walk(d, self.spacing_mm[0], |z, nearest| {
            squares.push(nearest.map_or(f64::INFINITY, |from| {
                let [rows, columns] = from.voxel.and_then(|z| within[z]).unwrap_or_default();
                (from.steps_to(z) as f64 * self.spacing_mm[0]).powi(2) + rows + columns
            }));
        });
        &column.squares
    }

    fn get(&self, voxel: usize) -> Option<[usize; 2]> {
        match &self.steps {
            Steps::Short(steps) => steps_of(steps[voxel]),
            Steps::Long(steps) => steps_of(steps[voxel]),
        }
    }
}

/// Memory that is used again for each column.
#[derive(Debug, Default)]
pub struct Column {
    /// Squares of the ways along H and W of each voxel.
    within: Vec<Option<[f64; 2]>>,
    envelope: Envelope,
    squares: Vec<f64>,
}

/// A number of voxels; the largest means that there is no seed.
trait Step: Copy + PartialEq + Send + Sync {
    const NONE: Self;
    fn of(steps: usize) -> Self;
    fn get(self) -> usize;
}

impl Step for u16 {
    const NONE: Self = Self::MAX;

    fn of(steps: usize) -> Self {
        Self::try_from(steps).unwrap_or(Self::MAX)
    }

    fn get(self) -> usize {
        usize::from(self)
    }
}

impl Step for u32 {
    const NONE: Self = Self::MAX;

    fn of(steps: usize) -> Self {
        Self::try_from(steps).unwrap_or(Self::MAX)
    }

    fn get(self) -> usize {
        usize::try_from(self).unwrap_or(usize::MAX)
    }
}

fn steps_of<S: Step>(steps: [S; 2]) -> Option<[usize; 2]> {
    (steps[1] != S::NONE).then(|| steps.map(S::get))
}

/// The transform within each slice.
struct Slices<F> {
    shape: [usize; 3],
    spacing_mm: [f64; 3],
    beyond: Beyond,
    seeds: F,
}

impl<F: Fn([usize; 2], &mut [bool]) + Sync> Slices<F> {
    fn steps<S: Step>(&self) -> Vec<[S; 2]> {
        let [d, h, w] = self.shape;
        let mut steps = vec![[S::NONE; 2]; d * h * w];
        if steps.is_empty() {
            return steps;
        }
        steps.par_chunks_mut(h * w).enumerate().for_each_init(
            || (vec![false; w], vec![S::NONE; h * w], Envelope::default()),
            |(seeds, along_w, envelope), (z, slice)| {
                for (y, row) in along_w.chunks_exact_mut(w).enumerate() {
                    seeds.fill(false);
                    (self.seeds)([z, y], seeds);
                    along_row(seeds, row, self.beyond);
                }
                for x in 0..w {
                    self.down_column(x, along_w, slice, envelope);
                }
            },
        );
        steps
    }

    fn down_column<S: Step>(
        &self,
        x: usize,
        along_w: &[S],
        slice: &mut [[S; 2]],
        envelope: &mut Envelope,
    ) {
        let [_, h, w] = self.shape;
        let [_, row_mm, column_mm] = self.spacing_mm;
        let heights = (0..h).map(|y| {
            let steps = along_w[y * w + x];
            (steps != S::NONE).then(|| (steps.get() as f64 * column_mm).powi(2))
        });
        envelope.build(heights, row_mm, self.beyond);
        envelope.walk(h, row_mm, |y, nearest| {
            let Some(from) = nearest else { return };
            let columns = from.voxel.map_or(S::of(0), |y| along_w[y * w + x]);
            slice[y * w + x] = [S::of(from.steps_to(y)), columns];
        });
    }
}

/// Steps to the nearest seed of the same row.
fn along_row<S: Step>(seeds: &[bool], row: &mut [S], beyond: Beyond) {
    let before = match beyond {
        Beyond::Nothing => None,
        Beyond::Seeds => Some(0),
    };
    let advance = |since: Option<usize>, is_seed: bool| match is_seed {
        true => Some(0),
        false => since.map(|steps| steps + 1),
    };
    let mut since = before;
    for (steps, is_seed) in row.iter_mut().zip(seeds) {
        since = advance(since, *is_seed);
        *steps = since.map_or(S::NONE, S::of);
    }
    since = before;
    for (steps, is_seed) in row.iter_mut().zip(seeds).rev() {
        since = advance(since, *is_seed);
        if let Some(other) = since.filter(|other| *other < steps.get()) {
            *steps = S::of(other);
        }
    }
}

/// The parabolas of a line that are the lowest somewhere, in their order.
#[derive(Debug, Default)]
struct Envelope {
    lowest: Vec<Parabola>,
}

#[derive(Debug, Clone, Copy)]
struct Parabola {
    /// Its place on the line, from 1; 0 and one past the last are beyond the edges.
    place: usize,
    /// The voxel of the line, unless it lies beyond.
    voxel: Option<usize>,
    height: f64,
    /// Where it begins to be the lowest.
    begins: f64,
}

impl Parabola {
    fn steps_to(&self, voxel: usize) -> usize {
        self.place.abs_diff(voxel + 1)
    }
}

impl Envelope {
    /// `heights` are squares of distances across the line; `None` where there is no seed.
    fn build(
        &mut self,
        heights: impl ExactSizeIterator<Item = Option<f64>>,
        spacing_mm: f64,
        beyond: Beyond,
    ) {
        self.lowest.clear();
        let count = heights.len();
        if beyond == Beyond::Seeds {
            self.add(0, None, 0.0, spacing_mm);
        }
        for (voxel, height) in heights.enumerate() {
            if let Some(height) = height {
                self.add(voxel + 1, Some(voxel), height, spacing_mm);
            }
        }
        if beyond == Beyond::Seeds {
            self.add(count + 1, None, 0.0, spacing_mm);
        }
    }

    fn add(&mut self, place: usize, voxel: Option<usize>, height: f64, spacing_mm: f64) {
        let at = |place: usize| place as f64 * spacing_mm;
        let begins = loop {
            let Some(top) = self.lowest.last() else { break f64::NEG_INFINITY };
            let difference = height + at(place).powi(2) - top.height - at(top.place).powi(2);
            let crossing = difference / (2.0 * (at(place) - at(top.place)));
            if top.begins < crossing {
                break crossing;
            }
            self.lowest.pop();
        };
        self.lowest.push(Parabola { place, voxel, height, begins });
    }

    /// Calls `found` with each voxel of the line and the parabola that is lowest there.
    fn walk(&self, count: usize, spacing_mm: f64, mut found: impl FnMut(usize, Option<&Parabola>)) {
        let mut lowest = 0;
        for voxel in 0..count {
            let at = (voxel + 1) as f64 * spacing_mm;
            while self.lowest.get(lowest + 1).is_some_and(|next| next.begins < at) {
                lowest += 1;
            }
            found(voxel, self.lowest.get(lowest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The squares of all distances by their definition, in C order.
    fn by_definition(shape: [usize; 3], mm: [f64; 3], beyond: Beyond, seeds: &[bool]) -> Vec<f64> {
        let [d, h, w] = shape.map(|n| n as i64);
        let is_seed = |[z, y, x]: [i64; 3]| {
            let inside = (0..d).contains(&z) && (0..h).contains(&y) && (0..w).contains(&x);
            if inside { seeds[((z * h + y) * w + x) as usize] } else { beyond == Beyond::Seeds }
        };
        let all: Vec<[i64; 3]> = (-1..=d)
            .flat_map(|z| (-1..=h).flat_map(move |y| (-1..=w).map(move |x| [z, y, x])))
            .collect();
        let mut squares = Vec::new();
        for n in 0..d * h * w {
            let voxel = [n / (h * w), n / w % h, n % w];
            let square = |other: &[i64; 3]| {
                (0..3).map(|n| ((voxel[n] - other[n]) as f64 * mm[n]).powi(2)).sum::<f64>()
            };
            let seeds = all.iter().filter(|other| is_seed(**other));
            squares.push(seeds.map(square).fold(f64::INFINITY, f64::min));
        }
        squares
    }

    fn transformed(distances: &DistanceTransform) -> Vec<f64> {
        let [d, h, w] = distances.shape;
        let mut squares = vec![f64::NAN; d * h * w];
        for y in 0..h {
            distances.plane(y, |[z, y, x], squared| squares[(z * h + y) * w + x] = squared);
        }
        squares
    }

    #[test]
    fn distances_are_those_of_the_definition() {
        let mut state = 3_u32;
        let mut random = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % below
        };
        for shape in [[4, 7, 6], [1, 8, 8], [6, 1, 5], [3, 3, 1], [1, 1, 1]] {
            for share in [2, 5, 40] {
                let count: usize = shape.iter().product();
                let seeds: Vec<bool> = (0..count).map(|_| random(share) == 0).collect();
                for beyond in [Beyond::Nothing, Beyond::Seeds] {
                    let mm = [2.5, 0.7, 1.1];
                    let of_row = |[z, y]: [usize; 2], row: &mut [bool]| {
                        let first = (z * shape[1] + y) * shape[2];
                        row.copy_from_slice(&seeds[first..first + shape[2]]);
                    };
                    let found = transformed(&DistanceTransform::new(shape, mm, beyond, of_row));
                    let expected = by_definition(shape, mm, beyond, &seeds);
                    for (found, expected) in found.iter().zip(&expected) {
                        let is_same =
                            found == expected || (found - expected).abs() < 1e-12 * expected.abs();
                        assert!(is_same, "{found} {expected} {shape:?} {beyond:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_axis_that_is_longer_than_16_bits_has_exact_distances() {
        let shape = [1, 1, 70_000];
        let seeds = |_: [usize; 2], row: &mut [bool]| row[0] = true;
        let distances = DistanceTransform::new(shape, [1.0; 3], Beyond::Nothing, seeds);
        let mut column = Column::default();
        assert_eq!(distances.column([0, 69_999], &mut column), [69_999.0_f64.powi(2)]);
        let none = DistanceTransform::new([0, 3, 3], [1.0; 3], Beyond::Nothing, |_, _| {});
        assert!(none.column([1, 1], &mut column).is_empty());
    }
}
