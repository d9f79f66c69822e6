//! Where checkpoints lie: single files, shards with an index, folders; and what they hold.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use r1seg_checkpoint::NumberFormat;
use r1seg_checkpoint::keys::{Renamed, normalize};
use r1seg_checkpoint::layout::{INDEX, ShardIndex, WEIGHTS, is_pickle};
use r1seg_checkpoint::safetensors::{HeaderError, TensorInfo, read_header};
use r1seg_checkpoint::shown::first_names;

use crate::pickle::sanitize;
use crate::sandbox::{Sandbox, read_index_here, read_index_in_child};
use crate::tensor::contiguous_strides;
use crate::{Error, TensorEntry};

/// The longest index, configuration or tokenizer file that is read.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// The names that weights have, the preferred first: safetensors hold nothing that could run.
const KNOWN_NAMES: [&str; 10] = [
    WEIGHTS,
    INDEX,
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "adapter_model.safetensors",
    "adapter_model.bin",
    "model_with_lora.bin",
    "merged_model.bin",
    "model.bin",
    "model.pt",
];
/// The number formats that weights of these models have.
const CONVERTED: [NumberFormat; 13] = [
    NumberFormat::F64,
    NumberFormat::F32,
    NumberFormat::F16,
    NumberFormat::Bf16,
    NumberFormat::I64,
    NumberFormat::I32,
    NumberFormat::I16,
    NumberFormat::I8,
    NumberFormat::U64,
    NumberFormat::U32,
    NumberFormat::U16,
    NumberFormat::U8,
    NumberFormat::Bool,
];

/// A tensor of a checkpoint of several files.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    /// Index in [`Checkpoint::files`].
    pub(crate) file: usize,
    pub(crate) entry: TensorEntry,
    /// Rows that come behind those of the entry, each the mean of all of them: tokens that were added to a
    /// vocabulary.
    pub(crate) mean_rows: u64,
}

impl Stored {
    pub(crate) fn new(file: usize, entry: TensorEntry) -> Self {
        Self { file, entry, mean_rows: 0 }
    }

    /// Its axes as it is written.
    pub(crate) fn shape(&self) -> Vec<u64> {
        let mut shape = self.entry.shape.clone();
        if let Some(rows) = shape.first_mut() {
            *rows = rows.saturating_add(self.mean_rows);
        }
        shape
    }

    /// How many numbers it has as it is written.
    pub(crate) fn numbers(&self) -> u64 {
        self.shape().iter().fold(1, |product, axis| product.saturating_mul(*axis))
    }
}

/// A checkpoint whose tensors are known and not yet read.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    /// The folder that the configuration lies in.
    pub(crate) folder: PathBuf,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) tensors: Vec<Stored>,
    pub(crate) wrappers: Vec<String>,
    /// Values beside the weights.
    pub(crate) ignored: u64,
    /// Whether some file is a pickle.
    pub(crate) has_pickles: bool,
}

/// Opens a checkpoint and finds out what it holds.
pub(crate) fn open(source: &Path, sandbox: Option<&Sandbox>) -> Result<Checkpoint, Error> {
    let metadata = std::fs::metadata(source).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::NotFound { path: source.to_owned() },
        _ => Error::Read { path: source.to_owned(), source: e },
    })?;
    let path = if metadata.is_dir() { find_weights(source)? } else { source.to_owned() };
    let folder = path.parent().map(Path::to_owned).unwrap_or_default();
    let is_index = path.to_string_lossy().ends_with(".index.json");
    let files = if is_index { shards(&path, &folder)? } else { vec![path] };

    let mut checkpoint = Checkpoint {
        folder,
        files: Vec::new(),
        tensors: Vec::new(),
        wrappers: Vec::new(),
        ignored: 0,
        has_pickles: false,
    };
    for path in files {
        checkpoint.add_file(path, sandbox)?;
    }
    if checkpoint.tensors.is_empty() {
        return Err(Error::NoWeights { path: source.to_owned() });
    }
    let empty = || checkpoint.tensors.iter().filter(|t| t.entry.numbers() == Some(0));
    if empty().next().is_some() {
        return Err(Error::EmptyTensors {
            path: source.to_owned(),
            count: empty().count(),
            names: first_names(empty().map(|t| t.entry.name.as_str())),
        });
    }
    if is_index {
        check_index(source, &checkpoint)?;
    }
    Ok(checkpoint)
}

impl Checkpoint {
    fn add_file(&mut self, path: PathBuf, sandbox: Option<&Sandbox>) -> Result<(), Error> {
        let file = self.files.len();
        let opened = open_regular(&path)?;
        let start = start(&opened, &path)?;
        if start.starts_with(b"GGUF") {
            return Err(Error::LanguageModelAlone { path });
        }
        let tensors = if is_safetensors(start, &path) {
            tensors_in(&opened, &path)?
        } else {
            self.has_pickles = true;
            let file_bytes = length(&opened, &path)?;
            let index = match sandbox {
                Some(sandbox) => read_index_in_child(sandbox, &opened, file_bytes)
                    .map_err(|source| Error::Sandbox { path: path.clone(), source })?,
                None => read_index_here(&opened),
            };
            let index = index.map_err(|reason| Error::Pickle { path: path.clone(), reason })?;
            self.wrappers.extend(index.wrappers);
            self.ignored += index.ignored;
            index.tensors
        };
        self.tensors.extend(tensors.into_iter().map(|entry| Stored::new(file, entry)));
        self.files.push(path);
        Ok(())
    }

    /// The path of a file, for messages.
    pub(crate) fn path(&self, file: usize) -> PathBuf {
        self.files.get(file).cloned().unwrap_or_default()
    }

    /// Gives every tensor the name that r1seg knows it by.
    pub(crate) fn normalize_names(&mut self) -> Renamed {
        normalize(&mut self.tensors, |stored| &mut stored.entry.name)
    }

    /// Refuses two tensors of one name: which of them is right, nobody knows.
    pub(crate) fn check_names(&self) -> Result<(), Error> {
        let mut names = HashMap::new();
        for stored in &self.tensors {
            if names.insert(stored.entry.name.as_str(), stored.file).is_some() {
                return Err(Error::Duplicate {
                    path: self.path(stored.file),
                    name: sanitize(&stored.entry.name),
                });
            }
        }
        Ok(())
    }
}

/// The weights of a folder.
fn find_weights(folder: &Path) -> Result<PathBuf, Error> {
    if let Some(name) = KNOWN_NAMES.iter().find(|name| folder.join(name).is_file()) {
        return Ok(folder.join(name));
    }
    let read = |source| Error::Read { path: folder.to_owned(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let is_weights = |name: &String| name.ends_with(".safetensors") || is_pickle(name);
        let Some(name) = name.filter(|name| is_weights(name) && path.is_file()) else {
            continue;
        };
        found.push((name, path));
    }
    found.sort();
    match found.as_slice() {
        [] => Err(Error::NoWeights { path: folder.to_owned() }),
        [(_, path)] => Ok(path.clone()),
        many => Err(Error::Ambiguous {
            path: folder.to_owned(),
            names: first_names(many.iter().map(|(name, _)| name.as_str())),
        }),
    }
}

fn read_index_file(path: &Path) -> Result<ShardIndex, Error> {
    let bytes = read_small(path)?.ok_or_else(|| Error::NotFound { path: path.to_owned() })?;
    ShardIndex::parse(json(path, &bytes)?)
        .map_err(|message| Error::Index { path: path.to_owned(), message })
}

/// The shards that an index names, in the order of their names.
fn shards(path: &Path, folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let index = read_index_file(path)?;
    if let Some(name) = index.shards.iter().find(|name| !folder.join(name).is_file()) {
        let message = format!("the shard `{}` is missing", sanitize(name));
        return Err(Error::Index { path: path.to_owned(), message });
    }
    Ok(index.shards.iter().map(|name| folder.join(name)).collect())
}

/// Every tensor of the index must be in the shard that it names.
fn check_index(path: &Path, checkpoint: &Checkpoint) -> Result<(), Error> {
    let path = if path.is_dir() { find_weights(path)? } else { path.to_owned() };
    let mut at = HashMap::new();
    for stored in &checkpoint.tensors {
        at.insert(stored.entry.name.as_str(), checkpoint.files.get(stored.file));
    }
    for (name, shard) in &read_index_file(&path)?.weight_map {
        let found = at.get(name.as_str()).copied().flatten().and_then(|file| file.file_name());
        if found.is_none_or(|file| file != shard.as_str()) {
            let message = format!("tensor `{}` is not in the shard it names", sanitize(name));
            return Err(Error::Index { path, message });
        }
    }
    Ok(())
}

/// Opens a file, and nothing that only looks like one.
pub(crate) fn open_regular(path: &Path) -> Result<File, Error> {
    r1seg_files::open_regular(path).map_err(|error| refused(path, error))
}

fn refused(path: &Path, error: r1seg_files::Error) -> Error {
    let path = path.to_owned();
    match error {
        error if error.is_not_found() => Error::NotFound { path },
        r1seg_files::Error::Io(source) => Error::Read { path, source },
        source => Error::Unusable { path, source },
    }
}

pub(crate) fn length(file: &File, path: &Path) -> Result<u64, Error> {
    let metadata = file.metadata();
    metadata.map(|m| m.len()).map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// The tensors of an open file of safetensors, by position.
fn tensors_in(file: &File, path: &Path) -> Result<Vec<TensorEntry>, Error> {
    let broken = |message: String| Error::Safetensors { path: path.to_owned(), message };
    let header = read_header(file).map_err(|error| match error {
        HeaderError::Io(source) => Error::Read { path: path.to_owned(), source },
        error => broken(error.to_string()),
    })?;
    header
        .into_iter()
        .map(|tensor| {
            let TensorInfo { name, format, shape, range } = tensor;
            if !CONVERTED.contains(&format) {
                let name = sanitize(&name);
                return Err(broken(format!("tensor `{name}` is {format}, which is not supported")));
            }
            let shape: Vec<u64> = shape.iter().map(|axis| *axis as u64).collect();
            let strides = contiguous_strides(&shape);
            let (start, storage) = (range.start, [range.start, range.end]);
            Ok(TensorEntry { name, dtype: format, shape, strides, start, storage })
        })
        .collect()
}

/// The first bytes of a file, zeros where it is shorter.
fn start(file: &File, path: &Path) -> Result<[u8; 9], Error> {
    use std::io::{Seek, SeekFrom};
    let mut file = file;
    let mut start = [0; 9];
    let mut got = 0;
    let read = |source| Error::Read { path: path.to_owned(), source };
    while let Some(rest) = start.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match file.read(rest).map_err(read)? {
            0 => break,
            count => got += count,
        }
    }
    file.seek(SeekFrom::Start(0)).map_err(read)?;
    Ok(start)
}

/// A safetensors file begins with the length of a JSON object, and that object.
fn is_safetensors(start: [u8; 9], path: &Path) -> bool {
    let named = path.extension().is_some_and(|extension| extension == "safetensors");
    // Neither a zip archive nor a pickle of torch.save has a brace there.
    named || start[8] == b'{'
}

/// A small file, if it exists.
pub(crate) fn read_small(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match r1seg_files::read(path, MAX_JSON_BYTES) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(refused(path, error)),
    }
}

/// The text of a small JSON file.
pub(crate) fn json<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a [u8], Error> {
    r1seg_files::utf8_json(bytes).map_err(|error| refused(path, error))
}
