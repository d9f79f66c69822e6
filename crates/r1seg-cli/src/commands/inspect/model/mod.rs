//! What a checkpoint is, and whether `infer` would take it.

mod findings;
mod planned;
mod text;

use std::path::{Path, PathBuf};

use anyhow::Result;
use r1seg::convert::Sandbox;
use r1seg::{CheckpointSource, Diagnostic, FoundModel, WeightsFileSummary, is_pickle};
use r1seg_results::parent;

use super::{load, print};
use crate::args::InspectArgs;
use crate::commands::convert::SANDBOX;
use crate::exit::{CliError, Exit, Reported, say};
use crate::model::ModelName;
use crate::names;
use findings::Findings;
use planned::Planned;

const CONFIG: &str = "config.json";

/// The part of a model that is inspected.
pub(super) enum Subject {
    Model(CheckpointSource, ModelName),
    /// A file of weights, or `config.json`, by itself.
    File(PathBuf),
}

/// The model that a person means, unless they mean a volume.
pub(super) fn named(path: &Path) -> Result<Option<Subject>> {
    let model = |source: CheckpointSource| {
        let FoundModel { checkpoint, name, .. } = source.into();
        Subject::Model(checkpoint, name)
    };
    let in_folder = |folder: &Path| model(CheckpointSource::Folder(folder.to_path_buf()));
    if path.is_dir() {
        return Ok(holds_a_model(path).then(|| in_folder(path)));
    }
    if path.exists() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_model = path.is_file()
            && (is_weights(&name)
                || name == CONFIG
                || name.ends_with(".gguf")
                || r1seg::is_gguf(path));
        return Ok(is_model.then(|| Subject::File(path.to_path_buf())));
    }
    if path == Path::new("demo") {
        return Ok(Some(model(CheckpointSource::demo())));
    }
    let found = path.to_str().map(names::resolve_if_there).transpose()?.flatten();
    Ok(found.map(|folder| in_folder(&folder)))
}

/// A folder of DICOM files has none of these.
fn holds_a_model(folder: &Path) -> bool {
    let mut names = std::fs::read_dir(folder).into_iter().flatten().flatten();
    names.any(|entry| {
        let name = entry.file_name();
        name == CONFIG || is_weights(&name.to_string_lossy())
    })
}

fn is_weights(name: &str) -> bool {
    is_pickle(name) || name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json")
}

pub(super) fn run(args: &InspectArgs, subject: &Subject) -> Result<Exit> {
    if args.preview.is_some() {
        return Err(CliError::usage("a model has no picture", "leave out --preview"));
    }
    let sandbox = Sandbox { program: std::env::current_exe()?, arguments: vec![SANDBOX.into()] };
    let (mut findings, problem) = match subject {
        Subject::Model(source, name) => of_model(args, source, name, &sandbox)?,
        Subject::File(path) => of_file(args, path, &sandbox)?,
    };
    if let (Some(image), Subject::Model(source, _)) = (&args.with_image, subject)
        && problem.is_none()
    {
        let loaded = load(image, &args.volume)?;
        let memory = &findings.memory;
        let planned = Planned::new(source, image, &loaded.volume, args.volume.turns(), memory)?;
        findings.run = Some(planned);
    }
    let text = if args.json {
        serde_json::to_string_pretty(&findings)? + "\n"
    } else {
        r1seg::sanitize_terminal(&text::render(&findings)).into_owned()
    };
    print(&text)?;
    // All of it is worth knowing, and that `infer` would fail, too.
    match problem {
        Some(problem) => Err(problem.context(Reported)),
        None => Ok(Exit::Answered),
    }
}

/// Findings, and the error that `infer` would end with.
type Found = (Findings, Option<anyhow::Error>);

fn of_model(
    args: &InspectArgs,
    source: &CheckpointSource,
    name: &ModelName,
    sandbox: &Sandbox,
) -> Result<Found> {
    let mut summary = source.summary(Some(sandbox))?;
    if args.check_tensors && summary.problem.is_none() {
        match source.check_tensors() {
            Ok(tensors) => say!("r1seg: no NaN or infinity in {tensors} tensors"),
            Err(error) => summary.problem = Some(error),
        }
    }
    let findings = Findings::of_model(&args.image, source, name, &summary);
    Ok((findings, summary.problem.map(Into::into)))
}

/// A file is not what `infer` takes, whatever is in it.
fn of_file(args: &InspectArgs, path: &Path, sandbox: &Sandbox) -> Result<Found> {
    let refused = r1seg::not_a_folder(path);
    if path.ends_with(CONFIG) {
        let source = CheckpointSource::Folder(parent(path).to_path_buf());
        let FoundModel { name, .. } = source.clone().into();
        let mut findings = Findings::of_model(&args.image, &source, &name, &source.summary(None)?);
        findings.refuse(&CliError::from(&refused as &dyn Diagnostic));
        return Ok((findings, Some(refused.into())));
    }
    Ok(match WeightsFileSummary::read(path, Some(sandbox)) {
        Ok(file) => (
            Findings::of_file(path, Some(&file), &CliError::from(&refused as &dyn Diagnostic)),
            Some(refused.into()),
        ),
        // What is wrong with the file is worth more than that it is one.
        Err(error) => (
            Findings::of_file(path, None, &CliError::from(&error as &dyn Diagnostic)),
            Some(error.into()),
        ),
    })
}
