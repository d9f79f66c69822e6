//! What `infer` and `segment` leave: masks, their names, a picture, the answers and the report.
//!
//! [`outputs`] chooses the files, [`naming`] their names, and [`masks`] joins the masks of several
//! prompts.

mod masks;
mod naming;
mod outputs;

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Instant;

use anyhow::Result;
use r1seg::volume::{
    Geometry, LabelMap, Mask, MaskFormat, Overwrite, Region, Segment, Segmentation, Warning,
    write_labels_to, write_segmentation,
};
use r1seg::{ErrorKind, PromptPoint, Trace};
use serde::Serialize;

use crate::args::OutputArgs;
use crate::exit::{CliError, explain};
use crate::input::{Input, is_stdin};
use crate::output::{Output, Stage};
use crate::preview::{BoxMark, Coverage, Named, Scene, label_color, render};
use crate::report::{self, MaskReport, ReportFile};
use crate::study;
use masks::{Found, together};
use naming::numbered;
pub(crate) use outputs::{Outputs, Request, check_args};

/// What a prompt got.
pub(crate) struct Finding<'a> {
    /// The prompt, as labels and picture call it.
    pub(crate) name: &'a str,
    /// An empty one counts.
    pub(crate) mask: Option<&'a Mask>,
    /// Boxes in its answer that have voxels.
    pub(crate) boxes: Vec<Region>,
    /// In words, where there is no mask.
    pub(crate) why_no_mask: &'static str,
}

/// All there is to write.
pub(crate) struct Results<'a> {
    pub(crate) request: &'a Request<'a>,
    pub(crate) outputs: Outputs,
    pub(crate) input: &'a Input,
    pub(crate) findings: &'a [Finding<'a>],
    /// The box that the prompts are about.
    pub(crate) asked_box: Option<Region>,
    /// The points that they are about.
    pub(crate) asked_points: &'a [PromptPoint],
    /// Of `answer.txt`.
    pub(crate) answer: String,
    pub(crate) trace: Option<&'a Trace>,
}

/// What there is to say once everything is written.
pub(crate) struct Written {
    pub(crate) json: String,
    /// Lines.
    pub(crate) summary: Vec<String>,
    /// Of the mask of each prompt, or why there is none.
    pub(crate) sizes: Vec<String>,
    pub(crate) warnings: Vec<Warning>,
    pub(crate) stdout_mask: Option<LabelMap>,
}

/// An entry of `labels.json`.
#[derive(Serialize)]
struct Label<'a> {
    name: &'a str,
    /// Red, green and blue, as in the preview.
    color: [u8; 3],
    file: Option<&'a str>,
}

/// What labels call a prompt: the name that --label gave it, or the prompt itself.
pub(crate) fn label_name<'a>(output: &'a OutputArgs, index: usize, prompt: &'a str) -> &'a str {
    output.label.get(index).map_or(prompt, String::as_str)
}

/// A trace is of one answer, and a label has one name.
pub(crate) fn check_count(args: &Request<'_>, prompts: usize) -> Result<()> {
    let labels = args.output.label.len();
    if labels != 0 && labels != prompts {
        return Err(CliError::usage(
            format!("--label is given {labels} times, and the number of prompts is {prompts}"),
            "name the label of every prompt, in their order, or of none",
        ));
    }
    if args.output.label.iter().any(|name| name.trim().is_empty()) {
        return Err(CliError::usage("a --label is empty", "give a name such as liver"));
    }
    if args.output.trace.is_some() && prompts > 1 {
        return Err(CliError::usage(
            format!("--trace writes the stages of one answer, and there are {prompts} prompts"),
            "trace one prompt at a time",
        ));
    }
    Ok(())
}

/// Writes the mask to standard output, as `.nii.gz`. Whether there is one: a file without a byte
/// must not pass for a mask.
pub(crate) fn print_mask(mask: Option<&LabelMap>) -> Result<bool> {
    let Some(mask) = mask else {
        let error = CliError {
            code: "R-OUT-08",
            kind: ErrorKind::BadData,
            what: "there is no mask to write to standard output".to_string(),
            path: None,
            fix: Some("--empty-mask writes a mask of zeros where none was found".to_string()),
        };
        explain(&error.into());
        return Ok(false);
    };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    write_labels_to(&mut out, mask, MaskFormat::NiftiGz)?;
    out.flush()?;
    Ok(true)
}

impl Results<'_> {
    /// Measures the masks, then writes all files or none.
    pub(crate) fn write(
        mut self,
        output: &Output,
        mut report: impl ReportFile,
        mut warnings: Vec<Warning>,
        start: Instant,
    ) -> Result<Written> {
        let saving = Instant::now();
        let _span = tracing::info_span!("save").entered();
        let zeros = self.zeros()?;
        let found = found(self.findings, zeros.as_ref());
        let labels = together(&found, self.findings.len(), self.input.volume.geometry())?;
        let overlap = labels.overlap();
        if overlap > 0 {
            warnings.push(self.overlap(overlap));
            if self.outputs.mask_to_stdout {
                return Err(CliError {
                    code: "R-OUT-07",
                    kind: ErrorKind::CannotCreate,
                    what: format!(
                        "masks of several prompts overlap in {overlap} voxels: one 3D mask cannot \
                         hold them"
                    ),
                    path: None,
                    fix: Some("write a file for each of them with --mask FILE or --out".into()),
                }
                .into());
            }
        }
        let mut measured = Vec::with_capacity(found.len());
        for found in &found {
            let name = self.findings[usize::from(found.label) - 1].name;
            let (volume, range) = (&self.input.volume, self.input.range);
            measured.push(report::mask(found.mask, volume, range, found.label, name)?);
        }

        let mut stage = output.stage()?;
        self.outputs.settle(stage.folder());
        report.set_folder(self.outputs.folder());
        for mut mask in measured {
            mask.path = self.mask_path(mask.label, overlap > 0);
            report.add_mask(usize::from(mask.label) - 1, mask);
        }
        self.write_masks(&mut stage, &found, &labels)?;
        if let Some(path) = self.outputs.labels.as_ref().filter(|_| !found.is_empty()) {
            let entries = entries(report.masks());
            stage.write(path, (serde_json::to_string_pretty(&entries)? + "\n").as_bytes())?;
        }
        if let Some(path) = &self.outputs.preview {
            stage.write(path, &self.picture(&found, &labels)?)?;
        }
        if let Some(path) = &self.outputs.answer {
            stage.write(path, self.answer.as_bytes())?;
        }
        if let (Some(path), Some(trace)) = (&self.outputs.trace, self.trace) {
            stage.write_with(path, |part| trace.write(part, Overwrite::Refuse))?;
        }
        report.finish(&warnings, saving.elapsed(), start.elapsed());
        let json = report.to_json()?;
        if let Some(path) = &self.outputs.report {
            stage.write(path, json.as_bytes())?;
        }
        stage.commit(&self.outputs.stale())?;
        let summary = self.summary(report.masks(), start);
        let to_stdout = self.outputs.mask_to_stdout && !found.is_empty();
        let stdout_mask = to_stdout.then_some(labels);
        let sizes = self.sizes(report.masks());
        Ok(Written { json, summary, sizes, warnings, stdout_mask })
    }

    /// With --empty-mask, the mask of prompts that got none.
    fn zeros(&self) -> Result<Option<Mask>> {
        let is_needed = self.findings.iter().any(|finding| finding.mask.is_none());
        if !(self.request.output.empty_mask && is_needed) {
            return Ok(None);
        }
        let geometry = self.input.volume.geometry();
        Ok(Some(Mask::new(vec![0; geometry.voxels()], geometry.clone())?))
    }

    fn write_masks(
        &self,
        stage: &mut Stage<'_>,
        found: &[Found<'_>],
        labels: &LabelMap,
    ) -> Result<()> {
        if found.is_empty() {
            return Ok(());
        }
        let overlaps = labels.overlap() > 0;
        for path in &self.outputs.masks {
            if !overlaps {
                stage.write_labels(path, labels)?;
                continue;
            }
            for found in found {
                let path = numbered(path, found.label.into());
                stage.write_labels(&path, &labels.only(found.label.into()))?;
            }
        }
        if let Some(path) = &self.outputs.segmentation {
            let segmentation = Segmentation::new(labels, self.segments())?;
            stage.write_with(path, |part| {
                write_segmentation(part, &segmentation, Overwrite::Refuse)
            })?;
        }
        Ok(())
    }

    /// A segment a prompt, since segments are labeled by their number; some may be empty.
    fn segments(&self) -> Vec<Segment> {
        let numbered = (1..=u8::MAX).zip(self.findings);
        numbered
            .map(|(label, finding)| Segment::new(one_line(finding.name), label_color(label)))
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

    fn picture(&self, found: &[Found<'_>], labels: &LabelMap) -> Result<Vec<u8>> {
        let title = match self.findings {
            [finding] => short(finding.name),
            _ => format!("{} prompts", self.findings.len()),
        };
        let boxes: Vec<BoxMark> = self
            .boxes()
            .iter()
            .map(|&(index, region)| BoxMark { label: label_of(index), region })
            .collect();
        // There are no more prompts than a byte counts.
        let labels: Vec<u8> = match found {
            [] => Vec::new(),
            _ => labels.labels().iter().map(|label| label.to_le_bytes()[0]).collect(),
        };
        let names: Vec<Named> = (1..=u8::MAX)
            .zip(self.findings)
            .map(|(label, finding)| Named {
                name: short(finding.name),
                mask: finding.mask.map(|mask| Coverage::of(mask.data(), label, &labels)),
            })
            .collect();
        let (asked_box, points) = (self.asked_box, self.asked_points);
        let window = self.request.output.window;
        let volume = &self.input.volume;
        let (names, title) = (&names, &title);
        let scene = Scene {
            labels: &labels,
            boxes: &boxes,
            asked_box,
            points,
            names,
            title,
            window,
            ..study::scene(volume)
        };
        Ok(study::png(&render(&scene))?)
    }

    /// The boxes in the answers that have voxels, with the number of their prompt from 0.
    fn boxes(&self) -> Vec<(usize, Region)> {
        let findings = self.findings.iter().enumerate();
        findings
            .flat_map(|(index, finding)| finding.boxes.iter().map(move |region| (index, *region)))
            .collect()
    }

    fn sizes(&self, masks: &[MaskReport]) -> Vec<String> {
        let of = |(label, finding): (u8, &Finding<'_>)| {
            let mask = masks.iter().find(|mask| mask.label == label && finding.mask.is_some());
            mask.map_or_else(|| format!("no mask: {}", finding.why_no_mask), MaskReport::size)
        };
        (1..=u8::MAX).zip(self.findings).map(of).collect()
    }

    fn summary(&self, masks: &[MaskReport], start: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        let mut files = Vec::new();
        let sizes = self.sizes(masks);
        let written = self.mask_files(masks);
        if let ([finding], [size]) = (self.findings, sizes.as_slice()) {
            files.push(match (finding.mask, written) {
                (Some(_), Some(file)) => format!("{file} {size}"),
                (Some(_), None) => format!("mask {size}"),
                (None, Some(file)) => format!("{file} of zeros, {size}"),
                (None, None) => size.clone(),
            });
        } else {
            for (index, what) in sizes.into_iter().enumerate() {
                lines.push(format!("{}{what}", number(index)));
            }
            files.extend(written);
        }
        for (index, region) in self.boxes() {
            let which = if self.findings.len() > 1 { number(index) } else { String::new() };
            lines.push(format!("{which}{}", box_line(region, self.input.volume.geometry())));
        }
        for (what, path) in [
            ("preview", &self.outputs.preview),
            ("report", &self.request.output.report),
            ("trace", &self.outputs.trace),
        ] {
            files.extend(path.as_ref().map(|path| format!("{what} {}", path.display())));
        }
        files.push(format!("{:.1} s", start.elapsed().as_secs_f64()));
        lines.push(files.join(" | "));
        let named = self.request.output.mask.as_deref().filter(|path| !is_stdin(path));
        if let Some(path) = named.filter(|_| masks.is_empty()) {
            let path = path.display();
            lines.push(format!(
                "{path} was not written, since there is no mask; --empty-mask writes one of zeros"
            ));
        }
        if let (Some(taken), Some(folder)) = (&self.outputs.taken, self.outputs.folder()) {
            let (taken, folder) = (taken.display(), folder.display());
            lines.push(format!(
                "results are in {folder}, since {taken} exists already (--force replaces its files)"
            ));
        }
        lines
    }

    /// `mask out/mask.nii.gz`, or the first and the last of several.
    fn mask_files(&self, masks: &[MaskReport]) -> Option<String> {
        let path = self.outputs.masks.first().or(self.outputs.segmentation.as_ref())?;
        let name = |mask: &MaskReport| {
            let name = mask.path.as_ref()?;
            let file = std::path::Path::new(name).file_name()?;
            Some(path.with_file_name(file).display().to_string())
        };
        let (first, last) = (masks.first()?, masks.last()?);
        Some(if first.path == last.path {
            format!("mask {}", name(first)?)
        } else {
            format!("masks {} to {}", name(first)?, name(last)?)
        })
    }
}

/// The mask of each prompt; `zeros` are that of prompts that got none.
fn found<'a>(findings: &[Finding<'a>], zeros: Option<&'a Mask>) -> Vec<Found<'a>> {
    let numbers = (1..=u8::MAX).zip(findings);
    numbers
        .filter_map(|(label, finding)| Some(Found { label, mask: finding.mask.or(zeros)? }))
        .collect()
}

fn entries(masks: &[MaskReport]) -> BTreeMap<u8, Label<'_>> {
    masks
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

/// The number of a prompt, counted from 0, in front of what it got.
pub(crate) fn number(index: usize) -> String {
    format!("[{}] ", index + 1)
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
