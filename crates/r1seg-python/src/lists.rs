//! Ids and folders of many volumes, as `r1seg batch` gives them.

use std::path::{Path, PathBuf};

use pyo3::prelude::*;
use r1seg_results::ids;

/// The folder of an id, relative to that of the results, with `/` between its parts.
#[pyfunction]
pub(crate) fn folder_of(id: &str) -> String {
    let parts: Vec<String> =
        ids::folder(id).iter().map(|part| part.to_string_lossy().into_owned()).collect();
    parts.join("/")
}

/// Ids for the volumes at `paths`, which have none; `known` are those of others.
#[pyfunction]
pub(crate) fn ids_of(paths: Vec<PathBuf>, known: Vec<String>) -> Vec<String> {
    let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    ids::of_paths(&paths, &known.iter().map(String::as_str).collect::<Vec<_>>())
}
