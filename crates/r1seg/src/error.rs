//! The one error type of the facade.

use std::path::{Path, PathBuf};

use r1seg_diagnostic::{At, Diagnostic, ErrorKind, Purpose, Remedy};

use crate::checkpoint::LoadReport;
use crate::config::cannot_serve;
use crate::registry::Family;
use crate::{Stage, finite};

/// Everything that can go wrong.
///
/// `Display` says which file is at fault and what is wrong, with numbers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum Error {
    /// Reading, preparing or writing a volume or mask.
    #[error(transparent)]
    Volume(#[from] r1seg_volume::Error),
    /// The files of a model: what is missing, unreadable, damaged or other than its manifest says.
    #[error(transparent)]
    Checkpoint(#[from] r1seg_checkpoint::Error),
    /// Pickles that were looked into.
    #[error(transparent)]
    Convert(#[from] r1seg_convert::Error),
    /// The tokenizer, or the question.
    #[error(transparent)]
    Tokenizer(#[from] r1seg_tokenizer::Error),
    #[error("`{name}` is neither a local folder nor a known model")]
    UnknownModel { name: String, similar: Vec<&'static str> },
    #[error("{}this is a file; a model is the whole checkpoint folder", At(path))]
    NotAFolder { path: PathBuf },
    /// A published model that was not downloaded.
    #[cfg(feature = "hub")]
    #[error(transparent)]
    Hub(#[from] r1seg_hub::Error),
    #[error(
        "{}the file is in the GGUF format: a language model without the vision and mask parts of a \
         checkpoint",
        At(path)
    )]
    LanguageModelAlone { path: PathBuf },
    #[error("{}config.json: {message}", At(path))]
    Config { path: PathBuf, message: String },
    #[error("{}{file} is not valid JSON: {message}", At(path))]
    Json { path: PathBuf, file: String, message: String },
    #[error("{}model_type `{model_type}` is not supported{hint}", At(path))]
    UnsupportedModel { path: PathBuf, model_type: String, hint: String },
    #[error(
        "{}model_type `{model_type}` is not supported here: {}",
        At(path),
        cannot_serve(*family, *purpose)
    )]
    OtherFamily { path: PathBuf, model_type: &'static str, family: Family, purpose: Purpose },
    #[error("{}the weights do not fit the configuration: {}", At(path), report.summary())]
    Weights { path: PathBuf, report: Box<LoadReport> },
    #[error("device `{device}` is not available: {reason}")]
    DeviceUnavailable { device: String, reason: String },
    #[error("device `{device}` cannot run the kernels of this build of r1seg: {reason}")]
    DeviceUnfit { device: String, reason: String, remedy: Remedy },
    #[error("unknown {what} `{value}`; expected {expected}")]
    BadChoice { what: &'static str, value: String, expected: &'static str },
    #[error(
        "the prompt is {prompt} tokens, {images} of them the image; the model reads fewer than \
         {limit}"
    )]
    PromptTooLong { prompt: usize, images: usize, limit: usize },
    #[error("`{text}` is not a preprocessing recipe")]
    Recipe { text: String },
    /// A prompt of a kind that the model does not take, or none.
    #[error("{message}")]
    Prompt { message: String, fix: &'static str },
    #[error("the model's tokenizer has no tokens for boxes (<bx_start>, <bx_end>)")]
    NoBoxTokens,
    /// An option has a value that the model cannot use.
    #[error("{what}: {message}")]
    InvalidOption { what: &'static str, message: String },
    #[error("{}remembered answers cannot be deleted: {source}", At(path))]
    ForgetAnswers { path: PathBuf, source: std::io::Error },
    #[error("cancelled")]
    Cancelled,
    #[error("{}the model needs about {} of memory, and {} are left", At(path), size(*needed), size(*limit))]
    NotEnoughMemory { path: PathBuf, needed: u64, limit: u64 },
    #[error("out of memory while computing: {0}")]
    OutOfMemory(String),
    /// A stage of the model computed NaN or infinity. `damaged` names the tensors whose own numbers
    /// are NaN or infinite: where there is one, the model is at fault (kind
    /// [`Model`](ErrorKind::Model)); where there is none, the computation left the range of its
    /// number format (kind [`NotFinite`](ErrorKind::NotFinite)).
    #[error("{}{}", at_damage(path, damaged), finite::message(*stage, dtype, damaged))]
    NotFinite { path: PathBuf, stage: Stage, dtype: &'static str, damaged: Vec<String> },
    /// An operation of the tensor library failed.
    #[error("computation failed: {}", without_backtrace(.0))]
    Compute(candle_core::Error),
}

/// What happened, without the backtrace that candle adds to its errors under `RUST_BACKTRACE`.
pub(crate) fn without_backtrace(error: &candle_core::Error) -> String {
    use candle_core::Error;
    match error {
        Error::WithBacktrace { inner, .. } => without_backtrace(inner),
        Error::Context { inner, context } => format!("{context}: {}", without_backtrace(inner)),
        Error::WithPath { inner, path } => {
            format!("{}: {}", path.display(), without_backtrace(inner))
        }
        other => other.to_string(),
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        if r1seg_nn::Cancelled::is_in(&error) {
            return Self::Cancelled;
        }
        // The status of the CUDA driver is behind types of crates that only builds for CUDA have, or
        // is text already: the words are what all builds share.
        let text = without_backtrace(&error);
        if text.contains("OUT_OF_MEMORY") || text.contains("out of memory") {
            Self::OutOfMemory(text)
        } else {
            Self::Compute(error)
        }
    }
}

r1seg_diagnostic::diagnostic_methods!(Error);

impl Diagnostic for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::Volume(e) => e.code(),
            Self::Checkpoint(e) => e.code(),
            Self::Convert(e) => e.code(),
            Self::Tokenizer(e) => e.code(),
            Self::UnknownModel { .. } => "R-MDL-02",
            Self::UnsupportedModel { .. } | Self::OtherFamily { .. } => "R-MDL-05",
            Self::NotAFolder { .. } => "R-MDL-08",
            #[cfg(feature = "hub")]
            Self::Hub(e) => e.code(),
            Self::Config { .. } | Self::Json { .. } => "R-CFG-01",
            Self::Weights { .. } => "R-WGT-03",
            Self::LanguageModelAlone { .. } => "R-WGT-04",
            Self::DeviceUnavailable { .. } => "R-DEV-01",
            Self::DeviceUnfit { .. } => "R-DEV-02",
            Self::BadChoice { .. } => "R-ARG-01",
            Self::InvalidOption { .. } => "R-ARG-02",
            Self::PromptTooLong { .. } => "R-PRM-01",
            Self::Recipe { .. } => "R-PRE-01",
            Self::NoBoxTokens => "R-BOX-02",
            Self::ForgetAnswers { .. } => "R-DRF-01",
            Self::Prompt { .. } => "R-PRM-05",
            Self::Cancelled => "R-RUN-01",
            Self::NotEnoughMemory { .. } => "R-MEM-01",
            Self::OutOfMemory(_) => "R-MEM-02",
            Self::Compute(_) => "R-RUN-02",
            Self::NotFinite { damaged, .. } if damaged.is_empty() => "R-RUN-03",
            Self::NotFinite { .. } => "R-WGT-05",
        }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::Volume(e) => e.kind(),
            Self::Checkpoint(e) => e.kind(),
            Self::Convert(e) => e.kind(),
            Self::Tokenizer(e) => e.kind(),
            #[cfg(feature = "hub")]
            Self::Hub(e) => e.kind(),
            Self::NotAFolder { .. } => ErrorKind::Missing,
            Self::LanguageModelAlone { .. }
            | Self::Config { .. }
            | Self::Json { .. }
            | Self::UnsupportedModel { .. }
            | Self::OtherFamily { .. }
            | Self::Weights { .. } => ErrorKind::Model,
            Self::DeviceUnavailable { .. } | Self::DeviceUnfit { .. } => ErrorKind::Device,
            Self::BadChoice { .. }
            | Self::InvalidOption { .. }
            | Self::UnknownModel { .. }
            | Self::Prompt { .. }
            | Self::Recipe { .. }
            | Self::NoBoxTokens => ErrorKind::Usage,
            Self::PromptTooLong { .. } => ErrorKind::BadData,
            Self::ForgetAnswers { .. } => ErrorKind::Io,
            Self::Cancelled => ErrorKind::Cancelled,
            Self::NotEnoughMemory { .. } | Self::OutOfMemory(_) => ErrorKind::Resources,
            Self::NotFinite { damaged, .. } if damaged.is_empty() => ErrorKind::NotFinite,
            Self::NotFinite { .. } => ErrorKind::Model,
            Self::Compute(_) => ErrorKind::Internal,
        }
    }

    fn path(&self) -> Option<&Path> {
        match self {
            Self::Volume(e) => e.path(),
            Self::Checkpoint(e) => e.path(),
            Self::Convert(e) => e.path(),
            Self::Tokenizer(e) => e.path(),
            #[cfg(feature = "hub")]
            Self::Hub(e) => e.path(),
            Self::LanguageModelAlone { path }
            | Self::NotAFolder { path }
            | Self::Config { path, .. }
            | Self::Json { path, .. }
            | Self::UnsupportedModel { path, .. }
            | Self::OtherFamily { path, .. }
            | Self::Weights { path, .. }
            | Self::ForgetAnswers { path, .. }
            | Self::NotEnoughMemory { path, .. } => Some(path),
            Self::NotFinite { path, damaged, .. } => (!damaged.is_empty()).then_some(path),
            _ => None,
        }
    }

    fn remedy(&self) -> Option<Remedy> {
        let advice = match self {
            Self::Volume(e) => return e.remedy(),
            Self::Checkpoint(e) => return e.remedy(),
            Self::Convert(e) => return e.remedy(),
            Self::Tokenizer(e) => return e.remedy(),
            #[cfg(feature = "hub")]
            Self::Hub(e) => return e.remedy(),
            Self::UnknownModel { similar, .. } if !similar.is_empty() => {
                return Some(format!("did you mean {}?", similar.join(" or ")).into());
            }
            Self::NotAFolder { path } => {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                let folder = folder.unwrap_or(Path::new("."));
                let advice = format!("name the folder that it lies in: {}", folder.display());
                return Some(advice.into());
            }
            Self::UnknownModel { .. } => {
                "use the short name of a published model, OWNER/NAME, the folder of a checkpoint, or \
                 `demo` (the embedded phantom model)"
            }
            Self::LanguageModelAlone { path } => {
                let language_model = Some(path.clone());
                return Some(Remedy::ConvertWithCheckpoint { language_model });
            }
            Self::Json { file, .. } => {
                return Some(format!("take {file} from the publisher of the weights").into());
            }
            Self::Config { .. } => "take config.json from the publisher of the weights",
            Self::UnsupportedModel { .. } => return Some(Remedy::ListModels),
            Self::DeviceUnfit { remedy, .. } => return Some(remedy.clone()),
            Self::OtherFamily { family, .. } => {
                let (model, purpose) = (family.name(), family.capabilities().purpose());
                return Some(Remedy::UseModelFor { model, purpose });
            }
            Self::Weights { .. } => "take config.json and weights from the same checkpoint",
            Self::DeviceUnavailable { .. } => return Some(Remedy::UseCpu),
            Self::PromptTooLong { .. } => "shorten the question",
            Self::Prompt { fix, .. } => fix,
            Self::Recipe { .. } => {
                "use none, m3d-seg, m3d-cap, m3d-refseg, window:LEVEL,WIDTH (width above 0), sam-med3d, \
                 sam-med3d-centered, neurosam3d, hsenet or hsenet-as-published"
            }
            Self::NoBoxTokens => "describe the place in words, or use a model that knows boxes",
            Self::NotEnoughMemory { .. } => return Some(Remedy::FreeMemory),
            Self::OutOfMemory(_) => return Some(Remedy::ReduceMemory),
            Self::NotFinite { stage, dtype, damaged, .. } if damaged.is_empty() => {
                let check_intensities = matches!(stage, Stage::Encode);
                return Some(Remedy::ChangeFormat { format: dtype, check_intensities });
            }
            Self::NotFinite { .. } => return Some(Remedy::CheckTensors),
            Self::Compute(_) => "this is a fault of r1seg: please report it with the command",
            _ => return None,
        };
        Some(advice.into())
    }
}

/// The model is named where its weights are damaged: where they are sound, it is not at fault.
fn at_damage<'a>(path: &'a Path, damaged: &[String]) -> At<'a> {
    At(if damaged.is_empty() { Path::new("") } else { path })
}

fn size(bytes: u64) -> String {
    const MIB: f64 = 1048576.0;
    match bytes as f64 / MIB {
        mib if mib < 1024.0 => format!("{mib:.0} MiB"),
        mib => format!("{:.1} GiB", mib / 1024.0),
    }
}

#[cfg(test)]
mod tests {
    use std::backtrace::Backtrace;

    use super::*;

    #[test]
    fn a_failed_computation_is_told_without_candles_backtrace() {
        let failed = candle_core::Error::Msg("no such kernel".to_string());
        let backtrace = Box::new(Backtrace::force_capture());
        let traced = candle_core::Error::WithBacktrace { inner: Box::new(failed), backtrace };
        assert!(traced.to_string().lines().count() > 1);
        let error = Error::from(traced.context("the mask decoder"));
        assert_eq!(error.to_string(), "computation failed: the mask decoder: no such kernel");
    }
}
