//! Errors as responses.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use r1seg::volume::SeriesSummary;
use r1seg_results::report::ijk;
use serde::Serialize;
use utoipa::ToSchema;

use crate::Error;
use crate::fix::fix;

/// Every response that is not a success.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ErrorReply {
    pub(crate) error: ErrorBody,
}

/// What is wrong, and what to do.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// Stable; docs/errors.md lists all of them.
    #[schema(example = "R-NII-07")]
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) fix: Option<String>,
    /// As in the header `x-request-id`.
    pub(crate) request_id: Option<String>,
    /// Where one of several DICOM series must be chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) series: Option<Vec<SeriesReply>>,
}

/// A DICOM series to choose.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct SeriesReply {
    /// From 1; the field `series` takes it.
    number: usize,
    /// The field `series` takes it, too.
    id: String,
    modality: String,
    slices: usize,
    /// (i, j, k), where it is a volume.
    shape: Option<[usize; 3]>,
    /// (i, j, k), where it is a volume.
    spacing_mm: Option<[f64; 3]>,
    is_localizer: bool,
    /// Why it cannot be read.
    problem: Option<String>,
}

impl From<&SeriesSummary> for SeriesReply {
    fn from(series: &SeriesSummary) -> Self {
        Self {
            number: series.number,
            id: series.id.clone(),
            modality: series.modality.clone(),
            slices: series.slices,
            shape: series.shape.map(ijk),
            spacing_mm: series.spacing_mm.map(ijk),
            is_localizer: series.is_localizer,
            problem: series.verdict.clone(),
        }
    }
}

/// An error as it goes to a client, in a response or in a stream.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    pub(crate) body: ErrorBody,
    retry_after: Option<u64>,
}

impl Failure {
    /// What is wrong, and how to go on.
    pub(crate) fn words(&self) -> String {
        match &self.body.fix {
            Some(fix) => format!("{}; {fix}", self.body.message),
            None => self.body.message.clone(),
        }
    }

    /// `private` is a folder that no message may name.
    pub(crate) fn new(error: &Error, private: Option<&PathBuf>) -> Self {
        let series = error.series().map(|all| all.iter().map(SeriesReply::from).collect());
        let status = if series.is_some() { 409 } else { error.status() };
        let mut message = error.message();
        if let Some(private) = private {
            message = message.replace(&*private.to_string_lossy(), "..");
        }
        Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            body: ErrorBody {
                code: error.code().to_string(),
                message,
                fix: error.remedy().as_ref().and_then(fix),
                request_id: None,
                series,
            },
            retry_after: error.retry_after().map(|wait| wait.as_secs().max(1)),
        }
    }

    /// The object of a response or an event.
    pub(crate) fn reply(&self, request_id: &str) -> ErrorReply {
        let request_id = Some(request_id.to_string());
        ErrorReply { error: ErrorBody { request_id, ..self.body.clone() } }
    }

    /// The whole response.
    pub(crate) fn response(&self, request_id: &str) -> Response {
        let mut response = (self.status, Json(self.reply(request_id))).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(axum::http::header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// An error that a handler ended with. The layer that knows the request's id makes the response of it.
#[derive(Debug, Clone)]
pub(crate) struct Failed(pub(crate) Arc<Error>);

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(Failed(Arc::new(self)));
        response
    }
}
