//! `r1seg segment`: one volume, and what texts, points, boxes or a mask say of it.

mod asked;
mod classes;
mod truth;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use r1seg::volume::{Geometry, LabelMap, ReadOptions};
use r1seg::{
    AskOptions, CancelToken, CheckpointSource, Diagnostic, EncodeOptions, EncodedVolume, Event,
    InferenceMode, Model, Orient, PromptKind, RunContext,
};
use r1seg_results::report::{self, Origin};
use r1seg_results::{Asked, Obtained, WorkingMemory, Workload, is_segmentation, obtain};

use crate::args::SegmentArgs;
use crate::exit::{CliError, Exit, one_line, say};
use crate::hints;
use crate::input;
use crate::job::{self, Finished, Job, finish, number};
use crate::model;
use crate::organs;
use crate::progress::{Progress, gigabytes};
use crate::prompts;
use asked::{Texts, check_places, with_masks};

/// How many classes are assumed to claim the same voxel.
const MOST_LAYERS: usize = 8;

pub(crate) fn run(args: &SegmentArgs, cancel: CancelToken) -> Result<Exit> {
    let clicks = &args.clicks;
    let mut job = Job {
        image: &args.image,
        volume: &args.volume,
        model: &args.model,
        second: None,
        output: &args.output,
        prompts: ("--text -", &args.text),
        read: [&clicks.mask_prompt, &clicks.truth, &args.classes.classes_file]
            .into_iter()
            .flatten()
            .map(|path| ("a mask", path))
            .collect(),
        has_answers: false,
        apart: Vec::new(),
    };
    job.check()?;
    let (source, name) = job.model(&cancel)?;
    let texts = prompts::several(&args.text, "--text")?;
    let organs = organs::organs(&args.organ, "--text")?;
    // The request is checked against the model before anything large is read.
    let family = source.segmenter()?;
    if args.places.len() > 0 && family.has_classes() {
        let known = source.capabilities()?;
        if !known.takes(PromptKind::Points) {
            return Err(CliError::usage(
                "this model was trained for classes alone, and takes no points",
                "name a class, or use NV-Segment-CT",
            ));
        }
    }
    if args.classes.one_file_per_class && job.mask_to_stdout() {
        return Err(CliError::usage(
            "--one-file-per-class writes several files, and --mask - one",
            "name a file with --mask FILE, or a folder with --out DIR",
        ));
    }
    let texts = Texts::new(texts, organs, family);
    let texts =
        texts.and_classes(classes::classes(&args.classes, &source, family, args.places.len() > 0)?);
    check_places(args, texts.len())?;
    let count = texts.len().max(args.places.len()).max(1);
    if args.classes.one_file_per_class {
        job.apart = texts.labels(&source, count)?;
    }
    if clicks.truth.is_none() {
        job.check_count(count)?;
    }
    let mode = match &clicks.truth {
        Some(_) => truth::check(args, family)?,
        None => texts.check(args, family)?,
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
    let turns = args.volume.turns();
    // Classes share one label map, unless each is to keep all of its voxels.
    let layers = match (family.has_classes(), keeps_overlaps(args)) {
        (false, _) => count,
        (true, false) => 1,
        (true, true) => count.min(MOST_LAYERS),
    };
    let apart = if keeps_overlaps(args) { count } else { 0 };
    let volume = &input.volume;
    let work = Workload { source: &source, mode, turns, volume, prompts: layers, apart };
    let working = WorkingMemory::of(&work)?;
    let model = load(args, &source, working.peak, &cancel)?;
    progress.clear();
    if let Some(windows) = working.windows.filter(|_| !args.output.quiet && args.places.len() == 0)
    {
        let [x, y, z] = model.input_shape();
        let beside = working.peak.saturating_add(input.volume.voxels().bytes());
        let bytes = gigabytes(model.memory_bytes().saturating_add(beside));
        say!("r1seg: at most {windows} windows of {x} x {y} x {z} voxels, and {bytes} of memory");
    }
    job.announce(&model, &name.id, &input);
    texts.announce(args.output.quiet);
    // A class beside points was checked with them.
    if !family.has_classes() || args.places.len() == 0 {
        texts.check_texts(&model, mode)?;
    }

    let mut run = RunContext::from(&cancel);
    let encoded = model.encode_with(&input.volume, &options(args, mode), &mut run)?;
    let segmenting = Segmenting { job: &job, encoded: &encoded, cancel: &cancel };
    let (obtained, scores) = match &truth {
        Some(truth) => segmenting.simulated(truth, clicks)?,
        None => {
            let mut asked = texts.asked(places);
            for (index, asked) in asked.iter_mut().enumerate() {
                asked.prompt.points_at_once = clicks.at_once;
                asked.name = job.label(index, &asked.name).to_string();
            }
            (segmenting.all(asked)?, Vec::new())
        }
    };
    let named = report::Model::of(&model, &source);
    let run = job::run(&model, &named, Origin::from(&input), &encoded);
    let names: Vec<String> = obtained.given().iter().map(|of| of.asked.name.clone()).collect();
    let finished = Finished {
        start,
        report: obtained.report(run, &model, &AskOptions::default()),
        warnings: obtained.warnings(&source, model.family(), &input, &encoded),
        why_no_mask: Vec::new(),
        by_name: family.has_classes(),
        results: obtained.into_results(layout, &input, hints::words),
    };
    let is_numbered = names.len() > 1 && !family.has_classes();
    finish(&job, finished, |sizes| print(&job, (&names, is_numbered), &scores, sizes))
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
) -> Result<Model> {
    let options = model::refined(model::load_options(&args.model.load, reserved), &args.refine);
    Ok(r1seg::load(source, &options.with_cancel(cancel.clone()))?)
}

fn options(args: &SegmentArgs, mode: InferenceMode) -> EncodeOptions {
    let options = EncodeOptions::default().with_preprocess(args.prepare.preprocess).with_mode(mode);
    let options = match args.clicks.as_stored {
        true => options.with_orient(Orient::Stored),
        false => args.volume.with_orient(options),
    };
    let options = if keeps_overlaps(args) { options.with_overlaps() } else { options };
    if args.output.trace.is_some() { options.with_trace() } else { options }
}

/// Whether masks of classes keep the voxels that they share: one label map has no room for them.
fn keeps_overlaps(args: &SegmentArgs) -> bool {
    args.classes.one_file_per_class || args.output.mask.as_deref().is_some_and(is_segmentation)
}

/// Prints what each prompt got, unless standard output carries something else.
fn print(
    job: &Job<'_>,
    (names, is_numbered): (&[String], bool),
    scores: &[String],
    sizes: &[String],
) -> std::io::Result<()> {
    if job.mask_to_stdout() || job.output.json {
        return Ok(());
    }
    let mut out = std::io::stdout().lock();
    for (index, (name, size)) in names.iter().zip(sizes).enumerate() {
        let which = if is_numbered { number(index) } else { String::new() };
        let score = scores.get(index).map(|score| format!(", {score}")).unwrap_or_default();
        writeln!(out, "{which}{}: {size}{score}", one_line(name))?;
    }
    Ok(())
}

/// The estimated time left, once enough windows are done for an estimate.
fn left(elapsed: Duration, done: usize, of: usize) -> String {
    if done < 2 || elapsed < Duration::from_secs(5) {
        return String::new();
    }
    let seconds = (elapsed.as_secs_f64() / done as f64 * of.saturating_sub(done) as f64).round();
    match seconds as u64 {
        seconds @ 0..90 => format!(", about {seconds} s left"),
        seconds => format!(", about {} min left", seconds.div_ceil(60)),
    }
}

/// Prompts for an encoded volume.
struct Segmenting<'a> {
    job: &'a Job<'a>,
    encoded: &'a EncodedVolume,
    cancel: &'a CancelToken,
}

impl Segmenting<'_> {
    /// What each prompt got, with progress shown meanwhile.
    fn all(&self, asked: Vec<Asked>) -> Result<Obtained> {
        let of = asked.len();
        let has_texts = asked.iter().any(|asked| asked.prompt.text.is_some());
        let progress = Progress::new(self.job.output.quiet);
        let mut which = String::new();
        let mut begun = Instant::now();
        let mut on_event = |event: Event<'_>| match event {
            Event::Prompt { prompt } => {
                which = match (of, has_texts) {
                    (1, _) => String::new(),
                    (_, true) => format!("text {} of {of}: ", prompt + 1),
                    (_, false) => format!("target {} of {of}: ", prompt + 1),
                };
                progress.stage(format!("{which}encoding the volume"));
            }
            Event::Window { index, of } => {
                if index == 0 {
                    begun = Instant::now();
                }
                let left = left(begun.elapsed(), index, of);
                progress.stage(format!("{which}window {} of {of}{left}", index + 1));
            }
            Event::Mask { .. } => progress.stage(format!("{which}drawing the mask")),
            _ => {}
        };
        let options = AskOptions::default();
        let obtained = obtain(self.encoded, asked, &options, self.cancel, &mut on_event)?;
        progress.clear();
        Ok(obtained)
    }
}
