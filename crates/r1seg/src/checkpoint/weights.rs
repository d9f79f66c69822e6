//! Weight files, memory-mapped, and the tensors that models take from them. With `mapped.rs` the
//! only `unsafe` code of the facade.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use candle_core::{DType, Device, Shape, Tensor};
use r1seg_checkpoint::gguf::names::RowOrder;
use r1seg_nn::{Probe, StoredMatrix, TensorSource, WeightMatrix, WeightType};
use rayon::prelude::*;

use super::file::{Format, StoredTensor, WeightFile};
use super::mapped::FileBytes;
use crate::run::UntilCancelled;
use crate::{CancelToken, Error};

/// More tensors than any published model has.
const MAX_TENSORS: usize = 100_000;

/// A tensor, and which file it is in.
struct Entry {
    file: usize,
    tensor: StoredTensor,
}

/// The weights of a checkpoint, of which [`dry_load`](super::dry_load) has found that they fit.
pub(crate) struct WeightFiles {
    files: Vec<FileBytes>,
    entries: HashMap<String, Entry>,
    path: PathBuf,
}

impl WeightFiles {
    pub(super) fn new(files: Vec<WeightFile>, path: PathBuf) -> Result<Self, Error> {
        let mut entries: HashMap<String, Entry> = HashMap::new();
        let names: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
        let mut contents = Vec::new();
        for (i, file) in files.into_iter().enumerate() {
            contents.push(file.bytes);
            for (name, tensor) in file.tensors {
                if let Some(first) = entries.insert(name.clone(), Entry { file: i, tensor }) {
                    return Err(Error::WeightFile {
                        path,
                        file: file.name,
                        message: format!("tensor `{name}` is in {} too", names[first.file]),
                    });
                }
            }
            if entries.len() > MAX_TENSORS {
                let message = format!("more than {MAX_TENSORS} tensors");
                return Err(Error::WeightFile { path, file: names[i].clone(), message });
            }
        }
        Ok(Self { files: contents, entries, path })
    }

    /// Every tensor, as the headers describe it.
    pub(super) fn tensors(&self) -> impl Iterator<Item = (&str, &StoredTensor)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), &entry.tensor))
    }

    /// What `read` says of the bytes of a tensor, in the order in which they lie in the file. The
    /// pages that were read are dropped.
    pub(super) fn read_through(&self, name: &str, read: impl FnOnce(&[u8]) -> bool) -> bool {
        let Some(Entry { file, tensor }) = self.entries.get(name) else { return false };
        let found = read(&self.files[*file].slice(tensor.range.clone()));
        self.files[*file].release(tensor.range.clone());
        found
    }

    /// How most bytes of the checkpoint are stored.
    pub(crate) fn dominant_type(&self) -> Option<WeightType> {
        let mut totals: Vec<(WeightType, usize)> = Vec::new();
        for entry in self.entries.values() {
            let Format::Known(stored) = entry.tensor.format else { continue };
            match totals.iter_mut().find(|(known, _)| *known == stored) {
                Some((_, total)) => *total += entry.tensor.range.len(),
                None => totals.push((stored, entry.tensor.range.len())),
            }
        }
        totals.into_iter().max_by_key(|(_, total)| *total).map(|(stored, _)| stored)
    }

    /// Looks up a tensor of this shape.
    fn find(&self, name: &str, shape: &[usize]) -> candle_core::Result<(&Entry, WeightType)> {
        match self.entries.get(name) {
            Some(entry) if entry.tensor.shape == shape => match &entry.tensor.format {
                Format::Known(stored) => Ok((entry, *stored)),
                Format::Other(dtype) => candle_core::bail!("`{name}` is stored as {dtype}"),
            },
            Some(entry) => candle_core::bail!(
                "`{name}` is of shape {:?}, expected {shape:?}",
                entry.tensor.shape
            ),
            None => candle_core::bail!("`{name}` is missing"),
        }
    }

    /// The bytes of a tensor, rows in published order: a slice of the file unless they lie there in
    /// another order.
    fn bytes(&self, Entry { file, tensor }: &Entry) -> Bytes {
        let bytes = self.files[*file].slice(tensor.range.clone());
        let rows = tensor.shape.first().copied().unwrap_or(0);
        if tensor.rows == RowOrder::Same || rows == 0 {
            return bytes;
        }
        let width = bytes.len() / rows;
        let mut ordered = Vec::with_capacity(bytes.len());
        for row in 0..rows as u64 {
            let at = tensor.rows.stored_row(row) as usize * width;
            ordered.extend_from_slice(&bytes[at..][..width]);
        }
        Bytes::from(ordered)
    }

    /// The numbers of a tensor, converted; the pages of the file that were read are dropped.
    fn copied(
        &self,
        (entry, stored): (&Entry, WeightType),
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let Entry { file, tensor } = entry;
        let copy = convert(&self.bytes(entry), stored, dtype, &tensor.shape)?.to_device(device)?;
        self.files[*file].release(tensor.range.clone());
        Ok(copy)
    }
}

impl std::fmt::Debug for WeightFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WeightFiles").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What a model's constructors read from: weight files, and what becomes of their matrices.
pub(crate) struct ModelWeights {
    pub(crate) files: Arc<WeightFiles>,
    /// Whether matrices on a CPU stay as they are stored, instead of taking the asked dtype.
    pub(crate) keep: bool,
    /// Looked at before each tensor.
    pub(crate) cancel: CancelToken,
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
        self.files.copied(self.files.find(name, shape.dims())?, dtype, device)
    }

    fn factor(
        &self,
        name: &str,
        shape: &Shape,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        UntilCancelled(&self.cancel).check_cancelled()?;
        let found = self.files.find(name, shape.dims())?;
        let kept = dtype_of(found.1).filter(|_| self.keep && device.is_cpu());
        self.files.copied(found, kept.unwrap_or(dtype), device)
    }

    fn matrix(
        &self,
        name: &str,
        shape: (usize, usize),
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<WeightMatrix> {
        UntilCancelled(&self.cancel).check_cancelled()?;
        let (files, (n, k)) = (&self.files, shape);
        let (entry, stored) = files.find(name, &[n, k])?;
        let as_asked = self.keep || stored.block_len() > 1 || dtype_of(stored) == Some(dtype);
        if device.is_cpu() && as_asked {
            files.files[entry.file].populate(entry.tensor.range.clone());
            let bytes = files.bytes(entry);
            return Ok(WeightMatrix::Stored(StoredMatrix::new(bytes, stored, shape)));
        }
        if stored.block_len() > 1 {
            let matrix = StoredMatrix::new(files.bytes(entry), stored, shape);
            return Ok(WeightMatrix::Tensor(matrix.to_tensor(dtype, device)?));
        }
        WeightMatrix::from_tensor(&files.copied((entry, stored), dtype, device)?)
    }

    fn contains(&self, name: &str) -> bool {
        self.files.entries.contains_key(name)
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

/// The name of a way to store numbers, as `--dtype` and `--quant` spell it.
pub(crate) fn type_name(stored: WeightType) -> &'static str {
    match stored {
        WeightType::F32 => "f32",
        WeightType::F16 => "f16",
        WeightType::Bf16 => "bf16",
        WeightType::Q8_0 => "q8_0",
        WeightType::Q4K => "q4k",
        WeightType::Q6K => "q6k",
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
