//! A folder that appears whole or not at all.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use r1seg_checkpoint::MANIFEST;
use r1seg_files::PartFolder;

use crate::Error;

/// A folder in the making, beside its final place. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Staged {
    folder: PartFolder,
    target: PathBuf,
}

impl Staged {
    /// Makes the folder. An existing target must be one that `replace` allows to lose.
    pub(crate) fn new(target: &Path, replace: bool) -> Result<Self, Error> {
        check_target(target, replace)?;
        if target.file_name().is_none() {
            return Err(Error::Option { what: "the output folder has no name".to_owned() });
        }
        let create = |source| Error::CannotCreate { path: target.to_owned(), source };
        std::fs::create_dir_all(parent(target)).map_err(create)?;
        // What a killed run left is as large as the model.
        r1seg_files::sweep(parent(target), &prefix(target));
        let folder = beside(target).map_err(create)?;
        Ok(Self { folder, target: target.to_owned() })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Moves the folder to its place.
    pub(crate) fn publish(self, replace: bool) -> Result<(), Error> {
        let failed = |source| Error::CannotCreate { path: self.target.clone(), source };
        check_target(&self.target, replace)?;
        // Removed when this function returns, or by the next run.
        let replaced = match self.target.symlink_metadata() {
            Ok(_) => Some(beside(&self.target).map_err(failed)?),
            Err(_) => None,
        };
        let old = replaced.as_ref().map(|folder| folder.path().join("old"));
        if let Some(old) = &old {
            std::fs::rename(&self.target, old).map_err(failed)?;
        }
        if let Err(source) = std::fs::rename(self.folder.path(), &self.target) {
            if let Some(old) = &old {
                // The old folder goes back; the first error is the one that is told.
                let _ = std::fs::rename(old, &self.target);
            }
            return Err(failed(source));
        }
        self.folder.keep();
        Ok(())
    }
}

/// A folder whose name says that it belongs to `target`.
fn beside(target: &Path) -> std::io::Result<PartFolder> {
    PartFolder::shared(parent(target), &prefix(target))
}

/// What such names begin with: `.NAME.`.
fn prefix(target: &Path) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(target.file_name().unwrap_or_default());
    prefix.push(".");
    prefix
}

fn parent(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Only what r1seg wrote itself is ever replaced.
fn check_target(target: &Path, replace: bool) -> Result<(), Error> {
    let path = || target.to_owned();
    let metadata = match std::fs::symlink_metadata(target) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(Error::CannotCreate { path: path(), source }),
    };
    if !metadata.is_dir() {
        return Err(if replace {
            Error::NotReplaceable { path: path() }
        } else {
            Error::Exists { path: path() }
        });
    }
    let create = |source| Error::CannotCreate { path: path(), source };
    let mut is_empty = true;
    let mut has_folders = false;
    for entry in std::fs::read_dir(target).map_err(create)? {
        is_empty = false;
        has_folders |= entry.and_then(|entry| entry.file_type()).map_err(create)?.is_dir();
    }
    if is_empty {
        return Ok(());
    }
    if !replace {
        return Err(Error::Exists { path: path() });
    }
    if has_folders || !target.join(MANIFEST).is_file() {
        return Err(Error::NotReplaceable { path: path() });
    }
    Ok(())
}
