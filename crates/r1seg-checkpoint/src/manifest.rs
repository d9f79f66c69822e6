//! `manifest.json`: what a converted folder holds, and what it was made of.

use serde::{Deserialize, Serialize};

use crate::NumberFormat;

/// The file's name.
pub const MANIFEST: &str = "manifest.json";
/// The longest manifest that is read.
pub const MAX_MANIFEST_BYTES: u64 = 64 << 20;
/// The version of its layout.
pub const SCHEMA_VERSION: u32 = 1;

/// One file, by name, length and hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// A plain file name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its contents, in lower-case hexadecimal.
    pub sha256: String,
}

/// How low-rank updates were merged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoraRecord {
    /// Matrices that were updated.
    pub merged: usize,
    /// The ranks that occur, ascending.
    pub ranks: Vec<u64>,
    /// The numerator of the scale `alpha / r`.
    pub alpha: f64,
    /// Where alpha comes from.
    pub alpha_from: AlphaSource,
}

/// Where the numerator of a LoRA scale comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlphaSource {
    /// The caller.
    Option,
    /// `adapter_config.json` beside the weights.
    AdapterConfig,
    /// Twice the rank, as R1Seg-3D and M3D-LaMed are trained.
    TwiceTheRank,
}

/// The language model in a GGUF file of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanguageModelRecord {
    /// The file's name.
    pub file: String,
    /// What it was quantized to; `None` where it comes from another GGUF file.
    pub quant: Option<NumberFormat>,
    /// How each tensor is stored, by llama.cpp's names.
    pub types: std::collections::BTreeMap<String, String>,
    /// Tensors that are not stored as was asked for, or as the GGUF file had them.
    pub stored_otherwise: Vec<StoredOtherwise>,
}

/// A tensor that is stored in another type than the one wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredOtherwise {
    /// llama.cpp's name.
    pub name: String,
    /// The length of its rows.
    pub columns: u64,
    /// What was asked for, or what the GGUF file had.
    pub wanted: String,
    /// What it is.
    pub stored: String,
}

/// The contents of `manifest.json`. The same source and options give the same bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The version of r1seg that wrote it.
    pub r1seg_version: String,
    /// What the floating-point weights are stored as; `None` where each kept its own format.
    pub dtype: Option<NumberFormat>,
    /// The files that were read, by name without folder.
    pub sources: Vec<FileRecord>,
    /// The files of this folder, except this one.
    pub files: Vec<FileRecord>,
    /// Tensors in it.
    pub tensors: usize,
    /// Numbers in these.
    pub parameters: u64,
    /// What became of LoRA updates.
    pub lora: Option<LoraRecord>,
    /// The language model, where it is not in safetensors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language_model: Option<LanguageModelRecord>,
}
