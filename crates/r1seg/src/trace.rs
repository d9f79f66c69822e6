//! The tensors of every stage, under the names of the recorded reference cases.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use r1seg_nn::Probe;
use r1seg_volume::{Overwrite, write_atomically};
use safetensors::tensor::{Dtype, TensorView};

use crate::Error;

/// Named tensors of one run, in f32, i64 or u8: how two implementations are compared.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    tensors: BTreeMap<String, Tensor>,
}

impl Trace {
    /// The tensor of a stage.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// Names of all stages, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub(crate) fn insert(&mut self, name: impl Into<String>, tensor: Tensor) {
        self.tensors.insert(name.into(), tensor);
    }

    /// Adds the tensors of stages that another prompt ran.
    pub(crate) fn extend(&mut self, other: &Self) {
        self.tensors.extend(other.tensors.iter().map(|(name, t)| (name.clone(), t.clone())));
    }

    pub(crate) fn insert_ids(&mut self, name: impl Into<String>, ids: &[u32]) -> Result<(), Error> {
        let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        self.insert(name, Tensor::new(ids, &Device::Cpu)?);
        Ok(())
    }

    pub(crate) fn insert_bytes(&mut self, name: &str, bytes: Vec<u8>) -> Result<(), Error> {
        let len = bytes.len();
        self.insert(name, Tensor::from_vec(bytes, len, &Device::Cpu)?);
        Ok(())
    }

    /// Writes all tensors as one safetensors file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path, overwrite: Overwrite) -> Result<(), Error> {
        let mut data = Vec::with_capacity(self.tensors.len());
        for (name, tensor) in &self.tensors {
            let (dtype, bytes) = little_endian(tensor)?;
            data.push((name, dtype, tensor.dims().to_vec(), bytes));
        }
        let mut views = Vec::with_capacity(data.len());
        for (name, dtype, shape, bytes) in &data {
            let view = TensorView::new(*dtype, shape.clone(), bytes)
                .map_err(|e| Error::Compute(candle_core::Error::msg(e)))?;
            views.push((name.as_str(), view));
        }
        let file = safetensors::serialize(views, None)
            .map_err(|e| Error::Compute(candle_core::Error::msg(e)))?;
        Ok(write_atomically(path, overwrite, |out| out.write_all(&file))?)
    }
}

fn little_endian(tensor: &Tensor) -> Result<(Dtype, Vec<u8>), Error> {
    let flat = tensor.flatten_all()?;
    Ok(match tensor.dtype() {
        DType::U8 => (Dtype::U8, flat.to_vec1::<u8>()?),
        DType::I64 => {
            (Dtype::I64, flat.to_vec1::<i64>()?.into_iter().flat_map(i64::to_le_bytes).collect())
        }
        _ => {
            let flat = flat.to_dtype(DType::F32)?.to_vec1::<f32>()?;
            (Dtype::F32, flat.into_iter().flat_map(f32::to_le_bytes).collect())
        }
    })
}

/// Stages are recorded in f32 on the CPU, without the batch axis.
impl Probe for Trace {
    fn record(&mut self, name: &str, tensor: &Tensor) -> candle_core::Result<()> {
        let mut tensor = tensor.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
        if tensor.rank() > 1 && tensor.dim(0)? == 1 {
            tensor = tensor.squeeze(0)?;
        }
        self.insert(name, tensor.contiguous()?);
        Ok(())
    }
}

/// `numpy.packbits`: eight voxels a byte, the first in the highest bit.
pub(crate) fn pack_bits(voxels: impl ExactSizeIterator<Item = bool>) -> Vec<u8> {
    let mut packed = vec![0u8; voxels.len().div_ceil(8)];
    for (i, voxel) in voxels.enumerate() {
        packed[i / 8] |= u8::from(voxel) << (7 - i % 8);
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_packed_as_numpy_packs_them() {
        // numpy.packbits([1,0,0,0,0,0,1,1, 1])
        let bits = [true, false, false, false, false, false, true, true, true];
        assert_eq!(pack_bits(bits.into_iter()), [0b1000_0011, 0b1000_0000]);
    }
}
