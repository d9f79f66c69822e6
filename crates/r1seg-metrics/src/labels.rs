//! All labels of two label maps at once.

use std::collections::BTreeSet;

use r1seg_volume::{LabelMap, Region};
use rayon::prelude::*;

use crate::surface::{Pair, SurfaceScores, check_shapes};
use crate::{Empties, Error, Overlap};

/// How labels are compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LabelOptions {
    /// What a score is where a mask has no voxels.
    pub empties: Empties,
    /// The tolerance of the surface Dice. `None` for no distances at all.
    pub tolerance_mm: Option<f64>,
}

/// One label of two label maps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LabelComparison {
    /// Its number in both.
    pub label: u16,
    /// Voxels of both.
    pub overlap: Overlap,
    /// `None` where no spacing is known, or no distances were asked for.
    pub surface: Option<SurfaceScores>,
}

/// Compares the labels of two maps of one grid, of which one at least has voxels, in ascending order; or
/// those that are `chosen`. Millimeters are those of the truth's grid.
///
/// Voxels of all labels are counted in one pass, and surfaces are looked for in the box around each label
/// alone, so that a hundred labels take about as long as one of their size.
///
/// # Errors
/// `R-MET-01` for maps of different shapes.
pub fn compare_labels(
    truth: &LabelMap,
    predicted: &LabelMap,
    chosen: Option<&[u16]>,
    options: LabelOptions,
) -> Result<Vec<LabelComparison>, Error> {
    check_shapes(truth.shape(), predicted.shape())?;
    let spacing = truth.geometry().spacing_mm();
    let shape = truth.shape();
    let surface =
        |pair: &Pair| options.tolerance_mm.map(|tolerance| pair.scores(tolerance, options.empties));
    // Distances are left out where no millimeters are known.
    let options = LabelOptions {
        tolerance_mm: options.tolerance_mm.filter(|_| spacing.is_some()),
        ..options
    };
    let mm = spacing.unwrap_or([1.0; 3]);
    if truth.overlap() > 0 || predicted.overlap() > 0 {
        let labels: BTreeSet<u16> = match chosen {
            Some(chosen) => chosen.iter().copied().collect(),
            None => (1..=LabelMap::MAX_LABELS as u16)
                .take(truth.len().max(predicted.len()))
                .filter(|label| truth.voxels(*label) + predicted.voxels(*label) > 0)
                .collect(),
        };
        let compare = |label: u16| {
            let [a, b] = [truth, predicted].map(|map| map.label_mask(label));
            let pair = Pair::new(a.data(), b.data(), shape, mm)?;
            let surface = options.tolerance_mm.and_then(|_| surface(&pair));
            Ok(LabelComparison { label, overlap: pair.overlap(), surface })
        };
        return labels.into_iter().map(compare).collect();
    }
    let found = Found::of(truth.labels(), predicted.labels(), shape);
    let labels: Vec<u16> = match chosen {
        Some(chosen) => chosen.iter().copied().collect::<BTreeSet<u16>>().into_iter().collect(),
        None => (1..found.len())
            .filter(|label| found.has_voxels(*label))
            .filter_map(|n| u16::try_from(n).ok())
            .collect(),
    };
    let maps = [truth.labels(), predicted.labels()];
    let compare = |label: u16| {
        let (overlap, boxes) = found.of_label(label);
        let surface = options
            .tolerance_mm
            .and_then(|_| surface(&Pair::of_label(maps, label, shape, mm, (overlap, boxes))));
        LabelComparison { label, overlap, surface }
    };
    Ok(labels.into_par_iter().map(compare).collect())
}

/// The voxels of all labels of two label maps in one pass, ascending by label. Labels without voxels in
/// either are left out, and so is 0. Both are `[D, H, W]` in C order, and have the same number of voxels.
///
/// # Errors
/// `R-MET-02` for maps that have not as many voxels as each other.
pub fn label_overlaps(truth: &[u16], predicted: &[u16]) -> Result<Vec<(u16, Overlap)>, Error> {
    crate::error::check_length("the label map that is compared", predicted.len(), truth.len())?;
    let found = Found::of(truth, predicted, [1, 1, truth.len()]);
    let labels = (1..found.len()).filter(|label| found.has_voxels(*label));
    Ok(labels
        .filter_map(|label| u16::try_from(label).ok())
        .map(|label| (label, found.of_label(label).0))
        .collect())
}

/// What is known of each label after one pass.
#[derive(Debug, Clone)]
struct Found {
    overlaps: Vec<Overlap>,
    /// Of the truth and of what is compared, where there are voxels.
    boxes: Vec<[Option<Region>; 2]>,
}

impl Found {
    fn of(truth: &[u16], predicted: &[u16], [d, h, w]: [usize; 3]) -> Self {
        if h * w == 0 {
            return Self::none();
        }
        // Few tasks, since each has a table of its own.
        let slices = d.div_ceil(rayon::current_num_threads() * 2).max(1);
        let tasks = truth.par_chunks(slices * h * w).zip(predicted.par_chunks(slices * h * w));
        let of_task = |(task, (truth, predicted)): (usize, (&[u16], &[u16]))| {
            let mut found = Self::none();
            let rows = truth.chunks_exact(w).zip(predicted.chunks_exact(w));
            for (n, (truth, predicted)) in rows.enumerate() {
                found.add_row([task * slices + n / h, n % h], truth, predicted);
            }
            found
        };
        tasks.enumerate().map(of_task).reduce(Self::none, Self::joined)
    }

    fn none() -> Self {
        Self { overlaps: Vec::new(), boxes: Vec::new() }
    }

    fn len(&self) -> usize {
        self.overlaps.len()
    }

    fn has_voxels(&self, label: usize) -> bool {
        self.overlaps.get(label).is_some_and(|overlap| 0 < overlap.either())
    }

    fn of_label(&self, label: u16) -> (Overlap, [Option<Region>; 2]) {
        let label = usize::from(label);
        let overlap = self.overlaps.get(label).copied().unwrap_or_default();
        (overlap, self.boxes.get(label).copied().unwrap_or_default())
    }

    fn grow(&mut self, labels: usize) {
        if self.len() < labels {
            self.overlaps.resize_with(labels, Overlap::default);
            self.boxes.resize_with(labels, Default::default);
        }
    }

    fn add_row(&mut self, [z, y]: [usize; 2], truth: &[u16], predicted: &[u16]) {
        let mut x = 0;
        while x < truth.len() {
            let pair = (truth[x], predicted[x]);
            let ends = truth[x..].iter().zip(&predicted[x..]).position(|(t, p)| (*t, *p) != pair);
            let end = ends.map_or(truth.len(), |steps| x + steps);
            if pair != (0, 0) {
                self.add_run(pair, Region { start: [z, y, x], end: [z + 1, y + 1, end] });
            }
            x = end;
        }
    }

    fn add_run(&mut self, (truth, predicted): (u16, u16), run: Region) {
        let voxels = run.shape()[2] as u64;
        self.grow(usize::from(truth.max(predicted)) + 1);
        for (n, label) in [usize::from(truth), usize::from(predicted)].into_iter().enumerate() {
            if label == 0 {
                continue;
            }
            let counts = &mut self.overlaps[label];
            *(if n == 0 { &mut counts.truth } else { &mut counts.predicted }) += voxels;
            let around = &mut self.boxes[label][n];
            *around = Some(around.map_or(run, |around| around.union(run)));
        }
        if truth == predicted {
            self.overlaps[usize::from(truth)].both += voxels;
        }
    }

    fn joined(mut self, other: Self) -> Self {
        self.grow(other.len());
        for (label, (counts, boxes)) in other.overlaps.iter().zip(&other.boxes).enumerate() {
            let own = &mut self.overlaps[label];
            own.truth += counts.truth;
            own.predicted += counts.predicted;
            own.both += counts.both;
            for (own, other) in self.boxes[label].iter_mut().zip(boxes) {
                *own = match (*own, *other) {
                    (Some(a), Some(b)) => Some(a.union(b)),
                    (a, b) => a.or(b),
                };
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use r1seg_volume::{Geometry, Mask, Volume};

    use super::*;

    const SHAPE: [usize; 3] = [6, 9, 20];

    fn map(seed: u32, spacing: Option<[f64; 3]>) -> LabelMap {
        let mut state = seed;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 16
        };
        // Runs, so that labels have an inside.
        let (mut label, mut data) = (0, Vec::new());
        for _ in 0..SHAPE.iter().product() {
            if random() % 6 == 0 {
                label = (random() % 5) as i16;
            }
            data.push(if label == 4 { 9 } else { label });
        }
        let geometry = match spacing {
            Some(mm) => Geometry::with_spacing(SHAPE, mm).unwrap(),
            None => Geometry::without_affine(SHAPE),
        };
        LabelMap::from_volume(&Volume::new(data, geometry).unwrap()).unwrap()
    }

    const OPTIONS: LabelOptions =
        LabelOptions { empties: Empties::Formula, tolerance_mm: Some(1.0) };

    #[test]
    fn all_labels_at_once_are_each_label_alone() {
        let mm = [2.0, 0.8, 0.8];
        let (truth, predicted) = (map(1, Some(mm)), map(2, Some(mm)));
        let found = compare_labels(&truth, &predicted, None, OPTIONS).unwrap();
        assert_eq!(found.iter().map(|c| c.label).collect::<Vec<_>>(), [1, 2, 3, 9]);
        for comparison in &found {
            let [a, b] = [&truth, &predicted].map(|map| map.label_mask(comparison.label));
            let pair = Pair::new(a.data(), b.data(), SHAPE, mm).unwrap();
            assert_eq!(comparison.overlap, pair.overlap());
            assert_eq!(comparison.surface, Some(pair.scores(1.0, Empties::Formula)));
        }
        let one = compare_labels(&truth, &predicted, Some(&[9, 7]), OPTIONS).unwrap();
        assert_eq!((one[0].label, one[0].overlap), (7, Overlap::default()));
        assert_eq!(one[1], found[3]);
        let counts = label_overlaps(truth.labels(), predicted.labels()).unwrap();
        assert_eq!(counts, found.iter().map(|c| (c.label, c.overlap)).collect::<Vec<_>>());
    }

    #[test]
    fn labels_that_overlap_are_compared_whole() {
        let geometry = Geometry::with_spacing([1, 1, 6], [1.0; 3]).unwrap();
        let mask = |data: [u8; 6]| Mask::new(data.to_vec(), geometry.clone()).unwrap();
        let [mut truth, mut predicted] = [(); 2].map(|()| LabelMap::new(geometry.clone()));
        for data in [[1, 1, 1, 1, 0, 0], [0, 1, 1, 0, 0, 0]] {
            truth.push(&mask(data)).unwrap();
        }
        for data in [[1, 1, 1, 1, 0, 0], [0, 1, 0, 0, 0, 0]] {
            predicted.push(&mask(data)).unwrap();
        }
        let found = compare_labels(&truth, &predicted, None, OPTIONS).unwrap();
        assert_eq!(found[0].overlap, Overlap { truth: 4, predicted: 4, both: 4 });
        assert_eq!(found[1].overlap, Overlap { truth: 2, predicted: 1, both: 1 });
    }

    #[test]
    fn there_are_no_millimeters_without_a_spacing_and_other_shapes_are_refused() {
        let found = compare_labels(&map(1, None), &map(2, None), None, OPTIONS).unwrap();
        assert!(found.iter().all(|comparison| comparison.surface.is_none()));
        let other = LabelMap::new(Geometry::without_affine([6, 9, 21]));
        let error = compare_labels(&map(1, None), &other, None, OPTIONS).unwrap_err();
        assert_eq!(error.code(), "R-MET-01");
        assert!(error.to_string().contains("20 x 9 x 6 voxels"), "{error}");
    }
}
