//! The files that a person downloaded, found by their names.

use std::path::{Path, PathBuf};

use anyhow::Result;
use r1seg::files::sha256_of_file;
use r1seg::volume::{ReadOptions, Volume, read};
use serde::Serialize;

use super::ledger::{Input, Truth};

use crate::codes::Code;
use crate::exit::CliError;

/// A volume that was found, and its truth, if that was found, too.
pub(super) struct Found {
    pub(super) volume: Volume,
    truth: Option<Labels>,
}

/// A segmentation by people.
struct Labels {
    labels: Vec<u8>,
    recorded: std::collections::BTreeMap<u8, u64>,
}

/// A file that was used.
#[derive(Debug, Serialize)]
pub(super) struct Used {
    pub(super) file: String,
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// A file that is needed and not there.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Missing {
    pub(super) file: String,
    pub(super) sha256: Option<String>,
    pub(super) from: String,
}

/// The folders with data, and what became of the files in them.
pub(super) struct Data {
    folders: Vec<PathBuf>,
    pub(super) used: Vec<Used>,
    pub(super) missing: Vec<Missing>,
}

impl Data {
    /// Looks in the folders that were given and, as archives unpack into one, in the folders in them;
    /// then in that of the model, as a repository may hold data, too.
    pub(super) fn in_folders(given: &[PathBuf], model: Option<&Path>) -> Result<Self> {
        let mut folders = Vec::new();
        for folder in given {
            let unreadable = |source| r1seg::volume::Error::unreadable(folder, source);
            let entries = std::fs::read_dir(folder).map_err(unreadable)?;
            let mut inner: Vec<PathBuf> =
                entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
            inner.sort();
            folders.push(folder.clone());
            folders.append(&mut inner);
        }
        folders.extend(model.map(Path::to_path_buf));
        Ok(Self { folders, used: Vec::new(), missing: Vec::new() })
    }

    /// Reads an input; says why not where it is missing or another file. A missing truth costs the Dice
    /// alone.
    pub(super) fn open(&mut self, input: &Input) -> Result<Result<Found, String>> {
        let path = match self.find(&input.file, input.sha256.as_deref(), input)? {
            Ok(path) => path,
            Err(why) => {
                // Named, too, so that one download brings both.
                if let Some(truth) = &input.truth {
                    let _ = self.find(&truth.file, truth.sha256.as_deref(), input)?;
                }
                return Ok(Err(why));
            }
        };
        let volume = read(&path, &ReadOptions::default())?.volume;
        let truth = match &input.truth {
            Some(truth) => self.truth(input, truth, &volume)?,
            None => None,
        };
        Ok(Ok(Found { volume, truth }))
    }

    fn truth(&mut self, input: &Input, truth: &Truth, volume: &Volume) -> Result<Option<Labels>> {
        let Ok(path) = self.find(&truth.file, truth.sha256.as_deref(), input)? else {
            return Ok(None);
        };
        let read = read(&path, &ReadOptions::default())?.volume;
        if read.shape() != volume.shape() {
            let what = format!(
                "the truth has {:?} voxels, its volume {:?} (slices first)",
                read.shape(),
                volume.shape()
            );
            let error = CliError::new(Code::LedgerShape, what).at(path);
            return Err(error.fix("give both files of the same case").into());
        }
        let labels = read.voxels().to_f32().iter().map(|v| v.round() as u8).collect();
        Ok(Some(Labels { labels, recorded: truth.voxels.clone() }))
    }

    /// The path of a file that is the right one, as far as that is known.
    fn find(
        &mut self,
        file: &str,
        sha256: Option<&str>,
        input: &Input,
    ) -> Result<Result<PathBuf, String>> {
        let Some(path) = self.folders.iter().map(|f| f.join(file)).find(|path| path.is_file())
        else {
            self.miss(file, sha256, input);
            return Ok(Err(format!("missing: {file}")));
        };
        let (bytes, hash) = fingerprint(&path)?;
        if sha256.is_some_and(|expected| !expected.eq_ignore_ascii_case(&hash)) {
            self.miss(file, sha256, input);
            return Ok(Err(format!("another file: {file} has sha256 {hash}")));
        }
        if !self.used.iter().any(|used| used.file == file) {
            self.used.push(Used { file: file.to_string(), bytes, sha256: hash });
        }
        Ok(Ok(path))
    }

    fn miss(&mut self, file: &str, sha256: Option<&str>, input: &Input) {
        let (file, sha256) = (file.to_string(), sha256.map(str::to_string));
        let missing = Missing { file, sha256, from: input.from.clone() };
        if !self.missing.contains(&missing) {
            self.missing.push(missing);
        }
    }
}

impl Found {
    /// Dice of a mask and a label of the truth, and what is odd about that.
    pub(super) fn dice(
        &self,
        mask: Option<&[u8]>,
        label: Option<u8>,
    ) -> (Option<f64>, Vec<String>) {
        let (Some(truth), Some(label)) = (&self.truth, label) else {
            return (None, Vec::new());
        };
        let truth_mask: Vec<u8> = truth.labels.iter().map(|v| u8::from(*v == label)).collect();
        let count = truth_mask.iter().filter(|v| **v == 1).count() as u64;
        let mut doubts = Vec::new();
        if let Some(recorded) = truth.recorded.get(&label).filter(|recorded| **recorded != count) {
            doubts.push(format!(
                "the truth has {count} voxels of label {label}, the recorded one had {recorded}"
            ));
        }
        let dice = match mask {
            Some(mask) => r1seg::phantom::dice(mask, &truth_mask),
            None => (0 < count).then_some(0.0),
        };
        (dice, doubts)
    }
}

/// Length and SHA-256 of a file.
pub(super) fn fingerprint(path: &Path) -> Result<(u64, String)> {
    let unreadable = |source| r1seg::volume::Error::unreadable(path, source);
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    Ok((bytes, sha256_of_file(path).map_err(unreadable)?))
}
