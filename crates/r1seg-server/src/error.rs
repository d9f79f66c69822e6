//! What can go wrong between a request and its response.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use r1seg_diagnostic::{At, Diagnostic, ErrorKind, Remedy};

/// Everything that can go wrong in a server.
///
/// [`status`](Self::status) is that of the response. No message repeats what a client sent, but for
/// names of fields and models.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum Error {
    /// Reading a volume or running a model failed.
    #[error(transparent)]
    R1Seg(#[from] r1seg::Error),
    /// Writing results failed.
    #[error(transparent)]
    Results(#[from] r1seg_results::Error),
    #[error("no key was given, or one that this server does not know")]
    Unauthorized,
    #[error("the request names a host that this server is not called by")]
    Misdirected,
    #[error("the request comes from a page of another origin")]
    ForeignOrigin,
    #[error("there is no such {what}, or it has expired")]
    NotFound { what: &'static str },
    #[error("this path takes no such method")]
    Method,
    #[error("the request is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("the request did not arrive in time")]
    TooSlow,
    #[error("the request is not what this path reads: {message}")]
    Malformed { message: String },
    /// A request that was read, with a field that cannot be used.
    #[error("{field}: {message}")]
    Invalid { field: &'static str, message: String },
    #[error("the body must be {expected}")]
    MediaType { expected: &'static str },
    #[error("the server is busy: {what}")]
    Busy { what: &'static str, retry: Duration },
    #[error("there is no room for another volume until an earlier one expires or is deleted")]
    NoRoom { retry: Duration },
    #[error("the server is about to stop")]
    Draining,
    #[error("the models are still being warmed up")]
    NotReady,
    #[error("the request was not done within {} s", limit.as_secs())]
    Timeout { limit: Duration },
    #[error("a fault of r1seg ended this request; the server goes on")]
    Panicked,
    #[error("the server cannot store files: {source}")]
    Storage { source: std::io::Error },
    /// A server that other machines reach must ask for a key.
    #[error("{address} is reached by other machines, and no key is asked for")]
    OpenWithoutKey { address: SocketAddr },
    /// A list of keys that cannot be used.
    #[error("{}the list of keys cannot be used: {what}", At(path))]
    Keys { path: PathBuf, what: String },
    #[error("{address} cannot be listened at: {source}")]
    Bind { address: SocketAddr, source: std::io::Error },
    /// A list of models that cannot be served.
    #[error("{message}")]
    Models { message: String },
    /// A request of a viewer that cannot be served, in words for the person in front of it.
    #[error("{message}")]
    Viewer { status: u16, message: String, retry: Option<Duration> },
    /// An array that a viewer sent.
    #[error(transparent)]
    Array(#[from] r1seg_viewers::Error),
    /// A setting of a server that it cannot run with.
    #[error("{what}: {message}")]
    Setting { what: &'static str, message: String },
}

r1seg_diagnostic::diagnostic_methods!(Error);

impl Diagnostic for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::R1Seg(error) => error.code(),
            Self::Results(error) => error.code(),
            Self::Unauthorized => "R-SRV-01",
            Self::Misdirected => "R-SRV-02",
            Self::ForeignOrigin => "R-SRV-03",
            Self::NotFound { .. } => "R-SRV-04",
            Self::Method => "R-SRV-05",
            Self::TooLarge { .. } => "R-SRV-06",
            Self::TooSlow => "R-SRV-07",
            Self::Malformed { .. } => "R-SRV-08",
            Self::Invalid { .. } => "R-SRV-09",
            Self::MediaType { .. } => "R-SRV-10",
            Self::Busy { .. } => "R-SRV-11",
            Self::NoRoom { .. } => "R-SRV-12",
            Self::Draining => "R-SRV-13",
            Self::NotReady => "R-SRV-14",
            Self::Timeout { .. } => "R-SRV-15",
            Self::Panicked => "R-SRV-16",
            Self::Storage { .. } => "R-SRV-17",
            Self::OpenWithoutKey { .. } => "R-SRV-18",
            Self::Keys { .. } => "R-SRV-19",
            Self::Bind { .. } => "R-SRV-20",
            Self::Models { .. } => "R-SRV-21",
            Self::Viewer { .. } => "R-SRV-22",
            Self::Array(_) => "R-SRV-23",
            Self::Setting { .. } => "R-SRV-24",
        }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::R1Seg(error) => error.kind(),
            Self::Results(error) => error.kind(),
            Self::NotFound { .. } => ErrorKind::Missing,
            Self::TooLarge { .. } | Self::Array(_) => ErrorKind::BadData,
            Self::Busy { .. }
            | Self::NoRoom { .. }
            | Self::Draining
            | Self::NotReady
            | Self::Timeout { .. } => ErrorKind::Resources,
            Self::TooSlow => ErrorKind::Network,
            Self::Panicked => ErrorKind::Internal,
            Self::Storage { .. } => ErrorKind::Io,
            Self::Bind { .. } => ErrorKind::CannotCreate,
            Self::Unauthorized
            | Self::Misdirected
            | Self::ForeignOrigin
            | Self::Method
            | Self::Malformed { .. }
            | Self::Invalid { .. }
            | Self::MediaType { .. }
            | Self::OpenWithoutKey { .. }
            | Self::Keys { .. }
            | Self::Models { .. }
            | Self::Viewer { .. }
            | Self::Setting { .. } => ErrorKind::Usage,
        }
    }

    fn path(&self) -> Option<&Path> {
        match self {
            Self::R1Seg(error) => error.path(),
            Self::Results(error) => error.path(),
            Self::Keys { path, .. } => Some(path),
            _ => None,
        }
    }

    fn remedy(&self) -> Option<Remedy> {
        Some(match self {
            Self::R1Seg(error) => return error.remedy(),
            Self::Results(error) => return error.remedy(),
            Self::Unauthorized => "send the header `Authorization: Bearer KEY`".into(),
            Self::Misdirected => {
                "call the server by the address that it printed, or let it be called by this name"
                    .into()
            }
            Self::ForeignOrigin => "open the server's own page".into(),
            Self::NotFound { .. } => "look at the id, or upload the volume again".into(),
            Self::TooLarge { .. } => "send less, or raise the server's limit".into(),
            Self::Malformed { .. } | Self::Invalid { .. } | Self::MediaType { .. } => {
                "see /openapi.json".into()
            }
            Self::Busy { .. } | Self::NoRoom { .. } => "try again later".into(),
            Self::Timeout { .. } => "try again later, or raise the server's limit".into(),
            Self::OpenWithoutKey { .. } => "give a file of keys, or listen at 127.0.0.1".into(),
            Self::Keys { .. } => "write keys of at least 16 characters, one per line".into(),
            Self::Bind { .. } => "choose another address or port".into(),
            Self::Method
            | Self::TooSlow
            | Self::Draining
            | Self::NotReady
            | Self::Panicked
            | Self::Storage { .. }
            | Self::Models { .. }
            | Self::Viewer { .. }
            | Self::Array(_)
            | Self::Setting { .. } => return None,
        })
    }
}

impl Error {
    /// The status of the response.
    pub fn status(&self) -> u16 {
        match self {
            Self::R1Seg(error) => status_of(error.code(), error.kind()),
            Self::Results(error) => status_of(error.code(), error.kind()),
            Self::Unauthorized => 401,
            Self::Misdirected => 421,
            Self::ForeignOrigin => 403,
            Self::NotFound { .. } => 404,
            Self::Method => 405,
            Self::TooLarge { .. } => 413,
            Self::TooSlow => 408,
            Self::Malformed { .. } => 400,
            Self::Invalid { .. } => 422,
            Self::MediaType { .. } => 415,
            Self::Viewer { status, .. } => *status,
            Self::Array(r1seg_viewers::Error::TooLarge { .. }) => 413,
            Self::Array(_) => 400,
            Self::Busy { .. } | Self::NoRoom { .. } => 429,
            Self::Draining | Self::NotReady | Self::Timeout { .. } | Self::Storage { .. } => 503,
            Self::Panicked
            | Self::OpenWithoutKey { .. }
            | Self::Keys { .. }
            | Self::Bind { .. }
            | Self::Models { .. }
            | Self::Setting { .. } => 500,
        }
    }

    /// When to try again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry, .. } | Self::NoRoom { retry } => Some(*retry),
            Self::Viewer { retry, .. } => *retry,
            Self::Draining | Self::NotReady => Some(Duration::from_secs(5)),
            _ => None,
        }
    }

    pub(crate) fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { field, message: message.into() }
    }

    /// What a viewer shows of `message` is the reason behind the status, so that it must say it all.
    pub(crate) fn viewer(status: u16, message: impl Into<String>) -> Self {
        Self::Viewer { status, message: message.into(), retry: None }
    }

    pub(crate) fn malformed(message: impl ToString) -> Self {
        Self::Malformed { message: message.to_string() }
    }

    /// The DICOM series to choose from, where that is what is missing.
    pub(crate) fn series(&self) -> Option<&[r1seg::volume::SeriesSummary]> {
        match self {
            Self::R1Seg(r1seg::Error::Volume(error)) => error.series(),
            _ => None,
        }
    }
}

/// A file of a format that is not read. The volume crate tells it by this code alone.
const UNKNOWN_FORMAT: &str = "R-IN-06";

/// The status for an error of the libraries, by who must act.
fn status_of(code: &str, kind: ErrorKind) -> u16 {
    match kind {
        _ if code == UNKNOWN_FORMAT => 415,
        // What is missing is a part of an upload, such as the voxels of a header.
        ErrorKind::Usage | ErrorKind::BadData | ErrorKind::Missing => 422,
        ErrorKind::Device
        | ErrorKind::Resources
        | ErrorKind::Network
        | ErrorKind::Cancelled
        | ErrorKind::CannotCreate
        | ErrorKind::Io => 503,
        ErrorKind::Model | ErrorKind::NotFinite | ErrorKind::Internal => 500,
    }
}

impl From<r1seg::volume::Error> for Error {
    fn from(error: r1seg::volume::Error) -> Self {
        Self::R1Seg(error.into())
    }
}

impl From<std::io::Error> for Error {
    fn from(source: std::io::Error) -> Self {
        Self::Storage { source }
    }
}

impl Error {
    /// Whether somebody stopped what it is about.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.kind() == ErrorKind::Cancelled
    }
}
