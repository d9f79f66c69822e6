//! What a checkpoint is, and whether `infer` would take it.

mod findings;
mod text;

use std::path::Path;

use anyhow::Result;
use r1seg::convert::Sandbox;
use r1seg::{CheckpointSource, is_pickle};

use super::print;
use crate::args::InspectArgs;
use crate::commands::convert::SANDBOX;
use crate::exit::{CliError, Exit, Reported};
use crate::names;
use crate::study::ModelName;
use findings::Findings;

/// The model that a person means, unless they mean a volume.
pub(super) fn named(path: &Path) -> Result<Option<(CheckpointSource, ModelName)>> {
    let in_folder = |folder: &Path| {
        let source = CheckpointSource::Folder(folder.to_path_buf());
        Some((source, ModelName::of(folder)))
    };
    if path.is_dir() {
        return Ok(in_folder(path).filter(|_| holds_a_model(path)));
    }
    if path.exists() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        let folder = folder.unwrap_or(Path::new("."));
        let is_model = is_weights(&name) || name == "config.json";
        let is_beside_config = name.ends_with(".gguf") && folder.join("config.json").is_file();
        return Ok(in_folder(folder).filter(|_| is_model || is_beside_config));
    }
    if path == Path::new("demo") {
        return Ok(Some((CheckpointSource::demo(), ModelName::demo())));
    }
    let found = path.to_str().map(names::resolve_if_there).transpose()?.flatten();
    Ok(found.and_then(|folder| in_folder(&folder)))
}

/// A folder of DICOM files has none of these.
fn holds_a_model(folder: &Path) -> bool {
    let mut names = std::fs::read_dir(folder).into_iter().flatten().flatten();
    names.any(|entry| {
        let name = entry.file_name();
        name == "config.json" || is_weights(&name.to_string_lossy())
    })
}

fn is_weights(name: &str) -> bool {
    is_pickle(name) || name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json")
}

pub(super) fn run(args: &InspectArgs, source: &CheckpointSource, name: &ModelName) -> Result<Exit> {
    if args.preview.is_some() {
        return Err(CliError::usage("a model has no picture", "leave out --preview"));
    }
    let sandbox = Sandbox { program: std::env::current_exe()?, arguments: vec![SANDBOX.into()] };
    let summary = source.summary(Some(&sandbox))?;
    let findings = Findings::new(&args.image, name, &summary);
    let text = if args.json {
        serde_json::to_string_pretty(&findings)? + "\n"
    } else {
        r1seg::sanitize_terminal(&text::render(&findings)).into_owned()
    };
    print(&text)?;
    // All of it is worth knowing, and that `infer` would fail, too.
    match summary.problem {
        Some(problem) => Err(anyhow::Error::from(problem).context(Reported)),
        None => Ok(Exit::Answered),
    }
}
