use super::*;
use crate::Orientation;
use crate::resample::{nearest_exact_sources, nearest_sources};
use crate::{NearestMode, SpacingConvention, crop, paste};

/// Numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) as usize % end.max(1)
    }

    fn shape(&mut self, most: usize) -> [usize; 3] {
        std::array::from_fn(|_| 1 + self.below(most))
    }

    fn region(&mut self, shape: [usize; 3]) -> Region {
        let start = shape.map(|size| self.below(size));
        let end = std::array::from_fn(|n| start[n] + 1 + self.below(shape[n] - start[n]));
        Region { start, end }
    }

    fn axes(&mut self) -> AxisMap {
        let orientations = ["LPS", "RAS", "PIR", "SLA", "ARI", "IPL", "RSA", "LIP"];
        let code = orientations[self.below(8)];
        AxisMap::between(Orientation::LPS, code.parse().unwrap())
    }

    fn whole_steps(&mut self, most: usize) -> GridMap {
        let shape = self.shape(most);
        let crop = self.region(shape);
        GridMap::identity(shape).cropped(crop).unwrap().turned(self.axes())
    }

    /// Every kind of step.
    fn map(&mut self) -> GridMap {
        let map = self.whole_steps(12).fitted(self.shape(20)).unwrap();
        let spacing = |numbers: &mut Self| [0; 3].map(|_| 0.5 + numbers.below(40) as f64 / 8.0);
        let (from, to) = (spacing(self), spacing(self));
        let conventions =
            [SpacingConvention::ItkCeil, SpacingConvention::ItkCentered, SpacingConvention::Monai];
        let lattice = Lattice::new(map.shape(), from, to, conventions[self.below(3)]).unwrap();
        let start = [0; 3].map(|_| self.below(7) as i64 - 3);
        map.spaced(lattice).turned(self.axes()).windowed(start, self.shape(9))
    }
}

#[test]
fn a_map_and_its_inverse_lead_back_to_every_point() {
    let mut numbers = Numbers(1);
    for _ in 0..500 {
        let map = numbers.map();
        assert_eq!(map.inverse().inverse(), map);
        assert_eq!(map.inverse().shape(), map.source_shape());
        let at = [0; 3].map(|_| numbers.below(1000) as f64 / 10.0 - 50.0);
        let back = map.inverse().point(map.point(at));
        assert!((0..3).all(|n| (back[n] - at[n]).abs() < 1e-9), "{at:?} {back:?} {map:?}");
    }
}

#[test]
fn a_map_of_two_is_one_after_the_other() {
    let mut numbers = Numbers(2);
    for _ in 0..300 {
        let first = numbers.map();
        let crop = numbers.region(first.shape());
        let second = GridMap::identity(first.shape()).cropped(crop).unwrap().turned(numbers.axes());
        let both = first.clone().then(&second).unwrap();
        let at = first.source_shape().map(|size| numbers.below(size) as f64);
        assert_eq!(both.point(at), second.point(first.point(at)));
        let region = numbers.region(first.source_shape());
        let touched = |map: &GridMap, region| map.region(region, RegionRule::Touched);
        let expected = touched(&first, region).and_then(|region| touched(&second, region));
        assert_eq!(touched(&both, region), expected);
        assert_eq!(both.shape(), second.shape());
    }
    let other = GridMap::identity([1, 2, 3]);
    assert_eq!(GridMap::identity([3; 3]).then(&other).unwrap_err().code(), "R-GEO-02");
}

#[test]
fn whole_cells_go_there_and_back_without_a_change() {
    let mut numbers = Numbers(3);
    for _ in 0..300 {
        let map = numbers.whole_steps(9);
        let back = map.inverse();
        let region = numbers.region(map.shape());
        for rule in [
            RegionRule::Touched,
            RegionRule::Sampled(NearestMode::Nearest),
            RegionRule::SampledOrMiddle(NearestMode::NearestExact),
        ] {
            let behind = back.region(region, rule).unwrap();
            assert_eq!(map.region(behind, rule), Some(region));
        }
        for n in 0..map.shape().iter().product() {
            let [_, h, w] = map.shape();
            let cell = [n / (h * w), n / w % h, n % w];
            assert_eq!(map.cell_of(back.cell_of(cell).unwrap()), Some(cell));
        }
        let footprint = map.footprint().unwrap();
        for n in 0..map.source_shape().iter().product() {
            let [_, h, w] = map.source_shape();
            let voxel = [n / (h * w), n / w % h, n % w];
            let inside = (0..3).all(|n| (footprint.start[n]..footprint.end[n]).contains(&voxel[n]));
            assert_eq!(map.cell_of(voxel).is_some(), inside);
        }
    }
}

#[test]
fn gathered_labels_and_looked_up_rows_are_the_voxels_that_the_steps_leave() {
    let mut numbers = Numbers(4);
    for _ in 0..200 {
        let shape = numbers.shape(7);
        let (region, axes) = (numbers.region(shape), numbers.axes());
        let data: Vec<i16> = (1..=shape.iter().product::<usize>() as i16).collect();
        let map = GridMap::identity(shape).cropped(region).unwrap().turned(axes);
        let expected = axes.data(&crop(&data, shape, region).unwrap(), region.shape()).unwrap();
        assert_eq!(map.gather(&data, NearestMode::Nearest).unwrap(), expected);
        let part = axes.inverse().data(&expected, map.shape()).unwrap();
        let back = map.inverse().gather(&expected, NearestMode::NearestExact).unwrap();
        assert_eq!(back, paste(&part, region, shape).unwrap());

        // Padding is 0, whatever lies there.
        let start = [0; 3].map(|_| numbers.below(5) as i64 - 2);
        let padded = map.clone().windowed(start, numbers.shape(8));
        let gathered = padded.gather(&data, NearestMode::Nearest).unwrap();
        let [d, h, w] = padded.shape();
        let of_cell = |n: usize| {
            let at: [i64; 3] = std::array::from_fn(|axis| {
                [n / (h * w), n / w % h, n % w][axis] as i64 + start[axis]
            });
            let [_, height, width] = map.shape();
            let inside = (0..3).all(|axis| (0..map.shape()[axis] as i64).contains(&at[axis]));
            let [z, y, x] = at.map(|n| n as usize);
            if inside { expected[(z * height + y) * width + x] } else { 0 }
        };
        assert_eq!(gathered, (0..d * h * w).map(of_cell).collect::<Vec<i16>>());
        let lookup = padded.lookup();
        let voxels = data.into();
        let mut rows = Vec::new();
        for (z, y) in (0..d).flat_map(|z| (0..h).map(move |y| (z, y))) {
            lookup.append_row(&voxels, [z, y], &mut rows);
        }
        assert!(rows.iter().copied().eq(gathered.iter().map(|v| f32::from(*v))));
        assert_eq!(lookup.shape(), padded.shape());
    }
}

/// The arithmetic that boxes of answers and of questions have had: integers alone.
mod in_integers {
    use super::*;

    pub(super) fn touched(region: Region, from: [usize; 3], to: [usize; 3]) -> Region {
        let end = |n: usize| (region.end[n] * to[n]).div_ceil(from[n]).min(to[n]);
        Region {
            start: std::array::from_fn(|n| region.start[n] * to[n] / from[n]),
            end: std::array::from_fn(end),
        }
    }

    pub(super) fn sampled_or_low(region: Region, from: [usize; 3], to: [usize; 3]) -> Region {
        let mut cells = region;
        for n in 0..3 {
            cells.start[n] = (region.start[n] * to[n]).div_ceil(from[n]);
            cells.end[n] = (region.end[n] * to[n]).div_ceil(from[n]);
            if cells.end[n] <= cells.start[n] {
                cells.start[n] = region.start[n] * to[n] / from[n];
                cells.end[n] = cells.start[n] + 1;
            }
        }
        cells
    }

    pub(super) fn holding(voxel: [usize; 3], from: [usize; 3], to: [usize; 3]) -> [usize; 3] {
        std::array::from_fn(|n| (2 * voxel[n] + 1) * to[n] / (2 * from[n]))
    }
}

#[test]
fn boxes_and_points_between_grids_of_one_extent_are_exact() {
    let mut numbers = Numbers(5);
    for round in 0..4000 {
        // The grids of the models, in which a scale of f32 is exact, and then any.
        let grid = match round % 4 {
            0 => [32, 256, 256],
            1 => [8, 16, 16],
            2 => [4, 64, 128],
            _ => numbers.shape(300),
        };
        let shape = numbers.shape(600);
        let map = GridMap::identity(shape).fitted(grid).unwrap();
        let region = numbers.region(shape);
        let expected = in_integers::touched(region, shape, grid);
        assert_eq!(map.region(region, RegionRule::Touched), Some(expected), "{shape:?} {grid:?}");
        let cells = numbers.region(grid);
        let expected = in_integers::touched(cells, grid, shape);
        assert_eq!(map.inverse().region(cells, RegionRule::Touched), Some(expected));
        let voxel = region.start;
        assert_eq!(map.cell_of(voxel), Some(in_integers::holding(voxel, shape, grid)));
        if round % 4 < 3 {
            let rule = RegionRule::SampledOrMiddle(NearestMode::Nearest);
            let expected = in_integers::sampled_or_low(region, shape, grid);
            assert_eq!(map.region(region, rule), Some(expected), "{region:?} {shape:?} {grid:?}");
        }
    }
}

#[test]
fn sampled_boxes_are_those_of_the_resized_mask() {
    let mut numbers = Numbers(6);
    for _ in 0..1500 {
        let (shape, grid) = (numbers.shape(80), numbers.shape(80));
        let map = GridMap::identity(shape).fitted(grid).unwrap();
        let region = numbers.region(shape);
        for mode in [NearestMode::Nearest, NearestMode::NearestExact] {
            let mut cells = Region { start: [0; 3], end: [0; 3] };
            let (mut has_samples, mut middle) = (true, cells);
            for n in 0..3 {
                let sources = match mode {
                    NearestMode::Nearest => nearest_sources(shape[n], grid[n]),
                    NearestMode::NearestExact => nearest_exact_sources(shape[n], grid[n]),
                };
                let inside = |source: &usize| (region.start[n]..region.end[n]).contains(source);
                let ends = (sources.iter().position(inside), sources.iter().rposition(inside));
                let center = (region.start[n] + region.end[n]) * grid[n] / (2 * shape[n]);
                let (first, last) = match ends {
                    (Some(first), Some(last)) => (first, last),
                    _ => {
                        has_samples = false;
                        (center, center)
                    }
                };
                (cells.start[n], cells.end[n]) = (first, last + 1);
                middle = cells;
            }
            assert_eq!(map.region(region, RegionRule::SampledOrMiddle(mode)), Some(middle));
            let sampled = map.region(region, RegionRule::Sampled(mode));
            assert_eq!(sampled, has_samples.then_some(cells));
        }
    }
}

#[test]
fn a_touched_box_holds_every_cell_whose_center_comes_from_it() {
    let mut numbers = Numbers(7);
    for _ in 0..300 {
        let map = numbers.map();
        let region = numbers.region(map.source_shape());
        let touched = map.region(region, RegionRule::Touched);
        let [_, h, w] = map.shape();
        for n in 0..map.shape().iter().product() {
            let cell = [n / (h * w), n / w % h, n % w];
            let at = map.inverse().point(cell.map(|n| n as f64));
            // Not on an edge, where rounding decides.
            let inside = (0..3).all(|n| {
                let (low, high) = (region.start[n] as f64 - 0.5, region.end[n] as f64 - 0.5);
                low + 1e-9 < at[n] && at[n] < high - 1e-9
            });
            if inside && map.inverse().cell_of(cell).is_some() {
                let touched = touched.expect("the box has cells");
                assert!((0..3).all(|n| (touched.start[n]..touched.end[n]).contains(&cell[n])));
            }
        }
    }
}

#[test]
fn the_target_has_the_place_in_the_world_that_its_cells_have() {
    let affine = [
        [-0.6, 0.25, 0.0, 10.1],
        [0.0, 0.7, -0.3, 20.0],
        [0.1, 0.0, 2.5, -30.3],
        [0.0, 0.0, 0.0, 1.0],
    ];
    let mut numbers = Numbers(8);
    for _ in 0..300 {
        let map = numbers.map();
        let source = Geometry::with_affine(map.source_shape(), affine).unwrap();
        let target = map.geometry(&source).unwrap();
        assert_eq!(target.shape(), map.shape());
        let at = [0; 3].map(|_| numbers.below(50) as f64 - 10.0);
        let [k, j, i] = at;
        let (mm, expected) = (target.world_mm([i, j, k]), map.mm_of_point(&source, at));
        let (mm, expected) = (mm.unwrap(), expected.unwrap());
        assert!((0..3).all(|n| (mm[n] - expected[n]).abs() < 1e-6), "{mm:?} {expected:?}");
        let cell = map.shape().map(|size| numbers.below(size));
        let center = map.mm_of_point(&source, cell.map(|n| n as f64)).unwrap();
        if map.inverse().cell_of(cell).is_some() {
            assert_eq!(map.cell_at_mm(&source, center), Some(cell));
        }
        // The length of the axes of a cell.
        let lengths = map.extent_of_cell([1.0; 3]);
        let spacing = source.spacing_mm().unwrap();
        let mm3: f64 = (0..3).map(|n| lengths[n] * spacing[n]).product();
        let sheared = source.voxel_volume_mm3().unwrap() / spacing.iter().product::<f64>();
        assert!((mm3 * sheared / target.voxel_volume_mm3().unwrap() - 1.0).abs() < 1e-5);
    }
    let bare = Geometry::without_affine([4, 5, 6]);
    let map = GridMap::identity([4, 5, 6]).fitted([8; 3]).unwrap();
    assert_eq!(map.geometry(&bare).unwrap().spacing_mm(), None);
    assert_eq!((map.cell_at_mm(&bare, [0.0; 3]), map.mm_of_point(&bare, [0.0; 3])), (None, None));
}

#[test]
fn a_voxel_beyond_the_cells_of_a_lattice_belongs_to_a_window_that_shows_more_than_these() {
    // Three voxels of 1 mm, and one cell of 1.7 mm around their center.
    let convention = SpacingConvention::ItkCentered;
    let lattice = Lattice::new([3, 1, 1], [1.0; 3], [1.7, 1.0, 1.0], convention).unwrap();
    let reverse = AxisMap::between(Orientation::LPS, "LPI".parse().unwrap());
    for axes in [AxisMap::IDENTITY, reverse] {
        let narrow = GridMap::identity([3, 1, 1]).spaced(lattice).turned(axes);
        let back = narrow.mask_to_source(&[7], NearestMode::NearestExact).unwrap();
        assert_eq!(back, [0, 7, 0]);
        assert_eq!((narrow.cell_of([0; 3]), narrow.cell_of([1, 0, 0])), (None, Some([0; 3])));
        let wide = narrow.windowed([-1, 0, 0], [3, 1, 1]);
        let back = wide.mask_to_source(&[7, 8, 9], NearestMode::NearestExact).unwrap();
        let (first, last) = if axes == reverse { (2, 0) } else { (0, 2) };
        assert_eq!([back[first], back[1], back[last]], [7, 8, 9]);
        assert_eq!(wide.cell_of([first, 0, 0]), Some([0; 3]));
        assert_eq!(wide.cell_of([last, 0, 0]), Some([2, 0, 0]));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let map = GridMap::identity([4, 5, 6]);
    let beyond = Region { start: [0; 3], end: [4, 5, 7] };
    assert_eq!(map.clone().cropped(beyond).unwrap_err().code(), "R-GEO-04");
    assert_eq!(map.clone().fitted([0, 1, 1]).unwrap_err().code(), "R-GEO-06");
    assert_eq!(map.gather(&[1; 7], NearestMode::Nearest).unwrap_err().code(), "R-GEO-01");
    assert_eq!(map.mask_from_logits(&[1.0; 7], [2; 3]).unwrap_err().code(), "R-GEO-01");
    // Beside the source.
    let far = map.windowed([10; 3], [3; 3]);
    assert_eq!((far.footprint(), far.cell_of([3; 3])), (None, None));
    assert_eq!(far.gather(&[1; 120], NearestMode::Nearest).unwrap(), [0; 27]);
}
