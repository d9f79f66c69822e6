//! Weight files, memory-mapped, and the tensors that models take from them. With `mapped.rs` the
//! only `unsafe` code of the facade.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use candle_core::{DType, Device, Shape, Tensor};
use r1seg_nn::{StoredMatrix, TensorSource, WeightMatrix, WeightType};
use rayon::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

use super::LoadReport;
use super::mapped::FileBytes;
use crate::Error;

/// What a file says about one of its tensors.
struct Entry {
    file: usize,
    format: Format,
    shape: Vec<usize>,
    range: Range<usize>,
}

/// How the numbers of a tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Known(WeightType),
    /// No floats that a model could use.
    Other(Dtype),
}

impl Entry {
    fn numbers(&self) -> u64 {
        self.shape.iter().fold(1, |n: u64, len| n.saturating_mul(*len as u64))
    }
}

/// One weight file.
pub(super) struct WeightFile {
    name: String,
    bytes: FileBytes,
    tensors: Vec<(String, Format, Vec<usize>, Range<usize>)>,
}

impl WeightFile {
    pub(super) fn safetensors(
        name: String,
        bytes: FileBytes,
        folder: &Path,
    ) -> Result<Self, Error> {
        let broken = |message: String| Error::Safetensors {
            path: folder.to_path_buf(),
            file: name.clone(),
            message,
        };
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
                (name, format(info.dtype), info.shape.clone(), start + first..start + last)
            })
            .collect();
        Ok(Self { tensors, bytes, name })
    }
}

#[derive(Default)]
struct Ledger {
    read: BTreeSet<String>,
    bytes: u64,
    missing: Vec<String>,
    misshaped: Vec<(String, String, String)>,
}

/// The weights of a checkpoint: hands out tensors and remembers which.
///
/// A tensor that is missing or misshaped is replaced by zeros and noted, so that one report names
/// all of them; [`WeightFiles::report`] must be asked before the model is used.
pub(crate) struct WeightFiles {
    files: Vec<FileBytes>,
    entries: HashMap<String, Entry>,
    ledger: Mutex<Ledger>,
    path: PathBuf,
}

impl WeightFiles {
    pub(super) fn new(files: Vec<WeightFile>, path: PathBuf) -> Result<Self, Error> {
        let mut entries: HashMap<String, Entry> = HashMap::new();
        let names: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
        let mut contents = Vec::new();
        for (i, file) in files.into_iter().enumerate() {
            contents.push(file.bytes);
            for (name, format, shape, range) in file.tensors {
                let entry = Entry { file: i, format, shape, range };
                if let Some(first) = entries.insert(name.clone(), entry) {
                    return Err(Error::Safetensors {
                        path,
                        file: file.name,
                        message: format!("tensor `{name}` is in {} too", names[first.file]),
                    });
                }
            }
        }
        Ok(Self { files: contents, entries, ledger: Mutex::default(), path })
    }

    /// Shape of a tensor, if the checkpoint has it.
    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    /// How most bytes of the checkpoint are stored.
    pub(crate) fn dominant_type(&self) -> Option<WeightType> {
        let mut totals: Vec<(WeightType, usize)> = Vec::new();
        for entry in self.entries.values() {
            let Format::Known(stored) = entry.format else { continue };
            match totals.iter_mut().find(|(known, _)| *known == stored) {
                Some((_, total)) => *total += entry.range.len(),
                None => totals.push((stored, entry.range.len())),
            }
        }
        totals.into_iter().max_by_key(|(_, total)| *total).map(|(stored, _)| stored)
    }

    /// Bytes of all tensors but those that are `never_used`, once they are kept as `dtype`, or as
    /// they are stored. Quantised tensors stay quantised.
    pub(crate) fn bytes_as(&self, dtype: Option<DType>, never_used: impl Fn(&str) -> bool) -> u64 {
        let used = self.entries.iter().filter(|(name, _)| !never_used(name));
        let bytes = used.map(|(_, entry)| match (dtype, entry.format) {
            (Some(dtype), Format::Known(stored)) if stored.block_len() == 1 => {
                entry.numbers().saturating_mul(dtype.size_in_bytes() as u64)
            }
            _ => entry.range.len() as u64,
        });
        bytes.fold(0, u64::saturating_add)
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// What loading did, once the model is built. `never_used` says which leftover tensors the
    /// authors' code ignores too.
    pub(crate) fn report(&self, never_used: impl Fn(&str) -> bool) -> LoadReport {
        let ledger = self.ledger();
        let mut rest: Vec<String> =
            self.entries.keys().filter(|name| !ledger.read.contains(*name)).cloned().collect();
        rest.sort();
        let (unused, unexpected) = rest.into_iter().partition(|name| never_used(name));
        LoadReport {
            loaded: ledger.read.len() - ledger.misshaped.len(),
            bytes: ledger.bytes,
            missing: ledger.missing.clone(),
            unexpected,
            misshaped: ledger.misshaped.clone(),
            unused,
        }
    }

    /// Looks a tensor up and notes that it was asked for.
    fn find(&self, name: &str, shape: &[usize]) -> Option<(&Entry, WeightType)> {
        let mut ledger = self.ledger();
        let Some(entry) = self.entries.get(name) else {
            ledger.missing.push(name.to_string());
            return None;
        };
        // A tied table is asked for once; a second request would be counted twice.
        if ledger.read.insert(name.to_string()) {
            ledger.bytes += entry.range.len() as u64;
        }
        let (expected, found) = match entry.format {
            Format::Known(stored) if entry.shape == shape => return Some((entry, stored)),
            Format::Known(_) => (format!("{shape:?}"), format!("{:?}", entry.shape)),
            Format::Other(dtype) => ("f32, bf16 or f16".to_string(), format!("{dtype:?}")),
        };
        ledger.misshaped.push((name.to_string(), expected, found));
        None
    }

    fn bytes(&self, entry: &Entry) -> Bytes {
        self.files[entry.file].slice(entry.range.clone())
    }

    /// The numbers of a tensor, converted; the pages of the file that were read are dropped.
    fn copied(
        &self,
        (entry, stored): (&Entry, WeightType),
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let tensor = convert(&self.bytes(entry), stored, dtype, &entry.shape)?.to_device(device)?;
        self.files[entry.file].release(entry.range.clone());
        Ok(tensor)
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
    /// Whether only names and shapes are compared: matrices are left empty.
    pub(crate) dry: bool,
}

impl TensorSource for ModelWeights {
    fn tensor(
        &self,
        name: &str,
        shape: &Shape,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        match self.files.find(name, shape.dims()) {
            Some(found) if !self.dry => self.files.copied(found, dtype, device),
            _ => Tensor::zeros((), dtype, device)?.broadcast_as(shape.clone()),
        }
    }

    fn matrix(
        &self,
        name: &str,
        shape: (usize, usize),
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<WeightMatrix> {
        let (files, (n, k)) = (&self.files, shape);
        let absent =
            |stored| Ok(WeightMatrix::Stored(StoredMatrix::new(Bytes::new(), stored, shape)));
        let Some((entry, stored)) = files.find(name, &[n, k]) else {
            return absent(WeightType::F32);
        };
        if self.dry {
            return absent(stored);
        }
        let as_asked = self.keep || stored.block_len() > 1 || dtype_of(stored) == Some(dtype);
        if device.is_cpu() && as_asked {
            files.files[entry.file].populate(entry.range.clone());
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

fn format(dtype: Dtype) -> Format {
    match dtype {
        Dtype::F32 => Format::Known(WeightType::F32),
        Dtype::BF16 => Format::Known(WeightType::Bf16),
        Dtype::F16 => Format::Known(WeightType::F16),
        other => Format::Other(other),
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
