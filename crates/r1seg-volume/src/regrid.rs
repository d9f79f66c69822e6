//! Labels on another grid of the same world.

use rayon::prelude::*;

use crate::{Affine, Error, Geometry, LabelMap, Mask, affine};

impl LabelMap {
    /// The same labels on another grid: each voxel takes the label of the voxel of this map that is nearest
    /// to its center in the world; outside of this map there is none. A grid that lies alike but is stored
    /// otherwise, turned or mirrored, has the same labels at the same places. `None` where either grid has no
    /// affine.
    ///
    /// # Errors
    /// As [`push_as`](Self::push_as).
    pub fn onto(&self, geometry: &Geometry) -> Result<Option<Self>, Error> {
        let (Some(from), Some(to)) = (self.geometry().affine(), geometry.affine()) else {
            return Ok(None);
        };
        let voxels = Steps::between(to, from);
        let mut map = Self::new(geometry.clone());
        if self.overlap() == 0 {
            let labels = voxels.gather(self.labels(), self.shape(), geometry.shape());
            map.show(labels);
            return Ok(Some(map));
        }
        for label in (1..=Self::MAX_LABELS as u16).take(self.len()) {
            map.reserve(label);
            if 0 < self.voxels(label) {
                let mask = self.label_mask(label);
                let data = voxels.gather(mask.data(), self.shape(), geometry.shape());
                map.push_as(label, &Mask::on_grid_of(data, geometry.clone()))?;
            }
        }
        Ok(Some(map))
    }
}

/// The place `(i, j, k)` of another grid at the first voxel of a grid, and by how much it changes with each
/// step along i, j and k.
struct Steps {
    first: [f64; 3],
    along: [[f64; 3]; 3],
}

impl Steps {
    fn between(to: &Affine, from: &Affine) -> Self {
        let place = |ijk: [f64; 3]| affine::invert(from, affine::apply(to, ijk));
        let first = place([0.0; 3]);
        let along = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]].map(|step| {
            let next = place(step);
            std::array::from_fn(|n| next[n] - first[n])
        });
        Self { first, along }
    }

    /// Of each voxel of a grid of shape `to` the nearest value of a grid of shape `from`.
    fn gather<T: Copy + Default + Send + Sync>(
        &self,
        values: &[T],
        from: [usize; 3],
        to: [usize; 3],
    ) -> Vec<T> {
        let [_, h, w] = to;
        let mut out = vec![T::default(); to.iter().product()];
        if out.is_empty() {
            return out;
        }
        let index = |at: f64, size: usize| {
            // Rounding errors of affines do not decide about a voxel's half.
            let nearest = (at + 0.5 + 1e-9).floor();
            (0.0 <= nearest && nearest < size as f64).then_some(nearest as usize)
        };
        out.par_chunks_mut(w).enumerate().for_each(|(row, out)| {
            let (z, y) = ((row / h) as f64, (row % h) as f64);
            for (x, out) in out.iter_mut().enumerate() {
                let at = |n: usize| {
                    self.first[n]
                        + x as f64 * self.along[0][n]
                        + y * self.along[1][n]
                        + z * self.along[2][n]
                };
                let place = (index(at(2), from[0]), index(at(1), from[1]), index(at(0), from[2]));
                if let (Some(z), Some(y), Some(x)) = place {
                    *out = values[(z * from[1] + y) * from[2] + x];
                }
            }
        });
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AxisMap, Orientation, Volume};

    fn map(labels: Vec<i16>, geometry: Geometry) -> LabelMap {
        LabelMap::from_volume(&Volume::new(labels, geometry).unwrap()).unwrap()
    }

    #[test]
    fn a_grid_that_is_stored_otherwise_has_the_same_labels_at_the_same_places() {
        let shape = [3, 4, 5];
        let labels: Vec<i16> = (0..60).map(|n| n % 7).collect();
        let ras = Geometry::with_spacing(shape, [2.0, 0.7, 0.9]).unwrap();
        let stored = map(labels.clone(), ras.clone());
        // Voxel (i, j, k) of the mirrored grid is voxel (4 - i, 3 - j, k).
        let mirrored = Geometry::with_affine(
            shape,
            [
                [-0.9, 0.0, 0.0, 3.6],
                [0.0, -0.7, 0.0, 2.1],
                [0.0, 0.0, 2.0, 0.0],
                [0.0, 0.0, 0.0, 1.0],
            ],
        )
        .unwrap();
        let found = stored.onto(&mirrored).unwrap().unwrap();
        let turn = AxisMap::between(Orientation::RAS, mirrored.orientation().unwrap());
        let expected = turn.data(&labels, shape).unwrap();
        assert_eq!(found.labels(), expected.iter().map(|v| *v as u16).collect::<Vec<_>>());
        assert_eq!(found.onto(&ras).unwrap().unwrap(), stored);
    }

    #[test]
    fn voxels_take_the_nearest_label_and_none_from_outside() {
        let fine =
            map(vec![1, 1, 2, 2, 3, 3], Geometry::with_spacing([1, 1, 6], [1.0; 3]).unwrap());
        let coarse = Geometry::with_affine(
            [1, 1, 4],
            [
                [2.0, 0.0, 0.0, 0.5],
                [0.0, 1.0, 0.0, 0.0],
                [0.0, 0.0, 1.0, 0.0],
                [0.0, 0.0, 0.0, 1.0],
            ],
        )
        .unwrap();
        assert_eq!(fine.onto(&coarse).unwrap().unwrap().labels(), [1, 2, 3, 0]);
        assert_eq!(fine.onto(&Geometry::without_affine([1, 1, 4])).unwrap(), None);
    }

    #[test]
    fn labels_that_overlap_keep_what_is_covered() {
        let geometry = Geometry::with_spacing([1, 1, 4], [1.0; 3]).unwrap();
        let mask = |data: [u8; 4]| Mask::new(data.to_vec(), geometry.clone()).unwrap();
        let mut both = LabelMap::new(geometry.clone());
        both.push(&mask([1, 1, 1, 0])).unwrap();
        both.push(&mask([0, 1, 1, 1])).unwrap();
        let found = both.onto(&geometry).unwrap().unwrap();
        assert_eq!((found.labels(), found.overlap()), (&[1, 2, 2, 2][..], 2));
        assert_eq!(found.label_mask(1), both.label_mask(1));
    }
}
