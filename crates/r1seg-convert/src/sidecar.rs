//! The small files beside the weights: `config.json` and the tokenizer's.
//!
//! Only known names are taken over, so that no `.py` file and no pickle comes along. A
//! `tokenizer.model` is copied as it is: r1seg reads SentencePiece itself, with the ids of the slow
//! tokenizer that the models are trained with. A `tokenizer.json` made from it could not have them:
//! the fast pipeline tokenizes text beside added tokens in another way.

use std::path::{Path, PathBuf};

use r1seg_checkpoint::{FileRecord, HashingWriter};
use serde_json::{Map, Value};

use crate::source::{json, read_small};
use crate::{Error, TargetDtype};

pub(crate) const CONFIG: &str = "config.json";

/// Taken over byte for byte, from the first folder that has it.
const COPIED: [&str; 14] = [
    GENERATION,
    "preprocessor_config.json",
    "LICENSE",
    "LICENSE.txt",
    "LICENSE.md",
    "NOTICE",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
];
const GENERATION: &str = "generation_config.json";
/// From here on the names belong together: half a tokenizer of each folder would be none.
const FIRST_OF_TOKENIZER: usize = 6;

/// What of `config.json` is left out: where code lies (nothing here runs any), and paths of the
/// machine that saved it.
const DROPPED_FIELDS: [&str; 2] = ["auto_map", "_name_or_path"];

/// Writes the small files but for `config.json` into `target`; returns what was written.
pub(crate) fn write(folders: &[PathBuf], target: &Path) -> Result<Vec<FileRecord>, Error> {
    let mut records = Vec::new();
    let (single, tokenizer) = COPIED.split_at(FIRST_OF_TOKENIZER);
    for name in single {
        if let Some((_, bytes)) = first(folders, name)? {
            records.push(put(target, name, &bytes)?);
        }
    }
    let has_vocabulary = |folder: &&PathBuf| {
        ["tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"]
            .iter()
            .any(|name| folder.join(name).exists())
    };
    if let Some(folder) = folders.iter().find(has_vocabulary) {
        for name in tokenizer {
            if let Some(bytes) = read_small(&folder.join(name))? {
                records.push(put(target, name, &bytes)?);
            }
        }
    }
    Ok(records)
}

/// The same of a model that was joined, whose tokenizer files these are.
pub(crate) fn write_joined(
    folders: &[PathBuf],
    tokenizer: &[(&'static str, Vec<u8>)],
    target: &Path,
) -> Result<Vec<FileRecord>, Error> {
    let mut records = Vec::new();
    // What ends an answer of the base does not end one of the whole, whose config.json says that.
    for name in COPIED.iter().take(FIRST_OF_TOKENIZER).filter(|name| **name != GENERATION) {
        if let Some((_, bytes)) = first(folders, name)? {
            records.push(put(target, name, &bytes)?);
        }
    }
    for (name, bytes) in tokenizer {
        records.push(put(target, name, bytes)?);
    }
    Ok(records)
}

pub(crate) fn first(folders: &[PathBuf], name: &str) -> Result<Option<(PathBuf, Vec<u8>)>, Error> {
    for folder in folders {
        let path = folder.join(name);
        if let Some(bytes) = read_small(&path)? {
            return Ok(Some((path, bytes)));
        }
    }
    Ok(None)
}

/// Writes one small file.
pub(crate) fn put(target: &Path, name: &str, bytes: &[u8]) -> Result<FileRecord, Error> {
    let path = target.join(name);
    let written = std::fs::File::create_new(&path).and_then(|file| {
        let mut writer = HashingWriter::new(file);
        writer.write(bytes)?;
        writer.finish(name.to_owned())
    });
    written.map_err(|source| Error::Write { path, source })
}

/// The `config.json` of a folder, where it has one.
pub(crate) fn config(folder: &Path) -> Result<Option<Map<String, Value>>, Error> {
    let path = folder.join(CONFIG);
    read_small(&path)?.map(|bytes| read_config(&path, &bytes)).transpose()
}

/// Every field of a `config.json` but [`DROPPED_FIELDS`].
fn read_config(path: &Path, bytes: &[u8]) -> Result<Map<String, Value>, Error> {
    let refuse = |what: String| Error::Config { path: path.to_owned(), what };
    let mut config: Map<String, Value> = serde_json::from_slice(json(path, bytes)?)
        .map_err(|error| refuse(format!("is not a JSON object, line {}", error.line())))?;
    if config.get("quantization_config").is_some_and(|value| !value.is_null()) {
        return Err(refuse("the weights are quantized; convert the original ones".to_owned()));
    }
    for field in DROPPED_FIELDS {
        config.remove(field);
    }
    Ok(config)
}

/// Writes `config.json`; `torch_dtype` says what the weights now are.
pub(crate) fn put_config(
    target: &Path,
    mut config: Map<String, Value>,
    dtype: Option<TargetDtype>,
) -> Result<FileRecord, Error> {
    if let Some(dtype) = dtype {
        config.insert("torch_dtype".to_owned(), dtype.torch_name().into());
    }
    let failed = |source| Error::Write { path: target.join(CONFIG), source };
    let mut bytes = serde_json::to_vec_pretty(&config).map_err(|e| failed(e.into()))?;
    bytes.push(b'\n');
    put(target, CONFIG, &bytes)
}
