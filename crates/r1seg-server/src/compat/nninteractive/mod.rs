//! nnInteractive's protocol: sessions of points and boxes about a volume.

use axum::Router;
use r1seg::PromptKind;
use serde_json::{Map, Value};

use crate::models::Models;
use crate::state::{App, State};
use crate::{Config, Error};

/// What its paths begin with.
pub(super) const PATHS: [&str; 0] = [];

/// What is kept for sessions.
#[derive(Debug)]
pub(crate) struct NnInteractive {
    /// Index of the model.
    model: usize,
}

impl NnInteractive {
    /// With the first model that takes points.
    ///
    /// # Errors
    /// [`Error::Models`] where none does.
    pub(super) fn new(_config: &Config, models: &Models) -> Result<Self, Error> {
        let model = models.iter().position(|entry| entry.takes(PromptKind::Points));
        let message = "nnInteractive's plug-ins send points, and no model that is served takes any";
        let model = model.ok_or_else(|| Error::Models { message: message.to_string() })?;
        Ok(Self { model })
    }

    /// Adds its keys.
    pub(super) fn capabilities(&self, _app: &State, _all: &mut Map<String, Value>) {
        let _ = self.model;
    }

    /// Ends sessions whose time is over.
    pub(super) fn sweep(&self) {}
}

/// Its paths.
pub(super) fn routes() -> Router<App> {
    Router::new()
}
