//! Scores against those of other tools.
//!
//! - `surface`: surface-distance, MONAI, MedPy and SimpleITK on masks that are drawn here, recorded by
//!   `scripts/record-metrics`.
//! - `text`: sacrebleu, `rouge_score` and NLTK, recorded by the same script.
//! - `data`: SimpleITK on segmentations of real CTs, and TotalSegmentator's statistics of them, where
//!   `R1SEG_DATA` is set.
//!
//! Where definitions differ, the test says how.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first error")]
#![expect(clippy::print_stderr, reason = "a test says why it skips")]

mod data;
mod surface;
mod text;

use std::path::Path;

use serde_json::Value;

fn recorded(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The other tools compute in f64, and add in another order.
const F64: f64 = 1e-12;
/// MONAI's distances are f32.
const F32: f64 = 3e-7;

#[track_caller]
fn assert_close(found: Option<f64>, expected: &Value, tolerance: f64, what: &str) {
    let expected =
        expected.as_f64().unwrap_or_else(|| panic!("{what}: {expected} is not a number"));
    let found = found.unwrap_or_else(|| panic!("{what}: nothing, expected {expected}"));
    let scale = expected.abs().max(1.0);
    assert!((found - expected).abs() <= tolerance * scale, "{what}: {found}, expected {expected}");
}
