//! Weight files, memory-mapped, and the tensors that models take from them. With `mapped.rs` the
//! only `unsafe` code of the facade.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use candle_core::{DType, Device, Shape, Tensor};
use r1seg_gguf::names::RowOrder;
use r1seg_nn::{StoredMatrix, TensorSource, WeightMatrix, WeightType};
use rayon::prelude::*;

use super::LoadReport;
use super::file::{Format, StoredTensor, WeightFile};
use super::mapped::FileBytes;
use crate::Error;

/// A tensor, and which file it is in.
struct Entry {
    file: usize,
    tensor: StoredTensor,
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
            for (name, tensor) in file.tensors {
                if let Some(first) = entries.insert(name.clone(), Entry { file: i, tensor }) {
                    return Err(Error::WeightFile {
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
        self.entries.get(name).map(|entry| entry.tensor.shape.as_slice())
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

    /// Bytes of all tensors but those that are `never_used`, once they are kept as `dtype`, or as
    /// they are stored. Quantised tensors stay quantised.
    pub(crate) fn bytes_as(&self, dtype: Option<DType>, never_used: impl Fn(&str) -> bool) -> u64 {
        let used = self.entries.iter().filter(|(name, _)| !never_used(name));
        let bytes = used.map(|(_, Entry { tensor, .. })| match (dtype, &tensor.format) {
            (Some(dtype), Format::Known(stored)) if stored.block_len() == 1 => {
                tensor.numbers().saturating_mul(dtype.size_in_bytes() as u64)
            }
            _ => tensor.range.len() as u64,
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
        let untied = ledger.read.contains("lm_head.weight");
        let output = if untied { "lm_head.weight" } else { "model.embed_tokens.weight" };
        let per_token = self.entries.iter().filter(|(name, _)| {
            ledger.read.contains(*name) && (name.starts_with("model.layers.") || *name == output)
        });
        LoadReport {
            loaded: ledger.read.len() - ledger.misshaped.len(),
            bytes: ledger.bytes,
            bytes_per_token: per_token.map(|(_, entry)| entry.tensor.range.len() as u64).sum(),
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
        let tensor = &entry.tensor;
        // A tied table is asked for once; a second request would be counted twice.
        if ledger.read.insert(name.to_string()) {
            ledger.bytes += tensor.range.len() as u64;
        }
        let (expected, found) = match &tensor.format {
            Format::Known(stored) if tensor.shape == shape => return Some((entry, *stored)),
            Format::Known(_) => (format!("{shape:?}"), format!("{:?}", tensor.shape)),
            Format::Other(dtype) => ("f32, bf16 or f16".to_string(), dtype.clone()),
        };
        ledger.misshaped.push((name.to_string(), expected, found));
        None
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
