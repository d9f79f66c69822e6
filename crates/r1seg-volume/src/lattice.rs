//! Grids of another spacing.

use rayon::prelude::*;

use crate::Error;
use crate::error::Detail;
use crate::resample::{Rows, keep_two};
use crate::slices;

/// Most cells of a lattice.
const MOST_CELLS: f64 = (1_u64 << 31) as f64;

/// How a grid of another spacing lies over a volume, and what its cells are where they leave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpacingConvention {
    /// ITK's `ResampleImageFilter` onto the grid of torchio up to 0.20.10: `ceil(n * from / to)` cells,
    /// whose first edge is the volume's. Outside is 0, and the nearest cell `floor(x + 0.5)`.
    ItkCeil,
    /// The same from torchio 0.20.11 on: `floor(n * from / to)` cells around the center of the volume.
    ItkCentered,
    /// MONAI's `Spacing` (`align_corners=True`, `padding_mode="border"`):
    /// `round((n - 1) * from / to) + 1` cells, whose first center is the volume's. Cells outside repeat
    /// the edge, and the nearest cell of a half is the even one.
    Monai,
    /// The scripts that prepare CT-RATE (torch's `interpolate`, trilinear, `align_corners=False`):
    /// `int(n * (from / to))` cells, which cover the volume from edge to edge. Cells beyond the outermost
    /// centers repeat the edge. Pixels are taken for squares of the size of the third axis.
    CtRate,
}

/// Cells of a grid of another spacing, as coordinates of the cells of a volume: cell `n` is at
/// `offset + scale * n`. All `[D, H, W]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lattice {
    pub(crate) shape: [usize; 3],
    pub(crate) scale: [f64; 3],
    pub(crate) offset: [f64; 3],
    convention: SpacingConvention,
}

/// A cell takes its value between two neighbors along an axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Between {
    pub(crate) low: usize,
    pub(crate) high: usize,
    /// 0 at `low`, 1 at `high`.
    pub(crate) way: f64,
}

/// The cells between which each of `to` cells lies that cover an axis of `from` cells from edge to edge, as
/// torch interpolates without aligned corners.
pub(crate) fn between_edges(from: usize, to: usize) -> Vec<Between> {
    let (scale, last) = (from as f64 / to as f64, from.saturating_sub(1));
    let between = |cell: usize| {
        let at = ((cell as f64 + 0.5) * scale - 0.5).max(0.0);
        // Casts from float to integer round towards 0.
        let low = (at as usize).min(last);
        Between { low, high: (low + 1).min(last), way: at - low as f64 }
    };
    (0..to).map(between).collect()
}

/// An axis whose spacing is this close to the wanted one is left alone by MONAI's `Spacing`.
const MONAI_TOLERANCE_MM: f64 = 1e-3;

impl Lattice {
    /// The cells of spacing `to` over a volume of `shape` and spacing `from`, both in mm.
    ///
    /// # Errors
    /// `R-GEO-03` if a spacing is not finite and positive, `R-GEO-06` for a volume
    /// without voxels, and `R-GEO-13` for more than 2³¹ cells.
    pub fn new(
        shape: [usize; 3],
        from: [f64; 3],
        to: [f64; 3],
        convention: SpacingConvention,
    ) -> Result<Self, Error> {
        for spacing_mm in [from, to] {
            if !spacing_mm.iter().all(|mm| mm.is_finite() && 0.0 < *mm) {
                return Err(Detail::Spacing { spacing_mm }.into());
            }
        }
        if shape.contains(&0) {
            return Err(Detail::EmptyShape { shape }.into());
        }
        let mut lattice = Self { shape, scale: [1.0; 3], offset: [0.0; 3], convention };
        let (mut most, to_mm) = (MOST_CELLS, to);
        for n in 0..3 {
            let is_left = convention == SpacingConvention::Monai
                && (from[n] - to[n]).abs() <= MONAI_TOLERANCE_MM;
            let to = if is_left { from[n] } else { to[n] };
            let (size, scale) = (shape[n] as f64, to / from[n]);
            let cells = match convention {
                SpacingConvention::ItkCeil => (size * from[n] / to).ceil(),
                SpacingConvention::ItkCentered => (size * from[n] / to).floor(),
                SpacingConvention::Monai => ((size - 1.0) * from[n] / to + 1.0).round_ties_even(),
                SpacingConvention::CtRate => slices::cells(shape[n], from[n], to) as f64,
            };
            let is_ct_rate = convention == SpacingConvention::CtRate;
            // One slice stays one slice, but for what covers it.
            let cells = if shape[n] == 1 && !is_ct_rate { 1.0 } else { cells.max(1.0) };
            let scale = if is_ct_rate { size / cells } else { scale };
            most /= cells;
            if most < 1.0 {
                return Err(Detail::LatticeSize { from_mm: from, to_mm }.into());
            }
            lattice.shape[n] = cells as usize;
            lattice.scale[n] = scale;
            lattice.offset[n] = match convention {
                SpacingConvention::ItkCeil | SpacingConvention::CtRate => 0.5 * (scale - 1.0),
                SpacingConvention::ItkCentered => (size - 1.0) / 2.0 - (cells - 1.0) / 2.0 * scale,
                SpacingConvention::Monai => 0.0,
            };
        }
        Ok(lattice)
    }

    /// `[D, H, W]` of the lattice.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Between which cells of an axis of `size` each cell of axis `n` lies; `None` where it is outside.
    pub(crate) fn between(&self, n: usize, size: usize) -> Vec<Option<Between>> {
        if self.convention == SpacingConvention::CtRate {
            return between_edges(size, self.shape[n]).into_iter().map(Some).collect();
        }
        let last = size.saturating_sub(1);
        let between = |cell: usize| {
            let at = self.offset[n] + self.scale[n] * cell as f64;
            let is_inside = -0.5 <= at && at < size as f64 - 0.5;
            if !is_inside && self.convention != SpacingConvention::Monai {
                return None;
            }
            let at = at.clamp(0.0, last as f64);
            let low = at.floor();
            let between =
                Between { low: low as usize, high: (low as usize + 1).min(last), way: at - low };
            Some(between)
        };
        (0..self.shape[n]).map(between).collect()
    }

    /// The cell of an axis of `size` nearest to a coordinate; not rounded where the convention rounds
    /// after all steps. `None` outside.
    pub(crate) fn nearest(&self, at: f64, size: usize) -> Option<f64> {
        match self.convention {
            SpacingConvention::Monai | SpacingConvention::CtRate => {
                Some(self.nearest_cell(at, size))
            }
            _ => (-0.5 <= at && at < size as f64 - 0.5).then_some(at),
        }
    }

    /// The same for a voxel of the volume, which may lie beyond the outermost cells.
    pub(crate) fn nearest_cell(&self, at: f64, size: usize) -> f64 {
        match self.convention {
            SpacingConvention::Monai | SpacingConvention::CtRate => {
                at.round_ties_even().clamp(0.0, size.saturating_sub(1) as f64)
            }
            _ => at,
        }
    }
}

/// The cells of a lattice over `source`, interpolated linearly along W, then H, then D in f64, each as
/// `low + (high - low) * way`, which is exact where both are equal; `map(0.0)` outside.
pub(crate) fn linear<T: Copy + Default + Send>(
    lattice: &Lattice,
    source: &impl Rows,
    map: impl Fn(f64) -> T + Sync,
) -> Vec<T> {
    let (from, to) = (source.shape(), lattice.shape);
    let axes: [Vec<Option<Between>>; 3] = std::array::from_fn(|n| lattice.between(n, from[n]));
    let plane = to[1] * to[2];
    let mut out = vec![map(0.0); to[0] * plane];
    // Neighboring planes share their sources, hence a few long tasks instead of many short ones.
    let planes = to[0].div_ceil(rayon::current_num_threads() * 2).max(1);
    out.par_chunks_mut(planes * plane).zip(axes[0].par_chunks(planes)).for_each(|(out, depth)| {
        let mut kept = [(None, Vec::new()), (None, Vec::new())];
        for (out, between) in out.chunks_exact_mut(plane).zip(depth) {
            let Some(Between { low, high, way }) = *between else { continue };
            keep_two(&mut kept, low, high, |z, plane| fill(source, z, [&axes[1], &axes[2]], plane));
            let (low, high) = (&kept[0].1, &kept[usize::from(low != high)].1);
            let blend = |(low, high): (&f64, &f64)| map(low + (high - low) * way);
            out.iter_mut().zip(low.iter().zip(high)).for_each(|(out, ends)| *out = blend(ends));
        }
    });
    out
}

/// The plane `z` of the source, interpolated along W and H.
fn fill(
    source: &impl Rows,
    z: usize,
    [rows, columns]: [&[Option<Between>]; 2],
    out: &mut Vec<f64>,
) {
    let mut scratch = Vec::new();
    let mut narrow = [(None, Vec::new()), (None, Vec::new())];
    out.clear();
    for between in rows {
        let Some(Between { low, high, way }) = *between else {
            out.resize(out.len() + columns.len(), 0.0);
            continue;
        };
        keep_two(&mut narrow, low, high, |y, narrow: &mut Vec<f64>| {
            let row = source.row(z, y, &mut scratch);
            let blend = |between: &Option<Between>| {
                let Some(Between { low, high, way }) = *between else { return 0.0 };
                let [low, high] = [row[low], row[high]].map(f64::from);
                low + (high - low) * way
            };
            narrow.clear();
            narrow.extend(columns.iter().map(blend));
        });
        let (low, high) = (&narrow[0].1, &narrow[usize::from(low != high)].1);
        out.extend(low.iter().zip(high).map(|(low, high)| low + (high - low) * way));
    }
}
