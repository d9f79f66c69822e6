//! Protocols that plug-ins of viewers speak: routes and the wording of errors, beside r1seg's own API, on the
//! same volumes, queue and models.
//!
//! A protocol is a module with the same few parts:
//!
//! - a type that keeps what the protocol needs between requests, made with the model that it serves, with
//!   `capabilities` and `sweep`;
//! - `routes`, without those that all protocols have;
//! - `PATHS`, what its paths begin with: errors on them are worded for viewers (`failure`).
//!
//! `array` receives the arrays that they send.

mod array;
mod canonical;
mod failure;
mod nninteractive;
mod voxtell;

use std::fmt;
use std::str::FromStr;

use axum::extract::State;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};

use crate::guard::authorize;
use crate::metrics::Metrics;
use crate::models::Models;
use crate::state::App;
use crate::{Config, Error};

pub(crate) use failure::failed;
pub use nninteractive::{ViewerAxes, ViewerSessions};

/// Where viewers check whether a server is there. The same for all protocols, and without a key.
pub(crate) const HEALTH: &str = "/healthz";
/// Where viewers read what a server can do. Each protocol reads keys of its own there.
const CAPABILITIES: &str = "/capabilities";

/// A server that plug-ins of viewers know how to talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// VoxTell's: texts about whole volumes.
    VoxTell,
    /// nnInteractive's: points and boxes, one after the other.
    NnInteractive,
}

impl Protocol {
    /// Where both of the servers listen by default.
    pub const PORT: u16 = 1527;
    /// All of them.
    pub const ALL: [Self; 2] = [Self::VoxTell, Self::NnInteractive];

    /// Its name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::VoxTell => "voxtell",
            Self::NnInteractive => "nninteractive",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Protocol {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let known = Self::ALL.into_iter().find(|own| own.name() == text);
        known.ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|own| own.name()).collect();
            Error::invalid("protocol", format!("{} are known", names.join(" and ")))
        })
    }
}

/// What is kept for plug-ins of viewers between their requests.
#[derive(Debug)]
pub(crate) struct Compat {
    pub(crate) voxtell: Option<voxtell::VoxTell>,
    pub(crate) nninteractive: Option<nninteractive::NnInteractive>,
}

impl Compat {
    /// # Errors
    /// [`Error::Models`] where no model can do what a protocol asks for; [`Error::Setting`].
    pub(crate) fn new(config: &Config, models: &Models, metrics: &Metrics) -> Result<Self, Error> {
        let is_on = |protocol| config.viewers.contains(&protocol);
        let voxtell = is_on(Protocol::VoxTell).then(|| voxtell::VoxTell::new(models));
        let nninteractive = is_on(Protocol::NnInteractive)
            .then(|| nninteractive::NnInteractive::new(config, models, metrics));
        Ok(Self { voxtell: voxtell.transpose()?, nninteractive: nninteractive.transpose()? })
    }

    /// Whether a path is one of theirs, of a request that may or may not have a handler.
    pub(crate) fn owns(&self, path: &str) -> bool {
        let begins = |paths: &[&str]| {
            paths.iter().any(|own| {
                let rest = path.strip_prefix(own);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        self.is_on() && begins(&[HEALTH, CAPABILITIES])
            || self.voxtell.is_some() && begins(&voxtell::PATHS)
            || self.nninteractive.is_some() && begins(&nninteractive::PATHS)
    }

    /// Removes whatever has expired; blocks.
    pub(crate) fn sweep(&self) {
        if let Some(voxtell) = &self.voxtell {
            voxtell.sweep();
        }
        if let Some(nninteractive) = &self.nninteractive {
            nninteractive.sweep();
        }
    }

    fn is_on(&self) -> bool {
        self.voxtell.is_some() || self.nninteractive.is_some()
    }
}

/// The paths of all protocols that are spoken.
pub(crate) fn router(app: &App) -> Router {
    let compat = &app.compat;
    if !compat.is_on() {
        return Router::new();
    }
    let mut limited = Router::new().route(CAPABILITIES, get(capabilities));
    if compat.voxtell.is_some() {
        limited = limited.merge(voxtell::routes());
    }
    if compat.nninteractive.is_some() {
        limited = limited.merge(nninteractive::routes());
    }
    let limited = limited.route_layer(from_fn_with_state(app.clone(), authorize));
    Router::new().route(HEALTH, get(health)).merge(limited).with_state(app.clone())
}

async fn health() -> Json<Value> {
    Json(json!({"ok": true}))
}

async fn capabilities(State(app): State<App>) -> Json<Value> {
    let mut all = Map::new();
    if let Some(voxtell) = &app.compat.voxtell {
        voxtell.capabilities(&app, &mut all);
    }
    if let Some(nninteractive) = &app.compat.nninteractive {
        nninteractive.capabilities(&app, &mut all);
    }
    Json(Value::Object(all))
}
