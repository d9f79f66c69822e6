//! What to segment, and where that is on the grids of the model.

use r1seg_volume::{GridMap, NearestMode, Region, RegionRule};

use crate::boxes::outside_of;
use crate::registry::Family;
use crate::{Error, InferenceMode, Prompt, PromptKind, PromptPoint, automatic};

impl Prompt {
    /// Whether a model that segments takes prompts of this kind, which can be checked before a volume is
    /// prepared. Whether a text names one of its classes is checked with the model
    /// ([`AutomaticModel::check`](crate::AutomaticModel::check)).
    ///
    /// # Errors
    /// [`Error::Prompt`] for an empty prompt and one of an unknown kind; for points together with a
    /// box in mode zoom, and for either of them in mode sliding.
    pub fn check(&self, family: Family, mode: InferenceMode) -> Result<(), Error> {
        let (name, known) = (family.name(), family.capabilities());
        if family.entry().has_classes() {
            return automatic::check_kinds(self, name);
        }
        if self.text.is_some() && !known.takes(PromptKind::Text) {
            return Err(reads_no_texts(family));
        }
        let given = [
            (PromptKind::Points, !self.points.is_empty(), "points"),
            (PromptKind::Box, self.region.is_some(), "boxes"),
            (PromptKind::Mask, self.mask.is_some(), "masks to correct"),
        ];
        let somewhere = given.iter().any(|(_, given, _)| *given);
        if self.text.is_none() && !somewhere {
            return Err(Error::Prompt {
                message: "nothing was asked for".to_string(),
                fix: what_to_give(family),
            });
        }
        for (kind, given, what) in given {
            if given && !known.takes(kind) {
                return Err(Error::Prompt {
                    message: format!("{name} takes no {what}"),
                    fix: what_to_give(family),
                });
            }
        }
        let looks_at_crops = matches!(mode, InferenceMode::Crop | InferenceMode::Grow);
        if !looks_at_crops && (self.center.is_some() || self.points_at_once) {
            return Err(Error::Prompt {
                message: format!("{name} looks at no crop, and reads all points at once"),
                fix: "give neither a center nor an order",
            });
        }
        if somewhere && mode == InferenceMode::Sliding {
            return Err(Error::Prompt {
                message: "in windows, each would need points and a box of its own".to_string(),
                fix: "use mode zoom, or resize",
            });
        }
        if !self.points.is_empty() && self.region.is_some() && mode == InferenceMode::Zoom {
            return Err(Error::Prompt {
                message: format!("{name} cannot zoom in with points and a box together"),
                fix: "give one of the two, or use mode resize, which encodes the volume once",
            });
        }
        let is_elsewhere = self.region.is_some() || self.mask.is_some();
        let all_negative = !self.points.iter().any(|point| point.positive);
        if !self.points.is_empty() && all_negative && !is_elsewhere {
            return Err(Error::Prompt {
                message: "every point is negative: they say where it is not".to_string(),
                fix: "give a positive point, too",
            });
        }
        Ok(())
    }
}

/// That a text was given to a model that knows places alone.
pub(super) fn reads_no_texts(family: Family) -> Error {
    Error::Prompt {
        message: format!("{} reads no texts", family.name()),
        fix: what_to_give(family),
    }
}

/// What a model can be given.
fn what_to_give(family: Family) -> &'static str {
    let takes = |kind| family.capabilities().takes(kind);
    match [PromptKind::Text, PromptKind::Points, PromptKind::Box].map(takes) {
        [true, false, _] => "give a text; SegVol takes points and boxes, too",
        [true, true, _] => "give a text, points or a box",
        [false, _, false] => "give a point in it, as a viewer shows it: voxel I,J,K or mm",
        [false, _, true] => "give a point in it or a box around it, as a viewer shows them",
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
        prompt: &Prompt,
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

    fn places(prompt: &Prompt, shape: [usize; 3], grid: [usize; 3]) -> Result<Places, Error> {
        // A margin of one voxel is cropped.
        let crop = Region { start: [1; 3], end: shape.map(|n| n - 1) };
        let prepared = GridMap::identity(shape).cropped(crop).unwrap();
        Places::new(prompt, &prepared, grid)
    }

    #[test]
    fn points_are_in_the_cell_that_holds_them() {
        let prompt = Prompt::default().with_point(PromptPoint::positive([1, 20, 9]));
        let found = places(&prompt, [18, 34, 34], [16, 16, 64]).unwrap().points[0];
        assert_eq!((found.voxel, found.cell), ([0, 19, 8], [0, 9, 17]));
        assert!(found.positive);
    }

    #[test]
    fn a_box_is_the_cells_that_show_it() {
        let shown = |start, end, grid| {
            let prompt = Prompt::default().with_region(Region { start, end });
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
        let edge = Prompt::default().with_point(PromptPoint::positive([0, 5, 5]));
        let error = places(&edge, [18, 34, 34], [16, 32, 32]).unwrap_err();
        assert_eq!((error.code(), error.kind()), ("R-PNT-01", crate::ErrorKind::BadData));
        assert!(error.to_string().contains("[1, 1, 1] to [16, 32, 32]"), "{error}");
        let region = Region { start: [0, 1, 1], end: [1, 5, 5] };
        let edge = Prompt::default().with_region(region);
        let error = places(&edge, [18, 34, 34], [16, 32, 32]).unwrap_err();
        assert_eq!(error.code(), "R-BOX-01");
    }
}
