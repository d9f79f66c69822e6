//! Safetensors shards, memory-mapped. The only `unsafe` code of the facade is here.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, Metadata};

use super::LoadReport;
use crate::Error;

/// The longest header that is read: 100 000 tensors take half of it.
const MAX_HEADER_BYTES: u64 = 32 << 20;
/// More tensors than any published model has.
const MAX_TENSORS: usize = 100_000;

/// The contents of a shard.
pub(super) enum Bytes {
    Mapped(Mmap),
    Static(&'static [u8]),
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Static(bytes) => bytes,
        }
    }
}

impl Bytes {
    #[expect(unsafe_code, reason = "mmap of weight shards")]
    pub(super) fn map(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::ModelIo { path: path.to_path_buf(), source };
        let file = File::open(path).map_err(io)?;
        // SAFETY: the file is opened read-only and is mapped privately for the time of loading; the
        // documentation of `R1SegModel` asks callers not to change a checkpoint meanwhile.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Self::Mapped(map))
    }

    /// Drops pages that were copied, so that a loading process never holds a second copy of its
    /// weights.
    #[cfg(unix)]
    #[expect(unsafe_code, reason = "madvise on the mapped weight shards")]
    fn release(&self, start: usize, len: usize) {
        if let Self::Mapped(map) = self {
            // SAFETY: the mapping is a read-only file mapping without private changes, so that
            // dropped pages are read again from the file if they are touched again.
            let advised = unsafe {
                map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, len)
            };
            // Failing to drop pages costs memory, not correctness.
            let _ = advised;
        }
    }

    #[cfg(not(unix))]
    fn release(&self, _start: usize, _len: usize) {}
}

/// One safetensors file.
pub(super) struct Shard {
    name: String,
    bytes: Bytes,
    metadata: Metadata,
    /// Where the tensors begin in `bytes`.
    data_start: usize,
}

impl Shard {
    pub(super) fn new(name: String, bytes: Bytes, folder: &Path) -> Result<Self, Error> {
        let broken = |message: String| Error::Safetensors {
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
        let data_start = 8 + header;
        let len = data_start + metadata.data_len();
        if len != bytes.len() {
            return Err(broken(format!(
                "the header promises {len} bytes, the file has {}",
                bytes.len()
            )));
        }
        Ok(Self { data_start, metadata, bytes, name })
    }
}

#[derive(Default)]
struct Ledger {
    read: BTreeSet<String>,
    bytes: u64,
    missing: Vec<String>,
    misshaped: Vec<(String, String, String)>,
}

/// The weights of a checkpoint: hands out tensors in the requested dtype and remembers which.
///
/// A tensor that is missing or misshaped is replaced by zeros and noted, so that one report names
/// all of them; [`Weights::report`] must be asked before the model is used.
pub(crate) struct Weights {
    shards: Vec<Shard>,
    /// Tensor name to shard.
    index: HashMap<String, usize>,
    ledger: Mutex<Ledger>,
    path: PathBuf,
}

impl Weights {
    pub(super) fn new(shards: Vec<Shard>, path: PathBuf) -> Result<Self, Error> {
        let mut index = HashMap::new();
        for (i, shard) in shards.iter().enumerate() {
            for name in shard.metadata.tensors().into_keys() {
                if let Some(first) = index.insert(name.clone(), i) {
                    return Err(Error::Safetensors {
                        path,
                        file: shard.name.clone(),
                        message: format!("tensor `{name}` is in {} too", shards[first].name),
                    });
                }
            }
            if index.len() > MAX_TENSORS {
                let message = format!("more than {MAX_TENSORS} tensors");
                return Err(Error::Safetensors { path, file: shard.name.clone(), message });
            }
        }
        Ok(Self { shards, index, ledger: Mutex::default(), path })
    }

    /// Every tensor, as the headers describe it.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (&str, Dtype, &[usize])> {
        self.index.iter().filter_map(|(name, shard)| {
            let info = self.shards.get(*shard)?.metadata.info(name)?;
            Some((name.as_str(), info.dtype, info.shape.as_slice()))
        })
    }

    /// Shape of a tensor, if the checkpoint has it.
    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        let shard = &self.shards[*self.index.get(name)?];
        shard.metadata.info(name).map(|info| info.shape.as_slice())
    }

    /// The dtype that most bytes of the checkpoint have.
    pub(crate) fn dominant_dtype(&self) -> Option<DType> {
        let mut bytes = [(DType::F32, 0usize), (DType::BF16, 0), (DType::F16, 0)];
        for shard in &self.shards {
            for info in shard.metadata.tensors().values() {
                let len = info.data_offsets.1 - info.data_offsets.0;
                for (dtype, total) in &mut bytes {
                    if float_dtype(info.dtype) == Some(*dtype) {
                        *total += len;
                    }
                }
            }
        }
        bytes.into_iter().max_by_key(|(_, n)| *n).filter(|(_, n)| *n > 0).map(|(dtype, _)| dtype)
    }

    /// Bytes of all tensors but those that are `never_used`, once they are kept as `dtype`.
    pub(crate) fn bytes_as(&self, dtype: DType, never_used: impl Fn(&str) -> bool) -> u64 {
        let tensors = self.index.iter().filter(|(name, _)| !never_used(name));
        let infos = tensors.filter_map(|(name, i)| self.shards[*i].metadata.info(name));
        let numbers = infos.map(|info| info.shape.iter().map(|n| *n as u64).product::<u64>());
        numbers.sum::<u64>().saturating_mul(dtype.size_in_bytes() as u64)
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// What loading did, once the model is built. `never_used` says which leftover tensors the
    /// authors' code ignores too.
    pub(crate) fn report(&self, never_used: impl Fn(&str) -> bool) -> LoadReport {
        let ledger = self.ledger();
        let mut rest: Vec<String> =
            self.index.keys().filter(|name| !ledger.read.contains(*name)).cloned().collect();
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

    fn load(
        &self,
        expected: Option<&Shape>,
        name: &str,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let zeros = || match expected {
            Some(shape) => Tensor::zeros((), dtype, device)?.broadcast_as(shape.clone()),
            None => Tensor::zeros((), dtype, device),
        };
        let Some(&shard) = self.index.get(name) else {
            self.ledger().missing.push(name.to_string());
            return zeros();
        };
        let shard = &self.shards[shard];
        let Some(info) = shard.metadata.info(name) else {
            self.ledger().missing.push(name.to_string());
            return zeros();
        };
        let (start, end) = info.data_offsets;
        let range = shard.data_start + start..shard.data_start + end;
        {
            let mut ledger = self.ledger();
            ledger.read.insert(name.to_string());
            ledger.bytes += range.len() as u64;
            let wrong_shape = expected.filter(|shape| shape.dims() != info.shape.as_slice());
            if let Some(shape) = wrong_shape {
                let found = format!("{:?}", info.shape);
                ledger.misshaped.push((name.to_string(), format!("{:?}", shape.dims()), found));
                return zeros();
            }
            if float_dtype(info.dtype).is_none() {
                let found = format!("{:?}", info.dtype);
                ledger.misshaped.push((name.to_string(), "f32, bf16 or f16".into(), found));
                return zeros();
            }
        }
        let tensor = convert(&shard.bytes[range.clone()], info.dtype, dtype, &info.shape)?;
        let tensor = tensor.to_device(device)?;
        shard.bytes.release(range.start, range.len());
        Ok(tensor)
    }
}

impl std::fmt::Debug for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Weights").field("path", &self.path).finish_non_exhaustive()
    }
}

/// So that a `VarBuilder` reads from weights whose report is asked for afterwards.
pub(crate) struct SharedWeights(pub(crate) std::sync::Arc<Weights>);

impl SimpleBackend for SharedWeights {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _init: candle_nn::Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        self.0.load(Some(&shape), name, dtype, device)
    }

    fn get_unchecked(
        &self,
        name: &str,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        self.0.load(None, name, dtype, device)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.0.index.contains_key(name)
    }
}

fn float_dtype(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F32 => Some(DType::F32),
        Dtype::BF16 => Some(DType::BF16),
        Dtype::F16 => Some(DType::F16),
        _ => None,
    }
}

/// Copies little-endian floats out of a shard, converting on all cores.
fn convert(bytes: &[u8], from: Dtype, to: DType, shape: &[usize]) -> candle_core::Result<Tensor> {
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
        (Dtype::BF16, DType::BF16) => {
            Tensor::from_vec(map(bytes, bf16::from_le_bytes), shape, device)
        }
        (Dtype::F16, DType::F16) => Tensor::from_vec(map(bytes, f16::from_le_bytes), shape, device),
        (Dtype::F32, _) => to!(f32::from_le_bytes),
        (Dtype::BF16, _) => to!(|b| bf16::from_le_bytes(b).to_f32()),
        (Dtype::F16, _) => to!(|b| f16::from_le_bytes(b).to_f32()),
        (other, _) => candle_core::bail!("weights of dtype {other:?} are not supported"),
    }
}
