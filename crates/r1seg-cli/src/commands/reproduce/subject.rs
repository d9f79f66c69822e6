//! What is reproduced with: the model's files, and the machine.

use std::path::Path;

use anyhow::Result;
use r1seg::{CancelToken, CheckpointSource, Error, Model, ModelSummary};
use rayon::prelude::*;
use serde::Serialize;

use super::data::fingerprint;
use crate::model::ModelName;

/// The model, as far as its files say.
#[derive(Debug, Serialize)]
pub(super) struct Subject {
    /// Name of the folder, or of the repository that it was downloaded from.
    pub(super) name: String,
    /// The repository, where the folder lies in the cache of downloads.
    pub(super) repository: Option<String>,
    pub(super) revision: Option<String>,
    pub(super) model_type: String,
    /// Files of the folder.
    pub(super) files: Vec<HashedFile>,
    /// Files that it was converted from, by its manifest.
    pub(super) converted_from: Vec<HashedFile>,
    /// Tensors in the files, none of which has a number that is NaN or infinite.
    pub(super) tensors: usize,
    pub(super) parameters: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct HashedFile {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// This program and this machine, with the model loaded.
#[derive(Debug, Serialize)]
pub(super) struct Setting {
    pub(super) r1seg_version: &'static str,
    pub(super) commit: Option<&'static str>,
    pub(super) target: &'static str,
    pub(super) cpu_kernels: &'static str,
    pub(super) threads: usize,
    pub(super) device: String,
    pub(super) dtype: &'static str,
    pub(super) load_seconds: f64,
    /// Tensors that the model reads.
    pub(super) loaded_tensors: usize,
    /// Tensors of the files that no model of its kind knows.
    pub(super) unexpected_tensors: usize,
}

impl Subject {
    /// Hashes every file, and looks at every number of the weights.
    ///
    /// # Errors
    /// What loading would refuse the model for, and `R-WGT-05` for NaN and infinity.
    pub(super) fn examine(
        source: &CheckpointSource,
        name: ModelName,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let mut summary = source.summary(None)?;
        if let Some(problem) = summary.problem.take() {
            return Err(problem.into());
        }
        let (Some(model_type), Some(_)) = (summary.model_type.take(), summary.family) else {
            let model_type = summary.model_type.unwrap_or_default();
            let path = match source {
                CheckpointSource::Folder(folder) => folder.clone(),
                CheckpointSource::Embedded(_) => Path::new("demo").to_path_buf(),
            };
            return Err(Error::UnsupportedModel { path, model_type, hint: String::new() }.into());
        };
        let files = match source {
            CheckpointSource::Folder(folder) => hashes(folder, &summary, cancel)?,
            CheckpointSource::Embedded(_) => Vec::new(),
        };
        let tensors = source.check_tensors()?;
        let sources = summary.manifest.map(|manifest| manifest.sources).unwrap_or_default();
        let converted_from = sources
            .into_iter()
            .map(|f| HashedFile { name: f.name, bytes: f.bytes, sha256: f.sha256 })
            .collect();
        let is_downloaded = name.revision.is_some();
        Ok(Self {
            repository: is_downloaded.then(|| name.id.clone()),
            name: name.id,
            revision: name.revision,
            model_type,
            files,
            converted_from,
            tensors,
            parameters: summary.weights.map(|weights| weights.parameters),
        })
    }

    /// Whether results of a repository are results of this model, as far as can be told.
    pub(super) fn is_of(&self, repository: &str, model_type: &str) -> bool {
        self.model_type == model_type
            && self.repository.as_ref().is_none_or(|own| own.eq_ignore_ascii_case(repository))
    }
}

fn hashes(folder: &Path, summary: &ModelSummary, cancel: &CancelToken) -> Result<Vec<HashedFile>> {
    let hashed = summary.files.par_iter().map(|file| {
        cancel.check()?;
        let (bytes, sha256) = fingerprint(&folder.join(&file.name))?;
        Ok(HashedFile { name: file.name.clone(), bytes, sha256 })
    });
    hashed.collect()
}

impl Setting {
    pub(super) fn of(model: &Model) -> Self {
        let report = model.load_report();
        Self {
            r1seg_version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("R1SEG_GIT"),
            target: env!("R1SEG_TARGET"),
            cpu_kernels: r1seg::cpu_kernels(),
            threads: rayon::current_num_threads(),
            device: model.device_name(),
            dtype: model.dtype_name(),
            load_seconds: model.load_time().as_secs_f64(),
            loaded_tensors: report.loaded,
            unexpected_tensors: report.unexpected.len(),
        }
    }
}
