//! r1seg over HTTP.
#![allow(dead_code)]
mod body;
mod budget;
mod cache;
mod config;
mod error;
mod finish;
mod fix;
mod ids;
mod job;
mod keys;
mod metrics;
mod models;
mod queue;
mod refine;
mod reply;
mod results;
mod root;
mod shelf;
mod upload;
mod volumes;
mod worker;

pub use config::{Config, Limits};
pub use error::Error;
pub use keys::{Keys, Owner};
pub use models::Served;
