//! Model folders: which files they hold, and their weights, tensor by tensor.
//!
//! This is the only module that opens weight files, and the only one with `unsafe` in it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use memmap2::Mmap;
use r1seg_tokenizer::TokenizerFiles;
use rayon::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, Metadata};

use crate::Error;

/// The largest config file that is read.
const MAX_CONFIG_BYTES: u64 = 4 << 20;
/// More shards than any published model has.
const MAX_SHARDS: usize = 4096;

/// Where a checkpoint in the published layout lives.
#[derive(Debug, Clone)]
pub enum CheckpointSource {
    /// A folder with `config.json`, tokenizer files and safetensors.
    Folder(PathBuf),
    /// The same files, in the program itself.
    Embedded(&'static [(&'static str, &'static [u8])]),
}

impl CheckpointSource {
    /// The embedded demonstration model, which knows only synthetic phantoms.
    pub fn demo() -> Self {
        Self::Embedded(r1seg_phantom::checkpoint_files())
    }

    /// A path for messages.
    pub(crate) fn path(&self) -> PathBuf {
        match self {
            Self::Folder(path) => path.clone(),
            Self::Embedded(_) => PathBuf::from("demo"),
        }
    }

    /// A small file, if it exists.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Cow<'static, [u8]>>, Error> {
        match self {
            Self::Embedded(files) => {
                Ok(files.iter().find(|(n, _)| *n == name).map(|(_, b)| Cow::Borrowed(*b)))
            }
            Self::Folder(folder) => {
                let path = folder.join(name);
                match std::fs::metadata(&path) {
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                    Err(source) => return Err(Error::ModelIo { path, source }),
                    Ok(m) if m.len() > MAX_CONFIG_BYTES => {
                        let message = format!("{name} is {} bytes long", m.len());
                        return Err(Error::Config { path, message });
                    }
                    Ok(_) => {}
                }
                match std::fs::read(&path) {
                    Ok(bytes) => Ok(Some(Cow::Owned(bytes))),
                    Err(source) => Err(Error::ModelIo { path, source }),
                }
            }
        }
    }

    pub(crate) fn tokenizer_files(&self) -> Result<TokenizerFiles, Error> {
        match self {
            Self::Folder(folder) => Ok(TokenizerFiles::from_dir(folder)?),
            Self::Embedded(_) => Ok(TokenizerFiles {
                tokenizer_json: self.read("tokenizer.json")?,
                tokenizer_model: self.read("tokenizer.model")?,
                tokenizer_config: self.read("tokenizer_config.json")?,
                added_tokens: self.read("added_tokens.json")?,
                special_tokens_map: self.read("special_tokens_map.json")?,
            }),
        }
    }

    /// Opens the weights without reading them.
    pub(crate) fn open_weights(&self) -> Result<Weights, Error> {
        let shards = match self {
            Self::Embedded(files) => {
                let (name, bytes) = files
                    .iter()
                    .find(|(name, _)| *name == "model.safetensors")
                    .ok_or_else(|| self.missing("model.safetensors"))?;
                vec![Shard::new((*name).to_string(), Bytes::Static(bytes), &self.path())?]
            }
            Self::Folder(folder) => {
                let names = shard_names(folder, self)?;
                names
                    .into_iter()
                    .map(|name| {
                        let bytes = map_file(&folder.join(&name))?;
                        Shard::new(name, bytes, folder)
                    })
                    .collect::<Result<Vec<_>, _>>()?
            }
        };
        Weights::new(shards, self.path())
    }

    fn missing(&self, file: &str) -> Error {
        Error::MissingFile { path: self.path(), file: file.to_string() }
    }
}

/// The shards of a folder, by `model.safetensors.index.json` where there is one.
fn shard_names(folder: &Path, source: &CheckpointSource) -> Result<Vec<String>, Error> {
    const INDEX: &str = "model.safetensors.index.json";
    if folder.join("model.safetensors").is_file() {
        return Ok(vec!["model.safetensors".to_string()]);
    }
    let Some(index) = source.read(INDEX)? else {
        for name in ["pytorch_model.bin", "pytorch_model.bin.index.json", "model.bin"] {
            if folder.join(name).exists() {
                let path = folder.to_path_buf();
                return Err(Error::Pickle { path, file: name.to_string() });
            }
        }
        return Err(source.missing("model.safetensors"));
    };
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let broken = |message: String| Error::Safetensors {
        path: folder.to_path_buf(),
        file: INDEX.to_string(),
        message,
    };
    let index: Index = serde_json::from_slice(&index).map_err(|e| broken(e.to_string()))?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    if names.is_empty() || names.len() > MAX_SHARDS {
        return Err(broken(format!("it names {} shards", names.len())));
    }
    for name in &names {
        // An index is a stranger's file: it may not point outside its folder.
        let plain = Path::new(name).file_name().is_some_and(|f| f == name.as_str());
        if !plain {
            return Err(broken(format!("`{name}` is not a plain file name")));
        }
        if !folder.join(name).is_file() {
            return Err(source.missing(name));
        }
    }
    Ok(names.into_iter().collect())
}

#[expect(unsafe_code, reason = "mmap of weight shards")]
fn map_file(path: &Path) -> Result<Bytes, Error> {
    let io = |source| Error::ModelIo { path: path.to_path_buf(), source };
    let file = File::open(path).map_err(io)?;
    // SAFETY: the file is opened read-only and is mapped privately for the time of loading; the
    // documentation of `R1SegModel` asks callers not to change a checkpoint meanwhile.
    let map = unsafe { Mmap::map(&file) }.map_err(io)?;
    Ok(Bytes::Mapped(map))
}

enum Bytes {
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

struct Shard {
    name: String,
    bytes: Bytes,
    metadata: Metadata,
    /// Where the tensors begin in `bytes`.
    data_start: usize,
}

impl Shard {
    fn new(name: String, bytes: Bytes, folder: &Path) -> Result<Self, Error> {
        let broken = |message: String| Error::Safetensors {
            path: folder.to_path_buf(),
            file: name.clone(),
            message,
        };
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

/// What loading did with every tensor of a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Tensors that the model reads.
    pub loaded: usize,
    /// Bytes of these in the files.
    pub bytes: u64,
    /// Tensors that the model needs and the checkpoint lacks.
    pub missing: Vec<String>,
    /// Tensors that the checkpoint has and no model of its kind knows.
    pub unexpected: Vec<String>,
    /// Tensors of another shape or dtype than the configuration says: key, expected, found.
    pub misshaped: Vec<(String, String, String)>,
    /// Tensors that published checkpoints carry and the authors' code never uses.
    pub unused: Vec<String>,
}

impl LoadReport {
    /// Whether every tensor is accounted for.
    pub fn is_clean(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.misshaped.is_empty()
    }

    /// One line: how many of each, and the first five by name.
    pub fn summary(&self) -> String {
        let list = |what: &str, names: &[String]| {
            let first = names.iter().take(5).map(|n| format!("`{n}`")).collect::<Vec<_>>();
            let more = if names.len() > 5 { ", .." } else { "" };
            format!("{} {what} ({}{more})", names.len(), first.join(", "))
        };
        let misshaped: Vec<String> = self
            .misshaped
            .iter()
            .map(|(key, expected, found)| format!("{key}: expected {expected}, got {found}"))
            .collect();
        [("missing", &self.missing), ("unexpected", &self.unexpected), ("misshaped", &misshaped)]
            .iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(what, names)| list(what, names))
            .collect::<Vec<_>>()
            .join("; ")
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
    fn new(shards: Vec<Shard>, path: PathBuf) -> Result<Self, Error> {
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
        }
        Ok(Self { shards, index, ledger: Mutex::default(), path })
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

/// Tensors that published R1Seg-3D checkpoints carry and the authors' code never reads at
/// inference: they are tolerated by name, everything else is accounted for.
pub(crate) fn never_used(name: &str) -> bool {
    let Some(name) = name.strip_prefix("model.vision_module.") else {
        // Buffers that old versions of transformers saved, and a head that is tied.
        return name.ends_with(".rotary_emb.inv_freq") || name == "lm_head.weight";
    };
    // The contrastive heads of the pretraining.
    name.starts_with("mm_vision_proj.")
        || name.starts_with("mm_language_proj.")
        || name == "logit_scale"
        // Only the single-mask output is used.
        || ["1", "2", "3"]
            .iter()
            .any(|n| name.starts_with(&format!("mask_decoder.output_hypernetworks_mlps.{n}.")))
        // MONAI 1.4 and later create these in every block, for a mode that is off.
        || name.contains(".norm_cross_attn.")
        || name.contains(".cross_attn.")
}
