//! What there is to say about a volume; with `--json`, as it is.

use std::path::Path;

use anyhow::Result;
use r1seg::files::begins_with;
use r1seg::registry::Family;
use r1seg::volume::{
    IntensityRange, Loaded, Padding, Prepared, Voxels, Warning, intensity, sliding,
};
use r1seg::{Orient, Recipe, SLIDING_OVERLAP};
use r1seg_results::is_whole;
use r1seg_results::report::{SCHEMA_VERSION, SeriesReport, WarningReport, corners, ijk};
use serde::Serialize;

use super::sample::{self, Tissue};
use super::text::join;
use crate::hints;
use crate::input::{is_own_pipe, is_stdin};

/// What gzip files begin with.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Distances of voxels in CT, in mm; others are slips of the header, such as meters.
const PLAUSIBLE_MM: std::ops::RangeInclusive<f64> = 0.05..=25.0;
/// Warnings after which masks may be wrong, and not only what is said about them in mm.
const DOUBTS: [&str; 6] = ["W-AXES", "W-CONST", "W-HU-01", "W-HU-02", "W-LABELS", "W-ORIENT"];

/// All lengths and shapes are in the order of the file, (i, j, k), as in `report.json`.
#[derive(Debug, Serialize)]
pub(super) struct Findings {
    schema_version: u32,
    r1seg_version: &'static str,
    pub(super) input: Input,
    pub(super) intensities: Intensities,
    pub(super) model_view: ModelView,
    warnings: Vec<WarningReport>,
    pub(super) verdict: Verdict,
    research_use_only: bool,
}

/// As in `report.json`, and more.
#[derive(Debug, Serialize)]
pub(super) struct Input {
    pub(super) path: String,
    pub(super) kind: &'static str,
    pub(super) series: Option<SeriesReport>,
    pub(super) bytes: Option<u64>,
    pub(super) compressed: Option<bool>,
    /// `i16` or `f32`: how voxels are kept in memory, which is as stored or wider.
    pub(super) kept_as: &'static str,
    pub(super) shape: [usize; 3],
    pub(super) spacing_mm: Option<[f64; 3]>,
    pub(super) field_of_view_mm: Option<[f64; 3]>,
    pub(super) voxel_volume_mm3: Option<f64>,
    pub(super) orientation: Option<String>,
    /// The largest angle between a voxel axis and the axis of the world that it follows.
    pub(super) oblique_degrees: Option<f64>,
    /// Whether i, j and k are a left-handed system in the world.
    pub(super) left_handed: Option<bool>,
    pub(super) affine: Option<[[f64; 4]; 4]>,
    pub(super) affine_source: &'static str,
    pub(super) intensity_range: Option<[f32; 2]>,
    pub(super) intensity_verdict: Option<&'static str>,
    pub(super) hu_range: Option<[f32; 2]>,
    /// The recipe of `--preprocess auto`.
    pub(super) preprocess: String,
    pub(super) crop: [[usize; 3]; 2],
    /// Of one model voxel in `--mode resize`.
    pub(super) effective_resolution_mm: Option<[f64; 3]>,
}

#[derive(Debug, Serialize)]
pub(super) struct Intensities {
    pub(super) mean: Option<f64>,
    pub(super) percentile_0_5: Option<f32>,
    pub(super) median: Option<f32>,
    pub(super) percentile_99_5: Option<f32>,
    /// Of Hounsfield units only.
    pub(super) tissue: Option<Tissue>,
    /// Number of labels, if this is a label map rather than an image.
    pub(super) labels: Option<usize>,
}

#[derive(Debug, Serialize)]
pub(super) struct ModelView {
    pub(super) grid: [usize; 3],
    /// After `--orient`.
    pub(super) orientation: Option<String>,
    /// The intensities that become 0 and 1; null where they are left alone.
    pub(super) clip: Option<[f32; 2]>,
    /// Number of windows of `--mode sliding`.
    pub(super) sliding_windows: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// Nothing is odd.
    Ok,
    /// Something is not known or was repaired.
    Warnings,
    /// Masks may be wrong.
    Doubtful,
}

/// Where the bytes came from.
pub(super) struct Origin {
    path: String,
    bytes: Option<u64>,
    compressed: Option<bool>,
}

impl Origin {
    pub(super) fn new(path: &Path) -> Self {
        let file = path
            .metadata()
            .ok()
            .filter(|_| !is_stdin(path) && !is_own_pipe(path) && is_whole(path));
        Self {
            path: path.display().to_string(),
            compressed: file.as_ref().map(|_| begins_with(path, 0, &GZIP)),
            bytes: file.map(|meta| meta.len()),
        }
    }
}

impl Findings {
    /// Also all warnings, those about reading first.
    pub(super) fn new(
        origin: &Origin,
        loaded: &Loaded,
        orient: Option<Orient>,
    ) -> Result<(Self, Vec<Warning>)> {
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

        let findings = Self {
            schema_version: SCHEMA_VERSION,
            r1seg_version: env!("CARGO_PKG_VERSION"),
            input: Input {
                path: origin.path.clone(),
                kind: loaded.kind.as_str(),
                series: loaded.series.as_ref().map(SeriesReport::from),
                bytes: origin.bytes,
                compressed: origin.compressed,
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
            warnings: warnings.iter().map(|w| WarningReport::new(w, hints::words)).collect(),
            verdict: verdict(&warnings),
            research_use_only: true,
        };
        Ok((findings, warnings))
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
pub(super) fn is_doubt(warning: &Warning) -> bool {
    DOUBTS.contains(&warning.code)
}

fn windows(prepared: &Prepared, grid: [usize; 3]) -> Result<usize> {
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
