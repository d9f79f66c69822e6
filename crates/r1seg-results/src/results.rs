//! From findings to files: masks measured, then everything written or nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use r1seg::volume::{
    LabelMap, Overwrite, Region, Segment, Segmentation, Warning, mask_stats, write_segmentation,
};
use r1seg::{MaskStatus, PromptPoint, Remedy, Trace};
use serde::Serialize;

use crate::findings::{one_line, short};
use crate::naming::numbered;
use crate::preview::{BoxMark, Scene, label_color, render};
use crate::report::{MaskReport, Report, WarningReport};
use crate::{Error, Finding, Findings, Input, Layout, StagedFiles};

/// All there is to measure and to write.
#[derive(Debug)]
pub struct Results<'a> {
    /// The files.
    pub layout: Layout,
    /// The volume.
    pub input: &'a Input,
    /// What each prompt got.
    pub findings: Findings,
    /// The boxes that the prompts are about.
    pub asked_boxes: Vec<Region>,
    /// The points that they are about.
    pub asked_points: Vec<PromptPoint>,
    /// The text of `answer.txt`.
    pub answer: String,
    /// The tensors of every stage.
    pub trace: Option<Trace>,
    /// How the program words what to do about a warning, for the report.
    pub words: fn(&Remedy) -> String,
}

/// Results with their masks measured, and nothing written yet.
#[derive(Debug)]
pub struct Measured<'a> {
    results: Results<'a>,
    report: Report,
    warnings: Vec<Warning>,
    /// Whether each mask has a file of its own, as a voxel may belong to several.
    overlaps: bool,
    saving: Instant,
    span: tracing::Span,
}

/// What there is to say once everything is written.
#[derive(Debug)]
pub struct Written {
    /// What each prompt got.
    pub findings: Findings,
    /// The report, with its masks.
    pub report: Report,
    /// The text of the report.
    pub json: String,
    /// What is odd about the run.
    pub warnings: Vec<Warning>,
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

impl Written {
    /// All masks, if there is one: what [`MaskTarget::Caller`](crate::MaskTarget::Caller) leaves to be
    /// written.
    pub fn mask(&self) -> Option<&LabelMap> {
        (!self.report.masks().is_empty()).then_some(self.findings.labels())
    }
}

/// An entry of `labels.json`.
#[derive(Serialize)]
struct Label<'a> {
    name: &'a str,
    /// Red, green and blue, as in the preview.
    color: [u8; 3],
    file: Option<&'a str>,
    /// The label that it refines, and the model that drew it.
    #[serde(skip_serializing_if = "Option::is_none")]
    refines: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
}

impl<'a> Results<'a> {
    /// Measures each mask. `report` is of the same prompts.
    ///
    /// # Errors
    /// [`Error::Overlap`] where one mask was asked for and cannot hold all of them.
    pub fn measure(
        self,
        mut report: Report,
        mut warnings: Vec<Warning>,
    ) -> Result<Measured<'a>, Error> {
        let saving = Instant::now();
        let span = tracing::info_span!("save");
        let entered = span.clone().entered();
        let overlap = self.findings.labels().overlap();
        if overlap > 0 {
            if self.findings.has_unrelated_overlap() {
                warnings.push(self.overlap(overlap));
            }
            if self.layout.mask_to_caller() {
                return Err(Error::Overlap { voxels: overlap });
            }
        }
        let mut prompts = 0..;
        for (label, finding) in self.findings.numbered() {
            // Labels of refined masks stand between those of prompts.
            let prompt = finding.refines.is_none().then(|| prompts.next()).flatten();
            if !self.has_mask(finding) {
                continue;
            }
            let mask = self.findings.labels().label_mask(label);
            let stats = mask_stats(&mask, 1, &self.input.volume)?;
            let mut mask = MaskReport::new(label, &finding.name, &stats, self.input.range);
            mask.path = self.mask_path(label, overlap > 0 || !self.layout.request.apart.is_empty());
            mask.refines = finding.refines;
            match prompt {
                Some(index) => report.add_mask(index, mask),
                None => report.add_refined_mask(mask),
            }
        }
        drop(entered);
        let overlaps = overlap > 0 || !self.layout.request.apart.is_empty();
        Ok(Measured { results: self, report, warnings, overlaps, saving, span })
    }

    /// The labels that have a mask, or get one of zeros.
    fn masks(&self) -> impl Iterator<Item = (u16, &Finding)> {
        self.findings.numbered().filter(|(_, finding)| self.has_mask(finding))
    }

    fn has_mask(&self, finding: &Finding) -> bool {
        self.layout.request.zeros_for_missing || finding.status != MaskStatus::NotFound
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
    fn mask_path(&self, label: u16, apart: bool) -> Option<String> {
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

    fn picture(&self, labels: &[u16]) -> Result<Vec<u8>, Error> {
        let prompts = self.findings.prompts();
        let title = match (self.findings.asked(), prompts) {
            (1, [first, ..]) => short(&first.name),
            (asked, _) => format!("{asked} prompts"),
        };
        let boxes: Vec<BoxMark> = self
            .findings
            .numbered()
            .flat_map(|(label, finding)| {
                let mark = move |region: &Region| BoxMark { label, region: *region };
                finding.boxes.iter().map(mark)
            })
            .collect();
        let scene = Scene {
            labels,
            boxes: &boxes,
            asked_boxes: &self.asked_boxes,
            points: &self.asked_points,
            names: &self.findings.captions(),
            title: &title,
            window: self.layout.request.window,
            ..Scene::of(&self.input.volume)
        };
        render(&scene).png()
    }
}

impl Measured<'_> {
    /// The report, with its masks.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The picture, as PNG.
    ///
    /// # Errors
    /// [`Error::Encoding`].
    pub fn picture(&self) -> Result<Vec<u8>, Error> {
        let is_found = !self.report.masks().is_empty();
        let labels = if is_found { self.results.findings.labels().labels() } else { &[] };
        self.results.picture(labels)
    }

    /// What the run took and what is odd about it, without writing anything: the text of the report.
    /// `start` is when the run began.
    ///
    /// # Errors
    /// [`Error::Encoding`].
    pub fn into_json(mut self, start: Instant) -> Result<String, Error> {
        self.finish(start);
        self.report.to_json()
    }

    fn finish(&mut self, start: Instant) {
        let warnings = self.warnings.iter();
        let warnings = warnings.map(|w| WarningReport::new(w, self.results.words)).collect();
        self.report.finish(warnings, self.saving.elapsed(), start.elapsed());
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
        let shown = !layout.request.private;
        self.report.set_folder(layout.paths().folder().filter(|_| shown));
        self.stage(&mut stage)?;
        self.finish(start);
        let json = self.report.to_json()?;
        let paths = self.results.layout.paths();
        if let Some(path) = &paths.report {
            stage.write(path, json.as_bytes())?;
        }
        stage.commit(&self.results.layout.stale())?;

        let mask_file = paths.masks.first().or(paths.segmentation.as_ref());
        Ok(Written {
            json,
            mask_file: mask_file.filter(|_| !self.report.masks().is_empty()).cloned(),
            preview: paths.preview.clone(),
            trace: paths.trace.clone(),
            folder: paths.folder().map(Path::to_path_buf),
            taken: self.results.layout.taken().map(Path::to_path_buf),
            report: self.report,
            findings: self.results.findings,
            warnings: self.warnings,
        })
    }

    /// All files but the report.
    fn stage(&self, stage: &mut StagedFiles<'_>) -> Result<(), Error> {
        let (results, paths) = (&self.results, self.results.layout.paths());
        self.stage_masks(stage)?;
        if let Some(path) = paths.labels.as_ref().filter(|_| !self.report.masks().is_empty()) {
            let labels = serde_json::to_string_pretty(&entries(self.report.masks()));
            let labels = labels.map_err(|e| Error::encoding("the list of labels", e))? + "\n";
            stage.write(path, labels.as_bytes())?;
        }
        if let Some(path) = &paths.preview {
            stage.write(path, &self.picture()?)?;
        }
        if let Some(path) = &paths.answer {
            stage.write(path, results.answer.as_bytes())?;
        }
        if let (Some(path), Some(trace)) = (&paths.trace, &results.trace) {
            stage.write_with(path, |part| trace.write(part, Overwrite::Refuse))?;
        }
        Ok(())
    }

    fn stage_masks(&self, stage: &mut StagedFiles<'_>) -> Result<(), Error> {
        if self.report.masks().is_empty() {
            return Ok(());
        }
        let (findings, paths) = (&self.results.findings, self.results.layout.paths());
        let labels = findings.labels();
        for path in &paths.masks {
            if !self.overlaps {
                stage.write_labels(path, labels)?;
                continue;
            }
            for (label, _) in self.results.masks() {
                stage.write_labels(&numbered(path, label.into()), &labels.only(label))?;
            }
        }
        if let Some(path) = &paths.segmentation {
            // One for each prompt, also for those without voxels.
            let mut segments = vec![None; labels.len()];
            for (label, finding) in findings.numbered() {
                if let Some(segment) = segments.get_mut(usize::from(label) - 1) {
                    *segment = Some(Segment::new(one_line(&finding.name), label_color(label)));
                }
            }
            let segmentation = Segmentation::new(labels, segments)?;
            stage.write_with(path, |part| {
                write_segmentation(part, &segmentation, Overwrite::Refuse)
            })?;
        }
        Ok(())
    }
}

fn entries(masks: &[MaskReport]) -> BTreeMap<u16, Label<'_>> {
    masks
        .iter()
        .map(|mask| {
            let (name, file) = (mask.name.as_str(), mask.path.as_deref());
            let (refines, model) = (mask.refines, mask.model.as_deref());
            (mask.label, Label { name, color: label_color(mask.label), file, refines, model })
        })
        .collect()
}
