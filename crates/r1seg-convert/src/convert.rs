//! The conversion from end to end.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use r1seg_checkpoint::keys::llama_cpp::Architecture;
use r1seg_checkpoint::layout::{INDEX, LANGUAGE_MODEL};
use r1seg_checkpoint::{FileRecord, LoraRecord, MANIFEST, Manifest, SCHEMA_VERSION};
use serde_json::{Map, Value};

use crate::join::Compose;
use crate::lora::Lora;
use crate::output::Staged;
use crate::pipeline::{run, shard_name};
use crate::plan::{Plan, Planned, plan, shapes};
use crate::sidecar::CONFIG;
use crate::stream::Sources;
use crate::{Error, Quant, Sandbox, TargetDtype, sidecar, source};

/// What to convert, and how.
#[derive(Debug, Clone)]
pub struct ConvertOptions {
    /// A file of weights, an index of shards, or a folder.
    pub source: PathBuf,
    /// A checkpoint that the source lies on top of: its tensors come along where the source has none of
    /// that name, and so do small files. A folder without weights lends only the latter.
    pub base: Option<PathBuf>,
    /// Further parts of a model that is published in parts, in any order: each is known by its tensors.
    pub parts: Vec<PathBuf>,
    /// Makes the `config.json` of a model that is joined from parts.
    pub compose: Compose,
    /// What floating-point weights become; `None` keeps each as it is, but for f64, which becomes f32.
    pub dtype: Option<TargetDtype>,
    /// Whether the language model is quantized, into a GGUF file of its own. The rest is as `dtype`
    /// says.
    pub quant: Option<Quant>,
    /// A GGUF file that the language model is taken from, in place of the source's.
    pub llm: Option<PathBuf>,
    /// What llama.cpp calls the language model of a checkpoint with this `model_type` in its
    /// `config.json`. Language models alone are known without it.
    pub architecture: fn(&str) -> Option<Architecture>,
    /// The published checkpoint, `OWNER/NAME`, that the source is or was made of, where that is known:
    /// the tensors of two published models may have the same names and shapes.
    pub published: Option<&'static str>,
    /// Makes the `config.json` of a checkpoint that has none, or has one that is for another loader,
    /// which it is then given, from the shapes of its tensors and from `published`.
    pub recover: Recover,
    /// The most bytes of weights in one file. A tensor is never cut in two.
    pub max_shard_bytes: u64,
    /// The numbers of a LoRA training run.
    pub lora: Lora,
    /// Whether NaN and infinities are an error.
    pub check_tensors: bool,
    /// Whether a folder that r1seg converted before is replaced.
    pub replace: bool,
    /// The process that reads pickles; `None` reads them in this one.
    pub sandbox: Option<Sandbox>,
}

impl ConvertOptions {
    /// The defaults: formats kept, shards of 5 GB, weights checked, nothing replaced, no child.
    pub fn new(source: impl Into<PathBuf>) -> Self {
        Self {
            source: source.into(),
            base: None,
            parts: Vec::new(),
            compose: |_| Err("no model is joined from parts here".to_owned()),
            dtype: None,
            quant: None,
            llm: None,
            architecture: Architecture::of_language_model,
            published: None,
            recover: |_, _, _| None,
            max_shard_bytes: 5_000_000_000,
            lora: Lora::default(),
            check_tensors: true,
            replace: false,
            sandbox: None,
        }
    }
}

/// The axes of the tensors of a checkpoint, by name.
pub type Shapes = BTreeMap<String, Vec<usize>>;

/// Makes a `config.json` from the shapes of tensors, the fields of one that is for another loader, and the
/// published checkpoint that the tensors are of.
pub type Recover = fn(&Shapes, Option<&Map<String, Value>>, Option<&str>) -> Recovered;

/// What the tensors tell of a `config.json`: all of it, or what it must name; `None` where they are
/// those of no known model, or where the checkpoint's own says it.
pub type Recovered = Option<Result<RecoveredConfig, String>>;

/// A `config.json` that was made from the tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct RecoveredConfig {
    /// The model whose tensors these are, as its authors call it.
    pub model: &'static str,
    /// The fields.
    pub config: Map<String, Value>,
}

/// How far a conversion is.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// Bytes of weights that were read.
    pub done: u64,
    /// Bytes of weights to read.
    pub total: u64,
    /// The tensor at hand.
    pub tensor: &'a str,
}

/// What a conversion did.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// What was written, as `manifest.json` has it.
    pub manifest: Manifest,
    /// Bytes of all files that were read.
    pub bytes_read: u64,
    /// Bytes of all files that were written, but for `manifest.json`.
    pub bytes_written: u64,
    /// Dicts around the weights that were taken off, outermost first.
    pub wrappers: Vec<String>,
    /// Prefixes of names that were taken off.
    pub prefixes: Vec<&'static str>,
    /// Tensors whose own name was another: what it was without these prefixes, and what it became.
    pub renamed: Vec<[String; 2]>,
    /// Tensors that were left out, since no model reads them: what is computed from the configuration,
    /// and buffers of a training.
    pub dropped: Vec<String>,
    /// Values beside the weights that were left out: optimizer states, epochs.
    pub ignored: u64,
    /// Tensors that share their numbers with another, and are now written out.
    pub tied: usize,
    /// Whether some source was a pickle, and if so, whether it was read in a child process.
    pub pickles: Option<PickleReading>,
    /// The model whose `config.json` was recovered from the tensors, where the source had none of use.
    pub recovered_config: Option<&'static str>,
    /// Whether there is a `config.json`.
    pub has_config: bool,
    /// Whether there is a vocabulary.
    pub has_tokenizer: bool,
}

/// Where pickles were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PickleReading {
    /// In a child process with limits.
    Sandboxed,
    /// In this process.
    InProcess,
}

/// A converted folder that is complete and not yet in its place, so that it can be checked first.
/// Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Converted {
    staged: Staged,
    report: Report,
    replace: bool,
}

impl Converted {
    /// Where the folder is until it is published.
    pub fn folder(&self) -> &Path {
        self.staged.path()
    }

    /// What was done.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Moves the folder to its place.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::NotReplaceable`], [`Error::CannotCreate`], [`Error::Write`].
    pub fn publish(self) -> Result<Report, Error> {
        self.staged.publish(self.replace)?;
        Ok(self.report)
    }
}

/// Turns a published checkpoint into a folder that r1seg loads: safetensors, `config.json`,
/// tokenizer files and `manifest.json`.
///
/// The folder `out` appears whole at the end, or not at all. Weights pass through a few megabytes of
/// memory, tensor by tensor: each as the part of its storage that it is, however large the storage and
/// whoever shares it. A tensor that is not stored in order takes up to 72 MiB.
/// `progress` is asked after every few megabytes whether to go on.
///
/// # Errors
/// Every [`Error`] but those of [`verify`](r1seg_checkpoint::verify()).
pub fn convert(
    options: &ConvertOptions,
    out: &Path,
    progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<Report, Error> {
    prepare(options, out, progress)?.publish()
}

/// As [`convert`], up to the last step: the folder `out` appears with [`Converted::publish`].
///
/// # Errors
/// As [`convert`].
pub fn prepare(
    options: &ConvertOptions,
    out: &Path,
    progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<Converted, Error> {
    if options.max_shard_bytes == 0 {
        return Err(Error::Option { what: "a shard of 0 bytes holds no tensor".to_owned() });
    }
    // Before anything is read: who cannot write need not wait.
    let staged = Staged::new(out, options.replace)?;
    // Nobody knows the folder under construction: errors name the one that was asked for.
    let report = fill(staged.path(), options, out, progress)
        .map_err(|error| error.moved(staged.path(), out))?;
    Ok(Converted { staged, report, replace: options.replace })
}

/// Writes everything into the folder `target`, which becomes `out`.
fn fill(
    target: &Path,
    options: &ConvertOptions,
    out: &Path,
    progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<Report, Error> {
    let sandbox = options.sandbox.as_ref();
    let checkpoint = source::open(&options.source, sandbox)?;
    // Without its GGUF file the folder is only half a checkpoint.
    if options.llm.is_none() && checkpoint.folder.join(LANGUAGE_MODEL).is_file() {
        return Err(Error::QuantizedSource { path: checkpoint.folder });
    }
    let (base, base_folder) = match options.base.as_deref() {
        None => (None, None),
        Some(path) => match source::open(path, sandbox) {
            Ok(base) => (Some(base), None),
            // A folder may lend its small files alone.
            Err(Error::NoWeights { .. }) if path.is_dir() => (None, Some(path.to_owned())),
            Err(error) => return Err(error),
        },
    };
    let parts = options.parts.iter().map(|path| source::open(path, sandbox));
    let parts = parts.collect::<Result<Vec<_>, _>>()?;
    let mut plan = plan(checkpoint, base, base_folder, parts, options)?;
    refuse_same_folder(&plan.folders, out)?;

    let mut files = match &plan.joined {
        Some(joined) if !joined.files.is_empty() => {
            sidecar::write_joined(&plan.folders, &joined.files, target)?
        }
        _ => sidecar::write(&plan.folders, target)?,
    };
    let (config, recovered) = config(&plan, options)?;
    if let Some(config) = config {
        files.push(sidecar::put_config(target, config, options.dtype)?);
    }
    let sources = Sources::open(&plan.files)?;
    let bytes_read = sources.bytes();
    let (read, mut shards) = run(&plan, sources, options, target, progress)?;
    shards.extend(index(&plan, target)?);
    shards.append(&mut files);
    shards.sort_by(|a, b| a.name.cmp(&b.name));

    let manifest = Manifest {
        schema_version: SCHEMA_VERSION,
        r1seg_version: env!("CARGO_PKG_VERSION").to_owned(),
        dtype: options.dtype.map(TargetDtype::format),
        sources: read,
        files: shards,
        tensors: plan.tensors().count(),
        parameters: plan.tensors().map(Planned::numbers).sum(),
        lora: plan.lora.clone(),
        language_model: plan.language_model.take().map(|file| file.record),
    };
    let written = |source| Error::Write { path: target.join(MANIFEST), source };
    let mut json = serde_json::to_vec_pretty(&manifest).map_err(|e| written(e.into()))?;
    json.push(b'\n');
    sidecar::put(target, MANIFEST, &json)?;

    let has = |name: &str| manifest.files.iter().any(|file| file.name == name);
    Ok(Report {
        bytes_read,
        bytes_written: manifest.files.iter().map(|file| file.bytes).sum(),
        wrappers: plan.wrappers,
        prefixes: plan.renamed.prefixes,
        renamed: plan.renamed.renamed,
        dropped: plan.renamed.dropped,
        ignored: plan.ignored,
        tied: plan.tied,
        pickles: plan.has_pickles.then_some(match sandbox {
            Some(_) => PickleReading::Sandboxed,
            None => PickleReading::InProcess,
        }),
        recovered_config: recovered,
        has_config: has(CONFIG),
        has_tokenizer: ["tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"]
            .into_iter()
            .any(has),
        manifest,
    })
}

/// The fields of `config.json`, and the model if they were recovered from its tensors.
type ConfigAndModel = (Option<Map<String, Value>>, Option<&'static str>);

/// The fields of `config.json`: those of the first one that is not for another loader, or else those
/// recovered from the tensors, and then of which model.
fn config(plan: &Plan, options: &ConvertOptions) -> Result<ConfigAndModel, Error> {
    if let Some(joined) = &plan.joined {
        return Ok((Some(joined.config.clone()), None));
    }
    let shapes = shapes(plan.tensors().map(|planned| &planned.from));
    let mut recovered = None;
    for folder in &plan.folders {
        let Some(own) = sidecar::config(folder)? else { continue };
        match (options.recover)(&shapes, Some(&own), options.published) {
            Some(Ok(found)) => recovered = recovered.or(Some(found)),
            _ => return Ok((Some(own), None)),
        }
    }
    let found = match recovered {
        Some(found) => Some(found),
        None => {
            (options.recover)(&shapes, None, options.published).transpose().map_err(|what| {
                let what = format!("config.json: {what}");
                Error::Config { path: options.source.clone(), what }
            })?
        }
    };
    Ok(found.map(|found| (found.config, found.model)).unzip())
}

/// Replacing a folder by what was made of it would lose the original.
fn refuse_same_folder(sources: &[PathBuf], out: &Path) -> Result<(), Error> {
    let Ok(out) = out.canonicalize() else {
        return Ok(());
    };
    for source in sources {
        let source = if source.as_os_str().is_empty() { Path::new(".") } else { source };
        if source.canonicalize().is_ok_and(|source| source == out) {
            let what = "the output folder is the source's".to_owned();
            return Err(Error::Option { what });
        }
    }
    Ok(())
}

/// Which tensor is in which shard, where there are several.
fn index(plan: &Plan, folder: &Path) -> Result<Option<FileRecord>, Error> {
    let count = plan.shards.len();
    if count < 2 {
        return Ok(None);
    }
    let mut weight_map = BTreeMap::new();
    let mut total = 0u64;
    for (i, shard) in plan.shards.iter().enumerate() {
        for tensor in shard {
            weight_map.insert(&tensor.from.entry.name, shard_name(i, count));
            total += tensor.bytes();
        }
    }
    let index = serde_json::json!({"metadata": {"total_size": total}, "weight_map": weight_map});
    let failed = |source| Error::Write { path: folder.join(INDEX), source };
    let mut json = serde_json::to_vec_pretty(&index).map_err(|e| failed(e.into()))?;
    json.push(b'\n');
    sidecar::put(folder, INDEX, &json).map(Some)
}

impl Report {
    /// What became of LoRA updates, if there were any.
    pub fn lora(&self) -> Option<&LoraRecord> {
        self.manifest.lora.as_ref()
    }
}
