//! `r1seg embed`: vectors of volumes and texts.

use std::io::Write;

use anyhow::Result;
use r1seg::CancelToken;
use r1seg::volume::Overwrite;
use r1seg_results::report::WarningReport;
use r1seg_results::{OutputFolder, Protected};
use serde::Serialize;

use super::batch::{Batch, Failed, Several};
use super::check_series;
use super::encoder::{Embedded, Encoder};
use super::vectors::VectorFormat;
use crate::args::EmbedArgs;
use crate::candidates;
use crate::exit::{CliError, Exit, say};
use crate::hints;
use crate::input::{self, is_stdin};
use crate::interrupt::Writing;
use crate::{model, prompts};

/// What the rows of a file are.
#[derive(Debug, Serialize)]
struct Names<'a> {
    model: &'a str,
    width: usize,
    /// The authors' logit of two vectors is their product times this.
    logit_scale: f32,
    rows: Vec<Row<'a>>,
    /// Volumes that have no row.
    failed: &'a [Failed],
    warnings: Vec<WarningReport>,
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    kind: &'static str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipe: Option<&'a str>,
}

impl<'a> Row<'a> {
    fn of(item: &'a Embedded) -> Self {
        let recipe = item.recipe.as_deref();
        Self { kind: if recipe.is_some() { "volume" } else { "text" }, name: &item.name, recipe }
    }
}

pub(crate) fn run(args: &EmbedArgs, cancel: CancelToken) -> Result<Exit> {
    let format = VectorFormat::from_path(&args.out)?;
    if args.image.is_empty() && args.text.is_empty() {
        return Err(CliError::usage(
            "there is nothing to embed",
            "give volumes with --image, texts with --text, or both",
        ));
    }
    let stdins = args.image.iter().filter(|path| is_stdin(path)).count()
        + usize::from(args.text.iter().any(|text| text == "-"));
    if stdins > 1 {
        return Err(CliError::usage(
            "standard input can be read once only",
            "use - for one volume or one text",
        ));
    }
    let texts = prompts::texts(&args.text, "--text")?;
    let volumes = candidates::expand(&args.image);
    check_series(args.volume.series.as_deref(), &volumes)?;
    let files: Vec<_> =
        std::iter::once(args.out.clone()).chain(format.sidecar(&args.out)).collect();
    let inputs = prompts::protect(Protected::default(), &args.text);
    let mut inputs = inputs.model(&model::source(&args.model)?.0);
    for path in args.image.iter().chain(&args.volume.affine_from).chain(&args.slice_features) {
        inputs = input::protect(inputs, "a volume", path);
    }
    inputs.check(&files)?;
    let overwrite = if args.force { Overwrite::Replace } else { Overwrite::Refuse };
    let output = OutputFolder::open(None, overwrite, &files)?;

    let quiet = args.quiet;
    let encoder = Encoder::open(&args.model, &args.volume, &args.prepare, quiet, cancel)?;
    let mut encoder = encoder.with_slice_features(&volumes.paths, &args.slice_features)?;
    // Texts first: one that cannot be read costs nothing then.
    let texts = encoder.texts(&texts)?;
    let mut batch = Batch::of(&mut encoder, volumes, Several::Each)?;
    let mut rows = std::mem::take(&mut batch.embedded);
    rows.extend(texts);

    let width = encoder.clip.width();
    let warnings = encoder.take_warnings();
    let names = Names {
        model: &encoder.model,
        width,
        logit_scale: encoder.clip.logit_scale(),
        rows: rows.iter().map(Row::of).collect(),
        failed: &batch.failed,
        warnings: warnings.iter().map(|w| WarningReport::new(w, hints::words)).collect(),
    };
    let names = serde_json::to_string_pretty(&names)? + "\n";
    if !rows.is_empty() {
        let _writing = Writing::begin();
        let mut stage = output.stage()?;
        stage.write(&args.out, &format.bytes(&rows, width, &names)?)?;
        if let Some(sidecar) = format.sidecar(&args.out) {
            stage.write(&sidecar, names.as_bytes())?;
        }
        stage.commit(&[])?;
    }
    if args.json {
        std::io::stdout().write_all(names.as_bytes())?;
    }
    if !quiet && !rows.is_empty() {
        let s = if rows.len() == 1 { "" } else { "s" };
        say!("r1seg: {} vector{s} of {width} numbers in {}", rows.len(), args.out.display());
    }
    Ok(batch.exit(!rows.is_empty()))
}
