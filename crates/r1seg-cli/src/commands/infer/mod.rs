//! `r1seg infer`: one volume, one or more questions.
//!
//! [`crate::prompts`] reads the questions, [`crate::organs`] the organs, [`printer`] streams the
//! answers, [`doubts`] says what is odd about them, and [`crate::job`] chooses the files and writes
//! everything.

mod doubts;
mod printer;

use std::time::Instant;

use anyhow::Result;
use r1seg::registry::Family;
use r1seg::volume::{Region, Warning};
use r1seg::{
    AskOptions, BOX_PLACEHOLDER, BoxText, CancelToken, EncodeOptions, EncodedVolume, Event,
    InferenceMode, Outcome, Prompt, QUESTIONS_AT_ONCE, R1SegModel, RunContext, phrasing,
};
use r1seg_results::report::{Answered, OrganName, Origin, Questions, Report, Run};
use r1seg_results::{Findings, Input, Results};

use crate::args::InferArgs;
use crate::exit::{CliError, Exit, say};
use crate::hints;
use crate::job::{self, Finished, Job, finish, number};
use crate::model;
use crate::organs::{self, Organ};
use crate::progress::Progress;
use crate::prompts;
use doubts::{begins_with_seg, doubts};
use printer::{InOrder, Printer, To};

pub(crate) fn run(args: &InferArgs, cancel: CancelToken) -> Result<Exit> {
    let job = Job {
        image: &args.image,
        volume: &args.volume,
        model: &args.model,
        output: &args.output,
        prompts: ("--prompt -", &args.prompt),
        masks: Vec::new(),
        has_answers: true,
    };
    job.check()?;
    let (source, name) = job.model(&cancel)?;
    let options = args.ask.options()?;
    let prompts = prompts::questions(&args.prompt)?;
    let organs = organs::organs(&args.organ, IN_WORDS)?;
    let count = prompts.len() + organs.len();
    job.check_count(count)?;

    let start = Instant::now();
    let progress = Progress::new(args.output.quiet);
    let input = job.read(&progress)?;
    let region = args.about.region(input.volume.geometry())?;
    check_box(&prompts, region, args.ask.mode)?;
    let layout = job.layout(&source, &input, count)?;
    progress.stage("loading the model");
    let load = model::load_options(&args.model, working_memory(args, &input, count));
    let load = model::refined(load, &args.refine).with_questions(count);
    let model = R1SegModel::load_with(&source, &load.with_cancel(cancel.clone()))?;
    progress.clear();
    job.announce(&model, &name.id, &input);
    let asked = Asked::new(prompts, organs, model.family()).about(region);
    asked.announce(args.output.quiet);
    asked.check(&model, &options)?;

    let progress = Progress::new(args.output.quiet);
    progress.stage("encoding the volume");
    let mut run = RunContext::from(&cancel);
    let encoded = model.encode_with(&input.volume, &encode_options(args), &mut run)?;
    let mut printer = Printer::new(To::of(&job), count);
    let asking =
        Asking { job: &job, asked: &asked, encoded: &encoded, options: &options, cancel: &cancel };
    let mut findings = Findings::new(input.volume.geometry());
    let answers = asking.all(progress, &mut printer, &mut findings)?;
    let run = job::run(&model, &source, Origin::from(&input), (&encoded).into());
    let finished = Finished {
        start,
        results: Results {
            layout,
            input: &input,
            findings,
            asked_boxes: region.as_slice(),
            asked_points: &[],
            answer: asked.answer_text(&answers),
            trace: answers.first().and_then(|of| of.answer.trace.as_ref()),
            words: hints::words,
        },
        report: asked.report(run, &model, &options, &answers),
        warnings: asked.warnings(args, &input, &encoded, &answers),
        why_no_mask: answers.iter().map(|of| why_no_mask(&of.answer)).collect(),
    };
    finish(&job, finished, |_| printer.end())
}

/// The questions of a run: those that were given, then those that are written for organs.
struct Asked {
    family: Family,
    questions: Vec<String>,
    organs: Vec<Organ>,
    /// What all of them are about.
    region: Option<Region>,
}

impl Asked {
    fn new(mut questions: Vec<String>, organs: Vec<Organ>, family: Family) -> Self {
        questions.extend(organs.iter().map(|organ| phrasing::sentence(family, organ.term)));
        Self { family, questions, organs, region: None }
    }

    fn about(self, region: Option<Region>) -> Self {
        Self { region, ..self }
    }

    fn prompt(&self, question: &str) -> Prompt {
        let prompt = Prompt::of_text(question);
        match self.region {
            Some(region) => prompt.with_region(region),
            None => prompt,
        }
    }

    /// Each organ with the index of its question.
    fn organs(&self) -> impl Iterator<Item = (usize, &Organ)> {
        (self.questions.len() - self.organs.len()..).zip(&self.organs)
    }

    /// The organ that the question of this index was written for.
    fn organ(&self, index: usize) -> Option<&Organ> {
        self.organs().find(|(of, _)| *of == index).map(|(_, organ)| organ)
    }

    fn announce(&self, quiet: bool) {
        for (index, organ) in self.organs().filter(|_| !quiet) {
            say!("r1seg: --organ {} asks: {}", organ.given, self.questions[index]);
        }
    }

    /// Asked before the vision transformer runs, so that a question that cannot be answered costs
    /// nothing.
    fn check(&self, model: &R1SegModel, options: &AskOptions) -> Result<()> {
        let count = self.questions.len();
        for (index, question) in self.questions.iter().enumerate() {
            // Any box has as many tokens as another, give or take a digit.
            let asked = match self.region {
                None => model.prompt(question, options.separator),
                Some(_) => model.prompt_about(question, &ANY_BOX, options.separator),
            };
            asked.map_err(|e| prompts::which("prompt", e, (index, count)))?;
        }
        Ok(())
    }

    /// What is odd about the volume, the model and the answers.
    fn warnings(
        &self,
        args: &InferArgs,
        input: &Input,
        encoded: &EncodedVolume,
        answers: &[Answered],
    ) -> Vec<Warning> {
        let mut warnings = input.warnings.clone();
        if model::is_demo(&args.model) {
            warnings.push(
                Warning::new(
                    "W-DEMO",
                    "the demo model knows only synthetic phantoms: what it says about this volume \
                     means nothing",
                )
                .with_remedy("use --model DIR with a trained checkpoint"),
            );
        }
        warnings.extend(encoded.warnings().iter().cloned());
        let several = answers.len() > 1;
        for (index, answered) in answers.iter().enumerate() {
            warnings.extend(doubts(self.family, answered, several.then_some(index)));
        }
        warnings
    }

    fn report(
        &self,
        run: Run<'_>,
        model: &R1SegModel,
        options: &AskOptions,
        answers: &[Answered],
    ) -> Report {
        let region = self.region;
        let (separator, grid) = (model.separator(options, region), model.input_shape());
        let questions = Questions { options, region, separator, grid, answers };
        let mut report = Report::of_answers(run, &questions);
        for (index, Organ { given, term }) in self.organs() {
            report.set_organ(index, &OrganName { given: given.clone(), term });
        }
        report
    }

    /// For `answer.txt`. Where a sentence was written for an organ, it stands before its answer.
    fn answer_text(&self, answers: &[Answered]) -> String {
        let numbered = answers.len() > 1;
        let text = |(index, Answered { question, answer, .. }): (usize, &Answered)| {
            let which = if numbered { number(index) } else { String::new() };
            match self.organ(index) {
                Some(_) => format!("{which}Q: {question}\n{which}A: {}\n", answer.text),
                None => format!("{which}{}\n", answer.text),
            }
        };
        answers.iter().enumerate().map(text).collect()
    }
}

fn encode_options(args: &InferArgs) -> EncodeOptions {
    let options =
        EncodeOptions::default().with_preprocess(args.ask.preprocess).with_mode(args.ask.mode);
    let options = args.volume.with_orient(options);
    if args.output.trace.is_some() { options.with_trace() } else { options }
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

/// For questions whose box is not known yet.
const ANY_BOX: BoxText =
    BoxText { d0: 0.125, h0: 0.125, w0: 0.125, d1: 0.875, h1: 0.875, w1: 0.875 };

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

/// Bytes beside the volume itself and the model, for what is made of the volume.
fn working_memory(args: &InferArgs, input: &Input, prompts: usize) -> u64 {
    // In windows: normalized intensities, a mean of logits, and of each question that is asked at
    // once their sums and their number, all f32. In one pass, only the model's own grid is made.
    let grids = match args.ask.mode {
        InferenceMode::Sliding => 2 + 2 * prompts.min(QUESTIONS_AT_ONCE) as u64,
        _ => 0,
    };
    // A mask for each question that is asked at once, the label map in two bytes, a mask that is
    // measured, and a layer of the segmentation for each prompt at the worst, when all masks overlap.
    let masks = prompts.min(QUESTIONS_AT_ONCE) as u64 + 3;
    let layers = if prompts > 1 { 2 * prompts as u64 } else { 0 };
    // While a mask is turned back to the stored grid, there are two of it.
    let turned = u64::from(args.volume.turns());
    let bytes_a_voxel = 4 * grids + masks + layers + turned;
    bytes_a_voxel.saturating_mul(input.volume.voxels().len() as u64)
}

/// Questions about an encoded volume.
struct Asking<'a> {
    job: &'a Job<'a>,
    asked: &'a Asked,
    encoded: &'a EncodedVolume,
    options: &'a AskOptions,
    cancel: &'a CancelToken,
}

impl Asking<'_> {
    /// Asks all questions, as many at once as share the reading of weights, and prints the answers in
    /// their order as they are generated. Between those at once, masks are joined and let go.
    fn all(
        &self,
        mut progress: Progress,
        printer: &mut Printer,
        findings: &mut Findings,
    ) -> Result<Vec<Answered>> {
        let questions = &self.asked.questions;
        let of = questions.len();
        progress.stage(match of {
            1 => "reading the question".to_string(),
            _ => format!("reading {of} questions"),
        });
        let mut words = InOrder::new(of);
        let mut answers: Vec<Answered> = Vec::with_capacity(of);
        for questions in questions.chunks(QUESTIONS_AT_ONCE) {
            let first = answers.len();
            let prompts: Vec<_> = questions.iter().map(|text| self.asked.prompt(text)).collect();
            let mut on_event = |event: Event<'_>| {
                let ready = self.on_event(event, (first, of), &mut words, &mut progress);
                if !ready.is_empty() && self.encoded.mode() == InferenceMode::Resize {
                    progress.clear();
                    printer.print(&ready);
                }
            };
            let mut run = RunContext::from(self.cancel).with_events(&mut on_event);
            let given = self.encoded.ask_many_with(&prompts, self.options, &mut run)?;
            for (question, answer) in questions.iter().zip(given) {
                let mut answered = Answered::new(question, answer);
                self.add(answers.len(), &mut answered, findings)?;
                answers.push(answered);
            }
        }
        progress.clear();
        for (index, answered) in answers.iter().enumerate() {
            if self.encoded.mode() == InferenceMode::Sliding {
                printer.distinct(index, &answered.answer);
            }
            trace_tokens(&answered.answer);
        }
        Ok(answers)
    }

    /// Shows how far the questions are, of which `first` are answered, and returns what is to be
    /// printed now.
    fn on_event(
        &self,
        event: Event<'_>,
        (first, of): (usize, usize),
        words: &mut InOrder,
        progress: &mut Progress,
    ) -> String {
        match event {
            Event::Text { prompt, text } => return words.text(first + prompt, text),
            Event::TextDone { prompt } => return words.done(first + prompt),
            Event::Window { index, of } => {
                progress.stage(format!("window {} of {of}", index + 1));
            }
            Event::Mask { prompt } => {
                let which = first + prompt + 1;
                let which = if of > 1 { format!(" {which} of {of}") } else { String::new() };
                progress.clear();
                *progress = progress.again();
                progress.stage(format!("drawing the mask{which}"));
            }
            _ => {}
        }
        String::new()
    }

    /// Joins the mask of an answer with those before, by the name of its label.
    fn add(&self, index: usize, answered: &mut Answered, findings: &mut Findings) -> Result<()> {
        let mask = answered.take_mask();
        let prompt = self.asked.organ(index).map_or(&*answered.question, |organ| organ.term);
        let boxes = answered.answer.boxes.iter().filter_map(|found| found.region).collect();
        Ok(findings.push(self.job.label(index, prompt), mask.as_ref(), boxes)?)
    }
}
