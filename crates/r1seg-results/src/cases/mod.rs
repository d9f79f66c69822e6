//! The cases of an evaluation: read out of the layouts that benchmarks are published in, or out of a plain
//! manifest that anybody can write.
//!
//! | layout | read by | cases |
//! |---|---|---|
//! | a plain manifest, CSV or JSON lines | [`manifest`] | [`ManifestCase`] |
//! | M3D-VQA, CSV | [`vqa`] | [`VqaCase`] |
//! | M3D-Cap, JSON of splits | [`captions`] | [`CaptionCase`] |
//! | M3D-Seg, JSON of splits | [`segmentations`] | [`SegmentationCase`] |
//! | M3D-RefSeg, CSV, with R1Seg-3D's column `Text` or without | [`references`] | [`ReferenceCase`] |
//! | findings of each volume as 0 and 1, CSV (CT-RATE, HSENet) | [`findings`] | [`Findings`] |
//!
//! All of them take the text of a file and read no other: paths are as they are written, for the caller to
//! resolve. A row that cannot be used is a [`Fault`] and costs nothing else; a text that is not of the layout
//! at all is a fault alone.

mod layouts;
mod manifest;
mod table;

use std::fmt;

pub use layouts::{
    CaptionCase, Findings, ReferenceCase, ReferenceKind, SegmentationCase, VqaCase, VqaKind,
    captions, findings, references, segmentations, vqa,
};
pub use manifest::{ManifestCase, TrueLabel, manifest};

/// What was read, and what could not be.
#[derive(Debug, Clone, PartialEq)]
pub struct Cases<T> {
    /// Those that can be used, in their order.
    pub cases: Vec<T>,
    /// The rows that cannot, in their order.
    pub faults: Vec<Fault>,
}

impl<T> Default for Cases<T> {
    fn default() -> Self {
        Self { cases: Vec::new(), faults: Vec::new() }
    }
}

impl<T> Cases<T> {
    fn add(&mut self, case: Result<T, Fault>) {
        match case {
            Ok(case) => self.cases.push(case),
            Err(fault) => self.faults.push(fault),
        }
    }
}

/// Why a row, or a whole text, cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where, such as `line 7` or `test, entry 3`; empty for the whole text.
    pub place: String,
    /// What is wrong, and what is needed.
    pub what: String,
}

impl Fault {
    fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { place: place.into(), what: what.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.as_str() {
            "" => f.write_str(&self.what),
            place => write!(f, "{place}: {}", self.what),
        }
    }
}

impl std::error::Error for Fault {}
