//! `r1seg eval`: a model on data whose truth is known.
//!
//! [`read`] reads cases in the layouts in which they are, [`list`] or [`published`], with [`questions`] where
//! the data have none. `batch` runs them, so that a run can be resumed and divided; [`clicks`] simulates a person
//! instead. [`score`] compares what came out with the truths by each of the [`metrics`], [`summary`] puts scores together, and [`page`]
//! shows them, with [`drawings`].

mod case;
mod clicks;
mod drawings;
mod list;
mod metrics;
mod page;
mod published;
mod questions;
mod read;
mod score;
mod summary;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use r1seg::registry::Family;
use r1seg::{CancelToken, CheckpointSource, Purpose};
use r1seg_results::Protected;
use rayon::prelude::*;
use serde_json::Value;

use super::{batch, retrieval};
use crate::args::{EvalArgs, Layout};
use crate::codes::Code;
use crate::exit::{CliError, Exit, say};
use crate::model;
use case::Cases;
use metrics::METRICS;
use score::{Scored, Scoring};
use summary::{Counts, Settings, Summary};

/// Raised when a field of eval.json changes its meaning or goes away.
const SCHEMA_VERSION: u32 = 1;
const CASES: &str = "cases.jsonl";
const LIST: &str = "list.jsonl";
const JSON: &str = "eval.json";
const TABLE: &str = "eval.csv";
const PAIRS: &str = "pairs.csv";
const PAGE: &str = "report.html";

pub(crate) fn run(args: EvalArgs, cancel: CancelToken) -> Result<Exit> {
    let (source, name) = model::source(&args.model)?;
    let family = source.family()?;
    if family.capabilities().purpose() == Purpose::Retrieve {
        return ranked(args, &source, family, cancel);
    }
    let mut cases = read::cases(&args, family)?;
    if let Some(limit) = args.limit {
        cases.cases.truncate(limit);
    }
    check_any(&args, &cases)?;
    for refused in cases.refused.iter().filter(|_| !args.order.quiet) {
        say!("r1seg: row {} is left out: {}", refused.line, refused.why);
    }
    if args.order.list {
        protect(&args, &source, &[LIST])?;
        batch::make_folder(&args.out)?;
        let list = args.out.join(LIST);
        write_lines(&list, cases.cases.iter().map(|case| serde_json::to_string(&case.row)))?;
        return batch::run(&args.into_batch(list), cancel);
    }
    protect(&args, &source, &[CASES, LIST, JSON, TABLE, PAGE, clicks::NAME])?;
    check_unused(&args)?;
    batch::make_folder(&args.out)?;
    let how = Scoring { empties: args.empty.into(), tolerance_mm: args.surface.tolerance_mm() };
    let settings = Settings {
        empty: how.empties.as_str(),
        tolerance_mm: how.tolerance_mm,
        draw: args.draw,
        confidence: r1seg_metrics::Bootstrap::default().confidence,
    };
    let (out, as_json, quiet) = (args.out.clone(), args.order.json, args.order.quiet);
    let (data, layout, shard) = (args.data.clone(), args.layout, args.order.shard);
    write_lines(&out.join(CASES), cases.cases.iter().map(serde_json::to_string))?;

    let (scored, curve) = match args.clicks {
        Some(clicks) => clicks::run(&args, &cases.cases, clicks, how, &cancel)?,
        None => (of_batch(args, &cases, how, &cancel)?, Vec::new()),
    };
    let counts = counts(&cases, &scored);
    // Of a batch that is divided, other parts may still run.
    let is_whole = scored
        .iter()
        .filter(|of| shard.is_none_or(|shard| shard.has(&of.id)))
        .all(|of| of.problem.is_none());
    let (overall, groups) = summary::groups(&scored);
    let summary = Summary {
        schema_version: SCHEMA_VERSION,
        r1seg_version: env!("CARGO_PKG_VERSION"),
        model: name.id,
        data: data.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        layout: clap::ValueEnum::to_possible_value(&layout)
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default(),
        settings,
        mean_of_groups: summary::mean_of_groups(&groups),
        overall,
        groups,
        calibration: summary::calibration(&scored),
        clicks: curve,
        counts,
        refused: cases.refused,
        research_use_only: true,
    };
    let json = serde_json::to_string_pretty(&summary)? + "\n";
    write(&out.join(JSON), json.as_bytes())?;
    write(&out.join(TABLE), &summary::csv(&scored)?)?;
    write(&out.join(PAGE), page::page(&summary, &scored, &out).as_bytes())?;
    let text = if as_json { json } else { table(&summary) };
    std::io::stdout().write_all(text.as_bytes())?;
    if !quiet {
        say!("r1seg: {}", out.join(PAGE).display());
    }
    Ok(if is_whole && summary.counts.refused == 0 { Exit::Answered } else { Exit::SomeFailed })
}

/// Retrieval, which `retrieve` measures: how often the right text or volume is found among all.
fn ranked(
    args: EvalArgs,
    source: &CheckpointSource,
    family: Family,
    cancel: CancelToken,
) -> Result<Exit> {
    if args.layout != Layout::M3dCap {
        return Err(CliError::usage(
            format!("{} compares volumes with texts", family.name()),
            "give --layout m3d-cap, or measure pairs of your own with `r1seg retrieve --pairs FILE`",
        ));
    }
    let order = &args.order;
    let given = [
        (order.resume, "--resume"),
        (order.shard.is_some(), "--shard"),
        (order.list, "--list"),
        (args.score_only, "--score-only"),
        (args.clicks.is_some(), "--clicks"),
    ];
    if let Some((_, option)) = given.iter().find(|(is_given, _)| *is_given) {
        return Err(CliError::usage(
            format!("{option} is for models that answer or segment: {} ranks", family.name()),
            format!("leave {option} out"),
        ));
    }
    let mut cases = read::cases(&args, family)?;
    cases.cases.truncate(args.limit.unwrap_or(usize::MAX));
    check_any(&args, &cases)?;
    protect(&args, source, &[PAIRS])?;
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(["image", "text"])?;
    for case in &cases.cases {
        let text = case.truths.first().and_then(|truth| truth.text.as_deref()).unwrap_or_default();
        table.write_record([case.row["image"].as_str().unwrap_or_default(), text])?;
    }
    batch::make_folder(&args.out)?;
    let pairs = args.out.join(PAIRS);
    write(&pairs, &table.into_inner().map_err(|e| e.into_error())?)?;
    for refused in cases.refused.iter().filter(|_| !args.order.quiet) {
        say!("r1seg: row {} is left out: {}", refused.line, refused.why);
    }
    let exit = retrieval::retrieve(&args.into_retrieve(pairs), cancel)?;
    let is_all = cases.refused.is_empty();
    Ok(if is_all { exit } else { Exit::SomeFailed })
}

/// Refuses data without a case that can be run.
fn check_any(args: &EvalArgs, cases: &Cases) -> Result<(), CliError> {
    if !cases.cases.is_empty() {
        return Ok(());
    }
    let why =
        cases.refused.first().map(|refused| format!(": row {}: {}", refused.line, refused.why));
    let what = format!("there is no case that can be run{}", why.unwrap_or_default());
    Err(CliError::new(Code::List, what).at(&args.data))
}

/// Refuses to write files over what is read.
fn protect(args: &EvalArgs, source: &CheckpointSource, names: &[&str]) -> Result<()> {
    let mut inputs = Protected::default().model(source).file("the data", &args.data);
    for (what, path) in [
        ("the file of --templates", &args.templates),
        ("the file of --class-names", &args.class_names),
        ("the file of --affine-from", &args.volume.affine_from),
    ] {
        if let Some(path) = path {
            inputs = inputs.file(what, path);
        }
    }
    inputs.check(&names.iter().map(|name| args.out.join(name)).collect::<Vec<_>>())?;
    Ok(())
}

/// Refuses a folder with results of another run, before anything in it is replaced.
fn check_unused(args: &EvalArgs) -> Result<(), CliError> {
    let continues = args.score_only || args.order.resume || args.order.force;
    if args.clicks.is_some() && !continues && args.out.join(clicks::NAME).exists() {
        let what = "there are results of simulated clicks in this folder";
        return Err(batch::exists(&args.out, what));
    }
    match args.score_only || args.clicks.is_some() {
        true => Ok(()),
        false => batch::check_unused(&args.out, &args.order),
    }
}

/// Runs the cases with `batch`, and scores what there is.
fn of_batch(
    args: EvalArgs,
    cases: &Cases,
    how: Scoring,
    cancel: &CancelToken,
) -> Result<Vec<Scored>> {
    let (out, list) = (args.out.clone(), args.out.join(LIST));
    write_lines(&list, cases.cases.iter().map(|case| serde_json::to_string(&case.row)))?;
    if !args.score_only {
        batch::run_silent(&args.into_batch(list), cancel.clone())?;
    }
    let lines = lines(&out)?;
    let of = |case: &case::Case| score::of_case(case, lines.get(&case.id), &out, how);
    Ok(cases.cases.par_iter().map(of).flatten().collect())
}

/// The newest line of each volume, of all parts of a batch.
fn lines(out: &Path) -> Result<BTreeMap<String, Value>> {
    let mut newest: BTreeMap<String, Value> = BTreeMap::new();
    for file in batch::files(out) {
        let text = std::fs::read_to_string(&file).map_err(|e| {
            CliError::new(Code::BatchResults, format!("the results cannot be read: {e}")).at(&file)
        })?;
        // Another part may be writing its last line.
        for line in text.split('\n').filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let Some(id) = line["id"].as_str() else { continue };
            let at = |line: &Value| line["finished_unix_ms"].as_u64();
            if newest.get(id).is_none_or(|known| at(known) <= at(&line)) {
                newest.insert(id.to_owned(), line);
            }
        }
    }
    Ok(newest)
}

fn counts(cases: &Cases, scored: &[Scored]) -> Counts {
    let of = |status: &str| scored.iter().filter(|of| of.status == status).count();
    Counts {
        cases: cases.cases.len(),
        prompts: scored.len(),
        scored: scored.iter().filter(|of| of.problem.is_none()).count(),
        failed: scored.iter().filter(|of| of.problem.is_some() && of.status != "missing").count(),
        missing: of("missing"),
        refused: cases.refused.len(),
    }
}

fn write_lines(path: &Path, lines: impl Iterator<Item = serde_json::Result<String>>) -> Result<()> {
    let mut text = String::new();
    for line in lines {
        text.push_str(&line?);
        text.push('\n');
    }
    write(path, text.as_bytes())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    batch::replace(path, bytes)?;
    Ok(())
}

/// What there is to see in a terminal.
fn table(summary: &Summary) -> String {
    let shown: Vec<_> =
        METRICS.iter().filter(|metric| summary.overall.contains_key(metric.name)).collect();
    let mut rows = vec![vec!["group".to_owned(), "n".to_owned()]];
    rows[0].extend(shown.iter().take(COLUMNS).map(|metric| metric.name.to_owned()));
    for group in &summary.groups {
        let mut row = vec![group.name.clone(), group.prompts.to_string()];
        row.extend(shown.iter().take(COLUMNS).map(|metric| {
            group
                .scores
                .get(metric.name)
                .map_or_else(|| "-".to_owned(), |mean| page::number(mean.mean))
        }));
        rows.push(row);
    }
    let mut row = vec!["all".to_owned(), summary.counts.prompts.to_string()];
    row.extend(shown.iter().take(COLUMNS).map(|metric| {
        summary.overall.get(metric.name).map_or_else(String::new, |mean| page::number(mean.mean))
    }));
    rows.push(row);
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).enumerate();
        let cells = cells.map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    r1seg::sanitize_terminal(&text).into_owned()
}

/// Metrics that fit into a terminal; eval.json has all.
const COLUMNS: usize = 8;
