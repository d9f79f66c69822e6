//! The private folder of a server, which ends with it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use r1seg::files::{PartFolder, sweep};
use tempfile::TempDir;

use crate::Error;

/// What the folder's name begins with. Servers that were killed left some that begin like it.
const PREFIX: &str = "r1seg-server-";

/// A folder that other users may not look into, removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Root {
    folder: PartFolder,
}

impl Root {
    /// # Errors
    /// [`Error::Storage`].
    pub(crate) fn new(parent: Option<&Path>) -> Result<Self, Error> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_path_buf);
        std::fs::create_dir_all(&parent)?;
        sweep(&parent, OsStr::new(PREFIX));
        Ok(Self { folder: PartFolder::private(&parent, OsStr::new(PREFIX))? })
    }

    /// A folder in it, for this user alone as well, removed when it is dropped.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub(crate) fn folder(&self) -> Result<TempDir, Error> {
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
        Ok(builder.tempdir_in(self.folder.path())?)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().to_path_buf()
    }
}
