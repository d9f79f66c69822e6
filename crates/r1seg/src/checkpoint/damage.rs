//! Weights that are NaN or infinite, found by reading all of them.

use r1seg_checkpoint::gguf::GgmlType;
use r1seg_nn::WeightType;
use rayon::prelude::*;

use super::file::{Format, StoredTensor};
use super::{CheckpointSource, WeightFiles};
use crate::Error;

/// Numbers that one task reads: whole blocks of every type.
const GRAIN: usize = 1 << 20;

impl CheckpointSource {
    /// Reads every float of the weights and looks for NaN and infinity, which none of the published
    /// models has. Returns how many tensors there are.
    ///
    /// # Errors
    /// [`Error::DamagedWeights`] with the names of the tensors, and what opening the files meets.
    pub fn check_tensors(&self) -> Result<usize, Error> {
        let (tensors, damaged) = self.damaged_tensors()?;
        match damaged.is_empty() {
            true => Ok(tensors),
            false => Err(Error::DamagedWeights { path: self.path(), damaged }),
        }
    }

    /// How many tensors there are, and the sorted names of those with NaN or infinity.
    pub(crate) fn damaged_tensors(&self) -> Result<(usize, Vec<String>), Error> {
        // The order of rows, which depends on the width of heads, changes no number.
        let files = self.open_weights(None, 0)?;
        let mut damaged: Vec<String> = files
            .tensors()
            .filter(|(name, tensor)| files.is_damaged(name, tensor))
            .map(|(name, _)| name.to_string())
            .collect();
        damaged.sort();
        Ok((files.tensors().count(), damaged))
    }
}

impl WeightFiles {
    fn is_damaged(&self, name: &str, tensor: &StoredTensor) -> bool {
        // Integers are always finite, and no model takes other formats.
        let Format::Known(stored) = tensor.format else { return false };
        let kind = ggml_type(stored);
        let block = usize::try_from(kind.block_bytes()).unwrap_or(usize::MAX);
        let chunk = (GRAIN / block).max(1) * block;
        self.read_through(name, |bytes| {
            bytes
                .par_chunks(chunk)
                .any(|bytes| r1seg_convert::count_not_finite_in_blocks(bytes, kind) > 0)
        })
    }
}

fn ggml_type(stored: WeightType) -> GgmlType {
    match stored {
        WeightType::F32 => GgmlType::F32,
        WeightType::F16 => GgmlType::F16,
        WeightType::Bf16 => GgmlType::Bf16,
        WeightType::Q8_0 => GgmlType::Q8_0,
        WeightType::Q4K => GgmlType::Q4K,
        WeightType::Q6K => GgmlType::Q6K,
    }
}
