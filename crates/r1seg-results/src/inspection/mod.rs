//! What there is to say about a volume before a model reads it: `inspect.json`
//! (`docs/inspect.schema.json` describes every field).

mod numbers;
mod sample;

use std::path::Path;

use r1seg::files::begins_with;
use r1seg::registry::Family;
use r1seg::volume::{
    IntensityRange, Loaded, Padding, Prepared, Voxels, Warning, intensity, sliding,
};
use r1seg::{Orient, Recipe, Remedy, SLIDING_OVERLAP};
use serde::Serialize;

use crate::is_whole;
use crate::report::{SCHEMA_VERSION, SeriesReport, WarningReport, corners, ijk};
pub use numbers::{join, number};
pub use sample::Tissue;

/// What gzip files begin with.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Distances of voxels in CT, in mm; others are slips of the header, such as meters.
const PLAUSIBLE_MM: std::ops::RangeInclusive<f64> = 0.05..=25.0;
/// Warnings after which masks may be wrong, and not only what is said about them in mm.
const DOUBTS: [&str; 6] = ["W-AXES", "W-CONST", "W-HU-01", "W-HU-02", "W-LABELS", "W-ORIENT"];

/// What was found out about a volume. All lengths and shapes are in the order of the file, (i, j, k), as
/// in `report.json`.
#[derive(Debug, Serialize)]
pub struct Inspection {
    schema_version: u32,
    r1seg_version: &'static str,
    /// The volume.
    pub input: Inspected,
    /// Its voxels.
    pub intensities: Intensities,
    /// What a model gets of it.
    pub model_view: ModelView,
    /// What is odd, with what to do about it in the words of the program.
    pub warnings: Vec<WarningReport>,
    /// All in all.
    pub verdict: Verdict,
    research_use_only: bool,
}

/// A volume: as in `report.json`, and more.
#[derive(Debug, Serialize)]
pub struct Inspected {
    /// As given.
    pub path: String,
    /// The format of the file.
    pub kind: &'static str,
    /// Which DICOM series it is.
    pub series: Option<SeriesReport>,
    /// The size of the file, where it is one.
    pub bytes: Option<u64>,
    /// Whether the file is compressed by gzip, where it is one.
    pub compressed: Option<bool>,
    /// `i16` or `f32`: how voxels are kept in memory, which is as stored or wider.
    pub kept_as: &'static str,
    /// Voxels along i, j and k.
    pub shape: [usize; 3],
    /// Distances of voxels.
    pub spacing_mm: Option<[f64; 3]>,
    /// The size of the whole.
    pub field_of_view_mm: Option<[f64; 3]>,
    /// The size of a voxel.
    pub voxel_volume_mm3: Option<f64>,
    /// Axis codes: the directions that i, j and k grow to.
    pub orientation: Option<String>,
    /// The largest angle between a voxel axis and the axis of the world that it follows.
    pub oblique_degrees: Option<f64>,
    /// Whether i, j and k are a left-handed system in the world.
    pub left_handed: Option<bool>,
    /// From voxels (k, j, i) to mm (RAS+).
    pub affine: Option<[[f64; 4]; 4]>,
    /// What the affine is taken from.
    pub affine_source: &'static str,
    /// Smallest and largest value.
    pub intensity_range: Option<[f32; 2]>,
    /// What the values look like.
    pub intensity_verdict: Option<&'static str>,
    /// The same where they are Hounsfield units.
    pub hu_range: Option<[f32; 2]>,
    /// The recipe that prepares the intensities, where none is chosen.
    pub preprocess: String,
    /// The part that a model sees: its first and last voxel.
    pub crop: [[usize; 3]; 2],
    /// Of one model voxel in mode resize.
    pub effective_resolution_mm: Option<[f64; 3]>,
}

/// How the values of a volume are distributed.
#[derive(Debug, Serialize)]
pub struct Intensities {
    /// The mean.
    pub mean: Option<f64>,
    /// One value in 200 is below.
    pub percentile_0_5: Option<f32>,
    /// The median.
    pub median: Option<f32>,
    /// One value in 200 is above.
    pub percentile_99_5: Option<f32>,
    /// Of Hounsfield units only.
    pub tissue: Option<Tissue>,
    /// Number of labels, if this is a label map rather than an image.
    pub labels: Option<usize>,
}

/// What a model gets of a volume.
#[derive(Debug, Serialize)]
pub struct ModelView {
    /// Voxels of the model along i, j and k.
    pub grid: [usize; 3],
    /// In which the model sees the volume.
    pub orientation: Option<String>,
    /// The intensities that become 0 and 1; null where they are left alone.
    pub clip: Option<[f32; 2]>,
    /// Number of windows in mode sliding.
    pub sliding_windows: usize,
}

/// Whether a volume can be used as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing is odd.
    Ok,
    /// Something is not known or was repaired.
    Warnings,
    /// Masks may be wrong.
    Doubtful,
}

/// The file that a volume was read from.
#[derive(Debug, Default)]
pub struct SourceFile {
    path: String,
    bytes: Option<u64>,
    compressed: Option<bool>,
}

impl SourceFile {
    /// A file or a folder. Of a folder, and of a header with its voxels beside it, there is nothing to
    /// say but the path.
    pub fn at(path: &Path) -> Self {
        let file = path.metadata().ok().filter(|_| is_whole(path));
        Self {
            compressed: file.as_ref().map(|_| begins_with(path, 0, &GZIP)),
            bytes: file.map(|meta| meta.len()),
            ..Self::stream(path)
        }
    }

    /// A stream that is called `path`.
    pub fn stream(path: &Path) -> Self {
        Self { path: path.display().to_string(), ..Self::default() }
    }
}

impl Inspection {
    /// Looks at a volume, which a model is to see in an orientation, or as its recipe says. `words` says
    /// what to do about a warning in the terms of the program. Also all warnings, those about reading
    /// first.
    ///
    /// # Errors
    /// When the volume cannot be turned to the orientation or prepared.
    pub fn new(
        source: SourceFile,
        loaded: &Loaded,
        orient: Option<Orient>,
        words: fn(&Remedy) -> String,
    ) -> Result<(Self, Vec<Warning>), r1seg::Error> {
        // No model was named: that of the published ones.
        let grid = Family::R1Seg3d.capabilities().input_shape;
        let volume = &loaded.volume;
        let (voxels, geometry) = (volume.voxels(), volume.geometry());
        let range = intensity::min_max(voxels);
        let kind = range.map(|(low, high)| IntensityRange::of(low, high));
        let is_hu = kind == Some(IntensityRange::Hu);
        let ends = range.map(|(low, high)| [low, high]);
        let percentiles = intensity::percentiles(voxels, [0.5, 50.0, 99.5]);

        let mut warnings = loaded.warnings.clone();
        let spacing = geometry.spacing_mm();
        if let Some(mm) = spacing.filter(|mm| mm.iter().any(|mm| !PLAUSIBLE_MM.contains(mm))) {
            let text = format!("a voxel of {} mm is unlike CT", join(ijk(mm)));
            let fix = "check the header: all sizes in mm and mL depend on it";
            warnings.push(Warning::new("W-SPACING", text).with_remedy(fix));
        }
        let (recipe, warning) = Recipe::auto(volume);
        let labels = sample::labels(volume);
        warnings.extend(labels.map(looks_like_labels).or(warning));
        let turn = orient.unwrap_or(recipe.orient());
        let seen = turn.orientation_of(geometry);
        let known = seen.filter(|_| !geometry.has_guessed_sides());
        warnings.extend(known.and_then(|seen| seen.doubt(None)));
        let axes = turn.axes(geometry)?;
        let prepared = recipe.apply(volume, orient)?;
        warnings.extend(prepared.warnings().iter().cloned());
        let crop = prepared.crop();
        let shape = volume.shape();

        let inspection = Self {
            schema_version: SCHEMA_VERSION,
            r1seg_version: env!("CARGO_PKG_VERSION"),
            input: Inspected {
                path: source.path,
                kind: loaded.kind.as_str(),
                series: loaded.series.as_ref().map(SeriesReport::from),
                bytes: source.bytes,
                compressed: source.compressed,
                kept_as: match voxels {
                    Voxels::I16 { .. } => "i16",
                    Voxels::F32(_) => "f32",
                },
                shape: ijk(shape),
                spacing_mm: spacing.map(ijk),
                field_of_view_mm: spacing
                    .map(|mm| ijk(std::array::from_fn(|n| mm[n] * shape[n] as f64))),
                voxel_volume_mm3: geometry.voxel_volume_mm3(),
                orientation: geometry.orientation().map(|o| o.to_string()),
                oblique_degrees: geometry.obliquity_degrees(),
                left_handed: geometry.is_left_handed(),
                affine: geometry.affine().copied(),
                affine_source: geometry.affine_source().as_str(),
                intensity_range: ends,
                intensity_verdict: kind.map(IntensityRange::as_str),
                hu_range: ends.filter(|_| is_hu),
                preprocess: recipe.to_string(),
                crop: corners(crop),
                effective_resolution_mm: prepared
                    .map()
                    .clone()
                    .fitted(grid)?
                    .resolution_mm(geometry)
                    .map(ijk),
            },
            intensities: Intensities {
                mean: intensity::mean(voxels),
                percentile_0_5: percentiles.map(|p| p[0]),
                median: percentiles.map(|p| p[1]),
                percentile_99_5: percentiles.map(|p| p[2]),
                tissue: if is_hu { sample::tissue(volume) } else { None },
                labels,
            },
            model_view: ModelView {
                grid: ijk(axes.inverse().shape(grid)),
                orientation: seen.map(|o| o.to_string()),
                clip: prepared.rescale().map(|rescale| rescale.ends().into()),
                sliding_windows: windows(&prepared, grid)?,
            },
            warnings: warnings.iter().map(|w| WarningReport::new(w, words)).collect(),
            verdict: verdict(&warnings),
            research_use_only: true,
        };
        Ok((inspection, warnings))
    }

    /// What the voxels are, in a few words, without the name of the file, which may be a patient's.
    pub fn looks_like(&self) -> String {
        match (self.intensities.labels, self.input.intensity_verdict) {
            (Some(labels), _) => format!("a mask or label map of {labels} values, not a CT"),
            (_, Some("hu")) => "CT in Hounsfield units".to_string(),
            (_, Some("unit")) => "already normalized to 0..1".to_string(),
            (_, Some("byte")) => "0..255: a picture, or CT that was windowed".to_string(),
            (_, Some("constant")) => "one value everywhere: there is nothing to see".to_string(),
            _ => "unlike Hounsfield units: not CT, or CT without its rescaling".to_string(),
        }
    }
}

impl Verdict {
    /// `ok`, `warnings` or `doubtful`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warnings => "warnings",
            Self::Doubtful => "doubtful",
        }
    }
}

fn looks_like_labels(labels: usize) -> Warning {
    let text = format!(
        "the voxels are {labels} different whole numbers: this looks like a mask or label map, \
         not a CT"
    );
    Warning::new("W-LABELS", text).with_remedy("name the CT that the mask belongs to")
}

fn verdict(warnings: &[Warning]) -> Verdict {
    if warnings.iter().any(is_doubt) {
        Verdict::Doubtful
    } else if warnings.is_empty() {
        Verdict::Ok
    } else {
        Verdict::Warnings
    }
}

/// Whether masks may be wrong because of this.
pub fn is_doubt(warning: &Warning) -> bool {
    DOUBTS.contains(&warning.code)
}

fn windows(prepared: &Prepared, grid: [usize; 3]) -> Result<usize, r1seg::Error> {
    let padded = Padding::to_at_least(prepared.shape(), grid).shape;
    Ok(sliding::windows(padded, grid, SLIDING_OVERLAP)?.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_about_position_are_no_doubt_about_the_masks() {
        let of = |codes: &[&'static str]| {
            let warnings: Vec<_> = codes.iter().map(|code| Warning::new(code, "x")).collect();
            verdict(&warnings)
        };
        assert_eq!(of(&[]), Verdict::Ok);
        assert_eq!(of(&["W-GEOM"]), Verdict::Warnings);
        assert_eq!(of(&["W-GEOM", "W-HU-02"]), Verdict::Doubtful);
    }
}
