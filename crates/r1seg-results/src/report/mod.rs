//! `report.json`: what was asked, what was found, and how.
//!
//! [`Report::of_answers`] is that of a model that answers questions (`docs/report.schema.json`
//! describes every field), [`Report::of_prompts`] that of one that segments by prompts
//! (`docs/segment.schema.json`). Both say the same about the `run`, the input and the `mask`s.
//! All axes are in the order of the file, (i, j, k).

mod answers;
mod mask;
mod prompts;
mod refined;
mod run;

use std::path::Path;
use std::time::Duration;

use r1seg::volume::{Region, Warning};
use r1seg::{Remedy, Sampling, Separator};
use serde::Serialize;

use crate::{Error, Given, Refined};
pub use answers::Questions;
use answers::{AnswerFields, AnswerReport};
pub use mask::MaskReport;
use prompts::PromptReport;
use refined::RefinedReport;
pub use run::{Model, Origin, Preparation, Run, SeriesReport, is_hu};

/// Raised when a field changes its meaning or goes away.
pub const SCHEMA_VERSION: u32 = 2;

/// A report, to which masks are added once they are measured.
#[derive(Debug, Serialize)]
pub struct Report {
    schema_version: u32,
    r1seg_version: &'static str,
    git: Option<&'static str>,
    model: Model,
    device: String,
    cpu_kernels: Option<&'static str>,
    #[serde(flatten)]
    settings: Option<Settings>,
    input: run::InputReport,
    /// Of the results.
    output_folder: Option<String>,
    #[serde(flatten)]
    found: Found,
    /// Models that drew masks again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refined_with: Vec<RefinedReport>,
    masks: Vec<MaskReport>,
    timings_ms: Timings,
    peak_rss_mb: Option<f64>,
    warnings: Vec<WarningReport>,
    research_use_only: bool,
}

/// How questions were answered.
#[derive(Debug, Serialize)]
struct Settings {
    sampling: SamplingReport,
    max_new_tokens: usize,
    separator: &'static str,
    first_seg: bool,
    abstain: bool,
    /// That the questions are about: the first and the last voxel, (i, j, k).
    asked_box: Option<[[usize; 3]; 2]>,
}

/// Without draws at random there is nothing to name but the temperature.
#[derive(Debug, Serialize)]
struct SamplingReport {
    temperature: f64,
    top_k: Option<usize>,
    top_p: Option<f64>,
    seed: Option<u64>,
}

/// What each question or prompt got.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Found {
    Answers {
        /// The one answer once more, where there is one only.
        #[serde(flatten)]
        only: Option<Box<AnswerFields>>,
        answers: Vec<AnswerReport>,
    },
    Prompts {
        prompts: Vec<PromptReport>,
    },
}

/// Stages that a kind of model does not have are left out.
#[derive(Debug, Default, Serialize)]
struct Timings {
    load: f64,
    io: f64,
    preprocess: f64,
    vit: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    projector: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefill: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decode: Option<f64>,
    mask: f64,
    postprocess: f64,
    save: f64,
    total: f64,
}

/// A warning, as reports list it.
#[derive(Debug, Clone, Serialize)]
pub struct WarningReport {
    /// A stable code such as `W-GEOM`.
    pub code: String,
    /// What was found.
    pub text: String,
    /// What to do about it.
    pub fix: Option<String>,
}

impl WarningReport {
    /// `words` says what to do about it in the terms of the program.
    pub fn new(warning: &Warning, words: fn(&Remedy) -> String) -> Self {
        let fix = warning.remedy.as_ref().map(words);
        Self { code: warning.code.to_string(), text: warning.text.clone(), fix }
    }
}

impl Report {
    /// What questions got: everything but masks, warnings, and the times of saving and in total.
    pub fn of_answers(run: Run<'_>, questions: &Questions<'_>) -> Self {
        let answers = questions.answers;
        let geometry = run.origin.geometry;
        let fields = |given| AnswerFields::new(given, questions.grid, geometry);
        let found = Found::Answers {
            only: match answers {
                [given] => Some(Box::new(fields(given))),
                _ => None,
            },
            answers: answers
                .iter()
                .map(|of| AnswerReport::new(fields(of), of, questions.region))
                .collect(),
        };
        let settings = Some(Settings::new(questions));
        Self::new(run, settings, found, answers::timings(answers))
    }

    /// What prompts got: everything but masks, warnings, and the times of saving and in total.
    pub fn of_prompts(run: Run<'_>, prompts: &[Given]) -> Self {
        let found = Found::Prompts { prompts: prompts.iter().map(PromptReport::new).collect() };
        Self::new(run, None, found, prompts::timings(prompts))
    }

    fn new(run: Run<'_>, settings: Option<Settings>, found: Found, timings: Timings) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            r1seg_version: env!("CARGO_PKG_VERSION"),
            git: run.git,
            model: run.model,
            device: run.device,
            cpu_kernels: run.cpu_kernels,
            settings,
            input: run::InputReport::new(&run.origin, run.preparation),
            output_folder: None,
            found,
            refined_with: Vec::new(),
            masks: Vec::new(),
            timings_ms: Timings { load: ms(run.load), io: ms(run.origin.io), ..timings },
            peak_rss_mb: crate::peak_rss_bytes().map(|bytes| bytes as f64 / 1e6),
            warnings: Vec::new(),
            research_use_only: true,
        }
    }

    /// Adds what the question or prompt of this index, from 0, got.
    pub fn add_mask(&mut self, index: usize, mask: MaskReport) {
        let labels = match &mut self.found {
            Found::Answers { answers, .. } => answers.get_mut(index).map(|of| &mut of.labels),
            Found::Prompts { prompts } => prompts.get_mut(index).map(|of| &mut of.labels),
        };
        if let Some(labels) = labels {
            labels.push(mask.label);
        }
        self.masks.push(mask);
    }

    /// Says which further models drew masks again, and of what.
    pub fn set_refined(&mut self, refined: &[Refined]) {
        self.refined_with = refined.iter().map(RefinedReport::new).collect();
    }

    /// Adds a mask that refines another one, whose label it names.
    pub fn add_refined_mask(&mut self, mask: MaskReport) {
        let mut mask = mask;
        let mut models = self.refined_with.iter_mut();
        mask.model = models.find_map(|model| model.add(&mask)).or(mask.model);
        self.masks.push(mask);
    }

    /// The masks that were added.
    pub fn masks(&self) -> &[MaskReport] {
        &self.masks
    }

    /// Says in which folder the results are.
    pub fn set_folder(&mut self, folder: Option<&Path>) {
        self.output_folder = folder.map(|folder| folder.display().to_string());
    }

    /// Says what was odd, and how long saving and everything took.
    pub fn finish(&mut self, warnings: Vec<WarningReport>, save: Duration, total: Duration) {
        self.warnings = warnings;
        (self.timings_ms.save, self.timings_ms.total) = (ms(save), ms(total));
    }

    /// The text of `report.json`.
    ///
    /// # Errors
    /// [`Error::Encoding`].
    pub fn to_json(&self) -> Result<String, Error> {
        let json = serde_json::to_string_pretty(self);
        Ok(json.map_err(|e| Error::encoding("the report", e))? + "\n")
    }
}

impl Settings {
    fn new(questions: &Questions<'_>) -> Self {
        let options = questions.options;
        Self {
            sampling: sampling(&options.sampling),
            max_new_tokens: options.max_new_tokens,
            separator: separator_name(questions.separator),
            first_seg: options.first_seg,
            abstain: options.abstain,
            asked_box: questions.region.map(corners),
        }
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

/// What reports call a separator.
pub fn separator_name(separator: Separator) -> &'static str {
    match separator {
        Separator::Space => "space",
        Separator::None => "none",
    }
}

/// `[D, H, W]` in the order of the file, (i, j, k): that of everything in a report.
pub fn ijk<T>([d, h, w]: [T; 3]) -> [T; 3] {
    [w, h, d]
}

/// The first and the last voxel of a region, both inside, (i, j, k).
pub fn corners(region: Region) -> [[usize; 3]; 2] {
    let ([k0, j0, i0], [k1, j1, i1]) = (region.start, region.end);
    [[i0, j0, k0], [i1, j1, k1].map(|n| n.saturating_sub(1))]
}

/// Milliseconds, to the microsecond.
fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
