//! Getting checkpoints: `download`, `verify`, `cache`, `convert`.

use std::ffi::OsString;
use std::path::PathBuf;

#[cfg(feature = "hub")]
use clap::Subcommand;
use clap::{Args, ValueEnum};
use r1seg::convert::{Quant, TargetDtype};

use super::volume::bytes;

#[cfg(feature = "hub")]
#[derive(Debug, Args)]
pub(crate) struct DownloadArgs {
    /// A published model: OWNER/NAME or a short name such as R1Seg-3D-Phi-3-4B, with @REV for a
    /// branch, a tag or a commit.
    #[arg(value_name = "MODEL[@REV]")]
    pub(crate) model: String,
    /// Only files of these names; `*` stands for anything. By default, what r1seg needs.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) include: Vec<String>,
    /// No files of these names.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) exclude: Vec<String>,
    /// Hash what is in the cache already, and fetch again what is damaged.
    #[arg(long)]
    pub(crate) repair: bool,
    /// Print the result as one JSON object instead of the folder.
    #[arg(long)]
    pub(crate) json: bool,
    /// Say nothing but errors on stderr.
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// A downloaded model, or a folder that `r1seg convert` wrote.
    #[arg(value_name = "MODEL[@REV]|DIR")]
    pub(crate) model: OsString,
    /// Say nothing but errors on stderr.
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[cfg(feature = "hub")]
#[derive(Debug, Args)]
pub(crate) struct CacheArgs {
    #[command(subcommand)]
    pub(crate) action: CacheAction,
}

#[cfg(feature = "hub")]
#[derive(Debug, Subcommand)]
pub(crate) enum CacheAction {
    /// List the models that were downloaded, by this program or by Python's.
    List {
        /// Print them as a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Remove a model, or with @REV one revision of it.
    Remove {
        /// As `r1seg cache list` shows it.
        #[arg(value_name = "MODEL[@REV]")]
        model: String,
    },
    /// Print the folder of the cache: HF_HUB_CACHE, or `hub` in HF_HOME.
    Path,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum TargetArg {
    Bf16,
    F16,
    F32,
}

impl From<TargetArg> for TargetDtype {
    fn from(dtype: TargetArg) -> Self {
        match dtype {
            TargetArg::Bf16 => Self::Bf16,
            TargetArg::F16 => Self::F16,
            TargetArg::F32 => Self::F32,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum QuantArg {
    #[value(name = "q8_0")]
    Q8_0,
    #[value(name = "q6k")]
    Q6K,
    #[value(name = "q4k")]
    Q4K,
}

impl From<QuantArg> for Quant {
    fn from(quant: QuantArg) -> Self {
        match quant {
            QuantArg::Q8_0 => Self::Q8_0,
            QuantArg::Q6K => Self::Q6K,
            QuantArg::Q4K => Self::Q4K,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// A file of weights (.bin, .pth, .pt, .ckpt, .safetensors), an index of shards, a checkpoint
    /// folder, or a downloaded model.
    #[arg(value_name = "SRC")]
    pub(crate) source: OsString,
    /// The new checkpoint folder.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// The checkpoint that SRC was fine-tuned from, where SRC holds only part of the model, as
    /// LoRA checkpoints do.
    #[arg(long, value_name = "DIR")]
    pub(crate) base: Option<PathBuf>,
    /// What weights are stored as [default: each as it is]. A quantised language model is not
    /// touched by it.
    #[arg(long, value_enum, value_name = "bf16|f16|f32", hide_possible_values = true)]
    pub(crate) dtype: Option<TargetArg>,
    /// Quantise the language model into a GGUF file: 8.5, 6.6 or 4.5 bits a weight. Vision and mask
    /// parts are not quantised.
    #[arg(
        long,
        value_enum,
        value_name = "q8_0|q6k|q4k",
        hide_possible_values = true,
        conflicts_with = "llm"
    )]
    pub(crate) quant: Option<QuantArg>,
    /// Take the language model from a GGUF file of the same shape and vocabulary, instead of from
    /// SRC.
    #[arg(long, value_name = "FILE.gguf")]
    pub(crate) llm: Option<PathBuf>,
    /// Numerator of the LoRA scale alpha / r [default: adapter_config.json, else 2 r].
    #[arg(long, value_name = "ALPHA")]
    pub(crate) lora_alpha: Option<f64>,
    /// Largest file of weights: a number, or one with a unit such as MB or GiB.
    #[arg(long, default_value = "5000000000", value_name = "SIZE", value_parser = bytes)]
    pub(crate) max_shard_size: u64,
    /// Do not refuse weights that are NaN or infinite.
    #[arg(long)]
    pub(crate) no_check_tensors: bool,
    /// Replace a folder that r1seg converted before.
    #[arg(long)]
    pub(crate) force: bool,
    /// Print what was done as one JSON object, the manifest of the new folder.
    #[arg(long)]
    pub(crate) json: bool,
    /// Say nothing but errors on stderr.
    #[arg(short, long)]
    pub(crate) quiet: bool,
}
