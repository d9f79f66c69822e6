//! What a checkpoint is, from its small files and the headers of its weights.

mod architecture;
mod examination;
mod file;
mod license;
mod tokenizer;

use std::collections::BTreeMap;

use r1seg_convert::{Sandbox, TensorEntry};
use serde_json::Value;

use crate::checkpoint::{self, Found, Manifest};
use crate::config::{ConfigFile, FamilyConfig};
use crate::{CheckpointSource, Error, LoadReport, registry};
use examination::Examination;

pub use architecture::{LanguageSummary, VisionSummary};
pub use file::{GgufSummary, WeightFormat, WeightsFileSummary};
pub use license::License;
pub use tokenizer::TokenizerSummary;

/// What a checkpoint is, found out without reading its weights. What cannot be told is absent.
#[derive(Debug)]
#[non_exhaustive]
pub struct ModelSummary {
    /// `model_type` of config.json, or what it would be where there is none and the tensors tell.
    pub model_type: Option<String>,
    /// Which of the published models it is of.
    pub family: Option<registry::Family>,
    /// The vision transformer that reads the volume.
    pub vision: Option<VisionSummary>,
    /// The language model, or the text encoder of a model that has none.
    pub language: Option<LanguageSummary>,
    /// The files of the folder, sorted by name.
    pub files: Vec<FileSummary>,
    /// The weights.
    pub weights: Option<WeightsSummary>,
    /// What loading would do with every tensor, for a model that r1seg runs.
    pub load: Option<LoadReport>,
    /// What the machine must have, for a model that r1seg runs.
    pub memory: Vec<MemoryNeed>,
    /// The tokenizer.
    pub tokenizer: Option<TokenizerSummary>,
    /// What the publisher allows.
    pub license: Option<License>,
    /// What `r1seg convert` wrote about it.
    pub manifest: Option<Manifest>,
    /// The first thing for which loading refuses it.
    pub problem: Option<Error>,
    /// What loading would refuse it for once that is mended.
    pub further_problems: Vec<Error>,
}

impl ModelSummary {
    /// Whether the folder has no vocabulary, which may be added to it.
    pub fn lacks_vocabulary(&self) -> bool {
        self.problems().any(is_missing_vocabulary)
    }

    /// The first thing for which loading would refuse it with a vocabulary, too.
    pub fn problem_beside_vocabulary(&self) -> Option<&Error> {
        self.problems().find(|error| !is_missing_vocabulary(error))
    }

    fn problems(&self) -> impl Iterator<Item = &Error> {
        self.problem.iter().chain(&self.further_problems)
    }
}

fn is_missing_vocabulary(error: &Error) -> bool {
    matches!(error, Error::Tokenizer(error) if error.is_missing_vocabulary())
}

/// A file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say what they are")]
pub struct FileSummary {
    pub name: String,
    pub bytes: u64,
}

/// The weights of a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WeightsSummary {
    /// Tensors.
    pub tensors: usize,
    /// Numbers in them.
    pub parameters: u64,
    /// Bytes of them in the files.
    pub bytes: u64,
    /// Whether they are pickles, which have to be converted first.
    pub is_pickle: bool,
    /// By number format, that of most bytes first.
    pub dtypes: Vec<DtypeSummary>,
}

/// The tensors of one number format.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DtypeSummary {
    /// Such as `bf16`.
    pub dtype: String,
    /// Tensors.
    pub tensors: usize,
    /// Numbers in them.
    pub parameters: u64,
    /// Bytes of them in the files.
    pub bytes: u64,
}

/// The memory that a model takes to answer a short question about one volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryNeed {
    /// `cpu`, as it is checked before loading, or `cuda`, an estimate.
    pub device: &'static str,
    /// How weights are kept there.
    pub dtype: &'static str,
    /// Bytes of main memory, or of the GPU's: those of the weights and of a pass together.
    pub bytes: u64,
    /// Bytes of the weights.
    pub weights: u64,
    /// Bytes of the largest pass of the networks, a window for a model that takes windows; of a language
    /// model with the keys and values of a short question. On a GPU with what a context keeps.
    pub pass: u64,
}

/// Keeps errors; the first is what loading would stop at.
#[derive(Default)]
struct Errors(Vec<Error>);

impl Errors {
    fn note<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        result.map_err(|error| self.0.push(error)).ok()
    }
}

impl CheckpointSource {
    /// Finds out what a checkpoint is. Only small files and the headers of weights are read; where
    /// there are no safetensors, pickles are described by a child process that `sandbox` lends.
    ///
    /// # Errors
    /// When there is no such folder or it cannot be listed. Everything else that is wrong with it is
    /// [`ModelSummary::problem`].
    pub fn summary(&self, sandbox: Option<&Sandbox>) -> Result<ModelSummary, Error> {
        let files = self.files()?;
        // In the order of loading.
        let mut errors = Errors::default();
        let file = errors.note(ConfigFile::read(self)).or_else(|| self.recovered(sandbox));
        // What is wrong with the config itself, reading it has said.
        let raw = self.read("config.json").ok().flatten();
        let raw: Value = raw.and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
        let raw = file.as_ref().map_or(raw, |file| file.value.clone());
        let config = file.as_ref().and_then(|file| errors.note(file.parse()));
        let manifest = errors.note(self.check_manifest()).flatten();
        let mut examine = Examination { source: self, raw: &raw, sandbox, errors: &mut errors };
        let facts = match config {
            Some(FamilyConfig::Language(config)) => examine.model(*config),
            Some(FamilyConfig::Promptable(config)) => examine.model(*config),
            Some(FamilyConfig::Automatic(config)) => examine.model(*config),
            Some(FamilyConfig::Retrieval(config)) => examine.model(*config),
            None => examine.without_config(file.as_ref()),
        };
        let mut problems = errors.0.into_iter();
        let problem = problems.next();
        Ok(ModelSummary {
            model_type: raw["model_type"].as_str().map(str::to_owned),
            family: file.map(|file| file.entry.family),
            vision: facts.vision,
            language: facts.language,
            files,
            weights: facts.weights,
            load: facts.load,
            memory: facts.memory,
            tokenizer: facts.tokenizer,
            license: match self {
                Self::Embedded(_) => Some(License::of_the_demo()),
                Self::Folder(_) => License::find(self),
            },
            manifest,
            problem,
            further_problems: problems.collect(),
        })
    }

    fn clean(&self, report: &LoadReport) -> Result<(), Error> {
        match report.is_clean() {
            true => Ok(()),
            false => {
                let (path, report) = (self.path(), Box::new(report.clone()));
                Err(Error::Weights { path, report })
            }
        }
    }

    fn files(&self) -> Result<Vec<FileSummary>, Error> {
        let mut files = Vec::new();
        match self {
            Self::Embedded(embedded) => {
                files.extend(embedded.iter().map(|(name, bytes)| FileSummary {
                    name: (*name).to_string(),
                    bytes: bytes.len() as u64,
                }));
            }
            Self::Folder(folder) => {
                let failed = |source: std::io::Error| match source.kind() {
                    std::io::ErrorKind::NotFound => {
                        checkpoint::Error::NotFound { path: folder.clone() }
                    }
                    _ => checkpoint::Error::Read { path: folder.clone(), source },
                };
                for entry in std::fs::read_dir(folder).map_err(failed)? {
                    let entry = entry.map_err(failed)?;
                    // Files of the hub's cache are links into it.
                    let Some(meta) = entry.path().metadata().ok().filter(|m| m.is_file()) else {
                        continue;
                    };
                    let name = entry.file_name().to_string_lossy().into_owned();
                    files.push(FileSummary { name, bytes: meta.len() });
                }
            }
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    /// The `config.json` that `r1seg convert` would write for pickles without one.
    fn recovered(&self, sandbox: Option<&Sandbox>) -> Option<ConfigFile> {
        match self.read("config.json") {
            Ok(None) => ConfigFile::recover(self, &self.found_in_pickles(sandbox)?),
            _ => None,
        }
    }

    /// The tensors that `r1seg convert` would find. Why it finds none is its own to say.
    fn found_in_pickles(&self, sandbox: Option<&Sandbox>) -> Option<BTreeMap<String, Found>> {
        let (Self::Folder(folder), Some(sandbox)) = (self, sandbox) else {
            return None;
        };
        let contents = r1seg_convert::contents(folder, Some(sandbox)).ok()?;
        contents.has_pickles.then(|| found_in(contents.tensors))
    }
}

/// The tensors that `r1seg convert` finds, as loading describes them.
fn found_in(tensors: Vec<TensorEntry>) -> BTreeMap<String, Found> {
    let found = tensors.into_iter().map(|tensor| {
        let bytes = tensor.bytes().unwrap_or(u64::MAX);
        let shape = tensor.shape.iter().map(|n| usize::try_from(*n).unwrap_or(usize::MAX));
        (tensor.name, Found { format: tensor.dtype, shape: shape.collect(), bytes })
    });
    found.collect()
}

impl WeightsSummary {
    fn new(found: &BTreeMap<String, Found>, is_pickle: bool) -> Self {
        let tensors = found.values().map(|t| (t.format.name(), t.numbers(), t.bytes));
        Self { is_pickle, ..Self::of(tensors) }
    }

    /// Of tensors by number format, how many numbers they have, and bytes.
    fn of<'a>(tensors: impl Iterator<Item = (&'a str, u64, u64)>) -> Self {
        let mut dtypes: BTreeMap<&str, DtypeSummary> = BTreeMap::new();
        let mut all = Self::default();
        for (dtype, parameters, bytes) in tensors {
            let of = dtypes.entry(dtype).or_default();
            of.dtype = dtype.to_owned();
            of.tensors += 1;
            of.parameters = of.parameters.saturating_add(parameters);
            of.bytes = of.bytes.saturating_add(bytes);
            all.tensors += 1;
            all.parameters = all.parameters.saturating_add(parameters);
            all.bytes = all.bytes.saturating_add(bytes);
        }
        all.dtypes = dtypes.into_values().collect();
        all.dtypes.sort_by_key(|dtype| std::cmp::Reverse(dtype.bytes));
        all
    }
}
