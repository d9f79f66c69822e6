use std::cell::Cell;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::Duration;

use crate::digest::Hasher;
use crate::error::Detail;
use crate::error::{reading, writing};
use crate::layout::{RepoFolder, create_folder};
use crate::listing::RemoteFile;
use crate::transport::{Client, Head, Request};
use crate::{Digest, DownloadOptions, Error, Event, HubConfig, ModelId, url};

/// The largest answer of the API: a listing of 100 000 files.
const MAX_JSON: usize = 32 << 20;
/// An attempt that brought this much did not fail for nothing: the count starts again.
const PROGRESS: u64 = 1 << 20;

/// How often to try again if the hub was never reached.
const FIRST_CONNECTIONS: u32 = 2;

pub(crate) type OnEvent<'a> = dyn FnMut(Event<'_>) + 'a;

/// One model on the hub.
pub(crate) struct Remote<'a> {
    pub(crate) config: &'a HubConfig,
    pub(crate) client: Client,
    pub(crate) id: &'a ModelId,
    pub(crate) options: &'a DownloadOptions,
    /// Whether anything has come yet.
    pub(crate) reached: Cell<bool>,
}

/// Bytes of a file that have come, here or in an earlier run, and their hash so far.
struct Partial {
    path: PathBuf,
    file: File,
    hasher: Hasher,
    length: u64,
}

impl Remote<'_> {
    /// The hub's list of files at the revision.
    pub(crate) fn listing(&self, on_event: &mut OnEvent<'_>) -> Result<Vec<u8>, Error> {
        let revision = url::segment(self.id.revision());
        let (endpoint, id) = (&self.config.endpoint, self.id.repository());
        let url = format!("{endpoint}/api/models/{id}/revision/{revision}?blobs=true");
        let what = self.id.to_string();
        self.retry(&what, on_event, &mut |_, _| {
            let request = Request { url: url.clone(), ..Request::default() };
            let exchange = self.client.start(request, &self.options.cancel)?;
            let head = exchange.head()?;
            self.check_status(&head, &what)?;
            let mut json = Vec::new();
            exchange.body(&what, &mut |chunk| {
                if json.len() + chunk.len() > MAX_JSON {
                    return Err(Detail::BadReply { reason: "it is longer than 32 MiB" }.into());
                }
                json.extend_from_slice(chunk);
                Ok(())
            })?;
            Ok(json)
        })
    }

    /// The hash and length of a file that the listing has none for, as mirrors do.
    pub(crate) fn probe(
        &self,
        commit: &str,
        file: &RemoteFile,
        on_event: &mut OnEvent<'_>,
    ) -> Result<RemoteFile, Error> {
        let url = self.file_url(commit, &file.name);
        self.retry(&file.name, on_event, &mut |_, _| {
            let request = Request { url: url.clone(), head: true, from: 0 };
            let head = self.client.start(request, &self.options.cancel)?.head()?;
            if !matches!(head.status, 301 | 302 | 303 | 307 | 308) {
                self.check_status(&head, &file.name)?;
            }
            let digest = head.stated_digest();
            let digest =
                digest.ok_or_else(|| Error::from(Detail::NoHash { file: file.name.clone() }))?;
            let own_length = (head.status == 200).then(|| head.length()).flatten();
            let size = file.size.or(head.linked_size).or(own_length);
            Ok(RemoteFile { name: file.name.clone(), size, digest: Some(digest) })
        })
    }

    /// Brings one file into the snapshot of `commit`.
    pub(crate) fn fetch(
        &self,
        folder: &RepoFolder,
        commit: &str,
        file: &RemoteFile,
        on_event: &mut OnEvent<'_>,
    ) -> Result<(), Error> {
        let Some(digest) = &file.digest else {
            return Err(Detail::NoHash { file: file.name.clone() }.into());
        };
        let name = file.name.as_str();
        let cancel = &self.options.cancel;
        let _lock = folder.lock(digest, cancel, &mut || on_event(Event::Waiting { name }))?;
        let blob = folder.blob(digest);
        // Another process, or another revision with the same file, may have brought it.
        let is_blob = |m: fs::Metadata| m.is_file() && file.size.is_none_or(|s| s == m.len());
        let has_blob = fs::metadata(&blob).is_ok_and(is_blob);
        if !has_blob {
            if folder.is_present(commit, file) && fs::symlink_metadata(&blob).is_err() {
                return Ok(());
            }
            self.fetch_blob(folder, commit, file, digest, on_event)?;
            let partial = folder.partial(digest);
            fs::rename(&partial, &blob).map_err(|e| writing(&blob, e))?;
        }
        folder.link(commit, name, digest)?;
        let bytes = fs::metadata(folder.snapshot(commit).join(name)).map_or(0, |m| m.len());
        on_event(Event::Done { name, bytes });
        Ok(())
    }

    fn fetch_blob(
        &self,
        folder: &RepoFolder,
        commit: &str,
        file: &RemoteFile,
        digest: &Digest,
        on_event: &mut OnEvent<'_>,
    ) -> Result<(), Error> {
        let name = file.name.as_str();
        let path = folder.partial(digest);
        create_folder(path.parent().unwrap_or(&path))?;
        let mut partial = self.open_partial(path, file, digest)?;
        let mut was_resumed = partial.length > 0;
        on_event(Event::Started { name, bytes: file.size, resumed_at: partial.length });
        let url = self.file_url(commit, name);
        loop {
            if file.size.is_none_or(|size| partial.length < size) || partial.length == 0 {
                self.retry(name, on_event, &mut |on_event, came| {
                    let before = partial.length;
                    let result = self.attempt(&url, file, digest, &mut partial, on_event);
                    *came = partial.length.saturating_sub(before);
                    result
                })?;
            }
            let length = partial.length;
            partial.file.sync_all().map_err(|e| writing(&partial.path, e))?;
            let stored = partial.file.metadata().map_err(|e| reading(&partial.path, e))?.len();
            let fresh = Hasher::new(digest, file.size.unwrap_or_default());
            let got = std::mem::replace(&mut partial.hasher, fresh).finish();
            if got == *digest && stored == length {
                return Ok(());
            }
            if was_resumed {
                // The bytes of the earlier run may be the wrong ones.
                was_resumed = false;
                partial.restart(digest, file.size)?;
                continue;
            }
            drop(partial.file);
            fs::remove_file(&partial.path).map_err(|e| writing(&partial.path, e))?;
            let (file, path) = (name.to_owned(), folder.blob(digest));
            return Err(Detail::HashMismatch { file, path, expected: digest.clone(), got }.into());
        }
    }

    fn open_partial(
        &self,
        path: PathBuf,
        remote: &RemoteFile,
        digest: &Digest,
    ) -> Result<Partial, Error> {
        let options = File::options().create(true).truncate(false).read(true).write(true).clone();
        let mut file = options.open(&path).map_err(|e| writing(&path, e))?;
        let length = file.metadata().map_err(|e| reading(&path, e))?.len();
        let mut hasher = Hasher::new(digest, remote.size.unwrap_or_default());
        if remote.size.is_some_and(|size| length <= size) {
            let cancel = &self.options.cancel;
            let length = hasher.read(&mut file, &path, cancel, &mut |_| {})?;
            return Ok(Partial { path, file, hasher, length });
        }
        let mut partial = Partial { path, file, hasher, length };
        partial.restart(digest, remote.size)?;
        Ok(partial)
    }

    fn attempt(
        &self,
        url: &str,
        file: &RemoteFile,
        digest: &Digest,
        partial: &mut Partial,
        on_event: &mut OnEvent<'_>,
    ) -> Result<(), Error> {
        let name = file.name.as_str();
        let wrong_length =
            |expected, got| Error::from(Detail::Length { file: name.to_owned(), expected, got });
        let request = Request { url: url.to_owned(), from: partial.length, head: false };
        let exchange = self.client.start(request, &self.options.cancel)?;
        let head = exchange.head()?;
        if head.status == 416 && partial.length > 0 {
            partial.restart(digest, file.size)?;
            return self.attempt(url, file, digest, partial, on_event);
        }
        self.check_status(&head, name)?;
        if let Some(stated) = head.linked_digest.clone().filter(|stated| stated != digest) {
            let (file, path) = (name.to_owned(), partial.path.clone());
            return Err(
                Detail::HashMismatch { file, path, expected: digest.clone(), got: stated }.into()
            );
        }
        let total = if head.status == 206 {
            let (first, total) = head.range().unwrap_or((u64::MAX, None));
            if first != partial.length {
                return Err(
                    Detail::BadReply { reason: "it is another part than was asked for" }.into()
                );
            }
            total
        } else {
            // A server without ranges begins at the beginning.
            if partial.length > 0 {
                partial.restart(digest, file.size)?;
            }
            head.length()
        };
        if let (Some(expected), Some(got)) = (file.size, total)
            && expected != got
        {
            return Err(wrong_length(expected, got));
        }
        let expected = file.size.or(total);
        if let (None, 0) = (file.size, partial.length) {
            // git hashes the length first, so that it must be known.
            let is_git = matches!(digest, Digest::Git(_));
            if is_git && total.is_none() {
                return Err(Detail::BadReply { reason: "it states no length" }.into());
            }
            partial.hasher = Hasher::new(digest, total.unwrap_or_default());
        }
        exchange.body(name, &mut |chunk| {
            let length = partial.length.saturating_add(chunk.len() as u64);
            if let Some(expected) = expected.filter(|expected| length > *expected) {
                return Err(wrong_length(expected, length));
            }
            partial.append(chunk)?;
            on_event(Event::Progress { name, bytes: length, total: expected });
            Ok(())
        })?;
        match expected {
            Some(expected) if partial.length < expected => {
                Err(Detail::Truncated { file: name.to_owned(), got: partial.length }.into())
            }
            _ => Ok(()),
        }
    }

    fn file_url(&self, commit: &str, name: &str) -> String {
        let (endpoint, id) = (&self.config.endpoint, self.id.repository());
        format!("{endpoint}/{id}/resolve/{commit}/{}", url::path(name))
    }

    fn check_status(&self, head: &Head, what: &str) -> Result<(), Error> {
        let what = || {
            let id = self.id.to_string();
            if what == id { id } else { format!("{what} of {id}") }
        };
        let similar_names = || self.config.aliases.similar(&self.id.repository());
        let retry_after = head.retry_after();
        // The hub's word for conditions that a user must accept; it comes with 401 or 403.
        let is_gated = head.text("x-error-code") == Some("GatedRepo");
        match head.status {
            200 | 206 => Ok(()),
            401 if !is_gated => Err(Detail::Unauthorized {
                what: what(),
                had_token: self.client.has_token(),
                similar_names: similar_names(),
            }
            .into()),
            401 | 403 => Err(Detail::Forbidden { what: what() }.into()),
            404 | 410 => {
                Err(Detail::NotFound { what: what(), similar_names: similar_names() }.into())
            }
            429 => Err(Detail::RateLimited { retry_after }.into()),
            status @ (408 | 500..=599) => Err(Detail::Server { status, retry_after }.into()),
            status => Err(Detail::Status { status }.into()),
        }
    }

    /// Tries again after failures that pass, for longer and longer. `attempt` sets how many bytes
    /// it brought, even if it failed.
    fn retry<T>(
        &self,
        name: &str,
        on_event: &mut OnEvent<'_>,
        attempt: &mut dyn FnMut(&mut OnEvent<'_>, &mut u64) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let timeouts = self.config.timeouts;
        let mut failures = 0_u32;
        loop {
            let mut came = 0;
            let error = match attempt(on_event, &mut came) {
                Ok(done) => {
                    self.reached.set(true);
                    return Ok(done);
                }
                Err(error) => error,
            };
            if came >= PROGRESS {
                failures = 0;
            }
            // Who has no network at all should not wait for half a minute to be told.
            let is_unreachable = error.is_unreachable() && !self.reached.get();
            let limit = if is_unreachable { FIRST_CONNECTIONS } else { u32::MAX };
            if !error.is_transient() || failures >= self.options.retries.min(limit) {
                return Err(error);
            }
            let doubled = timeouts.backoff.saturating_mul(2_u32.saturating_pow(failures));
            let asked = error.retry_after().unwrap_or(Duration::ZERO);
            let wait = doubled.max(asked).min(timeouts.longest_backoff);
            failures += 1;
            on_event(Event::Retrying { name, attempt: failures, wait, reason: &error });
            self.options.cancel.sleep(wait)?;
        }
    }
}

impl Partial {
    fn append(&mut self, chunk: &[u8]) -> Result<(), Error> {
        self.file.write_all(chunk).map_err(|e| writing(&self.path, e))?;
        self.hasher.update(chunk);
        self.length = self.length.saturating_add(chunk.len() as u64);
        Ok(())
    }

    fn restart(&mut self, digest: &Digest, size: Option<u64>) -> Result<(), Error> {
        self.file.set_len(0).map_err(|e| writing(&self.path, e))?;
        self.file.seek(SeekFrom::Start(0)).map_err(|e| writing(&self.path, e))?;
        self.hasher = Hasher::new(digest, size.unwrap_or_default());
        self.length = 0;
        Ok(())
    }
}
