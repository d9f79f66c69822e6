//! `r1seg batch`: many volumes, with a model that is loaded once.
//!
//! [`items`] are the volumes, from a list ([`manifest`], [`row`]) or from the command line, with their ids
//! ([`r1seg_results::ids`]). [`standing`] says which of them are done, by hashes of files ([`hashes`]) and of
//! what results depend on ([`basis`]). [`pipeline`] takes them through [`stages`] that read, compute and write at the
//! same time, within a [`budget`] of memory; [`work`] is what these do here, and [`ask`] turns a row into
//! prompts. What is finished gets a [`mod@line`] in the [`ledger`], which it is added to as a whole
//! ([`append`]), and all together a [`summary`]. [`markers`] record what a process was doing when it died.

mod append;
mod ask;
mod basis;
mod budget;
mod hashes;
mod items;
mod ledger;
mod line;
mod manifest;
mod markers;
mod pipeline;
mod printer;
mod progress;
mod row;
mod stages;
mod standing;
mod state;
mod summary;
mod work;

pub(crate) use hashes::of_model;
pub(crate) use ledger::{files, replace};

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::Result;
use r1seg::registry::Family;
use r1seg::{
    CancelToken, CheckpointSource, Diagnostic, EncodeOptions, Error, InferenceMode, Model, Purpose,
};
use r1seg_results::{Protected, report};

use crate::args::{BatchArgs, OrderArgs};
use crate::codes::Code;
use crate::exit::{self, CliError, Exit, one_line, say};
use crate::input;
use crate::model::{self, ModelName};
use crate::progress::Progress as Spinner;
use crate::prompts;
use basis::Options;
use items::Item;
use ledger::{Ledger, Lines};
use markers::Markers;
use printer::Printer;
use progress::Progress;
use row::Asks;
use stages::Limits;
use standing::{Standing, Wanted};
use state::{Counts, locked};
use work::Batch;

/// What the names of files in the making begin with.
const PARTS: &str = ".r1seg-";
/// Volumes in flight, in bytes, where nothing is said.
const IN_FLIGHT: u64 = 2 << 30;

pub(crate) fn run(args: &BatchArgs, cancel: CancelToken) -> Result<Exit> {
    if args.order.json {
        exit::report_in_json_lines();
    }
    run_printing(args, Printer::new(args.order.json), cancel)
}

/// The same for a command that has results of its own to print.
pub(crate) fn run_silent(args: &BatchArgs, cancel: CancelToken) -> Result<Exit> {
    run_printing(args, Printer::silent(), cancel)
}

fn run_printing(args: &BatchArgs, printer: Printer, cancel: CancelToken) -> Result<Exit> {
    let start = Instant::now();
    let (source, name) = model::source(&args.model)?;
    let family = family(&source)?;
    let mode = family.mode(args.asked.mode)?;
    // Checkpoints of a family may have recipes of their own.
    family.preprocess(args.prepare.preprocess)?;
    let encode = EncodeOptions::default().with_preprocess(args.prepare.preprocess).with_mode(mode);
    let encode = args.volume.with_orient(encode);
    let ask = args.answers.options()?;
    let all = items::all(args, &defaults(args)?)?;
    all.iter().try_for_each(|item| check(args, item, family, mode))?;
    let items: Vec<Item> =
        all.iter().filter(|item| item.is_in(args.order.shard)).cloned().collect();

    let options = Options::new(args, &encode, &ask).map_err(|e| {
        let path = args.volume.affine_from.as_deref().unwrap_or(Path::new(""));
        r1seg::volume::Error::unreadable(path, e)
    })?;
    let model_sha256 = hashes::of_model(&source).map_err(|e| unreadable(&source, &e))?;
    let mut wanted = Wanted { args, model_sha256, options, known: Lines::new() };
    if args.order.list {
        wanted.known = ledger::all(&args.out)?;
        return list(&wanted, &items);
    }
    let ledger = open(args)?;
    let markers = Markers::new(&args.out)?;
    if args.order.resume {
        wanted.known = ledger::all(&args.out)?;
    }

    let spinner = Spinner::new(args.order.quiet);
    spinner.stage("loading the model");
    model::verify(&args.model, &cancel)?;
    let bytes = in_flight(args);
    let questions = items.iter().map(|item| ask::count(&item.asks)).max().unwrap_or(1);
    let model = load(args, &source, (bytes, questions), &cancel)?;
    spinner.clear();
    if !args.order.quiet {
        announce(args, &model, &name, &items, all.len());
    }
    let batch = Batch {
        items: &items,
        wanted,
        named: report::Model::of(&model, &source),
        protected: protected(args, &source),
        source,
        model,
        ask,
        encode,
        mode,
        ledger: Mutex::new(ledger),
        markers,
        progress: Progress::new(items.len(), args.order.quiet),
        printer,
        cancel: cancel.clone(),
        begun: Mutex::new(HashMap::new()),
        counts: Mutex::default(),
    };
    let limits = Limits { threads: args.order.jobs_io.into(), bytes };
    let ran = run_all(&batch, limits);
    batch.progress.clear();
    let counts = *locked(&batch.counts);
    // Whatever it was that ended the run, what is finished is summed up.
    let order: Vec<&str> = all.iter().map(|item| item.id.as_str()).collect();
    let settled = settle(&batch, &order);
    ran?;
    cancel.check()?;
    settled?;
    Ok(end(args, &counts, items.len(), start))
}

/// The family of a model that takes prompts.
fn family(source: &CheckpointSource) -> Result<Family> {
    let family = source.family()?;
    if family.capabilities().purpose() != Purpose::Retrieve {
        return Ok(family);
    }
    let path = match source {
        CheckpointSource::Folder(folder) => folder.clone(),
        CheckpointSource::Embedded(_) => PathBuf::new(),
    };
    let model_type = family.entry().model_types.first().map_or("", |of| of.name);
    Err(Error::OtherFamily { path, model_type, family, purpose: Purpose::Segment }.into())
}

/// What is asked of a volume that has no prompts of its own.
fn defaults(args: &BatchArgs) -> Result<Asks> {
    let asked = &args.asked;
    let reads_list = args.manifest.as_deref().is_some_and(input::is_stdin);
    if reads_list && asked.prompt.iter().chain(&asked.text).any(|text| text == "-") {
        return Err(CliError::usage(
            "--manifest - and a prompt of `-` both read standard input",
            "give the text itself, or a file with @FILE",
        ));
    }
    Ok(Asks {
        questions: prompts::questions(&asked.prompt)?,
        texts: prompts::several(&asked.text, "--text")?,
        organs: asked.organ.clone(),
        ..Asks::default()
    })
}

/// Refuses prompts of a kind that the model does not take, before anything is run.
fn check(args: &BatchArgs, item: &Item, family: Family, mode: InferenceMode) -> Result<()> {
    ask::check_kinds(&item.asks, family, mode).map_err(|error| {
        let error = match (&args.manifest, item.line) {
            (Some(list), Some(line)) => {
                CliError { what: format!("line {line}: {}", error.what), ..error }.at(list)
            }
            _ => error,
        };
        error.into()
    })
}

fn unreadable(source: &CheckpointSource, error: &std::io::Error) -> anyhow::Error {
    let path = match source {
        CheckpointSource::Folder(folder) => folder.clone(),
        CheckpointSource::Embedded(_) => PathBuf::new(),
    };
    r1seg::volume::Error::unreadable(&path, std::io::Error::new(error.kind(), error.to_string()))
        .into()
}

/// Prints what would be run.
fn list(wanted: &Wanted<'_>, items: &[Item]) -> Result<Exit> {
    let mut out = std::io::stdout().lock();
    for item in items {
        let standing = match wanted.standing(item) {
            Standing::Done => "done",
            Standing::Poisoned => "poisoned",
            Standing::Failed => "failed",
            Standing::New => "new",
        };
        match wanted.args.order.json {
            true => {
                let image = item.image.display().to_string();
                let line = serde_json::json!({"id": item.id, "image": image, "standing": standing});
                writeln!(out, "{line}")?;
            }
            false => writeln!(out, "{standing}\t{}", one_line(&item.id))?,
        }
    }
    Ok(Exit::Answered)
}

/// Makes the folder of the results, where there is nothing that must not be lost.
fn open(args: &BatchArgs) -> Result<Ledger, CliError> {
    make_folder(&args.out)?;
    // What runs that were killed left.
    r1seg::files::sweep(&args.out, PARTS.as_ref());
    // Before a file is made.
    check_unused(&args.out, &args.order)?;
    let mut ledger = Ledger::open(&args.out, args.order.shard)?;
    // Another run may have ended in between; from here on none can begin.
    check_unused(&args.out, &args.order)?;
    if args.order.force {
        ledger.clear()?;
    }
    Ok(ledger)
}

/// Makes a folder of results, and those around it.
pub(crate) fn make_folder(folder: &Path) -> Result<(), CliError> {
    std::fs::create_dir_all(folder).map_err(|e| {
        let what = format!("the folder of the results cannot be created: {e}");
        let error = r1seg_results::Error::CannotCreate { path: folder.to_path_buf(), what };
        CliError::from(&error as &dyn Diagnostic)
    })
}

/// Refuses a folder with results of an earlier run, where neither `--resume` nor `--force` is given. Other
/// parts of the same batch may be at work, or have ended.
pub(crate) fn check_unused(out: &Path, order: &OrderArgs) -> Result<(), CliError> {
    if order.resume || order.force {
        return Ok(());
    }
    if ledger::has_others(out, order.shard) {
        let what = "there are results in this folder of a batch that was divided in another way";
        return Err(exists(out, what));
    }
    if ledger::has_lines(out, order.shard) {
        return Err(exists(out, "there are results of an earlier batch in this folder"));
    }
    Ok(())
}

pub(crate) fn exists(out: &Path, what: &str) -> CliError {
    let fix = "go on with --resume, run everything again with --force, or choose another folder";
    CliError::new(Code::BatchExists, what).at(out).fix(fix)
}

fn in_flight(args: &BatchArgs) -> u64 {
    let quarter = r1seg::available_memory().map_or(IN_FLIGHT, |bytes| bytes / 4);
    args.order.max_in_flight.unwrap_or(IN_FLIGHT.min(quarter))
}

fn load(
    args: &BatchArgs,
    source: &CheckpointSource,
    (reserved, questions): (u64, usize),
    cancel: &CancelToken,
) -> Result<Model> {
    let options = model::refined(model::load_options(&args.model.load, reserved), &args.refine);
    let options = model::drafting(options, args.answers.drafts);
    let options = options.with_questions(questions).with_cancel(cancel.clone());
    Ok(r1seg::load(source, &options)?)
}

fn protected(args: &BatchArgs, source: &CheckpointSource) -> Protected {
    let mut inputs = Protected::default().model(source);
    for given in [&args.asked.prompt, &args.asked.text] {
        inputs = prompts::protect(inputs, given);
    }
    if let Some(list) = args.manifest.as_deref().filter(|list| !input::is_stdin(list)) {
        inputs = inputs.file("the list", list);
    }
    match &args.volume.affine_from {
        Some(path) => input::protect(inputs, "the file of --affine-from", path),
        None => inputs,
    }
}

fn announce(args: &BatchArgs, model: &Model, name: &ModelName, items: &[Item], all: usize) {
    model::announce(model, &name.id);
    match args.order.shard {
        Some(shard) => say!(
            "r1seg: part {} of {}, from 0: {} of {all} volumes",
            shard.index,
            shard.of,
            items.len()
        ),
        None => say!("r1seg: {all} volumes"),
    }
}

/// Runs everything that may run beside others, and then one by one what may have killed a process.
fn run_all(batch: &Batch<'_>, limits: Limits) -> Result<(), CliError> {
    let is_suspect = |item: &usize| batch.deaths(&batch.items[*item].id) > 0;
    let (suspects, others): (Vec<usize>, Vec<usize>) = (0..batch.items.len()).partition(is_suspect);
    pipeline::run(batch, &others, limits, &batch.cancel)?;
    for suspect in suspects {
        if batch.cancel.is_cancelled() || !batch.may_go_on() {
            return Ok(());
        }
        pipeline::run(batch, &[suspect], limits, &batch.cancel)?;
    }
    Ok(())
}

/// Brings what was written into the order of the list.
fn settle(batch: &Batch<'_>, order: &[&str]) -> Result<(), CliError> {
    batch.markers.sweep();
    locked(&batch.ledger).settle(order)?;
    summary::write(&batch.wanted.args.out, order)
}

fn end(args: &BatchArgs, counts: &Counts, items: usize, start: Instant) -> Exit {
    let Counts { ok, failed, done_before, failed_before, model } = *counts;
    let all_failed = failed + failed_before;
    let left = items - (ok + failed + done_before + failed_before).min(items);
    if !args.order.quiet {
        let before = match done_before + failed_before {
            0 => String::new(),
            before => format!(", {before} by an earlier run"),
        };
        say!(
            "r1seg: {} of {items} volumes have results{before}; {all_failed} failed",
            ok + done_before
        );
        if left > 0 {
            say!(
                "r1seg: stopped after {failed} failures, with {left} volumes left: --resume goes on"
            );
        }
        let seconds = start.elapsed().as_secs_f64();
        say!(
            "r1seg: {seconds:.1} s, of which {:.1} s in the model; results are in {}",
            model.as_secs_f64(),
            args.out.display()
        );
    }
    if all_failed > 0 { Exit::SomeFailed } else { Exit::Answered }
}
