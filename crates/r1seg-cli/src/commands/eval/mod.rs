//! `r1seg eval`: a model on data whose truth is known.
//!
//! [`list`] and [`published`] read cases out of the layouts in which they are, with [`questions`] where the
//! data have none. `batch` runs them, so that a run can be resumed and divided; [`clicks`] simulates a person
//! instead. [`score`] compares what came out with the truths, [`summary`] puts scores together, and [`page`]
//! shows them.

mod case;
mod clicks;
mod list;
mod page;
mod published;
mod questions;
mod score;
mod summary;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use r1seg::registry::Family;
use r1seg::{CancelToken, Purpose};
use rayon::prelude::*;
use serde_json::Value;

use super::{batch, retrieval};
use crate::args::{EvalArgs, Layout};
use crate::codes::Code;
use crate::exit::{CliError, Exit, say};
use crate::model;
use case::{Cases, Rows};
use published::Reader;
use questions::Questions;
use score::{METRICS, Scored, Scoring};
use summary::{Counts, Settings, Summary};

/// Raised when a field of eval.json changes its meaning or goes away.
const SCHEMA_VERSION: u32 = 1;
/// The largest file of cases or templates: those of M3D have some 100 MB.
const MAX_BYTES: u64 = 1 << 30;
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
        return ranked(args, family, cancel);
    }
    let mut cases = read(&args, family)?;
    if let Some(limit) = args.limit {
        cases.cases.truncate(limit);
    }
    if cases.cases.is_empty() {
        let why =
            cases.refused.first().map(|refused| format!(": row {}: {}", refused.line, refused.why));
        let what = format!("there is no case that can be run{}", why.unwrap_or_default());
        return Err(CliError::new(Code::List, what).at(&args.data).into());
    }
    for refused in cases.refused.iter().filter(|_| !args.order.quiet) {
        say!("r1seg: row {} is left out: {}", refused.line, refused.why);
    }
    if args.order.list {
        let list = args.out.join(LIST);
        std::fs::create_dir_all(&args.out)?;
        write_lines(&list, cases.cases.iter().map(|case| serde_json::to_string(&case.row)))?;
        return batch::run(&args.into_batch(list), cancel);
    }
    std::fs::create_dir_all(&args.out).map_err(|e| r1seg_results::Error::CannotCreate {
        path: args.out.clone(),
        what: format!("the folder of the results cannot be created: {e}"),
    })?;
    let how = Scoring {
        empties: args.empty.into(),
        tolerance_mm: (!args.no_surface).then_some(args.tolerance_mm),
    };
    let settings = Settings {
        empty: how.empties.as_str(),
        tolerance_mm: how.tolerance_mm,
        draw: args.draw,
        confidence: r1seg_metrics::Bootstrap::default().confidence,
    };
    let (out, as_json, quiet) = (args.out.clone(), args.order.json, args.order.quiet);
    let (data, layout) = (args.data.clone(), args.layout);
    write_lines(&out.join(CASES), cases.cases.iter().map(serde_json::to_string))?;

    let (scored, curve) = match args.clicks {
        Some(clicks) => clicks::run(&args, &cases.cases, clicks, how, &cancel)?,
        None => (of_batch(args, &cases, how, &cancel)?, Vec::new()),
    };
    let counts = counts(&cases, &scored);
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
    let Counts { scored, prompts, refused, .. } = summary.counts;
    Ok(if scored == prompts && refused == 0 { Exit::Answered } else { Exit::SomeFailed })
}

/// Retrieval, which `retrieve` measures: how often the right text or volume is found among all.
fn ranked(args: EvalArgs, family: Family, cancel: CancelToken) -> Result<Exit> {
    if args.layout != Layout::M3dCap {
        return Err(CliError::usage(
            format!("{} compares volumes with texts", family.name()),
            "give --layout m3d-cap, or measure pairs of your own with `r1seg retrieve --pairs FILE`",
        ));
    }
    let mut cases = read(&args, family)?;
    cases.cases.truncate(args.limit.unwrap_or(usize::MAX));
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(["image", "text"])?;
    for case in &cases.cases {
        let text = case.truths.first().and_then(|truth| truth.text.as_deref()).unwrap_or_default();
        table.write_record([case.row["image"].as_str().unwrap_or_default(), text])?;
    }
    std::fs::create_dir_all(&args.out)?;
    let pairs = args.out.join(PAIRS);
    write(&pairs, &table.into_inner().map_err(|e| e.into_error())?)?;
    for refused in cases.refused.iter().filter(|_| !args.order.quiet) {
        say!("r1seg: row {} is left out: {}", refused.line, refused.why);
    }
    let exit = retrieval::retrieve(&args.into_retrieve(pairs), cancel)?;
    let is_all = cases.refused.is_empty();
    Ok(if is_all { exit } else { Exit::SomeFailed })
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
    let lines = lines(&out);
    let of = |case: &case::Case| score::of_case(case, lines.get(&case.id), &out, how);
    Ok(cases.cases.par_iter().map(of).flatten().collect())
}

/// The last line of each volume, of all parts of a batch.
fn lines(out: &Path) -> BTreeMap<String, Value> {
    let is_results = |name: &str| name.starts_with("results") && name.ends_with(".jsonl");
    let files = std::fs::read_dir(out).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = files
        .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_results))
        .collect();
    files.sort();
    let mut lines = BTreeMap::new();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            if let Some(id) = line["id"].as_str() {
                lines.insert(id.to_owned(), line);
            }
        }
    }
    lines
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

fn read(args: &EvalArgs, family: Family) -> Result<Cases> {
    // The list that `batch` reads lies elsewhere.
    let folder = std::path::absolute(r1seg_results::parent(&args.data))?;
    if let Some(clicks) = args.clicks {
        clicks::check(args, family)?;
        if args.layout != Layout::List {
            return Err(CliError::usage(
                format!("--clicks {clicks} is for a list with truths"),
                "leave --layout out",
            ));
        }
    }
    let text = text(&args.data)?;
    let is_table = !text.trim_start().starts_with(['{', '[']);
    if args.layout == Layout::List {
        let rows = if is_table { rows_of_table(&text) } else { rows_of_lines(&text) };
        return Ok(list::cases(rows, &folder));
    }
    let wrong = |path: &Path, what: String| CliError::new(Code::List, what).at(path);
    let names = match &args.class_names {
        Some(path) => serde_json::from_str(&self::text(path)?)
            .map_err(|e| wrong(path, format!("this is no JSON object of names: {e}")))?,
        None => BTreeMap::new(),
    };
    let mut questions = Questions::of(family, args.draw);
    if let Some(path) = &args.templates {
        let file: Value = serde_json::from_str(&self::text(path)?)
            .map_err(|e| wrong(path, format!("this is no JSON object: {e}")))?;
        questions = questions.with_file(&file).map_err(|what| wrong(path, what))?;
    }
    let root = args.root.as_ref().map_or(Ok(folder), std::path::absolute)?;
    let mut reader = Reader {
        layout: args.layout,
        split: &args.split,
        root: &root,
        names: &names,
        questions: &mut questions,
        answers: family.capabilities().purpose() == Purpose::Answer,
    };
    let is_json = matches!(
        args.layout,
        Layout::M3dSeg | Layout::M3dRes | Layout::M3dRec | Layout::M3dReg | Layout::M3dCap
    );
    match is_json {
        true => {
            let value = serde_json::from_str(&text)
                .map_err(|e| wrong(&args.data, format!("this is no JSON: {e}")))?;
            Ok(reader.json(&value).map_err(|what| wrong(&args.data, what))?)
        }
        false => {
            let rows = rows_of_table(&text).into_iter().map(|(line, row)| {
                let text = |value: Value| value.as_str().unwrap_or_default().to_owned();
                let row =
                    row.map(|row| row.into_iter().map(|(name, cell)| (name, text(cell))).collect());
                (line, row)
            });
            Ok(reader.table(rows))
        }
    }
}

fn rows_of_lines(text: &str) -> Rows {
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let row = |(number, line): (u64, &str)| {
        let row = serde_json::from_str(line).map_err(|e| format!("it is no JSON object: {e}"));
        (number, row)
    };
    lines.map(row).collect()
}

fn rows_of_table(text: &str) -> Rows {
    let mut table =
        csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_reader(text.as_bytes());
    let header = table.headers().cloned().unwrap_or_default();
    let row = |(index, record): (u64, csv::Result<csv::StringRecord>)| {
        let record = match record {
            Ok(record) => record,
            Err(error) => return (index, Err(error.to_string())),
        };
        let line = record.position().map_or(index, csv::Position::line);
        let cells = header.iter().zip(record.iter()).filter(|(_, cell)| !cell.is_empty());
        let row = cells.map(|(name, cell)| (name.to_owned(), Value::from(cell))).collect();
        (line, Ok(row))
    };
    (2..).zip(table.records()).map(row).collect()
}

fn text(path: &Path) -> Result<String> {
    let bytes = r1seg::files::read(path, MAX_BYTES).map_err(|e| {
        let error = CliError::new(Code::ListUnreadable, format!("it cannot be read: {e}"));
        error.at(path).fix("check its path")
    })?;
    let text = String::from_utf8(bytes).map_err(|_| {
        CliError::new(Code::List, "it is not UTF-8").at(path).fix("save it as UTF-8")
    })?;
    Ok(text.trim_start_matches('\u{feff}').to_owned())
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
