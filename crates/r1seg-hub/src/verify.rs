use std::fs;
use std::path::Path;

use crate::digest::Hasher;
use crate::error::Detail;
use crate::error::reading;
use crate::{Cancel, Digest, Error, Event, Hub, Snapshot};

/// One file of a snapshot, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileCheck {
    /// The name in the snapshot.
    pub name: String,
    /// Its length; 0 if it is missing.
    pub bytes: u64,
    /// What became of it.
    pub state: FileState,
}

/// Whether a file is the one that the hub published.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileState {
    /// Its hash is right.
    Intact(Digest),
    /// It was changed or damaged.
    Damaged {
        /// What the hub states.
        expected: Digest,
        /// What the file hashes to.
        got: Digest,
    },
    /// A download asked for it, and it is not there.
    Missing,
    /// Nothing says what it should hash to.
    Unknown,
}

impl FileCheck {
    /// Whether the file is known to be wrong.
    pub fn is_bad(&self) -> bool {
        matches!(self.state, FileState::Damaged { .. } | FileState::Missing)
    }
}

impl Hub {
    /// Hashes every file of a snapshot and compares it with what the hub stated at the download:
    /// the record of the download, else the name of the blob. Opens no connection.
    ///
    /// # Errors
    /// `R-HUB-32` if a file cannot be read, `R-HUB-40`. A damaged file is not an error
    /// here, but a [`FileState`]; [`Snapshot::require_intact`] makes it one.
    pub fn verify(
        &self,
        snapshot: &Snapshot,
        cancel: &Cancel,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<Vec<FileCheck>, Error> {
        let folder = self.folder(&snapshot.id);
        let listing = folder.read_listing(&snapshot.commit)?;
        let mut names = folder.files(&snapshot.commit)?;
        names.extend(listing.iter().flat_map(|listing| listing.wanted.iter().cloned()));
        names.sort();
        names.dedup();
        let mut checks = Vec::with_capacity(names.len());
        for name in names {
            let path = snapshot.root.join(&name);
            let listed = listing.as_ref().and_then(|listing| listing.file(&name));
            let named_by_blob = || {
                let target = fs::read_link(&path).ok()?;
                Digest::parse(target.file_name()?.to_str()?)
            };
            let expected = listed.and_then(|file| file.digest.clone()).or_else(named_by_blob);
            let (bytes, state) = match fs::metadata(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => (0, FileState::Missing),
                Err(e) => return Err(reading(&path, e)),
                Ok(metadata) => {
                    let bytes = metadata.len();
                    let Some(expected) = expected else {
                        checks.push(FileCheck { name, bytes, state: FileState::Unknown });
                        continue;
                    };
                    let got = hash_file(&path, &name, &expected, cancel, on_event)?;
                    if got == expected {
                        on_event(Event::Done { name: &name, bytes });
                        (bytes, FileState::Intact(expected))
                    } else {
                        (bytes, FileState::Damaged { expected, got })
                    }
                }
            };
            checks.push(FileCheck { name, bytes, state });
        }
        Ok(checks)
    }
}

/// The hash of a file, of the kind that `expected` is.
pub(crate) fn hash_file(
    path: &Path,
    name: &str,
    expected: &Digest,
    cancel: &Cancel,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<Digest, Error> {
    let mut file = r1seg_files::open_regular(path).map_err(|error| match error {
        r1seg_files::Error::Io(e) => reading(path, e),
        other => reading(path, std::io::Error::other(format!("it {other}"))),
    })?;
    let length = file.metadata().map_err(|e| reading(path, e))?.len();
    let mut hasher = Hasher::new(expected, length);
    hasher.read(&mut file, path, cancel, &mut |bytes| {
        on_event(Event::Progress { name, bytes, total: Some(length) });
    })?;
    Ok(hasher.finish())
}

impl Snapshot {
    /// Turns the first bad file of [`Hub::verify`] into an error.
    ///
    /// # Errors
    /// `R-HUB-21` or `R-HUB-03`.
    pub fn require_intact(&self, checks: &[FileCheck]) -> Result<(), Error> {
        for check in checks {
            if let FileState::Damaged { expected, got } = &check.state {
                return Err(Detail::HashMismatch {
                    file: check.name.clone(),
                    path: self.root.join(&check.name),
                    expected: expected.clone(),
                    got: got.clone(),
                }
                .into());
            }
        }
        let is_missing = |check: &&FileCheck| check.state == FileState::Missing;
        let missing: Vec<_> =
            checks.iter().filter(is_missing).map(|check| check.name.clone()).collect();
        if missing.is_empty() {
            Ok(())
        } else {
            let (id, path) = (Box::new(self.id.clone()), self.root.clone());
            Err(Detail::Incomplete { id, path, missing }.into())
        }
    }
}
