//! Files at the edges of a program: strangers' files are read within limits, and files of our own
//! appear whole or not at all.
//!
//! | to | use |
//! |---|---|
//! | open a file that must not be a pipe or a device | [`open_regular`] |
//! | see what kind of file it is | [`begins_with`] |
//! | read a small file, however long it claims to be | [`read`] |
//! | read a JSON file, with or without a byte order mark | [`read_utf8_json`], [`utf8_json`] |
//! | hash a file, or a stream while it is read | [`sha256_of_file`], [`sha256_of`], [`HashingStream`], [`hex`] |
//! | write beside the final place | [`PartFolder`], [`part_file`] |
//! | remove what killed processes left there | [`sweep`] |
//!
//! The crate knows nothing of models.

mod parts;
mod regular;
mod sha256;

pub use parts::{PartFolder, part_file, sweep};
pub use regular::{Error, begins_with, open_regular, read, read_utf8_json, utf8_json};
pub use sha256::{HashingStream, hex, sha256_of, sha256_of_file};
