//! `r1seg segment`: one volume, and what texts, points or a box say of it.

use std::io::Write;
use std::time::Instant;

use anyhow::Result;
use r1seg::volume::Warning;
use r1seg::{
    CancelToken, CheckpointSource, EncodeOptions, EncodedVolume, Event, InferenceMode, MaskStatus,
    Prompt, PromptableConfig, PromptableModel, RunContext, phrasing,
};
use r1seg_results::report::{Origin, Prompted, Report};
use r1seg_results::{Findings, Input, Results};

use crate::args::SegmentArgs;
use crate::exit::{CliError, Exit, one_line, say};
use crate::hints;
use crate::job::{self, Finished, Job, finish, number};
use crate::model;
use crate::organs::{self, Organ};
use crate::progress::Progress;
use crate::prompts;

pub(crate) fn run(args: &SegmentArgs, cancel: CancelToken) -> Result<Exit> {
    let job = Job {
        image: &args.image,
        volume: &args.volume,
        model: &args.model,
        output: &args.output,
        prompts: ("--text -", &args.text),
        has_answers: false,
    };
    job.check()?;
    let (source, name) = job.model(&cancel)?;
    let texts = prompts::several(&args.text, "--text")?;
    let organs = organs::organs(&args.organ, "--text")?;
    check_places(args, texts.len() + organs.len())?;
    let count = (texts.len() + organs.len()).max(1);
    job.check_count(count)?;
    // Before anything large is read, what is asked for is compared with what the model knows.
    let config = PromptableConfig::read(&source)?;
    let asked = Asked::new(texts, organs, &config);
    let mode = asked.check(args, &config)?;

    let start = Instant::now();
    let progress = Progress::new(args.output.quiet);
    let input = job.read(&progress)?;
    let places = args.places.prompt(input.volume.geometry())?;
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
    let mut findings = Findings::new(input.volume.geometry());
    let segmenting = Segmenting { job: &job, encoded: &encoded, cancel: &cancel };
    let prompts = segmenting.all(asked.prompts(&places), &mut findings)?;
    let mut warnings = input.warnings.clone();
    warnings.extend(encoded.warnings().iter().cloned());
    warnings.extend(doubts(&prompts));
    let run = job::run(&model, &source, Origin::from(&input), (&encoded).into());
    let finished = Finished {
        start,
        results: Results {
            layout,
            input: &input,
            findings,
            asked_box: places.region,
            asked_points: &places.points,
            answer: String::new(),
            trace: prompts.first().and_then(|prompt| prompt.trace.as_ref()),
            words: hints::words,
        },
        report: Report::of_prompts(run, &prompts),
        warnings,
        why_no_mask: Vec::new(),
    };
    finish(&job, finished, |sizes| print(&job, &prompts, sizes))
}

/// The texts of a run, each with its name: those that were given, then those of organs.
struct Asked {
    texts: Vec<(String, String)>,
    organs: Vec<Organ>,
}

impl Asked {
    fn new(texts: Vec<String>, organs: Vec<Organ>, config: &PromptableConfig) -> Self {
        let of_organ =
            |organ: &Organ| (organ.term.to_string(), phrasing::sentence(config.family, organ.term));
        let texts = texts.into_iter().map(|text| (text.clone(), text));
        Self { texts: texts.chain(organs.iter().map(of_organ)).collect(), organs }
    }

    /// Whether the model knows such prompts. Returns the mode in which it takes them.
    fn check(&self, args: &SegmentArgs, config: &PromptableConfig) -> Result<InferenceMode> {
        let own = config.family.capabilities().default_mode();
        let mode = args.mode.or(own).unwrap_or(InferenceMode::Resize);
        let mut outline = args.places.outline();
        outline.text = self.texts.first().map(|(_, text)| text.clone());
        outline.check(config.family, mode)?;
        if args.output.trace.is_some() && mode == InferenceMode::Sliding {
            return Err(CliError::usage(
                "--trace writes the stages of one look at the whole, and sliding windows take none",
                "use --mode resize",
            ));
        }
        Ok(mode)
    }

    fn announce(&self, quiet: bool) {
        let of_organs = self.texts.len() - self.organs.len();
        for (organ, (_, text)) in self.organs.iter().zip(&self.texts[of_organs..]) {
            if !quiet {
                say!("r1seg: --organ {} is the text: {text}", organ.given);
            }
        }
    }

    fn check_texts(&self, model: &PromptableModel) -> Result<()> {
        let of = self.texts.len();
        for (index, (_, text)) in self.texts.iter().enumerate() {
            model.check_text(text).map_err(|e| prompts::which("text", e, (index, of)))?;
        }
        Ok(())
    }

    /// Each prompt with a name.
    fn prompts(self, places: &Prompt) -> Vec<(String, Prompt)> {
        if self.texts.is_empty() {
            let name = match (places.points.len(), places.region) {
                (0, _) => "box",
                (1, None) => "point",
                (_, None) => "points",
                (_, Some(_)) => "points and box",
            };
            return vec![(name.to_string(), places.clone())];
        }
        let prompt = |(name, text): (String, String)| {
            let mut prompt = places.clone();
            prompt.text = Some(text);
            (name, prompt)
        };
        self.texts.into_iter().map(prompt).collect()
    }
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
    let options = args.volume.with_orient(options);
    if args.output.trace.is_some() { options.with_trace() } else { options }
}

/// What a person should know about the masks.
fn doubts(prompts: &[Prompted]) -> Vec<Warning> {
    let empty = |(_, prompt): &(usize, &Prompted)| prompt.status == MaskStatus::Empty;
    let several = prompts.len() > 1;
    let warning = |(index, _)| {
        let which = if several { format!("text {}: ", index + 1) } else { String::new() };
        Warning::new("W-EMPTY", format!("{which}nothing was found"))
    };
    prompts.iter().enumerate().filter(empty).map(warning).collect()
}

/// Prints what each prompt got, unless standard output carries something else.
fn print(job: &Job<'_>, prompts: &[Prompted], sizes: &[String]) -> std::io::Result<()> {
    if job.mask_to_stdout() || job.output.json {
        return Ok(());
    }
    let mut out = std::io::stdout().lock();
    for (index, (Prompted { name, .. }, size)) in prompts.iter().zip(sizes).enumerate() {
        let which = if prompts.len() > 1 { number(index) } else { String::new() };
        writeln!(out, "{which}{}: {size}", one_line(name))?;
    }
    Ok(())
}

/// There is one text at most beside points and boxes.
fn check_places(args: &SegmentArgs, texts: usize) -> Result<()> {
    if texts > 1 && args.places.is_given() {
        return Err(CliError::usage(
            format!("{texts} texts, and points or a box that can belong to one only"),
            "segment one at a time",
        ));
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
            let which =
                if of > 1 { format!("text {} of {of}: ", index + 1) } else { String::new() };
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
    // In windows: sums of logits, their number and their mean, all f32.
    let grids = match mode {
        InferenceMode::Resize => 0,
        InferenceMode::Zoom | InferenceMode::Sliding => 3,
    };
    // The mask of a prompt, the label map in two bytes, and a layer of the segmentation for each
    // prompt at the worst, when all masks overlap.
    let layers = if prompts > 1 { 2 * prompts as u64 } else { 0 };
    // While a mask is turned back to the stored grid, there are two of it.
    let bytes_a_voxel = 4 * grids + 3 + layers + u64::from(turns);
    bytes_a_voxel.saturating_mul(input.volume.voxels().len() as u64)
}
