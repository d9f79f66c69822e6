//! Results as text, for clients that show or read no structured content.

use std::fmt::Write;

use r1seg_results::inspection::join;

use crate::results::{Answer, Inspected, Mask, Models, Outcome, Warning};

const NOTICE: &str = "Research use only: not a medical device, no diagnosis.";

/// Lines of a text.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, line: impl std::fmt::Display) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{line}");
    }

    fn warnings(&mut self, warnings: &[Warning]) {
        for Warning { code, text, fix } in warnings {
            self.add(format_args!("warning[{code}]: {text}"));
            if let Some(fix) = fix {
                self.add(format_args!("  fix: {fix}"));
            }
        }
    }

    fn end(mut self) -> String {
        self.0.push_str(NOTICE);
        self.0
    }
}

/// One line for each model.
pub(crate) fn models(found: &Models) -> String {
    let mut lines = Lines::default();
    for model in &found.models {
        let mut line =
            format!("{}: {}, takes {}", model.id, model.family, model.prompts.join(", "));
        let _ = write!(line, "; gives {}; call {}", model.outputs.join(", "), model.tool);
        if model.is_demo {
            line.push_str("; knows synthetic phantoms only");
        }
        lines.add(line);
        for example in &model.examples {
            lines.add(format_args!("  e.g. {example}"));
        }
    }
    lines.add(format_args!("volumes: {}", found.volumes));
    lines.add(format_args!("results: {}", found.results));
    lines.end()
}

/// Geometry, intensities and warnings of a volume.
pub(crate) fn inspected(found: &Inspected) -> String {
    let mut lines = Lines::default();
    lines.add(format_args!("{} ({})", found.volume, found.kind));
    if let Some(shape) = found.shape {
        lines.add(format_args!("voxels (i x j x k): {}", shape.map(|n| n.to_string()).join(" x ")));
    }
    match found.spacing_mm {
        Some(spacing) => {
            let extent = found.field_of_view_mm.map(join).unwrap_or_default();
            lines.add(format_args!("spacing: {} mm, extent {extent} mm", join(spacing)));
        }
        None if found.shape.is_some() => lines.add("spacing: not known"),
        None => {}
    }
    if let Some(orientation) = &found.orientation {
        lines.add(format_args!("orientation: {orientation}"));
    }
    if let Some([low, high]) = found.intensity_range {
        lines.add(format_args!("intensities: {low} to {high}, {}", found.looks_like));
    }
    for series in &found.series {
        lines.add(series);
    }
    lines.warnings(&found.warnings);
    lines.add(format_args!("verdict: {}", found.verdict));
    lines.end()
}

/// What each prompt got, the masks, and where the files are.
pub(crate) fn outcome(found: &Outcome) -> String {
    let mut lines = Lines::default();
    for (number, answer) in (1..).zip(&found.answers) {
        lines.add(format_args!("{number}. {}", asked(answer)));
        for label in &answer.labels {
            if let Some(mask) = found.masks.iter().find(|mask| mask.label == *label) {
                lines.add(format_args!("   {}", measured(mask)));
            }
        }
        if answer.labels.is_empty() {
            lines.add("   no mask");
        }
    }
    if let Some(results) = &found.results {
        lines.add(format_args!("results: {results}"));
    }
    let files: Vec<&str> = found.files.iter().map(|file| file.name.as_str()).collect();
    if !files.is_empty() {
        lines.add(format_args!("files: {}", files.join(", ")));
    }
    lines.warnings(&found.warnings);
    lines.add(format_args!("model {}, {:.1} s", found.model, found.seconds));
    lines.end()
}

fn asked(answer: &Answer) -> String {
    match &answer.text {
        Some(text) if text.trim().is_empty() => format!("Q: {}\n   A: (empty)", answer.prompt),
        Some(text) => format!("Q: {}\n   A: {}", answer.prompt, text.trim()),
        None => answer.prompt.clone(),
    }
}

fn measured(mask: &Mask) -> String {
    let size = match mask.volume_ml {
        Some(ml) => format!("{ml:.1} mL, {} voxels", mask.voxels),
        None => format!("{} voxels (spacing not known)", mask.voxels),
    };
    let mut line = format!("label {}, {}: {size}", mask.label, mask.name);
    let _ = match mask.components {
        1 => write!(line, ", 1 component"),
        n => write!(line, ", {n} components"),
    };
    if let Some(hu) = mask.mean_hu {
        let _ = write!(line, ", mean {hu:.0} HU");
    }
    if mask.touches_border {
        line.push_str(", touches the border of the volume");
    }
    if let Some(file) = &mask.file {
        let _ = write!(line, ", in {file}");
    }
    line
}
