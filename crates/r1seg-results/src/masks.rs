//! The masks of several prompts as one, where that is possible.

use r1seg::volume::{Error, Geometry, Mask};

/// A mask that a prompt got; an empty one counts.
pub(crate) struct Found<'a> {
    /// The number of the prompt.
    pub(crate) label: u8,
    pub(crate) mask: &'a Mask,
}

impl Found<'_> {
    /// The mask with the label in place of ones.
    pub(crate) fn labeled(&self) -> Result<Mask, Error> {
        let data = self.mask.data().iter().map(|v| v * self.label).collect();
        Mask::new(data, self.mask.geometry().clone())
    }
}

/// All masks in one grid: the last prompt has the voxels that several claim.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) labels: Mask,
    /// Voxels that several prompts claim. Where there are any, one grid cannot hold all masks.
    pub(crate) overlap: usize,
}

impl Joined {
    pub(crate) fn new(found: &[Found<'_>], geometry: &Geometry) -> Result<Self, Error> {
        let mut labels = vec![0u8; geometry.voxels()];
        for found in found {
            for (label, mask) in labels.iter_mut().zip(found.mask.data()) {
                if *mask != 0 {
                    *label = found.label;
                }
            }
        }
        let claims = |voxel: usize| {
            found.iter().filter(move |found| found.mask.data().get(voxel).is_some_and(|m| *m != 0))
        };
        let overlap = match found {
            [] | [_] => 0,
            _ => (0..labels.len()).filter(|voxel| claims(*voxel).nth(1).is_some()).count(),
        };
        Ok(Self { labels: Mask::new(labels, geometry.clone())?, overlap })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(masks: &[(u8, [u8; 4])]) -> (Vec<u8>, usize) {
        let geometry = Geometry::without_affine([1, 1, 4]);
        let masks: Vec<_> = masks
            .iter()
            .map(|(label, data)| (*label, Mask::new(data.to_vec(), geometry.clone()).unwrap()))
            .collect();
        let found: Vec<_> =
            masks.iter().map(|(label, mask)| Found { label: *label, mask }).collect();
        for one in &found {
            assert!(one.labeled().unwrap().data().iter().all(|v| [0, one.label].contains(v)));
        }
        let joined = Joined::new(&found, &geometry).unwrap();
        (joined.labels.into_parts().0, joined.overlap)
    }

    #[test]
    fn masks_side_by_side_share_a_grid() {
        assert_eq!(joined(&[(1, [1, 0, 0, 0]), (3, [0, 0, 1, 1])]), (vec![1, 0, 3, 3], 0));
        assert_eq!(joined(&[]), (vec![0; 4], 0));
    }

    #[test]
    fn voxels_that_several_claim_are_counted_once() {
        let masks = [(1, [1, 1, 0, 0]), (2, [1, 0, 1, 0]), (255, [1, 0, 1, 0])];
        assert_eq!(joined(&masks), (vec![255, 1, 255, 0], 2));
    }
}
