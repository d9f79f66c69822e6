//! `r1seg infer`: one volume, one or more questions.
//!
//! [`crate::prompts`] reads the questions, [`crate::organs`] the organs, [`printer`] streams the
//! answers, and [`crate::job`] chooses the files and writes everything.

mod printer;
mod refining;

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use r1seg::volume::{Overwrite, Region};
use r1seg::{
    BOX_PLACEHOLDER, CancelToken, CheckpointSource, EncodeOptions, Event, InferenceMode, Model,
    Outcome, OutputKind, PromptKind, R1SegModel, RunContext, SliceFeatures,
};
use r1seg_results::report::Origin;
use r1seg_results::{
    Asked, Given, Obtained, OutputFolder, Protected, WorkingMemory, Workload, begins_with_seg,
    obtain,
};

use crate::args::InferArgs;
use crate::exit::{CliError, Exit, say};
use crate::hints;
use crate::input;
use crate::job::{self, Finished, Job, finish};
use crate::model;
use crate::organs;
use crate::progress::Progress;
use crate::prompts;
use printer::InOrder;
pub(crate) use printer::{Printer, To};
use refining::Refining;

pub(crate) fn run(args: &InferArgs, cancel: CancelToken) -> Result<Exit> {
    let second = refining::find(args)?;
    let second_source = second.as_ref().map(|second| second.source.clone());
    let job = Job {
        image: &args.image,
        volume: &args.volume,
        model: &args.model,
        second: second_source.as_ref(),
        output: &args.output,
        prompts: ("--prompt -", &args.prompt),
        read: args.ask.slice_features.iter().map(|path| ("features of slices", path)).collect(),
        has_answers: true,
        apart: Vec::new(),
    };
    job.check()?;
    let (source, name) = job.model(&cancel)?;
    check_masks(args, &source)?;
    if let Some(path) = &args.ask.save_slice_features {
        check_place(args, &source, path)?;
    }
    let options = args.ask.answers.options()?;
    let prompts = prompts::questions(&args.prompt)?;
    let organs = organs::organs(&args.organ, IN_WORDS)?;
    let count = prompts.len() + organs.len();
    job.check_count(count)?;
    let labels = refining::labels(second.as_ref(), count)?;

    let encode_options = encode_options(args)?;
    let start = Instant::now();
    let progress = Progress::new(args.output.quiet);
    let input = job.read(&progress)?;
    let region = args.about.region(input.volume.geometry())?;
    check_box(&prompts, region, args.ask.mode)?;
    let layout = job.layout(&source, &input, labels)?;
    if let Some(second) = &second {
        second.check(&input.volume, &args.volume, labels)?;
    }
    progress.stage("loading the model");
    let (mode, turns) = (args.ask.mode, args.volume.turns());
    let volume = &input.volume;
    let work = Workload { source: &source, mode, turns, volume, prompts: labels, apart: 0 };
    let reserved = WorkingMemory::of(&work)?.peak;
    let load = model::refined(model::load_options(&args.model.load, reserved), &args.refine);
    let load = model::drafting(load, args.ask.answers.drafts);
    let load = load.with_questions(count).with_cancel(cancel.clone());
    let model = Model::Language(R1SegModel::load_with(&source, &load)?);
    if args.ask.save_slice_features.is_some() && model.slices().is_none() {
        return Err(CliError::usage(
            "--save-slice-features has nothing to write: the model reads no slices",
            "leave it out",
        ));
    }
    progress.clear();
    job.announce(&model, &name.id, &input);
    let organs = organs.into_iter().map(|organ| Asked::of_organ(organ, model.family()));
    let mut asked: Vec<Asked> = prompts.into_iter().map(Asked::of_text).chain(organs).collect();
    for (index, asked) in asked.iter_mut().enumerate() {
        asked.prompt.region = region;
        asked.name = job.label(index, &asked.name).to_string();
    }
    announce(&asked, args.output.quiet);
    for (index, asked) in asked.iter().enumerate() {
        asked
            .check(&model, &options, Some(mode))
            .map_err(|e| prompts::which("prompt", e, (index, count)))?;
    }

    let progress = Progress::new(args.output.quiet);
    progress.stage("encoding the volume");
    let mut run = RunContext::from(&cancel);
    let encoded = model.encode_with(&input.volume, &encode_options, &mut run)?;
    let mut screen = Screen::new(&job, progress, count, encoded.mode());
    let mut obtained =
        obtain(&encoded, asked, &options, &cancel, &mut |event| screen.on_event(event))?;
    let printer = screen.end(&obtained);
    let named = r1seg_results::report::Model::of(&model, &source);
    let run = job::run(&model, &named, Origin::from(&input), &encoded);
    if let (Some(path), Some(features)) = (&args.ask.save_slice_features, encoded.slice_features())
    {
        // For the next run about this volume.
        features.write(path, overwrite(args))?;
    }
    let draws_masks = model.capabilities().gives(OutputKind::Mask);
    let mut report = obtained.report(run, &model, &options);
    let mut warnings = obtained.warnings(&source, model.family(), &input, &encoded);
    drop((encoded, model));
    let failed = match second {
        Some(second) => refining::run(args, second, &input, &mut obtained, &cancel)?,
        None => Refining::default(),
    };
    report.set_refined(obtained.refined());
    warnings.extend(obtained.refining_warnings().into_iter().chain(failed.warning));
    let finished = Finished {
        start,
        report,
        warnings,
        why_no_mask: match draws_masks {
            true => obtained.given().iter().map(|of| why_no_mask(&of.outcome)).collect(),
            false => vec!["the model draws none"; obtained.given().len()],
        },
        by_name: false,
        results: obtained.into_results(layout, &input, hints::words),
    };
    let exit = finish(&job, finished, |_| printer.end())?;
    failed.error.map_or(Ok(exit), Err)
}

/// Prints the sentences that were written for organs.
fn announce(asked: &[Asked], quiet: bool) {
    for asked in asked.iter().filter(|_| !quiet) {
        if let Some(organ) = &asked.organ {
            say!("r1seg: --organ {} asks: {}", organ.given, asked.text());
        }
    }
}

fn encode_options(args: &InferArgs) -> Result<EncodeOptions> {
    let options =
        EncodeOptions::default().with_preprocess(args.ask.preprocess).with_mode(args.ask.mode);
    let options = args.volume.with_orient(options);
    let options = match &args.ask.slice_features {
        Some(path) => options.with_slice_features(SliceFeatures::read(path)?),
        None => options,
    };
    Ok(if args.output.trace.is_some() { options.with_trace() } else { options })
}

/// Refuses what is for masks where the model draws none, before anything is read.
fn check_masks(args: &InferArgs, source: &CheckpointSource) -> Result<()> {
    // A checkpoint that cannot be read is refused when it is loaded.
    let Ok(capabilities) = source.capabilities() else { return Ok(()) };
    if !capabilities.takes(PromptKind::Question) || capabilities.gives(OutputKind::Mask) {
        return Ok(());
    }
    let out = &args.output;
    for (flag, given) in [
        ("--organ", !args.organ.is_empty()),
        ("--mask", out.mask.is_some()),
        ("--empty-mask", out.empty_mask),
        ("--require-mask", out.require_mask),
        ("--refine-with", args.refine_with.refine_with.is_some()),
        ("--num-clicks", args.refine.num_clicks.is_some()),
        ("--first-seg", args.ask.answers.first_seg),
        ("--abstain", args.ask.answers.abstain),
    ] {
        if given {
            let name = source.family()?.name();
            return Err(CliError::usage(
                format!("{flag} is for masks, and {name} answers in words alone"),
                format!(
                    "leave out {flag}, or use a model that segments: `r1seg models` lists them"
                ),
            ));
        }
    }
    Ok(())
}

/// Refuses a file for features of slices that cannot be written, before anything is computed.
fn check_place(args: &InferArgs, source: &CheckpointSource, path: &Path) -> Result<()> {
    let inputs = input::protect(Protected::default(), "the image", &args.image).model(source);
    let files = [path.to_path_buf()];
    inputs.check(&files)?;
    OutputFolder::open(None, overwrite(args), &files)?;
    Ok(())
}

fn overwrite(args: &InferArgs) -> Overwrite {
    if args.output.force { Overwrite::Replace } else { Overwrite::Refuse }
}

/// Tells `-v` where the time of an answer went.
fn trace_tokens(answer: &Outcome) {
    let r1seg::Timings { prefill, decode, .. } = answer.timings;
    let (prefill_s, decode_s) = (prefill.as_secs_f64(), decode.as_secs_f64());
    let (prompt, generated) = (answer.prompt_tokens, answer.token_ids.len());
    tracing::info!(name: "tokens", prompt, prefill_s, generated, decode_s);
}

/// In words, since the reader of a terminal does not see the tokens.
fn why_no_mask(answer: &Outcome) -> &'static str {
    if answer.text.trim().is_empty() {
        return "the answer is empty";
    }
    if begins_with_seg(answer) {
        "the answer begins with [SEG], which the authors' code ignores; --first-seg uses it"
    } else {
        "the answer has no [SEG]"
    }
}

/// How to ask for what has no name in the table of organs.
const IN_WORDS: &str = "--prompt \"Can you segment the .. in this image?\"";

/// A prompt with a place for a box has one, and boxes are for whole volumes.
fn check_box(prompts: &[String], region: Option<Region>, mode: InferenceMode) -> Result<()> {
    let placed = prompts.iter().any(|prompt| prompt.contains(BOX_PLACEHOLDER));
    if placed && region.is_none() {
        return Err(CliError::usage(
            format!("a prompt has {BOX_PLACEHOLDER}, and no box was given"),
            "give --box I0,J0,K0,I1,J1,K1 or --box-mm X0,Y0,Z0,X1,Y1,Z1",
        ));
    }
    if region.is_some() && mode == InferenceMode::Sliding {
        return Err(CliError::usage(
            "--mode sliding shows the model one window after the other, and a box is for the whole \
             volume",
            "use --mode resize",
        ));
    }
    Ok(())
}

/// Progress, and answers as they are generated, in the order of their prompts.
struct Screen {
    progress: Progress,
    words: InOrder,
    printer: Printer,
    prompts: usize,
    mode: InferenceMode,
}

impl Screen {
    fn new(job: &Job<'_>, progress: Progress, prompts: usize, mode: InferenceMode) -> Self {
        progress.stage(match prompts {
            1 => "reading the question".to_string(),
            _ => format!("reading {prompts} questions"),
        });
        let (words, printer) = (InOrder::new(prompts), Printer::new(To::of(job), prompts));
        Self { progress, words, printer, prompts, mode }
    }

    fn on_event(&mut self, event: Event<'_>) {
        let ready = match event {
            Event::Text { prompt, text } => self.words.text(prompt, text),
            Event::TextDone { prompt } => self.words.done(prompt),
            Event::Window { index, of } => {
                return self.progress.stage(format!("window {} of {of}", index + 1));
            }
            Event::Mask { prompt } => {
                let which = match self.prompts {
                    1 => String::new(),
                    of => format!(" {} of {of}", prompt + 1),
                };
                self.progress.clear();
                self.progress = self.progress.again();
                return self.progress.stage(format!("drawing the mask{which}"));
            }
            _ => return,
        };
        if !ready.is_empty() && self.mode == InferenceMode::Resize {
            self.progress.clear();
            self.printer.print(&ready);
        }
    }

    /// Of windows, their answers are shown only now.
    fn end(mut self, obtained: &Obtained) -> Printer {
        self.progress.clear();
        for (index, Given { outcome, .. }) in obtained.given().iter().enumerate() {
            if self.mode == InferenceMode::Sliding {
                self.printer.distinct(index, outcome);
            }
            trace_tokens(outcome);
        }
        self.printer
    }
}
