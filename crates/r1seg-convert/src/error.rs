use std::io;
use std::path::{Path, PathBuf};

use r1seg_diagnostic::{At, Diagnostic, ErrorKind, Remedy};

use crate::pickle::PickleError;
use crate::sandbox::SandboxError;

/// Everything that can go wrong in this crate.
///
/// `Display` says which file is at fault and what is wrong, with numbers. Names of tensors and files in a message are shortened to printable characters.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum Error {
    #[error("{}no such file or folder", At(path))]
    NotFound { path: PathBuf },
    #[error(
        "{}no weights found; a checkpoint has .safetensors, .bin, .pth, .pt or .ckpt files",
        At(path)
    )]
    NoWeights { path: PathBuf },
    #[error("{}the folder holds several checkpoints: {names}", At(path))]
    Ambiguous { path: PathBuf, names: String },
    #[error("{}the file cannot be read", At(path))]
    Read { path: PathBuf, source: io::Error },
    /// A pipe or a device, a file that is too long, or one in another encoding.
    #[error("{}{}", At(path), unusable(path, source))]
    Unusable { path: PathBuf, source: r1seg_files::Error },
    #[error("{}the file changed or ends early while it is read", At(path))]
    Changed { path: PathBuf },

    /// A pickle was refused. It is read, and never run.
    #[error("{}{reason}", At(path))]
    Pickle { path: PathBuf, reason: PickleError },
    /// The process that reads pickles gave no answer.
    #[error("{}{source}", At(path))]
    Sandbox { path: PathBuf, source: SandboxError },
    #[error("{}the safetensors header is not usable: {message}", At(path))]
    Safetensors { path: PathBuf, message: String },
    #[error("{}the index is not usable: {message}", At(path))]
    Index { path: PathBuf, message: String },
    /// A `config.json` that cannot be used.
    #[error("{}{what}", At(path))]
    Config { path: PathBuf, what: String },

    #[error("{}tensor `{name}` is in the checkpoint twice", At(path))]
    Duplicate { path: PathBuf, name: String },
    /// Tensors without elements.
    #[error("{}{}: {names}", At(path), tensors(*count, ["has no numbers", "have no numbers"]))]
    EmptyTensors { path: PathBuf, count: usize, names: String },
    /// Tensors that hold NaN or infinity.
    #[error("{}{}: {names}", At(path), tensors(*count, ["holds NaN or infinity", "hold NaN or infinity"]))]
    NotFinite { path: PathBuf, count: usize, names: String },
    #[error("{}tensor `{name}` holds {count} numbers beyond the range of {dtype}", At(path))]
    Overflow { path: PathBuf, name: String, count: u64, dtype: &'static str },
    #[error("{}tensor `{name}` is a view whose axes overlap in its storage", At(path))]
    Strided { path: PathBuf, name: String },

    #[error(
        "{}the checkpoint holds only LoRA updates of {count} matrices, without the matrices",
        At(path)
    )]
    NeedsBase { path: PathBuf, count: usize },
    /// Parts of a model that do not make a whole.
    #[error("{}{what}", At(path))]
    Parts { path: PathBuf, what: String },
    #[error("{}LoRA weights are not usable: {message}", At(path))]
    Lora { path: PathBuf, message: String },

    #[error(
        "{}the file is in the GGUF format: a language model without the vision and mask parts of a \
         checkpoint",
        At(path)
    )]
    LanguageModelAlone { path: PathBuf },
    #[error("{}{source}", At(path))]
    Gguf { path: PathBuf, source: r1seg_checkpoint::gguf::Error },
    /// A language model that does not fit the checkpoint, or cannot be quantized.
    #[error("{}{what}", At(path))]
    LanguageModel { path: PathBuf, what: String },
    #[error("{}the folder's language model is quantized already", At(path))]
    QuantizedSource { path: PathBuf },

    /// An option that cannot be used.
    #[error("{what}")]
    Option { what: String },
    #[error("{}the output folder exists already", At(path))]
    Exists { path: PathBuf },
    #[error(
        "{}the output folder is neither empty nor one that r1seg converted; it is not replaced",
        At(path)
    )]
    NotReplaceable { path: PathBuf },
    #[error("{}the output folder cannot be created", At(path))]
    CannotCreate { path: PathBuf, source: io::Error },
    #[error("{}writing failed", At(path))]
    Write { path: PathBuf, source: io::Error },
    #[error("stopped by the caller")]
    Cancelled,
}

r1seg_diagnostic::diagnostic_methods!(Error);

impl Diagnostic for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "R-CNV-01",
            Self::NoWeights { .. } => "R-CNV-02",
            Self::Ambiguous { .. } => "R-CNV-03",
            Self::Read { .. } => "R-CNV-04",
            Self::Changed { .. } => "R-CNV-05",
            Self::Pickle { .. } => "R-CNV-06",
            Self::Sandbox { .. } => "R-CNV-07",
            Self::Safetensors { .. } => "R-CNV-08",
            Self::Index { .. } => "R-CNV-09",
            Self::Config { .. } => "R-CNV-10",
            Self::Duplicate { .. } => "R-CNV-11",
            Self::EmptyTensors { .. } => "R-CNV-12",
            Self::NotFinite { .. } => "R-CNV-13",
            Self::Overflow { .. } => "R-CNV-14",
            Self::Strided { .. } => "R-CNV-15",
            Self::NeedsBase { .. } => "R-CNV-16",
            Self::Lora { .. } => "R-CNV-17",
            Self::Option { .. } => "R-CNV-18",
            Self::Exists { .. } => "R-CNV-19",
            Self::NotReplaceable { .. } => "R-CNV-20",
            Self::CannotCreate { .. } => "R-CNV-21",
            Self::Write { .. } => "R-CNV-22",
            Self::Cancelled => "R-CNV-23",
            Self::LanguageModel { .. } => "R-CNV-24",
            Self::Unusable { .. } => "R-CNV-27",
            Self::Parts { .. } => "R-CNV-28",
            Self::QuantizedSource { .. } => "R-CNV-25",
            Self::LanguageModelAlone { .. } => "R-CNV-26",
            Self::Gguf { source, .. } => source.code(),
        }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } | Self::NoWeights { .. } => ErrorKind::Missing,
            Self::Read { source, .. } => match source.kind() {
                io::ErrorKind::OutOfMemory => ErrorKind::Resources,
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => ErrorKind::Missing,
                _ => ErrorKind::Io,
            },
            Self::Pickle { reason: PickleError::Io { .. }, .. }
            | Self::Gguf { source: r1seg_checkpoint::gguf::Error::Io(_), .. } => ErrorKind::Io,
            Self::Sandbox { source: SandboxError::Start(_), .. }
            | Self::Changed { .. }
            | Self::Write { .. } => ErrorKind::Io,
            Self::Exists { .. } | Self::NotReplaceable { .. } | Self::CannotCreate { .. } => {
                ErrorKind::CannotCreate
            }
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Option { .. }
            | Self::Ambiguous { .. }
            | Self::NeedsBase { .. }
            | Self::Parts { .. } => ErrorKind::Usage,
            _ => ErrorKind::Model,
        }
    }

    fn path(&self) -> Option<&Path> {
        match self {
            Self::NotFound { path }
            | Self::NoWeights { path }
            | Self::Ambiguous { path, .. }
            | Self::Read { path, .. }
            | Self::Unusable { path, .. }
            | Self::Changed { path }
            | Self::Pickle { path, .. }
            | Self::Sandbox { path, .. }
            | Self::Safetensors { path, .. }
            | Self::Index { path, .. }
            | Self::Config { path, .. }
            | Self::Duplicate { path, .. }
            | Self::EmptyTensors { path, .. }
            | Self::NotFinite { path, .. }
            | Self::Overflow { path, .. }
            | Self::Strided { path, .. }
            | Self::NeedsBase { path, .. }
            | Self::Lora { path, .. }
            | Self::Parts { path, .. }
            | Self::Gguf { path, .. }
            | Self::LanguageModelAlone { path }
            | Self::LanguageModel { path, .. }
            | Self::QuantizedSource { path }
            | Self::Exists { path }
            | Self::NotReplaceable { path }
            | Self::CannotCreate { path, .. }
            | Self::Write { path, .. } => Some(path),
            Self::Option { .. } | Self::Cancelled => None,
        }
    }

    fn remedy(&self) -> Option<Remedy> {
        let advice = match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::OutOfMemory => {
                return Some(Remedy::RaiseMemoryLimit);
            }
            Self::NotFound { .. } | Self::NoWeights { .. } => "check the path",
            Self::Ambiguous { .. } => "name the file instead of the folder",
            Self::Unusable { source: r1seg_files::Error::Utf16, .. } => "save it as UTF-8",
            Self::Unusable { .. } => "take the file from the publisher of the checkpoint",
            Self::Changed { .. } => "wait until the download is complete, or repeat it",
            Self::Pickle { reason, .. } => match reason {
                PickleError::Truncated { .. } => "repeat the download; the file is cut off",
                PickleError::Global { .. } | PickleError::Opcode { .. } => {
                    "if you trust the file, save only its weights again: \
                     torch.save(model.state_dict(), ..)"
                }
                _ => "repeat the download, or ask whoever made the file for safetensors",
            },
            Self::EmptyTensors { .. } => {
                "the weights were saved from DeepSpeed ZeRO-3 without being gathered; run its \
                 zero_to_fp32.py and convert the result"
            }
            Self::NotFinite { .. } => "the checkpoint is damaged; turn the check off to convert it",
            Self::Overflow { .. } => "convert to bf16, which has the range of f32",
            Self::Strided { .. } => "save the tensor again after .contiguous()",
            Self::NeedsBase { .. } => return Some(Remedy::GiveBaseModel),
            Self::Parts { .. } => return Some(Remedy::GiveParts),
            Self::LanguageModelAlone { .. } => {
                return Some(Remedy::ConvertWithCheckpoint { language_model: None });
            }
            Self::Gguf { source, .. } => return source.remedy(),
            Self::QuantizedSource { .. } => return Some(Remedy::ConvertOriginal),
            Self::Exists { .. } => return Some(Remedy::ReplaceFolder),
            Self::NotReplaceable { .. } => "choose another folder",
            _ => return None,
        };
        Some(advice.into())
    }
}

impl Error {
    /// The same error about what `to` will be, where it is about the folder `from` or a file in it.
    pub(crate) fn moved(mut self, from: &Path, to: &Path) -> Self {
        if let Self::Write { path, .. } | Self::Safetensors { path, .. } = &mut self
            && let Ok(rest) = path.strip_prefix(from)
        {
            // Joining nothing would add a slash.
            *path = if rest == Path::new("") { to.to_owned() } else { to.join(rest) };
        }
        self
    }
}

/// What is wrong with a file, with its name for a subject.
fn unusable(path: &Path, source: &r1seg_files::Error) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    format!("`{}` {source}", crate::pickle::sanitize(&name))
}

/// `1 tensor has ..`, `2 tensors have ..`.
pub(crate) fn tensors(count: usize, [of_one, of_many]: [&str; 2]) -> String {
    match count {
        1 => format!("1 tensor {of_one}"),
        _ => format!("{count} tensors {of_many}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_about_a_folder_under_construction_names_the_one_that_was_asked_for() {
        let (from, to) = (Path::new("a/.out.x1.part"), Path::new("a/out"));
        let write = |path: &str| Error::Write {
            path: path.into(),
            source: io::ErrorKind::StorageFull.into(),
        };
        for (path, moved) in [
            ("a/.out.x1.part/tokenizer.json", "a/out/tokenizer.json"),
            ("a/.out.x1.part", "a/out"),
            ("a/elsewhere", "a/elsewhere"),
        ] {
            let error = write(path).moved(from, to);
            assert_eq!(error.path().and_then(Path::to_str), Some(moved));
        }
    }
}
