//! `--refine-with`: what was found, drawn again by a second model.

use std::path::Path;

use anyhow::Result;
use r1seg::volume::Warning;
use r1seg::{CancelToken, ErrorKind};
use r1seg_results::{Input, Obtained};

use crate::args::InferArgs;
use crate::exit::{self, CliError, Reported, say};
use crate::progress::Progress;
use crate::prompts;
use crate::refiner::SecondModel;

/// The second model, if one is named, before anything large is read.
pub(super) fn find(args: &InferArgs) -> Result<Option<SecondModel>> {
    let Some(path) = &args.refine_with.refine_with else { return Ok(None) };
    if args.output.mask.as_deref().is_some_and(crate::input::is_stdin) {
        return Err(CliError::usage(
            "--mask - writes one mask, and --refine-with keeps two that overlap",
            "name a file with --mask FILE, or a folder with --out DIR",
        ));
    }
    SecondModel::find(Path::new(path), args.refine_with.refine_mode).map(Some)
}

/// The labels that so many prompts may get.
pub(super) fn labels(second: Option<&SecondModel>, prompts: usize) -> Result<usize> {
    let labels = if second.is_some() { 2 * prompts } else { prompts };
    prompts::check_number(labels)?;
    Ok(labels)
}

/// What there is to say of refining, beside what the model itself has to say.
#[derive(Default)]
pub(super) struct Refining {
    pub(super) warning: Option<Warning>,
    /// What it failed for. The answers and their masks are written all the same.
    pub(super) error: Option<anyhow::Error>,
}

/// Loads the second model if something was found, and lets it draw that again.
pub(super) fn run(
    args: &InferArgs,
    second: SecondModel,
    input: &Input,
    obtained: &mut Obtained,
    cancel: &CancelToken,
) -> Result<Refining> {
    let labels = obtained.refinable();
    let name = second.name.id.clone();
    if labels.is_empty() {
        let text = format!("nothing was found that could be refined: {name} was not loaded");
        return Ok(Refining { warning: Some(Warning::new("W-REFINE", text)), error: None });
    }
    let progress = Progress::new(args.output.quiet);
    let done = refine(args, second, input, (obtained, &labels), (&progress, cancel));
    progress.clear();
    let Err(error) = done else { return Ok(Refining::default()) };
    if exit::kind(&error) == Some(ErrorKind::Cancelled) {
        return Err(error);
    }
    let text = format!("{name} could not refine everything: {error}; masks stay as they are");
    let warning = Some(Warning::new("W-REFINE", text));
    // Standard output carries the report.
    let error = if args.output.json { error.context(Reported) } else { error };
    Ok(Refining { warning, error: Some(error) })
}

fn refine(
    args: &InferArgs,
    second: SecondModel,
    input: &Input,
    (obtained, labels): (&mut Obtained, &[u16]),
    (progress, cancel): (&Progress, &CancelToken),
) -> Result<()> {
    let all = obtained.given().len() + labels.len();
    let loaded =
        second.load(&input.volume, (&args.model, &args.volume), all, (progress, cancel))?;
    if !args.output.quiet {
        progress.clear();
        let (name, device) = (&loaded.of.name.id, loaded.model.device_name());
        say!("r1seg: refining with {name} on {device} ({})", loaded.model.dtype_name());
    }
    loaded.refine(obtained, labels, (progress, cancel))
}
