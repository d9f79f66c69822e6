//! From findings to files: masks joined and measured, then everything written or nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use r1seg::volume::{
    LabelMap, Mask, Overwrite, Region, Segment, Segmentation, Warning, mask_stats,
    write_segmentation,
};
use r1seg::{PromptPoint, Trace};
use serde::Serialize;

use crate::atomic_folder::StagedFiles;
use crate::masks::{Found, joined};
use crate::naming::numbered;
use crate::preview::{BoxMark, Coverage, Named, Scene, label_color, render};
use crate::report::{MaskReport, Report};
use crate::{Error, Input, Layout};

/// What a prompt got.
#[derive(Debug, Clone)]
pub struct Finding<'a> {
    /// The prompt, as labels and picture call it.
    pub name: &'a str,
    /// An empty one counts.
    pub mask: Option<&'a Mask>,
    /// Boxes in its answer that have voxels.
    pub boxes: Vec<Region>,
}

/// All there is to measure and to write: prompt K, counted from 1, is label K.
#[derive(Debug)]
pub struct Results<'a> {
    /// The files.
    pub layout: Layout,
    /// The volume.
    pub input: &'a Input,
    /// What each prompt got.
    pub findings: &'a [Finding<'a>],
    /// The box that the prompts are about.
    pub asked_box: Option<Region>,
    /// The points that they are about.
    pub asked_points: &'a [PromptPoint],
    /// The text of `answer.txt`.
    pub answer: String,
    /// The tensors of every stage.
    pub trace: Option<&'a Trace>,
}

/// Results with their masks joined and measured, and nothing written yet.
#[derive(Debug)]
pub struct Measured<'a> {
    results: Results<'a>,
    report: Report,
    warnings: Vec<Warning>,
    /// The mask of prompts that got none.
    zeros: Option<Mask>,
    labels: LabelMap,
    saving: Instant,
    span: tracing::Span,
}

/// What there is to say once everything is written.
#[derive(Debug)]
pub struct Written {
    /// The report, with its masks.
    pub report: Report,
    /// The text of the report.
    pub json: String,
    /// What is odd about the run.
    pub warnings: Vec<Warning>,
    /// The joined mask, where [`MaskTarget::Caller`](crate::MaskTarget::Caller) asked for it and a
    /// prompt got one.
    pub mask: Option<LabelMap>,
    /// The file of the mask, if one was written. Where masks overlap, its name with the number of each.
    pub mask_file: Option<PathBuf>,
    /// The picture.
    pub preview: Option<PathBuf>,
    /// The tensors of every stage.
    pub trace: Option<PathBuf>,
    /// The folder of the results.
    pub folder: Option<PathBuf>,
    /// The name that the folder would have, were it free.
    pub taken: Option<PathBuf>,
}

/// An entry of `labels.json`.
#[derive(Serialize)]
struct Label<'a> {
    name: &'a str,
    /// Red, green and blue, as in the preview.
    color: [u8; 3],
    file: Option<&'a str>,
}

impl<'a> Results<'a> {
    /// Joins the masks and measures each of them. `report` is of the same prompts.
    ///
    /// # Errors
    /// [`Error::Overlap`] where one mask was asked for and cannot hold all of them.
    pub fn measure(
        self,
        report: Report,
        mut warnings: Vec<Warning>,
    ) -> Result<Measured<'a>, Error> {
        let saving = Instant::now();
        let span = tracing::info_span!("save");
        let entered = span.clone().entered();
        let zeros = self.zeros()?;
        let found = found(self.findings, zeros.as_ref());
        let labels = joined(&found, self.findings.len(), self.geometry())?;
        let overlap = labels.overlap();
        if overlap > 0 {
            warnings.push(self.overlap(overlap));
            if self.layout.mask_to_caller() {
                return Err(Error::Overlap { voxels: overlap });
            }
        }
        drop(entered);
        let mut measured =
            Measured { results: self, report, warnings, zeros, labels, saving, span };
        measured.measure()?;
        Ok(measured)
    }

    fn geometry(&self) -> &'a r1seg::volume::Geometry {
        self.input.volume.geometry()
    }

    /// The mask of prompts that got none, where it is wanted and needed.
    fn zeros(&self) -> Result<Option<Mask>, Error> {
        let is_needed = self.findings.iter().any(|finding| finding.mask.is_none());
        if !(self.layout.request.zeros_for_missing && is_needed) {
            return Ok(None);
        }
        let geometry = self.geometry();
        Ok(Some(Mask::new(vec![0; geometry.voxels()], geometry.clone())?))
    }

    fn overlap(&self, voxels: usize) -> Warning {
        let mut text = format!("masks of several prompts overlap in {voxels} voxels");
        if !self.layout.paths().masks.is_empty() {
            text.push_str("; each has a file of its own");
        }
        if self.layout.paths().preview.is_some() {
            text.push_str("; the preview shows the later one");
        }
        Warning::new("W-OVERLAP", text)
    }

    /// What the report calls the file of a mask.
    fn mask_path(&self, label: u8, apart: bool) -> Option<String> {
        if self.layout.mask_to_caller() {
            return Some("-".to_string());
        }
        let paths = self.layout.paths();
        let path = match (paths.masks.first(), &paths.segmentation) {
            (Some(path), _) if apart => &numbered(path, label.into()),
            (Some(path), _) | (None, Some(path)) => path,
            (None, None) => return None,
        };
        Some(paths.name(path))
    }

    /// A segment for each prompt, since segments are labeled by their number; some may be empty.
    fn segments(&self) -> Vec<Segment> {
        let numbered = (1..=u8::MAX).zip(self.findings);
        numbered
            .map(|(label, finding)| Segment::new(one_line(finding.name), label_color(label)))
            .collect()
    }

    fn picture(&self, labels: &[u8]) -> Result<Vec<u8>, Error> {
        let title = match self.findings {
            [finding] => short(finding.name),
            _ => format!("{} prompts", self.findings.len()),
        };
        let numbered = || (1..=u8::MAX).zip(self.findings);
        let boxes: Vec<BoxMark> = numbered()
            .flat_map(|(label, finding)| {
                finding.boxes.iter().map(move |region| BoxMark { label, region: *region })
            })
            .collect();
        let names: Vec<Named> = numbered()
            .map(|(label, finding)| Named {
                name: short(finding.name),
                mask: finding.mask.map(|mask| Coverage::of(mask.data(), label, labels)),
            })
            .collect();
        let scene = Scene {
            labels,
            boxes: &boxes,
            asked_box: self.asked_box,
            points: self.asked_points,
            names: &names,
            title: &title,
            window: self.layout.request.window,
            ..Scene::of(&self.input.volume)
        };
        render(&scene).png()
    }
}

impl Measured<'_> {
    fn measure(&mut self) -> Result<(), Error> {
        let _entered = self.span.clone().entered();
        let input = self.results.input;
        for found in found(self.results.findings, self.zeros.as_ref()) {
            let index = usize::from(found.label) - 1;
            let stats = mask_stats(found.mask, 1, &input.volume)?;
            let name = self.results.findings[index].name;
            let mut mask = MaskReport::new(found.label, name, &stats, input.range);
            mask.path = self.results.mask_path(found.label, self.labels.overlap() > 0);
            self.report.add_mask(index, mask);
        }
        Ok(())
    }

    /// The report, with its masks.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Writes all files or none. `start` is when the run began.
    ///
    /// # Errors
    /// [`Error::CannotCreate`], and those of writing; nothing has changed then.
    pub fn write(mut self, start: Instant) -> Result<Written, Error> {
        let _entered = self.span.clone().entered();
        let layout = &mut self.results.layout;
        let output = layout.output.clone();
        let mut stage = output.stage()?;
        layout.settle(stage.folder());
        self.report.set_folder(layout.paths().folder());
        self.stage(&mut stage)?;
        self.report.finish(&self.warnings, self.saving.elapsed(), start.elapsed());
        let json = self.report.to_json()?;
        let paths = self.results.layout.paths();
        if let Some(path) = &paths.report {
            stage.write(path, json.as_bytes())?;
        }
        stage.commit(&self.results.layout.stale())?;

        let is_found = !self.report.masks().is_empty();
        let to_caller = self.results.layout.mask_to_caller() && is_found;
        let mask_file = paths.masks.first().or(paths.segmentation.as_ref());
        Ok(Written {
            json,
            mask_file: mask_file.filter(|_| is_found).cloned(),
            preview: paths.preview.clone(),
            trace: paths.trace.clone(),
            folder: paths.folder().map(Path::to_path_buf),
            taken: self.results.layout.taken().map(Path::to_path_buf),
            report: self.report,
            warnings: self.warnings,
            mask: to_caller.then_some(self.labels),
        })
    }

    /// All files but the report.
    fn stage(&self, stage: &mut StagedFiles<'_>) -> Result<(), Error> {
        let (results, paths) = (&self.results, self.results.layout.paths());
        self.stage_masks(stage)?;
        if let Some(path) = paths.labels.as_ref().filter(|_| !self.report.masks().is_empty()) {
            let labels = serde_json::to_string_pretty(&labels(self.report.masks()));
            let labels = labels.map_err(|e| Error::encoding("the list of labels", e))? + "\n";
            stage.write(path, labels.as_bytes())?;
        }
        if let Some(path) = &paths.preview {
            let is_found = !self.report.masks().is_empty();
            // There are no more prompts than a byte counts.
            let shown = self.labels.labels().iter().map(|label| label.to_le_bytes()[0]);
            let labels: Vec<u8> = if is_found { shown.collect() } else { Vec::new() };
            stage.write(path, &results.picture(&labels)?)?;
        }
        if let Some(path) = &paths.answer {
            stage.write(path, results.answer.as_bytes())?;
        }
        if let (Some(path), Some(trace)) = (&paths.trace, results.trace) {
            stage.write_with(path, |part| trace.write(part, Overwrite::Refuse))?;
        }
        Ok(())
    }

    fn stage_masks(&self, stage: &mut StagedFiles<'_>) -> Result<(), Error> {
        let found = found(self.results.findings, self.zeros.as_ref());
        if found.is_empty() {
            return Ok(());
        }
        let paths = self.results.layout.paths();
        for path in &paths.masks {
            if self.labels.overlap() == 0 {
                stage.write_labels(path, &self.labels)?;
                continue;
            }
            for found in &found {
                let path = numbered(path, found.label.into());
                stage.write_labels(&path, &self.labels.only(found.label.into()))?;
            }
        }
        if let Some(path) = &paths.segmentation {
            let segmentation = Segmentation::new(&self.labels, self.results.segments())?;
            stage.write_with(path, |part| {
                write_segmentation(part, &segmentation, Overwrite::Refuse)
            })?;
        }
        Ok(())
    }
}

/// The mask of each prompt; `zeros` are that of prompts that got none.
fn found<'a>(findings: &[Finding<'a>], zeros: Option<&'a Mask>) -> Vec<Found<'a>> {
    let numbers = (1..=u8::MAX).zip(findings);
    numbers
        .filter_map(|(label, finding)| Some(Found { label, mask: finding.mask.or(zeros)? }))
        .collect()
}

fn labels(masks: &[MaskReport]) -> BTreeMap<u8, Label<'_>> {
    masks
        .iter()
        .map(|mask| {
            let (name, file) = (mask.name.as_str(), mask.path.as_deref());
            (mask.label, Label { name, color: label_color(mask.label), file })
        })
        .collect()
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
