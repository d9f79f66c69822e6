//! SegVol and R1Seg-3D-SAM, timed: a text and its mask, in every mode.

use std::time::{Duration, Instant};

use anyhow::Result;
use r1seg::registry::Family;
use r1seg::{
    CancelToken, CheckpointSource, Preprocess, PromptableModel, Recipe, RunContext, SegmentMode,
    SegmentOptions, SegmentPrompt, SegmentTimings,
};
use r1seg_results::peak_rss_bytes;
use serde::Serialize;

use super::{Volumes, median, print, seconds, table};
use crate::args::BenchArgs;
use crate::exit::Exit;
use crate::study::{self, ModelName};

#[derive(Debug, Serialize)]
struct Bench {
    model: String,
    device: String,
    dtype: &'static str,
    threads: usize,
    runs: usize,
    load_s: f64,
    weights_gb: f64,
    /// Reading the volume from a file, where one was named
    read_s: Option<f64>,
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
    peak_rss_gib: Option<f64>,
}

/// A mask in a mode that looks at windows, from the prepared volume on.
#[derive(Debug, Serialize)]
struct Mode {
    mode: &'static str,
    windows: usize,
    seconds: f64,
}

pub(super) fn run(
    args: &BenchArgs,
    source: &CheckpointSource,
    name: ModelName,
    cancel: CancelToken,
) -> Result<Exit> {
    let mut load_options = study::load_options(&args.model, 0).with_cancel(cancel.clone());
    load_options.num_clicks = args.refine.num_clicks;
    let model = PromptableModel::open(source, &load_options)?;
    study::announce_on(&model.device_name(), model.dtype_name(), &name.id, model.device_fallback());
    let default = match model.config().family {
        Family::R1Seg3dSam => "A computerized tomography of a liver.",
        _ => "liver",
    };
    let prompt = SegmentPrompt::of_text(args.prompt.as_deref().unwrap_or(default));
    let options = |mode| {
        SegmentOptions::default().with_preprocess(Preprocess::Recipe(Recipe::None)).with_mode(mode)
    };

    let (mut stages, mut first, mut second) = (Vec::new(), Vec::new(), Vec::new());
    let mut windowed = [("zoom", SegmentMode::Zoom), ("sliding", SegmentMode::Sliding)]
        .map(|(name, mode)| (name, mode, 0, Vec::new()));
    let mut volumes = Volumes::new(args, model.config().vit.image_size);
    for run in 0..args.runs {
        let (volume, start) = volumes.next(run)?;
        let mut context = RunContext::from(&cancel);
        let study = model.encode_with(&volume, &options(SegmentMode::Resize), &mut context)?;
        stages.push(study.segment_with(&prompt, &mut context)?.timings);
        first.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        study.segment_with(&prompt, &mut context)?;
        second.push(start.elapsed().as_secs_f64());
        for (_, mode, windows, times) in &mut windowed {
            let start = Instant::now();
            let study = model.encode_with(&volume, &options(*mode), &mut context)?;
            *windows = study.segment_with(&prompt, &mut context)?.windows;
            times.push(start.elapsed().as_secs_f64());
        }
    }
    let stage = |f: fn(&SegmentTimings) -> Duration| {
        median(stages.iter().map(|t| f(t).as_secs_f64()).collect()).unwrap_or_default()
    };
    let mode = |(mode, _, windows, times)| Mode {
        mode,
        windows,
        seconds: median(times).unwrap_or_default(),
    };
    let bench = Bench {
        model: name.id,
        device: model.device_name(),
        dtype: model.dtype_name(),
        threads: rayon::current_num_threads(),
        runs: args.runs,
        load_s: model.load_time().as_secs_f64(),
        weights_gb: model.load_report().bytes as f64 / 1e9,
        read_s: volumes.read_s(),
        vit_s: stage(|t| t.vit),
        text_s: stage(|t| t.text),
        mask_s: stage(|t| t.mask),
        postprocess_s: stage(|t| t.postprocess),
        first_mask_s: median(first).unwrap_or_default(),
        second_mask_s: median(second).unwrap_or_default(),
        modes: windowed.into_iter().map(mode).collect(),
        peak_rss_gib: peak_rss_bytes().map(|b| b as f64 / (1u64 << 30) as f64),
    };
    print(args, &bench, &markdown(&bench))
}

fn markdown(b: &Bench) -> String {
    let row = |stage: &str, time: f64| (stage.to_string(), seconds(time));
    let mut rows =
        vec![("load".to_string(), format!("{} ({:.2} GB)", seconds(b.load_s), b.weights_gb))];
    rows.extend(b.read_s.map(|time| row("read the volume", time)));
    rows.extend([
        row("vision transformer", b.vit_s),
        row("text embedding", b.text_s),
        row("mask", b.mask_s),
        row("mask on the input's grid", b.postprocess_s),
        row("first mask, mode resize", b.first_mask_s),
        row("second mask, mode resize", b.second_mask_s),
    ]);
    for Mode { mode, windows, seconds } in &b.modes {
        rows.push(row(&format!("mask, mode {mode}, windows encoded: {windows}"), *seconds));
    }
    rows.extend(b.peak_rss_gib.map(|gib| ("peak memory".to_string(), format!("{gib:.2} GiB"))));
    table((&b.model, &b.device, b.dtype, b.runs), &rows)
}
