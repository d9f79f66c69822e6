//! Which models r1seg knows, and how a checkpoint is recognized as one of them.
//!
//! All that distinguishes a family is in its row of [`MODELS`] (`rows`): its `model_type`s and
//! published names, its capabilities, the reader of its `config.json`, its keys and its phrasings.
//! No other file knows a `model_type`.

#[cfg(feature = "hub")]
mod names;
pub(crate) mod recognize;
mod rows;

use std::path::Path;

use r1seg_llm::{ConfigError, DecoderConfig};
use r1seg_volume::Region;
use serde_json::Value;

use crate::checkpoint::keys::KeyMap;
use crate::checkpoint::keys::llama_cpp::Architecture;
use crate::config::ConfigFile;
use crate::phrasing::Phrasing;
use crate::registry::recognize::Recovery;
use crate::{
    AutomaticConfig, Capabilities, Error, InferenceMode, M3dClipConfig, ModelConfig, ModelName,
    Preprocess, PromptPoint, PromptableConfig, Recipe, Separator,
};

#[cfg(feature = "hub")]
pub use names::{aliases, hub, model_id};
pub use recognize::{compose_config, recover_config};
pub use rows::MODELS;

/// A model of which several sizes and language models are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// R1Seg-3D with a language model.
    R1Seg3d,
    /// M3D-LaMed.
    M3dLamed,
    /// R1Seg-3D-SAM: R1Seg-3D's mask decoder, prompted with text.
    R1Seg3dSam,
    /// SegVol.
    SegVol,
    /// M3D-CLIP.
    M3dClip,
    /// SAM-Med3D.
    SamMed3d,
    /// NeuroSAM3D.
    NeuroSam3d,
    /// VISTA3D (NV-Segment-CT, NV-Segment-CTMR).
    Vista3d,
    /// HSENet: reports and answers about chest CT.
    HseNet,
    /// HSENet-CLIP of either stage.
    HseNetClip,
}

impl Family {
    /// Its row.
    pub fn entry(self) -> &'static ModelEntry {
        match self {
            Self::R1Seg3d => &rows::R1SEG_3D,
            Self::M3dLamed => &rows::M3D_LAMED,
            Self::R1Seg3dSam => &rows::R1SEG_3D_SAM,
            Self::SegVol => &rows::SEGVOL,
            Self::M3dClip => &rows::M3D_CLIP,
            Self::SamMed3d => &rows::SAM_MED3D,
            Self::NeuroSam3d => &rows::NEUROSAM3D,
            Self::Vista3d => &rows::VISTA3D,
            Self::HseNet => &rows::HSENET,
            Self::HseNetClip => &rows::HSENET_CLIP,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// The mode of a run: the one that was chosen, or its own.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a mode that it does not have.
    pub fn mode(self, chosen: Option<InferenceMode>) -> Result<InferenceMode, Error> {
        InferenceMode::choose(chosen, self.name(), self.capabilities().modes)
    }

    /// How it is given a volume: as was chosen, or by its own recipe where it has one.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a recipe of other models.
    pub fn preprocess(self, chosen: Preprocess) -> Result<Preprocess, Error> {
        self.entry().preprocess(chosen)
    }

    /// Whether its texts are names of classes, which [`AutomaticConfig::classes`] lists.
    pub fn has_classes(self) -> bool {
        self.entry().has_classes()
    }

    /// What the published checkpoints take and give back.
    pub fn capabilities(self) -> &'static Capabilities {
        &self.entry().capabilities
    }
}

/// What a model can be asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Task {
    /// In a word or two.
    pub name: &'static str,
    /// What stood between the image and such questions in training; absent where a model reads no
    /// image in its text.
    pub separator: Option<Separator>,
    /// A prompt as the authors word it.
    pub example: Example,
}

/// A prompt of a [`Task`].
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct Example {
    /// A question, or a text.
    pub text: Option<&'static str>,
    /// Points, in voxels of the input.
    pub points: &'static [PromptPoint],
    /// A box, in voxels of the input.
    pub region: Option<Region>,
}

/// A checkpoint on the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The short name that r1seg accepts for it.
    pub alias: &'static str,
    /// `OWNER/NAME`.
    pub repository: &'static str,
    /// The `model_type` of a checkpoint whose tensors are those of another one, and that is published
    /// without saying so.
    pub(crate) model_type: Option<&'static str>,
}

impl Published {
    /// Whether its tensors are those of another published checkpoint, for which they are taken where nothing
    /// names this one.
    pub fn is_told_by_its_name(&self) -> bool {
        self.model_type.is_some()
    }
}

/// A `model_type` of a family.
#[derive(Debug, Clone, Copy)]
pub struct ModelType {
    /// As `config.json` has it.
    pub name: &'static str,
    /// The language model that such a checkpoint contains.
    pub(crate) language_model: Option<LanguageModel>,
    /// How a checkpoint without `config.json` is known to be of this type, where its tensors tell.
    pub(crate) recovery: Option<Recovery>,
}

/// A family of language models.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LanguageModel {
    /// As its publisher calls it.
    pub(crate) name: &'static str,
    /// Reads its fields of `config.json`.
    pub(crate) read: fn(&Value) -> Result<DecoderConfig, ConfigError>,
    /// What llama.cpp calls it.
    pub(crate) architecture: Architecture,
}

/// Reads a configuration out of `config.json`.
pub(crate) type ReadConfig<C> = fn(&ConfigFile) -> Result<C, Error>;

/// Reads the `config.json` of a family, by the kind of network that it describes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ConfigReader {
    /// A language model that reads volumes and prompts a mask decoder.
    Language(ReadConfig<ModelConfig>),
    /// A mask decoder that texts, points, boxes and masks prompt.
    Promptable(ReadConfig<PromptableConfig>),
    /// A network that scores classes and what is pointed at.
    Automatic(ReadConfig<AutomaticConfig>),
    /// Encoders of volumes and of texts into one space.
    Retrieval(ReadConfig<M3dClipConfig>),
}

/// What r1seg knows about a model.
#[derive(Debug)]
#[non_exhaustive]
pub struct ModelEntry {
    /// Which one.
    pub family: Family,
    /// As its authors call it.
    pub name: &'static str,
    /// The values of `model_type` in `config.json`.
    pub model_types: &'static [ModelType],
    /// Fields of `config.json` of which one must be given: types alone are shared.
    pub evidence: &'static [&'static str],
    /// The checkpoints on the hub.
    pub published: &'static [Published],
    /// What it takes and gives back.
    pub capabilities: Capabilities,
    /// How it wants volumes prepared, the default first; empty for a model that takes voxels as they are
    /// stored, by the recipe that their range asks for.
    pub recipes: &'static [Recipe],
    /// What it can be asked for.
    pub tasks: &'static [Task],
    /// Its prompts as in training, the best of each aim first.
    pub phrasings: &'static [Phrasing],
    /// What becomes of a bare name in place of a sentence, for a model that takes questions.
    pub bare_names: Option<&'static str>,
    /// What the model sets in front of a text and behind it before it reads it; empty where a
    /// text is read as it is.
    pub sentence: [&'static str; 2],
    /// What its authors say about the use of their work: the code first, then each repository of
    /// weights.
    pub licenses: &'static [LicenseStatement],
    pub(crate) keys: &'static KeyMap,
    pub(crate) reader: ConfigReader,
}

impl ModelEntry {
    fn preprocess(&self, chosen: Preprocess) -> Result<Preprocess, Error> {
        let Preprocess::Recipe(recipe) = chosen else {
            let own = self.recipes.first().copied();
            return Ok(own.map_or(chosen, Preprocess::Recipe));
        };
        let fits = match self.recipes {
            [] => recipe.is_general(),
            own => own.contains(&recipe),
        };
        if fits {
            return Ok(chosen);
        }
        let own: Vec<String> = self.recipes.iter().map(Recipe::to_string).collect();
        let message = match own.len() {
            0 => format!("{recipe} is the recipe of other models than {}", self.name),
            _ => format!("{} has no recipe {recipe}; it has {}", self.name, own.join(" and ")),
        };
        Err(Error::InvalidOption { what: "preprocess", message })
    }

    /// Whether texts name classes, of which each checkpoint has a table.
    pub(crate) fn has_classes(&self) -> bool {
        matches!(self.reader, ConfigReader::Automatic(_))
    }

    /// The `OWNER/NAME`s that publish it.
    pub fn repositories(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.published.iter().map(|published| published.repository)
    }
}

/// What a publisher says about the use of a part of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LicenseStatement {
    /// `code`, or the repository of the weights on the hub.
    pub part: &'static str,
    /// The license, as its publisher names it; `None` where none is stated.
    pub license: Option<&'static str>,
    /// Where that is said, or where nothing is.
    pub source: &'static str,
}

/// The published checkpoint with this short name or `OWNER/NAME`, in any case.
pub fn published(name: &str) -> Option<&'static Published> {
    let is_meant = |of: &&Published| {
        [of.alias, of.repository].iter().any(|known| known.eq_ignore_ascii_case(name))
    };
    MODELS.iter().flat_map(|entry| entry.published).find(is_meant)
}

/// The published repository that weights come from: by the cache of the hub that their folder lies in, or
/// by the name of that folder, or of the one above.
pub fn repository_at(folder: &Path) -> Option<&'static str> {
    let folder = folder.canonicalize().ok()?;
    let mut folders = folder.ancestors().take(2);
    folders.find_map(|folder| published(&ModelName::of(folder).id)).map(|of| of.repository)
}

/// What llama.cpp calls the language model of a checkpoint with this `model_type`.
pub fn architecture(model_type: &str) -> Option<Architecture> {
    let mut types = MODELS.iter().flat_map(|entry| entry.model_types);
    let found = types.find(|known| known.name == model_type)?;
    found.language_model.map(|language_model| language_model.architecture)
}

/// The model that a `config.json` describes, and its `model_type`.
///
/// # Errors
/// What to append to "model_type `x` is not supported".
pub(crate) fn identify(
    config: &Value,
) -> Result<(&'static ModelEntry, &'static ModelType), String> {
    let model_type = config["model_type"].as_str().unwrap_or_default();
    let given = |key: &&str| config.get(key).is_some_and(|value| !value.is_null());
    let of_type = || {
        MODELS.iter().filter_map(|entry| {
            Some((*entry, entry.model_types.iter().find(|known| known.name == model_type)?))
        })
    };
    let fits = |(entry, _): &(&ModelEntry, _)| {
        entry.evidence.is_empty() || entry.evidence.iter().any(given)
    };
    if let Some(found) = of_type().find(fits) {
        return Ok(found);
    }
    let missing: Vec<&str> = of_type().flat_map(|(entry, _)| entry.evidence).copied().collect();
    Err(match missing.is_empty() {
        true => String::new(),
        false => format!(" without {}", missing.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::PromptKind;

    #[test]
    fn every_row_is_recognized_by_its_type_and_its_fields() {
        for entry in MODELS {
            for ModelType { name, .. } in entry.model_types {
                let fields = match entry.evidence {
                    [] => &[""][..],
                    fields => fields,
                };
                for field in fields {
                    let config = json!({"model_type": name, *field: "given"});
                    let found = identify(&config).map(|(entry, of)| (entry.family, of.name));
                    assert_eq!(found, Ok((entry.family, *name)), "{name} with {field}");
                }
            }
        }
        let family = |config| identify(&config).map(|(entry, _)| entry.family);
        let shared = json!({"model_type": "lamed_llama", "vision_module": null});
        assert_eq!(
            family(shared),
            Err(" without vision_module, vision_tower, segmentation_module".to_string())
        );
        assert_eq!(family(json!({"model_type": "gpt2"})), Err(String::new()));
        assert_eq!(family(json!([])), Err(String::new()));
    }

    #[test]
    fn every_published_name_belongs_to_one_row() {
        let mut names: Vec<String> = MODELS
            .iter()
            .flat_map(|entry| entry.published)
            .flat_map(|published| [published.alias, published.repository])
            .map(str::to_lowercase)
            .collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn every_row_says_what_is_known_of_the_license_of_its_code_and_of_each_repository() {
        for entry in MODELS {
            let parts: Vec<&str> = entry.licenses.iter().map(|statement| statement.part).collect();
            let known: Vec<&str> = std::iter::once("code").chain(entry.repositories()).collect();
            assert_eq!(parts, known, "{}", entry.name);
            assert!(entry.licenses.iter().all(|statement| !statement.source.is_empty()));
        }
    }

    #[test]
    fn every_family_has_one_row() {
        for entry in MODELS {
            assert_eq!(entry.family.entry().name, entry.name);
            assert_eq!(MODELS.iter().filter(|other| other.family == entry.family).count(), 1);
        }
    }

    #[test]
    fn every_example_is_a_prompt_that_its_model_takes() {
        for entry in MODELS {
            let Capabilities { prompts, .. } = entry.capabilities;
            for Task { name, example, separator, .. } in entry.tasks {
                let words = [PromptKind::Question, PromptKind::Text];
                let takes_words = prompts.iter().any(|kind| words.contains(kind));
                assert!(example.text.is_none() || takes_words, "{}: {name}", entry.name);
                let points = example.points.is_empty() || prompts.contains(&PromptKind::Points);
                let region = example.region.is_none() || prompts.contains(&PromptKind::Box);
                assert!(points && region, "{}: {name}", entry.name);
                assert_eq!(separator.is_some(), prompts.contains(&PromptKind::Question));
            }
            let is_language = matches!(entry.reader, ConfigReader::Language(_));
            assert_eq!(is_language, prompts.contains(&PromptKind::Question), "{}", entry.name);
            for ModelType { name, language_model, .. } in entry.model_types {
                assert_eq!(language_model.is_some(), is_language, "{name}");
                assert_eq!(architecture(name).is_some(), is_language, "{name}");
            }
        }
    }
}
