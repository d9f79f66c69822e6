use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use r1seg_diagnostic::{Diagnostic, ErrorKind, Remedy};

use crate::{Digest, Error, ModelId};

/// The cases of [`Error`]; `Display` is the message without the path.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Detail {
    #[error("{id} is not in the cache, and offline mode is on")]
    Offline { id: Box<ModelId>, cache: PathBuf },
    #[error("{id} is not in the cache")]
    NotCached { id: Box<ModelId>, cache: PathBuf },
    #[error("{id} is not complete: {} of its files are missing: {}", missing.len(), first(missing))]
    Incomplete { id: Box<ModelId>, path: PathBuf, missing: Vec<String> },
    #[error("invalid model name: {reason}")]
    ModelId { reason: &'static str, similar_names: Vec<&'static str> },
    #[error("the endpoint cannot be used: {reason}")]
    Endpoint { reason: &'static str },
    #[error("no folder for the cache is known")]
    NoHome,

    #[error("{what} does not exist on the hub (404)")]
    NotFound { what: String, similar_names: Vec<&'static str> },
    #[error(
        "the hub requires {} token for {what} (401); it also answers so for models that do not exist",
        if *had_token { "a valid" } else { "an access" }
    )]
    Unauthorized { what: String, had_token: bool, similar_names: Vec<&'static str> },
    #[error("access to {what} is denied (403)")]
    Forbidden { what: String },
    #[error("the hub asks for fewer requests (429)")]
    RateLimited { retry_after: Option<Duration> },
    #[error("the hub failed with status {status}")]
    Server { status: u16, retry_after: Option<Duration> },
    #[error("the hub answered with status {status}, which was not expected here")]
    Status { status: u16 },
    #[error("no connection to {host}: {reason}")]
    Connect { host: String, reason: String },
    #[error("no secure connection to {host}: {reason}")]
    Tls { host: String, reason: String },
    #[error("{host} sent no answer within {} s", after.as_secs_f32())]
    NoAnswer { host: String, after: Duration },
    #[error("{file}: only {bytes} bytes came in {} s", after.as_secs_f32())]
    Stalled { file: String, bytes: u64, after: Duration },
    #[error("{file}: the transfer broke off at {got} bytes")]
    Truncated { file: String, got: u64 },
    #[error("{file}: the hub states {expected} bytes, its server {got} or more")]
    Length { file: String, expected: u64, got: u64 },
    #[error("{file}: its hash is {got}, expected {expected}")]
    HashMismatch { file: String, path: PathBuf, expected: Digest, got: Digest },
    #[error("{file}: the hub states no SHA-256 or git hash for it")]
    NoHash { file: String },
    #[error("the hub's reply is not usable: {reason}")]
    BadReply { reason: &'static str },
    #[error("the hub lists a file whose name could leave the model's folder (number {index})")]
    HostileName { index: usize },
    #[error("{id} holds no weights (safetensors, .bin, .pth, .pt or .ckpt)")]
    NoWeights { id: Box<ModelId> },

    #[error("{needed} bytes are needed, {free} are free")]
    DiskFull { path: PathBuf, needed: u64, free: u64 },
    #[error("the file cannot be created")]
    CannotCreate { path: PathBuf, source: io::Error },
    #[error("reading failed")]
    Read { path: PathBuf, source: io::Error },
    #[error("writing failed")]
    Write { path: PathBuf, source: io::Error },
    #[error("certificates cannot be used: {reason}")]
    #[cfg_attr(
        not(feature = "tls"),
        expect(dead_code, reason = "certificates are read for TLS alone")
    )]
    Certificates { path: PathBuf, reason: &'static str },
    #[error("cancelled")]
    Cancelled,
}

impl Diagnostic for Detail {
    fn code(&self) -> &'static str {
        use Detail as E;
        match self {
            E::Offline { .. } => "R-HUB-01",
            E::NotCached { .. } => "R-HUB-02",
            E::Incomplete { .. } => "R-HUB-03",
            E::ModelId { .. } => "R-HUB-04",
            E::Endpoint { .. } => "R-HUB-05",
            E::NoHome => "R-HUB-06",
            E::NotFound { .. } => "R-HUB-10",
            E::Unauthorized { .. } => "R-HUB-11",
            E::Forbidden { .. } => "R-HUB-12",
            E::RateLimited { .. } => "R-HUB-13",
            E::Server { .. } => "R-HUB-14",
            E::Status { .. } => "R-HUB-15",
            E::Connect { .. } => "R-HUB-16",
            E::NoAnswer { .. } => "R-HUB-17",
            E::Stalled { .. } => "R-HUB-18",
            E::Truncated { .. } => "R-HUB-19",
            E::Length { .. } => "R-HUB-20",
            E::HashMismatch { .. } => "R-HUB-21",
            E::NoHash { .. } => "R-HUB-22",
            E::BadReply { .. } => "R-HUB-23",
            E::HostileName { .. } => "R-HUB-24",
            E::NoWeights { .. } => "R-HUB-25",
            E::Tls { .. } => "R-HUB-26",
            E::DiskFull { .. } => "R-HUB-30",
            E::CannotCreate { .. } => "R-HUB-31",
            E::Read { .. } => "R-HUB-32",
            E::Write { .. } => "R-HUB-33",
            E::Certificates { .. } => "R-HUB-34",
            E::Cancelled => "R-HUB-40",
        }
    }

    fn kind(&self) -> ErrorKind {
        use Detail as E;
        match self {
            E::ModelId { .. } | E::Endpoint { .. } | E::NoHome | E::Certificates { .. } => {
                ErrorKind::Usage
            }
            E::Offline { .. }
            | E::NotCached { .. }
            | E::NotFound { .. }
            | E::Unauthorized { .. }
            | E::Forbidden { .. } => ErrorKind::Missing,
            E::RateLimited { .. }
            | E::Server { .. }
            | E::Connect { .. }
            | E::NoAnswer { .. }
            | E::Stalled { .. }
            | E::Truncated { .. } => ErrorKind::Network,
            E::Incomplete { .. }
            | E::Status { .. }
            | E::Length { .. }
            | E::HashMismatch { .. }
            | E::NoHash { .. }
            | E::BadReply { .. }
            | E::HostileName { .. }
            | E::NoWeights { .. } => ErrorKind::Model,
            E::CannotCreate { .. } => ErrorKind::CannotCreate,
            E::Tls { .. } | E::DiskFull { .. } | E::Read { .. } | E::Write { .. } => ErrorKind::Io,
            E::Cancelled => ErrorKind::Cancelled,
        }
    }

    fn path(&self) -> Option<&Path> {
        use Detail as E;
        match self {
            E::Offline { cache: path, .. }
            | E::NotCached { cache: path, .. }
            | E::Incomplete { path, .. }
            | E::HashMismatch { path, .. }
            | E::DiskFull { path, .. }
            | E::CannotCreate { path, .. }
            | E::Read { path, .. }
            | E::Write { path, .. }
            | E::Certificates { path, .. } => Some(path),
            _ => None,
        }
    }

    fn remedy(&self) -> Option<Remedy> {
        use Detail as E;
        let text = match self {
            E::Offline { id, .. } => {
                return Some(Remedy::DownloadOnline { model: id.to_string() });
            }
            E::NotCached { id, .. } | E::Incomplete { id, .. } => {
                return Some(Remedy::Download { model: id.to_string() });
            }
            E::ModelId { similar_names, .. } => {
                return Some(did_you_mean(similar_names, "write OWNER/NAME or OWNER/NAME@REV"));
            }
            E::NotFound { similar_names, .. } => {
                return Some(did_you_mean(similar_names, "check the name and the revision"));
            }
            E::Unauthorized { had_token: true, similar_names, .. } => {
                return Some(did_you_mean(similar_names, "check the name and HF_TOKEN"));
            }
            E::Unauthorized { similar_names, .. } => {
                return Some(did_you_mean(similar_names, "check the name, or set HF_TOKEN"));
            }
            E::Endpoint { .. } => "set HF_ENDPOINT to https://HOST, or unset it",
            E::NoHome => "set HF_HOME",
            E::Forbidden { .. } => {
                "accept the model's conditions on its web page, and set HF_TOKEN to a token of \
                 that user"
            }
            E::RateLimited { .. } => "try again later; HF_TOKEN raises the limit",
            E::Server { .. } | E::NoAnswer { .. } | E::Stalled { .. } | E::Truncated { .. } => {
                "run it again: what has come is kept"
            }
            E::Connect { .. } => {
                "check the network and HTTPS_PROXY, or set HF_ENDPOINT to a mirror"
            }
            E::Tls { .. } => {
                "set SSL_CERT_FILE to the PEM file of your network's authorities, and check the \
                 clock"
            }
            E::HashMismatch { .. } | E::Length { .. } => {
                "download it again with every file re-hashed; if it stays, a mirror or proxy \
                 changes files"
            }
            E::BadReply { .. } | E::Status { .. } | E::NoHash { .. } => {
                "check that HF_ENDPOINT is a Hugging Face hub and that no login page is in between"
            }
            E::HostileName { .. } => "do not use this model",
            E::NoWeights { .. } => "choose another model or revision",
            E::DiskFull { .. } => "free space, or set HF_HOME to a larger disk",
            E::CannotCreate { .. } => "check the permissions, or set HF_HOME to another folder",
            E::Write { .. } => "check the space left on the device",
            E::Certificates { .. } => "set SSL_CERT_FILE to a PEM file, or unset it",
            E::Read { .. } | E::Cancelled => return None,
        };
        Some(text.into())
    }
}

/// The error of a failed write: a full disk is told apart, for what helps is another.
pub(crate) fn writing(path: &Path, source: io::Error) -> Error {
    use io::ErrorKind as K;
    let path = path.to_path_buf();
    match source.kind() {
        K::StorageFull | K::QuotaExceeded => {
            let free = fs4::available_space(path.parent().unwrap_or(&path)).unwrap_or_default();
            Detail::DiskFull { path, needed: free.saturating_add(1), free }.into()
        }
        K::PermissionDenied | K::ReadOnlyFilesystem | K::NotADirectory | K::AlreadyExists => {
            Detail::CannotCreate { path, source }.into()
        }
        _ => Detail::Write { path, source }.into(),
    }
}

pub(crate) fn reading(path: &Path, source: io::Error) -> Error {
    Detail::Read { path: path.to_path_buf(), source }.into()
}

fn did_you_mean(names: &[&'static str], otherwise: &'static str) -> Remedy {
    if names.is_empty() {
        otherwise.into()
    } else {
        format!("did you mean {}?", names.join(" or ")).into()
    }
}

/// The first five names.
fn first(names: &[String]) -> String {
    let mut text = names.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > 5 {
        text.push_str(", ...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r2_full_disk_and_forbidden_folder_are_told_apart() {
        let of = |kind: io::ErrorKind| writing(Path::new("cache/x"), kind.into());
        for (kind, code, expected) in [
            (io::ErrorKind::StorageFull, "R-HUB-30", ErrorKind::Io),
            (io::ErrorKind::QuotaExceeded, "R-HUB-30", ErrorKind::Io),
            (io::ErrorKind::PermissionDenied, "R-HUB-31", ErrorKind::CannotCreate),
            (io::ErrorKind::ReadOnlyFilesystem, "R-HUB-31", ErrorKind::CannotCreate),
            (io::ErrorKind::Other, "R-HUB-33", ErrorKind::Io),
        ] {
            let error = of(kind);
            assert_eq!((error.code(), error.kind()), (code, expected));
            assert!(error.path().is_some() && error.remedy().is_some());
        }
    }
}
