//! A folder that appears whole or not at all.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::Error;
use crate::manifest::MANIFEST;

/// A folder in the making, beside its final place. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Staged {
    folder: TempDir,
    target: PathBuf,
}

impl Staged {
    /// Makes the folder. An existing target must be one that `replace` allows to lose.
    pub(crate) fn new(target: &Path, replace: bool) -> Result<Self, Error> {
        check_target(target, replace)?;
        let Some(name) = target.file_name() else {
            return Err(Error::Option { what: "the output folder has no name".to_owned() });
        };
        let parent = match target.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => Path::new("."),
        };
        let create = |source| Error::CannotCreate { path: target.to_owned(), source };
        std::fs::create_dir_all(parent).map_err(create)?;
        let mut prefix = OsString::from(".");
        prefix.push(name);
        prefix.push(".");
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".part");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // As any folder that a user makes; a temporary one would be private.
            builder.permissions(std::fs::Permissions::from_mode(0o777));
        }
        let folder = builder.tempdir_in(parent).map_err(create)?;
        Ok(Self { folder, target: target.to_owned() })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Moves the folder to its place.
    pub(crate) fn publish(self, replace: bool) -> Result<(), Error> {
        let failed = |source| Error::CannotCreate { path: self.target.clone(), source };
        check_target(&self.target, replace)?;
        let old = self.folder.path().with_extension("old");
        let had_one = self.target.symlink_metadata().is_ok();
        if had_one {
            std::fs::rename(&self.target, &old).map_err(failed)?;
        }
        if let Err(source) = std::fs::rename(self.folder.path(), &self.target) {
            if had_one {
                // The old folder goes back; the first error is the one that is told.
                let _ = std::fs::rename(&old, &self.target);
            }
            return Err(failed(source));
        }
        let _ = self.folder.keep();
        if had_one {
            std::fs::remove_dir_all(&old).map_err(|source| Error::Write { path: old, source })?;
        }
        Ok(())
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
