//! SegVol and R1Seg-3D-SAM, timed: a text and its mask, in every mode.

use std::time::Instant;

use anyhow::Result;
use r1seg::{
    EncodeOptions, InferenceMode, Preprocess, Prompt, PromptableModel, Recipe, RunContext, phrasing,
};
use serde::Serialize;

use super::{Bench, Common, Rows, median, row, stage};
use crate::exit::Exit;

#[derive(Debug, Serialize)]
struct Figures {
    #[serde(flatten)]
    common: Common,
    /// The vision transformer, once over the whole volume
    vit_s: f64,
    text_s: f64,
    /// The mask decoder's passes, and their logits on the model's grid
    mask_s: f64,
    /// Logits to a mask on the input's grid
    postprocess_s: f64,
    /// From the volume, or its file, to the mask, in mode resize; load excluded
    first_mask_s: f64,
    /// The same text again on the same volume
    second_mask_s: f64,
    modes: Vec<Mode>,
}

/// A mask in a mode that looks at windows, from the prepared volume on.
#[derive(Debug, Serialize)]
struct Mode {
    mode: &'static str,
    windows: usize,
    seconds: f64,
}

pub(super) fn run(bench: &mut Bench<'_>, model: &PromptableModel) -> Result<Exit> {
    let text = phrasing::sentence(model.family(), "liver");
    let prompt = Prompt::of_text(bench.args.prompt.as_ref().unwrap_or(&text));
    let cancel = bench.cancel.clone();
    let options = |mode| {
        EncodeOptions::default().with_preprocess(Preprocess::Recipe(Recipe::None)).with_mode(mode)
    };

    let (mut stages, mut first, mut second) = (Vec::new(), Vec::new(), Vec::new());
    let mut windowed = [("zoom", InferenceMode::Zoom), ("sliding", InferenceMode::Sliding)]
        .map(|(name, mode)| (name, mode, 0, Vec::new()));
    for run in 0..bench.args.runs {
        let (volume, start) = bench.volumes.next(run)?;
        let mut context = RunContext::from(&cancel);
        let encoded = model.encode_with(&volume, &options(InferenceMode::Resize), &mut context)?;
        stages.push(encoded.segment_with(&prompt, &mut context)?.timings);
        first.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        encoded.segment_with(&prompt, &mut context)?;
        second.push(start.elapsed().as_secs_f64());
        for (_, mode, windows, times) in &mut windowed {
            let start = Instant::now();
            let encoded = model.encode_with(&volume, &options(*mode), &mut context)?;
            *windows = encoded.segment_with(&prompt, &mut context)?.windows;
            times.push(start.elapsed().as_secs_f64());
        }
    }
    let mode = |(mode, _, windows, times)| Mode {
        mode,
        windows,
        seconds: median(times).unwrap_or_default(),
    };
    let figures = Figures {
        common: bench.common(model),
        vit_s: stage(&stages, |t| t.vit),
        text_s: stage(&stages, |t| t.text),
        mask_s: stage(&stages, |t| t.mask),
        postprocess_s: stage(&stages, |t| t.postprocess),
        first_mask_s: median(first).unwrap_or_default(),
        second_mask_s: median(second).unwrap_or_default(),
        modes: windowed.into_iter().map(mode).collect(),
    };
    bench.print(&figures, &figures.common, rows(&figures))
}

fn rows(figures: &Figures) -> Rows {
    let mut rows = vec![
        row("vision transformer", figures.vit_s),
        row("text embedding", figures.text_s),
        row("mask", figures.mask_s),
        row("mask on the input's grid", figures.postprocess_s),
        row("first mask, mode resize", figures.first_mask_s),
        row("second mask, mode resize", figures.second_mask_s),
    ];
    for Mode { mode, windows, seconds } in &figures.modes {
        rows.push(row(&format!("mask, mode {mode}, windows encoded: {windows}"), *seconds));
    }
    rows
}
