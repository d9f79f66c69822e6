//! The steps from a stored volume to the values that a model is given.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use rayon::prelude::*;

use crate::error::Detail;
use crate::intensity::{self, Rescale};
use crate::resample::Rows;
use crate::{
    AxisMap, Error, Lattice, Orient, Orientation, Prepared, Region, SpacingConvention, Volume,
    Voxels, Warning, foreground_box, lattice,
};

/// One step of a preparation. What the steps before it have made of the volume is what it works on.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Step {
    /// Values below `low` and above `high` become these ends.
    Clip {
        /// Smallest value.
        low: f32,
        /// Largest value.
        high: f32,
    },
    /// Clips to two ends, and brings these to 0 and 1; all values become 0 unless the first end is below
    /// the second.
    Rescale(Ends),
    /// The same to -1 and 1, as MONAI's `ScaleIntensityRangePercentiles` with `clip=True`.
    RescaleSigned(Ends),
    /// `(v - mean) / std` in f32, with the mean and the unbiased standard deviation of the values above
    /// 0, as torchio's `ZNormalization`.
    NormalizePositive,
    /// The smallest box around all voxels above 0, as MONAI's `CropForeground`. Where there are none,
    /// everything stays, and `W-CONST` says so.
    CropForeground {
        /// Voxels that are added on all sides, as far as the volume reaches.
        margin: usize,
    },
    /// The axes in another order or direction. Nothing is copied: voxels are looked up where they lie.
    Turn(AxisMap),
    /// The axes in the order and direction of an orientation of the body, as nibabel's
    /// `as_closest_canonical` does it for RAS.
    Orient(Orientation),
    /// Linear interpolation to voxels of another size. Intensities that are kept as whole numbers stay
    /// whole in ITK's conventions, rounded towards 0.
    Space {
        /// Millimeters along `[D, H, W]`.
        mm: [f64; 3],
        /// Which grid, and what lies outside of the volume.
        convention: SpacingConvention,
    },
    /// A part of the grid, and 0 where it reaches out of it. Later steps change this 0 as any other value.
    Window {
        /// The cell that it begins at.
        start: [i64; 3],
        /// `[D, H, W]`.
        shape: [usize; 3],
    },
}

/// Which values become the lower and the upper end of a range.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Ends {
    /// The smallest and the largest value.
    MinMax,
    /// Percentiles (0..=100) of all values, as `numpy.percentile`.
    Percentiles([f64; 2]),
    /// Percentiles of the values above the mean; the smallest and the largest value where there are
    /// none.
    PercentilesAboveMean([f64; 2]),
    /// Two values.
    Fixed {
        /// The lower.
        low: f32,
        /// The upper.
        high: f32,
    },
}

/// A change of each value alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Intensity {
    Clip {
        low: f32,
        high: f32,
    },
    Rescale(Rescale),
    /// From 0..=1 to -1..=1.
    Signed,
    Normalize {
        mean: f32,
        std: f32,
    },
}

impl Intensity {
    pub(crate) fn apply(self, v: f32) -> f32 {
        match self {
            Self::Clip { low, high } => v.max(low).min(high),
            Self::Rescale(rescale) => rescale.apply(v),
            Self::Signed => v * 2.0 - 1.0,
            Self::Normalize { mean, std } => (v - mean) / std,
        }
    }
}

/// Takes the steps of a recipe, one after the other. Until voxels are resampled nothing is copied:
/// values are looked up where they are stored. [`Prepared::then`] takes further ones.
///
/// ```
/// use r1seg_volume::{Ends, Geometry, Region, Step, Volume, prepare};
///
/// let volume = Volume::new(vec![-1000_i16, 40, 200, -1000], Geometry::without_affine([1, 1, 4]))?;
/// let window = Step::Rescale(Ends::Fixed { low: -160.0, high: 240.0 });
/// let prepared = prepare(&volume, &[window, Step::CropForeground { margin: 0 }])?;
/// assert_eq!(prepared.to_f32(), [0.5, 0.9]);
/// assert_eq!(prepared.crop(), Region { start: [0, 0, 1], end: [1, 1, 3] });
/// # Ok::<(), r1seg_volume::Error>(())
/// ```
///
/// # Errors
/// `R-GEO-06` without voxels; `R-GEO-11` and `R-GEO-14` for
/// steps that need to know them; `R-GEO-03` and `R-GEO-13` for sizes of voxels that
/// make no grid; `R-PRE-03`.
pub fn prepare(volume: &Volume, steps: &[Step]) -> Result<Prepared, Error> {
    Prepared::new(volume).then(steps)
}

impl Prepared {
    /// Takes further steps, such as those of a part that is chosen once the grid is known: the voxels
    /// are shared, and `self` stays as it is for other parts.
    ///
    /// ```
    /// use r1seg_volume::{Geometry, Step, Volume, prepare};
    ///
    /// let volume = Volume::new(vec![3_i16, 1, 2], Geometry::without_affine([1, 1, 3]))?;
    /// let prepared = prepare(&volume, &[])?;
    /// let part = prepared.then(&[Step::Window { start: [0, 0, 2], shape: [1, 1, 2] }])?;
    /// assert_eq!(part.to_f32(), [2.0, 0.0]);
    /// # Ok::<(), r1seg_volume::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`prepare`].
    pub fn then(&self, steps: &[Step]) -> Result<Self, Error> {
        if self.shape().contains(&0) {
            return Err(Detail::EmptyShape { shape: self.shape() }.into());
        }
        steps.iter().try_fold(self.clone(), |prepared, step| take(prepared, *step))
    }
}

fn take(prepared: Prepared, step: Step) -> Result<Prepared, Error> {
    let rescale = |ends| find(ends, &prepared).map(|(low, high)| Rescale::new(low, high));
    match step {
        Step::Clip { low, high } => Ok(prepared.with_intensity(Intensity::Clip { low, high })),
        Step::Rescale(ends) => {
            let rescale = Intensity::Rescale(rescale(ends)?);
            Ok(prepared.with_intensity(rescale))
        }
        Step::RescaleSigned(ends) => {
            let rescale = Intensity::Rescale(rescale(ends)?);
            Ok(prepared.with_intensity(rescale).with_intensity(Intensity::Signed))
        }
        Step::NormalizePositive => {
            let (mean, std) = positive(&prepared).ok_or(Error::from(Detail::NothingPositive))?;
            Ok(prepared.with_intensity(Intensity::Normalize { mean, std }))
        }
        Step::CropForeground { margin } => crop_foreground(prepared, margin),
        Step::Turn(axes) => prepared.moved(|map| Ok(map.turned(axes))),
        Step::Orient(orientation) => {
            let geometry = prepared.map().geometry(prepared.source())?;
            let axes = Orient::To(orientation).axes(&geometry)?;
            prepared.moved(|map| Ok(map.turned(axes)))
        }
        Step::Space { mm, convention } => space(prepared, mm, convention),
        Step::Window { shape, .. } if shape.contains(&0) => {
            Err(Detail::EmptyShape { shape }.into())
        }
        Step::Window { start, shape } => prepared.moved(|map| Ok(map.windowed(start, shape))),
    }
}

fn find(ends: Ends, prepared: &Prepared) -> Result<(f32, f32), Error> {
    let values = match ends {
        Ends::Fixed { low, high } => return Ok((low, high)),
        _ => prepared.values(),
    };
    let found = match ends {
        Ends::Percentiles(percents) => {
            intensity::percentiles(&values, percents).map(|[low, high]| (low, high))
        }
        Ends::PercentilesAboveMean(percents) => {
            intensity::percentiles_above_mean(&values, percents)
        }
        Ends::MinMax | Ends::Fixed { .. } => intensity::min_max(&values),
    };
    found.ok_or(Error::from(Detail::EmptyShape { shape: prepared.shape() }))
}

/// Mean and unbiased standard deviation of the values above 0; `None` for less than two different
/// ones.
fn positive(prepared: &Prepared) -> Option<(f32, f32)> {
    let [depth, height, _] = prepared.shape();
    // Sums of slices, so that the result does not depend on the number of threads.
    let of_slices = |term: &(dyn Fn(f64) -> f64 + Sync)| {
        let of_slice = |z: usize| {
            let mut scratch = Vec::new();
            let (mut count, mut sum) = (0_usize, 0.0);
            for y in 0..height {
                for v in prepared.row(z, y, &mut scratch).iter().filter(|v| 0.0 < **v) {
                    count += 1;
                    sum += term(f64::from(*v));
                }
            }
            (count, sum)
        };
        let slices: Vec<(usize, f64)> = (0..depth).into_par_iter().map(of_slice).collect();
        slices.into_iter().fold((0, 0.0), |(count, sum), slice| (count + slice.0, sum + slice.1))
    };
    let (count, sum) = of_slices(&|v| v);
    let mean = sum / count as f64;
    let (_, squares) = of_slices(&|v| (v - mean) * (v - mean));
    let std = (squares / (count as f64 - 1.0)).sqrt();
    (1 < count && 0.0 < std).then_some((mean as f32, std as f32))
}

fn crop_foreground(prepared: Prepared, margin: usize) -> Result<Prepared, Error> {
    let region = match prepared.threshold() {
        // No value is above 0.
        Some(None) => None,
        Some(Some(above)) => {
            let stored = prepared.stored();
            foreground_box(stored.voxels(), stored.shape(), above)?
                .and_then(|region| prepared.where_is(region))
        }
        None => foreground_box(&prepared.values(), prepared.shape(), 0.0)?,
    };
    let Some(region) = region else {
        let ends = match prepared.intensities() {
            [.., Intensity::Rescale(rescale)] => Some(rescale.ends()),
            _ => None,
        };
        let text = match ends {
            Some((low, high)) if low < high => {
                format!("no voxel stands out: all of them are {low} or less, and become 0")
            }
            Some((low, _)) => {
                format!("no voxel stands out: all of them are {low}, and become 0")
            }
            None => "no voxel stands out: none is above 0".to_owned(),
        };
        return Ok(prepared.with_warning(Warning::new("W-CONST", text)));
    };
    let shape = prepared.shape();
    let region = Region {
        start: region.start.map(|n| n.saturating_sub(margin)),
        end: std::array::from_fn(|n| region.end[n].saturating_add(margin).min(shape[n])),
    };
    prepared.moved(|map| map.cropped(region))
}

fn space(
    prepared: Prepared,
    mm: [f64; 3],
    convention: SpacingConvention,
) -> Result<Prepared, Error> {
    let unit = match convention {
        SpacingConvention::Monai => prepared.source().axis_lengths_mm(),
        _ => prepared.source().header_spacing_mm(),
    };
    let mut unit = unit.ok_or(Error::from(Detail::UnknownSpacing))?;
    if convention == SpacingConvention::CtRate {
        unit[1] = unit[2];
    }
    let from = prepared.map().cell_lengths(unit);
    let lattice = Lattice::new(prepared.shape(), from, mm, convention)?;
    let is_itk = !matches!(convention, SpacingConvention::Monai | SpacingConvention::CtRate);
    let stays_whole = is_itk && prepared.is_whole();
    let voxels = match stays_whole {
        // Between two numbers of 16 bits, so that the cast cannot saturate.
        true => Voxels::from(lattice::linear(&lattice, &prepared, |v| v as i16)),
        false => Voxels::from(lattice::linear(&lattice, &prepared, |v| v as f32)),
    };
    prepared.resampled(lattice, voxels)
}

impl Prepared {
    /// The values, of which those of an unchanged volume are not copied.
    fn values(&self) -> Cow<'_, Voxels> {
        match self.is_unchanged() {
            true => Cow::Borrowed(self.stored().voxels()),
            false => Cow::Owned(self.to_f32().into()),
        }
    }

    /// What a stored value must exceed to be above 0 now (`None` within: no value does), where that can
    /// be said of the whole stored volume.
    fn threshold(&self) -> Option<Option<f32>> {
        if !self.shows_everything() {
            return None;
        }
        match self.intensities() {
            [] => Some(Some(0.0)),
            [Intensity::Rescale(rescale)] => {
                let (low, high) = rescale.ends();
                Some((low < high).then_some(low))
            }
            _ => None,
        }
    }

    /// Where a box of the stored volume is now.
    fn where_is(&self, region: Region) -> Option<Region> {
        self.view().region(region, crate::RegionRule::Touched)
    }
}
