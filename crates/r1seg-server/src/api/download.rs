//! Files as responses.

use std::path::Path;

use axum::body::Body;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, Response as HttpResponse};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use crate::Error;

pub(crate) const NIFTI_GZ: &str = "application/gzip";
pub(crate) const PNG: &str = "image/png";
const CHUNK: usize = 1 << 16;

/// The media type of a file that results have.
pub(crate) fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("gz") => NIFTI_GZ,
        Some("png") => PNG,
        Some("json") => "application/json",
        Some("txt") => "text/plain; charset=utf-8",
        Some("zip") => "application/zip",
        _ => "application/octet-stream",
    }
}

/// Runs what blocks where it may.
///
/// # Errors
/// What it ended with; [`Error::Panicked`].
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Panicked)?
}

/// A file of the server, under a name for the client.
///
/// # Errors
/// [`Error::NotFound`] for one that has gone meanwhile.
pub(crate) async fn file(path: &Path, name: &str, kind: &'static str) -> Result<Response, Error> {
    let file = File::open(path).await.map_err(|_| Error::NotFound { what: "file" })?;
    let length = file.metadata().await?.len();
    let chunks = stream::try_unfold(file, |mut file| async move {
        let mut chunk = vec![0; CHUNK];
        let read = file.read(&mut chunk).await?;
        chunk.truncate(read);
        let more = (read > 0).then(|| (Bytes::from(chunk), file));
        Ok::<_, std::io::Error>(more)
    });
    let mut response = named(Body::from_stream(chunks), name, kind);
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    Ok(response)
}

/// Bytes, under a name for the client.
pub(crate) fn bytes(bytes: impl Into<Bytes>, name: &str, kind: &'static str) -> Response {
    named(Body::from(bytes.into()), name, kind)
}

/// `name` is one of the server's own, and needs no quoting.
fn named(body: Body, name: &str, kind: &'static str) -> Response {
    let mut response = HttpResponse::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        headers.insert(CONTENT_DISPOSITION, value);
    }
    response
}
