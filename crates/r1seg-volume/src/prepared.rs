//! A volume as a model is given it, and the way back.

use rayon::prelude::*;

use crate::error::Detail;
use crate::grid_map::Lookup;
use crate::intensity::Rescale;
use crate::resample::Rows;
use crate::steps::Intensity;
use crate::{
    Error, Geometry, GridMap, Lattice, Padding, Region, RegionRule, Scale, Volume, Voxels, Warning,
    resample,
};

/// What the steps of a recipe have made of a volume, whose voxels it shares until they are resampled,
/// and where it lies in the grid that it came from.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// From the input to the prepared grid.
    map: GridMap,
    /// The input, or what it was last resampled to.
    stored: Volume,
    /// From `stored` to the prepared grid, all of whose cells are voxels of it or beyond it.
    view: GridMap,
    lookup: Lookup,
    intensities: Vec<Intensity>,
    /// Around each other, the innermost first.
    margins: Vec<Margin>,
    /// The place of the input.
    source: Geometry,
    warnings: Vec<Warning>,
}

/// Cells that a step has added around the grid that it found.
#[derive(Debug, Clone, Copy)]
struct Margin {
    /// The cells of the prepared grid that the grid had.
    inside: Region,
    /// What 0 has become since then.
    value: f32,
}

impl Margin {
    /// Fills what of the row at `[z, y]` the step has added.
    fn fill(&self, [z, y]: [usize; 2], row: &mut [f32]) {
        let Region { start, end } = self.inside;
        if !(start[0]..end[0]).contains(&z) || !(start[1]..end[1]).contains(&y) {
            return row.fill(self.value);
        }
        row[..start[2]].fill(self.value);
        row[end[2]..].fill(self.value);
    }
}

impl Prepared {
    pub(crate) fn new(volume: &Volume) -> Self {
        let map = GridMap::identity(volume.shape());
        Self {
            lookup: map.lookup(),
            view: map.clone(),
            map,
            stored: volume.clone(),
            intensities: Vec::new(),
            margins: Vec::new(),
            source: volume.geometry().clone(),
            warnings: Vec::new(),
        }
    }

    /// The same, whose cells are moved, and none of them resampled.
    pub(crate) fn moved(
        self,
        step: impl Fn(GridMap) -> Result<GridMap, Error>,
    ) -> Result<Self, Error> {
        let here = self.shape();
        let moved = step(GridMap::identity(here))?;
        let nothing = Region { start: [0; 3], end: [0; 3] };
        let place = |region| moved.region(region, RegionRule::Touched).unwrap_or(nothing);
        let mut margins = self.margins;
        margins.iter_mut().for_each(|margin| margin.inside = place(margin.inside));
        let inside = place(Region::whole(here));
        if inside != Region::whole(moved.shape()) {
            margins.push(Margin { inside, value: 0.0 });
        }
        let (map, view) = (self.map.then(&moved)?, self.view.then(&moved)?);
        Ok(Self { lookup: view.lookup(), map, view, margins, ..self })
    }

    /// The same, resampled to `voxels` on the cells of a lattice.
    pub(crate) fn resampled(self, lattice: Lattice, voxels: Voxels) -> Result<Self, Error> {
        let stored = Volume::new(voxels, Geometry::without_affine(lattice.shape()))?;
        let view = GridMap::identity(lattice.shape());
        Ok(Self {
            map: self.map.spaced(lattice),
            lookup: view.lookup(),
            view,
            stored,
            intensities: Vec::new(),
            margins: Vec::new(),
            source: self.source,
            warnings: self.warnings,
        })
    }

    pub(crate) fn with_intensity(mut self, intensity: Intensity) -> Self {
        self.intensities.push(intensity);
        self.margins.iter_mut().for_each(|margin| margin.value = intensity.apply(margin.value));
        self
    }

    pub(crate) fn with_warning(mut self, warning: Warning) -> Self {
        self.warnings.push(warning);
        self
    }

    /// The place of the input.
    pub(crate) fn source(&self) -> &Geometry {
        &self.source
    }

    pub(crate) fn stored(&self) -> &Volume {
        &self.stored
    }

    pub(crate) fn view(&self) -> &GridMap {
        &self.view
    }

    pub(crate) fn intensities(&self) -> &[Intensity] {
        &self.intensities
    }

    /// Whether the values are whole numbers as they are stored.
    pub(crate) fn is_whole(&self) -> bool {
        let is_unscaled =
            matches!(self.stored.voxels(), Voxels::I16 { scale: Scale::IDENTITY, .. });
        is_unscaled && self.intensities.is_empty()
    }

    /// Whether every stored voxel is there, and nothing else.
    pub(crate) fn shows_everything(&self) -> bool {
        let cells = self.shape().iter().product::<usize>();
        self.lookup.inside() == Region::whole(self.shape()) && cells == self.stored.voxels().len()
    }

    /// Whether the values are those of the stored volume, in whichever order.
    pub(crate) fn is_unchanged(&self) -> bool {
        self.intensities.is_empty() && self.shows_everything()
    }

    /// The values, C order of [`Prepared::shape`].
    pub fn to_f32(&self) -> Vec<f32> {
        let [d, h, w] = self.shape();
        let mut out = vec![0.0; d * h * w];
        self.copy_to(&mut out, [h, w], [0; 3]);
        out
    }

    /// The same in the middle of zeros.
    ///
    /// # Errors
    /// `R-GEO-02` if `padding` is not one of [`Prepared::shape`]; `R-GEO-04` if
    /// it contradicts itself.
    pub fn padded(&self, padding: &Padding) -> Result<Vec<f32>, Error> {
        let Padding { shape, inner } = *padding;
        inner.check(shape)?;
        if inner.shape() != self.shape() {
            return Err(Detail::ShapeMismatch { expected: self.shape(), got: inner.shape() }.into());
        }
        let mut out = vec![0.0; shape.iter().product()];
        self.copy_to(&mut out, [shape[1], shape[2]], inner.start);
        Ok(out)
    }

    /// Writes all values into a grid with slices of `[h, w]`, from voxel `start` on.
    fn copy_to(&self, out: &mut [f32], [h, w]: [usize; 2], start: [usize; 3]) {
        let [depth, height, width] = self.shape();
        let slices = out.par_chunks_mut(h * w).skip(start[0]).take(depth);
        slices.enumerate().for_each(|(z, slice)| {
            let mut scratch = Vec::new();
            for (y, out) in slice.chunks_mut(w).skip(start[1]).take(height).enumerate() {
                out[start[2]..][..width].copy_from_slice(self.row(z, y, &mut scratch));
            }
        });
    }

    /// Shape of the prepared grid, in the order that the steps have left its axes in.
    pub fn shape(&self) -> [usize; 3] {
        self.lookup.shape()
    }

    /// The part of the input that the prepared grid shows; all of it if that is nothing.
    pub fn crop(&self) -> Region {
        self.map.footprint().unwrap_or(Region::whole(self.map.source_shape()))
    }

    /// What brings intensities to `0..=1`, or on the way to `-1..=1`, if a step does.
    pub fn rescale(&self) -> Option<Rescale> {
        self.intensities.iter().find_map(|intensity| match intensity {
            Intensity::Rescale(rescale) => Some(*rescale),
            _ => None,
        })
    }

    /// The way from the grid of the input to the prepared one, and back.
    pub fn map(&self) -> &GridMap {
        &self.map
    }

    /// What was odd about the volume.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The prepared grid, interpolated trilinearly to the model's grid `to`, `[D, H, W]`.
    ///
    /// # Errors
    /// `R-GEO-06` if `to` has an axis of 0.
    pub fn resize(&self, to: [usize; 3]) -> Result<Vec<f32>, Error> {
        resample::interpolate(self, to, |v| v)
    }

    /// The prepared grid, sampled to the model's grid `to`, `[D, H, W]`, as torch's `nearest-exact`
    /// does: each cell has the value of the voxel at its center.
    ///
    /// # Errors
    /// `R-GEO-06` if `to` has an axis of 0.
    pub fn resize_nearest_exact(&self, to: [usize; 3]) -> Result<Vec<f32>, Error> {
        if to.contains(&0) {
            return Err(Detail::EmptyShape { shape: to }.into());
        }
        let shape = self.shape();
        let [depth, rows, columns]: [Vec<usize>; 3] =
            std::array::from_fn(|n| resample::nearest_exact_sources(shape[n], to[n]));
        let mut out = vec![0.0; to.iter().product()];
        out.par_chunks_mut(to[1] * to[2]).zip(&depth).for_each(|(out, z)| {
            let mut scratch = Vec::new();
            for (out, y) in out.chunks_exact_mut(to[2]).zip(&rows) {
                let row = self.row(*z, *y, &mut scratch);
                out.iter_mut().zip(&columns).for_each(|(out, x)| *out = row[*x]);
            }
        });
        Ok(out)
    }

    /// The values of the part `within` of the prepared grid in the middle of zeros, as `padding` of
    /// that part says, and of those only the ones in `window`.
    ///
    /// # Errors
    /// `R-GEO-04` if one of the three reaches out of the next; `R-GEO-02` if
    /// `padding` is not one of the shape of `within`.
    pub fn window(
        &self,
        within: Region,
        padding: &Padding,
        window: Region,
    ) -> Result<Vec<f32>, Error> {
        within.check(self.shape())?;
        padding.inner.check(padding.shape)?;
        window.check(padding.shape)?;
        if padding.inner.shape() != within.shape() {
            let (expected, got) = (within.shape(), padding.inner.shape());
            return Err(Detail::ShapeMismatch { expected, got }.into());
        }
        let shape @ [_, h, w] = window.shape();
        // What of the window is more than padding.
        let first: [usize; 3] =
            std::array::from_fn(|n| window.start[n].max(padding.inner.start[n]));
        let end: [usize; 3] = std::array::from_fn(|n| window.end[n].min(padding.inner.end[n]));
        let mut out = vec![0.0; shape.iter().product()];
        if (0..3).any(|n| end[n] <= first[n]) {
            return Ok(out);
        }
        let source = |n: usize, at: usize| at - padding.inner.start[n] + within.start[n];
        let columns = source(2, first[2])..source(2, first[2]) + end[2] - first[2];
        let slices = out.par_chunks_mut(h * w).skip(first[0] - window.start[0]);
        slices.zip(first[0]..end[0]).for_each(|(slice, z)| {
            let mut scratch = Vec::new();
            let rows = slice.chunks_mut(w).skip(first[1] - window.start[1]);
            for (out, y) in rows.zip(first[1]..end[1]) {
                let row = self.row(source(0, z), source(1, y), &mut scratch);
                out[first[2] - window.start[2]..][..columns.len()]
                    .copy_from_slice(&row[columns.clone()]);
            }
        });
        Ok(out)
    }
}

impl Rows for Prepared {
    fn shape(&self) -> [usize; 3] {
        self.lookup.shape()
    }

    fn row<'a>(&'a self, z: usize, y: usize, scratch: &'a mut Vec<f32>) -> &'a [f32] {
        scratch.clear();
        self.lookup.append_row(self.stored.voxels(), [z, y], scratch);
        for intensity in &self.intensities {
            scratch.iter_mut().for_each(|v| *v = intensity.apply(*v));
        }
        self.margins.iter().for_each(|margin| margin.fill([z, y], scratch));
        scratch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ends, Step, prepare};

    fn volume(shape: [usize; 3], value: impl Fn(usize) -> f32) -> Volume {
        let geometry = Geometry::without_affine(shape);
        let values: Vec<f32> = (0..geometry.voxels()).map(value).collect();
        Volume::new(values, geometry).unwrap()
    }

    #[test]
    fn padded_values_lie_in_the_middle_of_zeros() {
        let v = volume([2, 3, 4], |n| n as f32);
        let window = Step::Rescale(Ends::Fixed { low: 0.0, high: 24.0 });
        let prepared = prepare(&v, &[window, Step::CropForeground { margin: 0 }]).unwrap();
        let padding = Padding::to_at_least(prepared.shape(), [3, 6, 5]);
        let padded = prepared.padded(&padding).unwrap();
        assert_eq!(padded, padding.pad(&prepared.to_f32()).unwrap());
        let other = Padding::to_at_least([3, 3, 3], [4, 4, 4]);
        assert_eq!(prepared.padded(&other).unwrap_err().code(), "R-GEO-02");
    }

    #[test]
    fn a_window_is_cut_from_its_part_and_zero_beyond_it() {
        let v = volume([4, 6, 8], |n| (n + 1) as f32 / 192.0);
        let prepared = prepare(&v, &[]).unwrap();
        let all = prepared.to_f32();
        for within in [Region::whole([4, 6, 8]), Region { start: [1, 2, 3], end: [3, 4, 8] }] {
            let padding = Padding::to_at_least(within.shape(), [3, 4, 4]);
            let part = crate::crop(&all, [4, 6, 8], within).unwrap();
            let padded = padding.pad(&part).unwrap();
            for window in crate::sliding::windows(padding.shape, [3, 4, 4], 0.5).unwrap() {
                let expected = crate::crop(&padded, padding.shape, window).unwrap();
                assert_eq!(prepared.window(within, &padding, window).unwrap(), expected);
            }
            let padding = Padding::to_at_least([1; 3], [3, 4, 4]);
            let wrong = prepared.window(within, &padding, Region::whole([3, 4, 4]));
            assert_eq!(wrong.unwrap_err().code(), "R-GEO-02");
        }
        let beyond = Region { start: [0; 3], end: [5, 6, 8] };
        let padding = Padding::to_at_least([5, 6, 8], [1; 3]);
        assert_eq!(prepared.window(beyond, &padding, beyond).unwrap_err().code(), "R-GEO-04");
    }

    #[test]
    fn the_nearest_voxel_is_the_one_at_the_center_of_a_cell() {
        let v = volume([2, 4, 8], |n| n as f32 / 63.0);
        let prepared = prepare(&v, &[]).unwrap();
        let cells = prepared.resize_nearest_exact([2, 2, 4]).unwrap();
        let voxels: Vec<usize> = cells.iter().map(|v| (v * 63.0).round() as usize).collect();
        assert_eq!(voxels[..8], [9, 11, 13, 15, 25, 27, 29, 31]);
        assert_eq!(prepared.resize_nearest_exact([2, 4, 8]).unwrap(), prepared.to_f32());
        assert!(prepared.resize_nearest_exact([0, 1, 1]).is_err());
    }
}
