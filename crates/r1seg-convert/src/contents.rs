//! What a checkpoint holds, found out without reading a weight.

use std::path::{Path, PathBuf};

use crate::source::{self, Stored};
use crate::{Error, Sandbox, TensorEntry, keys};

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
    keys::normalize(&mut checkpoint.tensors);
    checkpoint.check_names()?;
    let tensors = checkpoint.tensors.into_iter().map(|Stored { entry, .. }| entry).collect();
    Ok(Contents { files: checkpoint.files, tensors, has_pickles: checkpoint.has_pickles })
}
