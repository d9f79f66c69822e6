//! Why a viewer gets nothing, in words that its user reads.

use std::time::Duration;

use axum::response::{IntoResponse, Response};

use crate::Error;
use crate::reply::Failure;

/// When a viewer that found no session free may try again.
const RETRY: Duration = Duration::from_secs(10);

/// A refused request. Plug-ins take 410 for a lost session and 503 for a full server, so that nothing that a
/// handler refuses may be either; a server that starts or stops answers 503 before it gets here.
#[derive(Debug)]
pub(super) struct Refusal(Error);

impl Refusal {
    /// Something that was asked for cannot be done.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self(Error::viewer(400, message))
    }

    /// A fault that is not the viewer's.
    pub(super) fn fault(message: impl Into<String>) -> Self {
        Self(Error::viewer(500, message))
    }

    /// There is no such session.
    pub(super) fn gone() -> Self {
        let message = "there is no such session: it has ended, or the server was started again";
        Self(Error::viewer(410, message))
    }

    /// As many sessions are open as there may be.
    pub(super) fn full(most: usize) -> Self {
        let message = format!("all {most} sessions of this server are taken");
        Self(Error::Viewer { status: 503, message, retry: Some(RETRY) })
    }

    /// A model would need, or has needed, longer than viewers wait.
    pub(super) fn too_slow(message: impl Into<String>) -> Self {
        Self(Error::viewer(504, message))
    }

    /// Of more bytes than the server takes.
    pub(super) fn too_large(message: impl Into<String>) -> Self {
        Self(Error::viewer(413, message))
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let message = Failure::new(&error, None).words();
        let status = match error.status() {
            _ if matches!(error, Error::Timeout { .. }) => 504,
            404 | 415 | 422 => 400,
            503 => 500,
            status => status,
        };
        Self(Error::Viewer { status, message, retry: error.retry_after() })
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
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
            assert_eq!(Refusal::from(error).0.status(), status);
        }
    }

    #[test]
    fn what_to_do_stands_behind_what_is_wrong() {
        let message = "every point is negative".to_string();
        let error = r1seg::Error::Prompt { message, fix: "give a positive point, too" };
        let Refusal(error) = Refusal::from(Error::from(error));
        assert_eq!(error.to_string(), "every point is negative; give a positive point, too");
    }
}
