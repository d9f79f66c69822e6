//! What a run leaves: masks, their names, a picture, the answers and the report.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Instant;

use anyhow::Result;
use r1seg::volume::{
    Geometry, Mask, MaskFormat, Overwrite, Region, Segment, Segmentation, Warning, write_mask_to,
    write_segmentation,
};
use r1seg::{Answer, ErrorKind};
use serde::Serialize;

use super::masks::{Found, Together};
use super::outputs::{Outputs, numbered};
use super::printer::number;
use crate::args::InferArgs;
use crate::exit::CliError;
use crate::input::Input;
use crate::output::{Output, Stage};
use crate::preview::{BoxMark, label_color};
use crate::report::{self, Report, WarningReport, ms};
use crate::study;

/// All there is to write.
pub(super) struct Results<'a> {
    pub(super) args: &'a InferArgs,
    pub(super) outputs: &'a Outputs,
    pub(super) input: &'a Input,
    pub(super) answers: &'a [(String, Answer)],
}

/// What there is to say once everything is written.
pub(super) struct Written {
    pub(super) json: String,
    /// Lines.
    pub(super) summary: Vec<String>,
    pub(super) warnings: Vec<Warning>,
    pub(super) stdout_mask: Option<Mask>,
}

/// An entry of `labels.json`.
#[derive(Serialize)]
struct Label<'a> {
    name: &'a str,
    /// Red, green and blue, as in the preview.
    color: [u8; 3],
    file: Option<&'a str>,
}

/// A trace is of one answer.
pub(super) fn check_trace(args: &InferArgs, prompts: usize) -> Result<()> {
    if args.output.trace.is_some() && prompts > 1 {
        return Err(CliError::usage(
            format!("--trace writes the stages of one answer, and there are {prompts} prompts"),
            "trace one prompt at a time",
        ));
    }
    Ok(())
}

/// As `.nii.gz`.
pub(super) fn print_mask(mask: &Mask) -> Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    write_mask_to(&mut out, mask, MaskFormat::NiftiGz)?;
    Ok(out.flush()?)
}

impl Results<'_> {
    /// Measures the masks, then writes all files or none.
    pub(super) fn write(
        &self,
        output: &Output,
        mut report: Report,
        mut warnings: Vec<Warning>,
        start: Instant,
    ) -> Result<Written> {
        let saving = Instant::now();
        let found = self.found();
        let together = Together::new(&found, self.input.volume.geometry())?;
        if together.overlap > 0 {
            warnings.push(self.overlap(together.overlap));
            if self.outputs.mask_to_stdout {
                return Err(CliError {
                    code: "R-OUT-07",
                    kind: ErrorKind::CannotCreate,
                    what: format!(
                        "masks of several prompts overlap in {} voxels: one 3D mask cannot hold \
                         them",
                        together.overlap
                    ),
                    path: None,
                    fix: Some("write a file for each of them with --mask FILE or --out".into()),
                }
                .into());
            }
        }
        for found in &found {
            let index = usize::from(found.label) - 1;
            let name = &self.answers[index].0;
            let (volume, range) = (&self.input.volume, self.input.range);
            let mut mask = report::mask(found.mask, volume, range, found.label, name)?;
            mask.path = self.mask_path(found.label, together.overlap > 0);
            report.masks.push(mask);
            report.answers[index].labels.push(found.label);
        }

        let mut stage = output.stage()?;
        self.write_masks(&mut stage, &found, &together)?;
        if let Some(path) = self.outputs.labels.as_ref().filter(|_| !found.is_empty()) {
            let labels = labels(&report);
            stage.write(path, (serde_json::to_string_pretty(&labels)? + "\n").as_bytes())?;
        }
        if let Some(path) = &self.outputs.preview {
            stage.write(path, &self.picture(&found, &together.labels)?)?;
        }
        if let Some(path) = &self.outputs.answer {
            stage.write(path, self.answer_text().as_bytes())?;
        }
        if let (Some(path), Some(trace)) = (&self.outputs.trace, &self.answers[0].1.trace) {
            stage.write_with(path, |part| trace.write(part, Overwrite::Refuse))?;
        }
        report.warnings = warnings.iter().map(WarningReport::from).collect();
        report.timings_ms.save = ms(saving.elapsed());
        report.timings_ms.total = ms(start.elapsed());
        let json = report.to_json()?;
        if let Some(path) = &self.outputs.report {
            stage.write(path, json.as_bytes())?;
        }
        stage.commit(&self.outputs.stale())?;
        let summary = self.summary(&report, start);
        let to_stdout = self.outputs.mask_to_stdout && !found.is_empty();
        let stdout_mask = to_stdout.then_some(together.labels);
        Ok(Written { json, summary, warnings, stdout_mask })
    }

    fn found(&self) -> Vec<Found<'_>> {
        let numbers = 1..=u8::MAX;
        numbers
            .zip(self.answers)
            .filter_map(|(label, (_, answer))| Some(Found { label, mask: answer.mask.as_ref()? }))
            .collect()
    }

    fn write_masks(
        &self,
        stage: &mut Stage<'_>,
        found: &[Found<'_>],
        together: &Together,
    ) -> Result<()> {
        if found.is_empty() {
            return Ok(());
        }
        for path in &self.outputs.masks {
            if together.overlap == 0 {
                stage.write_mask(path, &together.labels)?;
                continue;
            }
            for found in found {
                let path = numbered(path, found.label.into());
                stage.write_mask(&path, &found.labelled()?)?;
            }
        }
        if let Some(path) = &self.outputs.segmentation {
            let segments = self.segments(together);
            let segmentation = Segmentation::new(together.labels.geometry(), segments)?;
            stage.write_with(path, |part| {
                write_segmentation(part, &segmentation, Overwrite::Refuse)
            })?;
        }
        Ok(())
    }

    /// A segment a prompt, since segments are labelled by their number; some may be empty.
    fn segments<'a>(&'a self, together: &'a Together) -> Vec<Segment<'a>> {
        let numbered = (1..=u8::MAX).zip(self.answers);
        numbered
            .map(|(label, (prompt, answer))| {
                let (name, color) = (one_line(prompt), label_color(label));
                match &answer.mask {
                    Some(mask) => Segment::new(name, color, mask.data()),
                    None => Segment::of_label(name, color, together.labels.data(), label),
                }
            })
            .collect()
    }

    /// What the report calls the file of a mask.
    fn mask_path(&self, label: u8, apart: bool) -> Option<String> {
        if self.outputs.mask_to_stdout {
            return Some("-".to_string());
        }
        let path = match (self.outputs.masks.first(), &self.outputs.segmentation) {
            (Some(path), _) if apart => &numbered(path, label.into()),
            (Some(path), _) | (None, Some(path)) => path,
            (None, None) => return None,
        };
        Some(self.outputs.name(path))
    }

    fn overlap(&self, voxels: usize) -> Warning {
        let mut text = format!("masks of several prompts overlap in {voxels} voxels");
        if !self.outputs.masks.is_empty() {
            text.push_str("; each has a file of its own");
        }
        if self.outputs.preview.is_some() {
            text.push_str("; the preview shows the later one");
        }
        Warning::new("W-OVERLAP", text)
    }

    fn picture(&self, found: &[Found<'_>], labels: &Mask) -> Result<Vec<u8>> {
        let mut title = match self.answers {
            [(prompt, _)] => short(prompt),
            _ => format!("{} prompts", self.answers.len()),
        };
        let boxes = self.boxes();
        let marks: Vec<BoxMark> = boxes
            .iter()
            .map(|&(index, region)| BoxMark { label: label_of(index), region })
            .collect();
        // Without a mask or a box there is no label to name.
        let mut names = Vec::new();
        if found.is_empty() && marks.is_empty() {
            title.push_str(": no mask");
        } else {
            names.extend(self.answers.iter().map(|(prompt, _)| short(prompt)));
        }
        let labels = if found.is_empty() { &[][..] } else { labels.data() };
        let picture = study::picture(&self.input.volume, labels, &marks, &names, &title);
        Ok(study::png(&picture)?)
    }

    /// The boxes in the answers that have voxels, with the number of their prompt from 0.
    fn boxes(&self) -> Vec<(usize, Region)> {
        let answers = self.answers.iter().enumerate();
        answers
            .flat_map(|(index, (_, answer))| {
                answer.boxes.iter().filter_map(move |found| Some((index, found.region?)))
            })
            .collect()
    }

    fn answer_text(&self) -> String {
        match self.answers {
            [(_, answer)] => format!("{}\n", answer.text),
            _ => self
                .answers
                .iter()
                .enumerate()
                .map(|(index, (_, answer))| format!("{}{}\n", number(index), answer.text))
                .collect(),
        }
    }

    fn summary(&self, report: &Report, start: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        let mut files = Vec::new();
        let size = |label: usize| {
            report.masks.iter().find(|m| usize::from(m.label) == label).map(|mask| mask.size())
        };
        if let [(_, answer)] = self.answers {
            match (size(1), self.mask_files(report)) {
                (Some(size), Some(files_of_mask)) => files.push(format!("{files_of_mask} {size}")),
                (Some(size), None) => files.push(format!("mask {size}")),
                (None, _) => files.push(format!("no mask: {}", why_no_mask(answer))),
            }
        } else {
            for (index, (_, answer)) in self.answers.iter().enumerate() {
                let what =
                    size(index + 1).unwrap_or_else(|| format!("no mask: {}", why_no_mask(answer)));
                lines.push(format!("{}{what}", number(index)));
            }
            files.extend(self.mask_files(report));
        }
        for (index, region) in self.boxes() {
            let which = if self.answers.len() > 1 { number(index) } else { String::new() };
            lines.push(format!("{which}{}", box_line(region, self.input.volume.geometry())));
        }
        for (what, path) in [
            ("preview", &self.outputs.preview),
            ("report", &self.args.output.report),
            ("trace", &self.outputs.trace),
        ] {
            files.extend(path.as_ref().map(|path| format!("{what} {}", path.display())));
        }
        files.push(format!("{:.1} s", start.elapsed().as_secs_f64()));
        lines.push(files.join(" | "));
        lines
    }

    /// `mask out/mask.nii.gz`, or the first and the last of several.
    fn mask_files(&self, report: &Report) -> Option<String> {
        let path = self.outputs.masks.first().or(self.outputs.segmentation.as_ref())?;
        let name = |mask: &report::MaskReport| {
            let name = mask.path.as_ref()?;
            let file = std::path::Path::new(name).file_name()?;
            Some(path.with_file_name(file).display().to_string())
        };
        let (first, last) = (report.masks.first()?, report.masks.last()?);
        Some(if first.path == last.path {
            format!("mask {}", name(first)?)
        } else {
            format!("masks {} to {}", name(first)?, name(last)?)
        })
    }
}

fn labels(report: &Report) -> BTreeMap<u8, Label<'_>> {
    report
        .masks
        .iter()
        .map(|mask| {
            let (name, file) = (mask.name.as_str(), mask.path.as_deref());
            (mask.label, Label { name, color: label_color(mask.label), file })
        })
        .collect()
}

/// Prompt K, counted from 0, is label K + 1; there are no more prompts than labels.
fn label_of(index: usize) -> u8 {
    u8::try_from(index + 1).unwrap_or(u8::MAX)
}

/// As `--box` and `--box-mm` take it.
fn box_line(region: Region, geometry: &Geometry) -> String {
    let [first, last] = report::corners(region);
    let voxels = [first, last].concat().iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let mut line = format!("box {voxels} (voxels i,j,k)");
    if let Some(corners) = r1seg::box_to_mm(geometry, region) {
        let mm: Vec<String> = corners.concat().iter().map(|mm| format!("{mm:.1}")).collect();
        line.push_str(&format!(" | {} mm (RAS+)", mm.join(",")));
    }
    line
}

/// In words, since the reader of a terminal does not see the tokens.
fn why_no_mask(answer: &Answer) -> &'static str {
    if answer.text.trim_start().starts_with("[SEG]") {
        "the answer begins with [SEG], which the authors' code ignores; --first-seg uses it"
    } else {
        "the answer has no [SEG]"
    }
}

/// A question as a title.
fn short(prompt: &str) -> String {
    let line = one_line(prompt);
    match line.char_indices().nth(60) {
        Some((cut, _)) => format!("{}..", &line[..cut]),
        None => line,
    }
}

fn one_line(prompt: &str) -> String {
    prompt.split_whitespace().collect::<Vec<_>>().join(" ")
}
