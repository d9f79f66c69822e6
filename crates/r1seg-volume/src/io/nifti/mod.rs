//! NIfTI-1 and NIfTI-2, single file.

mod header;
mod read;
mod write;

pub(super) use header::sniff;
pub use header::{NiftiFields, NiftiVersion};
pub(super) use read::read;
pub(super) use write::{write_mask, write_volume};
