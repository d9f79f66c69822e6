//! Findings for a reader of a terminal.
//!
//! Lengths and grids run in file order, i x j x k, as viewers show them; only the shapes of arrays are
//! slices first.

use std::fmt::Write;

use r1seg::volume::Warning;
use r1seg_results::inspection::{Inspected, Inspection, Verdict, is_doubt, join, number};
use r1seg_results::report::ijk;

use crate::exit::one_line;
use crate::hints;

/// Less is rounding of headers.
const OBLIQUE_DEGREES: f64 = 0.05;

/// Lines of a name and what there is to say.
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, text: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "  {name:<12} {}", one_line(text));
    }
}

/// Ends with a line that says OK, or what is doubtful.
pub(super) fn render(findings: &Inspection, warnings: &[Warning]) -> String {
    let mut lines = Lines(format!("{}\n", one_line(&findings.input.path)));
    geometry(&mut lines, &findings.input);
    intensities(&mut lines, findings);
    model(&mut lines, findings);

    let mut text = lines.0 + "\n";
    for warning in warnings {
        let _ = writeln!(text, "{}", one_line(&warning.to_string()));
        if let Some(remedy) = &warning.remedy {
            let _ = writeln!(text, "  fix: {}", hints::words(remedy));
        }
    }
    text + &verdict(findings, warnings) + "\n"
}

fn geometry(lines: &mut Lines, input: &Inspected) {
    let size = input.bytes.map(|bytes| format!(", {}", megabytes(bytes))).unwrap_or_default();
    let gzip = if input.compressed == Some(true) { ", gzip" } else { "" };
    lines.add("format", &format!("{}{gzip}{size}", format_name(input.kind)));

    if let Some(series) = &input.series {
        lines.add("series", &series.to_string());
    }
    let kept = if input.kept_as == "i16" { "16-bit whole numbers" } else { "f32" };
    let shape = join(input.shape.map(|n| n as f64));
    let array = ijk(input.shape);
    let text = format!("{shape} (i x j x k), as array {array:?}, kept as {kept}");
    lines.add("voxels", &text);

    let (Some(spacing), Some(extent), Some(voxel), Some(affine)) =
        (input.spacing_mm, input.field_of_view_mm, input.voxel_volume_mm3, input.affine)
    else {
        lines.add("spacing", "not known, nor position and sides");
        return;
    };
    lines.add("spacing", &format!("{} mm; one voxel is {} mm3", join(spacing), number(voxel)));
    lines.add("extent", &format!("{} mm", join(extent)));
    if let Some(codes) = &input.orientation {
        lines.add("orientation", &format!("{codes}: {}", directions(codes)));
    }
    if let Some(degrees) = input.oblique_degrees.filter(|degrees| OBLIQUE_DEGREES < *degrees) {
        let text = format!("up to {} degrees off the axes of the body", number(degrees));
        lines.add("oblique", &text);
    }
    if input.left_handed == Some(true) {
        lines.add("handedness", "left-handed: the array without its affine looks mirrored");
    }
    lines.add("affine", affine_source(input.affine_source));
    let [d, h, w] = [2, 1, 0].map(|n| affine.map(|row| row[n]));
    let origin = affine.map(|row| row[3]);
    let columns = [w, h, d, origin].map(|column| column.map(matrix_cell));
    let width = columns.iter().flatten().map(String::len).max().unwrap_or(0);
    for row in 0..3 {
        let cells: Vec<_> = columns.iter().map(|c| format!("{:>width$}", c[row])).collect();
        lines.add("", &cells.join("  "));
    }
}

fn intensities(lines: &mut Lines, findings: &Inspection) {
    let (input, found) = (&findings.input, &findings.intensities);
    if let (Some([low, high]), Some(mean)) = (input.intensity_range, found.mean) {
        let text = format!("{} .. {}, mean {}", number(low), number(high), number(mean));
        lines.add("intensities", &text);
    }
    if let (Some(low), Some(median), Some(high)) =
        (found.percentile_0_5, found.median, found.percentile_99_5)
    {
        let [low, median, high] = [low, median, high].map(number);
        lines.add("percentiles", &format!("{low} (0.5 %), {median} (50 %), {high} (99.5 %)"));
    }
    lines.add("looks like", &findings.looks_like());
    if let Some(tissue) = found.tissue {
        let [air, soft, dense] =
            [tissue.air_and_lung, tissue.soft_tissue, tissue.dense].map(percent);
        lines.add(
            "",
            &format!("{air} air or lung, {soft} fat or soft tissue, {dense} bone or contrast"),
        );
    }
}

fn model(lines: &mut Lines, findings: &Inspection) {
    let (input, view) = (&findings.input, &findings.model_view);
    let why = match input.intensity_verdict {
        Some("unit") => "the values are 0..1 already",
        Some("hu") => "the usual one for HU",
        Some("byte") => "from the smallest to the largest value",
        _ => "the least dependent on units",
    };
    lines.add("recipe", &format!("{} by --preprocess auto: {why}", input.preprocess));
    if let Some([low, high]) = view.clip.filter(|[low, high]| low < high) {
        let text = format!("{} and less becomes 0, {} and more 1", number(low), number(high));
        lines.add("", &text);
    }

    let [start, end] = input.crop;
    let crop: [usize; 3] = std::array::from_fn(|n| end[n] + 1 - start[n]);
    if crop == input.shape {
        lines.add("crop", "none: the whole volume is used");
    } else {
        let mm = input.spacing_mm.map(|spacing| {
            let mm = std::array::from_fn(|n| spacing[n] * crop[n] as f64);
            format!(", {} mm", join(mm))
        });
        let text = format!("to {} voxels{}", join(crop.map(|n| n as f64)), mm.unwrap_or_default());
        lines.add("crop", &text);
    }
    match (&view.orientation, &input.orientation) {
        (Some(seen), Some(stored)) if seen != stored => {
            lines.add("seen as", &format!("{seen}: {} (--orient)", directions(seen)));
        }
        (Some(seen), _) => lines.add("seen as", &format!("{seen}, as stored")),
        (None, _) => lines.add("seen as", "it is stored"),
    }
    let grid = format!("resized to {} (i x j x k)", join(view.grid.map(|n| n as f64)));
    if let (Some(mm), Some(spacing)) = (input.effective_resolution_mm, input.spacing_mm) {
        lines.add("model sees", &format!("{grid}: a model voxel is {} mm;", join(mm)));
        let seen = std::array::from_fn(|n| f64::max(mm[n], spacing[n]));
        lines.add("", &format!("nothing smaller than {} mm is seen", join(seen)));
    } else {
        lines.add("model sees", &format!("{grid}; in mm that is not known"));
    }
    let windows = match view.sliding_windows {
        1 => "1 window".to_string(),
        n => format!("{n} windows"),
    };
    lines.add("or slides", &format!("{windows} of as many voxels, not resized (--mode sliding)"));
}

fn verdict(findings: &Inspection, warnings: &[Warning]) -> String {
    let looks = findings.looks_like();
    match findings.verdict {
        Verdict::Ok => format!("OK: {looks}"),
        Verdict::Warnings => {
            let plural = if warnings.len() == 1 { "" } else { "s" };
            format!("OK, with {} warning{plural}: {looks}", warnings.len())
        }
        Verdict::Doubtful => {
            let codes: Vec<_> =
                warnings.iter().filter(|w| is_doubt(w)).map(|warning| warning.code).collect();
            format!("DOUBTFUL ({}): {looks}", codes.join(", "))
        }
    }
}

fn format_name(kind: &str) -> &str {
    match kind {
        "nifti-1" => "NIfTI-1",
        "nifti-2" => "NIfTI-2",
        "npy" => "numpy array",
        "npz" => "array of a numpy archive",
        "dicom" => "DICOM",
        "nrrd" => "NRRD",
        other => other,
    }
}

fn affine_source(source: &str) -> &'static str {
    match source {
        "sform" => "voxel index to RAS+ mm, the file's sform:",
        "qform" => "voxel index to RAS+ mm, the file's qform:",
        "pixdim" => "voxel index to RAS+ mm, a guess from voxel sizes alone:",
        "given" => "voxel index to RAS+ mm, as given by option:",
        _ => "voxel index to RAS+ mm:",
    }
}

fn directions(codes: &str) -> String {
    let word = |code| match code {
        'R' => "right",
        'L' => "left",
        'A' => "anterior",
        'P' => "posterior",
        'S' => "superior",
        _ => "inferior",
    };
    let parts: Vec<_> = codes
        .chars()
        .zip(["i", "j", "k"])
        .map(|(c, axis)| format!("{axis} to {}", word(c)))
        .collect();
    parts.join(", ")
}

fn megabytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{} kB", number(bytes as f64 / 1e3)),
        _ => format!("{} MB", number(bytes as f64 / 1e6)),
    }
}

fn percent(part: f64) -> String {
    match part * 100.0 {
        p if 0.0 < p && p < 1.0 => "<1 %".to_string(),
        p => format!("{p:.0} %"),
    }
}

fn matrix_cell(value: f64) -> String {
    match value.abs() {
        // Rounded first, so that there is no -0.0000.
        0.0..1e7 => format!("{:.4}", (value * 1e4).round() / 1e4 + 0.0),
        _ => format!("{value:.4e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_of_a_matrix_line_up_at_the_point() {
        for (value, text) in [
            (-1e-17, "0.0000"),
            (0.9765625, "0.9766"),
            (-804.5, "-804.5000"),
            (1e300, "1.0000e300"),
        ] {
            assert_eq!(matrix_cell(value), text);
        }
    }

    #[test]
    fn small_parts_are_not_nothing() {
        assert_eq!([0.0, 0.004, 0.5, 1.0].map(percent), ["0 %", "<1 %", "50 %", "100 %"]);
    }
}
