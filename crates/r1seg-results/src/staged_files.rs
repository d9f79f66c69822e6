//! Results on their way to their places.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use r1seg::files::PartFolder;
use r1seg::volume::{
    LabelMap, Mask, Overwrite, Volume, write_atomically, write_labels, write_mask, write_volume,
};

use crate::Error;
use crate::atomic_folder::{OutputFolder, parent, staging, unwritable};

/// Results on their way: all of them get to their places, or none.
#[derive(Debug)]
pub struct StagedFiles<'a> {
    output: &'a OutputFolder,
    folder: Option<PathBuf>,
    /// Folders that were made for the results, the deepest first.
    created: Vec<PathBuf>,
    /// Beside each target, so that a finished file needs only a new name.
    folders: Vec<(PathBuf, PartFolder)>,
    files: Vec<Staged>,
}

#[derive(Debug)]
struct Staged {
    from: PathBuf,
    to: PathBuf,
}

impl<'a> StagedFiles<'a> {
    /// Nothing yet, for a folder that exists; `created` were made for it.
    pub(crate) fn new(
        output: &'a OutputFolder,
        folder: Option<PathBuf>,
        created: Vec<PathBuf>,
    ) -> Self {
        Self { output, folder, created, folders: Vec::new(), files: Vec::new() }
    }

    /// The folder of the results, which of a new one only now has its name.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Writes the file at `path` with these bytes.
    ///
    /// # Errors
    /// [`Error::CannotCreate`] and those of writing.
    pub fn write(&mut self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        let write = |out: &mut dyn io::Write| out.write_all(bytes);
        self.write_with(path, |part| write_atomically(part, Overwrite::Refuse, write))
    }

    /// Writes a mask; the ending of `path` says the format.
    ///
    /// # Errors
    /// As [`Self::write`], and [`r1seg::volume::Error`] for an unknown ending.
    pub fn write_mask(&mut self, path: &Path, mask: &Mask) -> Result<(), Error> {
        self.write_with(path, |part| write_mask(part, mask, Overwrite::Refuse))
    }

    /// Writes a label map; the ending of `path` says the format.
    ///
    /// # Errors
    /// As [`Self::write_mask`].
    pub fn write_labels(&mut self, path: &Path, labels: &LabelMap) -> Result<(), Error> {
        self.write_with(path, |part| write_labels(part, labels, Overwrite::Refuse))
    }

    /// Writes a volume; the ending of `path` says the format.
    ///
    /// # Errors
    /// As [`Self::write_mask`].
    pub fn write_volume(&mut self, path: &Path, volume: &Volume) -> Result<(), Error> {
        self.write_with(path, |part| write_volume(part, volume, Overwrite::Refuse))
    }

    /// Lets `write` write what is to become the file at `path`, to the path that it is given.
    ///
    /// # Errors
    /// As [`Self::write`], and those of `write`.
    pub fn write_with<F: Into<r1seg::Error>>(
        &mut self,
        path: &Path,
        write: impl FnOnce(&Path) -> Result<(), F>,
    ) -> Result<(), Error> {
        let part = self.add(path)?;
        write(&part).map_err(|error| match error.into() {
            // The file that a person asked for, not the one that is gone again.
            r1seg::Error::Volume(error) => error.with_output(path).into(),
            other => other.into(),
        })
    }

    fn add(&mut self, path: &Path) -> Result<PathBuf, Error> {
        let parent = parent(path);
        let folder = match self.folders.iter().find(|(of, _)| of == parent) {
            Some((_, folder)) => folder.path().to_path_buf(),
            None => {
                let folder =
                    staging(parent).map_err(|e| Error::cannot_create(unwritable(&e), path))?;
                let path = folder.path().to_path_buf();
                self.folders.push((parent.to_path_buf(), folder));
                path
            }
        };
        let from = folder.join(path.file_name().unwrap_or_default());
        self.files.push(Staged { from: from.clone(), to: path.to_path_buf() });
        Ok(from)
    }

    /// Moves everything to its place. Files in `stale` that an earlier run left and this one did
    /// not write are removed when replacing, so that one run's mask never lies beside another
    /// run's report.
    ///
    /// # Errors
    /// [`Error::Exists`] for a file that appeared meanwhile, and [`Error::CannotCreate`]; nothing has
    /// changed then.
    pub fn commit(mut self, stale: &[PathBuf]) -> Result<(), Error> {
        for file in &self.files {
            self.output.check_target(&file.to)?;
        }
        let replacing = self.output.overwrite == Overwrite::Replace;
        let mut moved: Vec<&Staged> = Vec::new();
        for file in &self.files {
            let old = kept(&file.from);
            if replacing {
                // A second name for what is replaced; some file systems have none to give.
                let _ = fs::hard_link(&file.to, old);
            }
            if let Err(source) = fs::rename(&file.from, &file.to) {
                for file in moved.iter().rev() {
                    let old = kept(&file.from);
                    if old.exists() {
                        let _ = fs::rename(old, &file.to);
                    } else if !replacing {
                        let _ = fs::remove_file(&file.to);
                    }
                }
                return Err(r1seg::volume::Error::cannot_create(&file.to, source).into());
            }
            moved.push(file);
        }
        if replacing {
            for path in stale.iter().filter(|s| !self.files.iter().any(|f| f.to == **s)) {
                // Usually there is none.
                let _ = fs::remove_file(path);
            }
        }
        self.created.clear();
        Ok(())
    }
}

impl Drop for StagedFiles<'_> {
    fn drop(&mut self) {
        self.folders.clear();
        // After a failure; folders with something in them stay.
        for folder in &self.created {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Where the file that is replaced by a staged one is kept until all are in their places.
fn kept(from: &Path) -> PathBuf {
    let mut name = from.file_name().unwrap_or_default().to_os_string();
    name.push(".old");
    from.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_move_that_fails_takes_the_others_back() {
        for overwrite in [Overwrite::Refuse, Overwrite::Replace] {
            let desk = tempfile::tempdir().unwrap();
            let [first, second] = ["a.txt", "b.txt"].map(|name| desk.path().join(name));
            if overwrite == Overwrite::Replace {
                fs::write(&first, "mine").unwrap();
            }
            let output =
                OutputFolder::open(None, overwrite, &[first.clone(), second.clone()]).unwrap();
            let mut stage = output.stage().unwrap();
            stage.write(&first, b"new").unwrap();
            stage.write(&second, b"new").unwrap();
            fs::remove_file(&stage.files[1].from).unwrap();
            assert!(stage.commit(&[]).is_err());
            if overwrite == Overwrite::Replace {
                assert_eq!(names(desk.path()), ["a.txt"]);
                assert_eq!(fs::read_to_string(&first).unwrap(), "mine");
            } else {
                assert_eq!(names(desk.path()), [""; 0]);
            }
        }
    }
}
