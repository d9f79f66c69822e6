use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Detail;
use crate::error::{reading, writing};
use crate::layout::{RepoFolder, entries};
use crate::model_id::is_commit;
use crate::{Error, Hub, ModelId};

/// A model in the cache, with all its revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CachedModel {
    /// The model; its own revision says nothing.
    pub id: ModelId,
    /// Sorted by commit.
    pub revisions: Vec<CachedRevision>,
    /// What it takes on the disk; a file that revisions share counts once.
    pub bytes: u64,
    /// How much of that are parts of broken downloads.
    pub incomplete_bytes: u64,
}

/// One commit of a model in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CachedRevision {
    /// 40 hex digits.
    pub commit: String,
    /// The branches and tags that stand for it, sorted.
    pub refs: Vec<String>,
    /// The folder with the files.
    pub path: PathBuf,
    /// How many files it has.
    pub files: usize,
    /// Their lengths together.
    pub bytes: u64,
}

impl Hub {
    /// All models in the cache, whoever downloaded them, sorted by name.
    ///
    /// # Errors
    /// `R-HUB-32`
    pub fn list(&self) -> Result<Vec<CachedModel>, Error> {
        let mut models = Vec::new();
        for entry in entries(&self.config().cache)? {
            let entry = entry.map_err(|e| reading(&self.config().cache, e))?;
            let name = entry.file_name();
            let parts = name.to_str().and_then(|name| name.strip_prefix("models--"));
            let Some((owner, name)) = parts.and_then(|name| name.split_once("--")) else {
                continue;
            };
            if let Ok(id) = ModelId::parse(&format!("{owner}/{name}")) {
                models.push(self.cached(id)?);
            }
        }
        models.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(models)
    }

    fn cached(&self, id: ModelId) -> Result<CachedModel, Error> {
        let folder = self.folder(&id);
        let mut refs = refs(&folder)?;
        let mut revisions = Vec::new();
        // What lies in a snapshot itself, where links are not possible.
        let mut own_bytes = 0_u64;
        for commit in commits(&folder)? {
            let path = folder.snapshot(&commit);
            let names = folder.files(&commit)?;
            let mut bytes = 0_u64;
            for name in &names {
                let file = path.join(name);
                let length = fs::metadata(&file).map_or(0, |m| m.len());
                bytes = bytes.saturating_add(length);
                if fs::symlink_metadata(&file).is_ok_and(|m| m.is_file() && links(&m) < 2) {
                    own_bytes = own_bytes.saturating_add(length);
                }
            }
            let refs = refs.remove(&commit).unwrap_or_default();
            revisions.push(CachedRevision { commit, refs, path, files: names.len(), bytes });
        }
        let (mut bytes, mut incomplete_bytes) = (own_bytes, 0_u64);
        for (name, length) in blobs(&folder)? {
            bytes = bytes.saturating_add(length);
            if name.ends_with(".incomplete") {
                incomplete_bytes = incomplete_bytes.saturating_add(length);
            }
        }
        Ok(CachedModel { id, revisions, bytes, incomplete_bytes })
    }

    /// Removes one revision of a model: the branches that stand for it, its snapshot, and the
    /// blobs that no other revision uses. The last revision takes the whole folder with it.
    /// Returns the bytes that became free.
    ///
    /// # Errors
    /// `R-HUB-02`, `R-HUB-32`, `R-HUB-33`
    pub fn remove(&self, id: &ModelId) -> Result<u64, Error> {
        let folder = self.folder(id);
        let commit = match id.commit() {
            Some(commit) => Some(commit.to_owned()),
            None => folder.read_ref(id.revision())?,
        };
        let Some(commit) = commit.filter(|commit| folder.snapshot(commit).is_dir()) else {
            let (id, cache) = (Box::new(id.clone()), self.config().cache.clone());
            return Err(Detail::NotCached { id, cache }.into());
        };
        let before = self.cached(id.clone())?.bytes;
        let others: Vec<_> =
            commits(&folder)?.into_iter().filter(|other| *other != commit).collect();
        // Names go first: whatever interrupts, no name leads to half a model.
        for name in refs(&folder)?.remove(&commit).unwrap_or_default() {
            remove_file(&folder.root.join("refs").join(name))?;
        }
        if others.is_empty() {
            fs::remove_dir_all(&folder.root).map_err(|e| writing(&folder.root, e))?;
            return Ok(before);
        }
        let snapshot = folder.snapshot(&commit);
        let released = targets(&folder, &commit)?;
        fs::remove_dir_all(&snapshot).map_err(|e| writing(&snapshot, e))?;
        remove_file(&folder.record(&commit))?;
        let mut used = BTreeSet::new();
        for other in &others {
            used.extend(targets(&folder, other)?);
        }
        for blob in released.difference(&used) {
            remove_file(&folder.root.join("blobs").join(blob))?;
        }
        Ok(before.saturating_sub(self.cached(id.clone())?.bytes))
    }
}

/// The names of the blobs that a snapshot uses.
fn targets(folder: &RepoFolder, commit: &str) -> Result<BTreeSet<String>, Error> {
    let listing = folder.read_listing(commit)?;
    let mut targets = BTreeSet::new();
    for name in folder.files(commit)? {
        let path = folder.snapshot(commit).join(&name);
        if let Ok(target) = fs::read_link(&path) {
            targets.extend(target.file_name().and_then(|name| name.to_str()).map(str::to_owned));
        } else if let Some(file) = listing.as_ref().and_then(|listing| listing.file(&name)) {
            // A hard link does not say what it links to.
            targets.extend(file.digest.as_ref().map(ToString::to_string));
        }
    }
    Ok(targets)
}

fn commits(folder: &RepoFolder) -> Result<Vec<String>, Error> {
    let path = folder.root.join("snapshots");
    let mut commits = Vec::new();
    for entry in entries(&path)? {
        let name = entry.map_err(|e| reading(&path, e))?.file_name();
        commits.extend(name.to_str().filter(|name| is_commit(name)).map(str::to_owned));
    }
    commits.sort();
    Ok(commits)
}

/// The branches and tags of every commit.
fn refs(folder: &RepoFolder) -> Result<BTreeMap<String, Vec<String>>, Error> {
    let mut refs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in folder.refs()? {
        if let Some(commit) = folder.read_ref(&name)? {
            refs.entry(commit).or_default().push(name);
        }
    }
    Ok(refs)
}

fn blobs(folder: &RepoFolder) -> Result<Vec<(String, u64)>, Error> {
    let path = folder.root.join("blobs");
    let mut blobs = Vec::new();
    for entry in entries(&path)? {
        let entry = entry.map_err(|e| reading(&path, e))?;
        let length = entry.metadata().map_or(0, |m| m.len());
        blobs.push((entry.file_name().to_string_lossy().into_owned(), length));
    }
    Ok(blobs)
}

#[cfg(unix)]
fn links(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(metadata)
}

#[cfg(not(unix))]
fn links(_: &fs::Metadata) -> u64 {
    1
}

fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(writing(path, e)),
        _ => Ok(()),
    }
}
