//! The way from a model's grid back to the grid of the volume.

use crate::resample::trilinear_threshold;
use crate::{AxisMap, Error, Geometry, Region, Voxels, paste};

/// Where a prepared grid lies in the volume that it was cut from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    volume_shape: [usize; 3],
    region: Region,
    /// From the region to the prepared grid.
    axes: AxisMap,
}

impl Placement {
    pub(crate) fn new(volume_shape: [usize; 3], region: Region, axes: AxisMap) -> Self {
        Self { volume_shape, region, axes }
    }

    /// The same with the axes of the volume in another order, before anything that a recipe does to
    /// them.
    pub(crate) fn reoriented(self, axes: AxisMap) -> Self {
        Self { axes: axes.then(self.axes), ..self }
    }

    /// `[D, H, W]` of the volume.
    pub fn volume_shape(&self) -> [usize; 3] {
        self.volume_shape
    }

    /// The crop, in the grid of the volume.
    pub fn region(&self) -> Region {
        self.region
    }

    /// Shape of the prepared grid.
    pub fn shape(&self) -> [usize; 3] {
        self.axes.shape(self.region.shape())
    }

    /// A mask on the volume's grid from `logits` on a grid of shape `from`, which covers the
    /// prepared grid: trilinear interpolation, `logit > 0`, and 0 outside of the crop.
    ///
    /// # Errors
    /// [`Error::DataLength`] if there is not one logit a cell; [`Error::EmptyShape`].
    pub fn mask_from_logits(&self, logits: &[f32], from: [usize; 3]) -> Result<Vec<u8>, Error> {
        self.mask_from_crop(trilinear_threshold(logits, from, self.shape())?)
    }

    /// A mask on the volume's grid from one on the prepared grid: 0 outside of the crop.
    ///
    /// # Errors
    /// [`Error::DataLength`] if `mask` has not one value for each voxel of the prepared grid.
    pub fn mask_from_crop(&self, mask: Vec<u8>) -> Result<Vec<u8>, Error> {
        crate::crop::check_data(&mask, self.shape())?;
        let mask = match self.axes.is_identity() {
            true => mask,
            false => self.axes.inverse().data(&mask, self.shape())?,
        };
        paste(&mask, self.region, self.volume_shape)
    }

    /// The voxels of the volume behind cells of a model grid of shape `grid`, which covers the
    /// prepared grid. Both are whole: a voxel that a cell only touches is a part of it.
    pub fn from_cells(&self, cells: Region, grid: [usize; 3]) -> Region {
        let shape = self.shape();
        let start = std::array::from_fn(|n| cells.start[n] * shape[n] / grid[n].max(1));
        let end = std::array::from_fn(|n| {
            (cells.end[n] * shape[n]).div_ceil(grid[n].max(1)).min(shape[n])
        });
        let part = self.axes.inverse().region(Region { start, end }, shape);
        let first = self.region.start;
        Region {
            start: std::array::from_fn(|n| first[n] + part.start[n]),
            end: std::array::from_fn(|n| first[n] + part.end[n]),
        }
    }

    /// The cells of a model grid of shape `grid` that a part of the volume falls on: those that
    /// sample it when a mask is resized to that grid as the authors do (`nearest`: the voxel at
    /// `floor(cell * shape / grid)`), or the one that holds it where it is thinner than a cell.
    /// `None` where nothing of it is in the crop.
    pub fn to_cells(&self, region: Region, grid: [usize; 3]) -> Option<Region> {
        let (region, shape) = (self.to_prepared(region)?, self.shape());
        let mut cells = region;
        for n in 0..3 {
            cells.start[n] = (region.start[n] * grid[n]).div_ceil(shape[n]);
            cells.end[n] = (region.end[n] * grid[n]).div_ceil(shape[n]);
            if cells.end[n] <= cells.start[n] {
                cells.start[n] = region.start[n] * grid[n] / shape[n];
                cells.end[n] = cells.start[n] + 1;
            }
        }
        Some(cells)
    }

    /// Where a part of the volume lies in the prepared grid; `None` where nothing of it is in the
    /// crop.
    pub fn to_prepared(&self, region: Region) -> Option<Region> {
        let (mut start, mut end) = ([0; 3], [0; 3]);
        for n in 0..3 {
            let crop = (self.region.start[n], self.region.end[n]);
            (start[n], end[n]) = (region.start[n].max(crop.0), region.end[n].min(crop.1));
            if end[n] <= start[n] {
                return None;
            }
            (start[n], end[n]) = (start[n] - crop.0, end[n] - crop.0);
        }
        Some(self.axes.region(Region { start, end }, self.region.shape()))
    }

    /// The part of the volume behind a part of the prepared grid: the way back from
    /// [`to_prepared`](Self::to_prepared).
    pub fn from_prepared(&self, region: Region) -> Region {
        self.from_cells(region, self.shape())
    }

    /// Millimeters of the body behind one cell of a model grid `to`, along D, H and W of the volume.
    /// The model cannot see finer detail. `None` where the spacing is not known.
    pub fn effective_resolution_mm(&self, geometry: &Geometry, to: [usize; 3]) -> Option<[f64; 3]> {
        let to = self.axes.inverse().shape(to);
        let (spacing, crop) = (geometry.spacing_mm()?, self.region.shape());
        Some(std::array::from_fn(|n| spacing[n] * crop[n] as f64 / to[n] as f64))
    }

    /// Appends the row at slice `z` and height `y` of the prepared grid.
    pub(crate) fn append_row(&self, voxels: &Voxels, z: usize, y: usize, out: &mut Vec<f32>) {
        let [_, h, w] = self.volume_shape;
        let row = self.axes.row_in(self.region, [h, w], [z, y]);
        voxels.append_row_to(row, self.shape()[2], out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_end_up_inside_the_crop_only() {
        let region = Region { start: [1, 2, 3], end: [3, 6, 9] };
        let placement = Placement::new([4, 8, 12], region, AxisMap::IDENTITY);
        let mask = placement.mask_from_logits(&[1.0; 8], [2; 3]).unwrap();
        assert_eq!(mask.iter().filter(|v| **v == 1).count(), 2 * 4 * 6);
        assert_eq!(mask[(8 + 2) * 12 + 3], 1);
        assert!(placement.mask_from_crop(vec![0; 3]).is_err());
    }

    /// The cells whose sample lies in a mask of the region, found by resizing that mask.
    fn sampled(placement: &Placement, region: Region, grid: [usize; 3]) -> Option<Region> {
        let shape = placement.shape();
        let inside = |n: usize, cell: usize| {
            let voxel = placement.region.start[n] + cell * shape[n] / grid[n];
            (region.start[n]..region.end[n]).contains(&voxel)
        };
        let mut cells = Region { start: [0; 3], end: [0; 3] };
        for (n, &count) in grid.iter().enumerate() {
            cells.start[n] = (0..count).find(|cell| inside(n, *cell))?;
            cells.end[n] = (0..count).rfind(|cell| inside(n, *cell))? + 1;
        }
        Some(cells)
    }

    #[test]
    fn cells_of_a_box_are_those_that_a_resized_mask_has() {
        let crop = Region { start: [3, 5, 7], end: [43, 69, 60] };
        let placement = Placement::new([50, 80, 70], crop, AxisMap::IDENTITY);
        for grid in [[8, 16, 16], [40, 64, 53], [80, 100, 90]] {
            for (low, high) in [(0, 20), (9, 10), (3, 43), (30, 41)] {
                let region = Region { start: [3 + low, 5 + low, 7 + low], end: [3 + high; 3] };
                let region = Region { end: region.end.map(|n| n + 4), ..region };
                let cells = placement.to_cells(region, grid).unwrap();
                if let Some(sampled) = sampled(&placement, region, grid) {
                    assert_eq!(cells, sampled, "{region:?} on {grid:?}");
                }
                // Back again, no voxel of the crop is lost but less than a cell at an edge.
                let back = placement.from_cells(cells, grid);
                for (n, &count) in grid.iter().enumerate() {
                    let cell = placement.shape()[n].div_ceil(count);
                    let region =
                        (region.start[n].max(crop.start[n]), region.end[n].min(crop.end[n]));
                    assert!(back.start[n].abs_diff(region.0) <= cell, "{back:?}");
                    assert!(back.end[n].abs_diff(region.1) <= cell, "{back:?}");
                    assert!(crop.start[n] <= back.start[n] && back.end[n] <= crop.end[n]);
                }
            }
        }
    }

    #[test]
    fn a_box_thinner_than_a_cell_has_one_and_one_outside_of_the_crop_has_none() {
        let crop = Region { start: [10, 0, 0], end: [110, 10, 10] };
        let placement = Placement::new([120, 10, 10], crop, AxisMap::IDENTITY);
        let cells = |d: usize| {
            let region = Region { start: [d, 0, 0], end: [d + 1, 10, 10] };
            placement.to_cells(region, [10, 10, 10]).map(|cells| (cells.start[0], cells.end[0]))
        };
        assert_eq!((cells(10), cells(11), cells(109)), (Some((0, 1)), Some((0, 1)), Some((9, 10))));
        assert_eq!((cells(9), cells(110)), (None, None));
    }

    #[test]
    fn boxes_follow_transposed_axes() {
        let whole = Region::whole([4, 8, 12]);
        let placement = Placement::new([4, 8, 12], whole, AxisMap::TRANSPOSED);
        let region = Region { start: [1, 2, 3], end: [2, 4, 9] };
        let cells = placement.to_cells(region, [4, 12, 8]).unwrap();
        assert_eq!(cells, Region { start: [1, 3, 2], end: [2, 9, 4] });
        assert_eq!(placement.from_cells(cells, [4, 12, 8]), region);
    }

    #[test]
    fn effective_resolution_is_the_crop_over_the_model_grid() {
        let geometry = Geometry::with_spacing([300, 512, 512], [1.25, 0.5, 0.5]).unwrap();
        let region = Region { start: [0, 0, 0], end: [288, 512, 256] };
        let mm = |axes| {
            Placement::new([300, 512, 512], region, axes)
                .effective_resolution_mm(&geometry, [32, 256, 128])
        };
        assert_eq!(mm(AxisMap::IDENTITY), Some([11.25, 1.0, 1.0]));
        assert_eq!(mm(AxisMap::TRANSPOSED), Some([11.25, 2.0, 0.5]));
        let bare = Geometry::without_affine([300, 512, 512]);
        let placement = Placement::new([300, 512, 512], region, AxisMap::IDENTITY);
        assert_eq!(placement.effective_resolution_mm(&bare, [32; 3]), None);
    }
}
