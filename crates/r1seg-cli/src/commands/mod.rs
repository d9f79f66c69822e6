//! A file per subcommand.

pub(crate) mod batch;
pub(crate) mod bench;
#[cfg(feature = "hub")]
pub(crate) mod cache;
pub(crate) mod chat;
pub(crate) mod compare;
pub(crate) mod completions;
pub(crate) mod convert;
pub(crate) mod demo;
pub(crate) mod doctor;
#[cfg(feature = "hub")]
pub(crate) mod download;
pub(crate) mod eval;
pub(crate) mod infer;
pub(crate) mod inspect;
pub(crate) mod man;
pub(crate) mod mcp;
pub(crate) mod models;
pub(crate) mod prompts;
pub(crate) mod reproduce;
pub(crate) mod retrieval;
pub(crate) mod segment;
pub(crate) mod serve;
pub(crate) mod verify;
