use std::io;
use std::path::{Path, PathBuf};

use crate::{gguf, shown};

/// What kind of failure an [`Error`] is, so that a caller can choose an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The files were read, and are not those of a usable model (exit code 78).
    BadModel,
    /// A folder or file is missing or may not be read (66).
    Missing,
    /// The storage failed while reading (74).
    Io,
    /// There is not enough memory at the moment (75).
    Temporary,
}

/// Why a checkpoint on disk cannot be used.
///
/// `Display` says what is wrong, with numbers; [`Error::code`], [`Error::path`] and [`Error::fix`]
/// carry the rest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum Error {
    #[error("no such model folder")]
    NotFound { path: PathBuf },
    #[error("`{file}` is missing from the model folder")]
    MissingFile { path: PathBuf, file: String },
    #[error("the file cannot be read: {source}")]
    Read { path: PathBuf, source: io::Error },
    /// A pipe or a device, a file that is too long, or one in another encoding.
    #[error("`{}` {source}", name(path))]
    Unusable { path: PathBuf, source: r1seg_files::Error },
    #[error("`{file}` is a Python pickle; r1seg never loads pickles")]
    Pickle { path: PathBuf, file: String },
    #[error("{file}: {message}")]
    WeightFile { path: PathBuf, file: String, message: String },
    #[error("{file}: {source}")]
    Gguf { path: PathBuf, file: String, source: Box<gguf::Error> },
    /// Weights that are NaN or infinite, found by reading all of them.
    #[error("{}", damage(damaged))]
    DamagedWeights { path: PathBuf, damaged: Vec<String> },
    #[error("the folder has no manifest.json to verify it by")]
    NoManifest { path: PathBuf },
    #[error("manifest.json is not usable: {message}")]
    Manifest { path: PathBuf, message: String },
    #[error("{name} differs from the manifest: {what}")]
    Differs { path: PathBuf, name: String, what: String },
}

impl Error {
    /// Why a file was not read.
    pub fn unreadable(path: PathBuf, error: r1seg_files::Error) -> Self {
        match error {
            r1seg_files::Error::Io(source) => Self::Read { path, source },
            source => Self::Unusable { path, source },
        }
    }

    /// Whether a file was not read, or not mapped, for want of memory.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::OutOfMemory)
    }

    /// The stable code of this error, such as `R-WGT-01`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "R-MDL-01",
            Self::MissingFile { .. } => "R-MDL-03",
            Self::Read { .. } => "R-MDL-04",
            Self::Unusable { .. } => "R-MDL-06",
            Self::WeightFile { .. } => "R-WGT-01",
            Self::Pickle { .. } => "R-WGT-02",
            Self::DamagedWeights { .. } => "R-WGT-05",
            Self::Gguf { source, .. } => source.code(),
            Self::NoManifest { .. } => "R-VER-01",
            Self::Manifest { .. } => "R-VER-02",
            Self::Differs { .. } => "R-VER-03",
        }
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            _ if self.is_out_of_memory() => ErrorKind::Temporary,
            Self::NotFound { .. } | Self::Read { .. } | Self::NoManifest { .. } => {
                ErrorKind::Missing
            }
            Self::Gguf { source, .. } if matches!(**source, gguf::Error::Io(_)) => ErrorKind::Io,
            _ => ErrorKind::BadModel,
        }
    }

    /// The file or folder at fault.
    pub fn path(&self) -> &Path {
        match self {
            Self::NotFound { path }
            | Self::MissingFile { path, .. }
            | Self::Read { path, .. }
            | Self::Unusable { path, .. }
            | Self::Pickle { path, .. }
            | Self::WeightFile { path, .. }
            | Self::Gguf { path, .. }
            | Self::DamagedWeights { path, .. }
            | Self::NoManifest { path }
            | Self::Manifest { path, .. }
            | Self::Differs { path, .. } => path,
        }
    }

    /// What to do about it, where something can be done.
    pub fn fix(&self) -> Option<String> {
        let text = match self {
            _ if self.is_out_of_memory() => {
                "raise the memory limit of the process (`ulimit -v`), in which mapped weights count, or \
                 of its container"
            }
            Self::NotFound { .. } => "check the path, or use `demo` for the embedded model",
            Self::MissingFile { .. } => {
                "copy the whole checkpoint folder: config.json, the tokenizer files and \
                 model.safetensors (or all shards with their index)"
            }
            Self::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "check the permissions of the file and of its folder"
            }
            Self::Read { .. } => "check that the path leads to a file that can be read",
            Self::Unusable { source: r1seg_files::Error::Utf16, .. } => "save the file as UTF-8",
            Self::Unusable { .. } => "take the file from the publisher of the weights",
            Self::Pickle { path, .. } => {
                let path = path.display();
                return Some(format!("r1seg convert {path} -o DIR, and then --model DIR"));
            }
            Self::WeightFile { .. } => "copy the file again: it is damaged or cut short",
            Self::Gguf { source, .. } => return source.fix().map(str::to_string),
            Self::DamagedWeights { .. } => {
                "copy, download or convert the checkpoint again, or ask its publisher for one without \
                 NaN and infinity"
            }
            Self::NoManifest { .. } => "convert the checkpoint; that writes one",
            Self::Differs { .. } => "convert or download it again",
            Self::Manifest { .. } => return None,
        };
        Some(text.to_string())
    }
}

/// Counts tensors with NaN or infinity, and names the first of them.
pub fn damage(damaged: &[String]) -> String {
    let holds = if damaged.len() == 1 { " holds" } else { "s hold" };
    let names = shown::first_names(damaged.iter().map(String::as_str));
    format!("{} tensor{holds} NaN or infinity: {names}", damaged.len())
}

fn name(path: &Path) -> String {
    shown::name(&path.file_name().unwrap_or(path.as_os_str()).to_string_lossy())
}
