//! `r1seg infer`: one volume, one or more questions.
//!
//! [`crate::prompts`] reads the questions, [`crate::organs`] the organs, [`printer`] streams the
//! answers, [`doubts`] says what is odd about them, and [`crate::results`] chooses the files and writes
//! everything.

mod doubts;
mod printer;

use std::time::Instant;

use anyhow::Result;
use r1seg::volume::Warning;
use r1seg::{
    Answer, AskOptions, BOX_PLACEHOLDER, BoxText, CancelToken, EncodeOptions, EncodedVolume, Event,
    MaskStatus, Mode, Orient, QUESTIONS_AT_ONCE, R1SegModel, phrasing,
};

use crate::args::InferArgs;
use crate::exit::{CliError, Exit, say};
use crate::input::Input;
use crate::organs::{self, Organ};
use crate::progress::Progress;
use crate::prompts;
use crate::report::{self, Origin};
use crate::results::{self, Finding, Outputs, Request, Results, number};
use crate::study;
use doubts::{begins_with_seg, doubts};
use printer::{InOrder, Printer, To};

pub(crate) fn run(args: &InferArgs, cancel: CancelToken) -> Result<Exit> {
    let request = Request {
        image: &args.image,
        affine_from: args.volume.affine_from.as_deref(),
        prompts: ("--prompt -", &args.prompt),
        has_answers: true,
        output: &args.output,
    };
    results::check_args(&request)?;
    let (source, name) = study::source(&args.model)?;
    study::verify(&args.model, &cancel)?;
    let mut options = args.ask.options(cancel)?;
    let mut prompts = prompts::questions(&args.prompt)?;
    let organs = organs::organs(&args.organ, IN_WORDS)?;
    let count = prompts.len() + organs.len();
    prompts::check_number(count)?;
    results::check_count(&request, count)?;
    let quiet = args.output.quiet;

    let start = Instant::now();
    let progress = Progress::new(quiet);
    progress.stage("reading the volume");
    let mut input = Input::read(&args.image, &args.volume.read_options())?;
    args.volume.orient.axes(input.volume.geometry()).map_err(r1seg::Error::from)?;
    options.region = args.about.region(input.volume.geometry())?;
    check_box(&prompts, &options, args.ask.mode)?;
    let (outputs, output) = Outputs::open(&request, &source, &input, count)?;

    progress.stage("loading the model");
    let load = study::load_options(&args.model, working_memory(args, &input, count));
    let load = study::refined(load, &args.refine).with_questions(count);
    let model = R1SegModel::load_with(source, &load)?;
    progress.clear();
    if !quiet {
        study::announce(&model, &name.id);
        study::announce_series(input.series.as_ref());
    }
    let first_organ = prompts.len();
    let organ_of = |index: usize| organs.get(index.checked_sub(first_organ)?);
    let family = model.config().family;
    for organ in &organs {
        let sentence = phrasing::sentence(family, organ.term);
        if !quiet {
            say!("r1seg: --organ {} asks: {sentence}", organ.given);
        }
        prompts.push(sentence);
    }
    // Asked before the vision transformer runs, so that a prompt that cannot be answered costs
    // nothing.
    for (index, prompt) in prompts.iter().enumerate() {
        // Any box has as many tokens as another, give or take a digit.
        let asked = match options.region {
            None => model.prompt(prompt, options.separator),
            Some(_) => model.prompt_about(prompt, &ANY_BOX, options.separator),
        };
        asked.map_err(|e| prompts::which("prompt", e, (index, count)))?;
    }

    let progress = Progress::new(quiet);
    progress.stage("encoding the volume");
    let mut encode = EncodeOptions::default()
        .with_preprocess(args.ask.preprocess)
        .with_orient(args.volume.orient)
        .with_mode(args.ask.mode);
    if args.output.trace.is_some() {
        encode = encode.with_trace();
    }
    let study = model.encode_with(&input.volume, &encode)?;
    let to_stdout = outputs.mask_to_stdout;
    let to = match to_stdout {
        _ if args.output.json => To::Nowhere,
        true if quiet => To::Nowhere,
        true => To::Stderr,
        false => To::Stdout,
    };
    let mut printer = Printer::new(to, count);
    let answers = ask_all(&study, prompts, &options, quiet, progress, &mut printer)?;

    answers.iter().for_each(|(_, answer)| trace_tokens(answer));

    let mut warnings = std::mem::take(&mut input.warnings);
    if study::is_demo(&args.model) {
        warnings.push(
            Warning::new(
                "W-DEMO",
                "the demo model knows only synthetic phantoms: what it says about this volume \
                 means nothing",
            )
            .with_fix("use --model DIR with a trained checkpoint"),
        );
    }
    warnings.extend(study.warnings().iter().cloned());
    for (index, (prompt, answer)) in answers.iter().enumerate() {
        warnings.extend(doubts(family, prompt, answer, (count > 1).then_some(index)));
    }
    let sha256 = input.sha256();
    let origin = Origin::of(&input, sha256);
    let mut report = report::new(&model, &name, &origin, &study, &options, &answers);
    for (index, organ) in organs.iter().enumerate() {
        report.set_organ(first_organ + index, organ);
    }
    let findings: Vec<Finding<'_>> = answers
        .iter()
        .enumerate()
        .map(|(index, (prompt, answer))| {
            let name = organ_of(index).map_or(prompt.as_str(), |organ| organ.term);
            finding(results::label_name(&args.output, index, name), answer)
        })
        .collect();
    let results = Results {
        request: &request,
        outputs,
        input: &input,
        findings: &findings,
        asked_box: options.region,
        asked_points: &[],
        answer: answer_text(&answers, organ_of),
        trace: answers.first().and_then(|(_, answer)| answer.trace.as_ref()),
    };
    let written = results.write(&output, report, warnings, start)?;

    if !quiet {
        written.warnings.iter().for_each(study::warn);
    }
    printer.end()?;
    if args.output.json {
        std::io::Write::write_all(&mut std::io::stdout(), written.json.as_bytes())?;
    }
    if !quiet {
        written.summary.iter().for_each(|line| say!("r1seg: {line}"));
    }
    if to_stdout && !results::print_mask(written.stdout_mask.as_ref())? {
        return Ok(Exit::NoMask);
    }
    let found = answers.iter().all(|(_, answer)| answer.status() == MaskStatus::Found);
    Ok(if args.output.require_mask && !found { Exit::NoMask } else { Exit::Answered })
}

fn finding<'a>(name: &'a str, answer: &'a Answer) -> Finding<'a> {
    Finding {
        name,
        mask: answer.mask.as_ref(),
        boxes: answer.boxes.iter().filter_map(|found| found.region).collect(),
        why_no_mask: why_no_mask(answer),
    }
}

/// For `answer.txt`. Where a sentence was written for an organ, it stands before its answer.
fn answer_text<'a>(
    answers: &[(String, Answer)],
    organ_of: impl Fn(usize) -> Option<&'a Organ>,
) -> String {
    let numbered = answers.len() > 1;
    let text = |(index, (prompt, answer)): (usize, &(String, Answer))| {
        let which = if numbered { number(index) } else { String::new() };
        match organ_of(index) {
            Some(_) => format!("{which}Q: {prompt}\n{which}A: {}\n", answer.text),
            None => format!("{which}{}\n", answer.text),
        }
    };
    answers.iter().enumerate().map(text).collect()
}

/// Tells `-v` where the time of an answer went.
fn trace_tokens(answer: &Answer) {
    let r1seg::Timings { prefill, decode, .. } = answer.timings;
    let (prefill_s, decode_s) = (prefill.as_secs_f64(), decode.as_secs_f64());
    let (prompt, generated) = (answer.prompt_tokens, answer.token_ids.len());
    tracing::info!(name: "tokens", prompt, prefill_s, generated, decode_s);
}

/// In words, since the reader of a terminal does not see the tokens.
fn why_no_mask(answer: &Answer) -> &'static str {
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
fn check_box(prompts: &[String], options: &AskOptions, mode: Mode) -> Result<()> {
    let placed = prompts.iter().any(|prompt| prompt.contains(BOX_PLACEHOLDER));
    if placed && options.region.is_none() {
        return Err(CliError::usage(
            format!("a prompt has {BOX_PLACEHOLDER}, and no box was given"),
            "give --box I0,J0,K0,I1,J1,K1 or --box-mm X0,Y0,Z0,X1,Y1,Z1",
        ));
    }
    if options.region.is_some() && mode == Mode::Sliding {
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
        Mode::Resize => 0,
        Mode::Sliding => 2 + 2 * prompts.min(QUESTIONS_AT_ONCE) as u64,
    };
    // A mask a prompt, one that joins them, and a layer of the segmentation for each at the worst.
    // While a mask is turned back to the stored grid, there are two of it.
    let turned = u64::from(args.volume.orient != Orient::Stored);
    let bytes_a_voxel = 4 * grids + 2 * prompts as u64 + 1 + turned;
    bytes_a_voxel.saturating_mul(input.volume.voxels().len() as u64)
}

/// Asks all questions, and prints the answers in their order as they are said.
fn ask_all(
    study: &EncodedVolume,
    prompts: Vec<String>,
    options: &AskOptions,
    quiet: bool,
    mut progress: Progress,
    printer: &mut Printer,
) -> Result<Vec<(String, Answer)>> {
    let of = prompts.len();
    progress.stage(match of {
        1 => "reading the question".to_string(),
        _ => format!("reading {of} questions"),
    });
    let mut words = InOrder::new(of);
    let questions: Vec<&str> = prompts.iter().map(String::as_str).collect();
    let answers = study.ask_many_with(&questions, options, &mut |index, event| {
        let which = if of > 1 { format!(" {} of {of}", index + 1) } else { String::new() };
        let ready = match event {
            Event::Text(text) => words.text(index, text),
            Event::Said => words.said(index),
            Event::Window { index, of } => {
                let window = format!("window {} of {of}", index + 1);
                return progress.stage(match which.as_str() {
                    "" => window,
                    _ => format!("from question{which}: {window}"),
                });
            }
            Event::Mask => {
                // A cleared line does not come back.
                progress.clear();
                progress = Progress::new(quiet);
                return progress.stage(format!("drawing the mask{which}"));
            }
            _ => return,
        };
        if !ready.is_empty() && study.mode() == Mode::Resize {
            progress.clear();
            printer.print(&ready);
        }
    })?;
    progress.clear();
    if study.mode() == Mode::Sliding {
        for (index, answer) in answers.iter().enumerate() {
            printer.distinct(index, answer);
        }
    }
    Ok(prompts.into_iter().zip(answers).collect())
}
