//! The API over real connections, with the embedded demo model and small recorded ones.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test helper may fail")]

mod agents;
mod chat;
mod guard;
mod hostile;
mod lifecycle;
mod nninteractive;
mod openapi;
mod segment;
mod support;
mod turns;
mod volumes;
mod voxtell;
