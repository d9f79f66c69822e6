//! Errors of r1seg as exceptions of the package, which are defined in `python/r1seg/errors.py`.

use pyo3::prelude::*;
use r1seg::{Diagnostic, ErrorKind, Remedy};

use crate::words::words;

/// What keeps a run from its result.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An error of r1seg.
    R1Seg(r1seg_results::Error),
    /// An exception, such as that of a callback.
    Python(PyErr),
}

impl From<r1seg_results::Error> for Failure {
    fn from(error: r1seg_results::Error) -> Self {
        Self::R1Seg(error)
    }
}

impl From<r1seg::Error> for Failure {
    fn from(error: r1seg::Error) -> Self {
        Self::R1Seg(error.into())
    }
}

impl From<r1seg::volume::Error> for Failure {
    fn from(error: r1seg::volume::Error) -> Self {
        r1seg::Error::from(error).into()
    }
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}

impl Failure {
    /// The exception to raise.
    pub(crate) fn raised(self, py: Python<'_>) -> PyErr {
        match self {
            Self::R1Seg(error) => exception(py, &error),
            Self::Python(error) => error,
        }
    }
}

/// What can go wrong between a call of Python and the library.
#[derive(Debug, thiserror::Error)]
enum CallError {
    /// An argument that cannot be used, or that is not for this model.
    #[error("{what}")]
    Argument { what: String, fix: String },
    /// A process that was forked after r1seg had computed.
    #[error(
        "this process was forked after r1seg had computed, and the threads that compute stayed behind"
    )]
    Forked,
}

impl Diagnostic for CallError {
    fn code(&self) -> &'static str {
        match self {
            Self::Argument { .. } => "R-PY-01",
            Self::Forked => "R-PY-02",
        }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::Argument { .. } | Self::Forked => ErrorKind::Usage,
        }
    }

    fn remedy(&self) -> Option<Remedy> {
        Some(match self {
            Self::Argument { fix, .. } => fix.clone().into(),
            Self::Forked => {
                "start processes with multiprocessing.get_context(\"spawn\"), or load the model in \
                             them only"
                    .into()
            }
        })
    }
}

/// An error of r1seg as the exception for whoever must act on it.
pub(crate) fn exception(py: Python<'_>, error: &dyn Diagnostic) -> PyErr {
    make(py, error).unwrap_or_else(|error| error)
}

/// An argument that cannot be used, and what to give instead.
pub(crate) fn usage(py: Python<'_>, what: impl Into<String>, fix: &str) -> PyErr {
    exception(py, &CallError::Argument { what: what.into(), fix: fix.to_string() })
}

/// That a process was forked after threads were started in it, which its child does not have.
pub(crate) fn forked(py: Python<'_>) -> PyErr {
    exception(py, &CallError::Forked)
}

fn make(py: Python<'_>, error: &dyn Diagnostic) -> PyResult<PyErr> {
    let path = error.path().map(|path| path.display().to_string());
    let fix = error.remedy().as_ref().map(words);
    let class = py.import("r1seg.errors")?.getattr(class(error.kind()))?;
    Ok(PyErr::from_value(class.call1((error.explanation(), error.code(), path, fix))?))
}

fn class(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Usage => "UsageError",
        ErrorKind::BadData => "DataError",
        ErrorKind::Missing => "MissingError",
        ErrorKind::Device => "DeviceError",
        ErrorKind::CannotCreate => "OutputError",
        ErrorKind::Io => "StorageError",
        ErrorKind::Resources => "ResourceError",
        ErrorKind::Network => "NetworkError",
        ErrorKind::Model => "ModelError",
        ErrorKind::NotFinite => "NotFiniteError",
        ErrorKind::Cancelled => "Cancelled",
        ErrorKind::Internal => "InternalError",
    }
}
