//! What nnInteractive's plug-ins for napari and 3D Slicer say: a session with an image in it, prompts, and
//! the part of the mask that each of them changes.
//!
//! 1. `routes` has a handler for each path. `sessions` knows who has a session and until when, and
//!    `prompts` turns what a plug-in sends into what models take.
//! 2. `image` makes a volume of an array, `target` holds the mask that the plug-in has as well, and
//!    `workspace` what was asked for, what waits to be run, and what can be taken back.
//! 3. `predict` runs prompts in the server's own queue, within the time that plug-ins wait; `answer` says
//!    what has changed, and `refusal` why nothing has, in words that the user reads.
//!
//! Nothing here knows a model by its name: `host` chooses one that takes points or boxes, and
//! `capabilities` says what it takes.

mod answer;
mod capabilities;
mod host;
mod image;
mod predict;
mod prompts;
mod refusal;
mod routes;
mod sessions;
mod settings;
mod target;
mod workspace;

pub(crate) use host::NnInteractive;
pub(crate) use routes::{PATHS, routes};
pub use settings::{ViewerAxes, ViewerSessions};
