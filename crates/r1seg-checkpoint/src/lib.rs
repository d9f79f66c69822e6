//! What a checkpoint on disk is: its files, their headers, and where each tensor lies, in which number
//! format and under which key.
//!
//! | to | use |
//! |---|---|
//! | open the weights of a folder, mapped or read | [`WeightFiles`] |
//! | read the header of one file | [`safetensors`], [`gguf`] |
//! | know the files of a folder by name | [`layout`] |
//! | translate keys | [`keys`] |
//! | compare a folder with its `manifest.json` | [`verify`], [`verify_quickly`] |
//! | find NaN and infinity | [`count_not_finite`], [`WeightFiles::damaged`] |
//!
//! No numbers are computed here, and there are no tensors: whoever multiplies asks for bytes. Nothing in a
//! file is believed: counts, lengths and names are checked against limits and against the file before
//! anything is allocated.

mod error;
mod finite;
pub mod gguf;
mod hash;
pub mod keys;
pub mod layout;
mod manifest;
mod mapped;
mod number_format;
mod report;
pub mod safetensors;
pub mod shown;
mod verify;
mod weight_file;
mod weight_files;

pub use error::{Error, damage};
pub use finite::{count_not_finite, scan};
pub use hash::{HashingReader, HashingWriter};
pub use manifest::{
    AlphaSource, FileRecord, LanguageModelRecord, LoraRecord, MANIFEST, MAX_MANIFEST_BYTES,
    Manifest, SCHEMA_VERSION, StoredOtherwise,
};
pub use number_format::NumberFormat;
pub use r1seg_diagnostic::{ErrorKind, Remedy};
pub use report::LoadReport;
pub use verify::{Verified, verify, verify_quickly};
pub use weight_file::StoredTensor;
pub use weight_files::{Found, OpenOptions, WeightFiles};

/// More tensors than any published model has.
pub const MAX_TENSORS: usize = 100_000;
