//! Several masks on one grid.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::error::Detail;
use crate::{Error, Geometry, Mask, Volume};

/// The masks of several structures on one grid: 0 is background, label `n` is the `n`-th mask added.
///
/// Where masks overlap, the map shows the one that was added last. What it covers of the others is
/// kept as runs of voxels, so that [`LabelMap::label_mask`] gives every mask back as it was added.
///
/// ```
/// use r1seg_volume::{Geometry, LabelMap, Mask};
///
/// let geometry = Geometry::without_affine([1, 1, 4]);
/// let mut labels = LabelMap::new(geometry.clone());
/// let liver = Mask::new(vec![1, 1, 1, 0], geometry.clone())?;
/// let tumor = Mask::new(vec![0, 0, 1, 1], geometry)?;
/// assert_eq!((labels.push(&liver)?, labels.push(&tumor)?), (1, 2));
/// assert_eq!(labels.labels(), [1, 1, 2, 2]);
/// assert_eq!((labels.voxels(1), labels.overlap()), (3, 1));
/// assert_eq!(labels.label_mask(1), liver);
/// # Ok::<(), r1seg_volume::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct LabelMap {
    labels: Vec<u16>,
    geometry: Geometry,
    /// Of label `n` at `n - 1`.
    structures: Vec<Structure>,
}

/// What the map itself does not show of a label.
#[derive(Debug, Clone, Default, PartialEq)]
struct Structure {
    /// All of its voxels.
    voxels: usize,
    /// Those that another label covers. The runs do not overlap.
    covered: Vec<Range<usize>>,
}

impl LabelMap {
    /// Most labels of a map.
    pub const MAX_LABELS: usize = u16::MAX as usize;

    /// A map without labels.
    pub fn new(geometry: Geometry) -> Self {
        Self { labels: vec![0; geometry.voxels()], geometry, structures: Vec::new() }
    }

    /// The labels of a volume that was read as one of intensities: a segmentation in a file.
    ///
    /// # Errors
    /// `R-GEO-16` for voxels that are not whole numbers from 0 to [`Self::MAX_LABELS`].
    pub fn from_volume(volume: &Volume) -> Result<Self, Error> {
        let mut map = Self::new(volume.geometry().clone());
        let mut labels = Vec::with_capacity(map.labels.len());
        for value in volume.voxels().iter() {
            // A cast from float to integer saturates, and NaN becomes 0.
            let whole = value as u16;
            if f32::from(whole) != value {
                return Err(Detail::NotALabel { value }.into());
            }
            labels.push(whole);
        }
        map.show(labels);
        Ok(map)
    }

    /// Shows these labels, one for each voxel, and nothing else; none of them is covered.
    pub(crate) fn show(&mut self, labels: Vec<u16>) {
        debug_assert_eq!(labels.len(), self.geometry.voxels());
        let last = labels.iter().copied().max().map_or(0, usize::from);
        let mut voxels = vec![0; last + 1];
        labels.iter().for_each(|label| voxels[usize::from(*label)] += 1);
        let of_label = |voxels: &usize| Structure { voxels: *voxels, covered: Vec::new() };
        self.structures = voxels[1..].iter().map(of_label).collect();
        self.labels = labels;
    }

    /// The same labels, voxel by voxel, at another place in the world.
    ///
    /// # Errors
    /// `R-GEO-02` for a geometry of another shape.
    pub fn placed(self, geometry: &Geometry) -> Result<Self, Error> {
        let (expected, got) = (self.shape(), geometry.shape());
        if expected != got {
            return Err(Detail::ShapeMismatch { expected, got }.into());
        }
        Ok(Self { geometry: geometry.clone(), ..self })
    }

    /// The voxels of all labels.
    pub fn any_label(&self) -> Mask {
        let data = self.labels.iter().map(|label| u8::from(*label != 0)).collect();
        Mask::on_grid_of(data, self.geometry.clone())
    }

    /// Adds a mask, whose voxels are those that are not 0, and returns its label.
    ///
    /// # Errors
    /// `R-GEO-02` for a mask on another grid; `R-OUT-10`.
    pub fn push(&mut self, mask: &Mask) -> Result<u16, Error> {
        self.check_shape(mask)?;
        let added = self.push_empty()?;
        self.fill(added, mask);
        Ok(added)
    }

    /// Adds a mask under this label where it has no voxels yet, and otherwise under the next one. Labels
    /// that are left out have no voxels. Returns the label.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_as(&mut self, label: u16, mask: &Mask) -> Result<u16, Error> {
        if label == 0 || self.voxels(label) > 0 {
            return self.push(mask);
        }
        self.check_shape(mask)?;
        self.reserve(label);
        self.fill(label, mask);
        Ok(label)
    }

    /// Makes this label one of the map, without voxels.
    pub fn reserve(&mut self, label: u16) {
        let known = self.structures.len().max(usize::from(label));
        self.structures.resize_with(known, Structure::default);
    }

    fn check_shape(&self, mask: &Mask) -> Result<(), Error> {
        if mask.shape() != self.shape() {
            return Err(Detail::ShapeMismatch { expected: self.shape(), got: mask.shape() }.into());
        }
        Ok(())
    }

    /// Gives the voxels of a mask to a label that has none.
    fn fill(&mut self, added: u16, mask: &Mask) {
        let mut voxels = 0;
        for (voxel, (label, inside)) in self.labels.iter_mut().zip(mask.data()).enumerate() {
            if *inside == 0 {
                continue;
            }
            voxels += 1;
            let covered = std::mem::replace(label, added);
            if covered != 0 {
                extend(&mut self.structures[usize::from(covered) - 1].covered, voxel);
            }
        }
        self.structures[usize::from(added) - 1].voxels = voxels;
    }

    /// Adds a label without voxels, and returns it.
    ///
    /// # Errors
    /// `R-OUT-10`.
    pub fn push_empty(&mut self) -> Result<u16, Error> {
        let most = Self::MAX_LABELS;
        let label = u16::try_from(self.structures.len() + 1);
        let label = label.map_err(|_| Error::from(Detail::TooManyLabels { most }))?;
        self.structures.push(Structure::default());
        Ok(label)
    }

    /// The label that the map shows of each voxel, in `[D, H, W]` C order.
    pub fn labels(&self) -> &[u16] {
        &self.labels
    }

    /// The grid and its place in the world.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// `[D, H, W]`.
    pub fn shape(&self) -> [usize; 3] {
        self.geometry.shape()
    }

    /// Number of labels, those without voxels included; the last one has this number.
    pub fn len(&self) -> usize {
        self.structures.len()
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.structures.is_empty()
    }

    /// Number of voxels of a label, covered ones included; 0 for a label that does not exist.
    pub fn voxels(&self, label: u16) -> usize {
        self.structure(label).map_or(0, |structure| structure.voxels)
    }

    /// Number of voxels that belong to more than one label.
    pub fn overlap(&self) -> usize {
        let mut runs: Vec<&Range<usize>> =
            self.structures.iter().flat_map(|structure| &structure.covered).collect();
        runs.sort_unstable_by_key(|run| run.start);
        let (mut voxels, mut end) = (0, 0);
        for run in runs {
            voxels += run.end.saturating_sub(run.start.max(end));
            end = end.max(run.end);
        }
        voxels
    }

    /// How many voxels of a label the map shows as which other labels.
    pub fn covered(&self, label: u16) -> BTreeMap<u16, usize> {
        let mut shown = BTreeMap::new();
        for voxel in self.covered_runs(label).iter().cloned().flatten() {
            *shown.entry(self.labels[voxel]).or_default() += 1;
        }
        shown
    }

    /// All voxels of a label as 1, as they were added; none for a label that does not exist.
    pub fn label_mask(&self, label: u16) -> Mask {
        let is_shown = |shown: &u16| u8::from(label != 0 && *shown == label);
        let mut data: Vec<u8> = self.labels.iter().map(is_shown).collect();
        for run in self.covered_runs(label) {
            data[run.clone()].fill(1);
        }
        Mask::on_grid_of(data, self.geometry.clone())
    }

    /// The map of this label alone, which keeps its number. Nothing covers it.
    #[must_use]
    pub fn only(&self, label: u16) -> Self {
        let mut structures = vec![Structure::default(); usize::from(label)];
        if let Some(last) = structures.last_mut() {
            last.voxels = self.voxels(label);
        }
        let of_label = |shown: &u16| if *shown == label { label } else { 0 };
        let mut labels: Vec<u16> = self.labels.iter().map(of_label).collect();
        for run in self.covered_runs(label) {
            labels[run.clone()].fill(label);
        }
        Self { labels, geometry: self.geometry.clone(), structures }
    }

    /// The labels in as few maps as it takes to show every voxel of every label, each label in the
    /// first map where it has room, and the map that each is in.
    pub(crate) fn layers(&self) -> (Vec<Vec<u16>>, Vec<usize>) {
        let mut layers: Vec<Vec<u16>> = Vec::new();
        let layer_of = (1..=self.last_label()).map(|label| {
            if self.voxels(label) == 0 {
                return 0;
            }
            let only = self.only(label).labels;
            let is_free = |layer: &Vec<u16>| {
                only.iter().zip(layer).all(|(label, taken)| *label == 0 || *taken == 0)
            };
            let Some(layer) = layers.iter().position(is_free) else {
                layers.push(only);
                return layers.len() - 1;
            };
            layers[layer].iter_mut().zip(only).for_each(|(voxel, label)| *voxel |= label);
            layer
        });
        let layer_of = layer_of.collect();
        (layers, layer_of)
    }

    /// The last label; 0 without labels.
    pub(crate) fn last_label(&self) -> u16 {
        u16::try_from(self.structures.len()).unwrap_or(u16::MAX)
    }

    /// Whether files hold each voxel in a byte, and not in two.
    pub(crate) fn fits_bytes(&self) -> bool {
        self.last_label() <= u16::from(u8::MAX)
    }

    fn structure(&self, label: u16) -> Option<&Structure> {
        self.structures.get(usize::from(label).checked_sub(1)?)
    }

    fn covered_runs(&self, label: u16) -> &[Range<usize>] {
        self.structure(label).map_or(&[], |structure| &structure.covered)
    }
}

/// Adds a voxel, which comes after those that the same mask has covered before.
fn extend(runs: &mut Vec<Range<usize>>, voxel: usize) {
    match runs.last_mut() {
        Some(run) if run.end == voxel => run.end += 1,
        _ => runs.push(voxel..voxel + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(masks: &[Vec<u8>]) -> LabelMap {
        let geometry = Geometry::without_affine([1, 1, masks[0].len()]);
        let mut map = LabelMap::new(geometry.clone());
        for (n, mask) in masks.iter().enumerate() {
            let label = map.push(&Mask::new(mask.clone(), geometry.clone()).unwrap()).unwrap();
            assert_eq!(usize::from(label), n + 1);
        }
        map
    }

    #[test]
    fn masks_side_by_side_do_not_overlap() {
        let mut map = map(&[vec![1, 0, 0, 0]]);
        assert_eq!(map.push_empty().unwrap(), 2);
        let third = Mask::new(vec![0, 0, 9, 9], map.geometry().clone()).unwrap();
        assert_eq!(map.push(&third).unwrap(), 3);
        assert_eq!((map.labels(), map.len(), map.overlap()), (&[1, 0, 3, 3][..], 3, 0));
        assert_eq!([0, 1, 2, 3, 4].map(|label| map.voxels(label)), [0, 1, 0, 2, 0]);
        assert_eq!(map.label_mask(3).data(), [0, 0, 1, 1]);
        assert!([0, 2, 4].iter().all(|label| map.label_mask(*label).data() == [0; 4]));
        assert_eq!(map.layers(), (vec![vec![1, 0, 3, 3]], vec![0; 3]));
    }

    #[test]
    fn a_voxel_of_several_labels_counts_once_as_overlap_and_shows_the_last() {
        let map = map(&[vec![1, 1, 0, 0], vec![1, 0, 1, 0], vec![1, 0, 1, 0]]);
        assert_eq!((map.labels(), map.overlap()), (&[3, 1, 3, 0][..], 2));
        assert_eq!(map.covered(1), BTreeMap::from([(3, 1)]));
        assert_eq!(map.covered(2), BTreeMap::from([(3, 2)]));
        assert!(map.covered(3).is_empty());
        assert_eq!(map.label_mask(2).data(), [1, 0, 1, 0]);
        assert_eq!(map.only(2).labels(), [2, 0, 2, 0]);
        assert_eq!((map.only(2).len(), map.only(2).voxels(2), map.only(2).overlap()), (2, 2, 0));
        let layers = vec![vec![1, 1, 0, 0], vec![2, 0, 2, 0], vec![3, 0, 3, 0]];
        assert_eq!(map.layers(), (layers, vec![0, 1, 2]));
    }

    #[test]
    fn every_mask_of_three_hundred_comes_back_as_it_was_added() {
        let mut state = 7_u32;
        let mut random = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % below
        };
        let masks: Vec<Vec<u8>> = (0..300)
            .map(|_| {
                let (first, width) = (random(500), random(40));
                (0..500)
                    .map(|voxel| u8::from(first <= voxel && voxel < first + width && random(4) > 0))
                    .collect()
            })
            .collect();
        let map = map(&masks);
        for (label, mask) in (1..).zip(&masks) {
            assert_eq!(map.label_mask(label).data(), mask, "{label}");
            let voxels = mask.iter().filter(|v| **v != 0).count();
            assert_eq!((map.voxels(label), map.only(label).voxels(label)), (voxels, voxels));
            let covered: usize = map.covered(label).values().sum();
            let shown = map.labels().iter().filter(|shown| **shown == label).count();
            assert_eq!(covered + shown, voxels);
        }
        let claims = |voxel: usize| masks.iter().filter(|mask| mask[voxel] != 0).count();
        assert_eq!(map.overlap(), (0..500).filter(|voxel| 1 < claims(*voxel)).count());
        let (layers, layer_of) = map.layers();
        for (label, layer) in (1..).zip(layer_of) {
            let in_layer: Vec<u8> = layers[layer].iter().map(|v| u8::from(*v == label)).collect();
            assert_eq!(in_layer, map.label_mask(label).data());
        }
        assert!(!map.fits_bytes() && map.only(255).fits_bytes());
    }

    #[test]
    fn a_segmentation_of_whole_numbers_becomes_labels() {
        let geometry = Geometry::without_affine([1, 1, 5]);
        let read = |values: [f32; 5]| {
            LabelMap::from_volume(&Volume::new(values.to_vec(), geometry.clone()).unwrap())
        };
        let map = read([0.0, 3.0, 1.0, 3.0, 0.0]).unwrap();
        assert_eq!((map.labels(), map.len(), map.overlap()), (&[0, 3, 1, 3, 0][..], 3, 0));
        assert_eq!([1, 2, 3].map(|label| map.voxels(label)), [1, 0, 2]);
        assert_eq!(map.label_mask(3).data(), [0, 1, 0, 1, 0]);
        for odd in [0.5, -1.0, 65536.0] {
            let error = read([0.0, odd, 0.0, 0.0, 0.0]).unwrap_err();
            assert_eq!(error.code(), "R-GEO-16", "{error}");
        }
    }

    #[test]
    fn masks_on_other_grids_and_too_many_labels_are_refused() {
        let mut map = map(&[vec![0; 4]]);
        let other = Mask::new(vec![0; 4], Geometry::without_affine([1, 2, 2])).unwrap();
        assert_eq!(map.push(&other).unwrap_err().code(), "R-GEO-02");
        assert_eq!(map.len(), 1);
        for _ in 1..LabelMap::MAX_LABELS {
            map.push_empty().unwrap();
        }
        assert_eq!(map.last_label(), u16::MAX);
        let error = map.push_empty().unwrap_err();
        assert_eq!(error.to_string(), "a label map holds at most 65535 labels");
    }
}
