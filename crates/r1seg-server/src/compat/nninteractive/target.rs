//! The mask that the server and a plug-in both have, and what changes in it.

use r1seg::volume::{Region, crop};
use r1seg_viewers::ElementType;

use crate::Error;
use crate::budget::Reserved;

/// The mask of a session. The plug-in has the same, as far as it was told of changes.
#[derive(Debug)]
pub(super) struct Target {
    shape: [usize; 3],
    element: ElementType,
    /// 0 and 1, in C order.
    voxels: Vec<u8>,
    /// Whether the plug-in may have another one, so that it must be told all of the next one.
    is_unsure: bool,
    _memory: Reserved,
}

/// The voxels of a box of a mask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Patch {
    pub(super) region: Region,
    /// 0 and 1, in C order.
    pub(super) voxels: Vec<u8>,
}

/// What has become of a mask.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// What the plug-in is to be told: the box around all voxels that differ.
    pub(super) now: Option<Patch>,
    /// What was there before.
    pub(super) before: Option<Patch>,
}

impl Target {
    /// An empty mask, for which `memory` was reserved.
    pub(super) fn new(shape: [usize; 3], element: ElementType, memory: Reserved) -> Self {
        let voxels = vec![0; shape.iter().product()];
        Self { shape, element, voxels, is_unsure: false, _memory: memory }
    }

    /// What the plug-in's numbers are.
    pub(super) fn element(&self) -> ElementType {
        self.element
    }

    pub(super) fn clear(&mut self) {
        self.voxels.fill(0);
        self.is_unsure = false;
    }

    /// The plug-in has written something of its own into its mask.
    pub(super) fn doubt(&mut self) {
        self.is_unsure = true;
    }

    /// Takes over a mask of the same shape.
    ///
    /// # Errors
    /// If it is of another size.
    pub(super) fn replace(&mut self, mut mask: Vec<u8>) -> Result<Change, Error> {
        mask.iter_mut().for_each(|voxel| *voxel = u8::from(*voxel != 0));
        if mask.len() != self.voxels.len() {
            return Err(Error::Panicked);
        }
        let region = match self.is_unsure {
            true => Some(Region::whole(self.shape)),
            false => changed(&self.voxels, &mask, self.shape),
        };
        let cut =
            |voxels: &[u8]| region.map(|region| patch(voxels, self.shape, region)).transpose();
        let change = Change { now: cut(&mask)?, before: cut(&self.voxels)? };
        self.is_unsure = false;
        self.voxels = mask;
        Ok(change)
    }

    /// Puts back what was in a box.
    pub(super) fn restore(&mut self, patch: &Patch) {
        let ([_, h, w], region) = (self.shape, patch.region);
        let [_, height, width] = region.shape();
        for (n, row) in patch.voxels.chunks_exact(width.max(1)).enumerate() {
            let (z, y) = (region.start[0] + n / height, region.start[1] + n % height);
            let first = (z * h + y) * w + region.start[2];
            self.voxels[first..first + width].copy_from_slice(row);
        }
    }
}

fn patch(voxels: &[u8], shape: [usize; 3], region: Region) -> Result<Patch, Error> {
    Ok(Patch { region, voxels: crop(voxels, shape, region)? })
}

/// The smallest box around all voxels in which two masks differ.
fn changed(before: &[u8], now: &[u8], [_, h, w]: [usize; 3]) -> Option<Region> {
    let (mut start, mut end) = ([usize::MAX; 3], [0; 3]);
    let rows = before.chunks_exact(w.max(1)).zip(now.chunks_exact(w.max(1)));
    for (n, (before, now)) in rows.enumerate().filter(|(_, (before, now))| before != now) {
        let differs = |(a, b): (&u8, &u8)| a != b;
        let first = before.iter().zip(now).position(differs).unwrap_or_default();
        let last = before.iter().zip(now).rposition(differs).unwrap_or_default();
        let (z, y) = (n / h, n % h);
        for (axis, (low, high)) in [(z, z), (y, y), (first, last)].into_iter().enumerate() {
            (start[axis], end[axis]) = (start[axis].min(low), end[axis].max(high + 1));
        }
    }
    (end != [0; 3]).then_some(Region { start, end })
}

#[cfg(test)]
pub(super) mod tests {
    use prometheus_client::metrics::gauge::Gauge;

    use super::*;
    use crate::budget::Budget;

    pub(crate) fn target(shape: [usize; 3]) -> Target {
        let memory = Budget::new(u64::MAX, &Gauge::default()).nothing();
        Target::new(shape, ElementType::U8, memory)
    }

    fn with(shape: [usize; 3], set: &[[usize; 3]]) -> Vec<u8> {
        let mut mask = vec![0; shape.iter().product()];
        for [z, y, x] in set {
            mask[(z * shape[1] + y) * shape[2] + x] = 1;
        }
        mask
    }

    #[test]
    fn what_grew_and_what_shrank_is_in_the_box() {
        let shape = [3, 4, 5];
        let mut target = target(shape);
        let first = target.replace(with(shape, &[[1, 2, 3]])).unwrap();
        let region = Region { start: [1, 2, 3], end: [2, 3, 4] };
        let (one, none) = (Patch { region, voxels: vec![1] }, Patch { region, voxels: vec![0] });
        assert_eq!(first, Change { now: Some(one.clone()), before: Some(none) });
        let second = target.replace(with(shape, &[[0, 3, 1], [2, 2, 2]])).unwrap();
        let region = Region { start: [0, 2, 1], end: [3, 4, 4] };
        assert_eq!(second.now.as_ref().unwrap().region, region);
        assert_eq!(second.before.as_ref().unwrap().voxels.iter().sum::<u8>(), 1);
        target.restore(&second.before.unwrap());
        let again = target.replace(with(shape, &[[1, 2, 3]])).unwrap();
        assert_eq!(again, Change { now: None, before: None });
    }

    #[test]
    fn a_plug_in_that_may_have_something_else_is_told_all_of_it_once() {
        let shape = [2, 2, 2];
        let mut target = target(shape);
        target.doubt();
        let all = target.replace(with(shape, &[[0, 0, 1]])).unwrap().now.unwrap();
        assert_eq!((all.region, all.voxels.len()), (Region::whole(shape), 8));
        assert_eq!(target.replace(with(shape, &[[0, 0, 1]])).unwrap().now, None);
        assert!(target.replace(vec![0; 7]).is_err());
    }
}
