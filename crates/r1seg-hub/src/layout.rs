use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{reading, writing};
use crate::listing::{Listing, RemoteFile, is_safe_name};
use crate::model_id::is_commit;
use crate::select::{home, is_pickle, is_safetensors};
use crate::{Cancel, Digest, Error, HubConfig, ModelId, cancel::TICK};

/// A ref is 40 hex digits; an index of shards names every tensor.
const MAX_REF: u64 = 256;
const MAX_INDEX: u64 = 64 << 20;
const MAX_RECORD: u64 = 64 << 20;
const MAX_DEPTH: usize = 16;
/// Records of listings, beside the folders that Python knows and reads.
const RECORDS: &str = ".r1seg";

/// The folder of one model in the cache: `blobs/HASH`, `snapshots/COMMIT/NAME` (links to blobs)
/// and `refs/REVISION` (a commit).
#[derive(Debug, Clone)]
pub(crate) struct RepoFolder {
    pub(crate) root: PathBuf,
    locks: PathBuf,
    symlinks: bool,
}

impl RepoFolder {
    pub(crate) fn new(config: &HubConfig, id: &ModelId) -> Self {
        let name = format!("models--{}--{}", id.owner(), id.name());
        Self {
            root: config.cache.join(&name),
            locks: config.cache.join(".locks").join(name),
            symlinks: config.symlinks,
        }
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.to_string())
    }

    /// The part of a blob that has come so far.
    pub(crate) fn partial(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(format!("{digest}.incomplete"))
    }

    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    pub(crate) fn record(&self, commit: &str) -> PathBuf {
        self.root.join(RECORDS).join(format!("{commit}.json"))
    }

    /// The commit that a branch or tag stands for, as of the last download.
    pub(crate) fn read_ref(&self, revision: &str) -> Result<Option<String>, Error> {
        let path = self.root.join("refs").join(revision);
        let Some(text) = read_small(&path, MAX_REF)? else { return Ok(None) };
        let commit = String::from_utf8_lossy(&text).trim().to_ascii_lowercase();
        Ok(is_commit(&commit).then_some(commit))
    }

    pub(crate) fn write_ref(&self, revision: &str, commit: &str) -> Result<(), Error> {
        write_whole(&self.root.join("refs").join(revision), commit.as_bytes())
    }

    /// What the hub listed for `commit`, if r1seg has downloaded from it. A broken record is none.
    pub(crate) fn read_listing(&self, commit: &str) -> Result<Option<Listing>, Error> {
        let json = read_small(&self.record(commit), MAX_RECORD)?;
        let listing = json.and_then(|json| Listing::from_json(&json).ok());
        Ok(listing.filter(|listing| listing.commit == commit))
    }

    pub(crate) fn write_listing(&self, listing: &Listing) -> Result<(), Error> {
        let path = self.record(&listing.commit);
        let json = listing.to_json().map_err(|e| writing(&path, e.into()))?;
        write_whole(&path, &json)
    }

    /// Whether `file` is in the snapshot, with the length that the hub states.
    pub(crate) fn is_present(&self, commit: &str, file: &RemoteFile) -> bool {
        let found = fs::metadata(self.snapshot(commit).join(&file.name));
        found.is_ok_and(|m| m.is_file() && file.size.is_none_or(|size| size == m.len()))
    }

    /// Makes `name` of the snapshot the blob of `digest`: a relative link, else a hard link, else
    /// the file itself.
    pub(crate) fn link(&self, commit: &str, name: &str, digest: &Digest) -> Result<(), Error> {
        let pointer = self.snapshot(commit).join(name);
        let folder = pointer.parent().unwrap_or(&pointer);
        create_folder(folder)?;
        match fs::remove_file(&pointer) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(writing(&pointer, e)),
            _ => {}
        }
        let blob = self.blob(digest);
        // `snapshots/COMMIT/` and every folder in the name lie above.
        let up = "../".repeat(2 + name.matches('/').count());
        if self.symlinks && symlink(&format!("{up}blobs/{digest}"), &pointer).is_ok() {
            return Ok(());
        }
        if fs::hard_link(&blob, &pointer).is_ok() {
            return Ok(());
        }
        fs::rename(&blob, &pointer).map_err(|e| writing(&pointer, e))
    }

    /// Every file of a snapshot, by name, sorted.
    pub(crate) fn files(&self, commit: &str) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        walk(&self.snapshot(commit), "", 0, &mut names)?;
        names.sort();
        Ok(names)
    }

    /// The branches and tags that are recorded, sorted.
    pub(crate) fn refs(&self) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        walk(&self.root.join("refs"), "", 0, &mut names)?;
        names.sort();
        Ok(names)
    }

    /// What is not there of what a download asked for; of a snapshot that another tool made, what
    /// its weights lack.
    pub(crate) fn missing(&self, commit: &str) -> Result<Vec<String>, Error> {
        match self.read_listing(commit)? {
            Some(listing) if !listing.wanted.is_empty() => {
                let is_missing = |name: &&String| {
                    listing.file(name).is_none_or(|file| !self.is_present(commit, file))
                };
                let mut missing: Vec<_> =
                    listing.wanted.iter().filter(is_missing).cloned().collect();
                for shard in self.missing_shards(commit)? {
                    if !missing.contains(&shard) {
                        missing.push(shard);
                    }
                }
                Ok(missing)
            }
            _ => self.missing_weights(commit),
        }
    }

    fn missing_weights(&self, commit: &str) -> Result<Vec<String>, Error> {
        let names = self.files(commit)?;
        let is_there = |name: &String| self.snapshot(commit).join(name).is_file();
        let has = |is: fn(&str) -> bool| names.iter().any(|name| is(name) && is_there(name));
        let missing = self.missing_shards(commit)?;
        if missing.is_empty() && !has(is_safetensors) && !has(is_pickle) {
            return Ok(vec!["model.safetensors".to_owned()]);
        }
        Ok(missing)
    }

    /// The shards that an index names and that are not there.
    fn missing_shards(&self, commit: &str) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Index {
            weight_map: std::collections::BTreeMap<String, String>,
        }
        let names = self.files(commit)?;
        let home = home(names.iter().map(String::as_str));
        let folder = self.snapshot(commit).join(home);
        for name in ["model.safetensors", "pytorch_model.bin"] {
            if folder.join(name).is_file() {
                return Ok(Vec::new());
            }
            let index = format!("{name}.index.json");
            let Some(json) = read_small(&folder.join(&index), MAX_INDEX)? else { continue };
            let Ok(found) = serde_json::from_slice::<Index>(&json) else {
                return Ok(vec![format!("{home}{index}")]);
            };
            let shards: BTreeSet<String> = found.weight_map.into_values().collect();
            let is_missing = |shard: &String| is_safe_name(shard) && !folder.join(shard).is_file();
            let in_repository = |shard| format!("{home}{shard}");
            return Ok(shards.into_iter().filter(is_missing).map(in_repository).collect());
        }
        Ok(Vec::new())
    }

    /// Waits until no other process downloads this blob; `waiting` is called once if it must.
    ///
    /// A file system that knows no locks gets none: the hash still decides what enters the cache.
    pub(crate) fn lock(
        &self,
        digest: &Digest,
        cancel: &Cancel,
        waiting: &mut dyn FnMut(),
    ) -> Result<File, Error> {
        create_folder(&self.locks)?;
        let path = self.locks.join(format!("{digest}.lock"));
        let mut has_waited = false;
        loop {
            cancel.check()?;
            let open = File::options().create(true).truncate(false).write(true).open(&path);
            let file = open.map_err(|e| writing(&path, e))?;
            match file.try_lock() {
                Ok(()) if is_same(&file, &path) => return Ok(file),
                // Its holder deleted it on release: the lock that counts is a new file.
                Ok(()) => continue,
                Err(fs::TryLockError::Error(_)) => return Ok(file),
                Err(fs::TryLockError::WouldBlock) => {}
            }
            if !has_waited {
                has_waited = true;
                waiting();
            }
            cancel.sleep(2 * TICK)?;
        }
    }
}

#[cfg(unix)]
fn is_same(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_same(_: &File, _: &Path) -> bool {
    true
}

#[cfg(unix)]
fn symlink(target: &str, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &str, link: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target.replace('/', "\\"), link)
}

#[cfg(not(any(unix, windows)))]
fn symlink(_: &str, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn create_folder(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|e| writing(path, e))
}

/// A regular file of at most `most` bytes; `None` if there is none.
fn read_small(path: &Path, most: u64) -> Result<Option<Vec<u8>>, Error> {
    match r1seg_files::read(path, most) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(r1seg_files::Error::Io(e)) => match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
            _ => Err(reading(path, e)),
        },
        Err(_) => Ok(None),
    }
}

/// Writes a small file so that readers see the old or the new one, never half of it.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(path);
    create_folder(folder)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".");
    // Others who share the cache may read it, unless the umask forbids.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder).map_err(|e| writing(path, e))?;
    file.write_all(bytes).map_err(|e| writing(path, e))?;
    file.persist(path).map(drop).map_err(|e| writing(path, e.error))
}

fn walk(folder: &Path, prefix: &str, depth: usize, names: &mut Vec<String>) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Ok(());
    }
    for entry in entries(folder)? {
        let entry = entry.map_err(|e| reading(folder, e))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let name = format!("{prefix}{name}");
        let kind = entry.file_type().map_err(|e| reading(folder, e))?;
        if kind.is_dir() {
            walk(&entry.path(), &format!("{name}/"), depth + 1, names)?;
        } else {
            names.push(name);
        }
    }
    Ok(())
}

/// The entries of a folder; none if it does not exist.
pub(crate) fn entries(
    folder: &Path,
) -> Result<impl Iterator<Item = io::Result<fs::DirEntry>>, Error> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(Some(entries).into_iter().flatten()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None.into_iter().flatten()),
        Err(e) => Err(reading(folder, e)),
    }
}
