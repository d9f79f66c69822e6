//! The recipes of the published models, and how a volume becomes a model's input: its intensities and
//! its orientation.

use std::fmt;
use std::str::FromStr;

use r1seg_diagnostic::Remedy;
use r1seg_volume::intensity::min_max;
use r1seg_volume::{
    AxisMap, Ends, IntensityRange, Orient, Orientation, Prepared, Step, Volume, Warning,
};

use crate::{Error, Preprocess};

/// A named list of the [`Step`]s from a stored volume to what a model was trained on.
///
/// None of these resamples to a spacing: their models were trained on voxels as stored.
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

/// The recipes without a parameter.
const NAMED: [(Recipe, &str, &[Step]); 4] = [
    (Recipe::None, "none", &[]),
    // `ForegroundNormalization` in `m3d_seg_data_preprocess.py`.
    (
        Recipe::M3dSeg,
        "m3d-seg",
        &[Step::Rescale(Ends::PercentilesAboveMean([0.05, 99.95])), Step::CropForeground],
    ),
    (Recipe::M3dCap, "m3d-cap", &[Step::Rescale(Ends::MinMax), Step::CropForeground]),
    // `ScaleIntensityRangePercentilesd` in `m3d_refseg_data_prepare.py`.
    (
        Recipe::M3dRefSeg,
        "m3d-refseg",
        &[
            Step::Rescale(Ends::Percentiles([0.5, 99.5])),
            Step::CropForeground,
            Step::Turn(AxisMap::TRANSPOSED),
        ],
    ),
];

impl Recipe {
    /// The recipe that fits the volume's range of values, and a warning where the range is not that
    /// of CT.
    ///
    /// `0..=1` gives [`Recipe::None`], HU [`Recipe::M3dSeg`], `0..=255` [`Recipe::M3dCap`], anything
    /// else [`Recipe::M3dSeg`], whose result does not depend on an offset or a factor.
    pub fn auto(volume: &Volume) -> (Self, Option<Warning>) {
        let Some((low, high)) = min_max(volume.voxels()) else {
            return (Self::None, None);
        };
        let unlike_hu = |code| {
            let text = format!(
                "values span {low}..{high}; CT in HU spans about -1024..3071: results may be wrong"
            );
            Warning::new(code, text).with_remedy("give the volume in HU")
        };
        match IntensityRange::of(low, high) {
            IntensityRange::Unit => (Self::None, None),
            IntensityRange::Byte => (Self::M3dCap, Some(unlike_hu("W-HU-01"))),
            IntensityRange::Other => (Self::M3dSeg, Some(unlike_hu("W-HU-02"))),
            _ => (Self::M3dSeg, None),
        }
    }

    /// What is done to a volume, in this order.
    pub fn steps(&self) -> Vec<Step> {
        if let Self::Window { level, width } = self {
            let end = |half: f32| (level + half).clamp(f32::MIN, f32::MAX);
            let ends = Ends::Fixed { low: end(-width / 2.0), high: end(width / 2.0) };
            return vec![Step::Rescale(ends), Step::CropForeground];
        }
        let named = NAMED.iter().find(|(recipe, ..)| recipe == self);
        named.map_or_else(Vec::new, |(.., steps)| steps.to_vec())
    }

    /// Prepares a volume, as a model sees it in the orientation `orient`; nothing is copied until it is
    /// used.
    ///
    /// # Errors
    /// When `orient` needs an orientation that is not known, and for a volume without voxels.
    pub fn apply(&self, volume: &Volume, orient: Orient) -> Result<Prepared, Error> {
        let mut steps = vec![Step::Turn(orient.axes(volume.geometry())?)];
        steps.extend(self.steps());
        Ok(r1seg_volume::prepare(volume, &steps, None)?)
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Window { level, width } = self {
            return write!(f, "window:{level},{width}");
        }
        let named = NAMED.iter().find(|(recipe, ..)| recipe == self);
        named.map_or(Ok(()), |(_, name, _)| f.write_str(name))
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
        let named = NAMED.iter().find(|(_, name, _)| *name == text).map(|(recipe, ..)| *recipe);
        let recipe = named.or_else(|| text.strip_prefix("window:").and_then(window));
        recipe.ok_or_else(|| Error::Recipe { text: text.to_owned() })
    }
}

/// A volume after its recipe.
#[derive(Debug)]
pub(crate) struct Preparation {
    pub(crate) recipe: Recipe,
    /// In which the model sees it; `None` where that is not known.
    pub(crate) orientation: Option<Orientation>,
    prepared: Prepared,
    /// From the stored axes to those that the model sees.
    axes: AxisMap,
    warnings: Vec<Warning>,
}

/// Applies a recipe, or the one that the volume's values ask for, and turns the axes to the orientation
/// that the model is to see. `trained_on` is the orientation of a model that has seen only one.
///
/// # Errors
/// When the volume cannot be prepared.
pub(crate) fn prepare(
    volume: &Volume,
    preprocess: Preprocess,
    orient: Orient,
    trained_on: Option<Orientation>,
) -> Result<Preparation, Error> {
    let geometry = volume.geometry();
    let (axes, orientation) = (orient.axes(geometry)?, orient.orientation_of(geometry));
    let known = orientation.filter(|_| !geometry.has_guessed_sides());
    let mut warnings: Vec<Warning> =
        known.and_then(|seen| seen.doubt(trained_on)).into_iter().collect();
    let recipe = match preprocess {
        Preprocess::Recipe(recipe) => recipe,
        Preprocess::Auto => {
            let (recipe, warning) = Recipe::auto(volume);
            warnings.extend(warning);
            recipe
        }
    };
    let prepared = recipe.apply(volume, orient)?;
    if let Some((low, high)) = min_max(volume.voxels()).filter(|_| recipe == Recipe::None) {
        if low < 0.0 || 1.0 < high {
            let text = format!("values span {low}..{high}, but recipe `none` expects 0..1");
            warnings.push(Warning::new("W-RANGE", text).with_remedy(Remedy::UseRecipe));
        }
        if high <= low {
            let text = format!("no voxel stands out: all of them are {low}, and become 0");
            warnings.push(Warning::new("W-CONST", text));
        }
    }
    warnings.extend(prepared.warnings().iter().cloned());
    Ok(Preparation { recipe, orientation, prepared, axes, warnings })
}

impl Preparation {
    /// What a person should know; `grid` is what the volume was resized to, if it was.
    pub(crate) fn warnings(&self, grid: Option<[usize; 3]>) -> Vec<Warning> {
        let mut warnings = self.warnings.clone();
        let shape = self.prepared.shape();
        if let Some(grid) = grid.filter(|grid| self.recipe == Recipe::None && shape != *grid) {
            // Along the axes of the file, as everything that is said about a volume.
            let ijk = |shape| {
                let [d, h, w] = self.axes.inverse().shape(shape);
                format!("{w} x {h} x {d}")
            };
            let (shape, grid) = (ijk(shape), ijk(grid));
            let text = format!("the volume of {shape} voxels (i, j, k) was resized to {grid}");
            warnings.push(Warning::new("W-GRID", text));
        }
        warnings
    }
}

impl std::ops::Deref for Preparation {
    type Target = Prepared;

    fn deref(&self) -> &Prepared {
        &self.prepared
    }
}

#[cfg(test)]
mod tests {
    use r1seg_volume::{Geometry, Region};

    use super::*;

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
            assert_eq!((error.code(), error.kind()), ("R-PRE-01", crate::ErrorKind::Usage));
        }
    }

    #[test]
    fn p6_the_range_of_values_decides_how_they_are_prepared() {
        let auto = |low: f32, high: f32| {
            let (recipe, warning) =
                Recipe::auto(&volume([4; 3], |n| if n % 2 == 0 { low } else { high }));
            (recipe, warning.map(|w| w.code))
        };
        assert_eq!(auto(0.0, 1.0), (Recipe::None, None));
        assert_eq!(auto(-1024.0, 3071.0), (Recipe::M3dSeg, None));
        assert_eq!(auto(-1024.0, -1024.0), (Recipe::M3dSeg, None));
        assert_eq!(auto(0.0, 255.0), (Recipe::M3dCap, Some("W-HU-01")));
        assert_eq!(auto(0.0, 4095.0), (Recipe::M3dSeg, Some("W-HU-02")));
        let (_, warning) = Recipe::auto(&volume([4; 3], |n| (n * 255 / 63) as f32));
        assert_eq!(
            warning.unwrap().text,
            "values span 0..255; CT in HU spans about -1024..3071: results may be wrong"
        );
    }

    #[test]
    fn a_window_clips_at_half_its_width_either_side() {
        let v = volume([1, 1, 5], |n| [-1000.0, -160.0, 40.0, 240.0, 3000.0][n]);
        let window = Recipe::Window { level: 40.0, width: 400.0 };
        let prepared = window.apply(&v, Orient::Stored).unwrap();
        assert_eq!(prepared.crop().start, [0, 0, 2]);
        assert_eq!(prepared.to_f32(), [0.5, 1.0, 1.0]);
        let beyond = Recipe::Window { level: -3e38, width: 3e38 };
        let v = volume([1, 1, 3], |n| [f32::MIN, -3e38, 0.0][n]);
        let prepared = beyond.apply(&v, Orient::Stored).unwrap();
        assert_eq!(prepared.rescale().unwrap().ends().0, f32::MIN);
        let [low, high] = [0, 1].map(|n| prepared.to_f32()[n]);
        assert_eq!(prepared.crop().start, [0, 0, 1]);
        assert!((0.21..0.22).contains(&low) && high == 1.0, "{low} {high}");
    }

    #[test]
    fn every_recipe_tells_of_a_constant_volume() {
        let v = volume([4; 3], |_| -1024.0);
        for recipe in [Recipe::None, Recipe::M3dSeg, Recipe::M3dCap, Recipe::M3dRefSeg] {
            let prepared = prepare(&v, Preprocess::Recipe(recipe), Orient::Stored, None).unwrap();
            let warnings = prepared.warnings(None);
            let warning = warnings.iter().find(|warning| warning.code == "W-CONST").unwrap();
            let text = "no voxel stands out: all of them are -1024, and become 0";
            assert_eq!((&*warning.text, prepared.crop()), (text, Region::whole([4; 3])));
        }
        let zeros = Recipe::Window { level: 40.0, width: 400.0 };
        let prepared = zeros.apply(&v, Orient::Stored).unwrap();
        assert_eq!(
            prepared.warnings()[0].text,
            "no voxel stands out: all of them are -160 or less, and become 0"
        );
    }
}
