//! The one error type of the facade.

use std::path::{Path, PathBuf};

use crate::checkpoint::LoadReport;
use crate::config::Needed;
use crate::registry::Family;
use crate::{Stage, finite};

/// What kind of failure an [`Error`] is, so that a program can choose its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument makes no sense; no file is at fault.
    Usage,
    /// The input was read and cannot be used.
    BadData,
    /// The input is missing or may not be read.
    Missing,
    /// The requested device is not there, or cannot run this build.
    Device,
    /// The output exists already or cannot be created.
    CannotCreate,
    /// The storage failed while reading or writing.
    Io,
    /// Not enough memory at the moment.
    Temporary,
    /// The model, its configuration or its tokenizer is broken or unknown.
    Model,
    /// A computation ended in NaN or infinity, with weights that are finite.
    NotFinite,
    /// The caller cancelled.
    Cancelled,
    /// A fault of r1seg itself.
    Internal,
}

impl From<r1seg_volume::ErrorKind> for ErrorKind {
    fn from(kind: r1seg_volume::ErrorKind) -> Self {
        use r1seg_volume::ErrorKind as Volume;
        match kind {
            Volume::Missing => Self::Missing,
            Volume::CannotCreate => Self::CannotCreate,
            Volume::Io => Self::Io,
            Volume::Temporary => Self::Temporary,
            Volume::Usage => Self::Usage,
            _ => Self::BadData,
        }
    }
}

impl From<r1seg_checkpoint::ErrorKind> for ErrorKind {
    fn from(kind: r1seg_checkpoint::ErrorKind) -> Self {
        use r1seg_checkpoint::ErrorKind as Checkpoint;
        match kind {
            Checkpoint::Missing => Self::Missing,
            Checkpoint::Io => Self::Io,
            Checkpoint::Temporary => Self::Temporary,
            _ => Self::Model,
        }
    }
}

impl From<r1seg_convert::ErrorKind> for ErrorKind {
    fn from(kind: r1seg_convert::ErrorKind) -> Self {
        use r1seg_convert::ErrorKind as Convert;
        match kind {
            Convert::BadModel => Self::Model,
            Convert::Missing => Self::Missing,
            Convert::CannotCreate => Self::CannotCreate,
            Convert::Cancelled => Self::Cancelled,
            Convert::Usage => Self::Usage,
            _ => Self::Io,
        }
    }
}

#[cfg(feature = "hub")]
impl From<r1seg_hub::ErrorKind> for ErrorKind {
    fn from(kind: r1seg_hub::ErrorKind) -> Self {
        use r1seg_hub::ErrorKind as Hub;
        match kind {
            Hub::BadModel => Self::Model,
            Hub::Missing => Self::Missing,
            Hub::CannotCreate => Self::CannotCreate,
            Hub::Temporary => Self::Temporary,
            Hub::Cancelled => Self::Cancelled,
            Hub::Usage => Self::Usage,
            _ => Self::Io,
        }
    }
}

/// Everything that can go wrong.
///
/// `Display` says what is wrong, with numbers; [`Error::code`], [`Error::path`] and
/// [`Error::fix`] carry the rest.
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
    #[error("`{name}` is no local folder and no model that r1seg knows")]
    UnknownModel { name: String, similar: Vec<&'static str> },
    #[error("this is a file; a model is the whole checkpoint folder")]
    NotAFolder { path: PathBuf },
    /// A published model that was not downloaded.
    #[cfg(feature = "hub")]
    #[error(transparent)]
    Hub(#[from] r1seg_hub::Error),
    #[error(
        "the file is in the GGUF format: a language model without the vision and mask parts of a \
         checkpoint"
    )]
    LanguageModelAlone { path: PathBuf },
    #[error("config.json: {message}")]
    Config { path: PathBuf, message: String },
    #[error("{file} is not valid JSON: {message}")]
    Json { path: PathBuf, file: String, message: String },
    #[error("model_type `{model_type}` is not supported{hint}")]
    UnsupportedModel { path: PathBuf, model_type: String, hint: String },
    #[error("model_type `{model_type}` is not supported here: {}", needed.but_got(*family))]
    OtherFamily { path: PathBuf, model_type: &'static str, family: Family, needed: Needed },
    #[error("the weights do not fit the configuration: {0}", report.summary())]
    Weights { path: PathBuf, report: Box<LoadReport> },
    #[error("device `{device}` is not available: {reason}")]
    DeviceUnavailable { device: String, reason: String },
    #[error("device `{device}` cannot run the kernels of this build of r1seg: {reason}")]
    DeviceUnfit { device: String, reason: String, fix: String },
    #[error("`{value}` is no {what}; {expected}")]
    BadChoice { what: &'static str, value: String, expected: &'static str },
    #[error(
        "the prompt is {prompt} tokens, {images} of them the image; the model reads fewer than \
         {limit}"
    )]
    PromptTooLong { prompt: usize, images: usize, limit: usize },
    #[error("`{text}` is not a preprocessing recipe")]
    Recipe { text: String },
    /// A prompt of a kind that the model does not know, or none.
    #[error("{message}")]
    Prompt { message: String, fix: &'static str },
    #[error("the model's tokenizer has no tokens for boxes (<bx_start>, <bx_end>)")]
    NoBoxTokens,
    #[error("{what}: {message}")]
    InvalidOption { what: &'static str, message: String },
    #[error("cancelled")]
    Cancelled,
    #[error("the model needs about {} of memory, and {} are left", size(*needed), size(*limit))]
    NotEnoughMemory { path: PathBuf, needed: u64, limit: u64 },
    #[error("out of memory while computing: {0}")]
    OutOfMemory(String),
    /// A stage of the model computed NaN or infinity. `damaged` names the tensors whose own numbers
    /// are NaN or infinite: where there is one, the model is at fault (kind
    /// [`Model`](ErrorKind::Model)); where there is none, the computation left the range of its
    /// number format (kind [`NotFinite`](ErrorKind::NotFinite)).
    #[error("{}", finite::message(*stage, dtype, damaged))]
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
        let text = without_backtrace(&error);
        if text.contains("OUT_OF_MEMORY") || text.contains("out of memory") {
            Self::OutOfMemory(text)
        } else {
            Self::Compute(error)
        }
    }
}

impl Error {
    /// Whether a file of a model was not read, or not mapped, for want of memory.
    fn is_out_of_memory(&self) -> bool {
        match self {
            Self::Checkpoint(e) => e.is_out_of_memory(),
            Self::Tokenizer(r1seg_tokenizer::Error::Io { source, .. })
            | Self::Convert(r1seg_convert::Error::Read { source, .. }) => {
                source.kind() == std::io::ErrorKind::OutOfMemory
            }
            _ => false,
        }
    }

    /// The stable code of this error, such as `R-WGT-04`.
    pub fn code(&self) -> &'static str {
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
            Self::Prompt { .. } => "R-PRM-05",
            Self::Cancelled => "R-RUN-01",
            Self::NotEnoughMemory { .. } => "R-MEM-01",
            Self::OutOfMemory(_) => "R-MEM-02",
            Self::Compute(_) => "R-RUN-02",
            Self::NotFinite { damaged, .. } if damaged.is_empty() => "R-RUN-03",
            Self::NotFinite { .. } => "R-WGT-05",
        }
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        use r1seg_tokenizer::ErrorKind as TokenizerKind;
        match self {
            _ if self.is_out_of_memory() => ErrorKind::Temporary,
            Self::Volume(e) => e.kind().into(),
            Self::Checkpoint(e) => e.kind().into(),
            Self::Convert(e) => e.kind().into(),
            Self::Tokenizer(
                r1seg_tokenizer::Error::TextTooLong { .. }
                | r1seg_tokenizer::Error::TooManyBytes { .. },
            ) => ErrorKind::BadData,
            Self::Tokenizer(e) => match e.kind() {
                TokenizerKind::Usage => ErrorKind::Usage,
                TokenizerKind::Io => ErrorKind::Missing,
                _ => ErrorKind::Model,
            },
            #[cfg(feature = "hub")]
            Self::Hub(e) => e.kind().into(),
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
            Self::Cancelled => ErrorKind::Cancelled,
            Self::NotEnoughMemory { .. } | Self::OutOfMemory(_) => ErrorKind::Temporary,
            Self::NotFinite { damaged, .. } if damaged.is_empty() => ErrorKind::NotFinite,
            Self::NotFinite { .. } => ErrorKind::Model,
            Self::Compute(_) => ErrorKind::Internal,
        }
    }

    /// The file or folder at fault, where there is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Volume(e) => e.path(),
            Self::Checkpoint(e) => Some(e.path()),
            Self::Convert(e) => e.path(),
            #[cfg(feature = "hub")]
            Self::Hub(e) => e.path(),
            Self::LanguageModelAlone { path }
            | Self::NotAFolder { path }
            | Self::Config { path, .. }
            | Self::Json { path, .. }
            | Self::UnsupportedModel { path, .. }
            | Self::OtherFamily { path, .. }
            | Self::Weights { path, .. }
            | Self::NotEnoughMemory { path, .. } => Some(path),
            Self::NotFinite { path, damaged, .. } => (!damaged.is_empty()).then_some(path),
            _ => None,
        }
    }

    /// What to do about it, where something can be done.
    pub fn fix(&self) -> Option<String> {
        let text = match self {
            _ if self.is_out_of_memory() => {
                "raise the memory limit of the process (`ulimit -v`), in which mapped weights count, or \
                 of its container"
            }
            Self::Volume(e) => return e.fix(),
            Self::Checkpoint(e) => return e.fix(),
            Self::Convert(e) => return e.fix().map(str::to_string),
            Self::Tokenizer(e) => return e.fix().map(str::to_string),
            #[cfg(feature = "hub")]
            Self::Hub(e) => return e.fix(),
            Self::UnknownModel { similar, .. } if !similar.is_empty() => {
                return Some(format!("did you mean {}?", similar.join(" or ")));
            }
            Self::NotAFolder { path } => {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                let folder = folder.unwrap_or(Path::new("."));
                return Some(format!("name the folder that it lies in: {}", folder.display()));
            }
            Self::UnknownModel { .. } => {
                "use the short name of a published model, OWNER/NAME, the folder of a checkpoint, or \
                 `demo` (the embedded phantom model)"
            }
            Self::LanguageModelAlone { path } => {
                return Some(format!(
                    "r1seg convert CHECKPOINT --llm {} -o DIR, and then --model DIR",
                    path.display()
                ));
            }
            Self::Json { file, .. } => {
                return Some(format!("take {file} from the publisher of the weights"));
            }
            Self::Config { .. } => "take config.json from the publisher of the weights",
            Self::UnsupportedModel { .. } => {
                "`r1seg models` lists the supported models, with their model_type"
            }
            Self::OtherFamily { .. } => "`r1seg::load` loads models of every family",
            Self::Weights { .. } => "take config.json and weights from the same checkpoint",
            Self::DeviceUnavailable { .. } => "use --device cpu, or --device auto",
            Self::DeviceUnfit { fix, .. } => fix,
            Self::PromptTooLong { .. } => "shorten the question",
            Self::Prompt { fix, .. } => fix,
            Self::Recipe { .. } => {
                "use none, m3d-seg, m3d-cap, m3d-refseg or window:LEVEL,WIDTH (width above 0)"
            }
            Self::NoBoxTokens => "describe the place in words, or use a model that knows boxes",
            Self::NotEnoughMemory { .. } => {
                "free memory, or raise the limit of the process (`ulimit -v`) or of its container; \
                 `r1seg convert --quant q4k` makes a model that needs a quarter of bf16's, \
                 --dtype bf16 halves what f32 weights need, and --device cuda keeps them on a GPU"
            }
            Self::OutOfMemory(_) => "use --dtype bf16, another device, or a smaller model",
            Self::NotFinite { stage, dtype, damaged, .. } if damaged.is_empty() => {
                return Some(finite::advice(*stage, dtype));
            }
            Self::NotFinite { .. } => {
                "copy, download or convert the checkpoint again; `r1seg inspect MODEL \
                 --check-tensors` says whether it is sound"
            }
            Self::Compute(_) => "this is a fault of r1seg: please report it with the command",
            _ => return None,
        };
        Some(text.to_string())
    }
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
