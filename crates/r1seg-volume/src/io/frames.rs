//! One frame of a file that holds several, read without holding the others.

use std::path::Path;

use super::source::{Source, check_size};
use super::{ReadOptions, SourceKind};
use crate::Error;
use crate::error::Detail;

/// A frame among others of the same size, which lie one behind the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    index: u64,
    count: u64,
    bytes: u64,
}

/// The number of the frame that the options choose out of `count`; `None` if they must but do not, or
/// if there is none to choose.
pub(super) fn chosen(path: &Path, count: u64, options: &ReadOptions) -> Result<Option<u64>, Error> {
    match options.frame.map(|frame| u64::try_from(frame).unwrap_or(u64::MAX)) {
        _ if count == 0 => Ok(None),
        None => Ok((count == 1).then_some(0)),
        Some(frame) if frame < count => Ok(Some(frame)),
        Some(frame) => {
            Err(Detail::FrameRange { path: path.to_owned(), frame, frames: count }.into())
        }
    }
}

impl Frame {
    /// Frame `index` of `sizes`, whose last axis counts the frames.
    ///
    /// The limit of voxels is for one frame; that of bytes is for all, since all are inflated.
    pub(super) fn new(
        path: &Path,
        kind: SourceKind,
        index: u64,
        [volume, count]: [u64; 2],
        voxel_bytes: usize,
        options: &ReadOptions,
    ) -> Result<Self, Error> {
        let of_bytes = ReadOptions { max_voxels: u64::MAX, ..options.clone() };
        check_size(path, kind, &[volume, count], voxel_bytes, &of_bytes)?;
        Ok(Self { index, count, bytes: volume * voxel_bytes as u64 })
    }

    /// Passes over the frames in front of this one, where the file is long enough for all.
    pub(super) fn skip_to(&self, source: &mut Source<'_>, kind: SourceKind) -> Result<(), Error> {
        source.expect_stored(kind, source.got().saturating_add(self.bytes * self.count))?;
        source.skip(self.bytes * self.index)
    }

    /// Passes over the frames behind this one, so that what follows them can be judged.
    pub(super) fn skip_rest(&self, source: &mut Source<'_>, kind: SourceKind) -> Result<(), Error> {
        source.skip_exactly(kind, self.bytes * (self.count - 1 - self.index))
    }
}
