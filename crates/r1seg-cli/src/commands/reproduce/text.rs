//! The same for people, in Markdown, so that it can be pasted into an issue.

use std::fmt::Write;

use super::compare::{Figures, Row, Status};
use super::report::Report;
use crate::exit::one_line;
use crate::progress::counted;

/// Answers longer than this are cut in the table.
const LONGEST_TEXT: usize = 48;

pub(super) fn render(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let mut line = |words: String| _ = writeln!(text, "{}", one_line(&words));
    let (model, setting) = (&report.model, &report.setting);
    line(format!("## {} with r1seg {}", model.name, setting.r1seg_version));
    line(String::new());
    let revision = model.revision.as_deref().unwrap_or("revision unknown");
    line(format!("- model: {} ({}), {revision}", model.name, model.model_type));
    for file in &model.files {
        line(format!("- file: {}, {} bytes, sha256 {}", file.name, file.bytes, file.sha256));
    }
    for file in &model.converted_from {
        let (name, bytes, sha256) = (&file.name, file.bytes, &file.sha256);
        line(format!("- converted from: {name}, {bytes} bytes, sha256 {sha256}"));
    }
    let tensors = counted(model.tensors as u64, ["tensor", "tensors"]);
    line(format!("- weights: {tensors}, none NaN or infinite; {} loaded", setting.loaded_tensors));
    line(format!(
        "- computed on: {} ({}), {} threads, kernels {}, {}, commit {}",
        setting.device,
        setting.dtype,
        setting.threads,
        setting.cpu_kernels,
        setting.target,
        setting.commit.unwrap_or("unknown")
    ));
    let test = &report.self_test;
    let result = match (&test.text, test.voxels, test.similarity) {
        (_, _, Some(similarity)) => format!("similarity {similarity:.4}"),
        (Some(text), voxels, _) => {
            format!("\"{}\", {} mask voxels", cut(text), voxels.unwrap_or(0))
        }
        (None, voxels, _) => format!("{} mask voxels", voxels.unwrap_or(0)),
    };
    line(format!("- it computes: {}, \"{}\": {result}", test.input, test.asked));
    for used in &report.inputs {
        line(format!("- input: {}, {} bytes, sha256 {}", used.file, used.bytes, used.sha256));
    }
    line(String::new());
    if report.runs.is_empty() {
        line("No recorded results of this model are known.".to_string());
        return text;
    }
    for run in &report.runs {
        let source = &run.source;
        line(format!(
            "Recorded results `{}`: {}, commit {}, {}. {}.",
            run.id,
            source.repository,
            source.commit.as_deref().unwrap_or("unknown"),
            source.file.as_deref().unwrap_or("no file"),
            run.stack
        ));
        let (voxels, dice) = (100.0 * run.band.voxels, run.band.dice);
        line(format!("Band: voxels within {voxels} %, Dice within {dice}."));
    }
    line(report.note.clone());
    line(String::new());
    line("| input | id | prompt | recorded | measured | result |".to_string());
    line("|---|---|---|---|---|---|".to_string());
    for row in &report.rows {
        line(table_row(row));
    }
    line(String::new());
    for run in &report.runs {
        for remark in &run.not_compared {
            line(format!("Not compared: {remark}"));
        }
    }
    for missing in &report.missing {
        let hash = missing.sha256.as_deref().map(|hash| format!(", sha256 {hash}"));
        let hash = hash.unwrap_or_default();
        line(format!("Missing: {}{hash}; from {}", missing.file, missing.from));
    }
    let s = report.summary;
    line(format!(
        "{} within, {} outside, {} without a record, {} not run",
        s.within, s.outside, s.no_record, s.not_run
    ));
    text
}

fn table_row(row: &Row) -> String {
    let measured = row.measured.as_ref().map(figures).unwrap_or_default();
    let status = match row.status {
        Status::Within => "within",
        Status::Outside => "outside",
        Status::NoRecord => "no record",
        Status::NotRun => "not run",
    };
    let why = row.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let cells = [&row.input, &row.id, &cut(&row.prompt), &figures(&row.recorded), &measured];
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} | {status}{why} |", cells.join(" | "))
}

fn figures(figures: &Figures) -> String {
    let mut parts = Vec::new();
    parts.extend(figures.text.as_ref().map(|text| format!("\"{}\"", cut(text))));
    parts.extend(figures.voxels.map(|voxels| counted(voxels, ["voxel", "voxels"])));
    parts.extend(figures.dice.map(|dice| format!("Dice {dice:.4}")));
    parts.join(", ")
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST_TEXT) {
        Some((end, _)) => format!("{}..", text.get(..end).unwrap_or_default()),
        None => text.to_string(),
    }
}
