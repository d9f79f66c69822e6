//! Whether a converted folder is what it was.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use r1seg_checkpoint::gguf::{GgmlType, Gguf, TensorInfo};
use rayon::prelude::*;

use crate::dtype::{Tally, count_not_finite};
use crate::error::first_names;
use crate::hash::HashingReader;
use crate::llm::blocks;
use crate::manifest::{FileRecord, MANIFEST, Manifest, SCHEMA_VERSION};
use crate::pickle::sanitize;
use crate::source::{self, is_plain_name, json, open_regular, read_header, read_small};
use crate::{Dtype, Error, TensorEntry};

/// More files than any converted folder has.
const MAX_FILES: usize = 8192;
/// Bytes that are read at once.
const CHUNK: u64 = 4 << 20;

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
/// or should not be there, [`Error::Safetensors`], [`Error::Gguf`], [`Error::Duplicate`], [`Error::NotFinite`].
pub fn verify(folder: &Path, check_tensors: bool) -> Result<Verified, Error> {
    let manifest = read_manifest(folder)?;
    let unlisted = unlisted(folder, &manifest)?;

    let checked: Vec<FileCheck> = manifest
        .files
        .par_iter()
        .map(|file| check_file(&folder.join(&file.name), file, check_tensors))
        .collect::<Result<_, Error>>()?;
    let mut names = BTreeSet::new();
    for name in checked.iter().flat_map(|file| &file.tensors) {
        if !names.insert(name) {
            return Err(Error::Duplicate { path: folder.to_owned(), name: sanitize(name) });
        }
    }
    if names.len() != manifest.tensors {
        return Err(Error::Manifest {
            path: folder.join(MANIFEST),
            message: format!("it counts {} tensors, there are {}", manifest.tensors, names.len()),
        });
    }
    let not_finite = checked.iter().flat_map(|file| &file.not_finite);
    refuse_not_finite(folder, not_finite.map(String::as_str))?;
    let bytes = manifest.files.iter().map(|file| file.bytes).sum();
    Ok(Verified { bytes, tensors: names.len(), unlisted, manifest })
}

fn read_manifest(folder: &Path) -> Result<Manifest, Error> {
    let path = folder.join(MANIFEST);
    if !folder.is_dir() {
        return Err(Error::NotFound { path: folder.to_owned() });
    }
    let Some(bytes) = read_small(&path)? else {
        return Err(Error::NoManifest { path: folder.to_owned() });
    };
    let broken = |message: String| Error::Manifest { path: path.to_owned(), message };
    let manifest: Manifest = serde_json::from_slice(json(&path, &bytes)?)
        .map_err(|e| broken(format!("JSON, line {}", e.line())))?;
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
            return Err(broken(format!("`{}` is not a name in it", sanitize(&file.name))));
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
    let Some(bytes) = read_small(&folder.join(MANIFEST))? else {
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

/// Looks for NaN and infinities in safetensors, whoever wrote them. Returns how many tensors were
/// looked at; pickles are not.
///
/// # Errors
/// As [`contents`](crate::contents), and [`Error::NotFinite`].
pub fn check_tensors(folder: &Path) -> Result<usize, Error> {
    let checkpoint = source::open(folder, None)?;
    if checkpoint.has_pickles {
        return Ok(0);
    }
    let found: Vec<Option<&str>> = checkpoint
        .tensors
        .par_iter()
        .map(|stored| {
            let path = checkpoint.path(stored.file);
            let read = |source| Error::Read { path: path.clone(), source };
            let mut file = open_regular(&path)?;
            let tally = scan(&stored.entry.clone().into(), |position, buffer| {
                file.seek(SeekFrom::Start(position))?;
                file.read_exact(buffer)
            });
            Ok((0 < tally.map_err(read)?.not_finite).then_some(stored.entry.name.as_str()))
        })
        .collect::<Result<_, Error>>()?;
    refuse_not_finite(folder, found.iter().flatten().copied())?;
    Ok(found.len())
}

fn refuse_not_finite<'a>(
    folder: &Path,
    names: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), Error> {
    match names.clone().count() {
        0 => Ok(()),
        count => {
            Err(Error::NotFinite { path: folder.to_owned(), count, names: first_names(names) })
        }
    }
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
            return Err(Error::Differs { path: folder.to_owned(), name: sanitize(&name), what });
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

fn check_file(
    path: &Path,
    expected: &crate::manifest::FileRecord,
    check_tensors: bool,
) -> Result<FileCheck, Error> {
    let file = open_as_listed(path, expected)?;
    let header = if expected.name.ends_with(".safetensors") {
        read_header(&file, path)?.into_iter().map(Weights::from).collect()
    } else if expected.name.ends_with(".gguf") {
        let gguf =
            Gguf::open(&file).map_err(|source| Error::Gguf { path: path.to_owned(), source })?;
        let blocks = |(name, info): (String, TensorInfo)| Weights {
            name,
            range: [info.range.start, info.range.end],
            format: Format::Blocks(info.ggml_type),
        };
        let mut tensors: Vec<Weights> = gguf.tensors.into_iter().map(blocks).collect();
        tensors.sort_by_key(|tensor| tensor.range);
        tensors
    } else {
        Vec::new()
    };
    let read = |source| Error::Read { path: path.to_owned(), source };
    let mut reader = HashingReader::new(file).map_err(read)?;
    let mut check = FileCheck { tensors: Vec::new(), not_finite: Vec::new() };
    for tensor in header {
        if check_tensors
            && scan(&tensor, |at, buffer| reader.read_at(at, buffer)).map_err(read)?.not_finite > 0
        {
            check.not_finite.push(tensor.name.clone());
        }
        check.tensors.push(tensor.name);
    }
    same_hash(path, reader.finish(expected.name.clone()).map_err(read)?, expected)?;
    Ok(check)
}

/// A tensor of a file of either kind.
struct Weights {
    name: String,
    /// Its bytes in the file, `[start, end)`.
    range: [u64; 2],
    format: Format,
}

enum Format {
    Numbers(Dtype),
    Blocks(GgmlType),
}

impl From<TensorEntry> for Weights {
    fn from(tensor: TensorEntry) -> Self {
        Self { name: tensor.name, range: tensor.storage, format: Format::Numbers(tensor.dtype) }
    }
}

fn differs(path: &Path, expected: &FileRecord, what: String) -> Error {
    Error::Differs { path: path.to_owned(), name: sanitize(&expected.name), what }
}

/// Opens a file that must have the length that the manifest says.
fn open_as_listed(path: &Path, expected: &FileRecord) -> Result<File, Error> {
    let file = match open_regular(path) {
        Err(Error::NotFound { .. }) => {
            return Err(differs(path, expected, "it is missing".to_owned()));
        }
        other => other?,
    };
    match source::length(&file, path)? {
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

/// Counts what is not finite, read piece by piece from places in the file.
fn scan(
    tensor: &Weights,
    mut read_at: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
) -> io::Result<Tally> {
    let chunk = match tensor.format {
        Format::Numbers(_) => CHUNK,
        Format::Blocks(ggml_type) => CHUNK / ggml_type.block_bytes() * ggml_type.block_bytes(),
    };
    let mut tally = Tally::default();
    let [mut position, end] = tensor.range;
    let mut buffer = Vec::new();
    while position < end {
        let length = (end - position).min(chunk);
        buffer.resize(usize::try_from(length).unwrap_or(0), 0);
        read_at(position, &mut buffer)?;
        tally = tally.add(match tensor.format {
            Format::Numbers(dtype) => count_not_finite(&buffer, dtype),
            Format::Blocks(ggml_type) => blocks::not_finite(&buffer, ggml_type),
        });
        position += length;
    }
    Ok(tally)
}
