//! The windows over a part of the prepared grid, and the prompts of each.

use r1seg_mask_decoder::PointLabel;
use r1seg_volume::{GridMap, Padding, Region, RegionRule};

use super::prompt::Places;
use super::zoom::{box_of, corners, points_in, shown_in};
use crate::Error;

/// A window over a part of the prepared grid.
pub(super) struct Window {
    pub(super) part: Region,
    pub(super) padding: Padding,
    /// Of the padded part.
    pub(super) window: Region,
    pub(super) is_only: bool,
}

/// The prompts of one window, in window coordinates.
#[derive(Debug, Default, PartialEq)]
pub(super) struct WindowPrompts {
    pub(super) points: Vec<([f32; 3], PointLabel)>,
    pub(super) bounding_box: Option<[f32; 6]>,
}

impl Window {
    /// `mask` is what was found before on the prepared grid, from which `model` leads to the model's.
    ///
    /// # Errors
    /// When the window is not one of the padded part.
    pub(super) fn prompts(
        &self,
        places: &Places,
        mask: &[u8],
        model: &GridMap,
    ) -> Result<WindowPrompts, Error> {
        // SegVol's authors pad the volume and what was found in it, but not the maps of points and
        // boxes, of which they cut the same window.
        let unpadded = Region {
            start: std::array::from_fn(|n| self.part.start[n] + self.window.start[n]),
            end: std::array::from_fn(|n| {
                (self.part.start[n] + self.window.end[n]).min(self.part.end[n])
            }),
        };
        if !places.points.is_empty() {
            return Ok(WindowPrompts {
                points: points_in(unpadded, &places.points, model),
                bounding_box: Some(corners(self.found(mask, model.source_shape())?)),
            });
        }
        let Some(cells) = places.region else { return Ok(WindowPrompts::default()) };
        let region = match self.is_only {
            true => shown_in(unpadded, cells, model),
            false => self.found(mask, model.source_shape())?,
        };
        Ok(WindowPrompts { points: Vec::new(), bounding_box: Some(corners(region)) })
    }

    /// The box around what was found before, as far as it is in the window, in the window's voxels.
    fn found(&self, mask: &[u8], shape: [usize; 3]) -> Result<Option<Region>, Error> {
        let map = GridMap::identity(shape)
            .cropped(self.part)?
            .padded(&self.padding)?
            .cropped(self.window)?;
        let found = map.footprint().and_then(|part| box_of(mask, shape, part));
        Ok(found.and_then(|found| map.region(found, RegionRule::Touched)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::prompt::Place;
    use super::*;

    fn region(start: [usize; 3], end: [usize; 3]) -> Region {
        Region { start, end }
    }

    const GRID: [usize; 3] = [4, 8, 8];
    const SHAPE: [usize; 3] = [8, 16, 16];

    /// A mask of [`SHAPE`] with these voxels.
    fn mask(voxels: &[[usize; 3]]) -> Vec<u8> {
        let mut mask = vec![0; 8 * 16 * 16];
        voxels.iter().for_each(|[z, y, x]| mask[(z * 16 + y) * 16 + x] = 1);
        mask
    }

    /// The only window over a part that is three slices and two rows too small for it.
    fn small() -> Window {
        let part = region([2, 1, 3], [3, 7, 11]);
        let padding = Padding::to_at_least(part.shape(), GRID);
        assert_eq!(padding.inner, region([1, 1, 0], [2, 7, 8]));
        Window { part, padding, window: Region::whole(GRID), is_only: true }
    }

    fn prompts(window: &Window, places: &Places, mask: &[u8]) -> WindowPrompts {
        window.prompts(places, mask, &GridMap::identity(SHAPE).fitted(GRID).unwrap()).unwrap()
    }

    #[test]
    fn quirk_16_the_box_of_the_only_window_ignores_the_padding() {
        // Cells 1..2, 1..3 and 2..5 are voxels 2..4, 2..6 and 4..10 of the grid.
        let places = Places { region: Some(region([1, 1, 2], [2, 3, 5])), ..Places::default() };
        let prompts = prompts(&small(), &places, &mask(&[]));
        assert_eq!(prompts.bounding_box, Some([0.0, 1.0, 1.0, 0.0, 4.0, 6.0]));
        assert!(prompts.points.is_empty());
    }

    #[test]
    fn the_box_of_one_window_of_several_is_what_was_found_in_it() {
        let places = Places { region: Some(region([0; 3], [4, 8, 8])), ..Places::default() };
        let part = region([0, 2, 0], [6, 16, 16]);
        let padding = Padding::to_at_least(part.shape(), GRID);
        let seen =
            |start| Window { part, padding, window: Region::at(start, GRID), is_only: false };
        let found = mask(&[[3, 9, 5], [5, 10, 9], [3, 1, 5]]);
        let prompts_at = |start| prompts(&seen(start), &places, &found).bounding_box;
        assert_eq!(prompts_at([2, 4, 4]), Some([1.0, 3.0, 1.0, 3.0, 4.0, 5.0]));
        assert_eq!(prompts_at([0, 4, 4]), Some([3.0, 3.0, 1.0, 3.0, 3.0, 1.0]));
        assert_eq!(prompts_at([0, 0, 8]), Some([-1.0; 6]));
    }

    #[test]
    fn quirk_16_points_ignore_the_padding_and_their_box_does_not() {
        let place = Place { voxel: [2, 3, 6], cell: [1, 1, 3], positive: true };
        let places = Places { points: vec![place], region: None };
        let prompts = prompts(&small(), &places, &mask(&[[2, 3, 6], [2, 4, 7]]));
        assert_eq!(prompts.points[0], ([0.0, 2.0, 3.0], PointLabel::Positive));
        assert_eq!(prompts.bounding_box, Some([1.0, 3.0, 3.0, 1.0, 4.0, 4.0]));
    }

    #[test]
    fn a_text_alone_tells_a_window_nothing_more() {
        assert_eq!(
            prompts(&small(), &Places::default(), &mask(&[[2, 3, 6]])),
            WindowPrompts::default()
        );
    }
}
