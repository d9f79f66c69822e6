//! What a checkpoint holds, found out without reading a weight.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use r1seg_checkpoint::scan;
use r1seg_checkpoint::shown::first_names;
use rayon::prelude::*;

use crate::source::{self, Stored, open_regular};
use crate::{Error, Sandbox, TensorEntry};

/// The tensors of a checkpoint under the names that [`convert`](crate::convert) gives them.
#[derive(Debug, Clone)]
pub struct Contents {
    /// The files of weights.
    pub files: Vec<PathBuf>,
    /// Their tensors, without the buffers that a model computes for itself.
    pub tensors: Vec<TensorEntry>,
    /// Whether some file is a pickle.
    pub has_pickles: bool,
}

/// Lists the tensors of a file of weights, an index of shards or a folder: only headers and pickles
/// are read, and pickles in a child process if `sandbox` lends one.
///
/// # Errors
/// [`Error::NotFound`], [`Error::NoWeights`], [`Error::Ambiguous`], [`Error::Read`], [`Error::Pickle`],
/// [`Error::Sandbox`], [`Error::Safetensors`], [`Error::Index`], [`Error::EmptyTensors`],
/// [`Error::Duplicate`].
pub fn contents(source: &Path, sandbox: Option<&Sandbox>) -> Result<Contents, Error> {
    let mut checkpoint = source::open(source, sandbox)?;
    checkpoint.normalize_names();
    checkpoint.check_names()?;
    let tensors = checkpoint.tensors.into_iter().map(|Stored { entry, .. }| entry).collect();
    Ok(Contents { files: checkpoint.files, tensors, has_pickles: checkpoint.has_pickles })
}

/// Looks for NaN and infinities in safetensors, whoever wrote them. Returns how many tensors were
/// looked at; pickles are not.
///
/// # Errors
/// As [`contents`], and [`Error::NotFinite`].
pub fn check_tensors(folder: &Path) -> Result<usize, Error> {
    let checkpoint = source::open(folder, None)?;
    if checkpoint.has_pickles {
        return Ok(0);
    }
    let found: Vec<Option<&str>> = checkpoint
        .tensors
        .par_iter()
        .map(|Stored { file, entry, .. }| {
            let path = checkpoint.path(*file);
            let mut opened = open_regular(&path)?;
            let [start, end] = entry.storage;
            let not_finite = scan(start..end, entry.dtype, |position, buffer| {
                opened.seek(SeekFrom::Start(position))?;
                opened.read_exact(buffer)
            });
            let not_finite = not_finite.map_err(|source| Error::Read { path, source })?;
            Ok((0 < not_finite).then_some(entry.name.as_str()))
        })
        .collect::<Result<_, Error>>()?;
    let damaged = found.iter().flatten().copied();
    match damaged.clone().count() {
        0 => Ok(found.len()),
        count => {
            let names = first_names(damaged);
            Err(Error::NotFinite { path: folder.to_owned(), count, names })
        }
    }
}
