//! What models take from the weights of a checkpoint: tensors, and matrices that stay in the file.

use std::sync::Arc;

use candle_core::{DType, Device, Shape, Tensor};
use r1seg_checkpoint::{NumberFormat, StoredTensor, WeightFiles};
use r1seg_nn::{Probe, StoredMatrix, TensorSource, WeightMatrix, WeightType};
use rayon::prelude::*;

use crate::CancelToken;
use crate::run::UntilCancelled;

/// How the kernels know a number format. `None` for those that they do not multiply with.
pub(crate) fn weight_type(format: NumberFormat) -> Option<WeightType> {
    Some(match format {
        NumberFormat::F32 => WeightType::F32,
        NumberFormat::F16 => WeightType::F16,
        NumberFormat::Bf16 => WeightType::Bf16,
        NumberFormat::Q8_0 => WeightType::Q8_0,
        NumberFormat::Q4K => WeightType::Q4K,
        NumberFormat::Q6K => WeightType::Q6K,
        _ => return None,
    })
}

/// How most bytes that a model can use are stored.
pub(crate) fn dominant_format(files: &WeightFiles) -> Option<NumberFormat> {
    files.dominant_format(|format| weight_type(format).is_some())
}

/// What a model's constructors read from: weight files, and what becomes of their matrices.
pub(crate) struct ModelWeights {
    pub(crate) files: Arc<WeightFiles>,
    /// Whether matrices on a CPU stay as they are stored, instead of taking the asked dtype.
    pub(crate) keep: bool,
    /// Looked at before each tensor.
    pub(crate) cancel: CancelToken,
    /// Through which weights get to a GPU.
    #[cfg(feature = "cuda")]
    pub(crate) uploads: super::upload::Uploads,
}

impl ModelWeights {
    /// Looks up a tensor of this shape.
    fn find(
        &self,
        name: &str,
        shape: &[usize],
    ) -> candle_core::Result<(&StoredTensor, WeightType)> {
        let Some(tensor) = self.files.get(name) else { candle_core::bail!("`{name}` is missing") };
        if tensor.shape != shape {
            candle_core::bail!("`{name}` is of shape {:?}, expected {shape:?}", tensor.shape)
        }
        match weight_type(tensor.format) {
            Some(stored) => Ok((tensor, stored)),
            None => candle_core::bail!("`{name}` is stored as {}", tensor.format),
        }
    }

    /// The numbers of a tensor, converted; the pages of the file that were read are dropped.
    fn copied(
        &self,
        found: (&StoredTensor, WeightType),
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        #[cfg(feature = "cuda")]
        if let Device::Cuda(cuda) = device {
            return self.uploads.with(cuda, |upload| upload.tensor(&self.files, found, dtype));
        }
        let (tensor, stored) = found;
        let bytes = self.files.bytes(tensor);
        let copy = convert(&bytes, stored, dtype, &tensor.shape)?.to_device(device)?;
        self.files.release(tensor);
        Ok(copy)
    }

    /// A matrix on a CPU.
    fn matrix_on_cpu(
        &self,
        name: &str,
        (n, k): (usize, usize),
        dtype: DType,
    ) -> candle_core::Result<WeightMatrix> {
        let (tensor, stored) = self.find(name, &[n, k])?;
        if self.keep || stored.block_len() > 1 || dtype_of(stored) == Some(dtype) {
            self.files.populate(tensor);
            let bytes = self.files.bytes(tensor);
            return Ok(WeightMatrix::Stored(StoredMatrix::new(bytes, stored, (n, k))));
        }
        WeightMatrix::from_tensor(&self.copied((tensor, stored), dtype, &Device::Cpu)?)
    }
}

impl TensorSource for ModelWeights {
    fn tensor(
        &self,
        name: &str,
        shape: &Shape,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        UntilCancelled(&self.cancel).check_cancelled()?;
        self.copied(self.find(name, shape.dims())?, dtype, device)
    }

    fn factor(
        &self,
        name: &str,
        shape: &Shape,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        UntilCancelled(&self.cancel).check_cancelled()?;
        let found = self.find(name, shape.dims())?;
        let kept = dtype_of(found.1).filter(|_| self.keep && device.is_cpu());
        self.copied(found, kept.unwrap_or(dtype), device)
    }

    fn matrix(
        &self,
        name: &str,
        shape: (usize, usize),
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<WeightMatrix> {
        UntilCancelled(&self.cancel).check_cancelled()?;
        #[cfg(feature = "cuda")]
        if let Device::Cuda(cuda) = device {
            let found = self.find(name, &[shape.0, shape.1])?;
            return self.uploads.with(cuda, |upload| upload.matrix(&self.files, &[found], dtype));
        }
        let matrix = self.matrix_on_cpu(name, shape, dtype)?;
        match (device.is_cpu(), matrix) {
            (false, WeightMatrix::Stored(stored)) => {
                Ok(WeightMatrix::Tensor(stored.to_tensor(dtype, device)?))
            }
            (_, matrix) => Ok(matrix),
        }
    }

    #[cfg(feature = "cuda")]
    fn matrices(
        &self,
        parts: &[(String, usize)],
        k: usize,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Vec<WeightMatrix>> {
        let Device::Cuda(cuda) = device else {
            return parts
                .iter()
                .map(|(name, n)| self.matrix(name, (*n, k), dtype, device))
                .collect();
        };
        UntilCancelled(&self.cancel).check_cancelled()?;
        let found = parts.iter().map(|(name, n)| self.find(name, &[*n, k]));
        let found = found.collect::<candle_core::Result<Vec<_>>>()?;
        Ok(vec![self.uploads.with(cuda, |upload| upload.matrix(&self.files, &found, dtype))?])
    }

    fn table(
        &self,
        name: &str,
        (n, k): (usize, usize),
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<WeightMatrix> {
        let (tensor, stored) = self.find(name, &[n, k])?;
        if device.is_cpu() || stored.block_len() == 1 {
            return self.matrix(name, (n, k), dtype, device);
        }
        // Its few rows that are looked up are widened here: the pages that they lie in come by themselves.
        let matrix = StoredMatrix::new(self.files.bytes(tensor), stored, (n, k));
        Ok(WeightMatrix::Stored(matrix))
    }

    fn contains(&self, name: &str) -> bool {
        self.files.get(name).is_some()
    }
}

fn dtype_of(stored: WeightType) -> Option<DType> {
    match stored {
        WeightType::F32 => Some(DType::F32),
        WeightType::F16 => Some(DType::F16),
        WeightType::Bf16 => Some(DType::BF16),
        _ => None,
    }
}

/// Copies little-endian floats out of a shard, converting on all cores.
fn convert(
    bytes: &[u8],
    from: WeightType,
    to: DType,
    shape: &[usize],
) -> candle_core::Result<Tensor> {
    use half::{bf16, f16};

    // Collecting writes each number once; a vector of zeros to fill would touch it twice.
    fn map<T: Send, const N: usize>(bytes: &[u8], f: impl Fn([u8; N]) -> T + Sync) -> Vec<T> {
        const GRAIN: usize = 64 * 1024;
        let (numbers, _) = bytes.as_chunks::<N>();
        numbers.par_iter().with_min_len(GRAIN).map(|number| f(*number)).collect()
    }

    let device = &Device::Cpu;
    macro_rules! to {
        ($read:expr) => {
            match to {
                DType::BF16 => {
                    Tensor::from_vec(map(bytes, |b| bf16::from_f32($read(b))), shape, device)
                }
                DType::F16 => {
                    Tensor::from_vec(map(bytes, |b| f16::from_f32($read(b))), shape, device)
                }
                DType::F32 => Tensor::from_vec(map(bytes, $read), shape, device),
                other => candle_core::bail!("weights cannot be kept as {other:?}"),
            }
        };
    }
    match (from, to) {
        // Exact copies, without a detour through f32.
        (WeightType::Bf16, DType::BF16) => {
            Tensor::from_vec(map(bytes, bf16::from_le_bytes), shape, device)
        }
        (WeightType::F16, DType::F16) => {
            Tensor::from_vec(map(bytes, f16::from_le_bytes), shape, device)
        }
        (WeightType::F32, _) => to!(f32::from_le_bytes),
        (WeightType::Bf16, _) => to!(|b| bf16::from_le_bytes(b).to_f32()),
        (WeightType::F16, _) => to!(|b| f16::from_le_bytes(b).to_f32()),
        (other, _) => candle_core::bail!("weights of dtype {other:?} are not supported"),
    }
}
