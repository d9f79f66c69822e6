//! What `segment` takes.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use r1seg::InferenceMode;

use super::infer::OutputArgs;
use super::places::Places;
use super::{ClassArgs, ImageArg, ModelArgs, PrepareArgs, RefineArgs, VolumeArgs};

#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct SegmentArgs {
    #[command(flatten)]
    pub(crate) image: ImageArg,
    /// What to segment, in words. May be given several times: text K becomes label K of the mask.
    ///
    /// SegVol wants the name of an organ or a lesion, and sets it into the sentence that it was trained
    /// with: "liver". R1Seg-3D-SAM wants a whole sentence: "A computerized tomography of a liver." VISTA3D
    /// takes only the names of its classes: see --class. `@FILE` takes every line of a text file that is
    /// not blank as a text of its own, `-` reads one text from standard input.
    #[arg(short, long, value_name = "TEXT|@FILE|-")]
    pub(crate) text: Vec<OsString>,
    /// Segment this organ, by a name in one of seven languages: the text is the one that the model was
    /// trained with. May be given several times, or with commas; each organ becomes a label of its own
    /// name, after the texts.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) organ: Vec<String>,
    /// How the model looks at the volume: `zoom` once at the whole and again at full resolution where
    /// that found something; `resize` once only; `sliding` windows at full resolution, which takes a
    /// text alone; `crop` a part around what was clicked; `grow` that part, and further ones wherever the
    /// mask touches its edge [default: as the model's authors: zoom for SegVol, sliding for
    /// R1Seg-3D-SAM, crop for SAM-Med3D and NeuroSAM3D; VISTA3D has `sliding` alone].
    #[arg(
        long,
        alias = "windows",
        value_name = "zoom|resize|sliding|crop|grow",
        value_parser = mode
    )]
    pub(crate) mode: Option<InferenceMode>,
    #[command(flatten)]
    pub(crate) classes: ClassArgs,
    #[command(flatten)]
    pub(crate) prepare: PrepareArgs,
    #[command(flatten)]
    pub(crate) places: Places,
    #[command(flatten)]
    pub(crate) clicks: ClickArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) refine: RefineArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) volume: VolumeArgs,
}

const EXAMPLES: &str = "\
Examples:
  r1seg segment -m ./SegVol ct.nii.gz --text liver
  r1seg segment -m ./SegVol ct.nii.gz --text liver --text spleen -o organs
  r1seg segment -m ./R1Seg-3D-SAM ct.nii.gz --organ Leber,Milz
  r1seg segment -m ./SegVol ct.nii.gz \\
    --point 210,180,40 --point 150,180,40:neg
  r1seg segment -m ./SegVol ct.nii.gz --text liver \\
    --box-mm -140,-80,910,60,90,1080
  r1seg segment -m ./R1Seg-3D-SAM ct.nii.gz \\
    -t \"A computerized tomography of a liver.\"
  r1seg segment -m ./SAM-Med3D ct.nii.gz \\
    --point 210,180,40 --point 150,180,40:neg
  r1seg segment -m ./NV-Segment-CT ct.nii.gz --class liver,spleen
  r1seg segment -m ./NV-Segment-CT ct.nii.gz --everything
  r1seg segment -m ./NV-Segment-CT ct.nii.gz --class \"hepatic tumor\" \\
    --point 210,180,40
  r1seg segment -m ./SAM-Med3D ct.nii.gz --mode grow \\
    --target liver --point 210,180,40 --target spleen --point 90,160,30

SegVol and SAM-Med3D are published as pickles: `r1seg convert SegVol -o ./SegVol` makes a folder that \
loads. What was found is printed on standard output, one line for each prompt. `r1seg --help` lists the exit codes. \
For research use only: not a medical device.";

/// What models take that are prompted with points one after the other.
#[derive(Debug, Args)]
#[command(next_help_heading = "Clicks")]
pub(crate) struct ClickArgs {
    /// An earlier mask of this volume, from any model, that is to be corrected; of several targets each
    /// has the label of its number.
    #[arg(long, value_name = "FILE")]
    pub(crate) mask_prompt: Option<PathBuf>,
    /// Tell all points in one pass, instead of one after the other, each with what the ones before have
    /// come to, which the model was trained for.
    #[arg(long)]
    pub(crate) at_once: bool,
    /// Show the volume to the model as its axes are stored, and not turned to RAS: the older rule of
    /// SAM-Med3D's authors. The same as `--orient stored`.
    #[arg(long, conflicts_with = "orient")]
    pub(crate) as_stored: bool,
    /// Evaluate: simulate the clicks that SAM-Med3D's authors draw from this true segmentation of the
    /// volume, label by label, and print the Dice of each.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["text", "organ", "target", "point", "point_mm", "region", "box_mm",
                              "center", "mask_prompt", "at_once"]
    )]
    pub(crate) truth: Option<PathBuf>,
    /// Clicks for each label of the truth.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "truth")]
    pub(crate) clicks: u16,
    /// Seed of numpy's generator, from which the clicks of all labels are drawn.
    #[arg(long, value_name = "N", default_value_t = 233, requires = "truth")]
    pub(crate) seed: u32,
}

/// With the name that SAM-Med3D's authors have for one crop.
pub(super) fn mode(text: &str) -> Result<InferenceMode, String> {
    match text {
        "one" => Ok(InferenceMode::Crop),
        _ => text.parse().map_err(|e: r1seg::Error| e.to_string()),
    }
}
