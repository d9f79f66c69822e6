//! One weight file: what its header says of its tensors, safetensors or GGUF.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use crate::gguf::Gguf;
use crate::keys::llama_cpp::{Architecture, RowOrder, is_recomputed};
use crate::mapped::FileBytes;
use crate::{Error, NumberFormat, safetensors};

/// A weight file whose header was read and checked.
pub(crate) struct WeightFile {
    pub(crate) name: String,
    pub(crate) bytes: FileBytes,
    /// By their published names.
    pub(crate) tensors: BTreeMap<String, StoredTensor>,
}

/// What a file says about one of its tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTensor {
    /// How its numbers are stored.
    pub format: NumberFormat,
    /// Its axes, row-major.
    pub shape: Vec<usize>,
    /// Which file of a checkpoint it is in.
    pub(crate) file: usize,
    /// Where its bytes lie in the file.
    pub(crate) range: Range<usize>,
    /// In which order its rows lie there.
    pub(crate) rows: RowOrder,
}

impl WeightFile {
    /// Reads the header of safetensors. `folder` is for messages.
    pub(crate) fn safetensors(
        name: String,
        bytes: FileBytes,
        folder: &Path,
    ) -> Result<Self, Error> {
        let header = safetensors::parse_header(&bytes).map_err(|error| Error::WeightFile {
            path: folder.to_path_buf(),
            file: name.clone(),
            message: error.to_string(),
        })?;
        let stored = |tensor: safetensors::TensorInfo| {
            // The reader has found every range inside the file, which is in memory.
            let range = tensor.range.start as usize..tensor.range.end as usize;
            let (format, shape) = (tensor.format, tensor.shape);
            (tensor.name, StoredTensor { format, shape, file: 0, range, rows: RowOrder::Same })
        };
        Ok(Self { tensors: header.into_iter().map(stored).collect(), bytes, name })
    }

    /// A language model as llama.cpp stores it, with heads of `head_dim` numbers.
    pub(crate) fn gguf(
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
        let kind = gguf.text("general.architecture").unwrap_or("nothing");
        let Some(architecture) = Architecture::from_name(kind) else {
            let message = format!(
                "its architecture is `{}`; phi3, llama and qwen2 are read",
                kind.escape_default()
            );
            return Err(Error::WeightFile { path, file, message });
        };
        let mut tensors = BTreeMap::new();
        for (stored, info) in gguf.tensors {
            if is_recomputed(&stored) {
                continue;
            }
            // An unknown name stays as it is, so that the report of what was loaded lists it.
            let published = architecture.to_published(&stored).unwrap_or(stored);
            let mapped = architecture.to_gguf(&published);
            // `Gguf::parse` has found every range inside the file, which is in memory.
            let tensor = StoredTensor {
                format: info.format,
                shape: info.shape.iter().map(|len| *len as usize).collect(),
                file: 0,
                range: info.range.start as usize..info.range.end as usize,
                rows: mapped.map_or(RowOrder::Same, |mapped| mapped.row_order(head_dim as u64)),
            };
            tensors.insert(published, tensor);
        }
        Ok(Self { name, bytes, tensors })
    }
}
