//! What is written, tensor by tensor and shard by shard, before the first byte of a weight is read.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use r1seg_checkpoint::keys::Renamed;
use r1seg_checkpoint::safetensors::to_dtype;
use r1seg_checkpoint::shown::first_names;
use r1seg_checkpoint::{LoraRecord, NumberFormat};
use safetensors::tensor::{Metadata, TensorInfo};

use crate::join::{self, Joined};
use crate::llm::{self, GgufTarget};
use crate::lora::{self, Update};
use crate::pickle::sanitize;
use crate::source::{Checkpoint, Stored};
use crate::{ConvertOptions, Error, Shapes};

/// A tensor to be written.
#[derive(Debug)]
pub(crate) struct Planned {
    /// Its name, and where its numbers are.
    pub(crate) from: Stored,
    pub(crate) to: Target,
    pub(crate) update: Option<Update>,
}

/// What a tensor becomes.
#[derive(Debug)]
pub(crate) enum Target {
    /// Numbers of a safetensors file.
    Numbers(NumberFormat),
    /// A tensor of the language model's GGUF file.
    Gguf(GgufTarget),
}

impl Planned {
    /// The format in a safetensors file.
    pub(crate) fn dtype(&self) -> NumberFormat {
        match self.to {
            Target::Numbers(dtype) => dtype,
            // Never in a shard.
            Target::Gguf(_) => self.from.entry.dtype,
        }
    }

    /// Bytes in a safetensors file.
    pub(crate) fn bytes(&self) -> u64 {
        self.from.numbers().saturating_mul(self.dtype().size() as u64)
    }

    /// How many numbers it has.
    pub(crate) fn numbers(&self) -> u64 {
        match &self.to {
            Target::Numbers(_) => self.from.numbers(),
            Target::Gguf(target) => target.tensor.shape.iter().product(),
        }
    }
}

/// Everything that is to be done.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) files: Vec<PathBuf>,
    /// Files that may hold the configuration and the tokenizer, the preferred first.
    pub(crate) folders: Vec<PathBuf>,
    /// The language model, where it has a file of its own.
    pub(crate) language_model: Option<llm::File>,
    pub(crate) shards: Vec<Vec<Planned>>,
    pub(crate) renamed: Renamed,
    pub(crate) wrappers: Vec<String>,
    pub(crate) ignored: u64,
    pub(crate) tied: usize,
    pub(crate) has_pickles: bool,
    pub(crate) lora: Option<LoraRecord>,
    /// What it was joined from, where that were parts.
    pub(crate) joined: Option<Joined>,
}

impl Plan {
    /// All tensors, in the order in which they are read and written: the language model first, which
    /// is most of the file that it comes from.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = &Planned> {
        let language_model = self.language_model.iter().flat_map(|file| &file.tensors);
        language_model.chain(self.shards.iter().flatten())
    }
}

/// Joins a checkpoint and its base, and decides where everything goes. `base_folder` lends its small
/// files alone.
pub(crate) fn plan(
    mut checkpoint: Checkpoint,
    base: Option<Checkpoint>,
    base_folder: Option<PathBuf>,
    parts: Vec<Checkpoint>,
    options: &ConvertOptions,
) -> Result<Plan, Error> {
    let ConvertOptions { lora, dtype, max_shard_bytes, .. } = *options;
    let mut renamed = checkpoint.normalize_names();
    checkpoint.check_names()?;
    let folder = checkpoint.folder.clone();
    let (mut plain, mut updates, record);
    if lora::is_lora(&checkpoint.tensors) {
        let sorted = lora::sort(std::mem::take(&mut checkpoint.tensors), &folder, lora)?;
        (plain, updates, record) = (sorted.plain, sorted.updates, sorted.record);
    } else {
        (plain, updates, record) = (std::mem::take(&mut checkpoint.tensors), BTreeMap::new(), None);
    }

    let mut files = checkpoint.files;
    let mut folders = vec![folder.clone()];
    let mut has_pickles = checkpoint.has_pickles || parts.iter().any(|part| part.has_pickles);
    let own = join::part_of(&plain);
    let mut given = vec![(own, folder.clone())];
    if let Some(mut base) = base {
        let base_renamed = base.normalize_names();
        base.check_names()?;
        if lora::is_lora(&base.tensors) {
            let message = "the base has LoRA updates of its own".to_owned();
            return Err(Error::Lora { path: base.folder, message });
        }
        given.push((join::part_of(&base.tensors), base.folder.clone()));
        renamed.renamed.extend(base_renamed.renamed);
        renamed.dropped.extend(base_renamed.dropped);
        plain = overlay(base.tensors, plain, files.len());
        files.extend(base.files);
        folders.push(base.folder);
        has_pickles |= base.has_pickles;
    }
    folders.extend(base_folder);
    folders.extend(parts.iter().map(|part| part.folder.clone()));
    let sources = (&mut files, &mut renamed);
    let mut joined = join::join(own, &given, &mut plain, parts, sources)?;
    check_updates(&plain, &updates, &folder)?;
    if let Some(joined) = &mut joined {
        joined.compose(&shapes(plain.iter()), record.as_ref(), options.compose)?;
    }

    // In the order of the files, so that each is read once from front to back.
    plain.sort_by_key(|stored| (stored.file, stored.entry.start));
    let tied = plain
        .windows(2)
        .filter(|pair| matches!(pair, [a, b] if a.file == b.file && a.entry.start == b.entry.start))
        .count();
    let mut tensors: Vec<Planned> = plain
        .into_iter()
        .map(|from| Planned {
            to: Target::Numbers(match dtype {
                Some(dtype) if from.entry.dtype.is_float() => dtype.format(),
                // r1seg reads no f64.
                None if from.entry.dtype == NumberFormat::F64 => NumberFormat::F32,
                _ => from.entry.dtype,
            }),
            update: updates.remove(&from.entry.name),
            from,
        })
        .collect();
    let language_model = match (options.quant, &options.llm) {
        (Some(quant), None) => Some(llm::From::Weights(quant)),
        (None, Some(path)) => Some(llm::From::File(path)),
        (None, None) => None,
        (Some(_), Some(_)) => {
            let what = "a language model from a GGUF file is not quantized once more".to_owned();
            return Err(Error::Option { what });
        }
    };
    let language_model = match language_model {
        Some(from) => {
            let decoder = match &joined {
                Some(joined) => {
                    let config = joined.config.clone().into();
                    llm::Decoder::from_config(&config, &folder, options.architecture)?
                }
                None => llm::Decoder::read(&folders, options.architecture)?,
            };
            Some(llm::take(&mut tensors, from, &mut files, &decoder)?)
        }
        None => None,
    };
    let shards = into_shards(tensors.into_iter(), max_shard_bytes);
    Ok(Plan {
        files,
        folders,
        language_model,
        shards,
        renamed,
        wrappers: checkpoint.wrappers,
        ignored: checkpoint.ignored,
        tied,
        has_pickles,
        lora: record,
        joined,
    })
}

/// The axes of tensors as they are written, by name.
pub(crate) fn shapes<'a>(tensors: impl Iterator<Item = &'a Stored>) -> Shapes {
    // An axis beyond memory is that of no model.
    let axis = |axis: &u64| usize::try_from(*axis).unwrap_or(usize::MAX);
    let shape = |from: &Stored| (from.entry.name.clone(), from.shape().iter().map(axis).collect());
    tensors.map(shape).collect()
}

/// Tensors of the checkpoint replace those of the base, or come on top.
fn overlay(base: Vec<Stored>, over: Vec<Stored>, first_base_file: usize) -> Vec<Stored> {
    let mut by_name: HashMap<String, Stored> = HashMap::new();
    for mut stored in base {
        stored.file += first_base_file;
        by_name.insert(stored.entry.name.clone(), stored);
    }
    for stored in over {
        by_name.insert(stored.entry.name.clone(), stored);
    }
    let mut tensors: Vec<Stored> = by_name.into_values().collect();
    // A map has no order, and tied tensors share their place.
    tensors.sort_by(|a, b| a.entry.name.cmp(&b.entry.name));
    tensors
}

fn check_updates(
    plain: &[Stored],
    updates: &BTreeMap<String, Update>,
    folder: &Path,
) -> Result<(), Error> {
    let matrices: HashMap<&str, &Stored> =
        plain.iter().map(|stored| (stored.entry.name.as_str(), stored)).collect();
    let mut missing = Vec::new();
    for (name, update) in updates {
        match matrices.get(name.as_str()) {
            Some(matrix) => update.check(&matrix.entry, folder)?,
            None => missing.push(name.as_str()),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    if missing.len() == updates.len() {
        return Err(Error::NeedsBase { path: folder.to_owned(), count: missing.len() });
    }
    let message =
        format!("{} updates have no matrix: {}", missing.len(), first_names(missing.into_iter()));
    Err(Error::Lora { path: folder.to_owned(), message })
}

/// Fills shard after shard. A tensor that is larger than a shard has one of its own.
fn into_shards(tensors: impl Iterator<Item = Planned>, max_bytes: u64) -> Vec<Vec<Planned>> {
    let mut shards: Vec<Vec<Planned>> = Vec::new();
    let mut filled = 0u64;
    for tensor in tensors {
        let bytes = tensor.bytes();
        let fits = filled.checked_add(bytes).is_some_and(|sum| sum <= max_bytes);
        match shards.last_mut().filter(|_| fits) {
            Some(shard) => {
                shard.push(tensor);
                filled += bytes;
            }
            None => {
                shards.push(vec![tensor]);
                filled = bytes;
            }
        }
    }
    for shard in &mut shards {
        // Wide numbers first, so that every tensor is aligned to its own format.
        shard.sort_by_key(|tensor| std::cmp::Reverse(tensor.dtype().size()));
    }
    shards
}

/// The first bytes of a shard: the length of the header and the header.
pub(crate) fn header(shard: &[Planned], path: &Path) -> Result<Vec<u8>, Error> {
    let broken = |message: String| Error::Safetensors { path: path.to_owned(), message };
    let mut start = 0usize;
    let mut tensors = Vec::with_capacity(shard.len());
    for tensor in shard {
        let axis = |axis: &u64| usize::try_from(*axis).ok();
        let shape: Option<Vec<usize>> = tensor.from.shape().iter().map(axis).collect();
        let end = usize::try_from(tensor.bytes()).ok().and_then(|bytes| start.checked_add(bytes));
        let dtype = to_dtype(tensor.dtype());
        let (Some(shape), Some(end), Some(dtype)) = (shape, end, dtype) else {
            return Err(broken(format!("`{}` is too large", sanitize(&tensor.from.entry.name))));
        };
        let info = TensorInfo { dtype, shape, data_offsets: (start, end) };
        tensors.push((tensor.from.entry.name.clone(), info));
        start = end;
    }
    // transformers refuses a file that does not say so.
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let metadata = Metadata::new(Some(format), tensors).map_err(|e| broken(e.to_string()))?;
    let mut json = serde_json::to_vec(&metadata).map_err(|e| broken(e.to_string()))?;
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut json);
    Ok(bytes)
}
