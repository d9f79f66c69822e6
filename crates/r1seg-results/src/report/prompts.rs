//! The part of a report that is about one prompt.

use std::time::Duration;

use serde::Serialize;

use super::{Timings, corners, ijk, ms};
use crate::Given;

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
pub(super) fn timings(prompts: &[Given]) -> Timings {
    let sum = |stage: fn(&r1seg::Timings) -> Duration| -> f64 {
        ms(prompts.iter().map(|of| stage(&of.outcome.timings)).sum())
    };
    // Done once for the volume.
    let preprocess = prompts.first().map(|of| of.outcome.timings.preprocess);
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
    pub(super) fn new(of: &Given) -> Self {
        let Given { asked, outcome, status } = of;
        let prompt = &asked.prompt;
        let point = |point: &r1seg::PromptPoint| PointReport {
            voxel: ijk(point.voxel),
            positive: point.positive,
        };
        Self {
            name: asked.name.clone(),
            text: prompt.text.clone(),
            points: prompt.points.iter().map(point).collect(),
            r#box: prompt.region.map(corners),
            status: status.as_str(),
            windows: outcome.windows,
            zoomed: outcome.zoomed.map(corners),
            labels: Vec::new(),
        }
    }
}
