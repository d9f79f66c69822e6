//! Zip archives: which reader a `PK` file belongs to.

use std::fs::File;
use std::path::Path;

use zip::ZipArchive;

use super::{Loaded, ReadOptions, dicom};
use crate::Error;

/// Whether these first bytes are of a zip archive.
pub(super) fn is_zip(start: &[u8]) -> bool {
    start.starts_with(b"PK\x03\x04")
}

/// Reads the volume of an archive: a DICOM series, or an array of numpy.
pub(super) fn read(path: &Path, options: &ReadOptions) -> Result<Loaded, Error> {
    if is_npz(path) {
        let looks_like = "it is a zip archive of numpy arrays (.npz)";
        return Err(Error::UnknownFormat { path: path.to_owned(), looks_like });
    }
    dicom::read_archive(path, options)
}

/// `numpy.savez` gives every member a name in `.npy`.
fn is_npz(path: &Path) -> bool {
    let Some(archive) = File::open(path).ok().and_then(|file| ZipArchive::new(file).ok()) else {
        return false;
    };
    !archive.is_empty() && archive.file_names().all(|name| name.is_ok_and(|n| n.ends_with(".npy")))
}
