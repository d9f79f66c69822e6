//! Errors as clients get them.

use r1seg::{Diagnostic, Remedy};
use rmcp::model::{CallToolResult, ContentBlock};
use serde::Serialize;
use serde_json::json;

use crate::Error;
use crate::results::Series;

/// Why a tool could not do what was asked, for the agent that asked: a result of the tool, and never a
/// fault of the protocol.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Failure {
    /// A stable code such as `R-NII-07`.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// The file or folder that it is about, as given.
    pub path: Option<String>,
    /// What to do about it.
    pub fix: Option<String>,
    /// The series of which one must be chosen, where that is what is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub series: Vec<Series>,
}

impl Failure {
    /// An error of any crate of r1seg. `words` says what to do about it.
    pub fn of(error: &dyn Diagnostic, words: impl FnOnce(&Remedy) -> String) -> Self {
        Self {
            code: error.code().to_string(),
            message: error.explanation(),
            path: error.path().map(|path| path.display().to_string()).filter(|p| !p.is_empty()),
            fix: error.remedy().as_ref().map(words),
            series: Vec::new(),
        }
    }

    /// An error of this crate.
    pub(crate) fn of_error(error: &Error, words: impl FnOnce(&Remedy) -> String) -> Self {
        let series = error.series().unwrap_or_default().iter().map(Series::from).collect();
        Self { series, ..Self::of(error, words) }
    }

    /// In lines: what is wrong, where, and what to do.
    fn text(&self) -> String {
        let Self { code, message, path, fix, series } = self;
        let mut text = format!("error[{code}]: {message}");
        if let Some(path) = path {
            text.push_str(&format!("\n  --> {path}"));
        }
        if let Some(fix) = fix {
            text.push_str(&format!("\n  fix: {fix}"));
        }
        for one in series {
            text.push_str(&format!("\n  {one}"));
        }
        text
    }
}

impl From<Failure> for CallToolResult {
    /// A text, and the same as JSON. It is not structured content: that keeps to the schema of a success.
    fn from(failure: Failure) -> Self {
        let object = json!({ "error": failure }).to_string();
        Self::error(vec![ContentBlock::text(failure.text()), ContentBlock::text(object)])
    }
}
