//! The connected components of a grid, by number.

use std::ops::Range;

use crate::Error;
use crate::components::{Components, Neighbors, runs};
use crate::crop::check_data;

/// The connected components of the voxels of a grid that a condition holds for. Voxels that share a face,
/// an edge or a corner hang together (26), or those alone that share a face (6).
///
/// Components are numbered from 1 in the C order of their first voxels. Memory is taken for runs of
/// voxels along W, not for voxels.
///
/// ```
/// use r1seg_volume::ConnectedComponents;
///
/// let logits = [0.5, -1.0, 2.0, 3.0];
/// let components = ConnectedComponents::of(&logits, [1, 1, 4], |logit| 0.0 < logit)?;
/// assert_eq!(components.count(), 2);
/// assert_eq!(components.number_at([0, 0, 3]), Some(2));
/// assert_eq!(components.mask(|number| number == 2), [0, 0, 1, 1]);
/// # Ok::<(), r1seg_volume::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectedComponents {
    shape: [usize; 3],
    /// Indices in C order of the grid, ascending; no run goes on into another row.
    runs: Vec<Range<usize>>,
    /// The component of each run.
    numbers: Vec<usize>,
    count: usize,
}

impl ConnectedComponents {
    /// The components of those voxels of a grid of `shape`, `[D, H, W]`, whose values are `inside`.
    ///
    /// # Errors
    /// `R-GEO-01` if the number of values is not that of the voxels.
    pub fn of<T: Copy>(
        values: &[T],
        shape: [usize; 3],
        inside: impl Fn(T) -> bool,
    ) -> Result<Self, Error> {
        check_data(values, shape)?;
        Ok(Self::label(values, shape, inside))
    }

    /// The same where voxels hang together by their faces alone.
    ///
    /// # Errors
    /// `R-GEO-01` if the number of values is not that of the voxels.
    pub fn by_faces<T: Copy>(
        values: &[T],
        shape: [usize; 3],
        inside: impl Fn(T) -> bool,
    ) -> Result<Self, Error> {
        check_data(values, shape)?;
        Ok(Self::number(values, shape, Neighbors::Faces, inside))
    }

    /// The same for a grid that is known to have one value per voxel.
    pub(crate) fn label<T: Copy>(
        values: &[T],
        shape: [usize; 3],
        inside: impl Fn(T) -> bool,
    ) -> Self {
        Self::number(values, shape, Neighbors::All, inside)
    }

    fn number<T: Copy>(
        values: &[T],
        shape: [usize; 3],
        neighbors: Neighbors,
        inside: impl Fn(T) -> bool,
    ) -> Self {
        let [d, h, w] = shape;
        let mut components = Components::new(h, neighbors);
        let mut found: Vec<Range<usize>> = Vec::new();
        for z in 0..d {
            for y in 0..h {
                let first = (z * h + y) * w;
                for columns in runs(&values[first..first + w], &inside) {
                    found.push(first + columns.start..first + columns.end);
                    components.add_run(y, columns);
                }
            }
            components.end_slice();
        }
        let count = components.count();
        Self { shape, runs: found, numbers: components.into_numbers(), count }
    }

    /// How many there are, which is the number of the last one.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The number of the one with the most voxels; of several, the first. `None` if there are none.
    pub fn largest(&self) -> Option<usize> {
        let mut voxels = vec![0; self.count];
        for (number, run) in self.runs() {
            voxels[number - 1] += run.len();
        }
        let most = voxels.iter().max()?;
        voxels.iter().position(|own| own == most).map(|index| index + 1)
    }

    /// The number of the component that a voxel `[D, H, W]` belongs to; `None` for one that belongs to
    /// none, or lies outside of the grid.
    pub fn number_at(&self, voxel: [usize; 3]) -> Option<usize> {
        let [_, h, w] = self.shape;
        if !(0..3).all(|n| voxel[n] < self.shape[n]) {
            return None;
        }
        let index = (voxel[0] * h + voxel[1]) * w + voxel[2];
        let at = self.runs.partition_point(|run| run.end <= index);
        let run = self.runs.get(at)?;
        if run.contains(&index) { self.numbers.get(at).copied() } else { None }
    }

    /// Their voxels as runs of indices in C order of the grid, ascending, each with the number of its
    /// component.
    pub fn runs(&self) -> impl Iterator<Item = (usize, Range<usize>)> {
        self.numbers.iter().copied().zip(self.runs.iter().cloned())
    }

    /// 1 for each voxel of the components that are `chosen` by number, and 0 elsewhere, `[D, H, W]`.
    pub fn mask(&self, chosen: impl Fn(usize) -> bool) -> Vec<u8> {
        let mut mask = vec![0; self.shape.iter().product()];
        for (_, run) in self.runs().filter(|(number, _)| chosen(*number)) {
            mask[run].fill(1);
        }
        mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers by their definition: from each voxel in C order that has none, all that it reaches by steps
    /// along so many axes at once.
    fn flooded(values: &[bool], [d, h, w]: [usize; 3], axes: usize) -> Vec<usize> {
        let mut numbers = vec![0; values.len()];
        let mut last = 0;
        for seed in 0..values.len() {
            if !values[seed] || numbers[seed] != 0 {
                continue;
            }
            last += 1;
            numbers[seed] = last;
            let mut ahead = vec![seed];
            while let Some(n) = ahead.pop() {
                let from = [n / (h * w), n / w % h, n % w];
                let [z, y, x] = from;
                for z in z.saturating_sub(1)..(z + 2).min(d) {
                    for y in y.saturating_sub(1)..(y + 2).min(h) {
                        for x in x.saturating_sub(1)..(x + 2).min(w) {
                            let near = (z * h + y) * w + x;
                            let steps = [z, y, x].into_iter().zip(from).filter(|(a, b)| a != b);
                            if values[near] && numbers[near] == 0 && steps.count() <= axes {
                                numbers[near] = last;
                                ahead.push(near);
                            }
                        }
                    }
                }
            }
        }
        numbers
    }

    #[test]
    fn numbers_are_those_of_a_flood_from_each_voxel_in_order() {
        let mut state = 5_u32;
        let mut random = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % below
        };
        for shape in [[5, 9, 13], [1, 8, 8], [7, 1, 6], [4, 5, 1], [1, 1, 1], [0, 3, 3], [3, 3, 0]]
        {
            // A single voxel in twelve, and all but one in twelve.
            for least in [1, 2, 4, 8, 11] {
                let count = shape.iter().product();
                let values: Vec<bool> = (0..count).map(|_| random(12) < least).collect();
                let all = ConnectedComponents::of(&values, shape, |v| v).unwrap();
                let by_faces = ConnectedComponents::by_faces(&values, shape, |v| v).unwrap();
                check(&all, &flooded(&values, shape, 3), shape);
                check(&by_faces, &flooded(&values, shape, 1), shape);
            }
        }
    }

    fn check(components: &ConnectedComponents, expected: &[usize], shape: [usize; 3]) {
        let [_, h, w] = shape;
        let found: Vec<usize> = (0..expected.len())
            .map(|n| components.number_at([n / (h * w), n / w % h, n % w]).unwrap_or(0))
            .collect();
        assert_eq!(found, expected, "{shape:?}");
        assert_eq!(components.count(), expected.iter().copied().max().unwrap_or(0));
        let mut most = 0;
        for number in 1..=components.count() {
            let mask = components.mask(|other| other == number);
            assert!(mask.iter().zip(expected).all(|(v, n)| (*v == 1) == (*n == number)));
            most = most.max(mask.iter().filter(|v| **v == 1).count());
        }
        let of_size = |number: &usize| expected.iter().filter(|n| *n == number).count() == most;
        assert_eq!(components.largest(), (1..=components.count()).find(of_size));
    }

    #[test]
    fn the_end_of_a_row_does_not_touch_the_beginning_of_the_next() {
        let values = [false, false, true, true, false, false, false, false, true];
        let components = ConnectedComponents::of(&values, [1, 3, 3], |v| v).unwrap();
        assert_eq!(components.count(), 3);
        assert_eq!(components.runs().collect::<Vec<_>>(), [(1, 2..3), (2, 3..4), (3, 8..9)]);
    }

    #[test]
    fn a_voxel_outside_of_the_grid_belongs_to_no_component() {
        let components = ConnectedComponents::of(&[1_u8; 8], [2; 3], |v| v == 1).unwrap();
        assert_eq!(components.number_at([1, 1, 1]), Some(1));
        assert_eq!(components.number_at([0, 0, 2]), None);
        assert_eq!(components.number_at([2, 0, 0]), None);
        assert_eq!(components.number_at([0, usize::MAX, 0]), None);
    }

    #[test]
    fn values_that_are_not_one_a_voxel_are_refused() {
        let error = ConnectedComponents::of(&[0_u8; 7], [2; 3], |v| v == 1).unwrap_err();
        assert_eq!(error.code(), "R-GEO-01");
    }
}
