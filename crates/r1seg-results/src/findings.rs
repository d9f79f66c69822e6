//! What the prompts of a run got, with all masks in one label map.

use r1seg::MaskStatus;
use r1seg::volume::{Geometry, LabelMap, Mask, Region};

use crate::Error;
use crate::preview::{Coverage, Named};

/// What each prompt of a run got, in their order: prompt K, counted from 1, is label K, unless the model
/// has a number of its own for what it segmented. Masks that further models [refine](Self::push_refined)
/// are labels of their own, behind the one that they refine.
///
/// A mask is joined with the others when it is added and need not be kept, so that memory holds one
/// label map however many prompts there are.
#[derive(Debug, Clone)]
pub struct Findings {
    labels: LabelMap,
    prompts: Vec<Finding>,
}

/// What a prompt got.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The number of its voxels in masks.
    pub label: u16,
    /// The prompt, as labels and picture call it.
    pub name: String,
    /// What became of its mask.
    pub status: MaskStatus,
    /// Boxes in its answer that have voxels.
    pub boxes: Vec<Region>,
    /// The label that it draws again, of a mask that another model was prompted to refine.
    pub refines: Option<u16>,
}

impl Findings {
    /// Of no prompt yet, on the grid of the volume.
    pub fn new(geometry: &Geometry) -> Self {
        Self { labels: LabelMap::new(geometry.clone()), prompts: Vec::new() }
    }

    /// Adds what the next prompt got, under the label `own` if that is free, otherwise under the next one.
    /// A mask without voxels counts as one.
    ///
    /// # Errors
    /// `R-GEO-02` for a mask on another grid, and `R-OUT-10` for more masks than labels.
    pub fn push(
        &mut self,
        name: impl Into<String>,
        mask: Option<&Mask>,
        boxes: Vec<Region>,
        own: Option<u16>,
    ) -> Result<(), Error> {
        let (label, status) = self.join(mask, own)?;
        self.prompts.push(Finding { label, name: name.into(), status, boxes, refines: None });
        Ok(())
    }

    /// Adds what a further model drew of what a label holds, and returns the label of that.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_refined(
        &mut self,
        name: impl Into<String>,
        mask: Option<&Mask>,
        refines: u16,
    ) -> Result<u16, Error> {
        let (label, status) = self.join(mask, None)?;
        let (name, refines) = (name.into(), Some(refines));
        self.prompts.push(Finding { label, name, status, boxes: Vec::new(), refines });
        Ok(label)
    }

    fn join(&mut self, mask: Option<&Mask>, own: Option<u16>) -> Result<(u16, MaskStatus), Error> {
        let own = own.filter(|label| *label != 0 && self.of(*label).is_none());
        let label = match own {
            Some(label) => label,
            None => self.labels.push_empty()?,
        };
        self.labels.reserve(label);
        let Some(mask) = mask else { return Ok((label, MaskStatus::NotFound)) };
        self.labels.push_as(label, mask)?;
        let is_found = self.labels.voxels(label) > 0;
        Ok((label, if is_found { MaskStatus::Found } else { MaskStatus::Empty }))
    }

    /// The label of each prompt, in their order; masks that were refined are left out.
    pub fn labels_of_prompts(&self) -> impl Iterator<Item = u16> {
        self.prompts.iter().filter(|of| of.refines.is_none()).map(|of| of.label)
    }

    /// The findings that have a label.
    pub fn of(&self, label: u16) -> Option<&Finding> {
        self.prompts.iter().find(|finding| finding.label == label)
    }

    /// All masks.
    pub fn labels(&self) -> &LabelMap {
        &self.labels
    }

    /// What each prompt got, and each mask that was refined, in their order.
    pub fn prompts(&self) -> &[Finding] {
        &self.prompts
    }

    /// The names for the picture of [`Self::labels`], that of label K at K - 1, and how much it shows of
    /// each mask. A number that stands for nothing has no name.
    pub fn captions(&self) -> Vec<Named> {
        let mut captions: Vec<Named> = Vec::new();
        captions.resize_with(self.labels.len(), Named::default);
        for finding in &self.prompts {
            let Some(named) = captions.get_mut(usize::from(finding.label) - 1) else { continue };
            named.name = short(&finding.name);
            named.mask = match finding.status {
                MaskStatus::NotFound => None,
                _ => Some(Coverage::of(&self.labels, finding.label)),
            };
        }
        captions
    }

    /// How many of the labels are of prompts, and not of masks that were refined.
    pub(crate) fn asked(&self) -> usize {
        self.prompts.iter().filter(|finding| finding.refines.is_none()).count()
    }

    /// Whether labels that have nothing to do with each other have voxels in common. A mask covers, of
    /// course, the one that it refines.
    pub(crate) fn has_unrelated_overlap(&self) -> bool {
        let origin =
            |label: u16| self.of(label).and_then(|finding| finding.refines).unwrap_or(label);
        let is_unrelated = |label: u16, other: u16| origin(label) != origin(other);
        self.numbered().any(|(label, _)| {
            self.labels.covered(label).into_keys().any(|other| is_unrelated(label, other))
        })
    }

    /// Each label with its finding.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (u16, &Finding)> {
        self.prompts.iter().map(|finding| (finding.label, finding))
    }
}

/// A question as a title.
pub(crate) fn short(prompt: &str) -> String {
    let line = one_line(prompt);
    match line.char_indices().nth(60) {
        Some((cut, _)) => format!("{}..", &line[..cut]),
        None => line,
    }
}

pub(crate) fn one_line(prompt: &str) -> String {
    prompt.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_without_a_mask_keeps_its_label() -> Result<(), Error> {
        let geometry = Geometry::without_affine([1, 1, 4]);
        let mask = |data: [u8; 4]| Mask::new(data.to_vec(), geometry.clone());
        let mut findings = Findings::new(&geometry);
        findings.push("liver", Some(&mask([1, 0, 0, 0])?), Vec::new(), None)?;
        findings.push("spleen", None, Vec::new(), None)?;
        findings.push("kidney", Some(&mask([0, 0, 1, 1])?), Vec::new(), None)?;
        findings.push("cyst", Some(&mask([0; 4])?), Vec::new(), None)?;
        assert_eq!((findings.labels().labels(), findings.labels().len()), (&[1, 0, 3, 3][..], 4));
        let statuses: Vec<_> = findings.prompts().iter().map(|prompt| prompt.status).collect();
        use MaskStatus::{Empty, Found, NotFound};
        assert_eq!(statuses, [Found, NotFound, Found, Empty]);
        Ok(())
    }

    #[test]
    fn a_prompt_has_the_label_by_which_its_model_knows_it_unless_that_is_taken() -> Result<(), Error>
    {
        let geometry = Geometry::without_affine([1, 1, 4]);
        let mask = |data: [u8; 4]| Mask::new(data.to_vec(), geometry.clone());
        let mut findings = Findings::new(&geometry);
        findings.push("spleen", Some(&mask([1, 0, 0, 0])?), Vec::new(), Some(3))?;
        findings.push("liver", Some(&mask([0, 1, 0, 0])?), Vec::new(), Some(1))?;
        findings.push("aorta", Some(&mask([0; 4])?), Vec::new(), Some(6))?;
        findings.push("the same aorta", Some(&mask([0, 0, 1, 0])?), Vec::new(), Some(6))?;
        findings.push("points", Some(&mask([0, 0, 0, 1])?), Vec::new(), None)?;
        assert_eq!(findings.labels().labels(), [3, 1, 7, 8]);
        let labels: Vec<u16> = findings.prompts().iter().map(|finding| finding.label).collect();
        assert_eq!(labels, [3, 1, 6, 7, 8]);
        let names: Vec<String> = findings.captions().into_iter().map(|of| of.name).collect();
        assert_eq!(names[..4], ["liver", "", "spleen", ""]);
        Ok(())
    }
}
