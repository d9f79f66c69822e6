//! What `infer` takes.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use r1seg::{AskOptions, InferenceMode, Preprocess, Sampling, Separator};
use r1seg_results::preview::Window;

use super::boxes::BoxArgs;
use super::{DraftArgs, ImageArg, ModelArgs, RefineArgs, VolumeArgs};
use crate::exit::CliError;

#[derive(Debug, Args)]
#[command(
    after_long_help = EXAMPLES,
    group = ArgGroup::new("question").args(["prompt", "organ"]).required(true).multiple(true)
)]
pub(crate) struct InferArgs {
    #[command(flatten)]
    pub(crate) image: ImageArg,
    /// The question, in words. May be given several times: the volume is then looked at once, and
    /// prompt K becomes label K of the mask.
    ///
    /// `@FILE` takes every line of a text file that is not blank as a question of its own. `-`
    /// reads one question from standard input, which may have several lines.
    #[arg(short, long, value_name = "TEXT|@FILE|-")]
    pub(crate) prompt: Vec<OsString>,
    /// Segment this organ: the question is the sentence that the model was trained with. May be given
    /// several times, or with commas; each organ becomes a label of its own name, after the prompts.
    ///
    /// English, German, French, Spanish, Chinese, Japanese and Korean names are understood, and those of
    /// TotalSegmentator: liver, Milz, "rein gauche", kidney_left. The sentence is printed, and is in
    /// answer.txt and in the report. A --prompt is never changed.
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        conflicts_with_all = ["voxels", "box_mm"]
    )]
    pub(crate) organ: Vec<String>,
    #[command(flatten)]
    pub(crate) about: BoxArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) refine: RefineArgs,
    #[command(flatten)]
    pub(crate) refine_with: RefineWithArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) volume: VolumeArgs,
    #[command(flatten)]
    pub(crate) ask: AskArgs,
}

/// A second model, which draws again what was found.
#[derive(Debug, Args)]
#[command(next_help_heading = "Refining")]
pub(crate) struct RefineWithArgs {
    /// Draw what was found again with this model, at its own resolution: SAM-Med3D, NeuroSAM3D, SegVol or
    /// NV-Segment-CT.
    /// It is prompted with the mask of each answer, or the box in it, and its mask becomes a further label
    /// beside the first one. It is loaded only if something was found, in place of the first model.
    ///
    /// A model that takes boxes gets the one around the mask's largest part, one voxel wider; one that
    /// takes points gets the voxel that is deepest inside of that part; one that corrects masks gets the
    /// mask as well; one that reads texts the organ that the question names; and one with classes the class
    /// of that organ, or else the voxel.
    #[arg(long, value_name = "DIR|MODEL")]
    pub(crate) refine_with: Option<OsString>,
    /// How that model looks at the volume, as `--mode` of `r1seg segment` [default: as its authors].
    #[arg(
        long,
        value_name = "zoom|resize|crop|grow",
        requires = "refine_with",
        value_parser = super::segment::mode
    )]
    pub(crate) refine_mode: Option<InferenceMode>,
}

const EXAMPLES: &str = "\
Examples:
  r1seg infer -m R1Seg-3D-Phi-3-4B ct.nii.gz \\
    -p \"Can you segment the liver in this image?\"
  export R1SEG_MODEL=R1Seg-3D-Phi-3-4B
  r1seg infer ct.nii.gz -p @questions.txt -o results
  r1seg infer ct.nii.gz --organ pancreas --organ spleen
  r1seg infer array.npy --spacing 5,0.8,0.8 \\
    -p \"Which organ makes bile? Please segment it.\"
  r1seg infer dicom_folder/ --series 2 -p \"Please segment the liver.\"
  r1seg infer -m M3D-LaMed-Phi-3-4B ct.nii.gz \\
    --box 41,60,9,88,121,17 -p \"What is in {box}?\"
  r1seg infer -m R1Seg-3D-Phi-3-4B ct.nii.gz --organ liver \\
    --refine-with ./SAM-Med3D --refine-mode grow
  zcat ct.nii.gz | r1seg infer - -p \"Please segment the spleen.\" \\
    --mask - > mask.nii.gz

Answers go to standard output; of several prompts each begins with its number: [1], [2]. \
`r1seg --help` lists the exit codes. For research use only: not a medical device.";

/// What is written, and where to.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Folder for mask, labels, preview, report and answer [default: a new folder in the current
    /// one, named after the image: ct, then ct-2, ct-3 and so on; with --force always ct].
    #[arg(short, long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Write the mask to this file; its ending says the format: .nii.gz, .nii, .npy, or .seg.nrrd
    /// for 3D Slicer. `-` writes .nii.gz to standard output, and the answer to standard error.
    ///
    /// With --mask, --preview or --report and without --out, only the named files are written. Where
    /// the masks of several prompts overlap, each gets a file of its own: mask_1.nii.gz and so on;
    /// a .seg.nrrd file holds them all.
    #[arg(long, value_name = "FILE|-")]
    pub(crate) mask: Option<PathBuf>,
    /// Write the picture (PNG) to this file.
    #[arg(long, value_name = "FILE", conflicts_with = "no_preview")]
    pub(crate) preview: Option<PathBuf>,
    /// Write the report (JSON) to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// A short name for the label of a prompt, for labels.json, the .seg.nrrd and the preview, in place
    /// of the whole prompt. Given once for each prompt, in their order.
    #[arg(long, value_name = "NAME")]
    pub(crate) label: Vec<String>,
    /// Write a mask of zeros for a prompt that got no mask, since its answer has no [SEG]. Without
    /// this, a run in which no prompt got one writes no mask, and `--mask -` ends with exit code 3.
    /// (`segment` always writes one.)
    #[arg(long)]
    pub(crate) empty_mask: bool,
    /// Intensities that are black and white in the picture: soft, mediastinum, liver, lung, bone,
    /// brain, or LEVEL,WIDTH in the units of the volume [default: what shows the mask best].
    #[arg(
        long,
        value_name = "NAME|L,W",
        allow_hyphen_values = true,
        conflicts_with = "no_preview"
    )]
    pub(crate) window: Option<Window>,
    /// Replace files that exist already. Inputs and models are never replaced.
    #[arg(long)]
    pub(crate) force: bool,
    /// Print the report as one JSON object instead of the answer. The files are written as without
    /// it.
    #[arg(long)]
    pub(crate) json: bool,
    /// Draw no preview.png.
    #[arg(long)]
    pub(crate) no_preview: bool,
    /// Fail with exit code 3 when a prompt gets no mask.
    #[arg(long)]
    pub(crate) require_mask: bool,
    /// Say nothing but errors on stderr; warnings are in the report.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Write the tensors of every stage to a safetensors file, to compare implementations.
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum SeparatorArg {
    /// As the model's authors do: a space for R1Seg-3D, nothing for M3D-LaMed.
    Auto,
    /// As R1Seg-3D was trained and evaluated, and M3D-LaMed but for captions.
    Space,
    /// As in the authors' quickstart, and for captions.
    None,
}

/// How the volume is prepared and the question is answered.
#[derive(Debug, Args)]
#[command(next_help_heading = "Answering")]
pub(crate) struct AskArgs {
    /// How the volume meets the model's grid: `resize` in one pass, or `sliding` windows with one
    /// answer each, as in the authors' evaluation.
    #[arg(
        long,
        default_value = "resize",
        value_name = "resize|sliding",
        value_parser = mode_of_a_question
    )]
    pub(crate) mode: InferenceMode,
    /// Intensities: auto, none (already 0..1), m3d-seg, m3d-cap, m3d-refseg or
    /// window:LEVEL,WIDTH. `auto` takes none for 0..1 and m3d-seg for HU. HSENet has recipes of its own:
    /// hsenet, which `auto` takes, and hsenet-as-published, which cuts a scan with at least as many slices
    /// as columns the way its authors' script does by mistake.
    #[arg(
        long,
        default_value = "auto",
        value_name = "RECIPE",
        allow_hyphen_values = true,
        value_parser = preprocess
    )]
    pub(crate) preprocess: Preprocess,
    /// What HSENet's encoder has made of the slices of this volume, a numpy array with a row for each
    /// slice. It is then not computed again, and with `--preprocess none` the model is given both of its
    /// inputs as they are.
    #[arg(long, value_name = "FILE.npy")]
    pub(crate) slice_features: Option<PathBuf>,
    /// Write the same to a file, for the next run about this volume.
    #[arg(long, value_name = "FILE.npy")]
    pub(crate) save_slice_features: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) answers: AnswerArgs,
}

/// How a question is answered, whatever it is about.
#[derive(Debug, Args)]
#[command(next_help_heading = "Answering")]
pub(crate) struct AnswerArgs {
    /// In sliding mode, windows without [SEG] abstain instead of vetoing.
    #[arg(long)]
    pub(crate) abstain: bool,
    /// What stands between the image and the question.
    #[arg(long, default_value = "auto", value_enum)]
    pub(crate) separator: SeparatorArg,
    /// Let an answer that begins with [SEG] yield a mask, which the authors' code ignores.
    #[arg(long)]
    pub(crate) first_seg: bool,
    /// Longest answer, in tokens.
    #[arg(long, default_value_t = 256, value_name = "N")]
    pub(crate) max_new_tokens: usize,
    /// 0 takes the most likely token; more draws at random.
    #[arg(long, default_value_t = 0.0, value_name = "T", allow_negative_numbers = true)]
    pub(crate) temperature: f64,
    /// Draw among the N most likely tokens; 0 for all of them.
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub(crate) top_k: usize,
    /// Draw among the most likely tokens that together reach this probability.
    #[arg(long, default_value_t = 1.0, value_name = "P", allow_negative_numbers = true)]
    pub(crate) top_p: f64,
    /// Names the sequence of random draws.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) drafts: DraftArgs,
}

impl AnswerArgs {
    pub(crate) fn options(&self) -> anyhow::Result<AskOptions> {
        let (temperature, top_p) = (self.temperature, self.top_p);
        if !(temperature.is_finite() && 0.0 <= temperature) {
            return Err(CliError::usage(
                format!("--temperature is {temperature}; 0 or a positive number is needed"),
                "use 0 for the most likely answer, or about 1 to draw at random",
            ));
        }
        if !(0.0 < top_p && top_p <= 1.0) {
            return Err(CliError::usage(
                format!("--top-p is {top_p}; a number above 0 and up to 1 is needed"),
                "leave it out to draw among all tokens",
            ));
        }
        if self.max_new_tokens == 0 {
            return Err(CliError::usage("--max-new-tokens is 0", "ask for at least one token"));
        }
        let sampling = if temperature == 0.0 {
            Sampling::Greedy
        } else {
            Sampling::Random { temperature, top_k: self.top_k, top_p, seed: self.seed }
        };
        let mut options = AskOptions::default();
        options.separator = match self.separator {
            SeparatorArg::Auto => None,
            SeparatorArg::Space => Some(Separator::Space),
            SeparatorArg::None => Some(Separator::None),
        };
        Ok(options
            .with_max_new_tokens(self.max_new_tokens)
            .with_sampling(sampling)
            .with_first_seg(self.first_seg)
            .with_abstain(self.abstain))
    }
}

/// Without the mode that models with a language model do not have.
fn mode_of_a_question(text: &str) -> Result<InferenceMode, r1seg::Error> {
    match text.parse() {
        Ok(mode @ (InferenceMode::Resize | InferenceMode::Sliding)) => Ok(mode),
        _ => Err(r1seg::Error::BadChoice {
            what: "mode",
            value: text.to_string(),
            expected: "resize or sliding",
        }),
    }
}

/// With the choices in the message, which clap shows without the rest of the error.
pub(super) fn preprocess(text: &str) -> Result<Preprocess, String> {
    text.parse().map_err(|e: r1seg::Error| {
        format!(
            "{e}; use auto, none, m3d-seg, m3d-cap, m3d-refseg, window:LEVEL,WIDTH (width above 0), \
             sam-med3d, sam-med3d-centered, neurosam3d, hsenet or hsenet-as-published"
        )
    })
}
