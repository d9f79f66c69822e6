//! `r1seg compare`: what two masks or label maps have in common.
//!
//! [`sides`] reads both and brings them onto one grid, [`naming`] finds the names of labels and which belong
//! together, [`report`] holds the scores as data, and [`text`] as a table.

mod grids;
mod naming;
mod report;
mod sides;
mod text;

pub(crate) use grids::{Grids, compare as compare_grids};
pub(crate) use naming::{beside, key};

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use r1seg::CancelToken;
use r1seg::volume::{LabelMap, Overwrite, Voxels, Warning};
use r1seg_metrics::{Empties, LabelOptions, compare_labels};
use r1seg_results::preview::{Comparison, Scene, WorstSlice, render_comparison};
use r1seg_results::{OutputFolder, Protected, check_picture_name};

use crate::args::CompareArgs;
use crate::codes::Code;
use crate::exit::{CliError, Exit, say};
use crate::interrupt::Writing;
use crate::{input, model};
use naming::Named;
use report::Report;
use sides::Sides;

pub(crate) fn run(args: &CompareArgs, cancel: CancelToken) -> Result<Exit> {
    let output = args.preview.as_deref().map(|path| open(path, args)).transpose()?;
    let mut warnings = Vec::new();
    let names = args.names.as_deref().map(naming::read).transpose()?;
    let sides = Sides::read(args, names.as_ref(), &mut warnings)?;
    cancel.check()?;
    let image = args.image.as_deref().map(|path| sides::image(path, &sides)).transpose()?;
    let named = Named::of(&sides, args, &mut warnings)?;
    let chosen = named.chosen(&args.labels)?;
    let named = match &chosen {
        Some(chosen) => named.only(chosen)?,
        None => named,
    };
    check_voxels(&named, args, &mut warnings)?;

    let options =
        LabelOptions { empties: args.empty.into(), tolerance_mm: args.surface.tolerance_mm() };
    let span = tracing::info_span!("score").entered();
    let scores = compare_labels(&named.truth, &named.predicted, chosen.as_deref(), options)?;
    drop(span);
    cancel.check()?;

    let report = Report::new(args, &sides, &named, &scores);
    let report = report.with_worst_slice(worst_slice(&named), args.preview.as_deref());
    if let (Some(output), Some(path), Some(worst)) = (&output, &args.preview, report.worst()) {
        draw(output, path, &named, image.as_ref(), &worst)?;
    }
    warnings.iter().for_each(model::warn);
    let text = match args.json {
        true => serde_json::to_string_pretty(&report.with_warnings(&warnings))? + "\n",
        false => r1seg::sanitize_terminal(&text::render(&report)).into_owned(),
    };
    // All at once: a reader who leaves early, as `head` does, is missed quietly.
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(Exit::Answered)
}

/// That there is something to compare.
fn check_voxels(named: &Named, args: &CompareArgs, warnings: &mut Vec<Warning>) -> Result<()> {
    let is_empty = |map: &LabelMap| map.labels().iter().all(|label| *label == 0);
    let missing = match (is_empty(&named.truth), is_empty(&named.predicted)) {
        (false, false) => return Ok(()),
        (true, true) if Empties::from(args.empty) == Empties::RewardAbsent => return Ok(()),
        (true, true) => {
            let what = match args.labels.is_empty() {
                true => "neither mask has a voxel",
                false => "neither mask has a voxel of the labels that are asked for",
            };
            let error = CliError::new(Code::NothingToCompare, what);
            let fix = "name two masks of which one has something in it; --empty reward-absent counts \
                       two without voxels as agreement";
            return Err(error.at(&args.truth).fix(fix).into());
        }
        (true, false) => "A",
        (false, true) => "B",
    };
    let text = format!("{missing} has no voxel: scores are those of --empty {}", named.empties);
    warnings.push(Warning::new("W-EMPTY", text));
    Ok(())
}

fn worst_slice(named: &Named) -> Option<WorstSlice> {
    comparison(named, &Voxels::F32(Vec::new()), ["", ""], "").worst_slice()
}

fn comparison<'a>(
    named: &'a Named,
    volume: &'a Voxels,
    names: [&'a str; 2],
    title: &'a str,
) -> Comparison<'a> {
    Comparison {
        volume,
        shape: named.truth.shape(),
        axes: Scene::axes_of(named.truth.geometry()),
        labels: [named.truth.labels(), named.predicted.labels()],
        names,
        title,
        window: None,
    }
}

/// Draws the worst slice to the file that was named.
fn draw(
    output: &OutputFolder,
    path: &Path,
    named: &Named,
    image: Option<&Voxels>,
    worst: &WorstSlice,
) -> Result<()> {
    let black = || Voxels::from(vec![0_i16; named.truth.geometry().voxels()]);
    let black = image.is_none().then(black);
    let none = Voxels::F32(Vec::new());
    let volume = image.or(black.as_ref()).unwrap_or(&none);
    let last = named.truth.shape()[worst.axis].saturating_sub(1);
    let title = format!(
        "worst slice, {} = {} of 0..{last}: {} voxels differ",
        report::AXES[worst.axis],
        worst.index,
        worst.different
    );
    let comparison = comparison(named, volume, ["A", "B"], &title);
    let picture = render_comparison(&comparison, worst.index);
    let _writing = Writing::begin();
    let mut stage = output.stage()?;
    stage.write(path, &picture.png()?)?;
    stage.commit(&[])?;
    say!("r1seg: preview {}", path.display());
    Ok(())
}

/// Checks, before anything is read, that the picture can be written.
fn open(path: &Path, args: &CompareArgs) -> Result<OutputFolder> {
    check_picture_name(path)?;
    let mut inputs = input::protect(Protected::default(), "A", &args.truth);
    inputs = input::protect(inputs, "B", &args.predicted);
    if let Some(image) = &args.image {
        inputs = input::protect(inputs, "the image", image);
    }
    if let Some(names) = &args.names {
        inputs = inputs.file("the file of --names", names);
    }
    let files = [path.to_path_buf()];
    inputs.check(&files)?;
    let overwrite = if args.force { Overwrite::Replace } else { Overwrite::Refuse };
    Ok(OutputFolder::open(None, overwrite, &files)?)
}
