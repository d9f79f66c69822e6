//! The recipes of the published models, by name.

use std::fmt;
use std::str::FromStr;

use r1seg_volume::intensity::min_max;
use r1seg_volume::{
    AxisMap, Ends, IntensityRange, Orient, Orientation, Prepared, SpacingConvention, Step, Volume,
    Warning,
};

use crate::Error;

/// A named list of the [`Step`]s from a stored volume to what a model was trained on.
///
/// Some models look at a part of what these steps make of it, a crop of the size of their grid:
/// [`Recipe::crop_steps`] are those that come after the crop.
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
    /// `sam-med3d`: voxels of 1.5 mm, RAS, with axes in the order x, y, z; then each crop by the mean and
    /// the standard deviation of its values above 0.
    SamMed3d,
    /// `sam-med3d-centered`: the same with the grid that torchio makes from version 0.20.11 on.
    SamMed3dCentered,
    /// `neurosam3d`: RAS, with axes in the order x, y, z; percentiles 0.05 and 99.95 of the volume become
    /// -1 and 1; then each crop as in `sam-med3d`.
    NeuroSam3d,
    /// `vista3d`: voxels of 1.5 mm, 15 mm around those above 0 HU, RAS, with axes in the order x, y, z;
    /// from -963.8 and 1053.7 HU to 0 and 1.
    Vista3d,
    /// `vista3d-ctmr`: the same with percentiles 1 and 99 of what was cropped.
    Vista3dCtmr,
    /// `hsenet`: -1000 to 200 HU, voxels of 1.5 x 0.75 x 0.75 mm, the last two axes exchanged, from the smallest
    /// to the largest value, cropped to what is above the smallest. Beside it slices of the volume
    /// ([`SliceRecipe`](r1seg_volume::SliceRecipe)).
    Hsenet,
    /// `hsenet-as-published`: the same, but a scan with at least as many slices as it has voxels along the
    /// first axis of its file is cut into slices along that axis, as the authors' script does it.
    HsenetAsPublished,
}

/// The ends of intensities that VISTA3D was trained with, in HU.
const VISTA3D_HU: [f32; 2] = [-963.824_77, 1_053.678_5];

/// A recipe without a parameter.
struct Named {
    recipe: Recipe,
    name: &'static str,
    steps: &'static [Step],
    crop_steps: &'static [Step],
}

impl Named {
    const fn new(recipe: Recipe, name: &'static str, steps: &'static [Step]) -> Self {
        Self { recipe, name, steps, crop_steps: &[] }
    }

    const fn and_each_crop(self, crop_steps: &'static [Step]) -> Self {
        Self { crop_steps, ..self }
    }
}

/// `CT-RATE_nii_to_3D_volume_npy_file.py` of HSENet.
const HSENET: &[Step] = &[
    Step::Clip { low: -1000.0, high: 200.0 },
    Step::Space { mm: [1.5, 0.75, 0.75], convention: SpacingConvention::CtRate },
    Step::Turn(AxisMap::TRANSPOSED),
    Step::Rescale(Ends::MinMax),
    Step::CropForeground { margin: 0 },
];

const NAMED: [Named; 11] = [
    Named::new(Recipe::None, "none", &[]),
    // `ForegroundNormalization` in `m3d_seg_data_preprocess.py`.
    Named::new(
        Recipe::M3dSeg,
        "m3d-seg",
        &[
            Step::Rescale(Ends::PercentilesAboveMean([0.05, 99.95])),
            Step::CropForeground { margin: 0 },
        ],
    ),
    Named::new(
        Recipe::M3dCap,
        "m3d-cap",
        &[Step::Rescale(Ends::MinMax), Step::CropForeground { margin: 0 }],
    ),
    // `ScaleIntensityRangePercentilesd` in `m3d_refseg_data_prepare.py`.
    Named::new(
        Recipe::M3dRefSeg,
        "m3d-refseg",
        &[
            Step::Rescale(Ends::Percentiles([0.5, 99.5])),
            Step::CropForeground { margin: 0 },
            Step::Turn(AxisMap::TRANSPOSED),
        ],
    ),
    // `utils/infer_utils.py`.
    Named::new(
        Recipe::SamMed3d,
        "sam-med3d",
        &[
            Step::Space { mm: [1.5; 3], convention: SpacingConvention::ItkCeil },
            Step::Orient(Orientation::RAS),
            Step::Turn(AxisMap::REVERSED_ORDER),
        ],
    )
    .and_each_crop(&[Step::NormalizePositive]),
    Named::new(
        Recipe::SamMed3dCentered,
        "sam-med3d-centered",
        &[
            Step::Space { mm: [1.5; 3], convention: SpacingConvention::ItkCentered },
            Step::Orient(Orientation::RAS),
            Step::Turn(AxisMap::REVERSED_ORDER),
        ],
    )
    .and_each_crop(&[Step::NormalizePositive]),
    Named::new(
        Recipe::NeuroSam3d,
        "neurosam3d",
        &[
            Step::Orient(Orientation::RAS),
            Step::Turn(AxisMap::REVERSED_ORDER),
            Step::RescaleSigned(Ends::Percentiles([0.05, 99.95])),
        ],
    )
    .and_each_crop(&[Step::NormalizePositive]),
    // `configs/inference.json` of NV-Segment-CT.
    Named::new(
        Recipe::Vista3d,
        "vista3d",
        &[
            Step::Space { mm: [1.5; 3], convention: SpacingConvention::Monai },
            Step::CropForeground { margin: 10 },
            Step::Rescale(Ends::Fixed { low: VISTA3D_HU[0], high: VISTA3D_HU[1] }),
            Step::Orient(Orientation::RAS),
            Step::Turn(AxisMap::REVERSED_ORDER),
        ],
    ),
    Named::new(
        Recipe::Vista3dCtmr,
        "vista3d-ctmr",
        &[
            Step::Space { mm: [1.5; 3], convention: SpacingConvention::Monai },
            Step::CropForeground { margin: 10 },
            Step::Rescale(Ends::Percentiles([1.0, 99.0])),
            Step::Orient(Orientation::RAS),
            Step::Turn(AxisMap::REVERSED_ORDER),
        ],
    ),
    Named::new(Recipe::Hsenet, "hsenet", HSENET),
    Named::new(Recipe::HsenetAsPublished, "hsenet-as-published", HSENET),
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

    fn named(&self) -> Option<&'static Named> {
        NAMED.iter().find(|named| named.recipe == *self)
    }

    /// Whether it is of use to any model that has no recipe of its own.
    pub(crate) fn is_general(&self) -> bool {
        use Recipe::{M3dCap, M3dRefSeg, M3dSeg, None, Window};
        matches!(self, None | M3dSeg | M3dCap | M3dRefSeg | Window { .. })
    }

    /// What is done to a volume, in this order.
    pub fn steps(&self) -> Vec<Step> {
        if let Self::Window { level, width } = self {
            let end = |half: f32| (level + half).clamp(f32::MIN, f32::MAX);
            let ends = Ends::Fixed { low: end(-width / 2.0), high: end(width / 2.0) };
            return vec![Step::Rescale(ends), Step::CropForeground { margin: 0 }];
        }
        self.named().map_or_else(Vec::new, |named| named.steps.to_vec())
    }

    /// What is then done to each crop, in this order, by [`Prepared::then`]; nothing for models that look
    /// at the whole.
    pub fn crop_steps(&self) -> &'static [Step] {
        self.named().map_or(&[], |named| named.crop_steps)
    }

    /// The intensities that become 0 and 1, where these are the same for all volumes.
    pub(crate) fn hu_range(&self) -> Option<[f32; 2]> {
        self.steps().iter().find_map(|step| match step {
            Step::Rescale(Ends::Fixed { low, high }) => Some([*low, *high]),
            _ => None,
        })
    }

    /// The orientation in which a model sees a volume unless another one is asked for.
    pub fn orient(&self) -> Orient {
        let orientation =
            self.named().into_iter().flat_map(|named| named.steps).find_map(orientation);
        orientation.map_or(Orient::Stored, Orient::To)
    }

    /// Prepares a volume, as a model sees it in the orientation `orient`, or in that of the recipe. Nothing
    /// is copied until it is used, or until voxels change their size.
    ///
    /// # Errors
    /// When an orientation is asked for and that of the volume is not known, or its spacing is not where
    /// voxels change their size; for a volume without voxels.
    pub fn apply(&self, volume: &Volume, orient: Option<Orient>) -> Result<Prepared, Error> {
        let mut steps = self.steps();
        if let Some(orient) = orient {
            let own = steps.iter().position(|step| orientation(step).is_some());
            let turned = match orient {
                Orient::Stored => None,
                Orient::To(orientation) => Some(Step::Orient(orientation)),
            };
            let at = own.unwrap_or(0);
            steps.splice(at..at + usize::from(own.is_some()), turned);
        }
        Ok(r1seg_volume::prepare(volume, &steps)?)
    }
}

fn orientation(step: &Step) -> Option<Orientation> {
    match step {
        Step::Orient(orientation) => Some(*orientation),
        _ => None,
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Window { level, width } = self {
            return write!(f, "window:{level},{width}");
        }
        self.named().map_or(Ok(()), |named| f.write_str(named.name))
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
        let named = NAMED.iter().find(|named| named.name == text).map(|named| named.recipe);
        let recipe = named.or_else(|| text.strip_prefix("window:").and_then(window));
        recipe.ok_or_else(|| Error::Recipe { text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use r1seg_volume::Geometry;

    use super::*;

    fn volume(shape: [usize; 3], value: impl Fn(usize) -> f32) -> Volume {
        let geometry = Geometry::without_affine(shape);
        let values: Vec<f32> = (0..geometry.voxels()).map(value).collect();
        Volume::new(values, geometry).unwrap()
    }

    #[test]
    fn names_are_parsed_and_printed() {
        let named = NAMED.iter().map(|named| named.name);
        for name in named.chain(["window:40,400", "window:-600,1500"]) {
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
        let prepared = window.apply(&v, None).unwrap();
        assert_eq!(prepared.crop().start, [0, 0, 2]);
        assert_eq!(prepared.to_f32(), [0.5, 1.0, 1.0]);
        let beyond = Recipe::Window { level: -3e38, width: 3e38 };
        let v = volume([1, 1, 3], |n| [f32::MIN, -3e38, 0.0][n]);
        let prepared = beyond.apply(&v, None).unwrap();
        assert_eq!(prepared.rescale().unwrap().ends().0, f32::MIN);
        let [low, high] = [0, 1].map(|n| prepared.to_f32()[n]);
        assert_eq!(prepared.crop().start, [0, 0, 1]);
        assert!((0.21..0.22).contains(&low) && high == 1.0, "{low} {high}");
    }

    /// i to the posterior, j to the left and k upwards, 2 x 3 x 4 mm (i, j, k).
    fn placed() -> Volume {
        let affine = [
            [0.0, -3.0, 0.0, 9.0],
            [-2.0, 0.0, 0.0, 8.0],
            [0.0, 0.0, 4.0, -7.0],
            [0.0, 0.0, 0.0, 1.0],
        ];
        let geometry = Geometry::with_affine([4, 6, 8], affine).unwrap();
        Volume::new((0..192).map(|n| n * 79 % 701 - 300).collect::<Vec<i16>>(), geometry).unwrap()
    }

    #[test]
    fn a_recipe_has_an_orientation_of_its_own_until_another_one_is_asked_for() {
        let v = placed();
        for named in &NAMED {
            let (own, order) = match named.recipe {
                Recipe::SamMed3d
                | Recipe::SamMed3dCentered
                | Recipe::NeuroSam3d
                | Recipe::Vista3d
                | Recipe::Vista3dCtmr => (Orient::To(Orientation::RAS), AxisMap::REVERSED_ORDER),
                Recipe::M3dRefSeg | Recipe::Hsenet | Recipe::HsenetAsPublished => {
                    (Orient::Stored, AxisMap::TRANSPOSED)
                }
                _ => (Orient::Stored, AxisMap::IDENTITY),
            };
            let seen = |orient| {
                let prepared = named.recipe.apply(&v, orient).unwrap();
                // With its axes in the order of a file again.
                let map = prepared.map().clone().turned(order);
                map.geometry(v.geometry()).unwrap().orientation()
            };
            let lps = Orient::To(Orientation::LPS);
            for (orient, expected) in
                [(None, own), (Some(lps), lps), (Some(Orient::Stored), Orient::Stored)]
            {
                assert_eq!(seen(orient), expected.orientation_of(v.geometry()), "{}", named.name);
            }
            assert_eq!(named.recipe.orient(), own);
        }
        let bare = volume([4; 3], |n| n as f32);
        let needs =
            |recipe: Recipe, orient| recipe.apply(&bare, orient).map(|_| ()).map_err(|e| e.code());
        assert_eq!(needs(Recipe::NeuroSam3d, None), Err("R-GEO-11"));
        assert_eq!(needs(Recipe::NeuroSam3d, Some(Orient::Stored)), Ok(()));
        assert_eq!(needs(Recipe::SamMed3d, Some(Orient::Stored)), Err("R-GEO-14"));
        assert_eq!(needs(Recipe::M3dSeg, Some(Orient::To(Orientation::RAS))), Err("R-GEO-11"));
    }

    #[test]
    fn voxels_change_their_size_before_they_are_turned() {
        let v = placed();
        for (recipe, shape) in [
            // 6 x 3, 8 x 2 and 4 x 4 mm along x, y and z.
            (Recipe::SamMed3d, [12, 11, 11]),
            (Recipe::SamMed3dCentered, [12, 10, 10]),
            (Recipe::NeuroSam3d, [6, 8, 4]),
        ] {
            let prepared = recipe.apply(&v, None).unwrap();
            assert_eq!(prepared.shape(), shape);
            let stored = recipe.apply(&v, Some(Orient::Stored)).unwrap();
            // To the right and forward are against the stored j and i.
            let ras = AxisMap::between("PLS".parse().unwrap(), Orientation::RAS);
            let [x, y, z] = stored.shape();
            let zyx = AxisMap::REVERSED_ORDER.data(&stored.to_f32(), [x, y, z]).unwrap();
            let turned = ras.data(&zyx, [z, y, x]).unwrap();
            let [z, y, x] = ras.shape([z, y, x]);
            assert_eq!(
                AxisMap::REVERSED_ORDER.data(&turned, [z, y, x]).unwrap(),
                prepared.to_f32()
            );
        }
    }

    #[test]
    fn a_crop_has_mean_0_and_deviation_1_where_it_was_above_0() {
        let v = placed();
        for recipe in [Recipe::SamMed3d, Recipe::SamMed3dCentered, Recipe::NeuroSam3d] {
            let window = Step::Window { start: [-2, 1, 1], shape: [6, 7, 3] };
            let crop = recipe.apply(&v, None).unwrap().then(&[window]).unwrap();
            let normalized = crop.then(recipe.crop_steps()).unwrap().to_f32();
            let values = crop.to_f32();
            let above = |n: &usize| 0.0 < values[*n];
            let of: Vec<f64> = (0..126).filter(above).map(|n| f64::from(normalized[n])).collect();
            let mean = of.iter().sum::<f64>() / of.len() as f64;
            let squares: f64 = of.iter().map(|v| v * v).sum();
            assert!(mean.abs() < 1e-6, "{mean}");
            assert!((squares / (of.len() as f64 - 1.0) - 1.0).abs() < 1e-5, "{squares}");
            // Padding was 0, which is less.
            assert!(normalized[..42].iter().all(|v| *v == normalized[0] && *v < 0.0));
        }
        assert!(Recipe::M3dSeg.crop_steps().is_empty());
    }
}
