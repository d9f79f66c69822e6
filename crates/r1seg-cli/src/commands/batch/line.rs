//! A line of `results.jsonl`: what became of a volume.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// Raised when a field changes its meaning or goes away.
const SCHEMA_VERSION: u32 = 1;

/// What became of a volume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) schema_version: u32,
    pub(super) id: String,
    pub(super) status: Status,
    /// Of the error.
    pub(super) code: Option<String>,
    pub(super) text: Option<String>,
    pub(super) fix: Option<String>,
    /// What a run of this volume alone would end with.
    pub(super) exit_code: u8,
    /// Whether `--resume` leaves it as it is: it failed twice, or the program ended twice.
    pub(super) poisoned: bool,
    /// In the run that wrote the line.
    pub(super) attempts: u32,
    pub(super) image: String,
    /// Of its results, relative to that of the batch.
    pub(super) folder: Option<String>,
    pub(super) input: Option<Fingerprint>,
    pub(super) prompt_sha256: String,
    pub(super) model_sha256: String,
    pub(super) answers: Vec<AnswerLine>,
    pub(super) masks: Vec<MaskLine>,
    /// Codes of the warnings in its report.
    pub(super) warnings: Vec<String>,
    /// From the beginning of reading until its files were written, waiting included.
    pub(super) seconds: f64,
    /// Of these, in the model.
    pub(super) model_seconds: f64,
    /// When, in milliseconds since 1970 (UTC).
    pub(super) finished_unix_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Ok,
    Failed,
}

/// What identifies an input, so that a change of it is noticed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprint {
    /// Of the file; of several files that of a list of their names, sizes and hashes.
    pub(super) sha256: String,
    /// Of all files.
    pub(super) bytes: u64,
    /// When the last of them changed, in nanoseconds since 1970 (UTC).
    pub(super) modified_ns: u64,
}

/// What a prompt got in words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct AnswerLine {
    /// The label of its mask.
    pub(super) label: u16,
    pub(super) name: String,
    pub(super) status: String,
    pub(super) answer: Option<String>,
}

/// A mask, measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct MaskLine {
    pub(super) label: u16,
    pub(super) name: String,
    pub(super) voxels: usize,
    pub(super) volume_ml: Option<f64>,
    pub(super) mean_hu: Option<f64>,
    pub(super) centroid_mm: Option<[f64; 3]>,
    pub(super) file: Option<String>,
}

impl Line {
    /// Of a volume that has not failed, and of which nothing else is known.
    pub(super) fn new(id: &str, image: &Path) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            id: id.to_owned(),
            status: Status::Ok,
            code: None,
            text: None,
            fix: None,
            exit_code: 0,
            poisoned: false,
            attempts: 1,
            image: image.display().to_string(),
            folder: None,
            input: None,
            prompt_sha256: String::new(),
            model_sha256: String::new(),
            answers: Vec::new(),
            masks: Vec::new(),
            warnings: Vec::new(),
            seconds: 0.0,
            model_seconds: 0.0,
            finished_unix_ms: 0,
        }
    }
}
