//! VoxTell's protocol: texts about whole volumes, a mask for each.
//!
//! `images` receives volumes and gives label maps back on the grid of their files. `jobs` runs prompts about
//! one; `events` tells how far a job is, and `masks` what it found.

mod events;
mod images;
mod jobs;
mod masks;

use axum::Router;
use axum::routing::{get, post};
use prometheus_client::metrics::gauge::Gauge;
use r1seg::{Class, ClassStatus, PromptKind};
use serde_json::{Map, Value, json};

use crate::Error;
use crate::models::{Entry, Models};
use crate::shelf::Shelf;
use crate::state::{App, State};
use jobs::ViewerJob;

/// What its paths begin with.
pub(super) const PATHS: [&str; 2] = ["/images", "/jobs"];
/// Jobs that are kept until they expire; each is some words and a result on the disk.
const MOST_JOBS: usize = 1024;

/// What is kept for jobs.
#[derive(Debug)]
pub(crate) struct VoxTell {
    /// Index of the model.
    model: usize,
    jobs: Shelf<ViewerJob>,
}

impl VoxTell {
    /// With the first model that takes words.
    ///
    /// # Errors
    /// [`Error::Models`] where none does.
    pub(super) fn new(models: &Models) -> Result<Self, Error> {
        let model = models.iter().position(takes_words);
        let message = "VoxTell's plug-ins send texts, and no model that is served takes any";
        let model = model.ok_or_else(|| Error::Models { message: message.to_string() })?;
        Ok(Self { model, jobs: Shelf::new(&Gauge::default()) })
    }

    /// Adds its keys.
    pub(super) fn capabilities(&self, app: &State, all: &mut Map<String, Value>) {
        let Some(entry) = app.models.get(self.model) else { return };
        // Names that jobs may have, where a model has no others.
        let is_known = |class: &&Class| class.status != ClassStatus::Unsupported;
        let classes = entry.model.capabilities().classes.map_or(&[][..], |table| table.classes());
        let words: Vec<&str> = classes.iter().filter(is_known).map(|class| class.name).collect();
        all.insert("model".to_string(), json!(entry.id));
        all.insert("patch_size".to_string(), json!(entry.model.input_shape()));
        all.insert("available_embeddings".to_string(), json!(words));
    }

    /// Removes jobs whose time is over.
    pub(super) fn sweep(&self) {
        self.jobs.take_expired();
    }
}

fn takes_words(entry: &Entry) -> bool {
    [PromptKind::Question, PromptKind::Text].iter().any(|kind| entry.takes(*kind))
}

/// Its paths.
pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/images", post(images::upload))
        .route("/images/{id}/export", post(images::export))
        .route("/jobs", post(jobs::begin))
        .route("/jobs/{id}/events", get(events::follow))
        .route("/jobs/{id}/result", get(masks::result))
        .route("/jobs/{id}/cancel", post(jobs::cancel))
}

/// What is kept, where there are paths.
fn kept(app: &State) -> Result<&VoxTell, Error> {
    app.compat.voxtell.as_ref().ok_or(Error::NotFound { what: "path" })
}
