//! r1seg over HTTP: volumes are uploaded, prompts are run on them, and masks come back.
//!
//! How a request goes through:
//!
//! 1. `server` accepts connections, `layers` names, bounds, counts and logs requests, and `guard` lets
//!    in who may send them.
//! 2. `api` has a handler for each path. `upload` and `body` receive what is sent within limits, and
//!    `state` keeps volumes and results for their owner until they expire (`shelf`, `budget`).
//! 3. Prompts become a `job`, and wait in a fair `queue` for the one thread that owns the models, the
//!    `worker`. Requests about one volume share a pass. `cache` keeps what was encoded.
//! 4. `finish` writes the files of a result while the models go on.
//!
//! `compat` has the routes of other servers, whose plug-ins for viewers people have already: they go the
//! same way.
//!
//! Nothing here prints. Spans and events of `tracing` carry times, sizes and codes, and no text that a
//! client sent.

mod api;
mod body;
mod budget;
mod cache;
mod compat;
mod config;
mod error;
mod finish;
mod fix;
mod guard;
mod ids;
mod job;
mod keys;
mod layers;
mod metrics;
mod models;
mod patience;
mod queue;
mod reply;
mod results;
mod root;
mod run;
mod server;
mod shelf;
mod state;
mod upload;
mod volumes;
mod worker;

pub use compat::{Protocol, ViewerAxes, ViewerSessions};
pub use config::{Config, Limits};
pub use error::Error;
pub use keys::{Keys, Owner};
pub use models::Served;
pub use server::Server;
