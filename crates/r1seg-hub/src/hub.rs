use std::cell::Cell;
use std::path::PathBuf;
use std::{fs, io};

use crate::config::check_endpoint;
use crate::error::Detail;
use crate::error::writing;
use crate::fetch::{OnEvent, Remote};
use crate::layout::{RepoFolder, create_folder};
use crate::listing::{Listing, RemoteFile};
use crate::select::{home, select};
use crate::transport::Client;
use crate::verify::hash_file;
use crate::{DownloadOptions, Error, Event, HubConfig, ModelId};

/// The hub and its local cache.
#[derive(Debug, Clone)]
pub struct Hub {
    config: HubConfig,
}

/// A model in the cache, at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The model, at the revision that was asked for.
    pub id: ModelId,
    /// The commit of the revision: 40 hex digits.
    pub commit: String,
    /// The folder of the model: that of the snapshot, or the one in it that holds the weights, where a
    /// publisher keeps them in a folder of the repository.
    pub path: PathBuf,
    /// The names of all files of the snapshot, sorted, with their folders in the repository.
    pub files: Vec<String>,
    /// The folder of the snapshot, in which they lie.
    pub(crate) root: PathBuf,
}

impl Hub {
    /// A hub as the environment says ([`HubConfig::from_env`]).
    ///
    /// # Errors
    /// As [`HubConfig::from_env`].
    pub fn from_env() -> Result<Self, Error> {
        Ok(Self::new(HubConfig::from_env()?))
    }

    /// A hub as `config` says.
    pub fn new(config: HubConfig) -> Self {
        Self { config }
    }

    /// What this hub was made with.
    pub fn config(&self) -> &HubConfig {
        &self.config
    }

    pub(crate) fn folder(&self, id: &ModelId) -> RepoFolder {
        RepoFolder::new(&self.config, id)
    }

    /// Finds a model in the cache. Opens no connection.
    ///
    /// A branch is the commit that it was at the last download. Lengths are checked where the
    /// hub's are known, hashes are not: [`Hub::verify`] does that.
    ///
    /// # Errors
    /// `R-HUB-02` (`R-HUB-01` in offline mode) if it is not there,
    /// `R-HUB-03` with the missing files if a part of it is not, `R-HUB-32`.
    pub fn resolve(&self, id: &ModelId) -> Result<Snapshot, Error> {
        let folder = self.folder(id);
        let commit = match id.commit() {
            Some(commit) => Some(commit.to_owned()),
            None => folder.read_ref(id.revision())?,
        };
        let Some(commit) = commit.filter(|commit| folder.snapshot(commit).is_dir()) else {
            return Err(self.not_cached(id));
        };
        let missing = folder.missing(&commit)?;
        let snapshot = snapshot(&folder, id, &commit)?;
        if missing.is_empty() {
            Ok(snapshot)
        } else {
            Err(Detail::Incomplete { id: Box::new(id.clone()), path: snapshot.root, missing }
                .into())
        }
    }

    fn not_cached(&self, id: &ModelId) -> Error {
        let (id, cache) = (Box::new(id.clone()), self.config.cache.clone());
        if self.config.offline {
            Error::from(Detail::Offline { id, cache })
        } else {
            Error::from(Detail::NotCached { id, cache })
        }
    }

    /// Downloads what is missing of a model. The revision becomes a commit, once; every file is
    /// checked before it enters the cache, and the branch is recorded last.
    ///
    /// A commit that is complete opens no connection, and neither does anything in offline mode,
    /// where this is [`Hub::resolve`]. Several processes may download at once: each file comes once.
    ///
    /// # Errors
    /// Any [`Error`]. Whatever fails, the cache stays sound, and another run goes on from there.
    pub fn download(
        &self,
        id: &ModelId,
        options: &DownloadOptions,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<Snapshot, Error> {
        if self.config.offline {
            return self.resolve(id);
        }
        let folder = self.folder(id);
        let known = match id.commit() {
            Some(commit) => folder.read_listing(commit)?,
            None => None,
        };
        if let Some(known) = &known
            && !options.rehash
            && let chosen = select(id, known, options)?
            && chosen.is_subset(&known.wanted)
            && folder.missing(&known.commit)?.is_empty()
        {
            return snapshot(&folder, id, &known.commit);
        }
        check_endpoint(&self.config.endpoint)?;
        let client = Client::new(&self.config)?;
        let reached = Cell::new(false);
        let remote = Remote { config: &self.config, client, id, options, reached };
        let listing = match known {
            Some(known) => known,
            None => Listing::from_json(&remote.listing(on_event)?)?,
        };
        if id.commit().is_some_and(|commit| commit != listing.commit) {
            return Err(Detail::BadReply { reason: "it is about another commit" }.into());
        }
        self.bring(&folder, &remote, listing, on_event)
    }

    fn bring(
        &self,
        folder: &RepoFolder,
        remote: &Remote<'_>,
        mut listing: Listing,
        on_event: &mut OnEvent<'_>,
    ) -> Result<Snapshot, Error> {
        let (id, options) = (remote.id, remote.options);
        let chosen = select(id, &listing, options)?;
        let commit = listing.commit.clone();
        for file in listing.files.iter_mut().filter(|file| chosen.contains(&file.name)) {
            if file.digest.is_none() {
                *file = remote.probe(&commit, file, on_event)?;
            }
        }
        if options.rehash {
            for file in listing.files.iter().filter(|file| chosen.contains(&file.name)) {
                self.drop_if_damaged(folder, &commit, file, options, on_event)?;
            }
        }
        // What an earlier download asked for counts as far as it came.
        if let Some(mut earlier) = folder.read_listing(&commit)? {
            let came = |name: &String| {
                listing.file(name).is_some_and(|file| folder.is_present(&commit, file))
            };
            earlier.wanted.retain(came);
            listing.wanted = earlier.wanted;
        }
        listing.wanted.extend(chosen.iter().cloned());
        let to_bring: Vec<&RemoteFile> = listing
            .files
            .iter()
            .filter(|file| chosen.contains(&file.name) && !folder.is_present(&commit, file))
            .collect();
        let bytes = self.check_space(folder, &to_bring)?;
        on_event(Event::Resolved { commit: &commit, files: to_bring.len(), bytes });
        folder.write_listing(&listing)?;
        for file in to_bring {
            remote.fetch(folder, &commit, file, on_event)?;
        }
        if id.commit().is_none() {
            folder.write_ref(id.revision(), &commit)?;
        }
        let missing = folder.missing(&commit)?;
        let snapshot = snapshot(folder, id, &commit)?;
        if missing.is_empty() {
            Ok(snapshot)
        } else {
            Err(Detail::Incomplete { id: Box::new(id.clone()), path: snapshot.root, missing }
                .into())
        }
    }

    fn drop_if_damaged(
        &self,
        folder: &RepoFolder,
        commit: &str,
        file: &RemoteFile,
        options: &DownloadOptions,
        on_event: &mut OnEvent<'_>,
    ) -> Result<(), Error> {
        let path = folder.snapshot(commit).join(&file.name);
        let (Some(expected), true) = (&file.digest, folder.is_present(commit, file)) else {
            return Ok(());
        };
        if hash_file(&path, &file.name, expected, &options.cancel, on_event)? == *expected {
            return Ok(());
        }
        for damaged in [folder.blob(expected), path] {
            match fs::remove_file(&damaged) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(writing(&damaged, e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// The bytes that must come; an error if they cannot fit.
    fn check_space(&self, folder: &RepoFolder, files: &[&RemoteFile]) -> Result<u64, Error> {
        create_folder(&folder.root)?;
        let mut needed = 0_u64;
        for file in files {
            let (Some(size), Some(digest)) = (file.size, &file.digest) else { continue };
            let length = |path| fs::metadata(path).map_or(0, |m| m.len());
            let there = length(folder.blob(digest)).max(length(folder.partial(digest)));
            needed = needed.saturating_add(size.saturating_sub(there));
        }
        match fs4::available_space(&folder.root) {
            Ok(free) if free < needed => {
                Err(Detail::DiskFull { path: folder.root.clone(), needed, free }.into())
            }
            // A file system that does not say is asked by writing.
            _ => Ok(needed),
        }
    }
}

fn snapshot(folder: &RepoFolder, id: &ModelId, commit: &str) -> Result<Snapshot, Error> {
    let (root, files) = (folder.snapshot(commit), folder.files(commit)?);
    let path = match home(files.iter().map(String::as_str)) {
        "" => root.clone(),
        home => root.join(home.trim_end_matches('/')),
    };
    Ok(Snapshot { id: id.clone(), commit: commit.to_owned(), path, files, root })
}
