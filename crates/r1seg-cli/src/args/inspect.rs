//! What `inspect` takes.

use std::path::PathBuf;

use clap::Args;
use r1seg_results::preview::Window;

use super::VolumeArgs;

#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct InspectArgs {
    /// A volume, in any format that `infer` reads; `-` reads one from standard input. Or a model: a
    /// checkpoint folder, a file of weights (safetensors, a pickle, GGUF), a model that `r1seg download` brought, or `demo`.
    #[arg(value_name = "FILE|-|MODEL")]
    pub(crate) image: PathBuf,
    /// Print what was found as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    /// Of a model, read all weights and name the tensors that hold NaN or infinity.
    #[arg(long)]
    pub(crate) check_tensors: bool,
    /// For a model, state the memory that a run on this volume takes. Reads the volume, not the weights;
    /// `-` reads it from standard input.
    #[arg(long, value_name = "FILE|-", conflicts_with_all = ["strict", "preview"])]
    pub(crate) with_image: Option<PathBuf>,
    /// End with exit code 65 if there is any warning, or several series to choose from.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Draw the volume (PNG) to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) preview: Option<PathBuf>,
    /// Intensities that are black and white in the picture: soft, mediastinum, liver, lung, bone,
    /// brain, or LEVEL,WIDTH in the units of the volume.
    #[arg(long, value_name = "NAME|L,W", allow_hyphen_values = true, requires = "preview")]
    pub(crate) window: Option<Window>,
    /// Replace the picture if it exists already.
    #[arg(long, requires = "preview")]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) volume: VolumeArgs,
}

const EXAMPLES: &str = "\
Examples:
  r1seg inspect ct.nii.gz
  r1seg inspect array.npy --spacing 5,0.8,0.8 --preview array.png
  r1seg inspect ct.nii.gz --json | jq .input.effective_resolution_mm
  r1seg inspect R1Seg-3D-Phi-3-4B --check-tensors
  r1seg inspect NV-Segment-CT --with-image ct.nii.gz

The last line says OK, or what is doubtful; a file or a model that cannot be used gives an error and \
the exit code that `infer` would give. A file of weights is described, and refused as `infer` does, \
which takes the folder. Text in the file's header is never shown: it may name a patient. Of a model \
only small files and the headers of its weights are read; --check-tensors reads the weights, too.";
