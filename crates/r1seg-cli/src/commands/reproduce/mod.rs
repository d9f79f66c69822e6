//! `r1seg reproduce`: results that others recorded with published weights, measured again.

mod compare;
mod compute;
mod data;
mod ledger;
mod report;
mod subject;
mod text;

use std::io::Write;

use anyhow::Result;
use r1seg::volume::Overwrite;
use r1seg::{CancelToken, CheckpointSource, Model, OutputKind};
use r1seg_results::{OutputFolder, Protected};

use crate::args::ReproduceArgs;
use crate::exit::{Exit, one_line, say};
use crate::input;
use crate::interrupt::Writing;
use crate::model;
use crate::progress::Progress;
use compare::{Figures, Row};
use data::Data;
use ledger::{Input, Ledger, Prompt, Recorded, Run};
use report::Report;
use subject::{Setting, Subject};

pub(crate) fn run(args: &ReproduceArgs, cancel: CancelToken) -> Result<Exit> {
    let mut ledger = Ledger::open(args.ledger.as_deref())?;
    ledger.keep_only(&args.only)?;
    if args.list {
        return list(&ledger);
    }
    let (source, name) = model::source(&args.model)?;
    model::verify(&args.model, &cancel)?;
    let record = args.record.clone().map(|path| [path]);
    let files = record.as_ref().map_or(&[][..], |files| &files[..]);
    let mut protected = Protected::default().model(&source);
    if let Some(ledger) = &args.ledger {
        protected = protected.file("the ledger", ledger);
    }
    for folder in &args.data {
        protected = input::protect(protected, "the data", folder);
    }
    protected.check(files)?;
    let overwrite = if args.force { Overwrite::Replace } else { Overwrite::Refuse };
    let output = OutputFolder::open(None, overwrite, files)?;

    let progress = Progress::new(args.quiet);
    progress.stage("hashing the model and looking for NaN and infinity");
    let subject = Subject::examine(&source, name, &cancel)?;
    ledger.runs.retain(|run| subject.is_of(&run.repository, &run.model_type));
    if !args.quiet && subject.repository.is_none() && !ledger.runs.is_empty() {
        let repositories: Vec<_> = ledger.runs.iter().map(|run| run.repository.as_str()).collect();
        say!(
            "r1seg: the folder does not say which repository it is from; it is compared with results of {}",
            repositories.join(", ")
        );
    }
    let folder = match &source {
        CheckpointSource::Folder(folder) => Some(folder.as_path()),
        CheckpointSource::Embedded(_) => None,
    };
    let mut data = Data::in_folders(&args.data, folder)?;
    progress.stage("loading the model");
    let questions = ledger.runs.iter().map(|run| run.prompts.len()).max().unwrap_or(1);
    let options = model::load_options(&args.model.load, 0).with_questions(questions.max(1));
    let model = r1seg::load(&source, &options.with_cancel(cancel.clone()))?;
    progress.clear();
    if !args.quiet {
        model::announce(&model, &subject.name);
    }
    let progress = Progress::new(args.quiet);
    progress.stage("asking about the embedded phantom");
    let self_test = compute::self_test(&model, &cancel)?;

    let mut rows = Vec::new();
    for run in &ledger.runs {
        for input in &run.inputs {
            progress.stage(format!("{}: {}", run.id, input.name));
            rows.extend(measure(&model, run, input, &mut data, &cancel)?);
        }
    }
    progress.clear();
    let setting = Setting::of(&model);
    let note = ledger.note.clone();
    let mut report = Report::new(subject, setting, self_test, (note, &ledger.runs), rows);
    report.inputs = data.used;
    report.missing = data.missing;
    if let Some([path]) = &record {
        let mut recorded = ledger;
        recorded.set_results(&report.rows);
        let _writing = Writing::begin();
        let mut stage = output.stage()?;
        stage.write(path, (serde_json::to_string_pretty(&recorded)? + "\n").as_bytes())?;
        stage.commit(&[])?;
    }
    let text = match args.json {
        true => serde_json::to_string_pretty(&report)? + "\n",
        false => text::render(&report),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(if report.summary.outside == 0 { Exit::Answered } else { Exit::OutsideBand })
}

/// The files that results were recorded with, one a line: name, SHA-256 or `-`, origin.
fn list(ledger: &Ledger) -> Result<Exit> {
    let mut out = std::io::stdout().lock();
    for run in &ledger.runs {
        for input in &run.inputs {
            for (file, sha256) in input.files() {
                let fields = [file, sha256.unwrap_or("-"), &run.repository, &input.from];
                writeln!(out, "{}", fields.map(one_line).join("\t"))?;
            }
        }
    }
    Ok(Exit::Answered)
}

/// The rows of an input.
fn measure(
    model: &Model,
    run: &Run,
    input: &Input,
    data: &mut Data,
    cancel: &CancelToken,
) -> Result<Vec<Row>> {
    let asked: Vec<(&Prompt, &Recorded)> = run
        .prompts
        .iter()
        .flat_map(|prompt| prompt.results.iter().map(move |result| (prompt, result)))
        .filter(|(_, result)| result.input == input.name)
        .collect();
    let found = match data.open(input)? {
        Ok(found) => found,
        Err(why) => {
            let row = |(prompt, recorded)| Row::not_run(run, prompt, recorded, &why);
            return Ok(asked.into_iter().map(row).collect());
        }
    };
    if !model.capabilities().gives(OutputKind::Mask) {
        let why = format!("{} gives neither answers nor masks", model.family().name());
        let row = |(prompt, recorded)| Row::not_run(run, prompt, recorded, &why);
        return Ok(asked.into_iter().map(row).collect());
    }
    let prompts: Vec<&str> = asked.iter().map(|(prompt, _)| prompt.prompt.as_str()).collect();
    let outputs = compute::run(model, run, &found.volume, &prompts, cancel)?;
    let rows = asked.into_iter().zip(outputs).map(|((prompt, recorded), output)| {
        let (dice, doubts) = found.dice(output.mask.as_deref(), prompt.label);
        let voxels = Some(output.mask.as_deref().map_or(0, compute::count));
        let figures = Figures { text: output.text, voxels, dice };
        Row::measured((run, prompt, recorded), figures, output.seconds, &doubts)
    });
    Ok(rows.collect())
}
