//! What to segment, and where that is in the grids that the model sees.

use r1seg_volume::resample::nearest_exact_sources;
use r1seg_volume::{Geometry, Placement, Region};

use crate::{Error, PromptableConfig, SegmentMode, check_box};

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
    /// [`Error::Point`] or [`Error::Box`].
    pub fn check_in(&self, geometry: &Geometry) -> Result<(), Error> {
        let shape @ [d, h, w] = geometry.shape();
        for PromptPoint { voxel: voxel @ [k, j, i], .. } in &self.points {
            if (0..3).any(|axis| shape[axis] <= voxel[axis]) {
                return Err(Error::Point {
                    message: format!(
                        "the point is voxel {i},{j},{k} (i, j, k), but the volume has {w} x {h} x \
                         {d}"
                    ),
                });
            }
        }
        self.region.map_or(Ok(()), |region| check_box(geometry, region))
    }
}

/// A point in the world (RAS+ mm) as a voxel of a volume, `[D, H, W]`: the one that it lies in.
///
/// # Errors
/// [`Error::Point`] for a point that is not finite or outside, and without an affine.
pub fn voxel_from_mm(geometry: &Geometry, mm: [f64; 3]) -> Result<[usize; 3], Error> {
    let wrong = |message: String| Error::Point { message };
    if mm.iter().any(|mm| !mm.is_finite()) {
        return Err(wrong("the point is not finite".to_string()));
    }
    let ijk = geometry.voxel_at_mm(mm).ok_or_else(|| {
        wrong("the volume has no affine, so that mm have no meaning in it".to_string())
    })?;
    let [d, h, w] = geometry.shape();
    let mut voxel = [0; 3];
    for (axis, (at, size)) in [(ijk[2], d), (ijk[1], h), (ijk[0], w)].into_iter().enumerate() {
        let at = at.round();
        if !(0.0 <= at && at < size as f64) {
            let [x, y, z] = mm;
            return Err(wrong(format!(
                "the point {x},{y},{z} mm (RAS+) lies outside of the volume"
            )));
        }
        // Casts from float to integer saturate.
        voxel[axis] = at as usize;
    }
    Ok(voxel)
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
    /// # Errors
    /// [`Error::Point`] or [`Error::Box`] where the model sees nothing of it.
    pub(super) fn new(
        prompt: &SegmentPrompt,
        placement: &Placement,
        grid: [usize; 3],
    ) -> Result<Self, Error> {
        let unseen = || {
            let Region { start, end } = placement.region();
            let last = end.map(|n| n.saturating_sub(1));
            format!(
                "lies outside of what the model sees, voxels {start:?} to {last:?} of [D, H, W]"
            )
        };
        let shape = placement.shape();
        let point = |point: &PromptPoint| {
            let seen = placement.to_prepared(Region::at(point.voxel, [1; 3]));
            let Some(Region { start: voxel, .. }) = seen else {
                return Err(Error::Point { message: format!("the point {}", unseen()) });
            };
            let cell = std::array::from_fn(|n| (2 * voxel[n] + 1) * grid[n] / (2 * shape[n]));
            Ok(Place { voxel, cell, positive: point.positive })
        };
        let region = |region: Region| {
            let seen = placement.to_prepared(region);
            let seen =
                seen.ok_or_else(|| Error::Box { message: format!("the box {}", unseen()) })?;
            Ok::<_, Error>(cells_of(seen, shape, grid))
        };
        Ok(Self {
            points: prompt.points.iter().map(point).collect::<Result<_, Error>>()?,
            region: prompt.region.map(region).transpose()?,
        })
    }
}

/// The cells of the model's grid that show a part of a grid of `shape`: those whose voxel, by
/// `nearest-exact`, is a part of it, or the one at its middle where it is thinner than a cell.
fn cells_of(region: Region, shape: [usize; 3], grid: [usize; 3]) -> Region {
    let mut cells = Region { start: [0; 3], end: [0; 3] };
    for n in 0..3 {
        let sources = nearest_exact_sources(shape[n], grid[n]);
        let inside = |source: &usize| (region.start[n]..region.end[n]).contains(source);
        let ends = (sources.iter().position(inside), sources.iter().rposition(inside));
        let middle = (region.start[n] + region.end[n]) * grid[n] / (2 * shape[n]);
        let (first, last) = match ends {
            (Some(first), Some(last)) => (first, last),
            _ => (middle, middle),
        };
        (cells.start[n], cells.end[n]) = (first, last + 1);
    }
    cells
}

#[cfg(test)]
mod tests {
    use r1seg_volume::{Recipe, Volume};

    use super::*;

    fn places(
        prompt: &SegmentPrompt,
        shape: [usize; 3],
        grid: [usize; 3],
    ) -> Result<Places, Error> {
        // The margin of one voxel is dark, and cropped.
        let [d, h, w] = shape;
        let dark = |z: usize, y: usize, x: usize| {
            [(z, d), (y, h), (x, w)].iter().any(|(at, size)| *at == 0 || at + 1 == *size)
        };
        let at = |n: usize| (n / (h * w), n / w % h, n % w);
        let voxels: Vec<f32> = (0..d * h * w)
            .map(|n| {
                let (z, y, x) = at(n);
                if dark(z, y, x) { 0.0 } else { 1.0 + x as f32 }
            })
            .collect();
        let volume = Volume::new(voxels, Geometry::without_affine(shape)).unwrap();
        let placement = Recipe::M3dCap.apply(&volume).unwrap().placement();
        assert_eq!(placement.region(), Region { start: [1; 3], end: shape.map(|n| n - 1) });
        Places::new(prompt, &placement, grid)
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
    fn a_point_in_mm_is_the_voxel_that_it_lies_in() {
        let affine = [
            [-2.0, 0.0, 0.0, 50.0],
            [0.0, 3.0, 0.0, -20.0],
            [0.0, 0.0, 4.0, 7.0],
            [0.0, 0.0, 0.0, 1.0],
        ];
        let geometry = Geometry::with_affine([10, 20, 30], affine).unwrap();
        assert_eq!(voxel_from_mm(&geometry, [44.9, -14.0, 12.0]).unwrap(), [1, 2, 3]);
        assert_eq!(voxel_from_mm(&geometry, [50.9, -21.0, 5.1]).unwrap(), [0, 0, 0]);
        for (mm, says) in [
            ([52.0, -14.0, 12.0], "outside"),
            ([1e300, 0.0, 0.0], "outside"),
            ([f64::NAN, 0.0, 0.0], "finite"),
        ] {
            let error = voxel_from_mm(&geometry, mm).unwrap_err();
            assert!(error.code() == "R-PNT-01" && error.to_string().contains(says), "{error}");
        }
        let bare = Geometry::without_affine([10, 20, 30]);
        assert!(voxel_from_mm(&bare, [0.0; 3]).unwrap_err().to_string().contains("no affine"));
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
