//! `r1seg infer`: one volume, one question.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use r1seg::volume::{Overwrite, ReadOptions, SourceKind, Warning, read};
use r1seg::{
    Answer, AskOptions, CancelToken, EncodeOptions, ErrorKind, Event, MaskStatus, Mode, Sampling,
    Separator,
};

use crate::args::{InferArgs, SeparatorArg};
use crate::exit::{CliError, Exit, say};
use crate::output::{Output, stem};
use crate::progress::Progress;
use crate::report::{self, Origin, WarningReport};
use crate::study;

/// A prompt longer than this is no question.
const MAX_PROMPT_BYTES: u64 = 16 << 20;

/// All that an earlier run may have left.
const FILES: [&str; 5] = ["mask.nii.gz", "mask.npy", "preview.png", "answer.txt", "report.json"];

pub(crate) fn run(args: &InferArgs, cancel: CancelToken) -> Result<Exit> {
    let prompt = prompt(&args.prompt)?;
    r1seg::check_question(&prompt)?;
    let (source, model_name) = study::source(&args.model)?;
    let ask = ask_options(args, cancel)?;

    let progress = Progress::new(args.quiet);
    let start = Instant::now();
    progress.stage("reading the volume");
    let loaded = read(&args.image, &ReadOptions::default())?;
    let io = start.elapsed();
    let volume = loaded.volume;
    let mask_file = if loaded.kind == SourceKind::Npy { "mask.npy" } else { "mask.nii.gz" };
    let output = open_output(args, mask_file)?;

    progress.stage("loading the model");
    let model = study::load(source, &args.model)?;
    progress.clear();
    if !args.quiet {
        study::announce(&model, &model_name, args.model.device);
    }
    let mut warnings = loaded.warnings;
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
    // Asked before the vision transformer runs, so that a prompt that cannot be answered costs
    // nothing.
    model.prompt(&prompt, ask.separator)?;

    let progress = Progress::new(args.quiet);
    progress.stage("looking at the volume");
    let mut encode = EncodeOptions::default().with_preprocess(args.preprocess).with_mode(args.mode);
    if args.trace.is_some() {
        encode = encode.with_trace();
    }
    let study = model.encode_with(&volume, &encode)?;
    progress.stage("reading the question");
    warnings.extend(study.warnings().iter().cloned());

    let mut printer = Printer::new(!args.json);
    let answer = study.ask_with(&prompt, &ask, &mut |event| match event {
        Event::Text(text) => {
            progress.clear();
            printer.print(text);
        }
        Event::Window { index, of } => {
            progress.stage(format!("window {} of {of}", index + 1));
        }
        Event::Mask => progress.stage("drawing the mask"),
        _ => {}
    })?;
    progress.clear();
    match args.mode {
        Mode::Sliding => printer.distinct(&answer),
        Mode::Resize => printer.print("\n"),
    }
    warnings.extend(doubts(&answer));

    let origin = Origin { path: &args.image, kind: loaded.kind.as_str(), io };
    let geometry = volume.geometry();
    let mut report = report::new(&model, &model_name, &origin, &study, geometry, &prompt, &answer);
    let mut summary = Vec::new();
    let mut stage = output.stage()?;
    match &answer.mask {
        Some(mask) => {
            stage.write_mask(mask_file, mask)?;
            report.masks.push(report::mask(mask, &volume, mask_file)?);
            let size = study::millilitres(mask, &volume)?;
            summary.push(format!("mask {} {size}", output.path(mask_file).display()));
        }
        None => summary.push(format!("no mask: {}", why_no_mask(&answer))),
    }
    if !args.no_preview {
        let labels = answer.mask.as_ref().map_or(&[][..], |mask| mask.data());
        let names = [short(&prompt)];
        let picture = study::picture(&volume, labels, &names, &short(&prompt));
        stage.write("preview.png", &study::png(&picture)?)?;
        summary.push(format!("preview {}", output.path("preview.png").display()));
    }
    stage.write("answer.txt", format!("{}\n", answer.text).as_bytes())?;
    if let (Some(path), Some(trace)) = (&args.trace, &answer.trace) {
        trace.write(path, overwrite(args))?;
        summary.push(format!("trace {}", path.display()));
    }
    report.warnings = warnings.iter().map(WarningReport::from).collect();
    let json = report.to_json()?;
    stage.write("report.json", json.as_bytes())?;
    stage.commit(&FILES)?;
    if !args.quiet {
        for warning in &warnings {
            study::warn(warning);
        }
    }
    printer.end()?;
    if args.json {
        std::io::stdout().write_all(json.as_bytes())?;
    }
    if !args.quiet {
        let seconds = report.timings_ms.total / 1e3;
        say!("r1seg: {} | {seconds:.1} s", summary.join(" | "));
    }
    let found = answer.status() == MaskStatus::Found;
    Ok(if args.require_mask && !found { Exit::NoMask } else { Exit::Answered })
}

fn open_output(args: &InferArgs, mask_file: &str) -> Result<Output> {
    let folder = args.out.clone().unwrap_or_else(|| stem(&args.image));
    let mut files = vec![mask_file, "answer.txt", "report.json"];
    if !args.no_preview {
        files.push("preview.png");
    }
    let image = args.image.canonicalize().ok();
    let is_image = |path: PathBuf| image.is_some() && path.canonicalize().ok() == image;
    let traced = args.trace.iter().cloned();
    if FILES.iter().map(|file| folder.join(file)).chain(traced).any(is_image) {
        return Err(CliError {
            code: "R-OUT-06",
            kind: ErrorKind::CannotCreate,
            what: "the output would replace the input".to_string(),
            path: Some(args.image.clone()),
            fix: Some("choose another --out and --trace".to_string()),
        }
        .into());
    }
    if let Some(trace) = &args.trace {
        check_trace(trace, args.force)?;
    }
    Output::open(folder, overwrite(args), &files)
}

fn overwrite(args: &InferArgs) -> Overwrite {
    if args.force { Overwrite::Replace } else { Overwrite::Refuse }
}

/// Whether a trace can be written, asked before it is computed.
fn check_trace(path: &Path, force: bool) -> Result<()> {
    let refuse = |code, what: &str, fix: &str| CliError {
        code,
        kind: ErrorKind::CannotCreate,
        what: what.to_string(),
        path: Some(path.to_path_buf()),
        fix: Some(fix.to_string()),
    };
    if path.is_dir() {
        return Err(refuse("R-OUT-03", "is a folder", "name a file for --trace").into());
    }
    if path.exists() && !force {
        let fix = "choose another --trace, or --force to replace it";
        return Err(refuse("R-OUT-01", "the trace exists already", fix).into());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if folder.is_some_and(|folder| !folder.is_dir()) {
        let what = "the folder of the trace does not exist";
        return Err(refuse("R-OUT-02", what, "create it first").into());
    }
    Ok(())
}

/// In words, since the reader of a terminal does not see the tokens.
fn why_no_mask(answer: &Answer) -> &'static str {
    if answer.text.trim_start().starts_with("[SEG]") {
        "the answer begins with [SEG], which the authors' code ignores; --first-seg uses it"
    } else {
        "the answer has no [SEG]"
    }
}

fn ask_options(args: &InferArgs, cancel: CancelToken) -> Result<AskOptions> {
    let (temperature, top_p) = (args.temperature, args.top_p);
    if !(temperature.is_finite() && 0.0 <= temperature) {
        return Err(CliError::usage(
            format!("--temperature is {temperature}; 0 or a positive number is needed"),
            "use 0 for the most likely answer, or about 1 to draw at random",
        ));
    }
    if !(0.0 < top_p && top_p <= 1.0) {
        return Err(CliError::usage(
            format!("--top-p is {top_p}; a number above 0 and up to 1 is needed"),
            "leave it out to draw among all tokens",
        ));
    }
    let sampling = if temperature == 0.0 {
        Sampling::Greedy
    } else {
        Sampling::Random { temperature, top_k: args.top_k, top_p, seed: args.seed }
    };
    if args.max_new_tokens == 0 {
        return Err(CliError::usage("--max-new-tokens is 0", "ask for at least one token"));
    }
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
        let path = PathBuf::from(path);
        let error = |e: std::io::Error| CliError {
            code: "R-PRM-02",
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
        code: "R-PRM-03",
        kind: ErrorKind::BadData,
        what,
        path,
        fix: Some("give the question as UTF-8 text".to_string()),
    };
    if bytes.len() as u64 > MAX_PROMPT_BYTES {
        return Err(bad(format!("the prompt is over {MAX_PROMPT_BYTES} bytes"), path).into());
    }
    // An editor's newline at the end of the file is not part of the question.
    let mut text =
        String::from_utf8(bytes).map_err(|e| bad(format!("the prompt is not UTF-8: {e}"), path))?;
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

/// A question as a title.
fn short(prompt: &str) -> String {
    let line: String = prompt.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(60) {
        Some((cut, _)) => format!("{}..", &line[..cut]),
        None => line,
    }
}

/// Streams an answer to stdout. A reader who leaves, as `head` does, misses the rest, but files
/// are still written.
struct Printer {
    on: bool,
    state: std::io::Result<()>,
}

impl Printer {
    fn new(on: bool) -> Self {
        Self { on, state: Ok(()) }
    }

    fn print(&mut self, text: &str) {
        if self.on && self.state.is_ok() {
            let mut out = std::io::stdout().lock();
            let text = r1seg::sanitize_terminal(text);
            self.state = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    }

    /// Each distinct answer with the number of windows that gave it.
    fn distinct(&mut self, answer: &Answer) {
        for (text, count) in answer.distinct_answers() {
            let windows = if count == 1 { "window" } else { "windows" };
            self.print(&format!("{text} ({count} {windows})\n"));
        }
    }

    fn end(self) -> std::io::Result<()> {
        self.state
    }
}
