//! The part of a report that is about one prompt.

use std::time::Duration;

use r1seg::{SegmentPrompt, SegmentTimings, Segmented};
use serde::Serialize;

use super::{Timings, corners, ijk, ms};

/// A prompt by its name, and what it found.
pub type Prompted = (String, SegmentPrompt, Segmented);

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
    pub(super) labels: Vec<u8>,
}

#[derive(Debug, Serialize)]
struct PointReport {
    voxel: [usize; 3],
    positive: bool,
}

/// Of all prompts about one volume.
pub(super) fn timings(prompts: &[Prompted]) -> Timings {
    let sum = |stage: fn(&SegmentTimings) -> Duration| -> f64 {
        ms(prompts.iter().map(|(_, _, found)| stage(&found.timings)).sum())
    };
    // Done once for the volume.
    let preprocess = prompts.first().map(|(_, _, found)| found.timings.preprocess);
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
    pub(super) fn new((name, prompt, found): &Prompted) -> Self {
        let point = |point: &r1seg::PromptPoint| PointReport {
            voxel: ijk(point.voxel),
            positive: point.positive,
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
