//! `r1seg models`: what r1seg can run.

use std::io::Write;

use anyhow::Result;
use r1seg::registry::{LicenseStatement, MODELS, ModelEntry, Task};
use r1seg_results::report::separator_name;
use serde::Serialize;

use crate::args::ModelsArgs;
use crate::capabilities;
use crate::exit::Exit;

#[derive(Serialize)]
struct Model {
    name: &'static str,
    command: &'static str,
    model_types: Vec<&'static str>,
    config_fields: &'static [&'static str],
    published: Vec<Published>,
    tasks: Vec<TaskRow>,
    licenses: Vec<LicenseRow>,
}

#[derive(Serialize)]
struct Published {
    /// That `download` and `--model` take, where there is one.
    alias: Option<&'static str>,
    repository: &'static str,
}

/// What the publisher of a part of a model says about its use.
#[derive(Debug, Serialize)]
pub(crate) struct LicenseRow {
    /// `code`, or the repository of the weights.
    pub(crate) part: &'static str,
    /// Null where none is stated.
    pub(crate) license: Option<&'static str>,
    /// Where that is said, or where nothing is.
    pub(crate) source: &'static str,
}

impl From<&LicenseStatement> for LicenseRow {
    fn from(statement: &LicenseStatement) -> Self {
        let LicenseStatement { part, license, source, .. } = *statement;
        Self { part, license, source }
    }
}

impl std::fmt::Display for LicenseRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { part, license, source } = self;
        write!(f, "{part}: {} ({source})", license.unwrap_or("not stated"))
    }
}

#[derive(Serialize)]
struct TaskRow {
    name: &'static str,
    example: String,
    separator: Option<&'static str>,
}

impl TaskRow {
    fn of(entry: &ModelEntry, task: &Task) -> Self {
        let example = capabilities::example(&entry.capabilities, &task.example);
        Self { name: task.name, example, separator: task.separator.map(separator_name) }
    }
}

impl Model {
    fn of(entry: &&'static ModelEntry) -> Self {
        let published = |published: &r1seg::registry::Published| Published {
            alias: cfg!(feature = "hub").then_some(published.alias),
            repository: published.repository,
        };
        Self {
            name: entry.name,
            command: capabilities::command(&entry.capabilities),
            model_types: entry.model_types.iter().map(|known| known.name).collect(),
            config_fields: entry.evidence,
            published: entry.published.iter().map(published).collect(),
            tasks: entry.tasks.iter().map(|task| TaskRow::of(entry, task)).collect(),
            licenses: entry.licenses.iter().map(LicenseRow::from).collect(),
        }
    }

    fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        writeln!(out, "{} (r1seg {})", self.name, self.command)?;
        let names: Vec<&str> =
            self.published.iter().map(|p| p.alias.unwrap_or(p.repository)).collect();
        let names = if names.is_empty() { "no weights".to_string() } else { names.join(", ") };
        writeln!(out, "  published     {names}")?;
        let fields = match self.config_fields {
            [] => String::new(),
            fields => format!(" (with {} in config.json)", fields.join(" or ")),
        };
        writeln!(out, "  model_type    {}{fields}", self.model_types.join(", "))?;
        for task in &self.tasks {
            writeln!(out, "  {:<13} {}", task.name, task.example)?;
        }
        for (number, row) in self.licenses.iter().enumerate() {
            writeln!(out, "  {:<13} {row}", if number == 0 { "license" } else { "" })?;
        }
        Ok(())
    }
}

pub(crate) fn run(args: &ModelsArgs) -> Result<Exit> {
    let models: Vec<Model> = MODELS.iter().map(Model::of).collect();
    print_list(&models, args.json, |model, out| model.write(out))
}

/// Prints entries as one JSON array, or as text with an empty line between them.
pub(super) fn print_list<T: Serialize>(
    entries: &[T],
    json: bool,
    write: impl Fn(&T, &mut std::io::StdoutLock<'_>) -> std::io::Result<()>,
) -> Result<Exit> {
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(entries)?)?;
        return Ok(Exit::Answered);
    }
    for (index, entry) in entries.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        write(entry, &mut out)?;
    }
    Ok(Exit::Answered)
}
