//! The models that are served.

use r1seg::phrasing::{self, Aim};
use r1seg::{Capabilities, CheckpointSource, Model, OutputKind, PromptKind, Purpose};
use r1seg_results::report;
use serde::Serialize;
use utoipa::ToSchema;

use crate::Error;

/// A loaded model, and where it was loaded from.
#[derive(Debug, Clone)]
pub struct Served {
    /// The model.
    pub model: Model,
    /// Its checkpoint.
    pub source: CheckpointSource,
}

/// All of them, each with a name of its own.
#[derive(Debug)]
pub(crate) struct Models(Vec<Entry>);

/// A model as jobs and reports need it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) model: Model,
    pub(crate) source: CheckpointSource,
    /// As reports name it.
    pub(crate) named: report::Model,
}

impl Models {
    /// # Errors
    /// [`Error::Models`] for none at all, for two of one name, and for a model that takes no prompts.
    pub(crate) fn new(served: Vec<Served>) -> Result<Self, Error> {
        let refused = |message: String| Err(Error::Models { message });
        let mut entries: Vec<Entry> = Vec::new();
        for Served { model, source } in served {
            let id = model.name().id.clone();
            if model.capabilities().purpose() == Purpose::Retrieve {
                return refused(format!("{id} compares volumes with texts, and takes no prompts"));
            }
            if entries.iter().any(|entry| entry.id == id) {
                return refused(format!("two models are called {id}"));
            }
            let named = report::Model::of(&model, &source);
            entries.push(Entry { id, model, source, named });
        }
        match entries.is_empty() {
            true => refused("there is no model to serve".to_string()),
            false => Ok(Self(entries)),
        }
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Entry> {
        self.0.get(index)
    }

    /// The index of the model of a name.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub(crate) fn find(&self, id: &str) -> Result<usize, Error> {
        let index = self.0.iter().position(|entry| entry.id == id);
        index.ok_or(Error::NotFound { what: "model" })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }

    pub(crate) fn has_demo(&self) -> bool {
        self.0.iter().any(Entry::is_demo)
    }
}

impl Entry {
    pub(crate) fn is_demo(&self) -> bool {
        matches!(self.source, CheckpointSource::Embedded(_))
    }

    pub(crate) fn takes(&self, kind: PromptKind) -> bool {
        self.model.capabilities().takes(kind)
    }

    pub(crate) fn reply(&self) -> ModelReply {
        let entry = self.model.family().entry();
        ModelReply {
            id: self.id.clone(),
            object: "model",
            created: 0,
            owned_by: "r1seg",
            family: entry.name.to_string(),
            device: self.model.device_name(),
            dtype: self.model.dtype_name().to_string(),
            capabilities: self.model.capabilities().into(),
            examples: self.examples(),
            is_demo: self.is_demo(),
        }
    }

    /// Prompts that it was trained with.
    fn examples(&self) -> Vec<String> {
        if self.is_demo() {
            let known = [r1seg::phantom::Organ::Liver, r1seg::phantom::Organ::Spleen];
            let questions = known.iter().filter_map(|organ| organ.questions().first().cloned());
            let caption = r1seg::phantom::CAPTION_QUESTION.to_string();
            return questions.map(|q| q.to_string()).chain([caption]).collect();
        }
        let is_whole =
            |aim: Aim| matches!(aim, Aim::Segment | Aim::Describe | Aim::Ask | Aim::Text);
        let own = phrasing::of(self.model.family()).iter();
        let own = own.filter(|p| is_whole(p.aim) && !p.template.contains("{description}"));
        own.take(4).map(|phrasing| phrasing.about("liver")).collect()
    }
}

/// The models that are served.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelList {
    /// Always `list`.
    pub(crate) object: &'static str,
    pub(crate) data: Vec<ModelReply>,
}

/// A model.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Model)]
pub(crate) struct ModelReply {
    /// For the field `model` of requests.
    id: String,
    /// Always `model`.
    object: &'static str,
    /// Always 0: checkpoints do not say it.
    created: u64,
    /// Always `r1seg`.
    owned_by: &'static str,
    family: String,
    /// Such as `cpu` or `cuda:0`.
    device: String,
    /// How its weights are kept, such as `bf16`.
    dtype: String,
    capabilities: CapabilitiesReply,
    /// Prompts as in its training.
    examples: Vec<String>,
    /// Whether it is the embedded one, which knows only synthetic phantoms.
    is_demo: bool,
}

/// What a model takes and gives back.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Capabilities)]
struct CapabilitiesReply {
    /// Of `question`, `text`, `points`, `box` and `mask`.
    prompts: Vec<&'static str>,
    /// Of `text`, `mask` and `boxes`.
    outputs: Vec<&'static str>,
    /// For the field `mode` of requests, the default first.
    modes: Vec<&'static str>,
}

impl From<&Capabilities> for CapabilitiesReply {
    fn from(own: &Capabilities) -> Self {
        let prompt = |kind: &PromptKind| match kind {
            PromptKind::Question => Some("question"),
            PromptKind::Text => Some("text"),
            PromptKind::Points => Some("points"),
            PromptKind::Box => Some("box"),
            PromptKind::Mask => Some("mask"),
            _ => None,
        };
        let output = |kind: &OutputKind| match kind {
            OutputKind::Text => Some("text"),
            OutputKind::Mask => Some("mask"),
            OutputKind::Boxes => Some("boxes"),
            _ => None,
        };
        Self {
            prompts: own.prompts.iter().filter_map(prompt).collect(),
            outputs: own.outputs.iter().filter_map(output).collect(),
            modes: own.modes.iter().map(|mode| mode.as_str()).collect(),
        }
    }
}
