//! `r1seg infer`: one volume, one question.

use std::io::{Read, Write};
use std::time::Instant;

use anyhow::Result;
use r1seg::volume::{Overwrite, ReadOptions, SourceKind, Warning, read, write_mask};
use r1seg::{
    Answer, AskOptions, CancelToken, EncodeOptions, ErrorKind, Event, MaskStatus, Mode, Sampling,
    Separator,
};

use crate::args::{InferArgs, SeparatorArg};
use crate::exit::{CliError, Exit};
use crate::output::{Output, stem};
use crate::progress::Progress;
use crate::report::{self, Origin, WarningReport};
use crate::study;

/// A prompt longer than this is no question.
const MAX_PROMPT_BYTES: u64 = 16 << 20;

pub(crate) fn run(args: &InferArgs) -> Result<Exit> {
    let prompt = prompt(&args.prompt)?;
    let (source, model_name) = study::source(&args.model)?;
    let ask = ask_options(args)?;

    let progress = Progress::new(args.quiet);
    let start = Instant::now();
    progress.stage("reading the volume");
    let loaded = read(&args.image, &ReadOptions::default())?;
    let io = start.elapsed();
    let volume = loaded.volume;
    let mask_file =
        if loaded.kind == SourceKind::Npy { "mask.npy" } else { "mask.nii.gz" };
    let output = open_output(args, mask_file)?;

    progress.stage("loading the model");
    let model = study::load(source, &args.model)?;
    progress.clear();
    if !args.quiet {
        study::announce(&model, &model_name, args.model.device);
    }
    let mut warnings = loaded.warnings;
    if args.model.model.as_deref() == Some("demo") {
        warnings.push(
            Warning::new(
                "W-DEMO",
                "the demo model knows only synthetic phantoms: what it says about this volume \
                 means nothing",
            )
            .with_fix("use --model DIR with a trained checkpoint"),
        );
    }
    // Asked before the vision transformer runs, so that a prompt that cannot be answered costs
    // nothing.
    model.prompt(&prompt, ask.separator)?;

    let progress = Progress::new(args.quiet);
    progress.stage("looking at the volume");
    let mut encode =
        EncodeOptions::default().with_preprocess(args.preprocess).with_mode(args.mode);
    if args.trace.is_some() {
        encode = encode.with_trace();
    }
    let study = model.encode_with(&volume, &encode)?;
    progress.stage("reading the question");
    warnings.extend(study.warnings().iter().cloned());

    let mut printer = Printer { on: !args.json && args.mode == Mode::Resize, any: false };
    let mut printed = Ok(());
    let answer = study.ask_with(&prompt, &ask, &mut |event| match event {
        Event::Text(text) => {
            progress.clear();
            printed = std::mem::replace(&mut printed, Ok(())).and_then(|()| printer.print(text));
        }
        Event::Window { index, of } => {
            progress.stage(format!("window {} of {of}", index + 1));
        }
        Event::Mask => progress.stage("drawing the mask"),
        _ => {}
    })?;
    progress.clear();
    printed?;
    printer.end()?;
    if args.mode == Mode::Sliding && !args.json {
        print_distinct(&answer)?;
    }
    warnings.extend(doubts(&answer));

    let origin = Origin { path: &args.image, kind: loaded.kind.as_str(), io };
    let geometry = volume.geometry();
    let mut report =
        report::new(&model, &model_name, &origin, &study, geometry, &prompt, &answer);
    let mut summary = Vec::new();
    match &answer.mask {
        Some(mask) => {
            let path = output.path(mask_file);
            write_mask(&path, mask, output.overwrite())?;
            report.masks.push(report::mask(mask, &volume, mask_file)?);
            let size = study::millilitres(mask, &volume)?;
            summary.push(format!("mask {} {size}", path.display()));
        }
        None => {
            output.remove_stale(mask_file);
            summary.push("no mask: the answer has no [SEG]".to_string());
        }
    }
    if !args.no_preview {
        let labels = answer.mask.as_ref().map_or(&[][..], |mask| mask.data());
        let names = [short(&prompt)];
        let picture = study::picture(&volume, labels, &names, &short(&prompt));
        let path = output.write("preview.png", &study::png(&picture)?)?;
        summary.push(format!("preview {}", path.display()));
    }
    output.write("answer.txt", format!("{}\n", answer.text).as_bytes())?;
    if let (Some(path), Some(trace)) = (&args.trace, &answer.trace) {
        trace.write(path, output.overwrite())?;
        summary.push(format!("trace {}", path.display()));
    }
    report.warnings = warnings.iter().map(WarningReport::from).collect();
    output.write("report.json", report.to_json()?.as_bytes())?;
    for warning in &warnings {
        study::warn(warning);
    }
    if args.json {
        std::io::stdout().write_all(report.to_json()?.as_bytes())?;
    }
    if !args.quiet {
        let seconds = report.timings_ms.total / 1e3;
        eprintln!("r1seg: {} | {seconds:.1} s", summary.join(" | "));
    }
    let found = answer.status() == MaskStatus::Found;
    Ok(if args.require_mask && !found { Exit::NoMask } else { Exit::Answered })
}

fn open_output(args: &InferArgs, mask_file: &str) -> Result<Output> {
    let folder = args.out.clone().unwrap_or_else(|| stem(&args.image));
    let overwrite = if args.force { Overwrite::Replace } else { Overwrite::Refuse };
    let mut files = vec![mask_file, "answer.txt", "report.json"];
    if !args.no_preview {
        files.push("preview.png");
    }
    let output = Output::open(folder, overwrite, &files)?;
    let same = |file: &str| {
        let [a, b] = [output.path(file), args.image.clone()].map(|p| p.canonicalize().ok());
        a.is_some() && a == b
    };
    if files.iter().any(|file| same(file)) {
        return Err(CliError {
            code: "R-OUT-06",
            kind: ErrorKind::CannotCreate,
            what: "the output would replace the input".to_string(),
            path: Some(args.image.clone()),
            fix: Some("choose another --out".to_string()),
        }
        .into());
    }
    if let Some(trace) = args.trace.as_ref().filter(|t| !args.force && t.exists()) {
        return Err(r1seg::volume::Error::Exists { path: trace.clone() }.into());
    }
    Ok(output)
}

fn ask_options(args: &InferArgs) -> Result<AskOptions> {
    let sampling = if args.temperature == 0.0 {
        Sampling::Greedy
    } else {
        Sampling::Random {
            temperature: args.temperature,
            top_k: args.top_k,
            top_p: args.top_p,
            seed: args.seed,
        }
    };
    sampling
        .validate()
        .map_err(|e| CliError::usage(e.to_string(), "see `r1seg infer --help` for the ranges"))?;
    if args.max_new_tokens == 0 {
        return Err(CliError::usage("--max-new-tokens is 0", "ask for at least one token"));
    }
    let cancel = CancelToken::default();
    let handler = cancel.clone();
    // A second signal ends the process at once. Without a handler the first one does.
    let _ = ctrlc::set_handler(move || {
        if handler.is_cancelled() {
            std::process::exit(130);
        }
        handler.cancel();
    });
    Ok(AskOptions::default()
        .with_separator(match args.separator {
            SeparatorArg::Space => Separator::Space,
            SeparatorArg::None => Separator::None,
        })
        .with_max_new_tokens(args.max_new_tokens)
        .with_sampling(sampling)
        .with_first_seg(args.first_seg)
        .with_abstain(args.abstain)
        .with_cancel(cancel))
}

/// The question itself, from a file or from standard input.
fn prompt(text: &str) -> Result<String> {
    let (bytes, path) = if text == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().lock().take(MAX_PROMPT_BYTES + 1).read_to_end(&mut bytes)?;
        (bytes, None)
    } else if let Some(path) = text.strip_prefix('@') {
        let path = std::path::PathBuf::from(path);
        let error = |e: std::io::Error| CliError {
            code: "R-PRM-03",
            kind: ErrorKind::Missing,
            what: format!("the prompt cannot be read: {e}"),
            path: Some(path.clone()),
            fix: Some("check the path after the @".to_string()),
        };
        let mut bytes = Vec::new();
        let file = std::fs::File::open(&path).map_err(error)?;
        file.take(MAX_PROMPT_BYTES + 1).read_to_end(&mut bytes).map_err(error)?;
        (bytes, Some(path))
    } else {
        return Ok(text.to_string());
    };
    let bad = |what: String, path| CliError {
        code: "R-PRM-04",
        kind: ErrorKind::BadData,
        what,
        path,
        fix: Some("give the question as UTF-8 text".to_string()),
    };
    if bytes.len() as u64 > MAX_PROMPT_BYTES {
        return Err(bad(format!("the prompt is over {MAX_PROMPT_BYTES} bytes"), path).into());
    }
    // An editor's newline at the end of the file is not part of the question.
    let mut text = String::from_utf8(bytes)
        .map_err(|e| bad(format!("the prompt is not UTF-8: {e}"), path))?;
    while text.ends_with(['\n', '\r']) {
        text.pop();
    }
    Ok(text)
}

/// What a person should know about an answer.
fn doubts(answer: &Answer) -> Vec<Warning> {
    let mut doubts = Vec::new();
    if answer.status() == MaskStatus::Empty {
        doubts.push(Warning::new(
            "W-EMPTY",
            "the model said [SEG], but no voxel of its mask is positive",
        ));
    }
    if answer.finish_reason == r1seg::FinishReason::Length {
        doubts.push(
            Warning::new("W-LENGTH", "the answer was cut at its longest length")
                .with_fix("raise --max-new-tokens"),
        );
    }
    doubts
}

fn print_distinct(answer: &Answer) -> Result<()> {
    let mut out = std::io::stdout().lock();
    for (text, count) in answer.distinct_answers() {
        let text = r1seg::sanitize_terminal(text);
        let windows = if count == 1 { "window" } else { "windows" };
        writeln!(out, "{text} ({count} {windows})")?;
    }
    Ok(())
}

/// A question as a title.
fn short(prompt: &str) -> String {
    let line: String = prompt.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(60) {
        Some((cut, _)) => format!("{}..", &line[..cut]),
        None => line,
    }
}

/// Streams an answer to stdout.
struct Printer {
    on: bool,
    any: bool,
}

impl Printer {
    fn print(&mut self, text: &str) -> std::io::Result<()> {
        if !self.on {
            return Ok(());
        }
        self.any = true;
        let mut out = std::io::stdout().lock();
        out.write_all(r1seg::sanitize_terminal(text).as_bytes())?;
        out.flush()
    }

    fn end(&self) -> std::io::Result<()> {
        if self.on { writeln!(std::io::stdout().lock()) } else { Ok(()) }
    }
}
