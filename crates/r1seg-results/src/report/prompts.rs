//! The part of a report that is about one prompt.

use std::time::Duration;

use r1seg::volume::{Mask, Region, Warning};
use r1seg::{MaskStatus, Outcome, Prompt, Trace};
use serde::Serialize;

use super::{Timings, corners, ijk, ms};

/// A prompt by its name, and what it got but for the mask.
#[derive(Debug)]
pub struct Prompted {
    /// What it is called.
    pub name: String,
    /// The prompt.
    pub prompt: Prompt,
    /// What became of the mask.
    pub status: MaskStatus,
    /// The part of the input that was looked at at the model's own resolution.
    pub zoomed: Option<Region>,
    /// Windows or crops that were looked at.
    pub windows: usize,
    /// What a person should know about the result.
    pub warnings: Vec<Warning>,
    /// How long it took.
    pub timings: r1seg::Timings,
    /// The tensors of every stage, if they were asked for.
    pub trace: Option<Trace>,
}

impl Prompted {
    /// What a prompt got, and its mask, of which the report needs nothing more.
    pub fn new(name: String, prompt: Prompt, found: Outcome) -> (Self, Option<Mask>) {
        let status = found.status();
        let Outcome { mask, zoomed, windows, warnings, timings, trace, .. } = found;
        (Self { name, prompt, status, zoomed, windows, warnings, timings, trace }, mask)
    }
}

#[derive(Debug, Serialize)]
pub(super) struct PromptReport {
    name: String,
    text: Option<String>,
    points: Vec<PointReport>,
    r#box: Option<[[usize; 3]; 2]>,
    status: &'static str,
    /// Windows that were looked at.
    windows: usize,
    zoomed: Option<[[usize; 3]; 2]>,
    pub(super) labels: Vec<u16>,
}

#[derive(Debug, Serialize)]
struct PointReport {
    voxel: [usize; 3],
    positive: bool,
}

/// Of all prompts about one volume.
pub(super) fn timings(prompts: &[Prompted]) -> Timings {
    let sum = |stage: fn(&r1seg::Timings) -> Duration| -> f64 {
        ms(prompts.iter().map(|of| stage(&of.timings)).sum())
    };
    // Done once for the volume.
    let preprocess = prompts.first().map(|of| of.timings.preprocess);
    Timings {
        preprocess: ms(preprocess.unwrap_or_default()),
        vit: sum(|t| t.vit),
        text: Some(sum(|t| t.text)),
        mask: sum(|t| t.mask),
        postprocess: sum(|t| t.postprocess),
        ..Timings::default()
    }
}

impl PromptReport {
    pub(super) fn new(of: &Prompted) -> Self {
        let Prompted { name, prompt, status, zoomed, windows, .. } = of;
        let point = |point: &r1seg::PromptPoint| PointReport {
            voxel: ijk(point.voxel),
            positive: point.positive,
        };
        Self {
            name: name.clone(),
            text: prompt.text.clone(),
            points: prompt.points.iter().map(point).collect(),
            r#box: prompt.region.map(corners),
            status: status.as_str(),
            windows: *windows,
            zoomed: zoomed.map(corners),
            labels: Vec::new(),
        }
    }
}
