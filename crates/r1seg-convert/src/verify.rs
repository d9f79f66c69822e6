//! Whether a converted folder is what it was.

use std::collections::BTreeSet;
use std::path::Path;

use r1seg_gguf::{GgmlType, Gguf, TensorInfo};
use rayon::prelude::*;

use crate::dtype::{Tally, count_not_finite};
use crate::error::first_names;
use crate::hash::HashingReader;
use crate::llm::blocks;
use crate::manifest::{MANIFEST, Manifest, SCHEMA_VERSION};
use crate::pickle::sanitise;
use crate::source::{is_plain_name, open_regular, read_header, read_small};
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
            return Err(Error::Duplicate { path: folder.to_owned(), name: sanitise(name) });
        }
    }
    if names.len() != manifest.tensors {
        return Err(Error::Manifest {
            path: folder.join(MANIFEST),
            message: format!("it counts {} tensors, there are {}", manifest.tensors, names.len()),
        });
    }
    let not_finite: Vec<&str> =
        checked.iter().flat_map(|file| &file.not_finite).map(String::as_str).collect();
    if !not_finite.is_empty() {
        return Err(Error::NotFinite {
            path: folder.to_owned(),
            count: not_finite.len(),
            names: first_names(not_finite.into_iter()),
        });
    }
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
    let manifest: Manifest =
        serde_json::from_slice(&bytes).map_err(|e| broken(format!("JSON, line {}", e.line())))?;
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
            return Err(broken(format!("`{}` is not a name in it", sanitise(&file.name))));
        }
    }
    Ok(manifest)
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
            return Err(Error::Differs { path: folder.to_owned(), name: sanitise(&name), what });
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
    let differs = |what: String| Error::Differs {
        path: path.to_owned(),
        name: sanitise(&expected.name),
        what,
    };
    let file = match open_regular(path) {
        Err(Error::NotFound { .. }) => return Err(differs("it is missing".to_owned())),
        other => other?,
    };
    let length = crate::source::length(&file, path)?;
    if length != expected.bytes {
        return Err(differs(format!("{length} bytes, expected {}", expected.bytes)));
    }
    let header = if expected.name.ends_with(".safetensors") {
        let numbers = |tensor: TensorEntry| Weights {
            name: tensor.name,
            range: tensor.storage,
            format: Format::Numbers(tensor.dtype),
        };
        read_header(&file, path)?.into_iter().map(numbers).collect()
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
        if check_tensors && scan(&mut reader, &tensor).map_err(read)?.not_finite > 0 {
            check.not_finite.push(tensor.name.clone());
        }
        check.tensors.push(tensor.name);
    }
    let record = reader.finish(expected.name.clone()).map_err(read)?;
    if record.sha256 != expected.sha256 {
        return Err(differs("its SHA-256 is another".to_owned()));
    }
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

fn scan(reader: &mut HashingReader, tensor: &Weights) -> std::io::Result<Tally> {
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
        reader.read_at(position, &mut buffer)?;
        tally = tally.add(match tensor.format {
            Format::Numbers(dtype) => count_not_finite(&buffer, dtype),
            Format::Blocks(ggml_type) => blocks::not_finite(&buffer, ggml_type),
        });
        position += length;
    }
    Ok(tally)
}
