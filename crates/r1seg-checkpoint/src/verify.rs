//! Whether a converted folder is what it was.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;

use crate::finite::scan;
use crate::gguf::Gguf;
use crate::layout::is_plain_name;
use crate::safetensors::HeaderError;
use crate::{
    Error, FileRecord, HashingReader, MANIFEST, MAX_MANIFEST_BYTES, Manifest, NumberFormat,
    SCHEMA_VERSION, safetensors, shown,
};

/// More files than any converted folder has.
const MAX_FILES: usize = 8192;

/// What was verified.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// The manifest that holds.
    pub manifest: Manifest,
    /// Bytes that were hashed.
    pub bytes: u64,
    /// Tensors in the files of weights.
    pub tensors: usize,
    /// Files in the folder that the manifest does not name, and that are no weights.
    pub unlisted: Vec<String>,
}

/// Hashes every file that `manifest.json` names, checks the headers of files of weights, and with
/// `check_tensors` looks for NaN and infinities in the same pass.
///
/// # Errors
/// [`Error::NoManifest`], [`Error::Manifest`], [`Error::Differs`] for a file that is missing, changed
/// or should not be there, [`Error::WeightFile`], [`Error::Gguf`], [`Error::DamagedWeights`].
pub fn verify(folder: &Path, check_tensors: bool) -> Result<Verified, Error> {
    let manifest = read_manifest(folder)?;
    let unlisted = unlisted(folder, &manifest)?;

    let checked: Vec<FileCheck> = manifest
        .files
        .par_iter()
        .map(|file| check_file(&folder.join(&file.name), file, check_tensors))
        .collect::<Result<_, Error>>()?;
    let mut names = BTreeMap::new();
    for (file, check) in manifest.files.iter().zip(&checked) {
        for name in &check.tensors {
            if let Some(first) = names.insert(name, &file.name) {
                let name = shown::name(name);
                return Err(Error::WeightFile {
                    path: folder.to_owned(),
                    file: file.name.clone(),
                    message: format!("tensor `{name}` is in {} too", shown::name(first)),
                });
            }
        }
    }
    if names.len() != manifest.tensors {
        return Err(Error::Manifest {
            path: folder.join(MANIFEST),
            message: format!("it counts {} tensors, there are {}", manifest.tensors, names.len()),
        });
    }
    let damaged: Vec<String> = checked.iter().flat_map(|file| &file.not_finite).cloned().collect();
    if !damaged.is_empty() {
        return Err(Error::DamagedWeights { path: folder.to_owned(), damaged });
    }
    let bytes = manifest.files.iter().map(|file| file.bytes).sum();
    Ok(Verified { bytes, tensors: names.len(), unlisted, manifest })
}

/// The bytes of a manifest, if there is one.
fn manifest_bytes(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match r1seg_files::read(path, MAX_MANIFEST_BYTES) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(Error::unreadable(path.to_owned(), error)),
    }
}

fn read_manifest(folder: &Path) -> Result<Manifest, Error> {
    let path = folder.join(MANIFEST);
    if !folder.is_dir() {
        return Err(Error::NotFound { path: folder.to_owned() });
    }
    let Some(bytes) = manifest_bytes(&path)? else {
        return Err(Error::NoManifest { path: folder.to_owned() });
    };
    let broken = |message: String| Error::Manifest { path: path.to_owned(), message };
    let json = r1seg_files::utf8_json(&bytes)
        .map_err(|error| Error::unreadable(path.to_owned(), error))?;
    let manifest: Manifest =
        serde_json::from_slice(json).map_err(|e| broken(format!("JSON, line {}", e.line())))?;
    if manifest.schema_version != SCHEMA_VERSION {
        return Err(broken(format!(
            "its layout is version {}, this program knows {SCHEMA_VERSION}",
            manifest.schema_version
        )));
    }
    if manifest.files.len() > MAX_FILES {
        return Err(broken(format!("it names {} files", manifest.files.len())));
    }
    let mut names = BTreeSet::new();
    for file in &manifest.files {
        if !is_plain_name(&file.name) || file.name == MANIFEST || !names.insert(&file.name) {
            return Err(broken(format!("`{}` is not a name in it", shown::name(&file.name))));
        }
    }
    Ok(manifest)
}

/// What can be told of a converted folder before its weights are read: that its files are there with
/// their lengths, that no weights were added, and that everything but the weights hashes as it did.
/// `None` for a folder that r1seg did not convert.
///
/// # Errors
/// [`Error::Manifest`], [`Error::Differs`] for a file that is missing, changed or should not be there,
/// [`Error::Read`].
pub fn verify_quickly(folder: &Path) -> Result<Option<Manifest>, Error> {
    const OURS: &[u8] = b"\"r1seg_version\"";
    let Some(bytes) = manifest_bytes(&folder.join(MANIFEST))? else {
        return Ok(None);
    };
    // Others write files of this name, too.
    if !bytes.windows(OURS.len()).any(|part| part == OURS) {
        return Ok(None);
    }
    let manifest = read_manifest(folder)?;
    unlisted(folder, &manifest)?;
    for file in &manifest.files {
        let path = folder.join(&file.name);
        let opened = open_as_listed(&path, file)?;
        if !is_weights(&file.name) {
            let read = |source| Error::Read { path: path.clone(), source };
            let reader = HashingReader::new(opened).map_err(read)?;
            same_hash(&path, reader.finish(file.name.clone()).map_err(read)?, file)?;
        }
    }
    Ok(Some(manifest))
}

fn is_weights(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".gguf")
}

/// Files that the manifest does not name. Weights among them would be loaded unverified.
fn unlisted(folder: &Path, manifest: &Manifest) -> Result<Vec<String>, Error> {
    let read = |source| Error::Read { path: folder.to_owned(), source };
    let mut unlisted = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let name = entry.map_err(read)?.file_name().to_string_lossy().into_owned();
        if name == MANIFEST || manifest.files.iter().any(|file| file.name == name) {
            continue;
        }
        if [".safetensors", ".safetensors.index.json", ".gguf"].iter().any(|e| name.ends_with(e)) {
            let what = "the manifest does not name it".to_owned();
            return Err(Error::Differs { path: folder.to_owned(), name: shown::name(&name), what });
        }
        unlisted.push(name);
    }
    unlisted.sort();
    Ok(unlisted)
}

struct FileCheck {
    tensors: Vec<String>,
    not_finite: Vec<String>,
}

fn check_file(path: &Path, expected: &FileRecord, check_tensors: bool) -> Result<FileCheck, Error> {
    let file = open_as_listed(path, expected)?;
    let header = weights_in(path, &file, &expected.name)?;
    let read = |source| Error::Read { path: path.to_owned(), source };
    let mut reader = HashingReader::new(file).map_err(read)?;
    let mut check = FileCheck { tensors: Vec::new(), not_finite: Vec::new() };
    for Weights { name, format, range } in header {
        if check_tensors
            && scan(range, format, |at, buffer| reader.read_at(at, buffer)).map_err(read)? > 0
        {
            check.not_finite.push(name.clone());
        }
        check.tensors.push(name);
    }
    same_hash(path, reader.finish(expected.name.clone()).map_err(read)?, expected)?;
    Ok(check)
}

/// A tensor of a file of either kind.
struct Weights {
    name: String,
    format: NumberFormat,
    /// Its bytes in the file.
    range: Range<u64>,
}

/// What the header of a file of weights says; nothing for other files.
fn weights_in(path: &Path, file: &File, name: &str) -> Result<Vec<Weights>, Error> {
    let (folder, name) = (path.parent().unwrap_or(path).to_owned(), shown::name(name));
    if path.extension().is_some_and(|extension| extension == "safetensors") {
        let header = safetensors::read_header(file).map_err(|error| match error {
            HeaderError::Io(source) => Error::Read { path: path.to_owned(), source },
            error => Error::WeightFile { path: folder, file: name, message: error.to_string() },
        })?;
        let weights = header.into_iter().map(|tensor| Weights {
            name: tensor.name,
            format: tensor.format,
            range: tensor.range,
        });
        return Ok(weights.collect());
    }
    if path.extension().is_none_or(|extension| extension != "gguf") {
        return Ok(Vec::new());
    }
    let gguf = Gguf::open(file).map_err(|source| Error::Gguf {
        path: folder,
        file: name,
        source: Box::new(source),
    })?;
    let weights = gguf.tensors.into_iter().map(|(name, info)| Weights {
        name,
        format: info.format,
        range: info.range,
    });
    let mut weights: Vec<Weights> = weights.collect();
    weights.sort_by_key(|tensor| tensor.range.start);
    Ok(weights)
}

fn differs(path: &Path, expected: &FileRecord, what: String) -> Error {
    Error::Differs { path: path.to_owned(), name: shown::name(&expected.name), what }
}

/// Opens a file that must have the length that the manifest says.
fn open_as_listed(path: &Path, expected: &FileRecord) -> Result<File, Error> {
    let file = match r1seg_files::open_regular(path) {
        Err(error) if error.is_not_found() => {
            return Err(differs(path, expected, "it is missing".to_owned()));
        }
        other => other.map_err(|error| Error::unreadable(path.to_owned(), error))?,
    };
    let metadata =
        file.metadata().map_err(|source| Error::Read { path: path.to_owned(), source })?;
    match metadata.len() {
        length if length == expected.bytes => Ok(file),
        length => {
            Err(differs(path, expected, format!("{length} bytes, expected {}", expected.bytes)))
        }
    }
}

fn same_hash(path: &Path, found: FileRecord, expected: &FileRecord) -> Result<(), Error> {
    if found.sha256 == expected.sha256 {
        return Ok(());
    }
    Err(differs(path, expected, "its SHA-256 is another".to_owned()))
}
