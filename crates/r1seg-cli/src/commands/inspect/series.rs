//! The series of a DICOM study, of which one is to be chosen.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use r1seg::volume::{Error, SeriesSummary};
use r1seg_results::inspection::join;
use r1seg_results::report::{SCHEMA_VERSION, ijk};
use serde::Serialize;

use crate::exit::one_line;

#[derive(Serialize)]
struct Listing<'a> {
    schema_version: u32,
    r1seg_version: &'static str,
    input: Input,
    series: Vec<Entry<'a>>,
    verdict: &'static str,
    research_use_only: bool,
}

#[derive(Serialize)]
struct Input {
    path: String,
    kind: &'static str,
}

#[derive(Serialize)]
struct Entry<'a> {
    number: usize,
    id: &'a str,
    modality: &'a str,
    slices: usize,
    shape: Option<[usize; 3]>,
    spacing_mm: Option<[f64; 3]>,
    is_localizer: bool,
    /// Why it cannot be read.
    fault: Option<&'a str>,
}

/// The series that are in the way of reading one, if that is what is wrong.
pub(super) fn of(error: &anyhow::Error) -> Option<&[SeriesSummary]> {
    error.downcast_ref::<Error>()?.series()
}

pub(super) fn render(path: &Path, series: &[SeriesSummary], json: bool) -> Result<String> {
    if !json {
        let text = table(&path.display().to_string(), series);
        return Ok(r1seg::sanitize_terminal(&text).into_owned());
    }
    let listing = Listing {
        schema_version: SCHEMA_VERSION,
        r1seg_version: env!("CARGO_PKG_VERSION"),
        input: Input { path: path.display().to_string(), kind: "dicom" },
        series: series.iter().map(entry).collect(),
        verdict: "choose",
        research_use_only: true,
    };
    Ok(serde_json::to_string_pretty(&listing)? + "\n")
}

fn entry(s: &SeriesSummary) -> Entry<'_> {
    Entry {
        number: s.number,
        id: &s.id,
        modality: &s.modality,
        slices: s.slices,
        shape: s.shape.map(ijk),
        spacing_mm: s.spacing_mm.map(ijk),
        is_localizer: s.is_localizer,
        fault: s.verdict.as_deref(),
    }
}

fn table(path: &str, series: &[SeriesSummary]) -> String {
    let heading = ["series", "id", "what", "slices", "voxels (i x j x k)", "spacing in mm", ""];
    let mut rows = vec![heading.map(str::to_string)];
    rows.extend(series.iter().map(|s| {
        let localizer = if s.is_localizer { " localizer" } else { "" };
        [
            s.number.to_string(),
            s.id.clone(),
            format!("{}{localizer}", s.modality),
            s.slices.to_string(),
            s.shape.map_or("-".to_string(), |shape| join(ijk(shape.map(|n| n as f64)))),
            s.spacing_mm.map_or("-".to_string(), |mm| join(ijk(mm))),
            s.verdict.clone().unwrap_or_else(|| "can be read".to_string()),
        ]
    }));
    let widths: [usize; 7] =
        std::array::from_fn(|n| rows.iter().map(|row| row[n].len()).max().unwrap_or(0));

    let mut text = format!("{}\n", one_line(path));
    for row in rows {
        let cells = row.iter().zip(widths);
        let line: Vec<_> = cells.map(|(cell, width)| format!("{cell:<width$}")).collect();
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {}", one_line(line.join("  ").trim_end()));
    }
    text + "\n" + &choice(series) + "\n"
}

fn choice(series: &[SeriesSummary]) -> String {
    let usable: Vec<_> =
        series.iter().filter(|s| s.verdict.is_none()).map(|s| s.number.to_string()).collect();
    match usable.as_slice() {
        [] => "none of the series can be read".to_string(),
        [one] => format!("choose one with --series N; {one} can be read"),
        all => format!("choose one with --series N; {} can be read", all.join(", ")),
    }
}
