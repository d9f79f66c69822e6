//! The way from a model's grid back to the grid of the volume.

use crate::resample::trilinear_threshold;
use crate::{Error, Geometry, Region, Voxels, paste};

/// Where a prepared grid lies in the volume that it was cut from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    volume_shape: [usize; 3],
    region: Region,
    /// The prepared grid is `[D, W, H]`.
    swapped: bool,
}

impl Placement {
    pub(crate) fn new(volume_shape: [usize; 3], region: Region, swapped: bool) -> Self {
        Self { volume_shape, region, swapped }
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
        let [d, h, w] = self.region.shape();
        if self.swapped { [d, w, h] } else { [d, h, w] }
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
        let mask = if self.swapped { transpose(&mask, self.shape()) } else { mask };
        paste(&mask, self.region, self.volume_shape)
    }

    /// Millimetres of the body behind one cell of a model grid `to`, along D, H and W of the volume.
    /// The model cannot see finer detail. `None` where the spacing is not known.
    pub fn effective_resolution_mm(&self, geometry: &Geometry, to: [usize; 3]) -> Option<[f64; 3]> {
        let [d, h, w] = to;
        let to = if self.swapped { [d, w, h] } else { [d, h, w] };
        let (spacing, crop) = (geometry.spacing_mm()?, self.region.shape());
        Some(std::array::from_fn(|n| spacing[n] * crop[n] as f64 / to[n] as f64))
    }

    /// Appends the row at slice `z` and height `y` of the prepared grid.
    pub(crate) fn append_row(&self, voxels: &Voxels, z: usize, y: usize, out: &mut Vec<f32>) {
        let [_, h, w] = self.volume_shape;
        let [depth, row, column] = self.region.start;
        let slice = (depth + z) * h * w;
        let [_, height, width] = self.region.shape();
        if self.swapped {
            let first = slice + row * w + column + y;
            out.extend((0..height).filter_map(|n| voxels.get(first + n * w)));
        } else {
            let first = slice + (row + y) * w + column;
            voxels.append_to(first..first + width, out);
        }
    }
}

/// `[D, H, W]` to `[D, W, H]`.
fn transpose<T: Copy>(data: &[T], [d, h, w]: [usize; 3]) -> Vec<T> {
    let mut out = Vec::with_capacity(data.len());
    for z in 0..d {
        for x in 0..w {
            out.extend((0..h).map(|y| data[(z * h + y) * w + x]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposing_twice_is_nothing() {
        let data: Vec<u8> = (0..24).collect();
        let once = transpose(&data, [2, 3, 4]);
        assert_eq!(&once[..6], [0, 4, 8, 1, 5, 9]);
        assert_eq!(transpose(&once, [2, 4, 3]), data);
    }

    #[test]
    fn logits_end_up_inside_the_crop_only() {
        let region = Region { start: [1, 2, 3], end: [3, 6, 9] };
        let placement = Placement::new([4, 8, 12], region, false);
        let mask = placement.mask_from_logits(&[1.0; 8], [2; 3]).unwrap();
        assert_eq!(mask.iter().filter(|v| **v == 1).count(), 2 * 4 * 6);
        assert_eq!(mask[(8 + 2) * 12 + 3], 1);
        assert!(placement.mask_from_crop(vec![0; 3]).is_err());
    }

    #[test]
    fn effective_resolution_is_the_crop_over_the_model_grid() {
        let geometry = Geometry::with_spacing([300, 512, 512], [1.25, 0.5, 0.5]).unwrap();
        let region = Region { start: [0, 0, 0], end: [288, 512, 256] };
        let mm = |swapped| {
            Placement::new([300, 512, 512], region, swapped)
                .effective_resolution_mm(&geometry, [32, 256, 128])
        };
        assert_eq!(mm(false), Some([11.25, 1.0, 1.0]));
        assert_eq!(mm(true), Some([11.25, 2.0, 0.5]));
        let bare = Geometry::without_affine([300, 512, 512]);
        assert_eq!(
            Placement::new([300, 512, 512], region, false).effective_resolution_mm(&bare, [32; 3]),
            None
        );
    }
}
