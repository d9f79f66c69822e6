//! The page, whose files are inside of the program.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use include_dir::{Dir, File, include_dir};
use sha2::{Digest, Sha256};

use super::Errors;
use crate::Error;

static PAGE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/page/dist");

/// The page.
#[utoipa::path(
    get,
    path = "/",
    tag = "server",
    responses((status = 200, description = "HTML", body = String, content_type = "text/html"), Errors)
)]
pub(super) async fn index(headers: HeaderMap) -> Result<Response, Error> {
    serve("index.html", &headers)
}

/// A file of the page, by a path that is not part of the API.
pub(super) async fn asset(method: Method, uri: Uri, headers: HeaderMap) -> Result<Response, Error> {
    match method {
        Method::GET | Method::HEAD => serve(uri.path().trim_start_matches('/'), &headers),
        _ => Err(Error::NotFound { what: "path" }),
    }
}

fn serve(path: &str, headers: &HeaderMap) -> Result<Response, Error> {
    let file: &File<'_> = PAGE.get_file(path).ok_or(Error::NotFound { what: "path" })?;
    let tag: String =
        Sha256::digest(file.contents()).iter().take(16).map(|b| format!("{b:02x}")).collect();
    let tag = format!("\"{tag}\"");
    let is_known =
        headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response = match is_known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => file.contents().into_response(),
    };
    let own = response.headers_mut();
    own.insert(CONTENT_TYPE, HeaderValue::from_static(media_type(path)));
    // Names stay the same from version to version: browsers ask each time, by the tag.
    own.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        own.insert(ETAG, tag);
    }
    Ok(response)
}

/// By the ending of a name.
fn media_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json" | "map" | "webmanifest") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("webp") => "image/webp",
        Some("ico") => "image/x-icon",
        Some("wasm") => "application/wasm",
        Some("woff2") => "font/woff2",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
