//! The scores as a table.

use std::fmt::Write;

use r1seg_results::inspection::{join, number};

use super::report::{File, Report, Row, Scores};
use crate::exit::one_line;

/// A name that is longer is cut in its middle.
const MAX_NAME: usize = 28;

/// A line for each file, a table of the labels, and the slice in which they differ most.
pub(super) fn render(report: &Report) -> String {
    let mut text = file("A", &report.a) + &file("B", &report.b);
    if report.resampled {
        text += "B is compared on the grid of A, label by nearest voxel\n";
    }
    if report.ignored_affine {
        text += "B's own position is ignored, as asked; mm are A's\n";
    }
    text.push('\n');
    text += &table(report);
    if let Some(worst) = &report.worst_slice {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "\nworst axial slice: {} = {}, {} voxels differ",
            worst.axis, worst.index, worst.different_voxels
        );
    } else {
        text += "\nno voxel differs\n";
    }
    text
}

fn file(which: &str, file: &File) -> String {
    let voxels = join(file.shape.map(|n| n as f64));
    let mm = file
        .spacing_mm
        .map_or_else(|| "of unknown size".to_owned(), |mm| format!("of {} mm", join(mm)));
    let plural = if file.labels == 1 { "" } else { "s" };
    let path = one_line(&file.path);
    format!("{which}  {path}: {voxels} voxels {mm}, {} label{plural}\n", file.labels)
}

fn table(report: &Report) -> String {
    let has_volumes = report.labels.iter().any(|row| row.volume_a_ml.is_some());
    let mut head = ["label", "name", "Dice", "IoU", "prec.", "recall"].map(str::to_owned).to_vec();
    if let Some(mm) = report.tolerance_mm {
        head.push(format!("NSD {} mm", number(mm)));
        head.extend(["HD95 mm", "HD mm", "ASSD mm"].map(str::to_owned));
    }
    match has_volumes {
        true => head.extend(["A mL", "B mL", "error"].map(str::to_owned)),
        false => head.extend(["A voxels", "B voxels", "error"].map(str::to_owned)),
    }
    let mut rows = vec![head];
    rows.extend(report.labels.iter().map(|row| cells(report, row, has_volumes)));
    if report.labels.len() > 1 {
        let mean = &report.mean;
        let mut cells = vec!["mean".to_owned(), format!("of {}", mean.labels)];
        cells.extend(scores(report, &mean.scores));
        rows.push(cells);
    }
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let fill = " ".repeat(width - cell.chars().count());
            // Names are read from the left, numbers line up at the right.
            line +=
                &if column == 1 { format!("{cell}{fill}  ") } else { format!("{fill}{cell}  ") };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn cells(report: &Report, row: &Row, has_volumes: bool) -> Vec<String> {
    let label = match (row.label_a, row.label_b) {
        (Some(a), Some(b)) if a == b => a.to_string(),
        (Some(a), Some(b)) => format!("{a}/{b}"),
        (Some(a), None) => format!("{a}/-"),
        (None, Some(b)) => format!("-/{b}"),
        (None, None) => "-".to_owned(),
    };
    let mut cells = vec![label, shortened(row.name.as_deref().unwrap_or(""))];
    cells.extend(scores(report, &row.scores));
    match (row.volume_a_ml, row.volume_b_ml) {
        (Some(a), Some(b)) if has_volumes => cells.extend([a, b].map(milliliters)),
        _ => cells.extend([row.voxels_a, row.voxels_b].map(|voxels| voxels.to_string())),
    }
    let percent = |error: f64| format!("{:+.1} %", 100.0 * error);
    cells.push(row.relative_volume_error.map_or_else(none, percent));
    cells
}

fn scores(report: &Report, scores: &Scores) -> Vec<String> {
    let share = |score: Option<f64>| score.map_or_else(none, |score| format!("{score:.3}"));
    let mm = |score: Option<f64>| score.map_or_else(none, |score| format!("{score:.2}"));
    let mut cells = [scores.dice, scores.iou, scores.precision, scores.recall].map(share).to_vec();
    if report.tolerance_mm.is_some() {
        cells.push(share(scores.surface_dice));
        cells.extend([scores.hd95_directed_mm, scores.hausdorff_mm, scores.assd_mm].map(mm));
    }
    cells
}

fn none() -> String {
    "-".to_owned()
}

fn milliliters(ml: f64) -> String {
    match ml {
        ml if ml < 10.0 => format!("{ml:.2}"),
        ml if ml < 1000.0 => format!("{ml:.1}"),
        ml => format!("{ml:.0}"),
    }
}

fn shortened(name: &str) -> String {
    let name = one_line(name);
    let count = name.chars().count();
    if count <= MAX_NAME {
        return name;
    }
    let kept = MAX_NAME - 2;
    let head: String = name.chars().take(kept - kept / 2).collect();
    let tail: String = name.chars().skip(count - kept / 2).collect();
    format!("{head}..{tail}")
}
