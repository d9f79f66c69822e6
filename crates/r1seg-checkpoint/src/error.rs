use std::io;
use std::path::{Path, PathBuf};

use r1seg_diagnostic::{At, Diagnostic, ErrorKind, Remedy};

use crate::{gguf, shown};

/// Why a checkpoint on disk cannot be used.
///
/// `Display` says which file is at fault and what is wrong, with numbers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum Error {
    #[error("{}no such model folder", At(path))]
    NotFound { path: PathBuf },
    #[error("{}`{file}` is missing from the model folder", At(path))]
    MissingFile { path: PathBuf, file: String },
    #[error("{}the file cannot be read: {source}", At(path))]
    Read { path: PathBuf, source: io::Error },
    /// A pipe or a device, a file that is too long, or one in another encoding.
    #[error("{}`{}` {source}", At(path), name(path))]
    Unusable { path: PathBuf, source: r1seg_files::Error },
    #[error("{}`{file}` is a Python pickle; r1seg never loads pickles", At(path))]
    Pickle { path: PathBuf, file: String },
    /// A file of weights is damaged, or of a kind that is not supported.
    #[error("{}{file}: {message}", At(path))]
    WeightFile { path: PathBuf, file: String, message: String },
    #[error("{}{file}: {source}", At(path))]
    Gguf { path: PathBuf, file: String, source: Box<gguf::Error> },
    /// Weights that are NaN or infinite, found by reading all of them.
    #[error("{}{}", At(path), damage(damaged))]
    DamagedWeights { path: PathBuf, damaged: Vec<String> },
    #[error("{}the folder has no manifest.json, nothing to verify against", At(path))]
    NoManifest { path: PathBuf },
    #[error("{}manifest.json is not usable: {message}", At(path))]
    Manifest { path: PathBuf, message: String },
    #[error("{}{name} differs from the manifest: {what}", At(path))]
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
}

r1seg_diagnostic::diagnostic_methods!(Error);

impl Error {
    fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::OutOfMemory)
    }
}

impl Diagnostic for Error {
    fn code(&self) -> &'static str {
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

    fn kind(&self) -> ErrorKind {
        match self {
            _ if self.is_out_of_memory() => ErrorKind::Resources,
            Self::NotFound { .. } | Self::Read { .. } | Self::NoManifest { .. } => {
                ErrorKind::Missing
            }
            Self::Gguf { source, .. } if matches!(**source, gguf::Error::Io(_)) => ErrorKind::Io,
            _ => ErrorKind::Model,
        }
    }

    fn path(&self) -> Option<&Path> {
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
            | Self::Differs { path, .. } => Some(path),
        }
    }

    fn remedy(&self) -> Option<Remedy> {
        let advice = match self {
            _ if self.is_out_of_memory() => return Some(Remedy::RaiseMemoryLimit),
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
                return Some(Remedy::ConvertFirst { path: path.clone() });
            }
            Self::WeightFile { .. } => "copy the file again: it is damaged or cut short",
            Self::Gguf { source, .. } => return source.remedy(),
            Self::DamagedWeights { .. } => {
                "copy, download or convert the checkpoint again, or ask its publisher for one without \
                 NaN and infinity"
            }
            Self::NoManifest { .. } => "convert the checkpoint; that writes one",
            Self::Differs { .. } => "convert or download it again",
            Self::Manifest { .. } => return None,
        };
        Some(advice.into())
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
