//! The file of cases, whichever layout it has.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use r1seg::Purpose;
use r1seg::registry::Family;
use serde_json::Value;

use super::case::{Cases, Rows};
use super::published::Reader;
use super::questions::Questions;
use super::{clicks, list};
use crate::args::{EvalArgs, Layout};
use crate::codes::Code;
use crate::exit::CliError;

/// The largest file of cases or templates: those of M3D have some 100 MB.
const MAX_BYTES: u64 = 1 << 30;

/// All cases of the data.
pub(super) fn cases(args: &EvalArgs, family: Family) -> Result<Cases> {
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
    let text = text_of(&args.data)?;
    let is_table = !text.trim_start().starts_with(['{', '[']);
    if args.layout == Layout::List {
        let rows = match is_table {
            // As `batch` does; published tables are read as they are.
            true => rows_of_table(&text, str::to_ascii_lowercase),
            false => rows_of_lines(&text),
        };
        return Ok(list::cases(rows, &folder));
    }
    let wrong = |path: &Path, what: String| CliError::new(Code::List, what).at(path);
    let names = match &args.class_names {
        Some(path) => serde_json::from_str(&text_of(path)?)
            .map_err(|e| wrong(path, format!("this is not a JSON object of names: {e}")))?,
        None => BTreeMap::new(),
    };
    let mut questions = Questions::of(family, args.draw);
    if let Some(path) = &args.templates {
        let file: Value = serde_json::from_str(&text_of(path)?)
            .map_err(|e| wrong(path, format!("this is not a JSON object: {e}")))?;
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
                .map_err(|e| wrong(&args.data, format!("this is not JSON: {e}")))?;
            Ok(reader.json(&value).map_err(|what| wrong(&args.data, what))?)
        }
        false => {
            let rows = rows_of_table(&text, str::to_owned).into_iter().map(|(line, row)| {
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
        let row = serde_json::from_str(line).map_err(|e| format!("it is not a JSON object: {e}"));
        (number, row)
    };
    lines.map(row).collect()
}

fn rows_of_table(text: &str, field: fn(&str) -> String) -> Rows {
    let mut table = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let header = table.headers().cloned().unwrap_or_default();
    let row = |(index, record): (u64, csv::Result<csv::StringRecord>)| {
        let record = match record {
            Ok(record) => record,
            Err(error) => return (index, Err(error.to_string())),
        };
        let line = record.position().map_or(index, csv::Position::line);
        let cells = header.iter().zip(record.iter()).filter(|(_, cell)| !cell.is_empty());
        let row = cells.map(|(name, cell)| (field(name), Value::from(cell))).collect();
        (line, Ok(row))
    };
    (2..).zip(table.records()).map(row).collect()
}

fn text_of(path: &Path) -> Result<String> {
    let bytes = r1seg::files::read(path, MAX_BYTES).map_err(|e| {
        let error = CliError::new(Code::ListUnreadable, format!("it cannot be read: {e}"));
        error.at(path).fix("check its path")
    })?;
    let text = String::from_utf8(bytes).map_err(|_| {
        CliError::new(Code::List, "it is not UTF-8").at(path).fix("save it as UTF-8")
    })?;
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}
