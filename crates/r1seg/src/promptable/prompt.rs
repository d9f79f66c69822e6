//! What to segment, and where that is in the grids that the model sees.

use r1seg_volume::{Geometry, GridMap, NearestMode, Region, RegionRule};

use crate::boxes::outside_of;
use crate::{Error, PromptableConfig, SegmentMode};

/// A point in what is sought, or beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PromptPoint {
    /// A voxel of the input, `[D, H, W]`.
    pub voxel: [usize; 3],
    /// Whether the voxel is a part of what is sought.
    pub positive: bool,
}

/// What to segment: a text, points, a box, or a text with either.
///
/// ```
/// use r1seg::SegmentPrompt;
///
/// let liver = SegmentPrompt::of_text("liver").with_point([40, 120, 90], true);
/// # assert_eq!(liver.points.len(), 1);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentPrompt {
    /// In words: the name of an organ or a lesion for SegVol, which sets it into the sentence that
    /// it was trained with; for R1Seg-3D-SAM a whole sentence, such as "A computerized tomography of
    /// a liver."
    pub text: Option<String>,
    /// Points.
    pub points: Vec<PromptPoint>,
    /// A box around it, in voxels of the input.
    pub region: Option<Region>,
}

impl SegmentPrompt {
    /// Asks with words.
    pub fn of_text(text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..Self::default() }
    }

    /// Adds a point, in voxels `[D, H, W]` of the input.
    #[must_use]
    pub fn with_point(mut self, voxel: [usize; 3], positive: bool) -> Self {
        self.points.push(PromptPoint { voxel, positive });
        self
    }

    /// Sets the box, in voxels of the input.
    #[must_use]
    pub fn with_region(mut self, region: Region) -> Self {
        self.region = Some(region);
        self
    }

    /// Whether a model knows prompts of this kind, which can be asked before a volume is prepared.
    ///
    /// # Errors
    /// [`Error::Prompt`] for an empty prompt and one of an unknown kind; for points together with a
    /// box, where the model looks twice, and for either of them, where it looks at windows.
    pub fn check(&self, config: &PromptableConfig, mode: SegmentMode) -> Result<(), Error> {
        let (name, somewhere) =
            (config.family.name(), !self.points.is_empty() || self.region.is_some());
        if self.text.is_none() && !somewhere {
            let fix = if config.knows_points_and_boxes() {
                "give a text, points or a box"
            } else {
                "give a text"
            };
            return Err(Error::Prompt { message: "nothing was asked for".to_string(), fix });
        }
        if somewhere && !config.knows_points_and_boxes() {
            return Err(Error::Prompt {
                message: format!("{name} knows texts alone, and neither points nor boxes"),
                fix: "describe it in words, or use SegVol",
            });
        }
        if somewhere && mode == SegmentMode::Sliding {
            return Err(Error::Prompt {
                message: "in windows, each would need points and a box of its own".to_string(),
                fix: "use mode zoom, or resize",
            });
        }
        if !self.points.is_empty() && self.region.is_some() && mode == SegmentMode::Zoom {
            return Err(Error::Prompt {
                message: format!("{name} cannot look twice with points and a box together"),
                fix: "give one of the two, or use mode resize, which looks once",
            });
        }
        if !self.points.is_empty() && !self.points.iter().any(|point| point.positive) {
            return Err(Error::Prompt {
                message: "every point is negative: they say where it is not".to_string(),
                fix: "give a positive point, too",
            });
        }
        Ok(())
    }

    /// Whether it lies in a volume.
    ///
    /// # Errors
    /// `R-PNT-01` or `R-BOX-01`.
    pub fn check_in(&self, geometry: &Geometry) -> Result<(), Error> {
        for point in &self.points {
            geometry.check_voxel(point.voxel)?;
        }
        Ok(self.region.map_or(Ok(()), |region| geometry.check_region(region))?)
    }
}

/// A prompt without its text, in the prepared grid and on the model's.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Places {
    pub(super) points: Vec<Place>,
    /// On the model's grid.
    pub(super) region: Option<Region>,
}

/// A point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// In the prepared grid.
    pub(super) voxel: [usize; 3],
    /// On the model's grid.
    pub(super) cell: [usize; 3],
    pub(super) positive: bool,
}

impl Places {
    /// Where a prompt is on the grid that `prepared` leads to, and on the model's over the same extent. A
    /// point is in the cell that holds its voxel's center, and a box is the cells that show it: those
    /// that `nearest-exact` takes from it, as the authors resize its mask.
    ///
    /// # Errors
    /// `R-PNT-01` or `R-BOX-01` where the model sees nothing of it.
    pub(super) fn new(
        prompt: &SegmentPrompt,
        prepared: &GridMap,
        grid: [usize; 3],
    ) -> Result<Self, Error> {
        let model = prepared.clone().fitted(grid)?;
        let point = |point: &PromptPoint| {
            let (voxel, cell) = (prepared.cell_of(point.voxel), model.cell_of(point.voxel));
            let (Some(voxel), Some(cell)) = (voxel, cell) else {
                let message = format!("the point {}", outside_of(prepared));
                return Err(r1seg_volume::Error::invalid_point(message));
            };
            Ok(Place { voxel, cell, positive: point.positive })
        };
        let region = |region: Region| {
            let rule = RegionRule::SampledOrMiddle(NearestMode::NearestExact);
            model.region(region, rule).ok_or_else(|| {
                let message = format!("the box {}", outside_of(prepared));
                r1seg_volume::Error::invalid_box(message)
            })
        };
        Ok(Self {
            points: prompt.points.iter().map(point).collect::<Result<_, _>>()?,
            region: prompt.region.map(region).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(
        prompt: &SegmentPrompt,
        shape: [usize; 3],
        grid: [usize; 3],
    ) -> Result<Places, Error> {
        // A margin of one voxel is cropped.
        let crop = Region { start: [1; 3], end: shape.map(|n| n - 1) };
        let prepared = GridMap::identity(shape).cropped(crop).unwrap();
        Places::new(prompt, &prepared, grid)
    }

    #[test]
    fn points_are_in_the_cell_that_holds_them() {
        let prompt = SegmentPrompt::default().with_point([1, 20, 9], true);
        let found = places(&prompt, [18, 34, 34], [16, 16, 64]).unwrap().points[0];
        assert_eq!((found.voxel, found.cell), ([0, 19, 8], [0, 9, 17]));
        assert!(found.positive);
    }

    #[test]
    fn a_box_is_the_cells_that_show_it() {
        let shown = |start, end, grid| {
            let prompt = SegmentPrompt::default().with_region(Region { start, end });
            places(&prompt, [18, 34, 34], grid).unwrap().region.unwrap()
        };
        // On a grid of its own size it stays as it is; what is cropped away goes.
        let cells = shown([3, 4, 5], [9, 11, 40], [16, 32, 32]);
        assert_eq!(cells, Region { start: [2, 3, 4], end: [8, 10, 32] });
        // Cell c shows voxel 2 c + 1.
        let cells = shown([3, 4, 5], [9, 11, 13], [8, 16, 16]);
        assert_eq!(cells, Region { start: [1, 1, 2], end: [4, 5, 6] });
        let thin = shown([3, 4, 5], [4, 5, 6], [8, 16, 16]);
        assert_eq!(thin, Region { start: [1, 1, 2], end: [2, 2, 3] });
    }

    #[test]
    fn what_the_model_does_not_see_is_refused() {
        let edge = SegmentPrompt::default().with_point([0, 5, 5], true);
        let error = places(&edge, [18, 34, 34], [16, 32, 32]).unwrap_err();
        assert_eq!((error.code(), error.kind()), ("R-PNT-01", crate::ErrorKind::BadData));
        assert!(error.to_string().contains("[1, 1, 1] to [16, 32, 32]"), "{error}");
        let region = Region { start: [0, 1, 1], end: [1, 5, 5] };
        let edge = SegmentPrompt::default().with_region(region);
        let error = places(&edge, [18, 34, 34], [16, 32, 32]).unwrap_err();
        assert_eq!(error.code(), "R-BOX-01");
    }

    #[test]
    fn a_point_outside_of_the_volume_is_told_with_its_size() {
        let geometry = Geometry::without_affine([10, 20, 30]);
        let prompt = SegmentPrompt::default().with_point([9, 20, 29], true);
        let error = prompt.check_in(&geometry).unwrap_err().to_string();
        assert!(error.contains("29,20,9") && error.contains("30 x 20 x 10"), "{error}");
        let prompt = SegmentPrompt::default().with_point([9, 19, 29], true);
        assert!(prompt.check_in(&geometry).is_ok());
        let reversed = prompt.with_region(Region { start: [5; 3], end: [5, 6, 6] });
        assert_eq!(reversed.check_in(&geometry).unwrap_err().code(), "R-BOX-01");
    }
}
