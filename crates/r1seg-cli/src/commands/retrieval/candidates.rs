//! The volumes of a folder.

use std::path::{Path, PathBuf};

use anyhow::Result;
use r1seg::ErrorKind;

use crate::exit::CliError;

/// Names of files that hold a volume, or its header.
const ENDINGS: [&str; 7] = [".nii", ".nii.gz", ".hdr", ".nrrd", ".nhdr", ".npy", ".npz"];

/// What `given` stands for: files as they are, folders as what lies in them. A folder with neither
/// volumes nor folders in it is a DICOM series itself.
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
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?.path();
        let name = entry.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let is_volume = entry.is_dir() || ENDINGS.iter().any(|ending| name.ends_with(ending));
        if is_volume && !name.starts_with('.') {
            found.push(entry);
        }
    }
    found.sort();
    if found.is_empty() {
        found.push(path.to_path_buf());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stands_for_its_volumes_and_folders_by_name() {
        let desk = tempfile::tempdir().unwrap();
        let path = |name: &str| desk.path().join(name);
        for name in ["b.nii.gz", "a.NPY", "notes.txt", ".hidden.nii", "c.img", "c.hdr"] {
            std::fs::write(path(name), "").unwrap();
        }
        std::fs::create_dir(path("series")).unwrap();
        let found = expand(&[path("notes.txt"), desk.path().to_path_buf()]).unwrap();
        let expected = ["notes.txt", "a.NPY", "b.nii.gz", "c.hdr", "series"].map(path);
        assert_eq!(found, expected);
    }

    #[test]
    fn a_folder_of_other_files_is_a_series() {
        let desk = tempfile::tempdir().unwrap();
        std::fs::write(desk.path().join("IM0001"), "").unwrap();
        assert_eq!(expand(&[desk.path().to_path_buf()]).unwrap(), [desk.path()]);
    }
}
