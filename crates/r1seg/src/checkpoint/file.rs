//! One weight file: what its header says of its tensors, safetensors or GGUF.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use r1seg_checkpoint::gguf::names::{Architecture, RowOrder, is_recomputed};
use r1seg_checkpoint::gguf::{GgmlType, Gguf};
use r1seg_nn::WeightType;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

use super::mapped::FileBytes;
use crate::Error;

/// The longest header that is read: 100 000 tensors take half of it.
const MAX_HEADER_BYTES: u64 = 32 << 20;

/// A weight file whose header was read and checked.
pub(super) struct WeightFile {
    pub(super) name: String,
    pub(super) bytes: FileBytes,
    /// By their published names.
    pub(super) tensors: BTreeMap<String, StoredTensor>,
}

/// What a file says about one of its tensors.
pub(super) struct StoredTensor {
    pub(super) format: Format,
    pub(super) shape: Vec<usize>,
    /// Where its bytes lie in the file.
    pub(super) range: Range<usize>,
    /// In which order its rows lie there.
    pub(super) rows: RowOrder,
}

/// How the numbers of a tensor are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Format {
    Known(WeightType),
    /// Nothing that a model could use; the name is for messages.
    Other(String),
}

impl WeightFile {
    pub(super) fn safetensors(
        name: String,
        bytes: FileBytes,
        folder: &Path,
    ) -> Result<Self, Error> {
        let broken = |message: String| Error::WeightFile {
            path: folder.to_path_buf(),
            file: name.clone(),
            message,
        };
        // What a million names would take, before they are looked at.
        let promised = bytes.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
        if promised > MAX_HEADER_BYTES {
            return Err(broken(format!(
                "a header of {promised} bytes; {MAX_HEADER_BYTES} is most"
            )));
        }
        // Validates header length, JSON, offsets (no holes, no overlaps) and the file's length.
        let (header, metadata) =
            SafeTensors::read_metadata(&bytes).map_err(|e| broken(e.to_string()))?;
        let start = 8 + header;
        let len = start + metadata.data_len();
        if len != bytes.len() {
            return Err(broken(format!(
                "the header promises {len} bytes, the file has {}",
                bytes.len()
            )));
        }
        let tensors = metadata
            .tensors()
            .into_iter()
            .map(|(name, info)| {
                let (first, last) = info.data_offsets;
                let tensor = StoredTensor {
                    format: match info.dtype {
                        Dtype::F32 => Format::Known(WeightType::F32),
                        Dtype::BF16 => Format::Known(WeightType::Bf16),
                        Dtype::F16 => Format::Known(WeightType::F16),
                        other => Format::Other(format!("{other:?}").to_lowercase()),
                    },
                    shape: info.shape.clone(),
                    range: start + first..start + last,
                    rows: RowOrder::Same,
                };
                (name, tensor)
            })
            .collect();
        Ok(Self { tensors, bytes, name })
    }

    /// A language model as llama.cpp stores it, with heads of `head_dim` numbers.
    pub(super) fn gguf(
        name: String,
        bytes: FileBytes,
        folder: &Path,
        head_dim: usize,
    ) -> Result<Self, Error> {
        let (path, file) = (folder.to_path_buf(), name.clone());
        let gguf = Gguf::parse(&bytes).map_err(|source| Error::Gguf {
            path: path.clone(),
            file: file.clone(),
            source: Box::new(source),
        })?;
        let broken = |message| Error::WeightFile { path, file, message };
        let kind = gguf.text("general.architecture").unwrap_or("nothing");
        let known = [Architecture::Phi3, Architecture::Llama, Architecture::Qwen2];
        let Some(architecture) = known.into_iter().find(|known| known.name() == kind) else {
            return Err(broken(format!(
                "its architecture is `{}`; phi3, llama and qwen2 are read",
                kind.escape_default()
            )));
        };
        let mut tensors = BTreeMap::new();
        for (stored, info) in &gguf.tensors {
            if is_recomputed(stored) {
                continue;
            }
            // An unknown name stays as it is, so that the report of what was loaded lists it.
            let published = architecture.to_published(stored).unwrap_or_else(|| stored.clone());
            let mapped = architecture.to_gguf(&published);
            // `Gguf::parse` has found every range inside the file, which is in memory.
            let tensor = StoredTensor {
                format: match info.ggml_type {
                    GgmlType::F32 => Format::Known(WeightType::F32),
                    GgmlType::F16 => Format::Known(WeightType::F16),
                    GgmlType::Bf16 => Format::Known(WeightType::Bf16),
                    GgmlType::Q8_0 => Format::Known(WeightType::Q8_0),
                    GgmlType::Q4K => Format::Known(WeightType::Q4K),
                    GgmlType::Q6K => Format::Known(WeightType::Q6K),
                    other => Format::Other(other.name().to_string()),
                },
                shape: info.shape.iter().map(|len| *len as usize).collect(),
                range: info.range.start as usize..info.range.end as usize,
                rows: mapped.map_or(RowOrder::Same, |mapped| mapped.row_order(head_dim as u64)),
            };
            tensors.insert(published, tensor);
        }
        Ok(Self { name, bytes, tensors })
    }
}
