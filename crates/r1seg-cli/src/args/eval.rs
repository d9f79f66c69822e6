//! What `eval` takes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use r1seg::InferenceMode;

use super::batch::{BatchAskedArgs, BatchFilesArgs, OrderArgs};
use super::compare::{EmptyPolicy, SurfaceArgs};
use super::infer::AnswerArgs;
use super::segment::mode;
use super::{BatchArgs, ModelArgs, PrepareArgs, RefineArgs, RetrieveArgs, VolumeArgs};

#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct EvalArgs {
    /// The cases: a `batch` list with the truth of each volume, or a published file (--layout).
    #[arg(long, value_name = "FILE")]
    pub(crate) data: PathBuf,
    /// The layout of the data, which also sets the task.
    #[arg(long, value_enum, default_value = "list", hide_possible_values = true)]
    pub(crate) layout: Layout,
    /// Which part of a published file.
    #[arg(long, default_value = "test", value_name = "NAME")]
    pub(crate) split: String,
    /// The folder that paths in a published file begin in [default: the folder of the file].
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Names of the classes of M3D-Seg, by the code of their data set and their number: a JSON object such as
    /// {"0003": {"0": "liver"}}.
    #[arg(long, value_name = "FILE")]
    pub(crate) class_names: Option<PathBuf>,
    /// Questions to draw from, instead of those that the model's row of `r1seg prompts` has: a JSON object
    /// of lists, `segment`, `reasoning`, `find with box`, `region` and `describe`, with {organ},
    /// {description} and {box} in them.
    #[arg(long, value_name = "FILE")]
    pub(crate) templates: Option<PathBuf>,
    /// Seed for drawing questions from several templates; cases.jsonl records each question.
    #[arg(long, default_value_t = 42, value_name = "N")]
    pub(crate) draw: u64,
    /// Evaluate the first N cases only.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Simulate 1 to N clicks for each label of the truth, as SAM-Med3D's authors do, in place of prompts.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) clicks: Option<u16>,
    /// Score what an earlier run has left in the folder, and run nothing.
    #[arg(long)]
    pub(crate) score_only: bool,
    #[command(flatten)]
    pub(crate) surface: SurfaceArgs,
    /// What a score is where a label has no voxels, as for `compare`.
    #[arg(
        long,
        default_value = "skip-absent",
        value_name = "formula|skip-absent|reward-absent",
        hide_possible_values = true
    )]
    pub(crate) empty: EmptyPolicy,
    /// Folder of all results: eval.json, eval.csv, report.html, and what `batch` writes. Retrieval writes
    /// pairs.csv alone, and prints its numbers.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// How the model looks at each volume [default: as for `infer` and `segment`].
    #[arg(long, value_name = "resize|sliding|zoom|crop|grow", value_parser = mode)]
    pub(crate) mode: Option<InferenceMode>,
    #[command(flatten)]
    pub(crate) order: OrderArgs,
    #[command(flatten)]
    pub(crate) files: BatchFilesArgs,
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

/// A published layout of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Layout {
    /// A list of `batch`, JSON lines or CSV, whose rows also say the truth (docs/eval.md).
    List,
    /// M3D-Seg's JSON of images and masks of one class each: semantic segmentation.
    M3dSeg,
    /// The same, asked for by descriptions: referring expression segmentation. Needs --templates with
    /// `descriptions`.
    M3dRes,
    /// The same, for the box around the mask: referring expression comprehension.
    M3dRec,
    /// The same, asked what is in the box: referring expression generation.
    M3dReg,
    /// M3D-RefSeg's CSV of questions and masks.
    M3dRefseg,
    /// M3D-Cap's JSON of images and reports: report generation; with a model that retrieves, retrieval.
    M3dCap,
    /// M3D-VQA's CSV, with choices.
    M3dVqaClosed,
    /// M3D-VQA's CSV, without choices.
    M3dVqaOpen,
}

impl EvalArgs {
    /// The run of `retrieve` that measures these pairs.
    pub(crate) fn into_retrieve(self, pairs: PathBuf) -> RetrieveArgs {
        RetrieveArgs {
            volumes: Vec::new(),
            text: Vec::new(),
            image: Vec::new(),
            texts: None,
            pairs: Some(pairs),
            top: None,
            json: self.order.json,
            quiet: self.order.quiet,
            prepare: self.prepare,
            model: self.model,
            volume: self.volume,
        }
    }

    /// The run of `batch` that computes what is evaluated.
    pub(crate) fn into_batch(self, manifest: PathBuf) -> BatchArgs {
        let none = BatchAskedArgs::default();
        BatchArgs {
            inputs: Vec::new(),
            manifest: Some(manifest),
            out: self.out,
            asked: BatchAskedArgs { mode: self.mode, ..none },
            order: self.order,
            files: self.files,
            model: self.model,
            refine: self.refine,
            prepare: self.prepare,
            answers: self.answers,
            volume: self.volume,
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  r1seg eval -m ./SegVol --data cases.jsonl -o eval
  r1seg eval -m ./SAM-Med3D --data cases.jsonl -o eval --clicks 10
  r1seg eval -m R1Seg-3D-Phi-3-4B --layout m3d-seg --data 0003.json \\
    --class-names classes.json --preprocess none -o eval
  r1seg eval -m M3D-LaMed-Phi-3-4B --layout m3d-vqa-closed --data M3D_VQA_test.csv \\
    --root M3D_Cap -o eval --resume --shard 0/4

A row of a list: {\"image\": \"p1/ct.nii.gz\", \"organs\": [\"liver\", \"spleen\"], \
\"truth\": \"p1/truth.nii.gz\", \"truth_labels\": [5, 1]}

Rows that cannot be used and volumes that fail are reported and stop nothing; the exit code is then 4. \
docs/eval.md describes lists, scores and the report. For research use only: not a medical device.";
