//! What can go wrong between an answer and its files.

use std::path::{Path, PathBuf};

use r1seg_diagnostic::{At, Diagnostic, ErrorKind, Remedy};

/// Everything that can go wrong when results are measured and written.
///
/// `Display` says which file is at fault and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum Error {
    /// Reading or writing a volume, a mask or a trace failed.
    #[error(transparent)]
    R1Seg(#[from] r1seg::Error),
    /// A file that would be written exists, and files are not to be replaced.
    #[error("{}the output exists already", At(path))]
    Exists { path: PathBuf, in_folder: bool },
    /// A file or folder cannot be created.
    #[error("{}{what}", At(path))]
    CannotCreate { path: PathBuf, what: String },
    /// The folder of a named file does not exist.
    #[error("{}the folder of this file does not exist", At(path))]
    NoFolder { path: PathBuf },
    /// The name of a file does not end as a known format does.
    #[error("{}the file name does not say the format", At(path))]
    UnknownFormat { path: PathBuf, endings: &'static [&'static str] },
    /// The name of the picture ends as that of another format.
    #[error("{}the preview is a PNG picture, and the file name says otherwise", At(path))]
    NotPng { path: PathBuf },
    /// Two results have the same place.
    #[error("two results would go to `{}`", path.display())]
    SamePlace { path: PathBuf },
    /// An output would change what the run reads.
    #[error(
        "{}the output `{}` {conflict}: inputs and models are never replaced",
        At(input),
        output.display()
    )]
    Protected { output: PathBuf, input: PathBuf, conflict: String },
    /// The folder that would be named after the image is inside the image's own folder.
    #[error("{}the results would be written into the folder of the image", At(image))]
    InsideImage { image: PathBuf },
    /// One mask was asked for, and the masks of several prompts overlap.
    #[error("masks of several prompts overlap in {voxels} voxels: one 3D mask cannot hold them")]
    Overlap { voxels: usize },
    /// A report or a picture cannot be encoded, which is a fault of this crate.
    #[error("{what} cannot be encoded: {source}")]
    Encoding { what: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
}

r1seg_diagnostic::diagnostic_methods!(Error);

impl Diagnostic for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::R1Seg(error) => error.code(),
            Self::Exists { .. } => "R-OUT-01",
            Self::CannotCreate { .. } | Self::NoFolder { .. } => "R-OUT-02",
            Self::UnknownFormat { .. } | Self::NotPng { .. } => "R-OUT-04",
            Self::SamePlace { .. } => "R-ARG-03",
            Self::Protected { .. } | Self::InsideImage { .. } => "R-OUT-06",
            Self::Overlap { .. } => "R-OUT-07",
            Self::Encoding { .. } => "R-BUG-02",
        }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::R1Seg(error) => error.kind(),
            Self::SamePlace { .. } => ErrorKind::Usage,
            Self::Encoding { .. } => ErrorKind::Internal,
            _ => ErrorKind::CannotCreate,
        }
    }

    fn path(&self) -> Option<&Path> {
        match self {
            Self::R1Seg(error) => error.path(),
            Self::Exists { path, .. }
            | Self::CannotCreate { path, .. }
            | Self::NoFolder { path }
            | Self::UnknownFormat { path, .. }
            | Self::NotPng { path }
            | Self::Protected { input: path, .. }
            | Self::InsideImage { image: path } => Some(path),
            Self::SamePlace { .. } | Self::Overlap { .. } | Self::Encoding { .. } => None,
        }
    }

    fn remedy(&self) -> Option<Remedy> {
        Some(match self {
            Self::R1Seg(error) => return error.remedy(),
            Self::Exists { in_folder: true, .. } => Remedy::ReplaceResults,
            Self::Exists { in_folder: false, .. } => Remedy::ReplaceFile,
            Self::CannotCreate { .. } => "choose a folder that you may write to".into(),
            Self::NoFolder { .. } => "create the folder first".into(),
            Self::UnknownFormat { endings, .. } => end_in(endings),
            Self::NotPng { .. } => end_in(&[".png"]),
            Self::SamePlace { .. } => Remedy::NameResultsApart,
            Self::Protected { .. } => Remedy::KeepInputs,
            Self::InsideImage { .. } => Remedy::ChooseResultFolder,
            Self::Overlap { .. } => Remedy::WriteMasksApart,
            Self::Encoding { .. } => return None,
        })
    }
}

impl Error {
    pub(crate) fn cannot_create(what: impl Into<String>, path: &Path) -> Self {
        Self::CannotCreate { path: path.to_path_buf(), what: what.into() }
    }

    pub(crate) fn encoding(
        what: &'static str,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self::Encoding { what, source: source.into() }
    }
}

impl From<r1seg::volume::Error> for Error {
    fn from(error: r1seg::volume::Error) -> Self {
        Self::R1Seg(error.into())
    }
}

/// `end the name in .nii.gz, .nii or .npy`.
fn end_in(endings: &[&str]) -> Remedy {
    let any = match endings {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => endings.concat(),
    };
    format!("end the name in {any}").into()
}
