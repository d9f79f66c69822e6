//! The files of a checkpoint's folder, by name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::{Error, shown};

/// The weights, where they are one file.
pub const WEIGHTS: &str = "model.safetensors";
/// The index of weights in several files.
pub const INDEX: &str = "model.safetensors.index.json";
/// The quantized language model of a folder that was converted with one.
pub const LANGUAGE_MODEL: &str = "language_model.gguf";

/// More shards than any published model has.
pub const MAX_SHARDS: usize = 4096;
/// The longest index that is read.
pub const MAX_INDEX_BYTES: u64 = 64 << 20;

/// What training scripts leave beside the weights, with the endings of weights.
const BESIDE_WEIGHTS: [&str; 5] =
    ["training_args.", "optimizer.", "scheduler.", "scaler.", "rng_state"];

/// Whether a file of this name holds, or indexes, weights that Python would run code to read.
pub fn is_pickle(name: &str) -> bool {
    let name = name.strip_suffix(".index.json").unwrap_or(name);
    [".bin", ".pth", ".pt", ".ckpt"].iter().any(|end| name.ends_with(end))
        && !BESIDE_WEIGHTS.iter().any(|start| name.starts_with(start))
}

/// Whether a regular file begins as GGUF does.
pub fn is_gguf(path: &Path) -> bool {
    r1seg_files::begins_with(path, 0, b"GGUF")
}

/// Whether a name stays in its folder on every system.
pub fn is_plain_name(name: &str) -> bool {
    let plain = Path::new(name).file_name().is_some_and(|file| file == name);
    plain && !name.contains(['/', '\\', ':']) && !name.chars().any(char::is_control)
}

/// An index of weights in several files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardIndex {
    /// The file of each tensor.
    pub weight_map: BTreeMap<String, String>,
    /// The files, sorted. Each is a plain name in the folder of the index.
    pub shards: Vec<String>,
}

impl ShardIndex {
    /// Reads the JSON of an index.
    ///
    /// # Errors
    /// What is wrong with it, fit to be shown.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let index: Index = serde_json::from_slice(json)
            .map_err(|error| format!("is not the JSON of an index, line {}", error.line()))?;
        let shards: BTreeSet<&String> = index.weight_map.values().collect();
        if shards.is_empty() || shards.len() > MAX_SHARDS {
            return Err(format!("names {} shards; 1 to {MAX_SHARDS} are read", shards.len()));
        }
        // An index is a stranger's file: it may not point outside its folder.
        if let Some(name) = shards.iter().find(|name| !is_plain_name(name)) {
            return Err(format!("names `{}`, which is not a plain file name", shown::name(name)));
        }
        Ok(Self { shards: shards.into_iter().cloned().collect(), weight_map: index.weight_map })
    }
}

/// The files of safetensors that hold the weights of a folder, by its index where there is one.
///
/// # Errors
/// [`Error::MissingFile`], [`Error::NotFound`], [`Error::Pickle`] where there are only pickles,
/// [`Error::WeightFile`] for an index that is not usable, and those of reading it.
pub fn weight_names(folder: &Path) -> Result<Vec<String>, Error> {
    if folder.join(WEIGHTS).is_file() {
        return Ok(vec![WEIGHTS.to_string()]);
    }
    let index = match r1seg_files::read_utf8_json(&folder.join(INDEX), MAX_INDEX_BYTES) {
        Ok(index) => index,
        Err(error) if error.is_not_found() => {
            return Err(match pickles(folder).into_iter().next() {
                Some(file) => Error::Pickle { path: folder.to_path_buf(), file },
                None => missing(folder, WEIGHTS),
            });
        }
        Err(error) => return Err(Error::unreadable(folder.join(INDEX), error)),
    };
    let index = ShardIndex::parse(&index).map_err(|message| Error::WeightFile {
        path: folder.to_path_buf(),
        file: INDEX.to_string(),
        message,
    })?;
    match index.shards.iter().find(|name| !folder.join(name).is_file()) {
        Some(name) => Err(missing(folder, name)),
        None => Ok(index.shards),
    }
}

/// The error of a folder that lacks a file, or does not exist.
pub fn missing(folder: &Path, file: &str) -> Error {
    let path: PathBuf = folder.to_path_buf();
    match folder.exists() {
        true => Error::MissingFile { path, file: file.to_string() },
        false => Error::NotFound { path },
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pickles_are_told_from_what_training_leaves_beside_them() {
        for name in ["pytorch_model.bin", "pytorch_model.bin.index.json", "a.pth", "b.pt", "c.ckpt"]
        {
            assert!(is_pickle(name), "{name}");
        }
        for name in ["training_args.bin", "optimizer.pt", "rng_state_0.pth", WEIGHTS, INDEX] {
            assert!(!is_pickle(name), "{name}");
        }
    }

    #[test]
    fn an_index_names_plain_files_and_not_too_many() {
        let index =
            ShardIndex::parse(br#"{"weight_map": {"a": "2", "b": "1", "c": "2"}}"#).unwrap();
        assert_eq!(index.shards, ["1", "2"]);
        assert_eq!(index.weight_map["b"], "1");
        for name in ["../a", "/a", "a/b", "..", "", "a\\\\b", "c:a", "a\\u0000"] {
            let json = format!(r#"{{"weight_map": {{"a": "{name}"}}}}"#);
            let error = ShardIndex::parse(json.as_bytes()).unwrap_err();
            assert!(error.contains("not a plain file name"), "{name}: {error}");
        }
        let many: Vec<String> = (0..=MAX_SHARDS).map(|i| format!("\"{i}\":\"{i}\"")).collect();
        let many = format!(r#"{{"weight_map": {{{}}}}}"#, many.join(","));
        assert!(ShardIndex::parse(many.as_bytes()).unwrap_err().contains("4097 shards"));
        assert!(ShardIndex::parse(br#"{"weight_map": {}}"#).unwrap_err().contains("0 shards"));
        assert!(ShardIndex::parse(b"[]").is_err());
    }
}
