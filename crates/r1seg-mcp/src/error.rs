//! What can go wrong between a call of a tool and a model.

use std::path::{Path, PathBuf};

use r1seg::{Diagnostic, ErrorKind, Remedy};
use r1seg_diagnostic::At;

/// Everything that can go wrong in a tool.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum Error {
    /// Reading, loading or computing failed.
    #[error(transparent)]
    R1Seg(#[from] r1seg::Error),
    /// Measuring or writing the results failed.
    #[error(transparent)]
    Results(#[from] r1seg_results::Error),
    /// Arguments of a tool that do not fit its schema, or contradict each other.
    #[error("{what}")]
    Arguments { what: String, fix: String },
    /// A path that does not lead into a folder that is served.
    #[error("{}the path leads out of the folders that are served", At(path))]
    Outside { path: PathBuf, served: String },
    /// A volume that is not there.
    #[error("{}no such file or folder", At(path))]
    Missing { path: PathBuf },
    /// A model that is not served.
    #[error("no model `{name}` is served here")]
    UnknownModel { name: String, known: String },
    /// No model that is served does what the tool is for.
    #[error("no model that is served can {what}")]
    NoSuchModel { what: &'static str, known: String },
    /// The name of an organ that no language has.
    #[error("unknown organ `{given}`")]
    UnknownOrgan { given: String, near: String },
    /// More calls are waiting than can be held.
    #[error("{waiting} calls are waiting already")]
    Busy { waiting: usize },
    /// Two models of the same name.
    #[error("two models are called `{name}`")]
    SameName { name: String },
    /// A folder to serve that cannot be used.
    #[error("{}the folder cannot be served: {source}", At(path))]
    Root { path: PathBuf, source: std::io::Error },
    /// A fault of this crate: a tool ended unexpectedly.
    #[error("the tool ended unexpectedly")]
    Fault,
    /// The connection to the client failed.
    #[error("the connection to the client failed: {what}")]
    Connection { what: String },
}

r1seg_diagnostic::diagnostic_methods!(Error);

impl Diagnostic for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::R1Seg(error) => error.code(),
            Self::Results(error) => error.code(),
            Self::Arguments { .. } => "R-MCP-01",
            Self::Outside { .. } => "R-MCP-02",
            Self::Missing { .. } => "R-MCP-03",
            Self::UnknownModel { .. } | Self::NoSuchModel { .. } => "R-MCP-04",
            Self::UnknownOrgan { .. } => "R-MCP-05",
            Self::Busy { .. } => "R-MCP-06",
            Self::SameName { .. } => "R-MCP-07",
            Self::Root { .. } => "R-MCP-08",
            Self::Fault => "R-MCP-09",
            Self::Connection { .. } => "R-MCP-10",
        }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::R1Seg(error) => error.kind(),
            Self::Results(error) => error.kind(),
            Self::Arguments { .. }
            | Self::UnknownModel { .. }
            | Self::NoSuchModel { .. }
            | Self::UnknownOrgan { .. }
            | Self::SameName { .. } => ErrorKind::Usage,
            Self::Outside { .. } | Self::Missing { .. } | Self::Root { .. } => ErrorKind::Missing,
            Self::Busy { .. } => ErrorKind::Resources,
            Self::Fault => ErrorKind::Internal,
            Self::Connection { .. } => ErrorKind::Io,
        }
    }

    fn path(&self) -> Option<&Path> {
        match self {
            Self::R1Seg(error) => error.path(),
            Self::Results(error) => error.path(),
            Self::Outside { path, .. } | Self::Missing { path } | Self::Root { path, .. } => {
                Some(path)
            }
            _ => None,
        }
    }

    fn remedy(&self) -> Option<Remedy> {
        Some(match self {
            Self::R1Seg(error) => return error.remedy(),
            Self::Results(error) => return error.remedy(),
            Self::Arguments { fix, .. } => {
                return Some(fix.clone().into()).filter(|_| !fix.is_empty());
            }
            Self::Outside { served, .. } => format!("name a volume within {served}").into(),
            Self::Missing { .. } => "name a file or a folder that exists".into(),
            Self::UnknownModel { known, .. } | Self::NoSuchModel { known, .. } => {
                format!("served are {known}").into()
            }
            Self::UnknownOrgan { near, .. } => return Some(near.clone().into()),
            Self::Busy { .. } => "wait for the answers to earlier calls, then call again".into(),
            Self::SameName { .. } => "serve one of them, or rename its folder".into(),
            Self::Root { .. } => "name a folder that exists and may be read".into(),
            Self::Fault => "report this with the arguments of the call".into(),
            Self::Connection { .. } => return None,
        })
    }
}

impl From<r1seg::volume::Error> for Error {
    fn from(error: r1seg::volume::Error) -> Self {
        Self::R1Seg(error.into())
    }
}

impl Error {
    /// Arguments that cannot be used, and what to give instead.
    pub(crate) fn arguments(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::Arguments { what: what.into(), fix: fix.into() }
    }

    /// The series of which one is to be chosen, where that is the error.
    pub(crate) fn series(&self) -> Option<&[r1seg::volume::SeriesSummary]> {
        match self {
            Self::R1Seg(r1seg::Error::Volume(error)) => error.series(),
            _ => None,
        }
    }
}
