//! Why a viewer gets nothing, in words that its user reads.

use std::time::Duration;

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::ext::ReasonPhrase;
use serde::Serialize;

use crate::Error;
use crate::reply::Failure;

/// More than a user reads in a message.
const LONGEST: usize = 300;
/// When a viewer that found no session free may try again.
const RETRY: Duration = Duration::from_secs(10);

/// An answer that is none. Plug-ins show the words behind the number of the status line, and of a body
/// only those of 410 and 503; these two mean a lost session and a full server, and nothing else may.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    detail: String,
    retry_after: Option<Duration>,
}

#[derive(Serialize)]
struct Detail<'a> {
    detail: &'a str,
}

impl Refusal {
    /// Something that was asked for cannot be done.
    pub(super) fn new(detail: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, detail: detail.into(), retry_after: None }
    }

    /// A fault that is not the viewer's.
    pub(super) fn fault(detail: impl Into<String>) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, ..Self::new(detail) }
    }

    /// There is no such session.
    pub(super) fn gone() -> Self {
        let detail = "there is no such session: it has ended, or the server was started again";
        Self { status: StatusCode::GONE, ..Self::new(detail) }
    }

    /// As many sessions are open as there may be.
    pub(super) fn full(most: usize) -> Self {
        let detail = format!("all {most} sessions of this server are taken");
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self { status, retry_after: Some(RETRY), ..Self::new(detail) }
    }

    /// A model would need, or has needed, longer than viewers wait.
    pub(super) fn too_slow(detail: impl Into<String>) -> Self {
        Self { status: StatusCode::GATEWAY_TIMEOUT, ..Self::new(detail) }
    }

    /// Of more bytes than the server takes.
    pub(super) fn too_large(detail: impl Into<String>) -> Self {
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, ..Self::new(detail) }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let failure = Failure::new(&error, None);
        let detail = match failure.body.fix {
            Some(fix) => format!("{}; {fix}", failure.body.message),
            None => failure.body.message,
        };
        let status = match error.status() {
            _ if matches!(error, Error::Timeout { .. }) => StatusCode::GATEWAY_TIMEOUT,
            404 | 409 | 415 | 422 => StatusCode::BAD_REQUEST,
            // Plug-ins take it for a server without a free session.
            503 => StatusCode::INTERNAL_SERVER_ERROR,
            _ => failure.status,
        };
        Self { status, detail, retry_after: error.retry_after() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { status, detail, retry_after } = self;
        let mut response = (status, Json(Detail { detail: &detail })).into_response();
        if let Some(wait) = retry_after {
            let seconds = HeaderValue::from(wait.as_secs().max(1));
            response.headers_mut().insert(RETRY_AFTER, seconds);
        }
        if let Ok(phrase) = ReasonPhrase::try_from(in_one_line(&detail).into_bytes()) {
            response.extensions_mut().insert(phrase);
        }
        response
    }
}

/// As a status line carries it: in ASCII.
fn in_one_line(text: &str) -> String {
    let plain = text.chars().map(|c| match c {
        ' '..='~' => c,
        c if c.is_whitespace() => ' ',
        _ => '?',
    });
    plain.take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_looks_like_a_lost_session_or_a_full_server() {
        let limit = Duration::from_secs(55);
        for (error, status) in [
            (Error::Timeout { limit }, 504),
            (Error::Busy { what: "x", retry: limit }, 429),
            (Error::Panicked, 500),
            (Error::Draining, 500),
            (Error::NotFound { what: "volume" }, 400),
            (Error::invalid("x", "y"), 400),
            (Error::TooLarge { limit: 7 }, 413),
        ] {
            assert_eq!(Refusal::from(error).status.as_u16(), status);
        }
    }

    #[test]
    fn the_status_line_says_what_is_wrong_in_ascii() {
        let response = Refusal::new("caf\u{e9}\n128 \u{d7} 128").into_response();
        let phrase = response.extensions().get::<ReasonPhrase>().unwrap();
        assert_eq!(phrase.as_bytes(), b"caf? 128 ? 128");
        let long = Refusal::new("x".repeat(9000)).into_response();
        assert_eq!(long.extensions().get::<ReasonPhrase>().unwrap().as_bytes().len(), LONGEST);
    }
}
