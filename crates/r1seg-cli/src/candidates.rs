//! The volumes of a folder.

use std::path::{Path, PathBuf};

use r1seg::files::begins_with;

use crate::codes::Code;
use crate::exit::CliError;

/// Bytes before `DICM` in a DICOM file.
const DICOM_PREAMBLE: usize = 128;
/// Names of files that hold a volume, or its header.
const ENDINGS: [&str; 7] = [".nii", ".nii.gz", ".hdr", ".nrrd", ".nhdr", ".npy", ".npz"];

/// What folders stand for.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    /// Files, and folders of DICOM files.
    pub(crate) paths: Vec<PathBuf>,
    /// Folders that cannot be read.
    pub(crate) faults: Vec<CliError>,
}

/// What `given` stands for: files as they are, folders as the volumes in them and in their folders,
/// by name. A folder with a DICOM file in it, or with neither volumes nor folders, is a study of DICOM
/// series, to which all DICOM files in its folders belong; volumes of other formats in it are
/// candidates of their own.
pub(crate) fn expand(given: &[PathBuf]) -> Candidates {
    let mut all = Candidates::default();
    for path in given {
        if path.is_dir() {
            all.folder(path, false);
        } else {
            all.paths.push(path.clone());
        }
    }
    all
}

impl Candidates {
    /// `in_study` is whether DICOM files here belong to a folder above.
    fn folder(&mut self, path: &Path, in_study: bool) {
        let entries = match entries(path) {
            Ok(entries) => entries,
            Err(e) => {
                let what = format!("the folder cannot be read: {e}");
                let error = CliError::new(Code::CandidatesUnreadable, what);
                self.faults.push(error.at(path).fix("check its permissions"));
                return;
            }
        };
        let has_volume = |entry: &&Entry| !entry.is_folder && is_volume(&entry.name);
        let is_study = !in_study && entries.iter().any(Entry::is_dicom);
        let has_others = entries.iter().any(|entry| entry.is_folder || has_volume(&entry));
        if is_study || !in_study && !has_others {
            self.paths.push(path.to_path_buf());
        }
        for entry in &entries {
            if entry.is_folder {
                self.folder(&entry.path, in_study || is_study);
            } else if is_volume(&entry.name) {
                self.paths.push(entry.path.clone());
            }
        }
    }
}

struct Entry {
    path: PathBuf,
    /// In lower case.
    name: String,
    is_folder: bool,
}

impl Entry {
    /// By its name, or else by its first bytes: scanners write names without an ending, too.
    fn is_dicom(&self) -> bool {
        if self.is_folder || is_volume(&self.name) {
            return false;
        }
        self.name.ends_with(".dcm") || begins_with(&self.path, DICOM_PREAMBLE, b"DICM")
    }
}

fn is_volume(name: &str) -> bool {
    ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// All but hidden ones, by name.
fn entries(folder: &Path) -> std::io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // Of the entry itself: a link to a folder above would lead in circles.
        let is_folder = entry.file_type()?.is_dir();
        let name = entry.file_name().to_string_lossy().to_ascii_lowercase();
        if !name.starts_with('.') {
            entries.push(Entry { path: entry.path(), name, is_folder });
        }
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, bytes: &[u8]) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn a_folder_stands_for_the_volumes_and_studies_in_it_by_name() {
        let desk = tempfile::tempdir().unwrap();
        let path = |name: &str| desk.path().join(name);
        for name in ["b.nii.gz", "a.NPY", "notes.txt", ".hidden.nii", "c.img", "c.hdr"] {
            write(&path(name), b"");
        }
        for name in ["series/IM0001", "deep/er/d.nrrd", "ct/1.dcm", "ct/more/2.dcm"] {
            write(&path(name), b"");
        }
        let found = expand(&[path("notes.txt"), desk.path().to_path_buf()]);
        let expected =
            ["notes.txt", "a.NPY", "b.nii.gz", "c.hdr", "ct", "deep/er/d.nrrd", "series"].map(path);
        assert_eq!(found.paths, expected);
        assert!(found.faults.is_empty());
    }

    #[test]
    fn volumes_beside_dicom_files_are_not_left_out() {
        let desk = tempfile::tempdir().unwrap();
        let path = |name: &str| desk.path().join(name);
        write(&path("a/1.dcm"), b"");
        write(&path("a/ct.nii.gz"), b"");
        write(&path("a/deep/t.npy"), b"");
        // DICOM by its first bytes alone, beside a volume.
        write(&path("b/IM0001"), &[&[0; 128][..], b"DICM"].concat());
        write(&path("b/ct.nii"), b"");
        let found = expand(&[desk.path().to_path_buf()]).paths;
        assert_eq!(found, ["a", "a/ct.nii.gz", "a/deep/t.npy", "b", "b/ct.nii"].map(path));
    }

    #[test]
    fn a_folder_of_other_files_is_a_study() {
        let desk = tempfile::tempdir().unwrap();
        write(&desk.path().join("IM0001"), b"");
        assert_eq!(expand(&[desk.path().to_path_buf()]).paths, [desk.path()]);
    }

    #[test]
    fn a_folder_that_is_not_there_any_more_is_a_fault_and_the_rest_is_found() {
        let mut all = Candidates::default();
        all.folder(Path::new("/nowhere/at/all"), false);
        assert!(all.paths.is_empty());
        let [fault] = &all.faults[..] else { panic!("{all:?}") };
        assert_eq!((fault.code, fault.kind), ("R-RET-01", r1seg::ErrorKind::Missing));
    }
}
