//! Errors in the words of viewers.

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use hyper::ext::ReasonPhrase;
use serde_json::json;

use crate::reply::Failure;

/// Longer ones fill a screen.
const LONGEST_REASON: usize = 300;

/// An error as plug-ins understand it: `{"detail": "words"}`. Most of them show the reason behind the
/// status and nothing of the body, so that the words stand in both.
pub(crate) fn failed(failure: &Failure, request_id: &str) -> Response {
    let (mut parts, _) = failure.response(request_id).into_parts();
    // Plug-ins know no finer cases of a request that cannot be used.
    if [StatusCode::UNSUPPORTED_MEDIA_TYPE, StatusCode::UNPROCESSABLE_ENTITY]
        .contains(&parts.status)
    {
        parts.status = StatusCode::BAD_REQUEST;
    }
    let message = failure.words();
    if let Ok(reason) = ReasonPhrase::try_from(reason(&message)) {
        parts.extensions.insert(reason);
    }
    Response::from_parts(parts, Body::from(json!({"detail": message}).to_string()))
}

/// Words that a status line can carry: ASCII on one line.
fn reason(message: &str) -> String {
    let plain = |c: char| match c {
        ' '..='~' => c,
        c if c.is_whitespace() => ' ',
        _ => '?',
    };
    message.chars().map(plain).take(LONGEST_REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_short_line_of_ascii() {
        assert_eq!(reason("no such\nimage: \u{fc}\u{1b}[31m"), "no such image: ??[31m");
        assert_eq!(reason(&"x".repeat(1000)).len(), LONGEST_REASON);
    }
}
