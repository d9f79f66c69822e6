//! The two files, on one grid.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use r1seg::volume::{
    Geometry, LabelMap, Loaded, LoadedLabels, ReadOptions, Voxels, Warning, read, read_labels,
};

use super::grids::{self, Grids};
use super::naming;
use crate::args::CompareArgs;
use crate::codes::Code;
use crate::exit::CliError;

/// Names of labels by their numbers.
pub(crate) type Names = BTreeMap<u16, String>;

/// What was read of one file.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) path: PathBuf,
    pub(super) kind: &'static str,
    /// As it is in the file.
    pub(super) geometry: Geometry,
    /// On the grid of A.
    pub(super) labels: LabelMap,
    pub(super) names: Names,
}

/// Both files.
#[derive(Debug)]
pub(super) struct Sides {
    pub(super) truth: Side,
    pub(super) predicted: Side,
    /// Whether B was brought onto A's grid.
    pub(super) resampled: bool,
    /// Whether headers disagreed and were ignored as asked.
    pub(super) ignored_affine: bool,
}

impl Sides {
    /// Reads both; `names` are those of both where they are given.
    pub(super) fn read(
        args: &CompareArgs,
        names: Option<&Names>,
        warnings: &mut Vec<Warning>,
    ) -> Result<Self> {
        let options = args.reading.read_options();
        let truth = side("A", &args.truth, &options, names, warnings)?;
        let mut predicted = side("B", &args.predicted, &options, names, warnings)?;
        let (mut resampled, mut ignored_affine) = (false, false);
        match grids::compare(&truth.geometry, &predicted.geometry) {
            Grids::Same => {}
            Grids::OneUnplaced => {
                let unplaced = if truth.geometry.affine().is_none() { "A" } else { "B" };
                let text = format!(
                    "{unplaced} does not say where it lies: it is compared voxel by voxel, in the \
                     other one's millimeters"
                );
                warnings.push(Warning::new("W-GEOM", text));
            }
            Grids::Different(_)
                if args.ignore_affine && truth.geometry.shape() == predicted.geometry.shape() =>
            {
                ignored_affine = true;
            }
            Grids::Different(what) => {
                let moved = match args.resample {
                    true => predicted.labels.onto(&truth.geometry)?,
                    false => None,
                };
                let Some(moved) = moved else {
                    return Err(different(args, what, [&truth.geometry, &predicted.geometry]));
                };
                predicted.labels = moved;
                resampled = true;
            }
        }
        let mut sides = Self { truth, predicted, resampled, ignored_affine };
        // Where A does not say where it lies, B's place is that of both.
        if sides.truth.geometry.affine().is_none() {
            sides.truth.labels = sides.truth.labels.placed(&sides.predicted.geometry)?;
        }
        Ok(sides)
    }
}

fn side(
    which: &str,
    path: &Path,
    options: &ReadOptions,
    given: Option<&Names>,
    warnings: &mut Vec<Warning>,
) -> Result<Side> {
    let _span = tracing::info_span!("read").entered();
    let LoadedLabels { labels, names, warnings: of_file, kind, .. } = read_labels(path, options)?;
    for warning in of_file {
        let text = format!("{which}: {}", warning.text);
        let mut about = Warning::new(warning.code, text);
        about.remedy = warning.remedy;
        warnings.push(about);
    }
    let names = match given {
        Some(given) => given.clone(),
        None if names.is_empty() => naming::beside(path, warnings),
        None => names,
    };
    let (geometry, path) = (labels.geometry().clone(), path.to_path_buf());
    Ok(Side { path, kind: kind.as_str(), geometry, labels, names })
}

fn different(args: &CompareArgs, what: String, grids: [&Geometry; 2]) -> anyhow::Error {
    let error = CliError::new(Code::Grids, format!("the grids differ: {what}")).at(&args.predicted);
    let is_placed = grids.iter().all(|grid| grid.affine().is_some());
    let same_voxels = grids[0].shape() == grids[1].shape();
    let fix = match (is_placed, same_voxels) {
        (true, true) => {
            "--resample brings B onto A's grid; --ignore-affine compares voxel by voxel, where only a \
             header is wrong"
        }
        (true, false) => "--resample brings B onto A's grid",
        (false, _) => {
            "compare masks of the same volume: a file without position cannot be brought onto another \
             grid"
        }
    };
    error.fix(fix).into()
}

/// The voxels of a volume on the grid of A, to draw on.
pub(super) fn image(path: &Path, sides: &Sides) -> Result<Voxels> {
    let Loaded { volume, .. } = read(path, &ReadOptions::default().with_min_axis(1))?;
    let grid = sides.truth.labels.geometry();
    if let Grids::Different(_) = grids::compare(grid, volume.geometry()) {
        let (of_a, own) = (grids::described(grid), grids::described(volume.geometry()));
        let what = format!("the image is not on the grid of A: it is {own}, A is {of_a}");
        let error = CliError::new(Code::Grids, what).at(path);
        return Err(error.fix("name the volume that A was drawn on, or leave --image out").into());
    }
    Ok(volume.into_parts().0)
}
