//! What the numbers of a volume mean, and how they are brought to `0..=1`.

use std::cmp::Ordering;

use rayon::prelude::*;

use crate::Voxels;
use crate::selection::{self, Histogram};

/// Voxels a task; fixed, so that sums do not depend on the number of threads.
const CHUNK: usize = 1 << 16;

/// What the range of a volume's values looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum IntensityRange {
    /// One value only.
    Constant,
    /// `0..=1`: already normalized.
    Unit,
    /// `0..=255`: a picture, or CT that was windowed to one.
    Byte,
    /// Hounsfield units: air and tissue on both sides of water's 0.
    Hu,
    /// None of these; CT without its rescale intercept, for example.
    Other,
}

impl IntensityRange {
    /// `constant`, `unit`, `byte`, `hu` or `other`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Unit => "unit",
            Self::Byte => "byte",
            Self::Hu => "hu",
            Self::Other => "other",
        }
    }

    /// The verdict on values from `low` to `high`.
    pub fn of(low: f32, high: f32) -> Self {
        /// Interpolation may overshoot a unit range by rounding.
        const ROUNDING: f32 = 1e-3;
        // Lungs and air are below -300 HU, soft tissue and bone above 0; scanners store padding
        // down to -8192, metal up to 32767.
        match (low, high) {
            _ if high <= low => Self::Constant,
            _ if -ROUNDING <= low && high <= 1.0 + ROUNDING => Self::Unit,
            _ if 0.0 <= low && high <= 255.0 => Self::Byte,
            _ if (-8192.0..=-100.0).contains(&low) && (30.0..=32767.0).contains(&high) => Self::Hu,
            _ => Self::Other,
        }
    }
}

/// Smallest and largest value; `None` without values.
pub fn min_max(voxels: &Voxels) -> Option<(f32, f32)> {
    match voxels {
        Voxels::F32(data) => ends(data, (f32::INFINITY, f32::NEG_INFINITY), f32::min, f32::max),
        Voxels::I16 { stored, scale } => {
            let (low, high) = ends(stored, (i16::MAX, i16::MIN), i16::min, i16::max)?;
            let (low, high) = (scale.apply(low), scale.apply(high));
            Some((low.min(high), low.max(high)))
        }
    }
}

fn ends<T: Copy + Send + Sync>(
    data: &[T],
    none: (T, T),
    min: impl Fn(T, T) -> T + Sync,
    max: impl Fn(T, T) -> T + Sync,
) -> Option<(T, T)> {
    data.par_chunks(CHUNK)
        .map(|chunk| chunk.iter().fold(none, |(low, high), v| (min(low, *v), max(high, *v))))
        .reduce_with(|a, b| (min(a.0, b.0), max(a.1, b.1)))
}

/// Mean in f64; `None` without values.
pub fn mean(voxels: &Voxels) -> Option<f64> {
    match voxels {
        Voxels::F32(data) => mean_f32(data),
        Voxels::I16 { stored, scale } => Histogram::new(stored, *scale).mean(),
    }
}

fn mean_f32(data: &[f32]) -> Option<f64> {
    let sums: Vec<f64> =
        data.par_chunks(CHUNK).map(|chunk| chunk.iter().map(|v| f64::from(*v)).sum()).collect();
    (!data.is_empty()).then(|| sums.iter().sum::<f64>() / data.len() as f64)
}

/// Percentiles (0..=100, clamped) with linear interpolation, as `numpy.percentile`; `None` without
/// values.
pub fn percentiles<const N: usize>(voxels: &Voxels, percents: [f64; N]) -> Option<[f32; N]> {
    match voxels {
        Voxels::F32(data) => selection::percentiles(data, |_| true, percents),
        Voxels::I16 { stored, scale } => {
            Histogram::new(stored, *scale).percentiles(|_| true, percents)
        }
    }
}

/// Percentiles of the voxels above the mean; both ends are the one value of a constant volume. `None`
/// without values.
pub fn percentiles_above_mean(voxels: &Voxels, percents: [f64; 2]) -> Option<(f32, f32)> {
    let ends = match voxels {
        Voxels::F32(data) => {
            let mean = mean_f32(data)?;
            selection::percentiles(data, |v| mean < f64::from(v), percents)
        }
        Voxels::I16 { stored, scale } => {
            let histogram = Histogram::new(stored, *scale);
            let mean = histogram.mean()?;
            histogram.percentiles(|v| mean < f64::from(v), percents)
        }
    };
    match ends {
        Some([low, high]) => Some((low, high)),
        None => min_max(voxels),
    }
}

/// `(clip(v, low, high) - low) / (high - low)`, which is in `0..=1`; all 0 unless `low < high`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rescale {
    low: f32,
    high: f32,
}

impl Rescale {
    /// Brings `low..=high` to `0..=1`.
    pub fn new(low: f32, high: f32) -> Self {
        Self { low, high }
    }

    /// What becomes 0, and what becomes 1.
    pub fn ends(&self) -> (f32, f32) {
        (self.low, self.high)
    }

    /// The rescaled value.
    pub fn apply(&self, v: f32) -> f32 {
        // Not `<=`, which is false for NaN, too.
        if !matches!(self.low.partial_cmp(&self.high), Some(Ordering::Less)) {
            return 0.0;
        }
        let (v, width) = (v.clamp(self.low, self.high), self.high - self.low);
        if width.is_finite() {
            return (v - self.low) / width;
        }
        // The ends are finite, but too far apart for f32.
        let [v, low, high] = [v, self.low, self.high].map(f64::from);
        ((v - low) / (high - low)) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_get_their_names() {
        for (low, high, range) in [
            (-1024.0, -1024.0, IntensityRange::Constant),
            (0.0, 1.0, IntensityRange::Unit),
            (0.0, 255.0, IntensityRange::Byte),
            (-1024.0, 3071.0, IntensityRange::Hu),
            (-3024.0, 1381.0, IntensityRange::Hu),
            (-1100.0, 1207.0, IntensityRange::Hu),
            (0.0, 4095.0, IntensityRange::Other),
            (-1.0, 1.0, IntensityRange::Other),
            (-1e9, 1e9, IntensityRange::Other),
        ] {
            assert_eq!(IntensityRange::of(low, high), range, "{low}..{high}");
        }
    }

    #[test]
    fn percentiles_interpolate_linearly_as_numpy_does() {
        // numpy.percentile([15, 20, 35, 40, 50], [0, 5, 40, 99.95, 100])
        let values = vec![50.0_f32, 15.0, 40.0, 20.0, 35.0].into();
        let got = percentiles(&values, [0.0, 5.0, 40.0, 99.95, 100.0]).unwrap();
        for (got, expected) in got.iter().zip([15.0, 16.0, 29.0, 49.98, 50.0]) {
            assert!((got - expected).abs() < 1e-5, "{got} {expected}");
        }
        assert_eq!(percentiles(&Vec::<f32>::new().into(), [50.0]), None);
    }

    #[test]
    fn foreground_is_what_lies_above_the_mean() {
        // Mean 2.5; foreground 3, 4 and 5; numpy.percentile([3, 4, 5], [0.05, 99.95])
        let (low, high) =
            percentiles_above_mean(&vec![0_i16, 1, 2, 3, 4, 5].into(), [0.05, 99.95]).unwrap();
        assert!((low - 3.001).abs() < 1e-6 && (high - 4.999).abs() < 1e-6);
    }

    #[test]
    fn a_constant_volume_has_one_value_and_rescales_to_zero() {
        let data = vec![-1024.0_f32; 1000];
        let (low, high) = percentiles_above_mean(&data.into(), [0.05, 99.95]).unwrap();
        assert_eq!((low, high), (-1024.0, -1024.0));
        assert_eq!(Rescale::new(low, high).apply(-1024.0), 0.0);
        assert_eq!(percentiles_above_mean(&Vec::<f32>::new().into(), [0.05, 99.95]), None);
    }

    #[test]
    fn rescale_clips_to_the_unit_range() {
        let rescaled = [-5.0, 0.0, 1.0, 4.0, 9.0].map(|v| Rescale::new(0.0, 4.0).apply(v));
        assert_eq!(rescaled, [0.0, 0.0, 0.25, 1.0, 1.0]);
    }

    #[test]
    fn ends_too_far_apart_for_f32_rescale_to_the_unit_range() {
        let rescale = Rescale::new(f32::MIN, f32::MAX);
        let rescaled = [f32::MIN, 0.0, f32::MAX / 2.0, f32::MAX].map(|v| rescale.apply(v));
        assert_eq!(rescaled, [0.0, 0.5, 0.75, 1.0]);
        assert_eq!(Rescale::new(f32::NAN, 1.0).apply(0.5), 0.0);
    }

    #[test]
    fn whole_numbers_and_their_f32_have_the_same_statistics() {
        let stored: Vec<i16> = (0..100_000_u32).map(|n| (n * 7919 % 4096) as i16 - 1024).collect();
        let scale = crate::Scale { slope: -2.0, inter: 5.5 };
        let values: Voxels = stored.iter().map(|v| scale.apply(*v)).collect::<Vec<_>>().into();
        let kept = Voxels::I16 { stored, scale };
        assert_eq!(min_max(&kept), min_max(&values));
        assert_eq!(mean(&kept), mean(&values));
        assert_eq!(percentiles(&kept, [0.5, 99.5]), percentiles(&values, [0.5, 99.5]));
        let above_mean = |voxels: &Voxels| percentiles_above_mean(voxels, [0.05, 99.95]);
        assert_eq!(above_mean(&kept), above_mean(&values));
    }
}
