//! Classes of a model that knows what it segments by name.

use std::path::PathBuf;

use clap::Args;
use r1seg::Scan;

/// Which classes, and how their masks are written.
#[derive(Debug, Args)]
#[command(next_help_heading = "Classes (VISTA3D)")]
pub(crate) struct ClassArgs {
    /// Segment this class, by its name or its number. May be given several times, or with commas. A
    /// group, such as lung, stands for all of its parts. `r1seg prompts NV-Segment-CT` lists them.
    /// Labels of the mask are the numbers of the classes.
    #[arg(long = "class", value_name = "NAME|ID", value_delimiter = ',')]
    pub(crate) classes: Vec<String>,
    /// Segment the classes of a text file: a name or a number in each line that is not blank and does not
    /// begin with #.
    #[arg(long, value_name = "FILE")]
    pub(crate) classes_file: Option<PathBuf>,
    /// Segment everything: all classes that do not lie within others, 117 in NV-Segment-CT. Of
    /// NV-Segment-CTMR, say what the scan shows: --everything=ct-body (117 classes), mri-body (50) or
    /// mri-brain (132). The time depends on the volume, and hardly on the number of classes.
    #[arg(
        long,
        value_name = "ct-body|mri-body|mri-brain",
        num_args = 0..=1,
        require_equals = true,
        conflicts_with_all = ["classes", "classes_file", "text", "organ", "target", "point",
                              "point_mm", "region", "box_mm", "center", "mask_prompt", "truth"]
    )]
    pub(crate) everything: Option<Option<Scan>>,
    /// Write a mask for each class: mask_1.nii.gz for class 1, and so on. A voxel that several classes
    /// claim is in all of their masks; without this it is in that of the one with the highest logit.
    #[arg(long)]
    pub(crate) one_file_per_class: bool,
}

impl ClassArgs {
    /// Whether classes are asked for.
    pub(crate) fn is_given(&self) -> bool {
        self.everything.is_some() || !self.classes.is_empty() || self.classes_file.is_some()
    }
}
