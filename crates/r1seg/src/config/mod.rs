//! `config.json` of a checkpoint to the configurations of its networks: one reader for each kind of
//! network ([`vision`], [`slices`], [`sam`], [`projector`], [`text`]; the language model's is in `r1seg-llm`), which the
//! readers of the families share.

pub(crate) mod language;
pub(crate) mod projector;
pub(crate) mod sam;
pub(crate) mod slices;
pub(crate) mod text;
pub(crate) mod vision;

use std::collections::BTreeMap;

use r1seg_diagnostic::Purpose;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::checkpoint::{self, Found};
use crate::load::Loadable;
use crate::registry::recognize::{recover_config, shapes};
use crate::registry::{self, ConfigReader, Family, MODELS, ModelEntry, ModelType};
use crate::{
    AutomaticConfig, Capabilities, CheckpointSource, Error, M3dClipConfig, PromptableConfig,
};

pub use language::{ImageBranch, MaskConfig, ModelConfig};
pub use slices::{SliceEncoderSettings, SliceInputConfig};

/// The largest volume axis, width or count that a config.json may ask for: far beyond any
/// published model, and small enough that products of a few of them do not overflow.
pub(crate) const MAX_SIZE: usize = 1 << 16;
const FILE: &str = "config.json";
/// The most refinement passes: each costs as much as the mask itself.
const MAX_NUM_CLICKS: usize = 64;

/// The `config.json` of a checkpoint whose family is known.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    pub(crate) source: CheckpointSource,
    pub(crate) value: Value,
    pub(crate) entry: &'static ModelEntry,
    pub(crate) model_type: &'static ModelType,
}

impl ConfigFile {
    /// `architectures` and `auto_map` are never used: they are wrong in checkpoints that were merged
    /// locally. Where there is no such file, or it is for another loader, its fields may follow from the
    /// tensors.
    ///
    /// # Errors
    /// [`Error::Checkpoint`], [`Error::Json`], [`Error::UnsupportedModel`], or [`Error::Config`] where
    /// the tensors do not tell all of it.
    pub(crate) fn read(source: &CheckpointSource) -> Result<Self, Error> {
        let value = match read_json(source, FILE)? {
            Some(value) if registry::identify(&value).is_err() => {
                recovered(source).unwrap_or(value)
            }
            Some(value) => value,
            None => recovered(source)?,
        };
        Self::new(source, value)
    }

    fn new(source: &CheckpointSource, value: Value) -> Result<Self, Error> {
        let path = source.path();
        let model_type = value["model_type"].as_str().unwrap_or_default();
        if model_type.is_empty() {
            return Err(Error::Config { path, message: "model_type is missing".to_string() });
        }
        match registry::identify(&value) {
            Ok((entry, model_type)) => {
                Ok(Self { source: source.clone(), value, entry, model_type })
            }
            Err(hint) => {
                let model_type = model_type.to_string();
                Err(Error::UnsupportedModel { path, model_type, hint })
            }
        }
    }

    /// As [`ConfigFile::read`] would find it, of a folder whose tensors are known already and that has no
    /// such file; `None` where they tell nothing of use.
    pub(crate) fn recover(
        source: &CheckpointSource,
        found: &BTreeMap<String, Found>,
    ) -> Option<Self> {
        let recovered = recover_config(&shapes(found), None, repository_of(source))?.ok()?;
        Self::new(source, Value::Object(recovered.config)).ok()
    }

    /// That config.json cannot be used.
    pub(crate) fn wrong(&self, message: impl ToString) -> Error {
        Error::Config { path: self.source.path(), message: message.to_string() }
    }

    /// That the model is none for prompts of this kind.
    pub(crate) fn other_family(&self, purpose: Purpose) -> Error {
        let (path, family) = (self.source.path(), self.entry.family);
        Error::OtherFamily { path, model_type: self.model_type.name, family, purpose }
    }

    /// Reads it as the configuration of one kind of network.
    ///
    /// # Errors
    /// [`Error::OtherFamily`] where it is of another kind, and those of the reader.
    pub(crate) fn read_as<C: Loadable>(&self) -> Result<C, Error> {
        match C::reader(self.entry.reader) {
            Some(read) => read(self),
            None => Err(self.other_family(C::PURPOSE)),
        }
    }

    /// Reads it with its family's reader.
    pub(crate) fn parse(&self) -> Result<FamilyConfig, Error> {
        Ok(match self.entry.reader {
            ConfigReader::Language(read) => FamilyConfig::Language(Box::new(read(self)?)),
            ConfigReader::Promptable(read) => FamilyConfig::Promptable(Box::new(read(self)?)),
            ConfigReader::Automatic(read) => FamilyConfig::Automatic(Box::new(read(self)?)),
            ConfigReader::Retrieval(read) => FamilyConfig::Retrieval(Box::new(read(self)?)),
        })
    }
}

/// What `config.json` would say, of a folder without one.
///
/// # Errors
/// [`Error::Checkpoint`] where the tensors are those of no model that is known by them, and
/// [`Error::Config`] where they do not tell all of it.
fn recovered(source: &CheckpointSource) -> Result<Value, Error> {
    let found = source.found(0).map_err(|error| match error {
        // Converting makes safetensors of them, and may make a config.json.
        Error::Checkpoint(checkpoint::Error::Pickle { .. }) => error,
        _ => source.missing(FILE),
    })?;
    match recover_config(&shapes(&found), None, repository_of(source)) {
        None => Err(source.missing(FILE)),
        Some(Ok(recovered)) => Ok(Value::Object(recovered.config)),
        Some(Err(message)) => Err(Error::Config { path: source.path(), message }),
    }
}

/// The published repository that a checkpoint comes from, where its folder shows that.
fn repository_of(source: &CheckpointSource) -> Option<&'static str> {
    match source {
        CheckpointSource::Folder(folder) => registry::repository_at(folder),
        CheckpointSource::Embedded(_) => None,
    }
}

/// Why a family cannot be used for a purpose, and which ones can.
pub(crate) fn cannot_serve(family: Family, purpose: Purpose) -> String {
    let does = match purpose {
        Purpose::Answer => "answer questions",
        Purpose::Segment => "segment by text, points or boxes",
        Purpose::Retrieve => "embed volumes and texts",
    };
    let able = MODELS.iter().filter(|entry| entry.capabilities.purpose() == purpose);
    let able: Vec<&str> = able.map(|entry| entry.name).collect();
    let able = match able.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        able => able.concat(),
    };
    format!("{} cannot {does}; {able} can", family.name())
}

/// The configuration of any model.
#[derive(Debug, Clone)]
pub(crate) enum FamilyConfig {
    Language(Box<ModelConfig>),
    Promptable(Box<PromptableConfig>),
    Automatic(Box<AutomaticConfig>),
    Retrieval(Box<M3dClipConfig>),
}

impl CheckpointSource {
    /// Which of the models a checkpoint is, by its `config.json`, or by its tensors where it has none.
    ///
    /// # Errors
    /// [`Error::Checkpoint`], [`Error::Json`], or
    /// [`Error::UnsupportedModel`].
    pub fn family(&self) -> Result<Family, Error> {
        Ok(ConfigFile::read(self)?.entry.family)
    }

    /// What a checkpoint takes and gives back, before its weights are read.
    ///
    /// # Errors
    /// As [`family`](Self::family), and [`Error::Config`] naming the field.
    pub fn capabilities(&self) -> Result<Capabilities, Error> {
        Ok(ConfigFile::read(self)?.parse()?.capabilities())
    }

    /// The family of a model that segments what it is prompted with.
    ///
    /// # Errors
    /// As [`family`](Self::family), and [`Error::OtherFamily`] for models that segment nothing by
    /// themselves.
    pub fn segmenter(&self) -> Result<Family, Error> {
        let file = ConfigFile::read(self)?;
        match file.entry.capabilities.purpose() {
            Purpose::Segment => Ok(file.entry.family),
            _ => Err(file.other_family(Purpose::Segment)),
        }
    }
}

impl FamilyConfig {
    fn capabilities(&self) -> Capabilities {
        match self {
            Self::Language(config) => config.capabilities(),
            Self::Promptable(config) => config.capabilities(),
            Self::Automatic(config) => config.capabilities(),
            Self::Retrieval(config) => config.capabilities(),
        }
    }
}

/// A field of `config.json`; `None` where it is absent or null.
///
/// # Errors
/// The name of a field of another type, and why.
pub(crate) fn field<T: DeserializeOwned>(config: &Value, name: &str) -> Result<Option<T>, String> {
    match config.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => T::deserialize(value).map(Some).map_err(|e| format!("{name}: {e}")),
    }
}

/// Passes of the mask decoder after the first, as `config.json` says.
///
/// # Errors
/// More than any model has use for.
pub(crate) fn num_clicks(config: &Value) -> Result<usize, String> {
    let num_clicks = field(config, "num_clicks")?.unwrap_or(0);
    check_num_clicks(num_clicks).map_err(|e| format!("num_clicks: {e}"))?;
    Ok(num_clicks)
}

/// # Errors
/// More refinement passes than any model has use for.
pub(crate) fn check_num_clicks(num_clicks: usize) -> Result<(), String> {
    if num_clicks > MAX_NUM_CLICKS {
        return Err(format!("{num_clicks} passes, expected 0 to {MAX_NUM_CLICKS}"));
    }
    Ok(())
}

/// A small JSON file of a checkpoint, where there is one.
pub(crate) fn read_json(source: &CheckpointSource, name: &str) -> Result<Option<Value>, Error> {
    let Some(bytes) = source.read(name)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| Error::Json {
        path: source.path(),
        file: name.to_string(),
        message: e.to_string(),
    })
}
