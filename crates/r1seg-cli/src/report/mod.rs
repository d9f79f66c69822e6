//! `report.json`: what was asked, what was found, and how. `docs/report.schema.json` describes
//! every field.

mod answer;
mod segment;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use r1seg::volume::{
    ChosenSeries, Geometry, IntensityRange, Mask, Orientation, Region, Volume, Warning, mask_stats,
};
use r1seg::{Answer, AskOptions, EncodedVolume, R1SegModel, Sampling, Separator};
use serde::Serialize;

use crate::input::Input as Volumes;
use crate::organs::Organ;
use crate::study::ModelName;
pub(crate) use answer::AnswerReport;
use answer::{Said, TimingsMs};
pub(crate) use answer::{corners, ms};
pub(crate) use segment::{Asked, SegmentReport};

/// Raised when a field changes its meaning or goes away.
pub(crate) const SCHEMA_VERSION: u32 = 2;

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    schema_version: u32,
    r1seg_version: &'static str,
    git: Option<&'static str>,
    model: Model,
    device: String,
    sampling: SamplingReport,
    max_new_tokens: usize,
    separator: &'static str,
    first_seg: bool,
    abstain: bool,
    /// That the prompts are about: the first and the last voxel, (i, j, k).
    asked_box: Option<[[usize; 3]; 2]>,
    input: Input,
    /// Of the results.
    output_folder: Option<String>,
    /// The one answer once more, where there is one only.
    #[serde(flatten)]
    only: Option<Said>,
    pub(crate) answers: Vec<AnswerReport>,
    pub(crate) masks: Vec<MaskReport>,
    pub(crate) timings_ms: TimingsMs,
    peak_rss_mb: Option<f64>,
    peak_vram_mb: Option<f64>,
    pub(crate) warnings: Vec<WarningReport>,
    research_use_only: bool,
}

#[derive(Debug, Serialize)]
struct Model {
    id: String,
    revision: Option<String>,
    sha256: Option<String>,
    model_type: String,
    dtype: &'static str,
    quant: Option<String>,
    num_clicks: usize,
}

impl Model {
    fn new(name: &ModelName, model_type: &str, dtype: &'static str, num_clicks: usize) -> Self {
        Self {
            id: name.id.clone(),
            revision: name.revision.clone(),
            sha256: None,
            model_type: model_type.to_string(),
            dtype,
            quant: None,
            num_clicks,
        }
    }
}

/// Without draws at random there is nothing to name but the temperature.
#[derive(Debug, Serialize)]
struct SamplingReport {
    temperature: f64,
    top_k: Option<usize>,
    top_p: Option<f64>,
    seed: Option<u64>,
}

/// All three axes are in the order of the file, (i, j, k).
#[derive(Debug, Serialize)]
struct Input {
    path: String,
    sha256: Option<String>,
    kind: String,
    series: Option<SeriesReport>,
    shape: [usize; 3],
    spacing_mm: Option<[f64; 3]>,
    orientation: Option<String>,
    seen_orientation: Option<String>,
    affine: Option<[[f64; 4]; 4]>,
    affine_source: &'static str,
    intensity_range: Option<[f32; 2]>,
    intensity_verdict: Option<&'static str>,
    hu_range: Option<[f32; 2]>,
    preprocess: String,
    mode: String,
    crop: [[usize; 3]; 2],
    effective_resolution_mm: Option<[f64; 3]>,
}

/// Which series of a DICOM folder or archive.
#[derive(Debug, Serialize)]
pub(crate) struct SeriesReport {
    number: usize,
    of: usize,
    id: String,
}

/// `2 of 3, id 43f9c1d2a0b7`.
impl std::fmt::Display for SeriesReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}, id {}", self.number, self.of, self.id)
    }
}

impl From<&ChosenSeries> for SeriesReport {
    fn from(series: &ChosenSeries) -> Self {
        Self { number: series.number, of: series.of, id: series.id.clone() }
    }
}

/// What a model saw of a volume.
struct Seen {
    preprocess: String,
    mode: String,
    orientation: Option<Orientation>,
    crop: Region,
    effective_resolution_mm: Option<[f64; 3]>,
}

impl Input {
    fn new(origin: &Origin<'_>, seen: Seen) -> Self {
        let ends = origin.range.map(|(low, high)| [low, high]);
        Self {
            path: origin.path.clone(),
            sha256: origin.sha256.clone(),
            kind: origin.kind.to_string(),
            series: origin.series.map(SeriesReport::from),
            shape: ijk(origin.geometry.shape()),
            spacing_mm: origin.geometry.spacing_mm().map(ijk),
            orientation: origin.geometry.orientation().map(|o| o.to_string()),
            seen_orientation: seen.orientation.map(|o| o.to_string()),
            affine: origin.geometry.affine().copied(),
            affine_source: origin.geometry.affine_source().as_str(),
            intensity_range: ends,
            intensity_verdict: origin.range.map(|(l, h)| IntensityRange::of(l, h).as_str()),
            hu_range: ends.filter(|_| is_hu(origin.range)),
            preprocess: seen.preprocess,
            mode: seen.mode,
            crop: corners(seen.crop),
            effective_resolution_mm: seen.effective_resolution_mm.map(ijk),
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct MaskReport {
    pub(crate) label: u8,
    pub(crate) name: String,
    pub(crate) path: Option<String>,
    pub(crate) voxels: usize,
    pub(crate) volume_ml: Option<f64>,
    pub(crate) bbox_vox: Option<[[usize; 3]; 2]>,
    pub(crate) centroid_mm: Option<[f64; 3]>,
    pub(crate) mean_hu: Option<f64>,
    pub(crate) mean_intensity: Option<f64>,
    pub(crate) touches_border: bool,
    pub(crate) components: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dice: Option<f64>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct WarningReport {
    code: String,
    text: String,
    fix: Option<String>,
}

impl From<&Warning> for WarningReport {
    fn from(warning: &Warning) -> Self {
        let fix = warning.fix.as_deref().map(str::to_string);
        Self { code: warning.code.to_string(), text: warning.text.clone(), fix }
    }
}

/// A report that masks are added to once they are measured.
pub(crate) trait ReportFile {
    /// Adds what the prompt of this index, from 0, got.
    fn add_mask(&mut self, index: usize, mask: MaskReport);
    /// Says in which folder the results are.
    fn set_folder(&mut self, folder: Option<&Path>);
    /// The masks so far.
    fn masks(&self) -> &[MaskReport];
    /// Says what was odd, and how long saving and everything took.
    fn finish(&mut self, warnings: &[Warning], save: Duration, total: Duration);
    fn to_json(&self) -> Result<String>;
}

impl ReportFile for Report {
    fn add_mask(&mut self, index: usize, mask: MaskReport) {
        if let Some(answer) = self.answers.get_mut(index) {
            answer.labels.push(mask.label);
        }
        self.masks.push(mask);
    }

    fn set_folder(&mut self, folder: Option<&Path>) {
        self.output_folder = folder.map(|folder| folder.display().to_string());
    }

    fn masks(&self) -> &[MaskReport] {
        &self.masks
    }

    fn finish(&mut self, warnings: &[Warning], save: Duration, total: Duration) {
        self.warnings = warnings.iter().map(WarningReport::from).collect();
        (self.timings_ms.save, self.timings_ms.total) = (ms(save), ms(total));
    }

    fn to_json(&self) -> Result<String> {
        Report::to_json(self)
    }
}

/// What a report is about, and where it came from.
pub(crate) struct Origin<'a> {
    pub(crate) path: String,
    pub(crate) sha256: Option<String>,
    pub(crate) kind: &'a str,
    pub(crate) series: Option<&'a ChosenSeries>,
    pub(crate) geometry: &'a Geometry,
    /// Smallest and largest intensity.
    pub(crate) range: Option<(f32, f32)>,
    pub(crate) io: Duration,
}

impl<'a> Origin<'a> {
    /// Of a volume that was read, and the hash of its bytes.
    pub(crate) fn of(input: &'a Volumes, sha256: Option<String>) -> Self {
        Self {
            path: input.path.display().to_string(),
            sha256,
            kind: input.kind,
            series: input.series.as_ref(),
            geometry: input.volume.geometry(),
            range: input.range,
            io: input.io,
        }
    }
}

/// `[D, H, W]` in the order of the file, (i, j, k): that of everything in a report.
pub(crate) fn ijk<T>([d, h, w]: [T; 3]) -> [T; 3] {
    [w, h, d]
}

/// Whether intensities of this range are in Hounsfield units.
pub(crate) fn is_hu(range: Option<(f32, f32)>) -> bool {
    range.is_some_and(|(low, high)| IntensityRange::of(low, high) == IntensityRange::Hu)
}

/// Everything but masks, warnings, and the times of saving and in total.
pub(crate) fn new(
    model: &R1SegModel,
    name: &ModelName,
    origin: &Origin<'_>,
    study: &EncodedVolume,
    options: &AskOptions,
    answers: &[(String, Answer)],
) -> Report {
    let grid = model.input_shape();
    Report {
        schema_version: SCHEMA_VERSION,
        r1seg_version: env!("CARGO_PKG_VERSION"),
        git: option_env!("R1SEG_GIT"),
        model: Model::new(
            name,
            &model.config().model_type,
            model.dtype_name(),
            model.config().num_clicks,
        ),
        device: model.device_name(),
        sampling: sampling(&options.sampling),
        max_new_tokens: options.max_new_tokens,
        separator: separator_name(model.separator(options)),
        first_seg: options.first_seg,
        abstain: options.abstain,
        asked_box: options.region.map(corners),
        input: Input::new(
            origin,
            Seen {
                preprocess: study.recipe().to_string(),
                mode: study.mode().to_string(),
                orientation: study.orientation(),
                crop: study.crop(),
                effective_resolution_mm: study.effective_resolution_mm(),
            },
        ),
        output_folder: None,
        only: match answers {
            [(prompt, answer)] => Some(Said::new(prompt, answer, grid, origin.geometry)),
            _ => None,
        },
        answers: answers
            .iter()
            .map(|(prompt, answer)| AnswerReport::new(prompt, answer, grid, origin.geometry))
            .collect(),
        masks: Vec::new(),
        timings_ms: TimingsMs::new(model.load_time(), origin.io, answers),
        peak_rss_mb: crate::commands::bench::peak_rss_bytes().map(|b| b as f64 / 1e6),
        peak_vram_mb: None,
        warnings: Vec::new(),
        research_use_only: true,
    }
}

/// As `--separator` spells it.
pub(crate) fn separator_name(separator: Separator) -> &'static str {
    match separator {
        Separator::Space => "space",
        Separator::None => "none",
    }
}

fn sampling(sampling: &Sampling) -> SamplingReport {
    match sampling {
        Sampling::Random { temperature, top_k, top_p, seed } => SamplingReport {
            temperature: *temperature,
            top_k: Some(*top_k),
            top_p: Some(*top_p),
            seed: Some(*seed),
        },
        _ => SamplingReport { temperature: 0.0, top_k: None, top_p: None, seed: None },
    }
}

/// Measures a mask for the report.
pub(crate) fn mask(
    mask: &Mask,
    volume: &Volume,
    range: Option<(f32, f32)>,
    label: u8,
    name: &str,
) -> Result<MaskReport> {
    let stats = mask_stats(mask, 1, volume)?;
    Ok(MaskReport {
        label,
        name: name.to_string(),
        path: None,
        voxels: stats.voxels,
        volume_ml: stats.volume_ml,
        bbox_vox: stats.bbox_vox,
        centroid_mm: stats.centroid_mm,
        mean_hu: stats.mean_intensity.filter(|_| is_hu(range)),
        mean_intensity: stats.mean_intensity,
        touches_border: stats.touches_border,
        components: stats.components,
        dice: None,
    })
}

impl MaskReport {
    /// Its size in words.
    pub(crate) fn size(&self) -> String {
        let parts = match self.components {
            1 => "1 component".to_string(),
            n => format!("{n} components"),
        };
        match self.volume_ml {
            Some(ml) => format!("{ml:.1} mL ({parts})"),
            None => format!("{} voxels ({parts})", self.voxels),
        }
    }
}

impl Report {
    /// Says that the prompt of this index, from 0, was written for an organ.
    pub(crate) fn set_organ(&mut self, index: usize, organ: &Organ) {
        if let Some(only) = &mut self.only {
            only.set_organ(organ);
        }
        if let Some(answer) = self.answers.get_mut(index) {
            answer.set_organ(organ);
        }
    }

    pub(crate) fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}
