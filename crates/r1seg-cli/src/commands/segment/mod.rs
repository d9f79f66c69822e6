//! `r1seg segment`: one volume, and what texts, points, boxes or a mask say of it.

mod asked;
mod truth;

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use r1seg::volume::{Geometry, LabelMap, ReadOptions, Region, Warning};
use r1seg::{
    CancelToken, CheckpointSource, Diagnostic, EncodeOptions, EncodedVolume, Event, InferenceMode,
    MaskStatus, Orient, Prompt, PromptPoint, PromptableConfig, PromptableModel, RunContext,
};
use r1seg_results::report::{Origin, Prompted, Report};
use r1seg_results::{Findings, Input, Results};

use crate::args::SegmentArgs;
use crate::exit::{CliError, Exit, one_line};
use crate::hints;
use crate::input;
use crate::job::{self, Finished, Job, finish, number};
use crate::model;
use crate::organs;
use crate::progress::Progress;
use crate::prompts;
use asked::{Asked, check_places, with_masks};

pub(crate) fn run(args: &SegmentArgs, cancel: CancelToken) -> Result<Exit> {
    let clicks = &args.clicks;
    let job = Job {
        image: &args.image,
        volume: &args.volume,
        model: &args.model,
        output: &args.output,
        prompts: ("--text -", &args.text),
        masks: clicks.mask_prompt.iter().chain(&clicks.truth).collect(),
        has_answers: false,
    };
    job.check()?;
    let (source, name) = job.model(&cancel)?;
    let texts = prompts::several(&args.text, "--text")?;
    let organs = organs::organs(&args.organ, "--text")?;
    check_places(args, texts.len() + organs.len())?;
    let count = (texts.len() + organs.len()).max(args.places.len()).max(1);
    if clicks.truth.is_none() {
        job.check_count(count)?;
    }
    // Before anything large is read, what is asked for is compared with what the model knows.
    let config = PromptableConfig::read(&source)?;
    let asked = Asked::new(texts, organs, &config);
    let mode = match &clicks.truth {
        Some(_) => truth::check(args, &config)?,
        None => asked.check(args, &config)?,
    };

    let start = Instant::now();
    let progress = Progress::new(args.output.quiet);
    let input = job.read(&progress)?;
    let geometry = input.volume.geometry();
    let mut places = args.places.prompts(geometry)?;
    if let Some(path) = &clicks.mask_prompt {
        places = with_masks(places, &labels(path, geometry)?, args.output.quiet)?;
    }
    let truth = clicks.truth.as_deref().map(|path| labels(path, geometry)).transpose()?;
    let count = match &truth {
        Some(truth) => truth::labels(truth)?.len(),
        None => count,
    };
    job.check_count(count)?;
    let layout = job.layout(&source, &input, count)?;
    progress.stage("loading the model");
    let reserved = working_memory(mode, args.volume.turns(), &input, count);
    let model = load(args, &source, reserved, &cancel)?;
    progress.clear();
    job.announce(&model, &name.id, &input);
    asked.announce(args.output.quiet);
    asked.check_texts(&model)?;

    let mut run = RunContext::from(&cancel);
    let encoded = model.encode_with(&input.volume, &options(args, mode), &mut run)?;
    let mut findings = Findings::new(geometry);
    let segmenting = Segmenting { job: &job, encoded: &encoded, cancel: &cancel };
    let (prompts, scores) = match &truth {
        Some(truth) => segmenting.simulated(truth, clicks, &mut findings)?,
        None => {
            let mut prompts = asked.prompts(places);
            for (_, prompt) in &mut prompts {
                prompt.points_at_once = clicks.at_once;
            }
            (segmenting.all(prompts, &mut findings)?, Vec::new())
        }
    };
    let mut warnings = input.warnings.clone();
    warnings.extend(encoded.warnings().iter().cloned());
    warnings.extend(doubts(&prompts));
    let (points, boxes) = marks(&prompts);
    let run = job::run(&model, &source, Origin::from(&input), (&encoded).into());
    let finished = Finished {
        start,
        results: Results {
            layout,
            input: &input,
            findings,
            asked_boxes: &boxes,
            asked_points: &points,
            answer: String::new(),
            trace: prompts.first().and_then(|prompt| prompt.trace.as_ref()),
            words: hints::words,
        },
        report: Report::of_prompts(run, &prompts),
        warnings,
        why_no_mask: Vec::new(),
    };
    finish(&job, finished, |sizes| print(&job, &prompts, &scores, sizes))
}

/// A mask or a segmentation in a file, on the grid of the volume.
fn labels(path: &Path, geometry: &Geometry) -> Result<LabelMap> {
    let read = input::load(path, &ReadOptions::default())?;
    let on_grid = geometry.check_same_grid(read.volume.geometry());
    let labels = on_grid.and_then(|()| LabelMap::from_volume(&read.volume));
    labels.map_err(|error| CliError::from(&error as &dyn Diagnostic).at(path).into())
}

fn load(
    args: &SegmentArgs,
    source: &CheckpointSource,
    reserved: u64,
    cancel: &CancelToken,
) -> Result<PromptableModel> {
    let options = model::refined(model::load_options(&args.model, reserved), &args.refine);
    Ok(PromptableModel::load_with(source, &options.with_cancel(cancel.clone()))?)
}

fn options(args: &SegmentArgs, mode: InferenceMode) -> EncodeOptions {
    let options = EncodeOptions::default().with_preprocess(args.prepare.preprocess).with_mode(mode);
    let options = match args.clicks.as_stored {
        true => options.with_orient(Orient::Stored),
        false => args.volume.with_orient(options),
    };
    if args.output.trace.is_some() { options.with_trace() } else { options }
}

/// The points and the boxes of all prompts.
fn marks(prompts: &[Prompted]) -> (Vec<PromptPoint>, Vec<Region>) {
    let points = prompts.iter().flat_map(|of| of.prompt.points.iter().copied());
    let boxes = prompts.iter().filter_map(|of| of.prompt.region);
    (points.collect(), boxes.collect())
}

/// What a person should know about the masks.
fn doubts(prompts: &[Prompted]) -> Vec<Warning> {
    let mut doubts = Vec::new();
    for (index, prompt) in prompts.iter().enumerate() {
        let which = match (prompts.len(), &prompt.prompt.text) {
            (..2, _) => String::new(),
            (_, Some(_)) => format!("text {}: ", index + 1),
            (_, None) => format!("{}: ", one_line(&prompt.name)),
        };
        if prompt.status == MaskStatus::Empty {
            doubts.push(Warning::new("W-EMPTY", format!("{which}nothing was found")));
        }
        for warning in &prompt.warnings {
            let mut warning = warning.clone();
            warning.text.insert_str(0, &which);
            doubts.push(warning);
        }
    }
    doubts
}

/// Prints what each prompt got, unless standard output carries something else.
fn print(
    job: &Job<'_>,
    prompts: &[Prompted],
    scores: &[String],
    sizes: &[String],
) -> std::io::Result<()> {
    if job.mask_to_stdout() || job.output.json {
        return Ok(());
    }
    let mut out = std::io::stdout().lock();
    for (index, (Prompted { name, .. }, size)) in prompts.iter().zip(sizes).enumerate() {
        let which = if prompts.len() > 1 { number(index) } else { String::new() };
        let score = scores.get(index).map(|score| format!(", {score}")).unwrap_or_default();
        writeln!(out, "{which}{}: {size}{score}", one_line(name))?;
    }
    Ok(())
}

/// Prompts for an encoded volume.
struct Segmenting<'a> {
    job: &'a Job<'a>,
    encoded: &'a EncodedVolume,
    cancel: &'a CancelToken,
}

impl Segmenting<'_> {
    /// What each prompt got. Masks are joined by the names of their labels.
    fn all(
        &self,
        prompts: Vec<(String, Prompt)>,
        findings: &mut Findings,
    ) -> Result<Vec<Prompted>> {
        let of = prompts.len();
        let progress = Progress::new(self.job.output.quiet);
        let mut prompted = Vec::with_capacity(of);
        for (index, (name, prompt)) in prompts.into_iter().enumerate() {
            let which = match (of, &prompt.text) {
                (1, _) => String::new(),
                (_, Some(_)) => format!("text {} of {of}: ", index + 1),
                (_, None) => format!("target {} of {of}: ", index + 1),
            };
            progress.stage(format!("{which}encoding the volume"));
            let mut on_event = |event: Event<'_>| match event {
                Event::Window { index, of } => {
                    progress.stage(format!("{which}window {} of {of}", index + 1));
                }
                Event::Mask { .. } => progress.stage(format!("{which}drawing the mask")),
                _ => {}
            };
            let mut run = RunContext::from(self.cancel).with_events(&mut on_event);
            let found = self.encoded.segment_with(&prompt, &mut run)?;
            let (got, mask) = Prompted::new(name, prompt, found);
            findings.push(self.job.label(index, &got.name), mask.as_ref(), Vec::new())?;
            prompted.push(got);
        }
        progress.clear();
        Ok(prompted)
    }
}

/// Bytes beside the volume itself and the model, for what is made of the volume.
fn working_memory(mode: InferenceMode, turns: bool, input: &Input, prompts: usize) -> u64 {
    // In windows: sums of logits, their number and their mean, all f32. Around crops: the volume in
    // voxels of 1.5 mm, as f32; and where they grow, sums of logits and a mask as well.
    let grids = match mode {
        InferenceMode::Resize | InferenceMode::Crop | InferenceMode::Grow => 0,
        InferenceMode::Zoom | InferenceMode::Sliding => 3,
    };
    let spacing = input.volume.geometry().spacing_mm().unwrap_or([1.5; 3]);
    let stored = input.volume.voxels().len() as u64;
    let resampled = (stored as f64 * spacing.iter().map(|mm| mm / 1.5).product::<f64>()) as u64;
    let around_crops = match mode {
        InferenceMode::Crop => resampled.saturating_mul(4),
        InferenceMode::Grow => resampled.max(stored).saturating_mul(4 + 4 + 4 + 1),
        _ => 0,
    };
    // The mask of a prompt, the label map in two bytes, and a layer of the segmentation for each
    // prompt at the worst, when all masks overlap.
    let layers = if prompts > 1 { 2 * prompts as u64 } else { 0 };
    // While a mask is turned back to the stored grid, there are two of it.
    let bytes_a_voxel = 4 * grids + 3 + layers + u64::from(turns);
    bytes_a_voxel.saturating_mul(stored).saturating_add(around_crops)
}
