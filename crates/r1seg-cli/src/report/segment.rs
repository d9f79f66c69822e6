//! The report of `segment`. `docs/segment.schema.json` describes every field.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use r1seg::volume::Warning;
use r1seg::{PromptableModel, PromptedVolume, SegmentPrompt, SegmentTimings, Segmented};
use serde::Serialize;

use super::{
    Input, MaskReport, Model, Origin, ReportFile, SCHEMA_VERSION, Seen, WarningReport, corners, ms,
};
use crate::study::ModelName;

#[derive(Debug, Serialize)]
pub(crate) struct SegmentReport {
    schema_version: u32,
    r1seg_version: &'static str,
    git: Option<&'static str>,
    model: Model,
    device: String,
    input: Input,
    output_folder: Option<String>,
    prompts: Vec<PromptReport>,
    masks: Vec<MaskReport>,
    timings_ms: TimingsMs,
    peak_rss_mb: Option<f64>,
    peak_vram_mb: Option<f64>,
    warnings: Vec<WarningReport>,
    research_use_only: bool,
}

#[derive(Debug, Serialize)]
struct PromptReport {
    name: String,
    text: Option<String>,
    points: Vec<PointReport>,
    r#box: Option<[[usize; 3]; 2]>,
    status: &'static str,
    /// Windows that were looked at.
    windows: usize,
    zoomed: Option<[[usize; 3]; 2]>,
    labels: Vec<u8>,
}

#[derive(Debug, Serialize)]
struct PointReport {
    voxel: [usize; 3],
    positive: bool,
}

#[derive(Debug, Serialize)]
struct TimingsMs {
    load: f64,
    io: f64,
    preprocess: f64,
    vit: f64,
    text: f64,
    mask: f64,
    postprocess: f64,
    save: f64,
    total: f64,
}

/// A prompt by its name, and what it found.
pub(crate) type Asked = (String, SegmentPrompt, Segmented);

impl SegmentReport {
    /// Everything but masks, warnings, and the times of saving and in total.
    pub(crate) fn new(
        model: &PromptableModel,
        name: &ModelName,
        origin: &Origin<'_>,
        study: &PromptedVolume,
        asked: &[Asked],
    ) -> Self {
        let config = model.config();
        let sum = |stage: fn(&SegmentTimings) -> Duration| -> f64 {
            ms(asked.iter().map(|(_, _, found)| stage(&found.timings)).sum())
        };
        // Done once for the volume.
        let preprocess = asked.first().map(|(_, _, found)| found.timings.preprocess);
        Self {
            schema_version: SCHEMA_VERSION,
            r1seg_version: env!("CARGO_PKG_VERSION"),
            git: option_env!("R1SEG_GIT"),
            model: Model::new(name, &config.model_type, model.dtype_name(), config.num_clicks),
            device: model.device_name(),
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
            prompts: asked.iter().map(PromptReport::new).collect(),
            masks: Vec::new(),
            timings_ms: TimingsMs {
                load: ms(model.load_time()),
                io: ms(origin.io),
                preprocess: ms(preprocess.unwrap_or_default()),
                vit: sum(|t| t.vit),
                text: sum(|t| t.text),
                mask: sum(|t| t.mask),
                postprocess: sum(|t| t.postprocess),
                save: 0.0,
                total: 0.0,
            },
            peak_rss_mb: crate::commands::bench::peak_rss_bytes().map(|b| b as f64 / 1e6),
            peak_vram_mb: None,
            warnings: Vec::new(),
            research_use_only: true,
        }
    }
}

impl PromptReport {
    fn new((name, prompt, found): &Asked) -> Self {
        let point = |point: &r1seg::PromptPoint| {
            let [k, j, i] = point.voxel;
            PointReport { voxel: [i, j, k], positive: point.positive }
        };
        Self {
            name: name.clone(),
            text: prompt.text.clone(),
            points: prompt.points.iter().map(point).collect(),
            r#box: prompt.region.map(corners),
            status: found.status().as_str(),
            windows: found.windows,
            zoomed: found.zoomed.map(corners),
            labels: Vec::new(),
        }
    }
}

impl ReportFile for SegmentReport {
    fn add_mask(&mut self, index: usize, mask: MaskReport) {
        if let Some(prompt) = self.prompts.get_mut(index) {
            prompt.labels.push(mask.label);
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
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}
