//! The models that are served.

use std::sync::{Mutex, PoisonError};

use r1seg::registry::Family;
use r1seg::{
    Capabilities, CheckpointSource, ErrorKind, FoundModel, LoadOptions, ModelConfig, Purpose, load,
};
use r1seg_results::report::Model as Named;

use crate::{Error, results};

/// The models that are served, in the order in which they were named.
#[derive(Debug)]
pub(super) struct ServedModels(Vec<ServedModel>);

/// A model that is served.
#[derive(Debug)]
pub(super) struct ServedModel {
    pub(super) id: String,
    pub(super) source: CheckpointSource,
    pub(super) family: Family,
    loaded: Mutex<Option<Loaded>>,
}

/// A model in memory.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    pub(super) model: r1seg::Model,
    /// As reports have it.
    pub(super) named: Named,
}

impl ServedModels {
    /// Reads the configuration of each of them.
    pub(super) fn new(found: Vec<FoundModel>) -> Result<Self, Error> {
        let mut models: Vec<ServedModel> = Vec::with_capacity(found.len());
        for FoundModel { checkpoint, name, .. } in found {
            if models.iter().any(|model| model.id == name.id) {
                return Err(Error::SameName { name: name.id });
            }
            let family = family_of(&checkpoint)?;
            if family.capabilities().purpose() == Purpose::Retrieve {
                return Err(Error::arguments(
                    format!("{} compares volumes with texts, and no tool does that", name.id),
                    "serve a model that answers questions or segments",
                ));
            }
            let loaded = Mutex::default();
            models.push(ServedModel { id: name.id, source: checkpoint, family, loaded });
        }
        match models.is_empty() {
            true => Err(Error::arguments("no model was named", "name one to serve, or several")),
            false => Ok(Self(models)),
        }
    }

    /// All of them, as a client reads it.
    pub(super) fn listed(&self) -> Vec<results::Model> {
        let listed = |model: &ServedModel| results::Model {
            loaded: model.get().is_some(),
            is_demo: matches!(model.source, CheckpointSource::Embedded(_)),
            ..results::Model::of(&model.id, model.family, model.capabilities())
        };
        self.0.iter().map(listed).collect()
    }

    /// The model of this id, or the first that can do what is wanted, with its index.
    pub(super) fn choose(
        &self,
        id: Option<&str>,
        what: &'static str,
        can: impl Fn(&ServedModel) -> bool,
    ) -> Result<(usize, &ServedModel), Error> {
        let mut models = self.0.iter().enumerate();
        let Some(id) = id else {
            let no_model = || Error::NoSuchModel { what, known: self.known() };
            return models.find(|(_, model)| can(model)).ok_or_else(no_model);
        };
        let unknown = || Error::UnknownModel { name: id.to_string(), known: self.known() };
        models.find(|(_, model)| model.id == id).ok_or_else(unknown)
    }

    /// Ids and families, in words.
    fn known(&self) -> String {
        let known = |model: &ServedModel| {
            let takes =
                results::Model::of("", model.family, model.capabilities()).prompts.join(", ");
            format!("{} ({}, takes {takes})", model.id, model.family.name())
        };
        self.0.iter().map(known).collect::<Vec<_>>().join("; ")
    }

    /// The model of this index in memory. Where there is not enough for it, the others go first; `free`
    /// lets go of what keeps them.
    pub(super) fn load(
        &self,
        index: usize,
        options: &dyn Fn() -> LoadOptions,
        free: &dyn Fn(),
    ) -> Result<Loaded, Error> {
        let Some(served) = self.0.get(index) else { return Err(Error::Fault) };
        if let Some(loaded) = served.get() {
            return Ok(loaded);
        }
        let loaded = match load(&served.source, &options()) {
            Err(error) if error.kind() == ErrorKind::Resources && self.unload() => {
                free();
                load(&served.source, &options())?
            }
            loaded => loaded?,
        };
        let named = Named::of(&loaded, &served.source);
        let loaded = Loaded { model: loaded, named };
        *served.slot() = Some(loaded.clone());
        Ok(loaded)
    }

    /// Lets all models go. Whether there was one.
    fn unload(&self) -> bool {
        // Not any(): all of them are to go.
        self.0.iter().filter(|model| model.slot().take().is_some()).count() > 0
    }
}

impl ServedModel {
    /// What it takes and gives back.
    pub(super) fn capabilities(&self) -> &'static Capabilities {
        self.family.capabilities()
    }

    fn get(&self) -> Option<Loaded> {
        self.slot().clone()
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Loaded>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which of the models a checkpoint is.
fn family_of(source: &CheckpointSource) -> Result<Family, Error> {
    match ModelConfig::read(source) {
        Ok(config) => Ok(config.family),
        Err(r1seg::Error::OtherFamily { family, .. }) => Ok(family),
        Err(error) => Err(error.into()),
    }
}
