//! Getting checkpoints: `download`, `verify`, `cache`, `convert`.

use std::ffi::OsString;
use std::path::PathBuf;

#[cfg(feature = "hub")]
use clap::Subcommand;
use clap::{Args, ValueEnum};
use r1seg::convert::{Quant, TargetDtype};
use r1seg::registry::{self, MODELS};

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
    /// Remove a model and what is remembered of its answers, or with @REV one revision of it.
    Remove {
        /// As `r1seg cache list` shows it.
        #[arg(value_name = "MODEL[@REV]")]
        model: String,
    },
    /// Delete what is remembered of a model's answers, or of all models' (see --drafts).
    Forget {
        /// OWNER/NAME, or the name of a folder.
        model: Option<String>,
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

/// A quantization, by r1seg's name or llama.cpp's.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct QuantArg {
    pub(crate) quant: Quant,
    /// What is different from what llama.cpp makes under the name that was given.
    pub(crate) remark: Option<String>,
}

fn quant(name: &str) -> Result<QuantArg, String> {
    let (quant, is_mixture) = match name.to_ascii_lowercase().as_str() {
        "q8_0" => (Quant::Q8_0, false),
        "q6k" | "q6_k" => (Quant::Q6K, false),
        "q4k" | "q4_k" => (Quant::Q4K, false),
        "q4_k_s" | "q4_k_m" => (Quant::Q4K, true),
        _ => {
            return Err("r1seg quantizes to q8_0, q6k (Q6_K) and q4k (Q4_K, and in place of \
                        Q4_K_S and Q4_K_M)"
                .to_owned());
        }
    };
    let remark = is_mixture.then(|| {
        format!(
            "{name} is stored as q4k: all linear layers as Q4_K and the output layer as Q6_K, where \
             llama.cpp keeps some of the linear layers in more bits"
        )
    });
    Ok(QuantArg { quant, remark })
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
    /// A further part of a model that is published in parts; may be given several times, in any order:
    /// each is known by its tensors. For HSENet the folders of HSENet-CLIP, stage 2, and of BiomedCLIP.
    #[arg(long = "with", value_name = "DIR")]
    pub(crate) parts: Vec<PathBuf>,
    /// Which published model SRC is, by its short name or OWNER/NAME, where that does not follow from its
    /// tensors or its folder: NV-Segment-CTMR has the tensors of NV-Segment-CT.
    #[arg(long = "as", value_name = "NAME", value_parser = published)]
    pub(crate) published: Option<&'static str>,
    /// What weights are stored as [default: each as it is]. A quantized language model is not
    /// touched by it.
    #[arg(long, value_enum, value_name = "bf16|f16|f32", hide_possible_values = true)]
    pub(crate) dtype: Option<TargetArg>,
    /// Quantize the language model into a GGUF file: 8.5, 6.6 or 4.5 bits a weight. Vision and mask
    /// parts are not quantized. llama.cpp's names are understood in any case: Q8_0, Q6_K, Q4_K; Q4_K_S
    /// and Q4_K_M become q4k, which has no layers in more bits but the output layer (Q6_K).
    #[arg(
        long,
        value_name = "q8_0|q6k|q4k",
        value_parser = quant,
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
    /// Write the folder even if the model in it would not load: a part of a model, or one whose
    /// config.json is to be changed by hand.
    #[arg(long)]
    pub(crate) no_check_model: bool,
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

/// The repository of a published model.
fn published(name: &str) -> Result<&'static str, String> {
    let known = || MODELS.iter().flat_map(|entry| entry.published).map(|of| of.alias);
    registry::published(name).map(|of| of.repository).ok_or_else(|| {
        format!("no published model has this name: {}", known().collect::<Vec<_>>().join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantizations_go_by_the_names_of_llama_cpp_in_any_case() {
        for (name, expected, has_remark) in [
            ("q8_0", Quant::Q8_0, false),
            ("Q8_0", Quant::Q8_0, false),
            ("q6k", Quant::Q6K, false),
            ("Q6_K", Quant::Q6K, false),
            ("Q4_K", Quant::Q4K, false),
            ("Q4K", Quant::Q4K, false),
            ("Q4_K_M", Quant::Q4K, true),
            ("q4_k_s", Quant::Q4K, true),
        ] {
            let found = quant(name).unwrap();
            assert_eq!((found.quant, found.remark.is_some()), (expected, has_remark), "{name}");
        }
        for name in ["Q5_K_M", "q4_0", "", "f16"] {
            let refused = quant(name).unwrap_err();
            assert!(["q8_0", "q6k", "q4k"].iter().all(|known| refused.contains(known)), "{name}");
        }
    }
}
