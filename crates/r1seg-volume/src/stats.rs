//! What a report says about a mask.

use crate::components::{Components, Neighbors, runs};
use crate::error::Detail;
use crate::{Error, Mask, Volume};

/// Measures of one label of a mask.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MaskStats {
    /// Number of voxels.
    pub voxels: usize,
    /// Milliliters: voxels x |det| of the affine; `None` without an affine.
    pub volume_ml: Option<f64>,
    /// Smallest and largest voxel index `(i, j, k)`, both inclusive; `None` without voxels.
    pub bbox_vox: Option<[[usize; 3]; 2]>,
    /// Mean voxel index `(i, j, k)`; `None` without voxels.
    pub centroid_vox: Option<[f64; 3]>,
    /// The same in RAS+ mm; `None` without voxels or without an affine.
    pub centroid_mm: Option<[f64; 3]>,
    /// Mean intensity of the volume under the mask (HU for CT); `None` without voxels.
    pub mean_intensity: Option<f64>,
    /// Whether a voxel lies on a face of the grid, so that the structure may be cut off.
    pub touches_border: bool,
    /// Number of parts, where voxels that share a face, an edge or a corner hang together (26).
    pub components: usize,
}

/// Measures the voxels of `mask` that equal `label`, over the intensities of `volume`.
///
/// # Errors
/// `R-GEO-02` if the mask is not on the grid of the volume.
pub fn mask_stats(mask: &Mask, label: u8, volume: &Volume) -> Result<MaskStats, Error> {
    let shape = mask.shape();
    if volume.shape() != shape {
        return Err(Detail::ShapeMismatch { expected: volume.shape(), got: shape }.into());
    }
    let [d, h, w] = shape;
    let mut components = Components::new(h, Neighbors::All);
    let mut voxels = 0;
    let mut index_sums = [0.0; 3];
    let mut intensity_sum = 0.0;
    let (mut least, mut most) = ([usize::MAX; 3], [0; 3]);
    let mut intensities = Vec::new();

    for z in 0..d {
        for y in 0..h {
            let first = (z * h + y) * w;
            let row = &mask.data()[first..first + w];
            for columns in runs(row, |v| v == label) {
                let (start, x, run) = (columns.start, columns.end, columns.len());
                components.add_run(y, columns);
                voxels += run;
                index_sums[0] += run as f64 * (start + x - 1) as f64 / 2.0;
                index_sums[1] += (run * y) as f64;
                index_sums[2] += (run * z) as f64;
                intensities.clear();
                volume.voxels().append_to(first + start..first + x, &mut intensities);
                intensity_sum += intensities.iter().map(|v| f64::from(*v)).sum::<f64>();
                for (axis, (low, high)) in [(start, x - 1), (y, y), (z, z)].into_iter().enumerate()
                {
                    least[axis] = least[axis].min(low);
                    most[axis] = most[axis].max(high);
                }
            }
        }
        components.end_slice();
    }

    let found = 0 < voxels;
    let geometry = mask.geometry();
    let centroid_vox = found.then(|| index_sums.map(|sum| sum / voxels as f64));
    let volume_mm3 = |mm3: f64| voxels as f64 * mm3;
    Ok(MaskStats {
        voxels,
        volume_ml: geometry.voxel_volume_mm3().map(|mm3| volume_mm3(mm3) / 1000.0),
        bbox_vox: found.then_some([least, most]),
        centroid_vox,
        centroid_mm: centroid_vox.and_then(|ijk| geometry.world_mm(ijk)),
        mean_intensity: found.then(|| intensity_sum / voxels as f64),
        touches_border: found
            && [w, h, d].iter().enumerate().any(|(n, size)| least[n] == 0 || most[n] + 1 == *size),
        components: components.count(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Geometry;

    fn stats(shape: [usize; 3], voxels: &[[usize; 3]], spacing: Option<[f64; 3]>) -> MaskStats {
        let geometry = match spacing {
            Some(mm) => Geometry::with_spacing(shape, mm).unwrap(),
            None => Geometry::without_affine(shape),
        };
        let mut data = vec![0; geometry.voxels()];
        for [z, y, x] in voxels {
            data[(z * shape[1] + y) * shape[2] + x] = 2;
        }
        let intensities: Vec<f32> = (0..geometry.voxels()).map(|n| n as f32).collect();
        let volume = Volume::new(intensities, geometry.clone()).unwrap();
        mask_stats(&Mask::new(data, geometry).unwrap(), 2, &volume).unwrap()
    }

    #[test]
    fn measures_of_a_bar_follow_from_its_ends() {
        // A bar of 3 voxels along W at k = 2, j = 1, i = 3..=5, voxels of 2 x 1 x 0.5 mm.
        let bar = [[2, 1, 3], [2, 1, 4], [2, 1, 5]];
        let s = stats([4, 5, 8], &bar, Some([2.0, 1.0, 0.5]));
        assert_eq!((s.voxels, s.components, s.touches_border), (3, 1, false));
        assert_eq!(s.volume_ml, Some(0.003));
        assert_eq!(s.bbox_vox, Some([[3, 1, 2], [5, 1, 2]]));
        assert_eq!(s.centroid_vox, Some([4.0, 1.0, 2.0]));
        assert_eq!(s.centroid_mm, Some([2.0, 1.0, 4.0]));
        assert_eq!(s.mean_intensity, Some(((2 * 5 + 1) * 8 + 4) as f64));
    }

    #[test]
    fn an_empty_mask_has_no_place_but_a_volume_of_zero() {
        let s = stats([4; 3], &[], Some([1.0; 3]));
        assert_eq!((s.voxels, s.volume_ml, s.components), (0, Some(0.0), 0));
        assert_eq!((s.bbox_vox, s.centroid_mm, s.mean_intensity), (None, None, None));
        assert!(!s.touches_border);
    }

    #[test]
    fn nothing_in_mm_is_given_without_an_affine() {
        let s = stats([4; 3], &[[1, 1, 1]], None);
        assert_eq!((s.volume_ml, s.centroid_mm), (None, None));
        assert_eq!(s.centroid_vox, Some([1.0; 3]));
    }

    #[test]
    fn each_face_of_the_grid_is_a_border() {
        for n in 0..3 {
            for end in [0, 4] {
                let mut voxel = [2; 3];
                voxel[n] = end;
                assert!(stats([5; 3], &[voxel], None).touches_border, "{voxel:?}");
            }
        }
    }

    #[test]
    fn voxels_that_share_a_corner_are_one_component() {
        assert_eq!(stats([5; 3], &[[1, 1, 1], [2, 2, 2]], None).components, 1);
        assert_eq!(stats([5; 3], &[[1, 2, 2], [2, 1, 3]], None).components, 1);
        assert_eq!(stats([5; 3], &[[1, 1, 1], [1, 1, 3]], None).components, 2);
        assert_eq!(stats([5; 3], &[[1, 1, 1], [3, 1, 1]], None).components, 2);
    }

    #[test]
    fn arms_that_meet_later_are_one_component() {
        let u = [[1, 0, 0], [1, 1, 0], [1, 0, 4], [1, 1, 4], [1, 2, 1], [1, 2, 2], [1, 2, 3]];
        assert_eq!(stats([3, 5, 5], &u, None).components, 1);
    }

    #[test]
    fn a_mask_on_another_grid_is_refused() {
        let mask = Mask::new(vec![0; 8], Geometry::without_affine([2; 3])).unwrap();
        let volume = Volume::new(vec![0.0; 12], Geometry::without_affine([2, 2, 3])).unwrap();
        let error = mask_stats(&mask, 1, &volume).unwrap_err();
        assert_eq!(error.to_string(), "the shape is 2x2x2, expected 2x2x3");
    }
}
