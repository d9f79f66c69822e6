//! `r1seg prompts`: how to ask each model.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use r1seg::registry::{Family, MODELS, ModelEntry};
use r1seg::{ClassStatus, ClassTable};
use serde::Serialize;

use super::models::print_list;
use crate::args::PromptsArgs;
use crate::capabilities;
use crate::exit::{CliError, Exit};
use crate::model;

#[derive(Serialize)]
struct Model {
    name: &'static str,
    command: &'static str,
    /// The option of the command that takes them.
    option: &'static str,
    note: String,
    prompts: Vec<Prompt>,
}

#[derive(Serialize)]
struct Prompt {
    task: &'static str,
    /// With `{organ}`, `{description}` or `{box}` where the user's own words belong.
    text: &'static str,
    used_in: &'static str,
}

impl Model {
    fn of(entry: &ModelEntry, classes: Option<&'static ClassTable>) -> Self {
        let prompts = entry.phrasings.iter();
        let prompts =
            prompts.map(|p| Prompt { task: p.aim.as_str(), text: p.template, used_in: p.used_in });
        let classes = classes.iter().flat_map(|table| table.classes()).filter_map(|class| {
            let task = match class.status {
                ClassStatus::Everything => "class",
                ClassStatus::Group => "group",
                ClassStatus::Unsupported => return None,
                _ => "on request",
            };
            Some(Prompt { task, text: class.name, used_in: "training" })
        });
        let prompts = prompts.chain(classes);
        Self {
            name: entry.name,
            command: capabilities::command(&entry.capabilities),
            option: match entry.family.has_classes() {
                true => "--class",
                false => capabilities::prompt_option(&entry.capabilities),
            },
            note: capabilities::note(entry),
            prompts: prompts.collect(),
        }
    }

    fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        writeln!(out, "{} (r1seg {} {})", self.name, self.command, self.option)?;
        let mut last = "";
        for prompt in &self.prompts {
            let task = if prompt.task == last { "" } else { prompt.task };
            writeln!(out, "  {task:<13} {}", prompt.text)?;
            last = prompt.task;
        }
        writeln!(out, "  {:<13} {}", "note", self.note)
    }
}

pub(crate) fn run(args: &PromptsArgs) -> Result<Exit> {
    let family = args.model.as_deref().map(family).transpose()?;
    let entries = MODELS.iter().filter(|entry| family.is_none_or(|family| entry.family == family));
    let classes = args.model.as_deref().and_then(classes);
    let models: Vec<Model> = entries.map(|entry| Model::of(entry, classes)).collect();
    print_list(&models, args.json, |model, out| model.write(out))
}

/// The classes of a model that is named, where it has any.
fn classes(model: &OsStr) -> Option<&'static ClassTable> {
    let published = MODELS.iter().flat_map(|entry| entry.published);
    let name = model.to_str().unwrap_or_default();
    let name = name.split('@').next().unwrap_or_default();
    let mut named = published.filter(|published| {
        [published.alias, published.repository].iter().any(|of| of.eq_ignore_ascii_case(name))
    });
    match named.next() {
        Some(published) => ClassTable::of_repository(published.repository),
        None => model::source_of(Path::new(model)).ok()?.0.capabilities().ok()?.classes,
    }
}

/// By the name of the model or of a repository that publishes it, whether downloaded or not, or by
/// what a checkpoint says of itself.
fn family(model: &OsStr) -> Result<Family> {
    let name = model.to_str().unwrap_or_default();
    let name = name.split('@').next().unwrap_or_default();
    let is_named = |entry: &&&ModelEntry| {
        let repositories = entry.published.iter().map(|published| published.repository);
        let short = repositories.clone().filter_map(|repository| repository.rsplit('/').next());
        let mut names = repositories.chain(short).chain([entry.name]);
        names.any(|known| known.eq_ignore_ascii_case(name))
    };
    let path = Path::new(model);
    match MODELS.iter().find(is_named) {
        Some(entry) if !path.is_dir() => return Ok(entry.family),
        _ => {}
    }
    let (source, _) = model::source_of(path)?;
    let summary = source.summary(None)?;
    match (summary.family, summary.problem) {
        (Some(family), _) => Ok(family),
        (None, Some(problem)) => Err(problem.into()),
        (None, None) => Err(CliError::usage(
            format!("{} does not say which model it is", path.display()),
            "name one of `r1seg models`",
        )),
    }
}
