//! Bytes of a file, inflated if they are gzip, with the file named in every error.

use std::io::{self, BufRead, BufReader, Cursor, ErrorKind, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;

use super::scalar::{Decoded, Decoder};
use super::{ReadOptions, SourceKind};
use crate::error::Detail;
use crate::error::join;
use crate::{Error, Voxels};

const BUFFER: usize = 1 << 20;
/// Deflate cannot shrink data further than this (zlib technical details: 1032:1).
const DEFLATE_LIMIT: u64 = 1032;

pub(super) struct Source<'a> {
    stream: Stream<'a>,
    path: PathBuf,
    kind: Option<SourceKind>,
    /// Length of the stored bytes, compressed or not, where it is known.
    stored: Option<u64>,
    /// Bytes handed out so far, after inflation.
    got: u64,
    /// Bytes looked at by [`Source::peek`]; those from `peeked_at` on are still to be handed out.
    peeked: Vec<u8>,
    peeked_at: usize,
    /// The compressed data broke off.
    broken_off: bool,
    /// The stream comes out of an archive.
    packed: bool,
}

enum Stream<'a> {
    Plain(Box<dyn BufRead + 'a>),
    Gzip(Box<GzipMembers<Box<dyn BufRead + 'a>>>),
}

/// What follows the last byte that was needed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing; a gzip checksum has been verified.
    Nothing,
    /// More data: more than the header declares.
    MoreData,
    /// Bytes behind the last gzip member.
    Garbage,
}

impl<'a> Source<'a> {
    pub(super) fn new(
        reader: impl Read + 'a,
        path: &Path,
        stored: Option<u64>,
    ) -> Result<Self, Error> {
        let mut reader: Box<dyn BufRead + 'a> = Box::new(BufReader::with_capacity(1 << 16, reader));
        let start = reader.fill_buf().map_err(|source| {
            Error::from(Detail::ReadFailed { path: path.to_owned(), got: 0, source })
        })?;
        if start.is_empty() {
            return Err(Detail::EmptyFile { path: path.to_owned() }.into());
        }
        let stream = if start.starts_with(&[0x1f, 0x8b]) {
            Stream::Gzip(Box::new(GzipMembers::new(reader)))
        } else {
            Stream::Plain(reader)
        };
        Ok(Self::of(stream, path, stored))
    }

    /// Bare voxels, which are taken as they are even if their first bytes are those of gzip.
    pub(super) fn plain(reader: impl Read + 'a, path: &Path, stored: Option<u64>) -> Self {
        let reader = Box::new(BufReader::with_capacity(1 << 16, reader));
        Self::of(Stream::Plain(reader), path, stored)
    }

    /// What a reader has inflated already; that it ends too early or is corrupt is its data's fault.
    pub(super) fn inflated(reader: impl Read + 'a, path: &Path) -> Self {
        Self { packed: true, ..Self::plain(reader, path, None) }
    }

    fn of(stream: Stream<'a>, path: &Path, stored: Option<u64>) -> Self {
        Self {
            stream,
            path: path.to_owned(),
            kind: None,
            stored,
            got: 0,
            peeked: Vec::new(),
            peeked_at: 0,
            broken_off: false,
            packed: false,
        }
    }

    /// Everything that has not been handed out yet, inflated.
    pub(super) fn inflate(mut self) -> Self {
        let peeked = Cursor::new(self.peeked.split_off(self.peeked_at));
        let rest: Box<dyn BufRead + 'a> = match self.stream {
            Stream::Plain(reader) => Box::new(peeked.chain(reader)),
            Stream::Gzip(members) => Box::new(peeked.chain(BufReader::new(members))),
        };
        let stream = Stream::Gzip(Box::new(GzipMembers::new(rest)));
        Self { kind: self.kind, ..Self::of(stream, &self.path, self.stored) }
    }

    /// Whether it is a file, which can have others beside it.
    pub(super) fn is_file(&self) -> bool {
        self.stored.is_some()
    }

    /// Bytes that are still to be handed out, where a plain file's length tells.
    pub(super) fn left(&self) -> Option<u64> {
        self.stored.filter(|_| !self.compressed()).map(|stored| stored.saturating_sub(self.got))
    }

    pub(super) fn path(&self) -> PathBuf {
        self.path.clone()
    }

    pub(super) fn set_kind(&mut self, kind: SourceKind) {
        self.kind = Some(kind);
    }

    /// Bytes handed out so far.
    pub(super) fn got(&self) -> u64 {
        self.got
    }

    fn compressed(&self) -> bool {
        self.packed || matches!(self.stream, Stream::Gzip(_))
    }

    /// The first bytes, at most `count`, which stay to be read. To be called before any reading.
    pub(super) fn peek(&mut self, count: usize) -> Result<&[u8], Error> {
        let mut bytes = vec![0; count];
        let filled = self.fill_from_stream(&mut bytes)?;
        bytes.truncate(filled);
        self.peeked = bytes;
        Ok(&self.peeked)
    }

    /// Fills `buffer` as far as the stream goes; less than its length means the stream ended,
    /// cleanly or in the middle of compressed data.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let peeked = &self.peeked[self.peeked_at..];
        let first = peeked.len().min(buffer.len());
        buffer[..first].copy_from_slice(&peeked[..first]);
        self.peeked_at += first;
        let filled = first + self.fill_from_stream(&mut buffer[first..])?;
        self.got += filled as u64;
        Ok(filled)
    }

    fn fill_from_stream(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let mut filled = 0;
        while filled < buffer.len() && !self.broken_off {
            let result = match &mut self.stream {
                Stream::Plain(reader) => reader.read(&mut buffer[filled..]),
                Stream::Gzip(members) => members.read(&mut buffer[filled..]),
            };
            match result {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::UnexpectedEof && self.compressed() => {
                    self.broken_off = true;
                }
                Err(e) => return Err(self.failure(e)),
            }
        }
        Ok(filled)
    }

    fn failure(&self, source: io::Error) -> Error {
        let (path, got) = (self.path(), self.got);
        // flate2 reports bad data with these kinds; other kinds come from the storage.
        let corrupt = matches!(source.kind(), ErrorKind::InvalidInput | ErrorKind::InvalidData);
        if corrupt && self.compressed() {
            return Error::from(Detail::CorruptGzip {
                path,
                kind: self.kind,
                got,
                reason: source.to_string(),
            });
        }
        Error::from(Detail::ReadFailed { path, got, source })
    }

    /// The error of a stream that ended before its first byte.
    pub(super) fn no_data(&self) -> Error {
        let reason = "there is no data in it".to_owned();
        Error::from(Detail::CorruptGzip { path: self.path(), kind: None, got: 0, reason })
    }

    /// Passes over `count` bytes, or as many as there are.
    pub(super) fn skip(&mut self, count: u64) -> Result<(), Error> {
        let mut scratch = [0; 1 << 14];
        let mut left = count;
        while 0 < left {
            let part = usize::try_from(left).unwrap_or(usize::MAX).min(scratch.len());
            if self.fill(&mut scratch[..part])? < part {
                break;
            }
            left -= part as u64;
        }
        Ok(())
    }

    /// All bytes, if there are not more than `most`; memory grows with what is really there.
    pub(super) fn all(&mut self, most: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        loop {
            let filled = bytes.len();
            if most < filled as u64 {
                return Err(Detail::StreamTooLong { path: self.path(), most }.into());
            }
            let no_memory =
                |_| Error::from(Detail::OutOfMemory { path: self.path(), bytes: filled as u64 });
            bytes.try_reserve(BUFFER).map_err(no_memory)?;
            bytes.resize(filled + BUFFER, 0);
            let got = self.fill(&mut bytes[filled..])?;
            bytes.truncate(filled + got);
            if got < BUFFER {
                return Ok(bytes);
            }
        }
    }

    /// Passes over `count` bytes, all of which the header promises.
    pub(super) fn skip_exactly(&mut self, kind: SourceKind, count: u64) -> Result<(), Error> {
        let promised = self.got.saturating_add(count);
        self.skip(count)?;
        if self.got < promised {
            let (path, compressed, got) = (self.path(), self.compressed(), self.got);
            return Err(Detail::EndsEarly { path, kind, compressed, promised, got }.into());
        }
        Ok(())
    }

    /// Checks a plain file's length before anything is allocated for its voxels.
    pub(super) fn expect_stored(&self, kind: SourceKind, promised: u64) -> Result<(), Error> {
        match self.stored {
            Some(got) if !self.compressed() && got < promised => {
                Err(Detail::EndsEarly { path: self.path(), kind, compressed: false, promised, got }
                    .into())
            }
            _ => Ok(()),
        }
    }

    /// Reads `count` voxels; memory grows with the data that is really there.
    pub(super) fn voxels(
        &mut self,
        kind: SourceKind,
        count: usize,
        decoder: &Decoder,
    ) -> Result<Voxels, Error> {
        let size = decoder.scalar.size();
        let bytes = count as u64 * size as u64;
        let promised = self.got + bytes;
        self.expect_stored(kind, promised)?;

        let bound = match self.stored {
            Some(stored) if self.compressed() => stored.saturating_mul(DEFLATE_LIMIT),
            Some(stored) => stored,
            None => BUFFER as u64,
        };
        let plausible = count.min(usize::try_from(bound / size as u64 + 1).unwrap_or(count));
        let mut voxels = Decoded::new(decoder.scalar);
        let no_memory =
            |path: PathBuf| Error::from(Detail::OutOfMemory { path, bytes: count as u64 * 4 });
        voxels.reserve(plausible).map_err(|_| no_memory(self.path()))?;

        let mut buffer = vec![0; BUFFER];
        let mut left = count;
        while 0 < left {
            let part = (left * size).min(BUFFER - BUFFER % size);
            let got = self.fill(&mut buffer[..part])?;
            if got < part {
                let compressed = self.compressed();
                let (path, got) = (self.path(), self.got);
                return Err(Detail::EndsEarly { path, kind, compressed, promised, got }.into());
            }
            left -= part / size;
            // Within `plausible` there is room; behind it, a vector grows by its own rule.
            voxels
                .push(decoder, &buffer[..part], plausible.saturating_sub(count - left))
                .map_err(|_| no_memory(self.path()))?;
        }
        Ok(voxels.into_voxels(decoder))
    }

    /// Looks behind the last needed byte, which also makes gzip check its checksum.
    pub(super) fn rest(&mut self) -> Result<Rest, Error> {
        let mut byte = [0];
        if 0 < self.fill(&mut byte)? {
            return Ok(Rest::MoreData);
        }
        if self.broken_off {
            let reason = "the checksum at its end is missing".to_owned();
            let (path, kind, got) = (self.path(), self.kind, self.got);
            return Err(Detail::CorruptGzip { path, kind, got, reason }.into());
        }
        Ok(match &self.stream {
            Stream::Gzip(members) if members.garbage => Rest::Garbage,
            _ => Rest::Nothing,
        })
    }
}

/// All members of a gzip file; flate2's own multi-member reader makes garbage behind them an error.
struct GzipMembers<R> {
    member: Option<GzDecoder<R>>,
    garbage: bool,
}

impl<R: BufRead> GzipMembers<R> {
    fn new(reader: R) -> Self {
        Self { member: Some(GzDecoder::new(reader)), garbage: false }
    }
}

impl<R: BufRead> Read for GzipMembers<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(mut member) = self.member.take() {
            let result = member.read(buffer);
            if !matches!(result, Ok(0)) || buffer.is_empty() {
                self.member = Some(member);
                return result;
            }
            let mut reader = member.into_inner();
            let next = reader.fill_buf()?;
            // One byte alone at the end of the buffer is given the benefit of the doubt.
            if next.starts_with(&[0x1f, 0x8b]) || next == [0x1f] {
                self.member = Some(GzDecoder::new(reader));
            } else {
                self.garbage = !next.is_empty();
            }
        }
        Ok(0)
    }
}

/// Checks sizes against the options with checked arithmetic, before anything is allocated.
///
/// `sizes` are all axes in file order; returns their product.
pub(super) fn check_size(
    path: &Path,
    kind: SourceKind,
    sizes: &[u64],
    voxel_bytes: usize,
    options: &ReadOptions,
) -> Result<usize, Error> {
    let voxels = sizes.iter().fold(1_u128, |n, size| n.saturating_mul(u128::from(*size)));
    let bytes = voxels.saturating_mul(voxel_bytes as u128);
    let too_large = || {
        Error::from(Detail::TooLarge {
            path: path.to_owned(),
            kind,
            shape: join(sizes),
            voxels,
            bytes,
            max_voxels: options.max_voxels,
            max_bytes: options.max_bytes,
        })
    };
    if u128::from(options.max_voxels) < voxels || u128::from(options.max_bytes) < bytes {
        return Err(too_large());
    }
    usize::try_from(voxels).map_err(|_| too_large())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn all_gzip_members_are_read() {
        let bytes = [gzip(b"abc"), gzip(b""), gzip(b"def")].concat();
        let mut source = Source::new(bytes.as_slice(), Path::new("x"), None).unwrap();
        let mut out = [0; 8];
        assert_eq!(source.fill(&mut out).unwrap(), 6);
        assert_eq!(&out[..6], b"abcdef");
        assert_eq!(source.rest().unwrap(), Rest::Nothing);
    }

    #[test]
    fn bytes_behind_the_last_gzip_member_are_garbage() {
        let bytes = [gzip(b"abc"), vec![0; 9]].concat();
        let mut source = Source::new(bytes.as_slice(), Path::new("x"), None).unwrap();
        let mut out = [0; 3];
        assert_eq!(source.fill(&mut out).unwrap(), 3);
        assert_eq!(source.rest().unwrap(), Rest::Garbage);
    }

    #[test]
    fn sizes_are_multiplied_without_wrapping() {
        let options = ReadOptions::default();
        let sizes = [u64::MAX; 7];
        let error =
            check_size(Path::new("x"), SourceKind::Nifti2, &sizes, 8, &options).unwrap_err();
        assert_eq!(error.code(), "R-IN-07");
        let fine = check_size(Path::new("x"), SourceKind::Nifti2, &[512, 512, 300], 2, &options);
        assert_eq!(fine.unwrap(), 512 * 512 * 300);
    }
}
