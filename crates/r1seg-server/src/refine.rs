//! What one model found becomes the prompt of another.

use std::sync::Arc;

use r1seg::volume::{Mask, Region};
use r1seg::{MaskStatus, Prompt, PromptKind, PromptPoint};
use r1seg_results::{Asked, Obtained};

use crate::Error;
use crate::models::Entry;

/// A prompt for each mask that was found, with its label: the mask itself, or the best that the model
/// `with` takes of it. `by` found it.
///
/// # Errors
/// [`Error::Invalid`] for a model that takes nothing of a mask.
pub(crate) fn refined(
    found: &Obtained,
    with: &Entry,
    by: &Entry,
) -> Result<Vec<(u16, Asked)>, Error> {
    let labels = found.findings().labels();
    let mut prompts = Vec::new();
    for (label, given) in (1_u16..).zip(found.given()) {
        if given.status != MaskStatus::Found {
            continue;
        }
        let mask = labels.label_mask(label);
        let name = format!("{} ({} refined by {})", given.asked.name, by.id, with.id);
        prompts.push((label, Asked::new(name, prompt_of(mask, with)?)));
    }
    Ok(prompts)
}

/// Whether a model can refine masks.
pub(crate) fn can_refine(with: &Entry) -> bool {
    [PromptKind::Mask, PromptKind::Box, PromptKind::Points].iter().any(|kind| with.takes(*kind))
        && !with.takes(PromptKind::Question)
}

fn prompt_of(mask: Mask, with: &Entry) -> Result<Prompt, Error> {
    if with.takes(PromptKind::Box)
        && let Some(region) = extent(&mask)
    {
        return Ok(Prompt::default().with_region(region));
    }
    if with.takes(PromptKind::Mask) {
        return Ok(Prompt::default().with_mask(Arc::new(mask)));
    }
    if with.takes(PromptKind::Points)
        && let Some(voxel) = middle(&mask)
    {
        return Ok(Prompt::default().with_point(PromptPoint::positive(voxel)));
    }
    Err(Error::invalid("refine_with", format!("{} takes neither masks nor boxes", with.id)))
}

/// The voxels that are set, `[D, H, W]`.
fn voxels(mask: &Mask) -> impl Iterator<Item = [usize; 3]> + '_ {
    let [_, h, w] = mask.shape();
    let set = mask.data().iter().enumerate().filter(|(_, voxel)| **voxel != 0);
    set.map(move |(index, _)| [index / (h * w), index / w % h, index % w])
}

/// The smallest box around the mask.
fn extent(mask: &Mask) -> Option<Region> {
    voxels(mask).fold(None, |region: Option<Region>, voxel| {
        let Region { start, end } = region.unwrap_or(Region { start: voxel, end: voxel });
        Some(Region {
            start: std::array::from_fn(|n| start[n].min(voxel[n])),
            end: std::array::from_fn(|n| end[n].max(voxel[n] + 1)),
        })
    })
}

/// The voxel of the mask that is nearest to its center.
fn middle(mask: &Mask) -> Option<[usize; 3]> {
    let mut sum = [0.0; 3];
    let mut count = 0.0;
    for voxel in voxels(mask) {
        (0..3).for_each(|n| sum[n] += voxel[n] as f64);
        count += 1.0;
    }
    let center = sum.map(|total| total / count);
    let distance =
        |voxel: &[usize; 3]| -> f64 { (0..3).map(|n| (voxel[n] as f64 - center[n]).powi(2)).sum() };
    voxels(mask).min_by(|a, b| distance(a).total_cmp(&distance(b)))
}

#[cfg(test)]
mod tests {
    use r1seg::volume::Geometry;

    use super::*;

    #[test]
    fn a_mask_has_an_extent_and_a_voxel_in_its_middle() {
        let mut data = vec![0; 4 * 5 * 6];
        // A bow, whose center of mass is not in it.
        for [d, h, w] in [[1, 1, 1], [1, 3, 1], [2, 1, 1], [2, 2, 2], [2, 3, 1]] {
            data[(d * 5 + h) * 6 + w] = 1;
        }
        let mask = Mask::new(data, Geometry::without_affine([4, 5, 6])).unwrap();
        assert_eq!(extent(&mask), Some(Region { start: [1, 1, 1], end: [3, 4, 3] }));
        assert_eq!(middle(&mask), Some([2, 2, 2]));
        let empty = Mask::new(vec![0; 120], Geometry::without_affine([4, 5, 6])).unwrap();
        assert!(extent(&empty).is_none() && middle(&empty).is_none());
    }
}
