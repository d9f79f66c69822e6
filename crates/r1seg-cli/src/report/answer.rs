//! The part of a report that is about one answer.

use std::time::Duration;

use r1seg::volume::{Geometry, Region};
use r1seg::{Answer, AnswerBox, FinishReason, SegToken};
use serde::Serialize;

use super::ijk;
use crate::organs::Organ;

#[derive(Debug, Serialize)]
pub(crate) struct AnswerReport {
    #[serde(flatten)]
    said: Said,
    /// Of the masks that it got: one, or none.
    pub(crate) labels: Vec<u8>,
    timings_ms: AnswerTimingsMs,
}

/// Words, and what stands in them.
#[derive(Debug, Serialize)]
pub(super) struct Said {
    prompt: String,
    organ: Option<OrganReport>,
    answer: String,
    finish_reason: &'static str,
    tokens: Tokens,
    status: &'static str,
    seg_token: Seg,
    boxes: Vec<BoxReport>,
    windows: Vec<WindowReport>,
}

/// What --organ asked for.
#[derive(Debug, Clone, Serialize)]
pub(super) struct OrganReport {
    given: String,
    term: &'static str,
}

impl From<&Organ> for OrganReport {
    fn from(organ: &Organ) -> Self {
        Self { given: organ.given.clone(), term: organ.term }
    }
}

#[derive(Debug, Serialize)]
struct Tokens {
    prompt: usize,
    generated: usize,
    ids: Vec<u32>,
}

#[derive(Debug, Serialize)]
struct Seg {
    present: bool,
    count: usize,
    positions: Vec<usize>,
    logprobs: Vec<f32>,
}

#[derive(Debug, Serialize)]
struct BoxReport {
    text: [f64; 6],
    model_voxels: [[usize; 3]; 2],
    voxels: Option<[[usize; 3]; 2]>,
    mm: Option<[[f64; 3]; 2]>,
}

impl BoxReport {
    /// `grid` is the model's, `[D, H, W]`.
    fn new(found: &AnswerBox, grid: [usize; 3], geometry: &Geometry) -> Self {
        let text = found.text;
        let cells = text.to_indices(grid);
        Self {
            text: [text.d0, text.h0, text.w0, text.d1, text.h1, text.w1],
            model_voxels: [cells.min, cells.max]
                .map(|corner| ijk(corner.map(|v| usize::try_from(v).unwrap_or(0)))),
            voxels: found.region.map(corners),
            mm: found.region.and_then(|region| geometry.region_to_mm(region)),
        }
    }
}

/// The first and the last voxel, (i, j, k).
pub(crate) fn corners(region: Region) -> [[usize; 3]; 2] {
    let ([k0, j0, i0], [k1, j1, i1]) = (region.start, region.end);
    [[i0, j0, k0], [i1, j1, k1].map(|n| n.saturating_sub(1))]
}

#[derive(Debug, Serialize)]
struct WindowReport {
    start: [i64; 3],
    answer: String,
    finish_reason: &'static str,
    seg_token: Seg,
}

#[derive(Debug, Serialize)]
struct AnswerTimingsMs {
    prefill: f64,
    decode: f64,
    mask: f64,
    postprocess: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct TimingsMs {
    load: f64,
    io: f64,
    preprocess: f64,
    vit: f64,
    projector: f64,
    prefill: f64,
    decode: f64,
    mask: f64,
    postprocess: f64,
    pub(crate) save: f64,
    pub(crate) total: f64,
}

impl AnswerReport {
    pub(super) fn set_organ(&mut self, organ: &Organ) {
        self.said.set_organ(organ);
    }

    /// `grid` is the model's, `[D, H, W]`.
    pub(super) fn new(
        prompt: &str,
        answer: &Answer,
        grid: [usize; 3],
        geometry: &Geometry,
    ) -> Self {
        let t = &answer.timings;
        Self {
            said: Said::new(prompt, answer, grid, geometry),
            labels: Vec::new(),
            timings_ms: AnswerTimingsMs {
                prefill: ms(t.prefill),
                decode: ms(t.decode),
                mask: ms(t.mask),
                postprocess: ms(t.postprocess),
            },
        }
    }
}

impl Said {
    pub(super) fn set_organ(&mut self, organ: &Organ) {
        self.organ = Some(organ.into());
    }

    pub(super) fn new(
        prompt: &str,
        answer: &Answer,
        grid: [usize; 3],
        geometry: &Geometry,
    ) -> Self {
        Self {
            prompt: prompt.to_string(),
            organ: None,
            answer: answer.text.clone(),
            finish_reason: finish(answer.finish_reason),
            tokens: Tokens {
                prompt: answer.prompt_tokens,
                generated: answer.token_ids.len(),
                ids: answer.token_ids.clone(),
            },
            status: answer.status().as_str(),
            seg_token: seg(&answer.seg),
            boxes: answer.boxes.iter().map(|found| BoxReport::new(found, grid, geometry)).collect(),
            windows: answer
                .windows
                .iter()
                .map(|w| WindowReport {
                    start: ijk(w.start),
                    answer: w.text.clone(),
                    finish_reason: finish(w.finish_reason),
                    seg_token: seg(&w.seg),
                })
                .collect(),
        }
    }
}

impl TimingsMs {
    /// Of all answers about one volume.
    pub(super) fn new(load: Duration, io: Duration, answers: &[(String, Answer)]) -> Self {
        let sum = |f: fn(&r1seg::Timings) -> Duration| -> f64 {
            ms(answers.iter().map(|(_, answer)| f(&answer.timings)).sum())
        };
        // What is done once for the volume is in the times of its first answer, and may be
        // repeated in those of others.
        let once = |f: fn(&r1seg::Timings) -> Duration| -> f64 {
            ms(answers.first().map(|(_, answer)| f(&answer.timings)).unwrap_or_default())
        };
        Self {
            load: ms(load),
            io: ms(io),
            preprocess: once(|t| t.preprocess),
            vit: once(|t| t.vit),
            projector: once(|t| t.projector),
            prefill: sum(|t| t.prefill),
            decode: sum(|t| t.decode),
            mask: sum(|t| t.mask),
            postprocess: sum(|t| t.postprocess),
            save: 0.0,
            total: 0.0,
        }
    }
}

/// Milliseconds, to the microsecond.
pub(crate) fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn finish(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    }
}

fn seg(tokens: &[SegToken]) -> Seg {
    Seg {
        present: !tokens.is_empty(),
        count: tokens.len(),
        positions: tokens.iter().map(|t| t.position).collect(),
        logprobs: tokens.iter().map(|t| t.logprob).collect(),
    }
}
