//! Windows over a volume and the mean of what a model says about each, as MONAI's
//! `sliding_window_inference` with constant blending (`monai/inferers/utils.py`).

use crate::crop::check_data;
use crate::error::Detail;
use crate::{Error, Region};

/// Windows of shape `roi` that cover a volume of shape `size`, the W axis running fastest.
///
/// They step by `max(1, trunc(roi * (1 - overlap)))` voxels; the last one along each axis is shifted
/// back so that it ends with the volume. Volumes smaller than `roi` are to be padded first
/// ([`Padding`](crate::Padding)).
///
/// # Errors
/// `R-PRE-02` if `overlap` is not in `0..1`; `R-GEO-04` if `roi` is empty or larger
/// than the volume.
pub fn windows(size: [usize; 3], roi: [usize; 3], overlap: f64) -> Result<Vec<Region>, Error> {
    if !(0.0..1.0).contains(&overlap) {
        return Err(Detail::Overlap { overlap }.into());
    }
    if (0..3).any(|n| roi[n] == 0 || size[n] < roi[n]) {
        return Err(Detail::Region { start: [0; 3], end: roi, shape: size }.into());
    }
    let starts: [Vec<usize>; 3] = std::array::from_fn(|n| starts(size[n], roi[n], overlap));
    let mut windows = Vec::with_capacity(starts.iter().map(Vec::len).product());
    for z in &starts[0] {
        for y in &starts[1] {
            windows.extend(starts[2].iter().map(|x| Region::at([*z, *y, *x], roi)));
        }
    }
    Ok(windows)
}

fn starts(size: usize, roi: usize, overlap: f64) -> Vec<usize> {
    let step = if roi == size { roi } else { ((roi as f64 * (1.0 - overlap)) as usize).max(1) };
    let last = size - roi;
    (0..=last.div_ceil(step)).map(|n| (n * step).min(last)).collect()
}

/// The voxel-wise mean of the logits of overlapping windows.
#[derive(Debug, Clone)]
pub struct Blend {
    shape: [usize; 3],
    sums: Vec<f32>,
    counts: Vec<f32>,
}

impl Blend {
    /// An empty blend over a volume of `shape`, `[D, H, W]`.
    pub fn new(shape: [usize; 3]) -> Self {
        let voxels = shape.iter().product();
        Self { shape, sums: vec![0.0; voxels], counts: vec![0.0; voxels] }
    }

    /// Adds the logits of one window.
    ///
    /// # Errors
    /// `R-GEO-01` if there is not one logit for each voxel of the window;
    /// `R-GEO-04` if the window reaches out of the volume.
    pub fn add(&mut self, window: Region, logits: &[f32]) -> Result<(), Error> {
        window.check(self.shape)?;
        check_data(logits, window.shape())?;
        for (row, logits) in window.rows(self.shape).zip(logits.chunks_exact(window.shape()[2])) {
            let voxels = self.sums[row.clone()].iter_mut().zip(&mut self.counts[row]);
            for ((sum, count), logit) in voxels.zip(logits) {
                *sum += logit;
                *count += 1.0;
            }
        }
        Ok(())
    }

    /// Σ logits / number of windows, `[D, H, W]`; `no_window` where there was no window.
    pub fn finish(mut self, no_window: f32) -> Vec<f32> {
        for (sum, count) in self.sums.iter_mut().zip(&self.counts) {
            *sum = if *count == 0.0 { no_window } else { *sum / count };
        }
        self.sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_placed_as_monai_places_them() {
        // monai.data.utils.dense_patch_slices((24, 96, 80), (16, 64, 64), (8, 32, 32))
        let windows = windows([24, 96, 80], [16, 64, 64], 0.5).unwrap();
        let starts: Vec<_> = windows.iter().map(|w| w.start).collect();
        let expected = [
            [0, 0, 0],
            [0, 0, 16],
            [0, 32, 0],
            [0, 32, 16],
            [8, 0, 0],
            [8, 0, 16],
            [8, 32, 0],
            [8, 32, 16],
        ];
        assert_eq!(starts, expected);
        assert!(windows.iter().all(|w| w.shape() == [16, 64, 64]));
    }

    #[test]
    fn an_axis_as_long_as_the_window_is_covered_once() {
        assert_eq!(windows([32, 256, 256], [32, 256, 256], 0.5).unwrap().len(), 1);
        assert_eq!(windows([33, 256, 256], [32, 256, 256], 0.9).unwrap().len(), 2);
    }

    #[test]
    fn a_step_is_never_zero() {
        let starts: Vec<_> =
            windows([5, 1, 1], [3, 1, 1], 0.99).unwrap().iter().map(|w| w.start[0]).collect();
        assert_eq!(starts, [0, 1, 2]);
    }

    #[test]
    fn impossible_windows_are_refused() {
        assert_eq!(windows([8; 3], [9, 4, 4], 0.5).unwrap_err().code(), "R-GEO-04");
        assert_eq!(windows([8; 3], [0, 4, 4], 0.5).unwrap_err().code(), "R-GEO-04");
        for overlap in [1.0, -0.1, f64::NAN] {
            assert_eq!(windows([8; 3], [4; 3], overlap).unwrap_err().code(), "R-PRE-02");
        }
    }

    #[test]
    fn the_blend_is_the_mean_of_the_windows_over_each_voxel() {
        let (size, roi) = ([1, 1, 5], [1, 1, 3]);
        let mut blend = Blend::new(size);
        for (n, window) in windows(size, roi, 0.5).unwrap().into_iter().enumerate() {
            blend.add(window, &[n as f32; 3]).unwrap();
        }
        // Windows 0..3, 1..4 and 2..5 with logits 0, 1 and 2.
        assert_eq!(blend.finish(-9.0), [0.0, 0.5, 1.0, 1.5, 2.0]);
    }

    #[test]
    fn voxels_without_a_window_get_the_value_for_them_and_nan_stays_nan() {
        let mut blend = Blend::new([1, 1, 4]);
        blend.add(Region::at([0, 0, 1], [1, 1, 2]), &[f32::NAN, 3.0]).unwrap();
        let means = blend.finish(-9.0);
        assert!(means[1].is_nan());
        assert_eq!([means[0], means[2], means[3]], [-9.0, 3.0, -9.0]);
    }

    #[test]
    fn a_window_without_its_logits_is_refused() {
        let mut blend = Blend::new([2; 3]);
        let window = Region::at([0; 3], [2, 2, 1]);
        assert_eq!(blend.add(window, &[0.0; 3]).unwrap_err().code(), "R-GEO-01");
        let outside = Region::at([1; 3], [2, 1, 1]);
        assert_eq!(blend.add(outside, &[0.0; 2]).unwrap_err().code(), "R-GEO-04");
    }
}
