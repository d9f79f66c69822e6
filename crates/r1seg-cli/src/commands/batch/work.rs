//! What is done with each volume: read, asked and written.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use r1seg::files::sweep;
use r1seg::volume::{Overwrite, Warning};
use r1seg::{
    AskOptions, CancelToken, CheckpointSource, Diagnostic, EncodeOptions, ErrorKind, InferenceMode,
    Model, RunContext,
};
use r1seg_results::report::{self, Origin, Report, Run};
use r1seg_results::{
    Input, Layout, Obtained, Place, Protected, Request, ResultFolder, Written, obtain,
};

use super::PARTS;
use super::ask;
use super::hashes::{InputFiles, now_ms};
use super::items::Item;
use super::ledger::Ledger;
use super::line::{AnswerLine, Line, MaskLine, Status};
use super::markers::{DEATHS, Markers};
use super::printer::Printer;
use super::progress::Progress;
use super::stages::{Done, Stop, Work};
use super::standing::{Standing, Wanted};
use super::state::{Begun, Counts, locked};
use crate::codes::Code;
use crate::exit::{CliError, error_code};
use crate::hints;
use crate::interrupt::Writing;

/// A batch that runs.
pub(super) struct Batch<'a> {
    pub(super) items: &'a [Item],
    pub(super) wanted: Wanted<'a>,
    pub(super) source: CheckpointSource,
    pub(super) model: Model,
    pub(super) named: report::Model,
    pub(super) ask: AskOptions,
    pub(super) encode: EncodeOptions,
    pub(super) mode: InferenceMode,
    /// The model, which no result replaces.
    pub(super) protected: Protected,
    pub(super) ledger: Mutex<Ledger>,
    pub(super) markers: Markers,
    pub(super) progress: Progress,
    pub(super) printer: Printer,
    pub(super) cancel: CancelToken,
    pub(super) begun: Mutex<HashMap<usize, Begun>>,
    pub(super) counts: Mutex<Counts>,
}

/// A volume as it was read.
pub(super) struct Ready {
    input: Input,
}

/// What the model made of it.
pub(super) struct Found {
    obtained: Obtained,
    report: Report,
    warnings: Vec<Warning>,
}

impl Work for Batch<'_> {
    type Ready = Ready;
    type Found = Found;

    fn estimate(&self, item: usize) -> u64 {
        /// What a CT is compressed to, about.
        const INFLATED: u64 = 3;
        let path = &self.items[item].image;
        let bytes = InputFiles::of(path).map_or(0, |files| files.bytes());
        let is_plain = path.extension().is_some_and(|end| end == "nii" || end == "npy");
        bytes.saturating_mul(if is_plain { 1 } else { INFLATED })
    }

    fn size(&self, ready: &Ready) -> u64 {
        ready.input.volume.voxels().bytes()
    }

    fn read(&self, item: usize) -> Result<Option<Ready>, Stop> {
        let Item { id, image, which, .. } = &self.items[item];
        let start = Instant::now();
        locked(&self.begun).insert(item, Begun { start, input: None, model: Duration::ZERO });
        match self.wanted.standing(&self.items[item]) {
            standing @ (Standing::Done | Standing::Poisoned) => {
                self.skip(item, standing);
                return Ok(None);
            }
            Standing::Failed | Standing::New => {}
        }
        let deaths = self.deaths(id);
        if deaths >= DEATHS {
            self.fingerprint(item, None);
            return Err(Stop::Item(poisoned()));
        }
        self.markers.begin(id, deaths).map_err(Stop::Run)?;
        let options = which.apply(self.wanted.args.volume.read_options());
        let read = Input::read(image, &options).and_then(|input| {
            let orient = self.wanted.args.volume.orient.unwrap_or_default();
            orient.axes(input.volume.geometry()).map(|_| input)
        });
        self.fingerprint(item, read.as_ref().ok().and_then(Input::sha256));
        self.markers.pause(id);
        // Whatever it is that cannot be read, it is this volume alone.
        let input = read.map_err(|e| Stop::Item(CliError::from(&e as &dyn Diagnostic)))?;
        Ok(Some(Ready { input }))
    }

    fn compute(&self, item: usize, ready: &Ready) -> Result<Found, Stop> {
        let id = &self.items[item].id;
        self.markers.begin(id, self.deaths(id)).map_err(Stop::Run)?;
        self.progress.begin(id);
        let start = Instant::now();
        let found = self.found(item, ready);
        let elapsed = start.elapsed();
        self.progress.end(id);
        self.markers.pause(id);
        locked(&self.counts).model += elapsed;
        if let Some(begun) = locked(&self.begun).get_mut(&item) {
            begun.model = elapsed;
        }
        found
    }

    fn write(&self, item: usize, done: Done<Ready, Found>) -> Result<(), Stop> {
        let Done { ready, found, attempts } = done;
        let writing = Writing::begin();
        let answers = answers(&found.obtained);
        let written = self.write_files(item, &ready.input, found)?;
        sync_folders(&self.wanted.args.out, &self.items[item].folder);
        let masks = written.report.masks().iter().map(|mask| MaskLine {
            label: mask.label,
            name: mask.name.clone(),
            voxels: mask.voxels,
            volume_ml: mask.volume_ml,
            mean_hu: mask.mean_hu,
            centroid_mm: mask.centroid_mm,
            file: mask.path.clone(),
        });
        let line = Line {
            attempts,
            folder: Some(slashed(&self.items[item].folder)),
            answers,
            masks: masks.collect(),
            warnings: written.warnings.iter().map(|warning| warning.code.to_owned()).collect(),
            ..self.line(item)
        };
        self.record(item, &line).map_err(Stop::Run)?;
        drop(writing);
        Ok(())
    }

    fn fail(&self, item: usize, error: CliError, attempts: u32) -> Result<bool, CliError> {
        let image = self.items[item].image.as_path();
        let what = match error.path.as_deref().filter(|path| *path != image) {
            Some(path) => format!("`{}`: {}", path.display(), error.what),
            None => error.what,
        };
        let line = Line {
            status: Status::Failed,
            code: Some(error.code.to_owned()),
            text: Some(what),
            fix: error.fix,
            exit_code: error_code(error.kind),
            poisoned: attempts > 1 || error.code == Code::Poisoned.code(),
            attempts,
            ..self.line(item)
        };
        self.record(item, &line)?;
        Ok(self.may_go_on())
    }

    fn tick(&self, is_cancelled: bool) {
        if is_cancelled {
            // No volume is to blame for what a person does.
            self.markers.pause_all();
        }
        self.progress.tick();
    }
}

impl Batch<'_> {
    /// Whether no more volumes failed than may.
    pub(super) fn may_go_on(&self) -> bool {
        let order = &self.wanted.args.order;
        let most = if order.fail_fast { Some(0) } else { order.max_errors };
        let failed = locked(&self.counts).failed as u64;
        most.is_none_or(|most| failed <= most)
    }

    /// Processes that died while it was in work.
    pub(super) fn deaths(&self, id: &str) -> u32 {
        if self.wanted.args.order.retry_poisoned { 0 } else { self.markers.deaths(id) }
    }

    /// Notes by what the input will be known again. `known` is its hash, where somebody has hashed it.
    fn fingerprint(&self, item: usize, known: Option<String>) {
        let files = InputFiles::of(&self.items[item].image);
        let input = files.and_then(|files| files.fingerprint(known)).ok();
        if let Some(begun) = locked(&self.begun).get_mut(&item) {
            begun.input = input;
        }
    }

    fn skip(&self, item: usize, standing: Standing) {
        locked(&self.begun).remove(&item);
        self.markers.forget(&self.items[item].id);
        let mut counts = locked(&self.counts);
        match standing {
            Standing::Poisoned => counts.failed_before += 1,
            _ => counts.done_before += 1,
        }
        drop(counts);
        self.progress.skipped();
    }

    fn found(&self, item: usize, ready: &Ready) -> Result<Found, Stop> {
        let input = &ready.input;
        let geometry = input.volume.geometry();
        let asks = &self.items[item].asks;
        let asked = ask::asked(asks, &self.model, (&self.ask, self.mode), geometry);
        let asked = asked.map_err(Stop::Item)?;
        let deadline =
            self.wanted.args.order.item_timeout.map(|time| (time, Instant::now() + time));
        let cancel = self.until(deadline);
        let stop = |error: &dyn Diagnostic| self.stop(error, deadline);
        let mut run = RunContext::from(&cancel);
        let encoded = self.model.encode_with(&input.volume, &self.encode, &mut run);
        let encoded = encoded.map_err(|e| stop(&e))?;
        let obtained =
            obtain(&encoded, asked, &self.ask, &cancel, &mut |_| {}).map_err(|e| stop(&e))?;
        let origin = Origin::from(input);
        let run = Run::new(&self.model, &self.named, option_env!("R1SEG_GIT"), origin, &encoded);
        Ok(Found {
            report: obtained.report(run, &self.model, &self.ask),
            warnings: obtained.warnings(&self.source, self.model.family(), input, &encoded),
            obtained,
        })
    }

    /// Stops when the run is stopped, or at the end of the time for one volume.
    fn until(&self, deadline: Option<(Duration, Instant)>) -> CancelToken {
        let Some((_, end)) = deadline else { return self.cancel.clone() };
        let cancel = self.cancel.clone();
        CancelToken::when(move || cancel.is_cancelled() || Instant::now() >= end)
    }

    /// Whom an error in the model concerns: this volume, or every other one, too.
    fn stop(&self, error: &dyn Diagnostic, deadline: Option<(Duration, Instant)>) -> Stop {
        match (error.kind(), deadline) {
            (ErrorKind::Cancelled, Some((time, _))) if !self.cancel.is_cancelled() => {
                let what = format!("it took longer than {} s in the model", time.as_secs_f64());
                let fix = "allow more with --item-timeout SECONDS";
                Stop::Item(CliError::new(Code::ItemTimeout, what).fix(fix))
            }
            (ErrorKind::Cancelled, _) => Stop::Cancelled,
            (ErrorKind::Model | ErrorKind::Device, _) => Stop::Run(CliError::from(error)),
            _ => Stop::Item(CliError::from(error)),
        }
    }

    fn write_files(&self, item: usize, input: &Input, found: Found) -> Result<Written, Stop> {
        let Item { image, folder, .. } = &self.items[item];
        let (args, start) = (self.wanted.args, self.start(item));
        if args.order.resume {
            // What a run that was killed left of it.
            folder.ancestors().for_each(|path| sweep(&args.out.join(path), PARTS.as_ref()));
        }
        let request = Request {
            folder: Some(ResultFolder::At(args.out.join(folder))),
            preview: (!args.files.no_preview).then_some(Place::InFolder),
            has_answers: matches!(self.model, Model::Language(_)),
            zeros_for_missing: args.files.empty_mask,
            window: args.files.window.as_ref().map(|named| named.window),
            overwrite: Overwrite::Replace,
            protected: self.protected.clone().volume("the image", image),
            ..Request::default()
        };
        let Found { obtained, report, warnings } = found;
        let written = Layout::open(request, input, obtained.given().len()).and_then(|layout| {
            obtained
                .into_results(layout, input, hints::words)
                .measure(report, warnings)?
                .write(start)
        });
        written.map_err(|e| {
            let is_places = matches!(e, r1seg_results::Error::CannotCreate { .. });
            let error = CliError::from(&e as &dyn Diagnostic);
            // A full disk, or a folder that is gone, takes no other results either.
            match is_places || error.kind == ErrorKind::Io {
                true => Stop::Run(error),
                false => Stop::Item(error),
            }
        })
    }

    fn start(&self, item: usize) -> Instant {
        locked(&self.begun).get(&item).map_or_else(Instant::now, |begun| begun.start)
    }

    /// What is the same in every line of a volume.
    fn line(&self, item: usize) -> Line {
        let begun = locked(&self.begun).remove(&item);
        let (seconds, model, input) = match begun {
            Some(Begun { start, model, input }) => (start.elapsed(), model, input),
            None => Default::default(),
        };
        let of = &self.items[item];
        Line {
            input,
            prompt_sha256: self.wanted.prompt_sha256(of),
            model_sha256: self.wanted.model_sha256.clone(),
            seconds: rounded(seconds),
            model_seconds: rounded(model),
            finished_unix_ms: now_ms(),
            ..Line::new(&of.id, &of.image)
        }
    }

    /// Everything about a volume is in its place: says so, on storage first.
    fn record(&self, item: usize, line: &Line) -> Result<(), CliError> {
        let _writing = Writing::begin();
        locked(&self.ledger).append(line)?;
        self.markers.forget(&self.items[item].id);
        let has_failed = line.status == Status::Failed;
        let mut counts = locked(&self.counts);
        match has_failed {
            true => counts.failed += 1,
            false => counts.ok += 1,
        }
        drop(counts);
        // Again, for one whose computation ended in a panic.
        self.progress.end(&self.items[item].id);
        self.progress.finished(has_failed);
        self.progress.beside(|| self.printer.print(line));
        Ok(())
    }
}

fn poisoned() -> CliError {
    let what = format!("the program ended {DEATHS} times while this volume was in work");
    let fix = "look at it, give it more memory, or try it once more with --resume --retry-poisoned";
    CliError::new(Code::Poisoned, what).fix(fix)
}

fn answers(obtained: &Obtained) -> Vec<AnswerLine> {
    let answer = |(label, given): (u16, &r1seg_results::Given)| AnswerLine {
        label,
        name: given.asked.name.clone(),
        status: given.status.as_str().to_owned(),
        answer: Some(given.outcome.text.clone()).filter(|_| given.outcome.finish_reason.is_some()),
    };
    obtained.findings().labels_of_prompts().zip(obtained.given()).map(answer).collect()
}

/// Puts the names of new files and folders on storage, whose contents are there already. Not every system
/// can do that for a folder.
fn sync_folders(out: &Path, folder: &Path) {
    for path in folder.ancestors() {
        let _ = File::open(out.join(path)).and_then(|folder| folder.sync_all());
    }
}

/// As every system writes it.
fn slashed(folder: &Path) -> String {
    folder.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// Seconds, to the millisecond.
fn rounded(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e3).round() / 1e3
}
