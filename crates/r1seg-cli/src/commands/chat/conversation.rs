//! What a conversation is about, and what it has come to so far.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use r1seg::registry::Family;
use r1seg::volume::{Mask, Region, mask_stats};
use r1seg::{
    AskOptions, CancelToken, CheckpointSource, ClickSession, EncodeOptions, EncodedVolume,
    InferenceMode, MaskStatus, Model, Outcome, Preprocess, Remedy, RunContext, load,
};
use r1seg_results::report::{self, MaskReport};
use r1seg_results::{Asked, Given, Input, Obtained, Protected, WorkingMemory, Workload};

use super::line::Command;
use super::words;
use crate::args::ChatArgs;
use crate::exit::{CliError, say, warning};
use crate::hints;
use crate::input;
use crate::job::size;
use crate::model::{self, ModelName};
use crate::progress::{Progress, counted};
use crate::refiner::LoadedSecond;

/// A conversation about one volume with one model.
pub(super) struct Conversation<'a> {
    pub(super) args: &'a ChatArgs,
    pub(super) options: AskOptions,
    pub(super) first: First,
    pub(super) input: Input,
    pub(super) encoded: EncodedVolume,
    pub(super) obtained: Obtained,
    /// The object that is being clicked, or was named last.
    pub(super) open: Option<OpenObject>,
    /// What questions are about.
    pub(super) region: Option<Region>,
    /// The model that refined last.
    pub(super) second: Option<LoadedSecond>,
    /// Of each label that was obtained: its size, or why it has none.
    pub(super) sizes: Vec<String>,
    /// Labels whose masks are in no file yet.
    pub(super) unsaved: BTreeSet<usize>,
    /// Folders that this conversation wrote, whose files it may replace.
    pub(super) folders: Vec<PathBuf>,
    /// How long models have worked.
    pub(super) busy: Duration,
    history: Option<&'a Path>,
}

/// The model.
pub(super) struct First {
    pub(super) source: CheckpointSource,
    name: ModelName,
    pub(super) model: Model,
    pub(super) named: report::Model,
}

/// An object that more points or a box may still change.
pub(super) struct OpenObject {
    pub(super) session: ClickSession,
    pub(super) asked: Asked,
    pub(super) outcome: Outcome,
}

impl First {
    fn load(
        (source, name): (CheckpointSource, ModelName),
        args: &ChatArgs,
        input: &Input,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let progress = Progress::new(false);
        progress.stage("loading the model");
        let work = Workload {
            source: &source,
            mode: mode_of(source.family()?, args),
            turns: args.volume.turns(),
            volume: &input.volume,
            prompts: 1,
            apart: 0,
        };
        let reserved = WorkingMemory::of(&work)?.peak;
        let options = model::refined(model::load_options(&args.model.load, reserved), &args.refine);
        let options = model::drafting(options, args.answers.drafts);
        let model = load(&source, &options.with_cancel(cancel.clone()))?;
        progress.clear();
        let named = report::Model::of(&model, &source);
        Ok(Self { source, name, model, named })
    }

    fn encode(
        &self,
        args: &ChatArgs,
        input: &Input,
        cancel: &CancelToken,
    ) -> Result<EncodedVolume> {
        let progress = Progress::new(false);
        progress.stage("encoding the volume");
        let family = self.model.family();
        let chosen = args.prepare.preprocess;
        let preprocess = family.preprocess(chosen).map_or(Preprocess::Auto, |_| chosen);
        let options =
            EncodeOptions::default().with_mode(mode_of(family, args)).with_preprocess(preprocess);
        let options = args.volume.with_orient(options);
        let encoded =
            self.model.encode_with(&input.volume, &options, &mut RunContext::from(cancel));
        progress.clear();
        Ok(encoded?)
    }
}

/// The mode of a model: the one that was chosen, if it has that, else its own.
fn mode_of(family: Family, args: &ChatArgs) -> InferenceMode {
    let own = || family.mode(None).unwrap_or(InferenceMode::Resize);
    family.mode(args.mode).unwrap_or_else(|_| own())
}

fn read(path: &Path, args: &ChatArgs) -> Result<Input> {
    let progress = Progress::new(false);
    progress.stage("reading the volume");
    let input = input::open(path, &args.volume.read_options());
    progress.clear();
    let input = input?;
    let orient = args.volume.orient.unwrap_or_default();
    orient.axes(input.volume.geometry()).map_err(r1seg::Error::from)?;
    Ok(input)
}

impl<'a> Conversation<'a> {
    /// Reads the volume, loads the model and encodes the one with the other.
    pub(super) fn open(args: &'a ChatArgs, cancel: &CancelToken) -> Result<Self> {
        let options = args.answers.options()?;
        let named = model::source(&args.model)?;
        model::verify(&args.model, cancel)?;
        let input = read(&args.image, args)?;
        let first = First::load(named, args, &input, cancel)?;
        // A further model takes its own where it does not have these.
        first.model.family().mode(args.mode)?;
        first.model.family().preprocess(args.prepare.preprocess)?;
        let encoded = first.encode(args, &input, cancel)?;
        let obtained = Obtained::new(input.volume.geometry());
        Ok(Self {
            args,
            options,
            first,
            input,
            encoded,
            obtained,
            open: None,
            region: None,
            second: None,
            sizes: Vec::new(),
            unsaved: BTreeSet::new(),
            folders: Vec::new(),
            busy: Duration::ZERO,
            history: None,
        })
    }

    /// Keeps a file of lines from being replaced, and from replacing anything.
    pub(super) fn protects(&mut self, history: &'a Path) -> Result<()> {
        self.protected().check(&[history.to_path_buf()])?;
        self.history = Some(history);
        Ok(())
    }

    /// What is read, and therefore never replaced.
    pub(super) fn protected(&self) -> Protected {
        let inputs = input::protect(Protected::default(), "the image", &self.input.path);
        let inputs = inputs.model(&self.first.source);
        let inputs = match &self.args.volume.affine_from {
            Some(path) => input::protect(inputs, "the file of --affine-from", path),
            None => inputs,
        };
        match self.history {
            Some(path) => inputs.file("the history", path),
            None => inputs,
        }
    }

    /// The first lines on stderr.
    pub(super) fn announce(&self, is_terminal: bool) {
        self.announce_model();
        self.announce_volume();
        if is_terminal {
            say!("r1seg: {} /help lists the commands, /quit leaves", words::invitation(self));
        }
    }

    fn announce_model(&self) {
        model::announce(&self.first.model, &self.first.name.id);
        if matches!(self.first.source, CheckpointSource::Embedded(_)) {
            let text = "the demo model knows only synthetic phantoms";
            warning("W-DEMO", text, Some(&hints::spoken(&Remedy::UseTrainedModel)));
        }
        let (family, mode) = (self.first.model.family(), self.encoded.mode());
        if self.args.mode.is_some_and(|chosen| chosen != mode) {
            say!("r1seg: {} has another mode than was chosen: {mode}", family.name());
        }
    }

    fn announce_volume(&self) {
        model::announce_series(self.input.series.as_ref());
        self.input.warnings.iter().chain(self.encoded.warnings()).for_each(model::warn);
    }

    /// Goes on with another volume.
    fn change_image(&mut self, path: &Path, cancel: &CancelToken) -> Result<()> {
        self.check_saved("/image")?;
        let input = read(path, self.args)?;
        self.encoded = self.first.encode(self.args, &input, cancel)?;
        self.input = input;
        self.forget();
        self.second = None;
        self.announce_volume();
        say!("r1seg: {}", words::volume(self));
        Ok(())
    }

    /// Goes on with another model. What was found with the one before is forgotten.
    fn change_model(&mut self, name: &str, cancel: &CancelToken) -> Result<()> {
        self.check_saved("/model")?;
        let first =
            First::load(model::source_of(Path::new(name))?, self.args, &self.input, cancel)?;
        self.encoded = first.encode(self.args, &self.input, cancel)?;
        self.first = first;
        self.forget();
        self.announce_model();
        self.encoded.warnings().iter().for_each(model::warn);
        Ok(())
    }

    /// Nothing that was found is lost without a word.
    fn check_saved(&self, command: &str) -> Result<()> {
        match self.unsaved.len() {
            0 => Ok(()),
            _ => Err(CliError::usage(
                format!("{} not saved, and {command} would forget them", self.unsaved_masks()),
                "/save them first, or /forget them",
            )),
        }
    }

    /// `2 masks are`.
    fn unsaved_masks(&self) -> String {
        let count = self.unsaved.len();
        let are = if count == 1 { "is" } else { "are" };
        format!("{} {are}", counted(count as u64, ["mask", "masks"]))
    }

    /// Drops all that was asked and found.
    pub(super) fn forget(&mut self) {
        self.obtained = Obtained::new(self.input.volume.geometry());
        self.open = None;
        self.region = None;
        self.sizes.clear();
        self.unsaved.clear();
        self.busy = Duration::ZERO;
    }

    /// What is lost where the conversation ends.
    pub(super) fn end(&self) {
        if !self.unsaved.is_empty() {
            say!("r1seg: {} not saved, and gone", self.unsaved_masks());
        }
    }

    /// Runs a command.
    pub(super) fn run(&mut self, command: Command, cancel: &CancelToken) -> Result<()> {
        match command {
            Command::Help => words::print(&words::help()),
            Command::Info => words::print(&words::info(self)),
            Command::Mask { number: None, file: None } => words::print(&words::masks(self)),
            Command::Mask { number, file } => self.mask(number, file.as_deref())?,
            Command::Places(places) => self.place(&places, cancel)?,
            Command::Organ(names) => self.organs(&names, cancel)?,
            Command::Refine { number, model } => self.refine(number, &model, cancel)?,
            Command::Undo => self.undo(cancel)?,
            Command::Reset => self.reset()?,
            Command::Save(folder) => self.save(folder)?,
            Command::Preview(file) => self.preview(file)?,
            Command::Image(path) => self.change_image(&path, cancel)?,
            Command::Model(name) => self.change_model(&name, cancel)?,
            Command::Forget => {
                let dropped = self.unsaved.len();
                self.forget();
                if let Model::Language(model) = &self.first.model {
                    model.forget_answers();
                }
                if dropped > 0 {
                    let masks = counted(dropped as u64, ["mask", "masks"]);
                    say!("r1seg: {masks} forgotten without being saved");
                }
            }
            Command::Quit => {}
        }
        Ok(())
    }

    /// The label of what is obtained next.
    pub(super) fn next_label(&self) -> usize {
        self.sizes.len() + 1
    }

    /// Adds what a prompt got.
    pub(super) fn keep(&mut self, asked: Asked, outcome: Outcome) -> Result<()> {
        let label = self.next_label();
        let size = self.size(label, &asked.name, outcome.mask.as_ref())?;
        if outcome.status() == MaskStatus::Found {
            self.unsaved.insert(label);
        }
        self.obtained.push(asked, numbered(outcome))?;
        self.sizes.push(size);
        Ok(())
    }

    /// Adds the object that was clicked, to which nothing more belongs.
    pub(super) fn close(&mut self) -> Result<()> {
        match self.open.take() {
            Some(OpenObject { asked, outcome, .. }) => self.keep(asked, outcome),
            None => Ok(()),
        }
    }

    /// The size of a mask in words, or that there is none.
    pub(super) fn size(&self, label: usize, name: &str, mask: Option<&Mask>) -> Result<String> {
        let Some(mask) = mask else { return Ok("no mask".to_string()) };
        let stats = mask_stats(mask, 1, &self.input.volume)?;
        let label = u16::try_from(label).unwrap_or(u16::MAX);
        Ok(size(&MaskReport::new(label, name, &stats, self.input.range)))
    }

    /// Notes how long something took.
    pub(super) fn timed<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let done = run(self);
        self.busy += start.elapsed();
        done
    }

    /// All that was obtained, the object that is being clicked included.
    pub(super) fn all(&self) -> Result<Obtained> {
        let mut obtained = self.obtained.clone();
        if let Some(OpenObject { asked, outcome, .. }) = &self.open {
            obtained.push(asked.clone(), numbered(outcome.clone()))?;
        }
        Ok(obtained)
    }

    /// What is odd about what a prompt got, of which `given` has all but the mask.
    pub(super) fn warn(&self, given: &Given) {
        given.doubts(self.first.model.family()).iter().for_each(model::warn);
    }
}

/// In a conversation a mask is identified by the number of its prompt, not by that of its class.
fn numbered(mut outcome: Outcome) -> Outcome {
    outcome.label = None;
    outcome
}
