//! From arguments to results in files: the volume, the model, the prompts.

use std::path::{Path, PathBuf};
use std::time::Instant;

use r1seg::volume::{Geometry, ReadOptions};
use r1seg::{AskOptions, EncodeOptions, EncodedVolume, InferenceMode, Orient, Purpose, RunContext};
use r1seg_results::report::{Origin, Run, corners};
use r1seg_results::{
    Asked, Given, Input, Layout, Protected, Request, ResultFolder, WorkingMemory, Workload,
    Written, obtain,
};

use super::cache::{Key, content};
use super::models::{Loaded, ServedModel};
use super::{Shared, asked, name_of};
use crate::args::{AskVolume, SegmentVolume};
use crate::results::{Answer, Mask, Outcome, ResultFile};
use crate::{Call, Error, Step};

/// What is asked.
enum What<'a> {
    /// Questions, which do not depend on the volume.
    Questions(Vec<Asked>),
    /// Targets, which lie in it.
    Targets(&'a SegmentVolume),
}

/// A call, with what can be known of it before anything is read.
pub(super) struct Job<'a> {
    /// As named.
    volume: &'a str,
    path: PathBuf,
    read: ReadOptions,
    index: usize,
    model: &'a ServedModel,
    what: What<'a>,
    mode: Option<InferenceMode>,
    orient: Option<Orient>,
    options: AskOptions,
}

impl<'a> Job<'a> {
    pub(super) fn to_ask(shared: &'a Shared, args: &'a AskVolume) -> Result<Self, Error> {
        let answers = |model: &ServedModel| model.capabilities().purpose() == Purpose::Answer;
        let (index, model) =
            shared.models.choose(args.model.as_deref(), "answer questions", answers)?;
        if !answers(model) {
            return Err(Error::arguments(
                format!("{} answers no questions: it segments", model.id),
                "call segment_volume, or name a model that takes questions",
            ));
        }
        let mut options = AskOptions::default().with_first_seg(args.first_seg);
        if let Some(tokens) = asked::max_new_tokens(args)? {
            options = options.with_max_new_tokens(tokens);
        }
        Ok(Self {
            volume: &args.volume,
            path: shared.roots.find(&args.volume)?,
            read: asked::reading(args.read.as_ref(), &shared.options.read)?,
            index,
            model,
            what: What::Questions(asked::questions(args, model.family)?),
            mode: args.mode.map(InferenceMode::from),
            orient: orient(args.orient.as_deref())?,
            options,
        })
    }

    pub(super) fn to_segment(shared: &'a Shared, args: &'a SegmentVolume) -> Result<Self, Error> {
        asked::check_targets(args)?;
        let takes = |model: &ServedModel| args.is_taken_by(model.capabilities());
        let what = "take all of these targets";
        let (index, model) = shared.models.choose(args.model.as_deref(), what, takes)?;
        if !takes(model) {
            return Err(Error::arguments(
                format!("{} cannot take all of these targets", model.id),
                "see what it takes with list_models; a model that takes questions is asked with ask_volume",
            ));
        }
        Ok(Self {
            volume: &args.volume,
            path: shared.roots.find(&args.volume)?,
            read: asked::reading(args.read.as_ref(), &shared.options.read)?,
            index,
            model,
            what: What::Targets(args),
            mode: args.mode.map(InferenceMode::from),
            orient: orient(args.orient.as_deref())?,
            options: AskOptions::default(),
        })
    }

    /// Runs everything, and writes the results.
    pub(super) fn run(self, shared: &Shared, call: &Call) -> Result<Outcome, Error> {
        let start = Instant::now();
        call.progress.report(Step::Reading);
        let input = Input::read(&self.path, &self.read)?;
        call.cancel.check()?;
        let asked = self.asked(shared, input.volume.geometry())?;
        let layout = self.layout(shared, &input, asked.len())?;

        let loaded = self.load(shared, call, &input, asked.len())?;
        let model = &loaded.model;
        for asked in &asked {
            asked.check(model, &self.options, self.mode)?;
        }
        let encoded = self.encode(shared, call, &loaded, &input)?;
        let cancel = &call.cancel;
        let mut on_event = |event: r1seg::Event<'_>| call.progress.event(event);
        let obtained = obtain(&encoded, asked, &self.options, cancel, &mut on_event)?;

        call.progress.report(Step::Saving);
        let git = shared.options.git;
        let run = Run::new(model, &loaded.named, git, Origin::from(&input), &encoded);
        let report = obtained.report(run, model, &self.options);
        let (source, family) = (&self.model.source, self.model.family);
        let warnings = obtained.warnings(source, family, &input, &encoded);
        let mut answers = answers(obtained.given(), encoded.answers_questions());
        let results = obtained.into_results(layout, &input, shared.options.words);
        let measured = results.measure(report, warnings)?;
        call.cancel.check()?;
        let writing = (shared.options.while_writing)();
        let written = measured.write(start)?;
        drop(writing);

        let masks: Vec<Mask> = written.report.masks().iter().map(Mask::from).collect();
        for (label, answer) in written.findings.labels_of_prompts().zip(&mut answers) {
            answer.labels.extend(masks.iter().map(|mask| mask.label).filter(|of| *of == label));
        }
        Ok(Outcome {
            model: self.model.id.clone(),
            volume: self.volume.to_string(),
            answers,
            masks,
            results: written.folder.as_ref().map(|folder| folder.display().to_string()),
            files: files(&written),
            warnings: shared.warnings(&written.warnings),
            seconds: start.elapsed().as_secs_f64(),
            research_use_only: true,
        })
    }

    fn asked(&self, shared: &Shared, geometry: &Geometry) -> Result<Vec<Asked>, Error> {
        if let Some(orient) = self.orient {
            orient.axes(geometry)?;
        }
        match &self.what {
            What::Questions(asked) => {
                for asked in asked {
                    asked.prompt.check_in(geometry)?;
                }
                Ok(asked.clone())
            }
            What::Targets(args) => asked::targets(args, self.model.family, geometry, &shared.masks),
        }
    }

    /// A new folder below that of all results, named after the volume.
    fn layout(&self, shared: &Shared, input: &Input, prompts: usize) -> Result<Layout, Error> {
        let out = &shared.options.out;
        if self.path.is_dir() && out.starts_with(&self.path) {
            return Err(r1seg_results::Error::InsideImage { image: self.path.clone() }.into());
        }
        std::fs::create_dir_all(out).map_err(|source| {
            let what = format!("the folder of all results cannot be made: {source}");
            r1seg_results::Error::CannotCreate { path: out.clone(), what }
        })?;
        let has_answers = matches!(self.what, What::Questions(_))
            || self.model.capabilities().purpose() == Purpose::Answer;
        let request = Request {
            folder: Some(ResultFolder::New(out.join(name_of(&self.path)))),
            has_answers,
            protected: Protected::default()
                .volume("the volume", &self.path)
                .model(&self.model.source),
            ..Request::in_folder(out)
        };
        Ok(Layout::open(request, input, prompts)?)
    }

    fn load(
        &self,
        shared: &Shared,
        call: &Call,
        input: &Input,
        prompts: usize,
    ) -> Result<Loaded, Error> {
        let capabilities = self.model.capabilities();
        let mode = self.mode.or(capabilities.default_mode()).unwrap_or(InferenceMode::Resize);
        let turns = self.orient.is_some_and(|orient| orient != Orient::Stored);
        let (source, volume) = (&self.model.source, &input.volume);
        let work = Workload { source, mode, turns, volume, prompts, apart: 0 };
        let reserved = WorkingMemory::of(&work)?.peak;
        let options = || {
            call.progress.report(Step::Loading);
            let options = (shared.options.load)(reserved);
            options.with_questions(prompts).with_cancel(call.cancel.clone())
        };
        shared.models.load(self.index, &options, &|| shared.encoded.clear())
    }

    fn encode(
        &self,
        shared: &Shared,
        call: &Call,
        loaded: &Loaded,
        input: &Input,
    ) -> Result<EncodedVolume, Error> {
        let key = Key {
            model: self.index,
            content: content(input),
            read: self.read.clone(),
            mode: self.mode,
            orient: self.orient,
        };
        if let Some(encoded) = shared.encoded.get(&key) {
            return Ok(encoded);
        }
        call.progress.report(Step::Encoding);
        let mut options = EncodeOptions::default();
        options.mode = self.mode;
        options.orient = self.orient;
        let mut on_event = |event: r1seg::Event<'_>| call.progress.event(event);
        let mut run = RunContext::from(&call.cancel).with_events(&mut on_event);
        let encoded = loaded.model.encode_with(&input.volume, &options, &mut run)?;
        shared.encoded.put(key, encoded.clone());
        Ok(encoded)
    }
}

fn orient(text: Option<&str>) -> Result<Option<Orient>, Error> {
    text.map(|text| text.parse::<Orient>()).transpose().map_err(Error::from)
}

/// What each prompt got, but for the labels of its masks.
fn answers(given: &[Given], in_words: bool) -> Vec<Answer> {
    let answer = |given: &Given| {
        let Given { asked, outcome, status } = given;
        let prompt = asked.prompt.text.clone().unwrap_or_else(|| asked.name.clone());
        Answer {
            prompt,
            text: in_words.then(|| outcome.text.clone()),
            status: status.as_str().to_string(),
            finish_reason: outcome.finish_reason.map(|reason| reason.as_str().to_string()),
            labels: Vec::new(),
            boxes: outcome.boxes.iter().filter_map(|of| of.region).map(corners).collect(),
        }
    };
    given.iter().map(answer).collect()
}

/// All files of the folder, which has nothing else in it.
fn files(written: &Written) -> Vec<ResultFile> {
    let Some(folder) = &written.folder else { return Vec::new() };
    let mut files: Vec<ResultFile> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| file(&entry.path()))
        .collect();
    files.sort_by(|one, other| one.name.cmp(&other.name));
    files
}

fn file(path: &Path) -> ResultFile {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    ResultFile { name, location: path.display().to_string() }
}
