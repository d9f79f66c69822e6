//! Distances between the surfaces of two masks, in mm along the axes of the grid.
//!
//! What a surface is, and which of its points count how much, differs between the tools that everybody
//! compares with. Three of them are here, by name:
//!
//! | points | weight | as in |
//! |---|---|---|
//! | [`Pair::surfels`]: corners of voxels at which not all eight voxels are alike | the area of the surface there, mm² | DeepMind's surface-distance |
//! | [`Pair::borders`]: voxels with a neighbor by a face outside of the mask | 1 | MONAI, MedPy, nnU-Net |
//! | [`Pair::voxel_sets`]: all voxels | 1 | SimpleITK's Hausdorff distance |
//!
//! What lies beyond the grid is outside of both masks. Where the axes of a grid are not at right angles,
//! distances are those of a grid whose axes are.

mod areas;
mod distances;
mod nearest;

use r1seg_volume::Region;
use rayon::prelude::*;

use crate::bits::Bits;
use crate::error::{Detail, check_length};
use crate::{Empties, Error, Overlap};
pub use distances::{Directed, SurfaceDistances};

/// Two masks on one grid, cut to the box around both.
#[derive(Debug, Clone)]
pub struct Pair {
    truth: Bits,
    predicted: Bits,
    spacing_mm: [f64; 3],
    overlap: Overlap,
    diagonal_mm: f64,
}

impl Pair {
    /// Two masks of `shape`, `[D, H, W]`, whose voxels are those that are not 0, with voxels of `spacing_mm`
    /// (`[D, H, W]`).
    ///
    /// # Errors
    /// `R-MET-02` for a mask without a value for each voxel.
    pub fn new(
        truth: &[u8],
        predicted: &[u8],
        shape: [usize; 3],
        spacing_mm: [f64; 3],
    ) -> Result<Self, Error> {
        let voxels = shape.iter().fold(1, |n: usize, size| n.saturating_mul(*size));
        check_length("the true mask", truth.len(), voxels)?;
        check_length("the mask that is compared", predicted.len(), voxels)?;
        let overlap = Overlap::of(truth, predicted)?;
        let boxes = [truth, predicted].map(|mask| box_of(mask, shape));
        let frame = frame(boxes);
        let bits = |mask: &[u8], region: Option<Region>| match region {
            Some(region) => Bits::of(mask, shape, frame, region, |v| v != 0),
            None => Bits::empty(frame.shape()),
        };
        let (truth, predicted) = (bits(truth, boxes[0]), bits(predicted, boxes[1]));
        Ok(Self { truth, predicted, spacing_mm, overlap, diagonal_mm: diagonal(shape, spacing_mm) })
    }

    /// One label of two label maps, whose voxels are counted and whose boxes are known.
    pub(crate) fn of_label(
        labels: [&[u16]; 2],
        label: u16,
        shape: [usize; 3],
        spacing_mm: [f64; 3],
        (overlap, boxes): (Overlap, [Option<Region>; 2]),
    ) -> Self {
        let frame = frame(boxes);
        let bits = |n: usize| match boxes[n] {
            Some(region) => Bits::of(labels[n], shape, frame, region, |v| v == label),
            None => Bits::empty(frame.shape()),
        };
        let diagonal_mm = diagonal(shape, spacing_mm);
        Self { truth: bits(0), predicted: bits(1), spacing_mm, overlap, diagonal_mm }
    }

    /// The voxels of both.
    pub fn overlap(&self) -> Overlap {
        self.overlap
    }

    /// The distances of the surfaces by area, as DeepMind's surface-distance defines them: at each corner of
    /// voxels, a surface of marching cubes.
    pub fn surfels(&self) -> SurfaceDistances {
        let areas = areas::areas_mm2(self.spacing_mm);
        let corners = [self.truth.corners(), self.predicted.corners()];
        let distances = |mask: &Bits, from: &Bits, to: &Bits| {
            nearest::distances(from, to, self.spacing_mm, |place, found| {
                mask.codes(from, place, |x, code| found(x, areas[usize::from(code)]));
            })
        };
        SurfaceDistances {
            from_truth: Directed::new(distances(&self.truth, &corners[0], &corners[1])),
            from_predicted: Directed::new(distances(&self.predicted, &corners[1], &corners[0])),
        }
    }

    /// The distances of the voxels at the borders, as MONAI and MedPy define them: voxels with a neighbor
    /// by a face that is not in the mask.
    pub fn borders(&self) -> SurfaceDistances {
        let borders = [self.truth.border(), self.predicted.border()];
        let distances = |from: &Bits, to: &Bits| {
            let weights = |place: [usize; 2], found: &mut dyn FnMut(usize, f64)| {
                from.each_in_row(place, |x| found(x, 1.0));
            };
            nearest::distances(from, to, self.spacing_mm, weights)
        };
        SurfaceDistances {
            from_truth: Directed::new(distances(&borders[0], &borders[1])),
            from_predicted: Directed::new(distances(&borders[1], &borders[0])),
        }
    }

    /// The distances of the masks as sets of voxels, as SimpleITK's `HausdorffDistanceImageFilter` takes
    /// them: a voxel of both is 0 mm from the other mask, however deep inside of it.
    pub fn voxel_sets(&self) -> VoxelSets {
        let (a, b) = (&self.truth, &self.predicted);
        let directed = |mask: &Bits, other: &Bits, voxels: u64| {
            let left = mask.without(other);
            let weights = |place: [usize; 2], found: &mut dyn FnMut(usize, f64)| {
                left.each_in_row(place, |x| found(x, 1.0));
            };
            // The nearest voxel of a mask that a voxel is not in is one at its border.
            let points = nearest::distances(&left, &other.border(), self.spacing_mm, weights);
            let sum: f64 = points.iter().map(|point| point.mm).sum();
            let most = points.iter().map(|point| point.mm).fold(0.0, f64::max);
            (most, sum / voxels as f64)
        };
        if self.overlap.truth == 0 || self.overlap.predicted == 0 {
            return VoxelSets { hausdorff_mm: None, mean_mm: None };
        }
        let from_truth = directed(a, b, self.overlap.truth);
        let from_predicted = directed(b, a, self.overlap.predicted);
        VoxelSets {
            hausdorff_mm: Some(from_truth.0.max(from_predicted.0)),
            mean_mm: Some(from_truth.1.midpoint(from_predicted.1)),
        }
    }

    /// The scores of the surfaces that are reported together; `tolerance_mm` is that of the surface Dice.
    pub fn scores(&self, tolerance_mm: f64, empties: Empties) -> SurfaceScores {
        let is_empty = [self.overlap.truth == 0, self.overlap.predicted == 0];
        let distance =
            |of: &dyn Fn() -> Option<f64>| empties.distance(is_empty, self.diagonal_mm, of);
        let (surfels, borders) = rayon::join(|| self.surfels(), || self.borders());
        let surface_dice = match empties.verdict(is_empty) {
            crate::overlap::Verdict::Skipped => None,
            crate::overlap::Verdict::Best => Some(1.0),
            crate::overlap::Verdict::Worst => Some(0.0),
            crate::overlap::Verdict::Formula => surfels.surface_dice(tolerance_mm),
        };
        SurfaceScores {
            surface_dice,
            hausdorff_mm: distance(&|| borders.hausdorff_mm()),
            hd95_directed_mm: distance(&|| borders.directed_hausdorff_mm(95.0)),
            hd95_pooled_mm: distance(&|| borders.pooled_hausdorff_mm(95.0)),
            hd95_surfels_mm: distance(&|| surfels.weighted_hausdorff_mm(95.0)),
            assd_mm: distance(&|| borders.assd_mm()),
            masd_mm: distance(&|| borders.masd_mm()),
        }
    }
}

/// The distances of two masks as sets of voxels; none if one of them is empty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VoxelSets {
    /// The farthest that a voxel of one is from the other.
    pub hausdorff_mm: Option<f64>,
    /// The mean over all voxels of one, and of the two directions' means.
    pub mean_mm: Option<f64>,
}

/// Scores of two surfaces. Where one of them is missing, they are what [`Empties`] says.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SurfaceScores {
    /// The surface Dice (NSD) at the tolerance, by area ([`Pair::surfels`]).
    pub surface_dice: Option<f64>,
    /// The Hausdorff distance of the border voxels ([`Pair::borders`]).
    pub hausdorff_mm: Option<f64>,
    /// The 95th percentile of their distances, the larger one of both directions (MONAI).
    pub hd95_directed_mm: Option<f64>,
    /// The 95th percentile of their distances, both directions taken together (MedPy, nnU-Net).
    pub hd95_pooled_mm: Option<f64>,
    /// The 95th percentile by area, the larger one of both directions (surface-distance).
    pub hd95_surfels_mm: Option<f64>,
    /// The average symmetric surface distance of the border voxels, both directions taken together
    /// (MONAI, MedPy).
    pub assd_mm: Option<f64>,
    /// The mean of the two directions' means.
    pub masd_mm: Option<f64>,
}

/// The box around both, or one without voxels.
fn frame(boxes: [Option<Region>; 2]) -> Region {
    match boxes {
        [Some(a), Some(b)] => a.union(b),
        [Some(one), None] | [None, Some(one)] => one,
        [None, None] => Region { start: [0; 3], end: [0; 3] },
    }
}

fn box_of(mask: &[u8], shape: [usize; 3]) -> Option<Region> {
    let [_, h, w] = shape;
    let of_slice = |(z, slice): (usize, &[u8])| {
        let mut found: Option<Region> = None;
        for (y, row) in slice.chunks_exact(w).enumerate() {
            // Most rows have no voxels, which is seen many at a time.
            if row.iter().fold(0, |any, voxel| any | voxel) == 0 {
                continue;
            }
            let first = row.iter().position(|v| *v != 0);
            if let (Some(first), Some(last)) = (first, row.iter().rposition(|v| *v != 0)) {
                let row = Region { start: [z, y, first], end: [z + 1, y + 1, last + 1] };
                found = Some(found.map_or(row, |found| found.union(row)));
            }
        }
        found
    };
    let slices = mask.par_chunks((h * w).max(1)).enumerate();
    slices.filter_map(of_slice).reduce_with(Region::union)
}

fn diagonal(shape: [usize; 3], spacing_mm: [f64; 3]) -> f64 {
    (0..3).map(|n| (shape[n] as f64 * spacing_mm[n]).powi(2)).sum::<f64>().sqrt()
}

/// That two grids have the same shape.
pub(crate) fn check_shapes(truth: [usize; 3], predicted: [usize; 3]) -> Result<(), Error> {
    match truth == predicted {
        true => Ok(()),
        false => Err(Detail::Shapes { truth, predicted }.into()),
    }
}
