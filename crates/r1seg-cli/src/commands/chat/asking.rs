//! Questions, texts, points and boxes, run as they are typed.

use std::path::Path;

use anyhow::Result;
use r1seg::volume::Mask;
use r1seg::{
    BOX_PLACEHOLDER, CancelToken, Event, InferenceMode, MaskStatus, Model, Outcome, Prompt,
    PromptKind, RunContext, check_question,
};
use r1seg_results::{Asked, Given};

use super::conversation::{Conversation, OpenObject};
use super::words;
use crate::args::TypedPlace;
use crate::commands::infer::{Printer, To};
use crate::exit::{CliError, one_line, say};
use crate::job::{box_line, number};
use crate::organs;
use crate::progress::Progress;
use crate::refiner::SecondModel;

/// How to ask for what has no name in the table of organs.
const IN_WORDS: &str = "a line of your own";

impl Conversation<'_> {
    /// A question, or for a model that answers none a text to segment.
    pub(super) fn ask(&mut self, words: String, cancel: &CancelToken) -> Result<()> {
        self.ask_for(Asked::of_text(words), cancel)
    }

    /// Organs in the sentences that the model was trained with.
    pub(super) fn organs(&mut self, names: &str, cancel: &CancelToken) -> Result<()> {
        let names: Vec<String> = names.split(',').map(|name| name.trim().to_owned()).collect();
        for organ in organs::organs(&names, IN_WORDS)? {
            let asked = Asked::of_organ(organ, self.first.model.family());
            if let Some(organ) = &asked.organ {
                say!("r1seg: {} is asked for with: {}", organ.given, asked.text());
            }
            self.ask_for(asked, cancel)?;
        }
        Ok(())
    }

    fn ask_for(&mut self, asked: Asked, cancel: &CancelToken) -> Result<()> {
        match &self.first.model {
            Model::Language(_) => self.question(asked, cancel),
            _ => self.object(asked, None, cancel),
        }
    }

    fn question(&mut self, mut asked: Asked, cancel: &CancelToken) -> Result<()> {
        check_question(asked.text())?;
        if asked.text().contains(BOX_PLACEHOLDER) && self.region.is_none() {
            return Err(CliError::usage(
                format!("the question has {BOX_PLACEHOLDER}, and no box was given"),
                "give one first: /box I0,J0,K0,I1,J1,K1",
            ));
        }
        asked.prompt.region = self.region;
        asked.check(&self.first.model, &self.options, Some(self.encoded.mode()))?;
        let outcome = self.timed(|this| {
            let mut screen = Screen::new(this.encoded.mode(), "reading the question");
            let mut on_event = |event: Event<'_>| screen.on_event(event);
            let mut run = RunContext::from(cancel).with_events(&mut on_event);
            let outcome = this.encoded.ask_with(&asked.prompt, &this.options, &mut run);
            screen.end(outcome.as_ref().ok());
            Ok(outcome?)
        })?;
        let label = self.next_label();
        let (given, outcome) = apart(asked, outcome);
        self.keep(given.asked.clone(), outcome)?;
        if given.status != MaskStatus::NotFound {
            say!("r1seg: mask {label}: {}", self.sizes[label - 1]);
        }
        let geometry = self.input.volume.geometry();
        for region in given.outcome.boxes.iter().filter_map(|found| found.region) {
            say!("r1seg: {}", box_line(region, geometry));
        }
        self.warn(&given);
        Ok(())
    }

    /// Points and boxes: of the object, or of the questions that follow.
    pub(super) fn place(&mut self, places: &[TypedPlace], cancel: &CancelToken) -> Result<()> {
        let geometry = self.input.volume.geometry();
        let add = |prompt: Prompt, place: &TypedPlace| place.add_to(prompt, geometry);
        let prompt = places.iter().try_fold(Prompt::default(), add)?;
        let Model::Language(model) = &self.first.model else {
            let more = Asked::of_places(prompt);
            return match self.open.take() {
                Some(open) => self.object(more, Some(open), cancel),
                None => self.object(more, None, cancel),
            };
        };
        let known = model.capabilities();
        match prompt.region.filter(|_| known.takes(PromptKind::Box)) {
            Some(region) => {
                self.region = Some(region);
                let line = box_line(region, geometry);
                say!("r1seg: questions are about {line}; /reset makes them about the whole volume");
                Ok(())
            }
            None => Err(CliError::usage(
                format!(
                    "{} takes no {}",
                    model.family().name(),
                    if prompt.region.is_some() { "boxes" } else { "points" }
                ),
                "ask in words, or go on with another model: /model NAME",
            )),
        }
    }

    /// Begins an object, or adds to one. Where that fails, nothing has changed.
    fn object(
        &mut self,
        more: Asked,
        open: Option<OpenObject>,
        cancel: &CancelToken,
    ) -> Result<()> {
        let before = open.as_ref().map(|open| open.asked.clone());
        let mut session = match &open {
            Some(open) => open.session.clone(),
            None => self.encoded.session(),
        };
        let got = self.timed(|_| {
            let mut screen = Screen::new(InferenceMode::Sliding, "segmenting");
            let mut on_event = |event: Event<'_>| screen.on_event(event);
            let mut run = RunContext::from(cancel).with_events(&mut on_event);
            let outcome = session.add(more.prompt.clone(), &mut run);
            screen.end(None);
            Ok(outcome?)
        });
        let outcome = match got {
            Ok(outcome) => outcome,
            Err(error) => {
                self.open = self.open.take().or(open);
                return Err(error);
            }
        };
        let prompt = session.prompt();
        // An object is called after its text, or after what it was shown with.
        let asked = match prompt.text {
            Some(_) => Asked { prompt, ..before.unwrap_or(more) },
            None => Asked::of_places(prompt),
        };
        if self.open.is_some() {
            self.close()?;
        }
        self.show(OpenObject { session, asked, outcome })
    }

    /// Keeps an object as the one that is being clicked, and says what it has come to.
    fn show(&mut self, open: OpenObject) -> Result<()> {
        let OpenObject { session, asked, outcome } = open;
        let label = self.next_label();
        let size = self.size(label, &asked.name, outcome.mask.as_ref())?;
        let (given, outcome) = apart(asked, outcome);
        words::print(&format!("{}{}: {size}\n", number(label - 1), one_line(&given.asked.name)));
        match given.status {
            MaskStatus::Found => self.unsaved.insert(label),
            _ => self.unsaved.remove(&label),
        };
        self.warn(&given);
        self.open = Some(OpenObject { session, asked: given.asked, outcome });
        Ok(())
    }

    /// Takes the last points or box back.
    pub(super) fn undo(&mut self, cancel: &CancelToken) -> Result<()> {
        let Some(open) = &self.open else {
            return Err(CliError::usage(
                "nothing was clicked that could be taken back",
                "give /points or a /box first, to a model that takes them",
            ));
        };
        let (mut session, mut asked) = (open.session.clone(), open.asked.clone());
        let before = self.timed(|_| Ok(session.undo(&mut RunContext::from(cancel))?))?;
        match before {
            Some(outcome) => {
                asked.prompt = session.prompt();
                if asked.prompt.text.is_none() {
                    asked.name = Asked::kinds(&asked.prompt).to_string();
                }
                self.show(OpenObject { session, asked, outcome })
            }
            None => {
                self.open = None;
                let label = self.next_label();
                self.unsaved.remove(&label);
                say!("r1seg: nothing is left of object {label}");
                Ok(())
            }
        }
    }

    /// Keeps the object, and begins another; questions are about the whole volume again.
    pub(super) fn reset(&mut self) -> Result<()> {
        if let Some(open) = &self.open {
            say!("r1seg: mask {} is kept: {}", self.next_label(), one_line(&open.asked.name));
        }
        self.region = None;
        self.close()
    }

    /// Lets a promptable model draw a mask again.
    pub(super) fn refine(
        &mut self,
        number: Option<usize>,
        name: &str,
        cancel: &CancelToken,
    ) -> Result<()> {
        self.close()?;
        let known = self.obtained.refinable();
        let label = match number {
            None => known.last().copied(),
            Some(number) => u16::try_from(number).ok().filter(|label| known.contains(label)),
        };
        let Some(label) = label else {
            let what = match number {
                None => "there is no mask and no box to refine".to_string(),
                Some(number) => format!("{number} is not a mask or box of a prompt, to refine"),
            };
            return Err(CliError::usage(what, "/mask lists the masks"));
        };
        let progress = Progress::new(false);
        let done = self.refine_label(label, name, &progress, cancel);
        progress.clear();
        done?;
        let new = self.next_label();
        let of = u16::try_from(new).unwrap_or(u16::MAX);
        let Some(finding) = self.obtained.findings().prompts().get(new - 1).cloned() else {
            return Ok(());
        };
        let mask = self.obtained.findings().labels().label_mask(of);
        let size = self.size(new, &finding.name, Some(&mask))?;
        words::print(&format!("{}{}: {size}\n", number_of(new), one_line(&finding.name)));
        self.sizes.push(size);
        if finding.status == MaskStatus::Found {
            self.unsaved.insert(new);
        }
        let warnings = self.obtained.refining_warnings();
        let own = |warning: &&r1seg::volume::Warning| {
            warning.text.starts_with(&format!("{}: ", one_line(&finding.name)))
        };
        warnings.iter().filter(own).for_each(crate::model::warn);
        Ok(())
    }

    fn refine_label(
        &mut self,
        label: u16,
        name: &str,
        progress: &Progress,
        cancel: &CancelToken,
    ) -> Result<()> {
        let found = SecondModel::find(Path::new(name), None)?;
        let is_loaded = self
            .second
            .as_ref()
            .is_some_and(|second| second.of.source.path() == found.source.path());
        if !is_loaded {
            self.second = None;
            let args = (&self.args.model, &self.args.volume);
            let labels = self.next_label();
            self.second = Some(found.load(&self.input.volume, args, labels, (progress, cancel))?);
        }
        let Self { second, obtained, .. } = self;
        match second {
            Some(second) => second.refine(obtained, &[label], (progress, cancel)),
            None => Ok(()),
        }
    }
}

fn number_of(label: usize) -> String {
    number(label - 1)
}

/// What there is to say of an outcome, and the outcome with its mask.
fn apart(asked: Asked, outcome: Outcome) -> (Given, Outcome) {
    let (given, mask): (Given, Option<Mask>) = Given::new(asked, outcome);
    let mut outcome = given.outcome.clone();
    outcome.mask = mask;
    (given, outcome)
}

/// Progress, and an answer as it is generated.
struct Screen {
    progress: Progress,
    printer: Printer,
    mode: InferenceMode,
    /// Whether the line of an answer has begun.
    has_begun: bool,
}

impl Screen {
    fn new(mode: InferenceMode, stage: &str) -> Self {
        let progress = Progress::new(false);
        progress.stage(stage);
        Self { progress, printer: Printer::new(To::Stdout, 1), mode, has_begun: false }
    }

    fn on_event(&mut self, event: Event<'_>) {
        match event {
            Event::Window { index, of } => {
                self.progress.stage(format!("window {} of {of}", index + 1));
            }
            Event::Mask { .. } => {
                self.progress.clear();
                self.progress = self.progress.again();
                self.progress.stage("drawing the mask");
            }
            // Of windows, the answers are shown at the end.
            Event::Text { text, .. } if self.mode == InferenceMode::Resize => {
                self.progress.clear();
                self.has_begun = true;
                self.printer.print(text);
            }
            Event::TextDone { .. } if self.mode == InferenceMode::Resize => self.end_line(),
            _ => {}
        }
    }

    fn end_line(&mut self) {
        self.progress.clear();
        self.has_begun = false;
        self.printer.print("\n");
    }

    fn end(mut self, answer: Option<&Outcome>) {
        self.progress.clear();
        if self.has_begun {
            self.end_line();
        }
        if let Some(answer) = answer.filter(|_| self.mode == InferenceMode::Sliding) {
            self.printer.distinct(0, answer);
        }
    }
}
