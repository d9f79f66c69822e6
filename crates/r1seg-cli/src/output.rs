//! The folder that results go to.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;
use r1seg::ErrorKind;
use r1seg::volume::{Mask, Overwrite, Volume, write_atomically, write_mask, write_volume};
use tempfile::TempDir;

use crate::exit::CliError;
use crate::interrupt::Writing;

/// A folder for results, checked before anything is computed.
pub(crate) struct Output {
    folder: PathBuf,
    overwrite: Overwrite,
}

impl Output {
    /// Checks that `files` can be written to `folder`, which need not exist yet.
    pub(crate) fn open(folder: PathBuf, overwrite: Overwrite, files: &[&str]) -> Result<Self> {
        for path in files.iter().map(|file| folder.join(file)) {
            match path.symlink_metadata() {
                Ok(meta) if meta.is_dir() => {
                    return Err(r1seg::volume::Error::NotReplaceable { path }.into());
                }
                Ok(_) if overwrite == Overwrite::Refuse => return Err(exists(path)),
                _ => {}
            }
        }
        // Only trying tells whether one may write there.
        let existing = folder.ancestors().find(|f| f.as_os_str().is_empty() || f.exists());
        let existing = match existing {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        if !existing.is_dir() {
            let what = format!("`{}` is a file, not a folder", existing.display());
            return Err(cannot_create(what, &folder));
        }
        let probe = staging(existing).map_err(|e| {
            cannot_create(format!("cannot write to the output folder: {}", e.kind()), &folder)
        })?;
        drop(probe);
        Ok(Self { folder, overwrite })
    }

    /// Where a file will be.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// Begins to write results.
    pub(crate) fn stage(&self) -> Result<Stage<'_>> {
        let writing = Writing::begin();
        let missing =
            self.folder.ancestors().take_while(|f| !f.as_os_str().is_empty() && !f.exists());
        let created = missing.map(Path::to_path_buf).collect();
        let error = |e: io::Error| {
            cannot_create(format!("cannot create the output folder: {}", e.kind()), &self.folder)
        };
        fs::create_dir_all(&self.folder).map_err(error)?;
        let folder = staging(&self.folder).map_err(error)?;
        Ok(Stage { output: self, created, folder, files: Vec::new(), _writing: writing })
    }
}

/// Results on their way: all of them get to their places, or none.
pub(crate) struct Stage<'a> {
    output: &'a Output,
    /// Folders that were made for the results, the deepest first.
    created: Vec<PathBuf>,
    folder: TempDir,
    files: Vec<String>,
    _writing: Writing,
}

impl Stage<'_> {
    pub(crate) fn write(&mut self, file: &str, bytes: &[u8]) -> Result<()> {
        let path = self.add(file);
        Ok(write_atomically(path, Overwrite::Refuse, |out| out.write_all(bytes))?)
    }

    pub(crate) fn write_mask(&mut self, file: &str, mask: &Mask) -> Result<()> {
        Ok(write_mask(self.add(file), mask, Overwrite::Refuse)?)
    }

    pub(crate) fn write_volume(&mut self, file: &str, volume: &Volume) -> Result<()> {
        Ok(write_volume(self.add(file), volume, Overwrite::Refuse)?)
    }

    fn add(&mut self, file: &str) -> PathBuf {
        self.files.push(file.to_string());
        self.folder.path().join(file)
    }

    /// Moves everything to its place. Files named `stale` that an earlier run left and this one
    /// did not write are removed when replacing, so that a folder never shows one run's mask
    /// beside another run's report.
    pub(crate) fn commit(mut self, stale: &[&str]) -> Result<()> {
        for file in &self.files {
            let path = self.output.path(file);
            if self.output.overwrite == Overwrite::Refuse && path.symlink_metadata().is_ok() {
                return Err(exists(path));
            }
        }
        if self.output.overwrite == Overwrite::Replace {
            for file in stale.iter().filter(|s| !self.files.iter().any(|f| f == *s)) {
                // Usually there is none.
                let _ = fs::remove_file(self.output.path(file));
            }
        }
        for file in &self.files {
            let path = self.output.path(file);
            fs::rename(self.folder.path().join(file), &path)
                .map_err(|source| r1seg::volume::Error::CannotCreate { path, source })?;
        }
        self.created.clear();
        Ok(())
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        if self.created.is_empty() {
            return;
        }
        // After a failure; folders with something in them stay.
        let _ = fs::remove_dir_all(self.folder.path());
        for folder in &self.created {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// A folder inside `folder`, so that finished files need only a new name.
fn staging(folder: &Path) -> io::Result<TempDir> {
    tempfile::Builder::new().prefix(".r1seg-").suffix(".part").tempdir_in(folder)
}

fn exists(path: PathBuf) -> anyhow::Error {
    CliError {
        code: "R-OUT-01",
        kind: ErrorKind::CannotCreate,
        what: "the output exists already".to_string(),
        path: Some(path),
        fix: Some("choose another --out, or --force to replace it".to_string()),
    }
    .into()
}

fn cannot_create(what: String, path: &Path) -> anyhow::Error {
    CliError {
        code: "R-OUT-02",
        kind: ErrorKind::CannotCreate,
        what,
        path: Some(path.to_path_buf()),
        fix: Some("choose an --out folder that you may write to".to_string()),
    }
    .into()
}

/// `ct_0042` for `/data/ct_0042.nii.gz`.
pub(crate) fn stem(image: &Path) -> PathBuf {
    let name = image.file_name().unwrap_or(image.as_os_str());
    let text = name.to_string_lossy();
    let lower = text.to_ascii_lowercase();
    for extension in [".nii.gz", ".npy.gz", ".nii", ".npy"] {
        if lower.ends_with(extension) && lower.len() > extension.len() {
            return PathBuf::from(&text[..text.len() - extension.len()]);
        }
    }
    // A folder cannot have the name of the file that it stands beside.
    PathBuf::from(format!("{text}-r1seg"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_named_after_the_image() {
        for (image, folder) in [
            ("/data/ct_0042.nii.gz", "ct_0042"),
            ("CT.NII", "CT"),
            ("a.b.npy", "a.b"),
            ("volume", "volume-r1seg"),
            (".npy", ".npy-r1seg"),
        ] {
            assert_eq!(stem(Path::new(image)), Path::new(folder));
        }
    }
}
