//! From what a pass found to files and a reply, on a thread of its own, so that the models go on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use r1seg::volume::Geometry;
use r1seg::{EncodedVolume, FinishReason, MaskStatus, OutputKind, phrasing};
use r1seg_results::preview::label_color;
use r1seg_results::report::{MaskReport, Origin, Run, corners, ijk};
use r1seg_results::{Given, Layout, Obtained, Request, Written};

use crate::Error;
use crate::budget::Budget;
use crate::fix::words;
use crate::ids::Kind;
use crate::job::{Job, Progress, Stage};
use crate::metrics::Metrics;
use crate::models::{Entry, Models};
use crate::results::{AnswerReply, Found, MaskReply, ResultReply, Tokens};
use crate::root::Root;
use crate::shelf::{Kept, Lease, Shelf};
use crate::volumes::WarningReply;

/// What a pass found for a job.
pub(crate) struct Finishing {
    pub(crate) job: Job,
    pub(crate) obtained: Obtained,
    pub(crate) encoded: EncodedVolume,
}

/// What the thread works with.
pub(crate) struct Finisher {
    pub(crate) models: Arc<Models>,
    pub(crate) results: Arc<Shelf<Found>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) root: Arc<Root>,
    pub(crate) disk: Budget,
    pub(crate) ttl: Duration,
    pub(crate) git: Option<&'static str>,
}

impl Finisher {
    /// Works until nothing can come any more.
    pub(crate) fn run(self, from: &Receiver<Finishing>) {
        while let Ok(finishing) = from.recv() {
            let sender = finishing.job.sender();
            let done = catch_unwind(AssertUnwindSafe(|| self.finish(finishing)));
            let done = done.unwrap_or_else(|_| {
                self.metrics.panics.inc();
                tracing::error!(name: "panic", requests = 1);
                Err(Error::Panicked)
            });
            let _ = sender.send(Progress::Done(done));
        }
    }

    fn finish(&self, finishing: Finishing) -> Result<Arc<Found>, Error> {
        let Finishing { job, obtained, encoded } = finishing;
        if job.cancel.is_cancelled() {
            return Err(r1seg::Error::Cancelled.into());
        }
        job.tell(Progress::Stage { stage: Stage::Saving, prompt: 0, window: None });
        let begin = Instant::now();
        let entry = self.models.get(job.model).ok_or(Error::NotFound { what: "model" })?;
        let folder = self.root.folder()?;
        let input = &job.volume.input;
        let given = obtained.given().to_vec();
        let request = Request {
            has_answers: entry.model.capabilities().gives(OutputKind::Text),
            private: true,
            ..Request::in_folder(folder.path())
        };
        let labels = obtained.findings().prompts().len();
        let layout = Layout::open(request, input, labels)?;
        let run = Run::new(&entry.model, &entry.named, self.git, Origin::from(input), &encoded);
        let report = obtained.report(run, &entry.model, &job.options);
        let warnings = obtained.warnings(&entry.source, entry.model.family(), input, &encoded);
        let results = obtained.into_results(layout, input, words);
        let written = results.measure(report, warnings)?.write(job.queued)?;
        let (files, bytes) = files(folder.path())?;
        let mut disk = self.disk.nothing();
        if !disk.grow(bytes) {
            return Err(Error::NoRoom { retry: self.ttl });
        }
        let id = Kind::Result.draw();
        let reply = ResultReply {
            id: id.to_string(),
            object: "result",
            model: entry.id.clone(),
            volume: job.volume.id().to_string(),
            answers: answers(entry, &written, &given),
            masks: masks(&written, encoded.geometry()),
            warnings: written.warnings.iter().map(WarningReply::from).collect(),
            timings_ms: timings(&written),
            files,
            expires: 0,
        };
        let tokens = given.iter().fold(Tokens::default(), |sum, of| Tokens {
            prompt: sum.prompt + of.outcome.prompt_tokens,
            generated: sum.generated + of.outcome.token_ids.len(),
        });
        let found = Arc::new(Found {
            id,
            owner: job.volume.owner(),
            volume: job.volume.id().to_string(),
            reply,
            geometry: encoded.geometry().clone(),
            tokens,
            lease: Lease::new(self.ttl),
            folder,
            _disk: disk,
        });
        self.metrics.stage("save", begin.elapsed());
        self.metrics.stage("total", job.queued.elapsed());
        job.volume.lease().renew();
        self.results.put(found.clone());
        // A volume that was deleted meanwhile takes its results with it. Looked at only afterwards: a
        // deletion between a look and the put would miss the result.
        if job.volume.gone.is_cancelled() {
            if let Some(found) = self.results.take(found.id(), found.owner()) {
                found.wipe();
            }
            return Err(r1seg::Error::Cancelled.into());
        }
        Ok(found)
    }
}

/// The files of a folder in the order of their names, and their bytes together.
fn files(folder: &Path) -> Result<(Vec<String>, u64), Error> {
    let (mut names, mut bytes) = (Vec::new(), 0);
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        bytes += entry.metadata()?.len();
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok((names, bytes))
}

fn answers(entry: &Entry, written: &Written, given: &[Given]) -> Vec<AnswerReply> {
    let has_text = entry.model.capabilities().gives(OutputKind::Text);
    let answer = |(label, of): (u16, &Given)| {
        let prompt = of.asked.prompt.text.clone().unwrap_or_else(|| of.asked.name.clone());
        let has_mask = written.report.masks().iter().any(|mask| mask.label == label);
        AnswerReply {
            text: of.outcome.text.clone(),
            status: of.status.as_str(),
            finish_reason: of.outcome.finish_reason.map(FinishReason::as_str),
            labels: if has_mask { vec![label] } else { Vec::new() },
            boxes: of.outcome.boxes.iter().filter_map(|of| of.region).map(corners).collect(),
            suggestions: match of.status {
                MaskStatus::NotFound if has_text => suggestions(entry, &prompt, of),
                _ => Vec::new(),
            },
            prompt,
        }
    };
    written.findings.labels_of_prompts().zip(given).map(answer).collect()
}

/// What to ask instead, where a mask was asked for or nothing was said.
fn suggestions(entry: &Entry, question: &str, of: &Given) -> Vec<String> {
    let is_wanting = of.outcome.text.trim().is_empty() || phrasing::asks_for_mask(question);
    let suggestion = phrasing::suggest(entry.model.family(), question).filter(|_| is_wanting);
    suggestion.map(|suggestion| suggestion.questions).unwrap_or_default()
}

fn masks(written: &Written, geometry: &Geometry) -> Vec<MaskReply> {
    let mask = |mask: &MaskReport| MaskReply {
        label: mask.label,
        name: mask.name.clone(),
        color: label_color(mask.label),
        voxels: mask.voxels,
        volume_ml: mask.volume_ml,
        mean_hu: mask.mean_hu,
        centroid_mm: mask.centroid_mm,
        centroid_voxel: match mask.centroid_mm {
            Some(mm) => geometry.voxel_at_mm(mm),
            None => centroid(written, mask.label),
        },
        bbox: mask.bbox_vox,
        components: mask.components,
        touches_border: mask.touches_border,
        refines: mask.refines,
        file: mask.path.clone(),
    };
    written.report.masks().iter().map(mask).collect()
}

/// The mean voxel index of a mask, (i, j, k).
fn centroid(written: &Written, label: u16) -> Option<[f64; 3]> {
    let mask = written.findings.labels().label_mask(label);
    let [_, h, w] = mask.shape();
    let (mut sum, mut count) = ([0.0; 3], 0.0);
    for (index, _) in mask.data().iter().enumerate().filter(|(_, voxel)| **voxel != 0) {
        let voxel = [index / (h * w), index / w % h, index % w];
        (0..3).for_each(|n| sum[n] += voxel[n] as f64);
        count += 1.0;
    }
    (count > 0.0).then(|| ijk(sum.map(|total| total / count)))
}

fn timings(written: &Written) -> serde_json::Value {
    let report: Option<serde_json::Value> = serde_json::from_str(&written.json).ok();
    report.and_then(|mut report| Some(report.get_mut("timings_ms")?.take())).unwrap_or_default()
}
