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
        let Some(name) = name.and_then(|name| name.strip_suffix(".json")) else { continue };
        let Some((name, hash)) = name.rsplit_once('-') else { continue };
        let is_hash = hash.len() == HASH && hash.bytes().all(|digit| digit.is_ascii_hexdigit());
        if is_hash && wanted.as_ref().is_none_or(|wanted| wanted == name) {
            fs::remove_file(&path).map_err(|error| fault(&path, error))?;
            // What a process left that was killed while it wrote has the same answers.
            path.file_name().into_iter().for_each(|name| sweep(folder, &part_prefix(name)));
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
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn model(id: &str) -> (ModelName, CheckpointSource) {
        (ModelName { id: id.to_string(), revision: None }, CheckpointSource::demo())
    }

    fn file(folder: &TempDir) -> AnswerFile {
        let (name, source) = model("demo");
        AnswerFile::new(folder.path(), &name, &source)
    }

    fn answers(file: &AnswerFile) -> Vec<(Vec<u32>, u32)> {
        file.read().collect()
    }

    #[test]
    fn an_answer_is_kept_once_it_was_given_twice_and_is_counted_up_to_nine() {
        let desk = tempfile::tempdir().unwrap();
        let file = file(&desk);
        file.add(&[5, 6, 7]);
        assert!(answers(&file).is_empty());
        for times in [2, 3, 4, 5, 6, 7, 8, 9, 9] {
            file.add(&[5, 6, 7]);
            assert_eq!(answers(&file), [(vec![5, 6, 7], times)]);
        }
        file.add(&[1, 2]);
        file.add(&[1, 2]);
        assert_eq!(answers(&file), [(vec![1, 2], 2), (vec![5, 6, 7], 9)]);
        // Another handle, as of another process, finds the same.
        assert_eq!(answers(&super::tests::file(&desk)).len(), 2);
        let left: Vec<_> = fs::read_dir(desk.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn nothing_can_be_read_of_what_was_given_once_or_is_long() {
        let desk = tempfile::tempdir().unwrap();
        let file = file(&desk);
        let (secret, long) = ([40_001, 40_002, 40_003], [40_004; MAX_TOKENS + 1]);
        file.add(&secret);
        for _ in 0..3 {
            file.add(&long);
        }
        let text = fs::read_to_string(&file.path).unwrap();
        assert!(!text.contains("4000"), "{text}");
        let written: Written = serde_json::from_str(&text).unwrap();
        assert_eq!((written.answers.len(), written.once.len()), (0, 1));
        // Its beginning has no hash of its own, by which one could find it word for word.
        for len in 1..secret.len() {
            assert!(!written.once.contains(&file.hash(&secret[..len])));
        }
    }

    #[test]
    fn the_order_of_answers_is_that_of_their_ids() {
        let both = [[3, 4], [1, 9]].map(|first| {
            let desk = tempfile::tempdir().unwrap();
            let file = file(&desk);
            let second = if first == [3, 4] { [1, 9] } else { [3, 4] };
            for ids in [first, second, second, first] {
                file.add(&ids);
            }
            fs::read_to_string(&file.path).unwrap()
        });
        assert_eq!(both[0], both[1]);
    }

    #[test]
    fn damaged_files_and_those_of_other_models_count_as_empty_and_are_replaced() {
        let desk = tempfile::tempdir().unwrap();
        let ours = file(&desk);
        let (name, source) = model("other");
        let other = AnswerFile::new(desk.path(), &name, &source);
        assert_ne!(ours.path, other.path);
        for _ in 0..2 {
            other.add(&[1, 2]);
        }
        let foreign = fs::read(&other.path).unwrap();
        let large = vec![b' '; usize::try_from(MAX_BYTES).unwrap() + 1];
        let wrong = br#"{"format":"r1seg answers 1","model":1,"answers":7}"#;
        for damage in [&b""[..], b"{", b"\xff\xfe", b"[1]", wrong, &foreign, &large] {
            fs::write(&ours.path, damage).unwrap();
            assert!(answers(&ours).is_empty());
            ours.add(&[8, 9]);
            ours.add(&[8, 9]);
            assert_eq!(answers(&ours), [(vec![8, 9], 2)]);
        }
    }

    #[test]
    fn a_file_of_another_version_is_left_as_it_is() {
        let desk = tempfile::tempdir().unwrap();
        let file = file(&desk);
        let later = r#"{"format":"r1seg answers 2","forms":[]}"#;
        fs::write(&file.path, later).unwrap();
        file.add(&[8, 9]);
        file.add(&[8, 9]);
        assert!(answers(&file).is_empty());
        assert_eq!(fs::read_to_string(&file.path).unwrap(), later);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_left_alone() {
        let desk = tempfile::tempdir().unwrap();
        let taken = desk.path().join("taken");
        fs::write(&taken, "a file, not a folder").unwrap();
        let (name, source) = model("demo");
        let file = AnswerFile::new(&taken, &name, &source);
        file.add(&[1, 2]);
        file.add(&[1, 2]);
        assert!(answers(&file).is_empty());
    }

    #[test]
    fn files_are_forgotten_by_the_name_of_their_model_and_others_stay() {
        let desk = tempfile::tempdir().unwrap();
        for id in ["org/a", "org/a-b", "demo"] {
            let (name, source) = model(id);
            AnswerFile::new(desk.path(), &name, &source).add(&[1, 2]);
        }
        for other in ["notes.json", "org-a-0123456789abcdef.txt", "0123456789abcdef.json"] {
            fs::write(desk.path().join(other), "mine").unwrap();
        }
        let (name, source) = model("org/a");
        let file = AnswerFile::new(desk.path(), &name, &source);
        let prefix = part_prefix(file.path.file_name().unwrap());
        drop(part_file(desk.path(), &prefix).unwrap().keep().unwrap());
        let left = || fs::read_dir(desk.path()).unwrap().count();
        assert_eq!(left(), 7);
        assert_eq!((forget(desk.path(), Some("org/a")).unwrap(), left()), (1, 5));
        assert_eq!((forget(desk.path(), Some("org/a")).unwrap(), left()), (0, 5));
        assert_eq!((forget(desk.path(), None).unwrap(), left()), (2, 3));
        assert_eq!(forget(&desk.path().join("absent"), None).unwrap(), 0);
        assert!(forget(&desk.path().join("notes.json"), None).is_err());
    }

    #[test]
    fn the_file_stays_small_and_keeps_what_was_given_most() {
        let desk = tempfile::tempdir().unwrap();
        let file = file(&desk);
        let mut content = Content::default();
        let mut add = |ids: &[u32]| content.add(ids, file.hash(ids));
        for _ in 0..4 {
            add(&[7, 7]);
        }
        for i in 0..2 * MAX_ANSWERS as u32 {
            add(&[1_000_000 + i; MAX_TOKENS]);
            add(&[1_000_000 + i; MAX_TOKENS]);
        }
        for i in 0..2 * MAX_ONCE as u32 + 1 {
            add(&[i, 1]);
        }
        assert_eq!(content.answers.len(), MAX_ANSWERS);
        assert_eq!(content.answers[&vec![7, 7]], 4);
        assert_eq!(content.once.len(), 1);
        content.once = (0..MAX_ONCE as u32).map(|i| u32::MAX - i).collect();
        file.write(content).unwrap();
        let bytes = fs::metadata(&file.path).unwrap().len();
        assert!(bytes < MAX_BYTES / 2, "{bytes}");
        assert_eq!(answers(&file).len(), MAX_ANSWERS);
    }
}
