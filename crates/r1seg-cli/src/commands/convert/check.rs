//! Whether a converted folder would load, before it is put in its place.

use std::path::Path;

use anyhow::Result;
use r1seg::convert::Converted;
use r1seg::volume::Warning;
use r1seg::{CheckpointSource, ErrorKind, ModelSummary, OutputKind, PromptKind, Remedy};

use crate::args::ConvertArgs;
use crate::capabilities;
use crate::exit::CliError;
use crate::hints;

/// Does what loading does before it reads a tensor, and returns what there is to warn of.
///
/// A folder without a model that r1seg runs cannot be checked, and one without a vocabulary can be
/// given one later: both are legitimate, and warned of.
///
/// # Errors
/// What `infer` would say of a model whose tensors, configuration or tokenizer do not fit, unless
/// that was allowed.
pub(super) fn check(converted: &Converted, args: &ConvertArgs) -> Result<Vec<Warning>> {
    let summary = CheckpointSource::Folder(converted.folder().to_path_buf()).summary(None)?;
    let mut warnings = Vec::new();
    match command_of(&summary) {
        Some(command) => {
            warnings.extend(check_model(&summary, command, args)?);
            if summary.lacks_vocabulary() {
                warnings.push(no_vocabulary(&summary, command));
            }
        }
        None if converted.report().has_config => {
            let model_type = summary.model_type.as_deref().unwrap_or_default();
            let text = format!(
                "config.json describes no model that r1seg runs (model_type `{model_type}`): \
                 whether the result loads was not checked"
            );
            warnings.push(Warning::new("W-MODEL", text).with_remedy(Remedy::ListModels));
        }
        None => {
            let text = "the source has no config.json: whether the result loads was not checked";
            warnings.push(Warning::new("W-FILES", text).with_remedy("--base DIR with one"));
        }
    }
    if command_of(&summary).is_none() && !converted.report().has_tokenizer {
        let text = "the source has no tokenizer files";
        warnings.push(Warning::new("W-FILES", text).with_remedy("--base DIR with them"));
    }
    Ok(warnings)
}

/// The command that runs such models.
fn command_of(summary: &ModelSummary) -> Option<&'static str> {
    Some(capabilities::command(summary.family?.capabilities()))
}

fn check_model(
    summary: &ModelSummary,
    command: &str,
    args: &ConvertArgs,
) -> Result<Option<Warning>> {
    let Some(problem) = summary.problem_beside_vocabulary() else {
        return Ok(None);
    };
    let what = format!("`{command}` would refuse the converted model: {}", problem.message());
    if args.no_check_model {
        return Ok(Some(Warning::new("W-MODEL", what)));
    }
    let remedy = problem.remedy().map(|remedy| format!("{}; ", hints::words(&remedy)));
    let remedy = remedy.unwrap_or_default();
    Err(CliError {
        code: problem.code(),
        kind: ErrorKind::Model,
        what,
        // The folder that it is about is not there.
        path: Some(Path::new(&args.source).to_path_buf()),
        fix: Some(format!("{remedy}--no-check-model writes the folder all the same")),
    }
    .into())
}

fn no_vocabulary(summary: &ModelSummary, command: &str) -> Warning {
    let text = format!("the source has no tokenizer files, which `{command}` needs");
    let reads_clip = summary.family.is_some_and(|family| {
        let can = family.capabilities();
        can.takes(PromptKind::Text) && can.gives(OutputKind::Mask)
    });
    let fix = match reads_clip {
        true => "put the tokenizer.json of openai/clip-vit-base-patch32 into the new folder",
        false => "--base DIR with them",
    };
    Warning::new("W-FILES", text).with_remedy(fix)
}
