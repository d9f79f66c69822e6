//! Answers of a model that are kept between processes: `FOLDER/NAME-HASH.json`, a file for each model.
//!
//! # Privacy
//!
//! The file is to hold what the answers of many patients have in common ("Sure, it is [SEG]."), and nothing of one
//! patient:
//!
//! - Only answers with `[SEG]` of up to 16 tokens come here. Questions and reports do not.
//! - An answer stands in the file once it was given twice, word for word. Before that there are 32
//!   bits of a hash of the whole of it, which one can compare with an answer that one guesses, but not read. A hash
//!   for each of its words would be no secret: one could try all words of the vocabulary, one after the other.
//! - Answers are sorted by their token ids, and counted up to 9: the file does not show when, in which order,
//!   or how often something was asked.
//!
//! # Reading and writing
//!
//! A file that is damaged, too large or another model's counts as empty. One that another version of r1seg wrote
//! in another format is left as it is. A file is replaced as a whole, by renaming; of two processes that write at the
//! same moment, one may lose an answer. No failure is reported: the file saves time, and nothing depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use r1seg_checkpoint::MANIFEST;
use r1seg_files::{hex, part_file, read_utf8_json, sha256_of, sweep};
use serde::{Deserialize, Serialize};

use crate::{CheckpointSource, Error, ModelName};

const FORMAT: &str = "r1seg answers 1";

/// Bytes of the largest file that is read, several times as many as are written.
const MAX_BYTES: u64 = 256 << 10;

/// Tokens of the longest answer.
const MAX_TOKENS: usize = 16;

/// Answers that were given twice or more: there are about a dozen forms, and organs to fill in.
const MAX_ANSWERS: usize = 128;

/// Answers that were given once.
const MAX_ONCE: usize = 1024;

/// What is more is not counted.
const MAX_TIMES: u32 = 9;

/// Digits of a model's hash in the name of its file.
const HASH: usize = 16;

/// The file of a model.
#[derive(Debug)]
pub(super) struct AnswerFile {
    path: PathBuf,
    /// What tells this model from others.
    model: String,
}

#[derive(Debug, Default)]
struct Content {
    answers: BTreeMap<Vec<u32>, u32>,
    /// Hashes.
    once: BTreeSet<u32>,
}

/// As it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    format: String,
    model: String,
    answers: Vec<Answer>,
    once: BTreeSet<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    ids: Vec<u32>,
    times: u32,
}

/// What a file is for those who would replace it.
enum Found {
    Ours(Content),
    /// Of another version.
    Foreign,
}

impl AnswerFile {
    pub(super) fn new(folder: &Path, name: &ModelName, source: &CheckpointSource) -> Self {
        let model = identity(name, source);
        let name = plain(&name.id);
        let path = folder.join(format!("{name}-{}.json", &model[..HASH.min(model.len())]));
        Self { path, model }
    }

    /// The answers, and how often each was given.
    pub(super) fn read(&self) -> impl Iterator<Item = (Vec<u32>, u32)> {
        let content = match self.find() {
            Found::Ours(content) => content,
            Found::Foreign => Content::default(),
        };
        content.answers.into_iter()
    }

    /// Adds an answer, if it may stand here.
    pub(super) fn add(&self, ids: &[u32]) {
        if ids.len() > MAX_TOKENS {
            return;
        }
        // Another process may have added to it.
        let Found::Ours(mut content) = self.find() else { return };
        if content.add(ids, self.hash(ids)) {
            // What is not kept is found anew by the next run.
            let _ = self.write(content);
        }
    }

    /// 32 bits, so that answers which nobody gave have the same one.
    fn hash(&self, ids: &[u32]) -> u32 {
        let bytes = ids.iter().flat_map(|id| id.to_le_bytes());
        let bytes: Vec<u8> = self.model.bytes().chain(bytes).collect();
        u32::from_str_radix(&sha256_of(&bytes)[..8], 16).unwrap_or_default()
    }

    fn find(&self) -> Found {
        let Ok(bytes) = read_utf8_json(&self.path, MAX_BYTES) else {
            return Found::Ours(Content::default());
        };
        let format = serde_json::from_slice::<serde_json::Value>(&bytes).ok();
        let format = format.as_ref().and_then(|value| value.get("format")?.as_str());
        if format.is_some_and(|format| format != FORMAT) {
            return Found::Foreign;
        }
        let written = serde_json::from_slice::<Written>(&bytes).ok();
        let ours = written.filter(|written| written.model == self.model);
        Found::Ours(ours.map(Content::from).unwrap_or_default())
    }

    fn write(&self, content: Content) -> io::Result<()> {
        let answers = content.answers.into_iter().map(|(ids, times)| Answer { ids, times });
        let written = Written {
            format: FORMAT.to_string(),
            model: self.model.clone(),
            answers: answers.collect(),
            once: content.once,
        };
        let text = serde_json::to_string(&written)? + "\n";
        let (Some(folder), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return Ok(());
        };
        fs::create_dir_all(folder)?;
        let prefix = part_prefix(name);
        sweep(folder, &prefix);
        let mut part = part_file(folder, &prefix)?;
        part.write_all(text.as_bytes())?;
        part.persist(&self.path)?;
        Ok(())
    }
}

impl Content {
    /// Whether that changes anything.
    fn add(&mut self, ids: &[u32], hash: u32) -> bool {
        if let Some(times) = self.answers.get_mut(ids) {
            let before = *times;
            *times = (before + 1).min(MAX_TIMES);
            return *times != before;
        }
        if self.once.remove(&hash) {
            if self.answers.len() == MAX_ANSWERS {
                let rarest = self.answers.iter().min_by_key(|(_, times)| **times);
                let rarest = rarest.map(|(ids, _)| ids.clone());
                rarest.map(|ids| self.answers.remove(&ids));
            }
            self.answers.insert(ids.to_vec(), 2);
            return true;
        }
        if self.once.len() == MAX_ONCE {
            // Which of them are old, nothing tells.
            self.once.clear();
        }
        self.once.insert(hash)
    }
}

impl From<Written> for Content {
    /// Without what was not written by [`AnswerFile::add`].
    fn from(written: Written) -> Self {
        let answers = written.answers.into_iter();
        let answers = answers.filter(|of| of.ids.len() <= MAX_TOKENS).take(MAX_ANSWERS);
        Self {
            answers: answers.map(|of| (of.ids, of.times.min(MAX_TIMES))).collect(),
            once: written.once.into_iter().take(MAX_ONCE).collect(),
        }
    }
}

/// A model's name as that of a file.
fn plain(id: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    id.chars().map(plain).take(64).collect()
}

/// What the names of files begin with that are to replace one.
fn part_prefix(name: &OsStr) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix
}

/// Deletes the files of the models of this name, or of all, whichever version wrote them, and returns how many there
/// were.
pub(super) fn forget(folder: &Path, id: Option<&str>) -> Result<usize, Error> {
    let fault = |path: &Path, source| Error::ForgetAnswers { path: path.to_path_buf(), source };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries.map_err(|error| fault(folder, error))?,
    };
    let wanted = id.map(plain);
    let mut forgotten = 0;
    for entry in entries {
        let path = entry.map_err(|error| fault(folder, error))?.path();
        let name = path.file_name().and_then(OsStr::to_str);
        let Some((full, rest)) = name.and_then(|name| name.rsplit_once(".json")) else { continue };
        // What a process left that was killed while it wrote has the same answers.
        let is_part = !rest.is_empty();
        let full = if is_part { full.strip_prefix('.') } else { Some(full) };
        let Some((name, hash)) = full.and_then(|full| full.rsplit_once('-')) else { continue };
        let is_hash = hash.len() == HASH && hash.bytes().all(|digit| digit.is_ascii_hexdigit());
        if !is_hash || wanted.as_ref().is_some_and(|wanted| wanted != name) {
            continue;
        }
        if is_part {
            sweep(folder, &part_prefix(OsStr::new(&format!("{name}-{hash}.json"))));
        } else {
            match fs::remove_file(&path) {
                // Another process was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(|error| fault(&path, error))?,
            }
            forgotten += 1;
        }
    }
    Ok(forgotten)
}

/// A hash of what tells a model from others: its name, and the manifest of a converted folder, or else the
/// commit or the place of the folder.
fn identity(name: &ModelName, source: &CheckpointSource) -> String {
    let of = match source {
        CheckpointSource::Embedded(_) => env!("CARGO_PKG_VERSION").to_string(),
        CheckpointSource::Folder(folder) => {
            let manifest =
                r1seg_files::read(&folder.join(MANIFEST), r1seg_checkpoint::MAX_MANIFEST_BYTES);
            match (manifest, &name.revision) {
                (Ok(manifest), _) => sha256_of(&manifest),
                (Err(_), Some(revision)) => revision.clone(),
                (Err(_), None) => {
                    let full = folder.canonicalize();
                    let full = full.as_deref().unwrap_or(folder);
                    hex(full.as_os_str().as_encoded_bytes())
                }
            }
        }
    };
    sha256_of(format!("{}\n{of}", name.id).as_bytes())
}

#[cfg(test)]
mod tests;
