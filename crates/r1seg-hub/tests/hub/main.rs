//! The client against a hub on this machine, which speaks the real one's API.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests too")]

mod client;
mod download;
mod faults;
mod layout;
mod offline;
mod server;
mod together;
