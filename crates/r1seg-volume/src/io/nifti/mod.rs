//! NIfTI-1 and NIfTI-2, in a single file or as a `.hdr`/`.img` pair.

mod header;
mod pair;
mod read;
mod write;

pub(super) use header::sniff;
pub use header::{NiftiFields, NiftiVersion};
pub(super) use pair::{header_of, without_header};
pub(super) use read::{geometry, read};
pub(super) use write::{write_labels, write_mask, write_volume};
