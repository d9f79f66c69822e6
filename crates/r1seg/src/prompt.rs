//! What is asked of a volume.

use std::sync::Arc;

use r1seg_volume::{Geometry, Mask, Region};

use crate::Error;

/// A point in what is sought, or beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PromptPoint {
    /// A voxel of the input, `[D, H, W]`.
    pub voxel: [usize; 3],
    /// Whether the voxel is a part of what is sought.
    pub positive: bool,
}

/// What is asked of a volume: a question or a text, points, a box, a mask to correct, or several of
/// these. Which of them a model takes depends on its family
/// ([`Capabilities::prompts`](crate::Capabilities)). A `&str` is a prompt of its text alone.
///
/// ```
/// use r1seg::{Prompt, PromptPoint};
///
/// let liver = Prompt::of_text("liver").with_point(PromptPoint::positive([40, 120, 90]));
/// # assert_eq!(liver.points.len(), 1);
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Prompt {
    /// In words: a question for a model with a language model; the name of an organ or a lesion for
    /// SegVol, which sets it into the sentence that it was trained with; for R1Seg-3D-SAM a whole
    /// sentence, such as "A computerized tomography of a liver."
    pub text: Option<String>,
    /// Points, in the order in which they were clicked.
    pub points: Vec<PromptPoint>,
    /// A box in voxels of the input: around what to segment, or the part that a question is about. The
    /// language model reads it at [`BOX_PLACEHOLDER`](crate::BOX_PLACEHOLDER) or at the question's end.
    pub region: Option<Region>,
    /// An earlier mask of the same volume, from any model, that is to be corrected. Its labels are one.
    pub mask: Option<Arc<Mask>>,
    /// Whether all points are encoded in one pass. Otherwise a model that was trained on points one after
    /// the other takes each in a pass of its own, with the mask of the pass before.
    pub points_at_once: bool,
    /// The voxel in the middle of what is looked at, for a model that looks at a crop. Absent for the
    /// first positive point, else the middle of the box or of the mask.
    pub center: Option<[usize; 3]>,
}

impl PromptPoint {
    /// A point in what to segment.
    pub fn positive(voxel: [usize; 3]) -> Self {
        Self { voxel, positive: true }
    }

    /// A point outside of what to segment.
    pub fn negative(voxel: [usize; 3]) -> Self {
        Self { voxel, positive: false }
    }
}

impl Prompt {
    /// A question or a text alone.
    pub fn of_text(text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..Self::default() }
    }

    /// Adds a point.
    #[must_use]
    pub fn with_point(mut self, point: PromptPoint) -> Self {
        self.points.push(point);
        self
    }

    /// Sets the box, in voxels of the input.
    #[must_use]
    pub fn with_region(mut self, region: Region) -> Self {
        self.region = Some(region);
        self
    }

    /// Sets a mask to correct.
    #[must_use]
    pub fn with_mask(mut self, mask: Arc<Mask>) -> Self {
        self.mask = Some(mask);
        self
    }

    /// Tells all points in one pass.
    #[must_use]
    pub fn with_points_at_once(mut self) -> Self {
        self.points_at_once = true;
        self
    }

    /// Sets the voxel in the middle of what is looked at.
    #[must_use]
    pub fn with_center(mut self, voxel: [usize; 3]) -> Self {
        self.center = Some(voxel);
        self
    }

    /// Adds what another prompt says: its points behind the own ones, and its text, box, mask and center in
    /// place of the own ones.
    #[must_use]
    pub fn and(mut self, more: Self) -> Self {
        self.points.extend(more.points);
        self.text = more.text.or(self.text);
        self.region = more.region.or(self.region);
        self.mask = more.mask.or(self.mask);
        self.center = more.center.or(self.center);
        self.points_at_once |= more.points_at_once;
        self
    }

    /// Whether its points, its center, its box and its mask lie in a volume.
    ///
    /// # Errors
    /// `R-PNT-01`, `R-BOX-01`, or `R-GEO-02` for a mask of another grid.
    pub fn check_in(&self, geometry: &Geometry) -> Result<(), Error> {
        for voxel in self.points.iter().map(|point| point.voxel).chain(self.center) {
            geometry.check_voxel(voxel)?;
        }
        if let Some(mask) = &self.mask {
            geometry.check_same_grid(mask.geometry())?;
        }
        Ok(self.region.map_or(Ok(()), |region| geometry.check_region(region))?)
    }
}

/// A question or a text alone.
impl<T: AsRef<str> + ?Sized> From<&T> for Prompt {
    fn from(text: &T) -> Self {
        Self::of_text(text.as_ref())
    }
}

/// A question or a text alone.
impl From<String> for Prompt {
    fn from(text: String) -> Self {
        Self::of_text(text)
    }
}

impl From<&Prompt> for Prompt {
    fn from(prompt: &Prompt) -> Self {
        prompt.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_joined_and_the_later_one_decides() {
        let region = |n| Region { start: [0; 3], end: [n; 3] };
        let first = Prompt::of_text("liver").with_point(PromptPoint::positive([1; 3]));
        let later = Prompt::default().with_point(PromptPoint::negative([2; 3]));
        let both = first.with_region(region(3)).and(later.with_region(region(4)));
        assert_eq!((both.text.as_deref(), both.region), (Some("liver"), Some(region(4))));
        assert_eq!(
            both.points.iter().map(|point| point.positive).collect::<Vec<_>>(),
            [true, false]
        );
    }

    #[test]
    fn a_point_outside_of_the_volume_is_told_with_its_size() {
        let geometry = Geometry::without_affine([10, 20, 30]);
        let prompt = Prompt::default().with_point(PromptPoint::positive([9, 20, 29]));
        let error = prompt.check_in(&geometry).unwrap_err().to_string();
        assert!(error.contains("29,20,9") && error.contains("30 x 20 x 10"), "{error}");
        let prompt = Prompt::default().with_point(PromptPoint::positive([9, 19, 29]));
        assert!(prompt.check_in(&geometry).is_ok());
        let reversed = prompt.with_region(Region { start: [5; 3], end: [5, 6, 6] });
        assert_eq!(reversed.check_in(&geometry).unwrap_err().code(), "R-BOX-01");
    }
}
