//! The named ways from a volume to a model's input, and back.

use std::fmt;
use std::str::FromStr;

use rayon::prelude::*;

use crate::intensity::{self, IntensityRange, Rescale};
use crate::placement::Placement;
use crate::resample::Rows;
use crate::{AxisMap, Error, Padding, Region, Volume, Warning, foreground_box, resample};

/// Percentiles of the whole volume that M3D-RefSeg clips to (`m3d_refseg_data_prepare.py`,
/// `ScaleIntensityRangePercentilesd`).
const REFSEG_PERCENTILES: [f64; 2] = [0.5, 99.5];

/// A named preprocessing: normalization to `0..=1`, then a crop to the voxels above 0.
///
/// No recipe resamples to a spacing: the models were trained on voxels as stored. What is cropped may be
/// seen in another [orientation](Prepared::reoriented).
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Recipe {
    /// `none`: values are in `0..=1` already; neither normalized nor cropped.
    None,
    /// `m3d-seg`, also for SegVol and R1Seg: clipped to percentiles 0.05 and 99.95 of the voxels
    /// above the mean.
    M3dSeg,
    /// `m3d-cap`: from the smallest to the largest value.
    M3dCap,
    /// `m3d-refseg`: clipped to percentiles 0.5 and 99.5 of the volume; H and W change places.
    M3dRefSeg,
    /// `window:LEVEL,WIDTH`: clipped to `LEVEL ± WIDTH / 2`, in the volume's units (HU).
    Window {
        /// Center.
        level: f32,
        /// Width, above 0.
        width: f32,
    },
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::M3dSeg => f.write_str("m3d-seg"),
            Self::M3dCap => f.write_str("m3d-cap"),
            Self::M3dRefSeg => f.write_str("m3d-refseg"),
            Self::Window { level, width } => write!(f, "window:{level},{width}"),
        }
    }
}

impl FromStr for Recipe {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let window = |text: &str| {
            let (level, width) = text.split_once(',')?;
            let level = level.trim().parse().ok().filter(|v: &f32| v.is_finite())?;
            let width = width.trim().parse().ok().filter(|v: &f32| v.is_finite() && 0.0 < *v)?;
            Some(Self::Window { level, width })
        };
        let recipe = match text {
            "none" => Some(Self::None),
            "m3d-seg" => Some(Self::M3dSeg),
            "m3d-cap" => Some(Self::M3dCap),
            "m3d-refseg" => Some(Self::M3dRefSeg),
            _ => text.strip_prefix("window:").and_then(window),
        };
        recipe.ok_or_else(|| Error::Recipe { text: text.to_owned() })
    }
}

impl Recipe {
    /// The recipe that fits the volume's range of values, and a warning where the range is not that
    /// of CT.
    ///
    /// `0..=1` gives [`Recipe::None`], HU [`Recipe::M3dSeg`], `0..=255` [`Recipe::M3dCap`], anything
    /// else [`Recipe::M3dSeg`], whose result does not depend on an offset or a factor.
    pub fn auto(volume: &Volume) -> (Self, Option<Warning>) {
        let Some((low, high)) = intensity::min_max(volume.voxels()) else {
            return (Self::None, None);
        };
        let unlike_hu = |code| {
            let text = format!(
                "values span {low}..{high}; CT in HU spans about -1024..3071: results may be wrong"
            );
            Warning::new(code, text).with_fix("give the volume in HU")
        };
        match IntensityRange::of(low, high) {
            IntensityRange::Unit => (Self::None, None),
            IntensityRange::Hu | IntensityRange::Constant => (Self::M3dSeg, None),
            IntensityRange::Byte => (Self::M3dCap, Some(unlike_hu("W-HU-01"))),
            IntensityRange::Other => (Self::M3dSeg, Some(unlike_hu("W-HU-02"))),
        }
    }

    /// Finds how `volume` is normalized and cropped; nothing is copied until it is used.
    ///
    /// # Errors
    /// None for a volume that was read; [`Error::EmptyShape`] for one without voxels.
    pub fn apply(&self, volume: &Volume) -> Result<Prepared, Error> {
        let shape = volume.shape();
        let voxels = volume.voxels();
        let ends = match self {
            Self::M3dSeg => intensity::foreground_percentiles(voxels),
            Self::M3dRefSeg => {
                intensity::percentiles(voxels, REFSEG_PERCENTILES).map(|[low, high]| (low, high))
            }
            Self::None | Self::M3dCap => intensity::min_max(voxels),
            Self::Window { level, width } => {
                let end = |half: f32| (level + half).clamp(f32::MIN, f32::MAX);
                Some((end(-width / 2.0), end(width / 2.0)))
            }
        };
        let (low, high) = ends.ok_or(Error::EmptyShape { shape })?;

        let mut warnings = Vec::new();
        let foreground = match self {
            Self::None => Some(Region::whole(shape)),
            // What lies above `low` is what rescales to more than 0.
            _ if low < high => foreground_box(voxels, shape, low)?,
            _ => None,
        };
        if foreground.is_none() || high <= low {
            let text = format!(
                "no voxel stands out: all of them are {}, and become 0",
                if low < high { format!("{low} or less") } else { format!("{low}") }
            );
            warnings.push(Warning::new("W-CONST", text));
        }
        let region = foreground.unwrap_or(Region::whole(shape));
        Ok(Prepared {
            volume: volume.clone(),
            rescale: (*self != Self::None).then(|| Rescale::new(low, high)),
            placement: Placement::new(
                shape,
                region,
                match self {
                    Self::M3dRefSeg => AxisMap::TRANSPOSED,
                    _ => AxisMap::IDENTITY,
                },
            ),
            warnings,
        })
    }
}

/// A normalized and cropped volume, which shares its voxels, and where it lies in the grid that it came
/// from.
#[derive(Debug, Clone)]
pub struct Prepared {
    volume: Volume,
    rescale: Option<Rescale>,
    placement: Placement,
    warnings: Vec<Warning>,
}

impl Prepared {
    /// The same with the axes of the volume in another order, as [`Orient::axes`](crate::Orient::axes)
    /// says. Voxels are not copied: each is looked up where it is stored.
    #[must_use]
    pub fn reoriented(self, axes: AxisMap) -> Self {
        Self { placement: self.placement.reoriented(axes), ..self }
    }

    /// Values in `0..=1`, C order of [`Prepared::shape`].
    pub fn to_f32(&self) -> Vec<f32> {
        let [d, h, w] = self.shape();
        let mut out = vec![0.0; d * h * w];
        self.copy_to(&mut out, [h, w], [0; 3]);
        out
    }

    /// The same in the middle of zeros.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if `padding` is not one of [`Prepared::shape`]; [`Error::Region`] if
    /// it contradicts itself.
    pub fn padded(&self, padding: &Padding) -> Result<Vec<f32>, Error> {
        let Padding { shape, inner } = *padding;
        inner.check(shape)?;
        if inner.shape() != self.shape() {
            return Err(Error::ShapeMismatch { expected: self.shape(), got: inner.shape() });
        }
        let mut out = vec![0.0; shape.iter().product()];
        self.copy_to(&mut out, [shape[1], shape[2]], inner.start);
        Ok(out)
    }

    /// Writes all values into a grid with slices of `[h, w]`, from voxel `start` on.
    fn copy_to(&self, out: &mut [f32], [h, w]: [usize; 2], start: [usize; 3]) {
        let [depth, height, width] = self.shape();
        let slices = out.par_chunks_mut(h * w).skip(start[0]).take(depth);
        slices.enumerate().for_each(|(z, slice)| {
            let mut scratch = Vec::new();
            for (y, out) in slice.chunks_mut(w).skip(start[1]).take(height).enumerate() {
                out[start[2]..][..width].copy_from_slice(self.row(z, y, &mut scratch));
            }
        });
    }

    /// Shape of the prepared grid: `[D, H, W]`, or `[D, W, H]` for [`Recipe::M3dRefSeg`], after any
    /// [reorientation](Self::reoriented).
    pub fn shape(&self) -> [usize; 3] {
        self.placement.shape()
    }

    /// The crop, in the grid of the volume.
    pub fn crop(&self) -> Region {
        self.placement.region()
    }

    /// What brings intensities to `0..=1`; `None` where they are so already.
    pub fn rescale(&self) -> Option<Rescale> {
        self.rescale
    }

    /// The way back to the grid of the volume, which outlives the data.
    pub fn placement(&self) -> Placement {
        self.placement
    }

    /// What was odd about the volume.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The prepared grid, interpolated trilinearly to the model's grid `to`, `[D, H, W]`.
    ///
    /// # Errors
    /// [`Error::EmptyShape`] if `to` has an axis of 0.
    pub fn resize(&self, to: [usize; 3]) -> Result<Vec<f32>, Error> {
        resample::interpolate(self, to, |v| v)
    }

    /// The prepared grid, sampled to the model's grid `to`, `[D, H, W]`, as torch's `nearest-exact`
    /// does: each cell has the value of the voxel at its center.
    ///
    /// # Errors
    /// [`Error::EmptyShape`] if `to` has an axis of 0.
    pub fn resize_nearest_exact(&self, to: [usize; 3]) -> Result<Vec<f32>, Error> {
        if to.contains(&0) {
            return Err(Error::EmptyShape { shape: to });
        }
        let shape = self.shape();
        let [depth, rows, columns]: [Vec<usize>; 3] =
            std::array::from_fn(|n| resample::nearest_exact_sources(shape[n], to[n]));
        let mut out = vec![0.0; to.iter().product()];
        out.par_chunks_mut(to[1] * to[2]).zip(&depth).for_each(|(out, z)| {
            let mut scratch = Vec::new();
            for (out, y) in out.chunks_exact_mut(to[2]).zip(&rows) {
                let row = self.row(*z, *y, &mut scratch);
                out.iter_mut().zip(&columns).for_each(|(out, x)| *out = row[*x]);
            }
        });
        Ok(out)
    }

    /// The values of the part `within` of the prepared grid in the middle of zeros, as `padding` of
    /// that part says, and of those only the ones in `window`.
    ///
    /// # Errors
    /// [`Error::Region`] if one of the three reaches out of the next; [`Error::ShapeMismatch`] if
    /// `padding` is not one of the shape of `within`.
    pub fn window(
        &self,
        within: Region,
        padding: &Padding,
        window: Region,
    ) -> Result<Vec<f32>, Error> {
        within.check(self.shape())?;
        padding.inner.check(padding.shape)?;
        window.check(padding.shape)?;
        if padding.inner.shape() != within.shape() {
            let (expected, got) = (within.shape(), padding.inner.shape());
            return Err(Error::ShapeMismatch { expected, got });
        }
        let shape @ [_, h, w] = window.shape();
        // What of the window is more than padding.
        let first: [usize; 3] =
            std::array::from_fn(|n| window.start[n].max(padding.inner.start[n]));
        let end: [usize; 3] = std::array::from_fn(|n| window.end[n].min(padding.inner.end[n]));
        let mut out = vec![0.0; shape.iter().product()];
        if (0..3).any(|n| end[n] <= first[n]) {
            return Ok(out);
        }
        let source = |n: usize, at: usize| at - padding.inner.start[n] + within.start[n];
        let columns = source(2, first[2])..source(2, first[2]) + end[2] - first[2];
        let slices = out.par_chunks_mut(h * w).skip(first[0] - window.start[0]);
        slices.zip(first[0]..end[0]).for_each(|(slice, z)| {
            let mut scratch = Vec::new();
            let rows = slice.chunks_mut(w).skip(first[1] - window.start[1]);
            for (out, y) in rows.zip(first[1]..end[1]) {
                let row = self.row(source(0, z), source(1, y), &mut scratch);
                out[first[2] - window.start[2]..][..columns.len()]
                    .copy_from_slice(&row[columns.clone()]);
            }
        });
        Ok(out)
    }
}

impl resample::Rows for Prepared {
    fn shape(&self) -> [usize; 3] {
        self.placement.shape()
    }

    fn row<'a>(&'a self, z: usize, y: usize, scratch: &'a mut Vec<f32>) -> &'a [f32] {
        scratch.clear();
        self.placement.append_row(self.volume.voxels(), z, y, scratch);
        if let Some(rescale) = self.rescale {
            scratch.iter_mut().for_each(|v| *v = rescale.apply(*v));
        }
        scratch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Geometry;

    fn volume(shape: [usize; 3], value: impl Fn(usize) -> f32) -> Volume {
        let geometry = Geometry::without_affine(shape);
        let values: Vec<f32> = (0..geometry.voxels()).map(value).collect();
        Volume::new(values, geometry).unwrap()
    }

    #[test]
    fn names_are_parsed_and_printed() {
        for name in
            ["none", "m3d-seg", "m3d-cap", "m3d-refseg", "window:40,400", "window:-600,1500"]
        {
            assert_eq!(name.parse::<Recipe>().unwrap().to_string(), name);
        }
        for name in
            ["", "M3D", "window:", "window:40", "window:40,0", "window:nan,1", "window:1,inf"]
        {
            let error = name.parse::<Recipe>().unwrap_err();
            assert_eq!(error.to_string(), format!("`{name}` is not a preprocessing recipe"));
        }
    }

    #[test]
    fn auto_goes_by_the_range_of_values() {
        let auto = |low: f32, high: f32| {
            let (recipe, warning) =
                Recipe::auto(&volume([4; 3], |n| if n % 2 == 0 { low } else { high }));
            (recipe, warning.map(|w| w.code))
        };
        assert_eq!(auto(0.0, 1.0), (Recipe::None, None));
        assert_eq!(auto(-1024.0, 3071.0), (Recipe::M3dSeg, None));
        assert_eq!(auto(0.0, 255.0), (Recipe::M3dCap, Some("W-HU-01")));
        assert_eq!(auto(0.0, 4095.0), (Recipe::M3dSeg, Some("W-HU-02")));
        let (_, warning) = Recipe::auto(&volume([4; 3], |n| (n * 255 / 63) as f32));
        assert_eq!(
            warning.unwrap().text,
            "values span 0..255; CT in HU spans about -1024..3071: results may be wrong"
        );
    }

    #[test]
    fn none_leaves_a_normalized_volume_as_it_is() {
        let v = volume([4, 5, 6], |n| n as f32 / 119.0);
        let prepared = Recipe::None.apply(&v).unwrap();
        assert_eq!(
            (prepared.to_f32(), prepared.crop()),
            (v.voxels().to_f32().into_owned(), Region::whole([4, 5, 6]))
        );
    }

    #[test]
    fn padded_values_lie_in_the_middle_of_zeros() {
        let v = volume([2, 3, 4], |n| n as f32);
        let prepared = Recipe::Window { level: 12.0, width: 24.0 }.apply(&v).unwrap();
        let padding = Padding::to_at_least(prepared.shape(), [3, 6, 5]);
        let padded = prepared.padded(&padding).unwrap();
        assert_eq!(padded, padding.pad(&prepared.to_f32()).unwrap());
        let other = Padding::to_at_least([3, 3, 3], [4, 4, 4]);
        assert_eq!(prepared.padded(&other).unwrap_err().code(), "R-GEO-02");
    }

    #[test]
    fn a_window_is_cut_from_its_part_and_zero_beyond_it() {
        let v = volume([4, 6, 8], |n| (n + 1) as f32 / 192.0);
        let prepared = Recipe::None.apply(&v).unwrap();
        let all = prepared.to_f32();
        for within in [Region::whole([4, 6, 8]), Region { start: [1, 2, 3], end: [3, 4, 8] }] {
            let padding = Padding::to_at_least(within.shape(), [3, 4, 4]);
            let part = crate::crop(&all, [4, 6, 8], within).unwrap();
            let padded = padding.pad(&part).unwrap();
            for window in crate::sliding::windows(padding.shape, [3, 4, 4], 0.5).unwrap() {
                let expected = crate::crop(&padded, padding.shape, window).unwrap();
                assert_eq!(prepared.window(within, &padding, window).unwrap(), expected);
            }
            let padding = Padding::to_at_least([1; 3], [3, 4, 4]);
            let wrong = prepared.window(within, &padding, Region::whole([3, 4, 4]));
            assert_eq!(wrong.unwrap_err().code(), "R-GEO-02");
        }
        let beyond = Region { start: [0; 3], end: [5, 6, 8] };
        let padding = Padding::to_at_least([5, 6, 8], [1; 3]);
        assert_eq!(prepared.window(beyond, &padding, beyond).unwrap_err().code(), "R-GEO-04");
    }

    #[test]
    fn the_nearest_voxel_is_the_one_at_the_center_of_a_cell() {
        let v = volume([2, 4, 8], |n| n as f32 / 63.0);
        let prepared = Recipe::None.apply(&v).unwrap();
        let cells = prepared.resize_nearest_exact([2, 2, 4]).unwrap();
        let voxels: Vec<usize> = cells.iter().map(|v| (v * 63.0).round() as usize).collect();
        assert_eq!(voxels[..8], [9, 11, 13, 15, 25, 27, 29, 31]);
        assert_eq!(prepared.resize_nearest_exact([2, 4, 8]).unwrap(), prepared.to_f32());
        assert!(prepared.resize_nearest_exact([0, 1, 1]).is_err());
    }

    #[test]
    fn m3d_cap_is_min_max_and_crops_the_darkest_margin() {
        let v = volume([4, 4, 4], |n| {
            if n == 21 {
                200.0
            } else if n == 22 {
                100.0
            } else {
                50.0
            }
        });
        let prepared = Recipe::M3dCap.apply(&v).unwrap();
        assert_eq!(prepared.crop(), Region { start: [1, 1, 1], end: [2, 2, 3] });
        assert_eq!(prepared.to_f32(), [1.0, 1.0 / 3.0]);
        assert_eq!(prepared.rescale().map(|r| r.ends()), Some((50.0, 200.0)));
        assert_eq!(Recipe::None.apply(&v).unwrap().rescale(), None);
    }

    #[test]
    fn a_window_clips_at_half_its_width_either_side() {
        let v = volume([1, 1, 5], |n| [-1000.0, -160.0, 40.0, 240.0, 3000.0][n]);
        let prepared = Recipe::Window { level: 40.0, width: 400.0 }.apply(&v).unwrap();
        assert_eq!(prepared.crop().start, [0, 0, 2]);
        assert_eq!(prepared.to_f32(), [0.5, 1.0, 1.0]);
    }

    #[test]
    fn a_window_beyond_f32_ends_where_f32_does() {
        let v = volume([1, 1, 3], |n| [f32::MIN, -3e38, 0.0][n]);
        let prepared = Recipe::Window { level: -3e38, width: 3e38 }.apply(&v).unwrap();
        let [low, high] = [0, 1].map(|n| prepared.to_f32()[n]);
        assert_eq!(prepared.crop().start, [0, 0, 1]);
        assert!((0.21..0.22).contains(&low) && high == 1.0, "{low} {high}");
    }

    #[test]
    fn m3d_refseg_swaps_the_in_plane_axes_there_and_back() {
        // Column x of row y is 3x + y, the same in both slices.
        let v = volume([2, 3, 4], |n| (n % 4 * 3 + n / 4 % 3) as f32);
        let prepared = Recipe::M3dRefSeg.apply(&v).unwrap();
        assert_eq!((prepared.crop(), prepared.shape()), (Region::whole([2, 3, 4]), [2, 4, 3]));
        assert!(prepared.to_f32()[..12].is_sorted() && prepared.to_f32()[12..].is_sorted());

        let logits: Vec<f32> = prepared.to_f32().iter().map(|v| v - 0.6).collect();
        let mask = prepared.placement().mask_from_logits(&logits, prepared.shape()).unwrap();
        // 0.6 of 0..=11 lies between 6 and 7.
        let expected: Vec<u8> = v.voxels().to_f32().iter().map(|v| u8::from(6.6 < *v)).collect();
        assert_eq!(mask, expected);
    }

    #[test]
    fn a_constant_volume_becomes_zeros_with_a_warning() {
        for recipe in [Recipe::M3dSeg, Recipe::M3dCap, Recipe::M3dRefSeg] {
            let v = volume([4; 3], |_| -1024.0);
            let prepared = recipe.apply(&v).unwrap();
            assert!(prepared.to_f32().iter().all(|v| *v == 0.0));
            assert_eq!(prepared.crop(), Region::whole([4; 3]));
            assert_eq!(prepared.warnings()[0].code, "W-CONST");
        }
    }
}
