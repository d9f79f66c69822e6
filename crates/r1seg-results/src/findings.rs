//! What the prompts of a run got, with all masks in one label map.

use r1seg::MaskStatus;
use r1seg::volume::{Geometry, LabelMap, Mask, Region};

use crate::Error;
use crate::preview::{Coverage, Named};

/// What each prompt of a run got, in their order: prompt K, counted from 1, is label K. Masks that further
/// models [refine](Self::push_refined) are labels of their own, behind the one that they refine.
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

    /// Adds what the next prompt got. A mask without voxels counts as one.
    ///
    /// # Errors
    /// `R-GEO-02` for a mask on another grid, and `R-OUT-10` for more masks than labels.
    pub fn push(
        &mut self,
        name: impl Into<String>,
        mask: Option<&Mask>,
        boxes: Vec<Region>,
    ) -> Result<(), Error> {
        let status = self.join(mask)?;
        self.prompts.push(Finding { name: name.into(), status, boxes, refines: None });
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
        let status = self.join(mask)?;
        let (name, refines) = (name.into(), Some(refines));
        self.prompts.push(Finding { name, status, boxes: Vec::new(), refines });
        Ok(u16::try_from(self.labels.len()).unwrap_or(u16::MAX))
    }

    fn join(&mut self, mask: Option<&Mask>) -> Result<MaskStatus, Error> {
        Ok(match mask {
            Some(mask) => match self.labels.push(mask)? {
                label if self.labels.voxels(label) > 0 => MaskStatus::Found,
                _ => MaskStatus::Empty,
            },
            None => {
                self.labels.push_empty()?;
                MaskStatus::NotFound
            }
        })
    }

    /// All masks.
    pub fn labels(&self) -> &LabelMap {
        &self.labels
    }

    /// Each label, in their order: those of prompts, and of masks that were refined.
    pub fn prompts(&self) -> &[Finding] {
        &self.prompts
    }

    /// The names for the picture of [`Self::labels`], and how much it shows of each mask.
    pub fn captions(&self) -> Vec<Named> {
        let caption = |(label, finding): (u16, &Finding)| Named {
            name: short(&finding.name),
            mask: match finding.status {
                MaskStatus::NotFound => None,
                _ => Some(Coverage::of(&self.labels, label)),
            },
        };
        self.numbered().map(caption).collect()
    }

    /// How many of the labels are of prompts, and not of masks that were refined.
    pub(crate) fn asked(&self) -> usize {
        self.prompts.iter().filter(|finding| finding.refines.is_none()).count()
    }

    /// Whether labels that have nothing to do with each other have voxels in common. A mask covers, of
    /// course, the one that it refines.
    pub(crate) fn has_unrelated_overlap(&self) -> bool {
        let origin = |label: u16| {
            let finding = self.prompts.get(usize::from(label).wrapping_sub(1));
            finding.and_then(|finding| finding.refines).unwrap_or(label)
        };
        let is_unrelated = |label: u16, other: u16| origin(label) != origin(other);
        self.numbered().any(|(label, _)| {
            self.labels.covered(label).into_keys().any(|other| is_unrelated(label, other))
        })
    }

    /// Each label with its finding.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (u16, &Finding)> {
        (1..=u16::MAX).zip(&self.prompts)
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
        findings.push("liver", Some(&mask([1, 0, 0, 0])?), Vec::new())?;
        findings.push("spleen", None, Vec::new())?;
        findings.push("kidney", Some(&mask([0, 0, 1, 1])?), Vec::new())?;
        findings.push("cyst", Some(&mask([0; 4])?), Vec::new())?;
        assert_eq!((findings.labels().labels(), findings.labels().len()), (&[1, 0, 3, 3][..], 4));
        let statuses: Vec<_> = findings.prompts().iter().map(|prompt| prompt.status).collect();
        use MaskStatus::{Empty, Found, NotFound};
        assert_eq!(statuses, [Found, NotFound, Found, Empty]);
        Ok(())
    }
}
