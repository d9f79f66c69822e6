//! A file per subcommand.

pub(crate) mod bench;
pub(crate) mod demo;
pub(crate) mod infer;
pub(crate) mod inspect;
