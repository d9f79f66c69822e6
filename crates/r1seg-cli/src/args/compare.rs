//! What `compare` takes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use r1seg::volume::ReadOptions;
use r1seg_metrics::Empties;

use super::volume::{Axes, bytes, spacing};

#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct CompareArgs {
    /// The truth, or what else the other is measured against: a mask or a label map in NIfTI, NRRD
    /// (.seg.nrrd) or numpy format.
    #[arg(value_name = "A")]
    pub(crate) truth: PathBuf,
    /// The mask or label map that is compared with it.
    #[arg(value_name = "B")]
    pub(crate) predicted: PathBuf,
    /// Compare this label alone, by its number or name; once for each label. A=B compares label A of the first
    /// with label B of the second.
    #[arg(short, long = "label", value_name = "N|NAME|A=B")]
    pub(crate) labels: Vec<String>,
    /// Compare all labels of each as one mask.
    #[arg(long, conflicts_with_all = ["labels", "by"])]
    pub(crate) any_label: bool,
    /// Names of labels for both: a labels.json of r1seg, the dataset.json of nnU-Net, or another JSON
    /// object of numbers and names [default: those in a .seg.nrrd, or of labels.json beside the file].
    #[arg(long, value_name = "FILE")]
    pub(crate) names: Option<PathBuf>,
    /// Which labels belong together: those of the same number, or those of the same name.
    #[arg(long, default_value = "number", value_name = "number|name", hide_possible_values = true)]
    pub(crate) by: By,
    /// Bring B onto the grid of A, label by nearest voxel, where the two grids differ.
    #[arg(long, conflicts_with = "ignore_affine")]
    pub(crate) resample: bool,
    /// Compare voxel by voxel where the grids have as many voxels, whatever the headers say of their place;
    /// millimeters are A's.
    #[arg(long)]
    pub(crate) ignore_affine: bool,
    #[command(flatten)]
    pub(crate) surface: SurfaceArgs,
    /// What a score is where a label has no voxels: what its formula says, none where A has none
    /// (skip-absent), or the best where both have none and the worst where one has none (reward-absent).
    #[arg(
        long,
        default_value = "formula",
        value_name = "formula|skip-absent|reward-absent",
        hide_possible_values = true
    )]
    pub(crate) empty: EmptyPolicy,
    /// Print the scores as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    /// Draw the axial slice in which the two differ most to this file (PNG).
    #[arg(long, value_name = "FILE")]
    pub(crate) preview: Option<PathBuf>,
    /// The CT under the picture, on the grid of A.
    #[arg(short, long, value_name = "FILE", requires = "preview")]
    pub(crate) image: Option<PathBuf>,
    /// Replace the picture if it exists already.
    #[arg(long, requires = "preview")]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) reading: ReadingArgs,
}

/// What is known about both files beyond them.
#[derive(Debug, Args)]
#[command(next_help_heading = "Reading the masks")]
pub(crate) struct ReadingArgs {
    /// Which frame of a file that holds several, counted from 0.
    #[arg(long, value_name = "K")]
    frame: Option<usize>,
    /// Which array of an .npz archive, by name.
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// Order of the axes of a numpy array: zyx (slices first) or xyz (slices last) [default: zyx].
    #[arg(long, value_name = "zyx|xyz", hide_possible_values = true)]
    axes: Option<Axes>,
    /// Size of a voxel in mm, slices first, for files that do not say it: --spacing 5,0.8,0.8.
    #[arg(long, value_name = "Z,Y,X", value_parser = spacing, allow_hyphen_values = true)]
    spacing: Option<[f64; 3]>,
    /// Largest mask that is read, in bytes of its voxels: a number, or one with a unit such as MB or GiB.
    #[arg(long, default_value = "4GiB", value_name = "SIZE", value_parser = bytes)]
    max_input_bytes: u64,
}

impl ReadingArgs {
    pub(crate) fn read_options(&self) -> ReadOptions {
        // A mask may be one slice.
        let mut options =
            ReadOptions::default().with_max_bytes(self.max_input_bytes).with_min_axis(1);
        if let Some(frame) = self.frame {
            options = options.with_frame(frame);
        }
        if let Some(key) = &self.key {
            options = options.with_key(key);
        }
        if let Some(axes) = self.axes {
            options = options.with_axes(axes.into());
        }
        if let Some(spacing) = self.spacing {
            options = options.with_spacing_mm(spacing);
        }
        options
    }
}

/// How surfaces are compared.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct SurfaceArgs {
    /// How far apart surfaces may be that count as the same, in mm, for the surface Dice (NSD).
    #[arg(long, default_value_t = 1.0, value_name = "MM", value_parser = tolerance)]
    pub(crate) tolerance_mm: f64,
    /// Leave out surface Dice and distances.
    #[arg(long)]
    pub(crate) no_surface: bool,
}

impl SurfaceArgs {
    /// How far apart surfaces may be, in mm; `None` where they are not compared.
    pub(crate) fn tolerance_mm(self) -> Option<f64> {
        (!self.no_surface).then_some(self.tolerance_mm)
    }
}

/// Which labels belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    Number,
    Name,
}

/// [`Empties`] as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EmptyPolicy {
    Formula,
    SkipAbsent,
    RewardAbsent,
}

impl From<EmptyPolicy> for Empties {
    fn from(policy: EmptyPolicy) -> Self {
        match policy {
            EmptyPolicy::Formula => Self::Formula,
            EmptyPolicy::SkipAbsent => Self::SkipAbsent,
            EmptyPolicy::RewardAbsent => Self::RewardAbsent,
        }
    }
}

fn tolerance(text: &str) -> Result<f64, String> {
    let mm = text.trim().parse().ok().filter(|mm: &f64| mm.is_finite() && 0.0 <= *mm);
    mm.ok_or_else(|| "a number of millimeters of 0 or more is needed, such as 2 or 1.5".to_owned())
}

const EXAMPLES: &str = "\
Examples:
  r1seg compare truth.nii.gz results/mask.nii.gz
  r1seg compare truth.seg.nrrd mask.nii.gz --by name --tolerance-mm 2
  r1seg compare truth.nii.gz mask.nii.gz --label liver --label 3 --json
  r1seg compare truth.nii.gz liver_mask.nii.gz --label liver=1
  r1seg compare truth.nii.gz mask.nii.gz --preview worst.png --image ct.nii.gz

Distances are in mm between border voxels, along the axes of A's grid. HD95 is the larger of both \
directions' 95th percentiles, as MONAI has it; --json also has that of both directions together (MedPy, \
nnU-Net) and that by area (surface-distance). The surface Dice (NSD) is by area, as surface-distance has it.";
