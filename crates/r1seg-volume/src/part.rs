//! The largest connected part of a mask: the box around it, and the voxel deepest inside.

use std::ops::Range;

use rayon::prelude::*;

use crate::{Beyond, ConnectedComponents, DistanceTransform, Geometry, Mask, Region};

/// A connected part of a mask. Voxels that share a face, an edge or a corner hang together (26), as the
/// components of [`MaskStats`](crate::MaskStats) do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    region: Region,
    /// Its voxels, as runs of indices in C order of the grid.
    runs: Vec<Range<usize>>,
    voxels: usize,
}

impl Part {
    /// The part of a mask that has most voxels, whatever their labels; of several the one that comes
    /// first in C order. `None` for a mask without voxels.
    ///
    /// ```
    /// use r1seg_volume::{Geometry, Mask, Part, Region};
    ///
    /// let mask = Mask::new(vec![1, 0, 1, 1, 1], Geometry::without_affine([1, 1, 5]))?;
    /// let part = Part::largest(&mask).unwrap();
    /// assert_eq!(part.region(), Region { start: [0, 0, 2], end: [1, 1, 5] });
    /// assert_eq!(part.deepest(mask.geometry()), [0, 0, 2]);
    /// # Ok::<(), r1seg_volume::Error>(())
    /// ```
    pub fn largest(mask: &Mask) -> Option<Self> {
        let components = ConnectedComponents::label(mask.data(), mask.shape(), |v| v != 0);
        let mut sizes = vec![0; components.count() + 1];
        for (number, run) in components.runs() {
            sizes[number] += run.len();
        }
        // Of equal ones the last maximum would be found, hence from behind.
        let (largest, voxels) =
            sizes.into_iter().enumerate().skip(1).rev().max_by_key(|(_, voxels)| *voxels)?;
        let of_largest = components.runs().filter(|(number, _)| *number == largest);
        let found: Vec<Range<usize>> = of_largest.map(|(_, run)| run).collect();
        let [_, h, w] = mask.shape();
        Some(Self { region: around(&found, [h, w]), runs: found, voxels })
    }

    /// The smallest box with all of its voxels.
    pub fn region(&self) -> Region {
        self.region
    }

    /// The number of its voxels.
    pub fn voxels(&self) -> usize {
        self.voxels
    }

    /// The voxel `[D, H, W]` of the part whose center is farthest from the center of any voxel outside of
    /// it, in mm along the axes of the grid, or in voxels where no spacing is known. What lies beyond the
    /// grid is outside. Of voxels as deep as each other it is the first in C order.
    ///
    /// The distances are exact. Four bytes are taken for each voxel of [`region`](Self::region).
    pub fn deepest(&self, geometry: &Geometry) -> [usize; 3] {
        let spacing = geometry.spacing_mm().unwrap_or([1.0; 3]);
        let [_, height, width] = geometry.shape();
        let (start, [_, h, w]) = (self.region.start, self.region.shape());
        // Runs are sorted, and none goes on into another row.
        let outside = |[z, y]: [usize; 2], row: &mut [bool]| {
            row.fill(true);
            let first = ((start[0] + z) * height + start[1] + y) * width + start[2];
            let from = self.runs.partition_point(|run| run.end <= first);
            for run in self.runs[from..].iter().take_while(|run| run.start < first + w) {
                row[run.start - first..run.end - first].fill(false);
            }
        };
        let distances =
            DistanceTransform::new(self.region.shape(), spacing, Beyond::Seeds, outside);
        let deepest = (0..h).into_par_iter().filter_map(|y| {
            let mut deepest = None;
            // In f64, distances that are the same may differ in the last digit.
            distances.plane(y, |voxel, squared| {
                deepest = deeper(deepest, (squared as f32, voxel));
            });
            deepest
        });
        let deepest = deepest.reduce_with(|a, b| deeper(Some(a), b).unwrap_or(a));
        let [z, y, x] = deepest.map_or([0; 3], |(_, voxel)| voxel);
        [start[0] + z, start[1] + y, start[2] + x]
    }
}

/// A voxel with the square of its distance to the outside.
type Depth = (f32, [usize; 3]);

/// The deeper of the two, or the first one in C order; nothing outside of the part is deep.
fn deeper(deepest: Option<Depth>, other: Depth) -> Option<Depth> {
    if other.0 <= 0.0 {
        return deepest;
    }
    let Some(known) = deepest else { return Some(other) };
    let is_deeper = other.0 > known.0 || other.0 == known.0 && other.1 < known.1;
    Some(if is_deeper { other } else { known })
}

/// The box around runs of indices in C order, in rows of `w` and slices of `h` rows.
fn around(runs: &[Range<usize>], [h, w]: [usize; 2]) -> Region {
    let mut region = Region { start: [usize::MAX; 3], end: [0; 3] };
    for run in runs {
        let (z, y) = (run.start / w / h, run.start / w % h);
        for (axis, from, to) in [(0, z, z), (1, y, y), (2, run.start % w, (run.end - 1) % w)] {
            region.start[axis] = region.start[axis].min(from);
            region.end[axis] = region.end[axis].max(to + 1);
        }
    }
    region
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(shape: [usize; 3], inside: impl Fn([usize; 3]) -> bool) -> Mask {
        let [d, h, w] = shape;
        let voxel = |n: usize| [n / (h * w), n / w % h, n % w];
        let data = (0..d * h * w).map(|n| u8::from(inside(voxel(n)))).collect();
        Mask::new(data, Geometry::with_spacing(shape, [2.5, 0.7, 1.1]).unwrap()).unwrap()
    }

    /// The squares of all distances, by their definition.
    fn deepest_by_definition(mask: &Mask, part: &Part) -> [usize; 3] {
        let [d, h, w] = mask.shape().map(|n| n as i64);
        let spacing = mask.geometry().spacing_mm().unwrap();
        let inside: std::collections::HashSet<usize> =
            part.runs.iter().cloned().flatten().collect();
        let is_outside = |[z, y, x]: [i64; 3]| {
            let is_in = (0..d).contains(&z) && (0..h).contains(&y) && (0..w).contains(&x);
            !is_in || !inside.contains(&(((z * h + y) * w + x) as usize))
        };
        let mut all = Vec::new();
        for (z, y, x) in
            (0..d).flat_map(|z| (0..h).flat_map(move |y| (0..w).map(move |x| (z, y, x))))
        {
            if is_outside([z, y, x]) {
                continue;
            }
            let mut nearest = f64::INFINITY;
            for other in
                (-1..=d).flat_map(|a| (-1..=h).flat_map(move |b| (-1..=w).map(move |c| [a, b, c])))
            {
                if is_outside(other) {
                    let apart = [z - other[0], y - other[1], x - other[2]];
                    let squared =
                        (0..3).map(|n| (apart[n] as f64 * spacing[n]).powi(2)).sum::<f64>();
                    nearest = nearest.min(squared);
                }
            }
            all.push((nearest, [z, y, x].map(|n| n as usize)));
        }
        let most = all.iter().map(|(depth, _)| *depth).fold(0.0, f64::max);
        // In f32 two depths may be the same.
        all.into_iter().find(|(depth, _)| *depth as f32 == most as f32).unwrap().1
    }

    #[test]
    fn the_deepest_voxel_is_the_one_that_the_definition_names() {
        let mut state = 11_u32;
        let mut random = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % below
        };
        for shape in [[4, 9, 7], [1, 8, 8], [6, 1, 5], [3, 3, 1], [5, 6, 7]] {
            for share in [3, 6, 12] {
                let voxels: Vec<bool> =
                    (0..shape.iter().product()).map(|_| random(share) > 0).collect();
                let mask = mask(shape, |[z, y, x]| voxels[(z * shape[1] + y) * shape[2] + x]);
                let part = Part::largest(&mask).unwrap();
                let expected = deepest_by_definition(&mask, &part);
                assert_eq!(part.deepest(mask.geometry()), expected, "{shape:?} {share}");
            }
        }
    }

    #[test]
    fn the_deepest_voxel_of_an_l_is_inside_of_it_and_its_centroid_is_not() {
        // Two arms of 3 voxels' breadth, which meet in a corner.
        let inside = |[_, y, x]: [usize; 3]| {
            (1..20).contains(&y) && (1..20).contains(&x) && (y < 4 || x < 4)
        };
        let l = mask([3, 24, 24], |[z, y, x]| z < 3 && inside([z, y, x]));
        let part = Part::largest(&l).unwrap();
        let sum: [usize; 3] =
            part.runs.iter().cloned().flatten().fold([0; 3], |sum, n| {
                [sum[0] + n / (24 * 24), sum[1] + n / 24 % 24, sum[2] + n % 24]
            });
        let centroid = sum.map(|n| n / part.voxels());
        assert!(!inside(centroid), "{centroid:?}");
        let deepest = part.deepest(l.geometry());
        assert!(inside(deepest), "{deepest:?}");
        assert_eq!(deepest, deepest_by_definition(&l, &part));
    }

    #[test]
    fn the_largest_part_leaves_the_others_out_and_of_equals_is_the_first() {
        let two = mask([1, 5, 9], |[_, y, x]| (y < 2 && x < 2) || (y > 2 && x > 4));
        let part = Part::largest(&two).unwrap();
        assert_eq!(
            (part.voxels(), part.region()),
            (8, Region { start: [0, 3, 5], end: [1, 5, 9] })
        );
        let equal = mask([1, 1, 9], |[_, _, x]| !(2..=6).contains(&x));
        assert_eq!(
            Part::largest(&equal).unwrap().region(),
            Region { start: [0; 3], end: [1, 1, 2] }
        );
        assert_eq!(Part::largest(&mask([2; 3], |_| false)), None);
        // A corner is enough to hang together.
        let diagonal = mask([2; 3], |[z, y, x]| z == y && y == x);
        assert_eq!(Part::largest(&diagonal).unwrap().voxels(), 2);
    }

    #[test]
    fn a_part_at_the_edge_of_the_volume_is_deepest_away_from_it() {
        let whole = mask([5, 5, 5], |_| true);
        let part = Part::largest(&whole).unwrap();
        assert_eq!(part.region(), Region::whole([5; 3]));
        // 2.1 mm from the faces along H, nearer than those along D and W.
        assert_eq!(part.deepest(whole.geometry())[1], 2);
    }
}
