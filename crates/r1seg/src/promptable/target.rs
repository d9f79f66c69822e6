//! What to segment on the grid that a crop is cut from.

use r1seg_volume::{GridMap, Region, RegionRule, crop_around};

use crate::boxes::outside_of;
use crate::{Error, Prompt};

/// A prompt of places, in cells of the prepared grid.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Target {
    pub(super) points: Vec<TargetPoint>,
    pub(super) region: Option<Region>,
    /// The box around a mask that is to be corrected.
    pub(super) mask: Option<Region>,
    /// What its crop is to have in the middle, if the prompt says it.
    pub(super) center: Option<Region>,
}

/// A point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TargetPoint {
    /// Beyond the grid in the padding of a crop.
    pub(super) cell: [i64; 3],
    pub(super) positive: bool,
}

/// A cell of a grid, in numbers that also count cells before it.
pub(super) fn signed(cell: [usize; 3]) -> [i64; 3] {
    cell.map(|n| i64::try_from(n).unwrap_or(i64::MAX))
}

/// Where a cell lies in a crop that begins at `start`; negative before it.
pub(super) fn within(cell: [i64; 3], start: [i64; 3]) -> [i64; 3] {
    std::array::from_fn(|n| cell[n].saturating_sub(start[n]))
}

/// Whether a place in a crop of `shape` is at least `margin` cells inside of it.
pub(super) fn is_inside(at: [i64; 3], shape: [usize; 3], margin: [usize; 3]) -> bool {
    (0..3).all(|n| {
        let at = usize::try_from(at[n]).ok();
        at.is_some_and(|at| margin[n] <= at && at + margin[n] < shape[n])
    })
}

impl Target {
    /// Where a prompt is on the grid that `map` leads to. `mask` is what it has of a mask there, in C
    /// order.
    ///
    /// # Errors
    /// `R-BOX-01` where the grid shows nothing of the box; [`Error::Prompt`] for an empty mask.
    pub(super) fn new(prompt: &Prompt, map: &GridMap, mask: Option<&[u8]>) -> Result<Self, Error> {
        // A voxel at the edge may lie beyond the outermost cells, of which it is the nearest then.
        let cell = |voxel: [usize; 3]| -> [usize; 3] {
            let (at, shape) = (map.point(voxel.map(|n| n as f64)), map.shape());
            // Casts from float to integer saturate.
            std::array::from_fn(|n| {
                ((at[n] + 0.5).floor() as usize).min(shape[n].saturating_sub(1))
            })
        };
        let points = prompt
            .points
            .iter()
            .map(|point| TargetPoint { cell: signed(cell(point.voxel)), positive: point.positive });
        let region = |region: Region| {
            map.region(region, RegionRule::Touched).ok_or_else(|| {
                let message = format!("the box {}", outside_of(map));
                r1seg_volume::Error::invalid_box(message)
            })
        };
        let set = |mask: &[u8]| {
            let whole = Region::whole(map.shape());
            super::zoom::box_of(mask, map.shape(), whole).ok_or(Error::Prompt {
                message: "the mask to correct is empty at the model's spacing".to_string(),
                fix: "give a mask with voxels in it, or a point",
            })
        };
        Ok(Self {
            points: points.collect(),
            region: prompt.region.map(region).transpose()?,
            mask: mask.map(set).transpose()?,
            center: prompt.center.map(|voxel| Region::at(cell(voxel), [1; 3])),
        })
    }

    /// Where its crop of `shape` begins: around the center that it names, its first positive point, its
    /// box, or its mask.
    pub(super) fn crop(&self, shape: [usize; 3]) -> [i64; 3] {
        let point = self.points.iter().find(|point| point.positive);
        let point = point.map(|point| {
            Region::at(point.cell.map(|n| usize::try_from(n).unwrap_or_default()), [1; 3])
        });
        let around = self.center.or(point).or(self.region).or(self.mask);
        crop_around(around.unwrap_or(Region::at([0; 3], [1; 3])), shape)
    }

    /// Whether a crop of `shape` that was encoded for another target shows this one as well: all of its
    /// points, and the corners of its box, are a quarter of the crop away from the edges.
    pub(super) fn can_share(&self, start: [i64; 3], shape: [usize; 3]) -> bool {
        let margin = shape.map(|n| n / 4);
        let shows = |cell: [i64; 3]| is_inside(within(cell, start), shape, margin);
        let shows_box = |region: &Region| {
            let last = region.end.map(|end| end.saturating_sub(1));
            shows(signed(region.start)) && shows(signed(last))
        };
        self.center.is_none()
            && self.points.iter().all(|point| shows(point.cell))
            && self.region.iter().chain(&self.mask).all(shows_box)
    }
}

#[cfg(test)]
mod tests {
    use r1seg_volume::GridMap;

    use super::*;
    use crate::PromptPoint;

    const SHAPE: [usize; 3] = [8; 3];

    fn target(prompt: &Prompt) -> Target {
        Target::new(prompt, &GridMap::identity([40; 3]), None).unwrap()
    }

    #[test]
    fn a_crop_has_its_first_positive_point_in_the_middle() {
        let prompt = Prompt::default()
            .with_point(PromptPoint::negative([1, 1, 1]))
            .with_point(PromptPoint::positive([20, 3, 39]))
            .with_point(PromptPoint::positive([30, 30, 30]));
        assert_eq!(target(&prompt).crop(SHAPE), [16, -1, 35]);
        assert_eq!(target(&prompt.with_center([10; 3])).crop(SHAPE), [6; 3]);
    }

    #[test]
    fn a_crop_around_a_box_has_its_middle_rounded_down_in_the_middle() {
        let region = Region { start: [10, 10, 0], end: [15, 16, 1] };
        let prompt = Prompt::default().with_region(region);
        assert_eq!(target(&prompt).crop(SHAPE), [8, 9, -4]);
    }

    #[test]
    fn a_crop_is_shared_by_what_lies_in_its_middle_half() {
        let at = |voxel| target(&Prompt::default().with_point(PromptPoint::positive(voxel)));
        let start = [10; 3];
        for (cell, shared) in [(11, false), (12, true), (15, true), (16, false), (3, false)] {
            assert_eq!(at([cell; 3]).can_share(start, SHAPE), shared, "{cell}");
        }
        let named = Prompt::default().with_point(PromptPoint::positive([13; 3]));
        assert!(!target(&named.with_center([13; 3])).can_share(start, SHAPE));
        let region = |end| target(&Prompt::default().with_region(Region { start: [12; 3], end }));
        assert!(region([16; 3]).can_share(start, SHAPE));
        assert!(!region([17; 3]).can_share(start, SHAPE));
    }

    #[test]
    fn what_is_outside_of_the_grid_or_empty_is_refused() {
        let map = GridMap::identity([40; 3]);
        let edge = Prompt::default().with_point(PromptPoint::positive([40; 3]));
        assert_eq!(Target::new(&edge, &map, None).unwrap().points[0].cell, [39; 3]);
        let empty = vec![0; 40 * 40 * 40];
        let error = Target::new(&Prompt::default(), &map, Some(&empty)).unwrap_err();
        assert!(error.to_string().contains("the mask to correct is empty"), "{error}");
    }
}
