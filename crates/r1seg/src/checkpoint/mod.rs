//! Model folders: which files they hold ([`CheckpointSource`]), their weights, tensor by tensor
//! (`weights`), under which names each family keeps its parts (`keys`), what became of each tensor
//! ([`LoadReport`]), what would (`dry`), and whether their numbers are sound (`damage`).
//!
//! Nothing else opens weight files or knows odd keys.

mod damage;
mod dry;
mod file;
pub(crate) mod keys;
mod mapped;
mod report;
mod weights;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use r1seg_tokenizer::{TextTokenizer, TokenizerFiles};
use r1seg_volume::Orientation;

use crate::Error;
pub(crate) use file::Format;
use file::WeightFile;
use mapped::FileBytes;

pub(crate) use dry::{Found, dry_load};
pub(crate) use keys::KeyMap;
pub use report::LoadReport;
pub(crate) use weights::{ModelWeights, WeightFiles, type_name};

/// The quantized language model of a folder that `r1seg convert --quant` wrote.
const LANGUAGE_MODEL: &str = "language_model.gguf";
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

    /// The orientation of a model that has seen only one: phantoms are drawn from the right, anterior and
    /// inferior corner on. Published models have seen many.
    pub(crate) fn trained_on(&self) -> Option<Orientation> {
        match self {
            Self::Embedded(files) if *files == r1seg_phantom::checkpoint_files() => {
                Some(Orientation::LPS)
            }
            _ => None,
        }
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
                let is_json = name.ends_with(".json");
                let read = if is_json { r1seg_files::read_json } else { r1seg_files::read };
                match read(&path, MAX_CONFIG_BYTES) {
                    Ok(bytes) => Ok(Some(Cow::Owned(bytes))),
                    Err(error) if error.is_not_found() => Ok(None),
                    Err(error) => Err(Error::unreadable(path, error)),
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
                vocab_txt: self.read("vocab.txt")?,
                vocab_json: self.read("vocab.json")?,
                merges_txt: self.read("merges.txt")?,
                tokenizer_config: self.read("tokenizer_config.json")?,
                added_tokens: self.read("added_tokens.json")?,
                special_tokens_map: self.read("special_tokens_map.json")?,
            }),
        }
    }

    /// What `r1seg convert` wrote about the folder, if it did: the files must have their lengths, and
    /// all but the weights their hashes.
    pub(crate) fn check_manifest(&self) -> Result<Option<r1seg_convert::Manifest>, Error> {
        match self {
            Self::Folder(folder) => Ok(r1seg_convert::verify_quickly(folder)?),
            Self::Embedded(_) => Ok(None),
        }
    }

    /// The tokenizer of a text encoder.
    pub(crate) fn text_tokenizer(&self) -> Result<TextTokenizer, Error> {
        Ok(TextTokenizer::new(&self.tokenizer_files()?)?)
    }

    /// Opens the weights without reading them; `mmap` is whether files are mapped rather than read
    /// into memory, and `None` leaves it to where they lie. `head_dim` is the language model's.
    pub(crate) fn open_weights(
        &self,
        mmap: Option<bool>,
        head_dim: usize,
    ) -> Result<WeightFiles, Error> {
        let files = match self {
            Self::Embedded(files) => {
                let (name, bytes) = files
                    .iter()
                    .find(|(name, _)| *name == "model.safetensors")
                    .ok_or_else(|| self.missing("model.safetensors"))?;
                let bytes = FileBytes::embedded(bytes);
                vec![WeightFile::safetensors((*name).to_string(), bytes, &self.path())?]
            }
            Self::Folder(folder) => {
                let mmap = mmap.unwrap_or_else(|| !mapped::on_network_drive(folder));
                let open = if mmap { FileBytes::map } else { FileBytes::read };
                let mut files = Vec::new();
                for name in shard_names(folder, self)? {
                    let bytes = open(&folder.join(&name))?;
                    files.push(WeightFile::safetensors(name, bytes, folder)?);
                }
                if folder.join(LANGUAGE_MODEL).is_file() {
                    let bytes = open(&folder.join(LANGUAGE_MODEL))?;
                    let name = LANGUAGE_MODEL.to_string();
                    files.push(WeightFile::gguf(name, bytes, folder, head_dim)?);
                }
                files
            }
        };
        WeightFiles::new(files, self.path())
    }

    /// A file that every checkpoint has is not there, or there is no folder to hold it.
    pub(crate) fn missing(&self, file: &str) -> Error {
        if let Self::Folder(folder) = self
            && !folder.exists()
        {
            return Error::ModelNotFound { path: folder.clone() };
        }
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
        return Err(match pickles(folder).into_iter().next() {
            Some(file) => Error::Pickle { path: folder.to_path_buf(), file },
            None => source.missing("model.safetensors"),
        });
    };
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let broken = |message: String| Error::WeightFile {
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

/// The pickles of weights in a folder, sorted by name.
fn pickles(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| is_pickle(name))
        .collect();
    names.sort();
    names
}

/// Whether a file of this name holds, or indexes, weights that Python would run code to read.
pub fn is_pickle(name: &str) -> bool {
    let name = name.strip_suffix(".index.json").unwrap_or(name);
    let beside = ["training_args.", "optimizer.", "scheduler.", "scaler.", "rng_state"];
    [".bin", ".pth", ".pt", ".ckpt"].iter().any(|end| name.ends_with(end))
        && !beside.iter().any(|start| name.starts_with(start))
}
