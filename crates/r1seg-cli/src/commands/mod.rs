//! A file per subcommand.

pub(crate) mod bench;
pub(crate) mod cache;
pub(crate) mod convert;
pub(crate) mod demo;
pub(crate) mod download;
pub(crate) mod infer;
pub(crate) mod inspect;
pub(crate) mod retrieval;
pub(crate) mod verify;
