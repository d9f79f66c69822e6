//! What `chat` takes, on its command line and in its lines.

use std::path::PathBuf;

use clap::Args;
use r1seg::volume::{Geometry, Region};
use r1seg::{InferenceMode, Prompt, PromptPoint};
use r1seg_results::preview::Window;

use super::boxes::{self, Millimeters};
use super::infer::AnswerArgs;
use super::points::{Point, point_millimeters, point_voxels, voxel};
use super::segment::mode;
use super::{ImageArg, ModelArgs, PrepareArgs, RefineArgs, VolumeArgs};

#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ChatArgs {
    #[command(flatten)]
    pub(crate) image: ImageArg,
    /// Keep the lines that are typed in this file, and offer those of earlier conversations with the
    /// arrow keys. They may say something about a patient: without this, nothing is kept.
    #[arg(long, value_name = "FILE")]
    pub(crate) history: Option<PathBuf>,
    /// How the model sees the volume: for models that answer questions `resize` (in one pass) or
    /// `sliding`, for others as in `r1seg segment` [default: as the model's authors].
    #[arg(long, value_name = "resize|sliding|zoom|crop|grow", value_parser = mode)]
    pub(crate) mode: Option<InferenceMode>,
    /// Intensities that are black and white in pictures: soft, mediastinum, liver, lung, bone, brain, or
    /// LEVEL,WIDTH in the units of the volume [default: what shows the mask best].
    #[arg(long, value_name = "NAME|L,W", allow_hyphen_values = true)]
    pub(crate) window: Option<Window>,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) refine: RefineArgs,
    #[command(flatten)]
    pub(crate) prepare: PrepareArgs,
    #[command(flatten)]
    pub(crate) answers: AnswerArgs,
    #[command(flatten)]
    pub(crate) volume: VolumeArgs,
}

const EXAMPLES: &str = "\
Examples:
  r1seg chat -m R1Seg-3D-Phi-3-4B ct.nii.gz
  r1seg chat -m ./SAM-Med3D ct.nii.gz
  printf '%s\\n' 'Can you segment the liver?' /mask '/save results' | \\
    r1seg chat -m R1Seg-3D-Phi-3-4B ct.nii.gz

A line is a question or, for a model that answers none, a text to segment; /help lists the commands. \
Ctrl-C stops an answer, and twice at an empty line leaves, as Ctrl-D does. Lines that do not come from a \
terminal are answered one after the other, without prompts; the exit code is then the largest of theirs, 0 \
if all of them could be done. docs/chat.md tells more. For research use only: not a medical device.";

/// A point or a box as typed in a line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TypedPlace(Typed);

#[derive(Debug, Clone, PartialEq)]
enum Typed {
    Point(Point<i64>),
    PointMm(Point<f64>),
    Box(Region),
    BoxMm(Millimeters),
}

impl TypedPlace {
    /// What follows a command of this name.
    pub(crate) fn parse(command: &str, text: &str) -> Result<Self, String> {
        Ok(Self(match command {
            "points" => Typed::Point(point_voxels(text)?),
            "points-mm" => Typed::PointMm(point_millimeters(text)?),
            "box" => Typed::Box(boxes::voxels(text)?),
            _ => Typed::BoxMm(boxes::millimeters(text)?),
        }))
    }

    /// Adds it to a prompt, in voxels of a volume.
    pub(crate) fn add_to(
        &self,
        prompt: Prompt,
        geometry: &Geometry,
    ) -> Result<Prompt, r1seg::Error> {
        let point = |voxel, positive| PromptPoint { voxel, positive };
        let prompt = match &self.0 {
            Typed::Point(of) => prompt.with_point(point(voxel(of.at), of.positive)),
            Typed::PointMm(of) => {
                prompt.with_point(point(geometry.voxel_from_mm(of.at)?, of.positive))
            }
            Typed::Box(region) => prompt.with_region(*region),
            Typed::BoxMm(corners) => {
                let region = boxes::region(None, Some(*corners), geometry)?;
                region.into_iter().fold(prompt, Prompt::with_region)
            }
        };
        prompt.check_in(geometry)?;
        Ok(prompt)
    }
}
