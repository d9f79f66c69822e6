//! The folder that results go to.

use std::path::{Path, PathBuf};

use anyhow::Result;
use r1seg::ErrorKind;
use r1seg::volume::{Overwrite, write_atomically};

use crate::exit::CliError;

/// A folder for results. Files are written whole or not at all; what exists already is replaced
/// only on request.
pub(crate) struct Output {
    folder: PathBuf,
    overwrite: Overwrite,
}

impl Output {
    /// Checks, before anything is computed, that `files` can be written.
    pub(crate) fn open(folder: PathBuf, overwrite: Overwrite, files: &[&str]) -> Result<Self> {
        let error = |code, what: String, path: &Path, fix: &str| CliError {
            code,
            kind: ErrorKind::CannotCreate,
            what,
            path: Some(path.to_path_buf()),
            fix: Some(fix.to_string()),
        };
        if overwrite == Overwrite::Refuse {
            for file in files {
                let path = folder.join(file);
                if path.exists() {
                    let fix = "choose another --out, or --force to replace it";
                    return Err(error("R-OUT-01", "output exists already".into(), &path, fix).into());
                }
            }
        }
        std::fs::create_dir_all(&folder).map_err(|e| {
            let fix = "choose an --out folder that you may write to";
            error("R-OUT-02", format!("cannot create the output folder: {e}"), &folder, fix)
        })?;
        Ok(Self { folder, overwrite })
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    pub(crate) fn overwrite(&self) -> Overwrite {
        self.overwrite
    }

    /// Removes a file that an earlier run left and this one does not produce, so that a folder
    /// never shows one run's mask beside another run's report.
    pub(crate) fn remove_stale(&self, file: &str) {
        if self.overwrite == Overwrite::Replace {
            // Usually there is none.
            let _ = std::fs::remove_file(self.path(file));
        }
    }

    pub(crate) fn write(&self, file: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.path(file);
        write_atomically(&path, self.overwrite, |out| out.write_all(bytes))?;
        Ok(path)
    }
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
