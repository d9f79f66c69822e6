//! The part of a report that is about one answer.

use std::time::Duration;

use r1seg::volume::{Geometry, Region};
use r1seg::{AnswerBox, AskOptions, DraftCounts, FinishReason, SegToken, Separator};
use serde::Serialize;

use super::{Timings, corners, ijk, ms};
use crate::{Given, OrganName};

/// Questions about one volume, and their answers.
#[derive(Debug)]
pub struct Questions<'a> {
    /// How they were answered.
    pub options: &'a AskOptions,
    /// The part of the volume that they were about, where a box was given.
    pub region: Option<Region>,
    /// What stood between the image and each question.
    pub separator: Separator,
    /// The grid of the model, `[D, H, W]`, in which it counts the boxes of its answers.
    pub grid: [usize; 3],
    /// Each question with its answer.
    pub answers: &'a [Given],
}

#[derive(Debug, Serialize)]
pub(super) struct AnswerReport {
    #[serde(flatten)]
    fields: AnswerFields,
    /// That the question is about, where those of the run are not all about the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked_box: Option<[[usize; 3]; 2]>,
    /// Of the masks that it got: one, or none.
    pub(super) labels: Vec<u16>,
    /// As times do, these depend on what was asked before.
    drafts: DraftReport,
    timings_ms: AnswerTimingsMs,
}

/// Tokens that were guessed, and those of them that were right.
#[derive(Debug, Serialize)]
struct DraftReport {
    drafted: usize,
    accepted: usize,
}

/// Words, and what stands in them.
#[derive(Debug, Serialize)]
pub(super) struct AnswerFields {
    prompt: String,
    organ: Option<OrganName>,
    answer: String,
    finish_reason: Option<&'static str>,
    tokens: Tokens,
    status: &'static str,
    seg_token: Seg,
    boxes: Vec<BoxReport>,
    windows: Vec<WindowReport>,
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

impl AnswerReport {
    /// `region` is what the question is about, if all questions of the run are about it.
    pub(super) fn new(fields: AnswerFields, given: &Given, region: Option<Region>) -> Self {
        let (t, own) = (&given.outcome.timings, given.asked.prompt.region);
        let DraftCounts { drafted, accepted, .. } = given.outcome.drafts;
        Self {
            fields,
            asked_box: own.filter(|_| own != region).map(corners),
            labels: Vec::new(),
            drafts: DraftReport { drafted, accepted },
            timings_ms: AnswerTimingsMs {
                prefill: ms(t.prefill),
                decode: ms(t.decode),
                mask: ms(t.mask),
                postprocess: ms(t.postprocess),
            },
        }
    }
}

impl AnswerFields {
    /// `grid` is the model's, `[D, H, W]`.
    pub(super) fn new(given: &Given, grid: [usize; 3], geometry: &Geometry) -> Self {
        let Given { asked, outcome: answer, status } = given;
        Self {
            prompt: asked.text().to_string(),
            organ: asked.organ.clone(),
            answer: answer.text.clone(),
            finish_reason: answer.finish_reason.map(FinishReason::as_str),
            tokens: Tokens {
                prompt: answer.prompt_tokens,
                generated: answer.token_ids.len(),
                ids: answer.token_ids.clone(),
            },
            status: status.as_str(),
            seg_token: seg(&answer.seg),
            boxes: answer.boxes.iter().map(|found| BoxReport::new(found, grid, geometry)).collect(),
            windows: answer
                .window_answers
                .iter()
                .map(|w| WindowReport {
                    start: ijk(w.start),
                    answer: w.text.clone(),
                    finish_reason: w.finish_reason.as_str(),
                    seg_token: seg(&w.seg),
                })
                .collect(),
        }
    }
}

/// Of all answers about one volume.
pub(super) fn timings(answers: &[Given]) -> Timings {
    let sum = |f: fn(&r1seg::Timings) -> Duration| -> f64 {
        ms(answers.iter().map(|of| f(&of.outcome.timings)).sum())
    };
    // What is done once for the volume is in the times of its first answer, and may be repeated in
    // those of others.
    let once = |f: fn(&r1seg::Timings) -> Duration| -> f64 {
        ms(answers.first().map(|of| f(&of.outcome.timings)).unwrap_or_default())
    };
    Timings {
        preprocess: once(|t| t.preprocess),
        vit: once(|t| t.vit),
        projector: Some(once(|t| t.projector)),
        prefill: Some(sum(|t| t.prefill)),
        decode: Some(sum(|t| t.decode)),
        mask: sum(|t| t.mask),
        postprocess: sum(|t| t.postprocess),
        ..Timings::default()
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
