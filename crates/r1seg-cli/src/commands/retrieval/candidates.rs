//! The volumes of a folder.

use std::path::{Path, PathBuf};

use anyhow::Result;
use r1seg::ErrorKind;

use crate::exit::CliError;

/// Names of files that hold a volume, or its header.
const ENDINGS: [&str; 7] = [".nii", ".nii.gz", ".hdr", ".nrrd", ".nhdr", ".npy", ".npz"];

/// What `given` stands for: files as they are, folders as the volumes in them and in their folders,
/// by name. A folder with a `.dcm` in it, or with neither volumes nor folders, is a DICOM series.
pub(super) fn expand(given: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for path in given {
        if path.is_dir() {
            all.extend(folder(path)?);
        } else {
            all.push(path.clone());
        }
    }
    Ok(all)
}

fn folder(path: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |e: std::io::Error| CliError {
        code: "R-RET-01",
        kind: ErrorKind::Missing,
        what: format!("the folder cannot be read: {e}"),
        path: Some(path.to_path_buf()),
        fix: Some("check its permissions".to_string()),
    };
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        // Of the entry itself: a link to a folder above would lead in circles.
        let is_folder = entry.file_type().map_err(unreadable)?.is_dir();
        let name = entry.file_name().to_string_lossy().to_ascii_lowercase();
        if !name.starts_with('.') {
            entries.push((entry.path(), name, is_folder));
        }
    }
    entries.sort();
    let mut found = Vec::new();
    let is_series = entries.iter().any(|(_, name, _)| name.ends_with(".dcm"));
    for (entry, name, is_folder) in entries.into_iter().filter(|_| !is_series) {
        if is_folder {
            found.extend(folder(&entry)?);
        } else if ENDINGS.iter().any(|ending| name.ends_with(ending)) {
            found.push(entry);
        }
    }
    if found.is_empty() {
        found.push(path.to_path_buf());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stands_for_the_volumes_and_series_in_it_by_name() {
        let desk = tempfile::tempdir().unwrap();
        let path = |name: &str| desk.path().join(name);
        for name in ["b.nii.gz", "a.NPY", "notes.txt", ".hidden.nii", "c.img", "c.hdr"] {
            std::fs::write(path(name), "").unwrap();
        }
        for name in ["series/IM0001", "deep/er/d.nrrd", "ct/1.dcm", "ct/thumbs/t.npy"] {
            std::fs::create_dir_all(path(name).parent().unwrap()).unwrap();
            std::fs::write(path(name), "").unwrap();
        }
        let found = expand(&[path("notes.txt"), desk.path().to_path_buf()]).unwrap();
        let expected =
            ["notes.txt", "a.NPY", "b.nii.gz", "c.hdr", "ct", "deep/er/d.nrrd", "series"].map(path);
        assert_eq!(found, expected);
    }

    #[test]
    fn a_folder_of_other_files_is_a_series() {
        let desk = tempfile::tempdir().unwrap();
        std::fs::write(desk.path().join("IM0001"), "").unwrap();
        assert_eq!(expand(&[desk.path().to_path_buf()]).unwrap(), [desk.path()]);
    }
}
