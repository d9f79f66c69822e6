//! What can go wrong between an answer and its files.

use std::path::{Path, PathBuf};

use r1seg::ErrorKind;

/// Everything that can go wrong when results are measured and written.
///
/// `Display` says what is wrong; [`Error::path`] says where, and [`Error::remedy`] what to do about
/// it, as data that each program words in its own terms.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading or writing a volume, a mask or a trace failed.
    #[error(transparent)]
    R1Seg(#[from] r1seg::Error),
    /// A file that would be written exists, and files are not to be replaced.
    #[error("the output exists already")]
    #[allow(missing_docs, reason = "the messages say what the fields are")]
    Exists { path: PathBuf, in_folder: bool },
    /// A file or folder cannot be created.
    #[error("{what}")]
    #[allow(missing_docs, reason = "the messages say what the fields are")]
    CannotCreate { path: PathBuf, what: String },
    /// The folder of a named file does not exist.
    #[error("the folder of this file does not exist")]
    #[allow(missing_docs, reason = "the messages say what the fields are")]
    NoFolder { path: PathBuf },
    /// The name of a file does not end as a known format does.
    #[error("the file name does not say the format")]
    #[allow(missing_docs, reason = "the messages say what the fields are")]
    UnknownFormat { path: PathBuf, endings: &'static [&'static str] },
    /// The name of the picture ends as that of another format.
    #[error("the preview is a PNG picture, and the file name says otherwise")]
    #[allow(missing_docs, reason = "the messages say what the fields are")]
    NotPng { path: PathBuf },
    /// Two results have the same place.
    #[error("two results would go to `{}`", path.display())]
    #[allow(missing_docs, reason = "the messages say what the fields are")]
    SamePlace { path: PathBuf },
    /// An output would change what the run reads.
    #[error("the output `{}` {conflict}: inputs and models are never replaced", output.display())]
    #[allow(missing_docs, reason = "the messages say what the fields are")]
    Protected { output: PathBuf, input: PathBuf, conflict: String },
    /// The folder that would be named after the image is inside the image's own folder.
    #[error("the results would be written into the folder of the image")]
    #[allow(missing_docs, reason = "the messages say what the fields are")]
    InsideImage { image: PathBuf },
    /// One mask was asked for, and the masks of several prompts overlap.
    #[error("masks of several prompts overlap in {voxels} voxels: one 3D mask cannot hold them")]
    #[allow(missing_docs, reason = "the messages say what the fields are")]
    Overlap { voxels: usize },
    /// A report or a picture cannot be encoded, which is a fault of this crate.
    #[error("{what} cannot be encoded: {source}")]
    #[allow(missing_docs, reason = "the messages say what the fields are")]
    Encoding { what: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
}

/// What a person can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remedy {
    /// Let the files of the folder be replaced, or choose another folder.
    ReplaceOrOtherFolder,
    /// Let the file be replaced, or choose another name.
    ReplaceOrOtherName,
    /// Choose a folder that may be written to.
    WritableFolder,
    /// Create the folder first.
    CreateFolder,
    /// End the name in one of these.
    EndIn(&'static [&'static str]),
    /// Give each result a name of its own.
    DistinctNames,
    /// Choose another place for the results.
    OtherPlace,
    /// Name another folder than the one that is chosen by itself.
    NameFolder,
    /// Write a file for each mask.
    FileForEach,
}

impl Error {
    /// A stable code such as `R-OUT-01`.
    pub fn code(&self) -> &'static str {
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

    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::R1Seg(error) => error.kind(),
            Self::SamePlace { .. } => ErrorKind::Usage,
            Self::Encoding { .. } => ErrorKind::Internal,
            _ => ErrorKind::CannotCreate,
        }
    }

    /// The file or folder that it is about.
    pub fn path(&self) -> Option<&Path> {
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

    /// What to do about it, where something can be done and [`r1seg::Error::fix`] does not say it.
    pub fn remedy(&self) -> Option<Remedy> {
        Some(match self {
            Self::R1Seg(_) | Self::Encoding { .. } => return None,
            Self::Exists { in_folder: true, .. } => Remedy::ReplaceOrOtherFolder,
            Self::Exists { in_folder: false, .. } => Remedy::ReplaceOrOtherName,
            Self::CannotCreate { .. } => Remedy::WritableFolder,
            Self::NoFolder { .. } => Remedy::CreateFolder,
            Self::UnknownFormat { endings, .. } => Remedy::EndIn(endings),
            Self::NotPng { .. } => Remedy::EndIn(&[".png"]),
            Self::SamePlace { .. } => Remedy::DistinctNames,
            Self::Protected { .. } => Remedy::OtherPlace,
            Self::InsideImage { .. } => Remedy::NameFolder,
            Self::Overlap { .. } => Remedy::FileForEach,
        })
    }

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
