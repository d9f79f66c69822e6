//! What the tools give back, as structured content. Comments here are the descriptions that agents read.
//!
//! Voxels are (i, j, k) as viewers show them, from 0, in the order of the file.

use std::fmt;

use r1seg::registry::Family;
use r1seg::volume::SeriesSummary;
use r1seg::{Capabilities, OutputKind, PromptKind};
use r1seg_results::inspection::Inspection;
use r1seg_results::report::{MaskReport, SeriesReport, WarningReport, ijk};
use schemars::JsonSchema;
use serde::Serialize;

/// What `list_models` gives.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Models {
    /// The models that are served.
    pub models: Vec<Model>,
    /// What the argument `volume` of the other tools is.
    pub volumes: String,
    /// Where results go.
    pub results: String,
    /// Not a medical device.
    pub research_use_only: bool,
}

/// A model that is served.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Model {
    /// Its name, for the argument `model`.
    pub id: String,
    /// Which of the models it is.
    pub family: String,
    /// The tool to call it with: ask_volume or segment_volume.
    pub tool: String,
    /// What it takes: question, text, organ, points, box, mask.
    pub prompts: Vec<String>,
    /// What it gives back: text, mask, boxes.
    pub outputs: Vec<String>,
    /// The values of `mode` that it knows, its default first; empty where there is one way only.
    pub modes: Vec<String>,
    /// Prompts as it was trained with.
    pub examples: Vec<String>,
    /// Whether it is in memory already; loading a large one takes a minute.
    pub loaded: bool,
    /// Whether it is the embedded model, which knows synthetic phantoms only: what it says about a real
    /// volume means nothing.
    pub is_demo: bool,
}

impl Model {
    /// A model of a family, with its examples.
    pub fn of(id: impl Into<String>, family: Family, capabilities: &Capabilities) -> Self {
        /// More would say no more.
        const EXAMPLES: usize = 3;
        let entry = family.entry();
        let asks = capabilities.takes(PromptKind::Question);
        let mut prompts: Vec<String> =
            capabilities.prompts.iter().map(|kind| prompt_name(*kind).to_string()).collect();
        if asks || capabilities.takes(PromptKind::Text) {
            prompts.insert(1, "organ".to_string());
        }
        let examples = entry.tasks.iter().filter_map(|task| task.example.text);
        Self {
            id: id.into(),
            family: family.name().to_string(),
            tool: if asks { "ask_volume" } else { "segment_volume" }.to_string(),
            prompts,
            outputs: capabilities
                .outputs
                .iter()
                .map(|kind| output_name(*kind).to_string())
                .collect(),
            modes: capabilities.modes.iter().map(|mode| mode.as_str().to_string()).collect(),
            examples: examples.take(EXAMPLES).map(str::to_string).collect(),
            loaded: false,
            is_demo: false,
        }
    }
}

fn prompt_name(kind: PromptKind) -> &'static str {
    match kind {
        PromptKind::Question => "question",
        PromptKind::Text => "text",
        PromptKind::Points => "points",
        PromptKind::Box => "box",
        PromptKind::Mask => "mask",
        _ => "other",
    }
}

fn output_name(kind: OutputKind) -> &'static str {
    match kind {
        OutputKind::Text => "text",
        OutputKind::Mask => "mask",
        OutputKind::Boxes => "boxes",
        OutputKind::Embedding => "embedding",
        _ => "other",
    }
}

/// What `inspect_volume` gives.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct Inspected {
    /// As it was named.
    pub volume: String,
    /// The format: nifti-1, nifti-2, nrrd, npy, npz or dicom.
    pub kind: String,
    /// ok: nothing is odd. warnings: something is not known or was repaired. doubtful: masks may be wrong.
    /// choose: there are several series, of which one is to be named with `read.series`.
    pub verdict: String,
    /// What the voxels look like, in words.
    pub looks_like: String,
    /// Voxels along i, j and k.
    pub shape: Option<[usize; 3]>,
    /// Distances of voxels in mm along i, j and k; null where they are not known.
    pub spacing_mm: Option<[f64; 3]>,
    /// The size of the whole in mm.
    pub field_of_view_mm: Option<[f64; 3]>,
    /// Axis codes: the directions that i, j and k grow to, such as LPS.
    pub orientation: Option<String>,
    /// Smallest and largest value.
    pub intensity_range: Option<[f32; 2]>,
    /// Whether values are Hounsfield units.
    pub is_hu: bool,
    /// The DICOM series that was read, or those of which one is to be chosen.
    pub series: Vec<Series>,
    /// What is odd.
    pub warnings: Vec<Warning>,
    /// Not a medical device.
    pub research_use_only: bool,
}

impl Inspected {
    /// What was found out about a volume, as it was named.
    pub fn of(volume: impl Into<String>, found: &Inspection, warnings: Vec<Warning>) -> Self {
        let input = &found.input;
        Self {
            volume: volume.into(),
            kind: input.kind.to_string(),
            verdict: found.verdict.as_str().to_string(),
            looks_like: found.looks_like(),
            shape: Some(input.shape),
            spacing_mm: input.spacing_mm,
            field_of_view_mm: input.field_of_view_mm,
            orientation: input.orientation.clone(),
            intensity_range: input.intensity_range,
            is_hu: input.hu_range.is_some(),
            series: input.series.iter().map(Series::from).collect(),
            warnings,
            research_use_only: true,
        }
    }
}

/// A DICOM series.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Series {
    /// Its number, from 1.
    pub number: usize,
    /// Its id.
    pub id: String,
    /// CT, MR or another.
    pub modality: Option<String>,
    /// Number of slices.
    pub slices: Option<usize>,
    /// Voxels along i, j and k.
    pub shape: Option<[usize; 3]>,
    /// Why it cannot be read, if so.
    pub fault: Option<String>,
}

impl From<&SeriesSummary> for Series {
    fn from(series: &SeriesSummary) -> Self {
        Self {
            number: series.number,
            id: series.id.clone(),
            modality: Some(series.modality.clone()),
            slices: Some(series.slices),
            shape: series.shape.map(ijk),
            fault: series.verdict.clone(),
        }
    }
}

impl From<&SeriesReport> for Series {
    fn from(series: &SeriesReport) -> Self {
        Self {
            number: series.number,
            id: series.id.clone(),
            modality: None,
            slices: None,
            shape: None,
            fault: None,
        }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, id, modality, slices, shape, fault } = self;
        write!(f, "series {number}, id {id}")?;
        if let Some(modality) = modality {
            write!(f, ", {modality}")?;
        }
        if let Some([i, j, k]) = shape {
            write!(f, ", {i} x {j} x {k} voxels")?;
        } else if let Some(slices) = slices {
            write!(f, ", {slices} slices")?;
        }
        fault.as_ref().map_or(Ok(()), |fault| write!(f, ": {fault}"))
    }
}

/// Something a person should know about a volume or a result.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Warning {
    /// A stable code such as W-GEOM.
    pub code: String,
    /// What was found.
    pub text: String,
    /// What to do about it.
    pub fix: Option<String>,
}

impl From<WarningReport> for Warning {
    fn from(warning: WarningReport) -> Self {
        Self { code: warning.code, text: warning.text, fix: warning.fix }
    }
}

/// What `ask_volume` and `segment_volume` give.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct Outcome {
    /// The id of the model.
    pub model: String,
    /// The volume, as it was named.
    pub volume: String,
    /// What each question or target got, in their order.
    pub answers: Vec<Answer>,
    /// The masks, measured.
    pub masks: Vec<Mask>,
    /// Where all results are, if in one folder or under one id.
    pub results: Option<String>,
    /// The files that were written.
    pub files: Vec<ResultFile>,
    /// What is odd about the volume, the answers or the masks.
    pub warnings: Vec<Warning>,
    /// How long it took.
    pub seconds: f64,
    /// Not a medical device; nothing here is a diagnosis.
    pub research_use_only: bool,
}

/// What a question or a target got.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct Answer {
    /// What was asked, in the words that the model read; of a target without words its name.
    pub prompt: String,
    /// The answer; null where the model gives none in words. `[SEG]` stands where it means a mask.
    pub text: Option<String>,
    /// found: there is a mask. empty_mask: one was drawn without a voxel. not_found: the model gave none.
    pub status: String,
    /// stop, or length where the answer was cut.
    pub finish_reason: Option<String>,
    /// The labels of its masks.
    pub labels: Vec<u16>,
    /// Boxes in the answer: first and last voxel, [[i, j, k], [i, j, k]].
    pub boxes: Vec<[[usize; 3]; 2]>,
}

/// A mask, on the grid of the volume.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Mask {
    /// Its label in the file.
    pub label: u16,
    /// What it is called.
    pub name: String,
    /// Its number of voxels.
    pub voxels: usize,
    /// Its volume in milliliters; null without a known spacing.
    pub volume_ml: Option<f64>,
    /// The mean under it, of a volume in Hounsfield units.
    pub mean_hu: Option<f64>,
    /// Its middle in mm (RAS+).
    pub centroid_mm: Option<[f64; 3]>,
    /// Its first and last voxel along each axis, [[i, j, k], [i, j, k]].
    pub bbox: Option<[[usize; 3]; 2]>,
    /// Connected parts.
    pub components: usize,
    /// Whether it reaches a side of the volume, where it may be cut.
    pub touches_border: bool,
    /// The file that it is in, one of `files`.
    pub file: Option<String>,
}

impl From<&MaskReport> for Mask {
    fn from(mask: &MaskReport) -> Self {
        Self {
            label: mask.label,
            name: mask.name.clone(),
            voxels: mask.voxels,
            volume_ml: mask.volume_ml,
            mean_hu: mask.mean_hu,
            centroid_mm: mask.centroid_mm,
            bbox: mask.bbox_vox,
            components: mask.components,
            touches_border: mask.touches_border,
            file: mask.path.clone(),
        }
    }
}

/// A file of the results.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ResultFile {
    /// Its name: mask.nii.gz, mask_2.nii.gz, mask.npy, mask.seg.nrrd, labels.json, preview.png, answer.txt
    /// or report.json.
    pub name: String,
    /// Where it is: an absolute path, or over HTTP a path of the server.
    pub location: String,
}
