//! What both framings do alike: little-endian fields, and chunks one after the other.

use std::io::{self, Read, Write};

use crate::{Array, ElementType, Error, array, blosc2};

/// Most bytes of a chunk that is written: blosc2 counts them in an `i32`.
pub(crate) const CHUNK: usize = 1 << 30;

/// The next `N` bytes.
pub(crate) fn take<const N: usize>(
    source: &mut impl Read,
    part: &'static str,
) -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    match source.read_exact(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(Error::Truncated { part })
        }
        Err(error) => Err(error.into()),
    }
}

/// The next `count` bytes, of which no more are reserved than there are.
pub(crate) fn take_many(
    source: &mut impl Read,
    count: u64,
    part: &'static str,
) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    source.take(count).read_to_end(&mut bytes)?;
    match bytes.len() as u64 == count {
        true => Ok(bytes),
        false => Err(Error::Truncated { part }),
    }
}

/// The sizes of `axes` axes; they are signed in one framing and may not be negative.
pub(crate) fn take_shape(source: &mut impl Read, axes: u8) -> Result<Vec<usize>, Error> {
    (0..axes)
        .map(|_| {
            let size = i64::from_le_bytes(take(source, "the shape")?);
            usize::try_from(size).map_err(|_| Error::Size)
        })
        .collect()
}

/// An array that is read chunk by chunk.
pub(crate) struct Reading {
    element: ElementType,
    shape: Vec<usize>,
    bytes: Vec<u8>,
    expected: usize,
    chunks: u64,
}

impl Reading {
    /// Checks what the array will take against `limit` and with `admit`, and reserves it.
    pub(crate) fn new(
        element: ElementType,
        shape: Vec<usize>,
        limit: u64,
        admit: impl FnOnce(u64) -> bool,
    ) -> Result<Self, Error> {
        let expected = array::length(element, &shape)?;
        let declared = expected as u64;
        if limit < declared {
            return Err(Error::TooLarge { declared, limit });
        }
        if !admit(declared) {
            return Err(Error::Memory { bytes: declared });
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(expected).map_err(|_| Error::Memory { bytes: declared })?;
        Ok(Self { element, shape, bytes, expected, chunks: 0 })
    }

    pub(crate) fn expected(&self) -> u64 {
        self.expected as u64
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.bytes.len() == self.expected
    }

    /// Reads one more chunk with the two lengths before it.
    pub(crate) fn read_chunk(&mut self, source: &mut impl Read) -> Result<(), Error> {
        const PART: &str = "a chunk";
        self.chunks += 1;
        let number = self.chunks;
        let fault = |fault| Error::Chunk { number, fault };
        let length = u64::from_le_bytes(take(source, PART)?);
        let compressed = u64::from_le_bytes(take(source, PART)?);
        let left = self.expected - self.bytes.len();
        let Some(length) = usize::try_from(length).ok().filter(|n| (1..=left).contains(n)) else {
            return Err(fault(crate::ChunkFault::Declared));
        };
        // What does not shrink is stored.
        if ((length + blosc2::HEADER) as u64) < compressed {
            return Err(fault(crate::ChunkFault::Sizes));
        }
        let chunk = take_many(source, compressed, PART)?;
        blosc2::decode(&chunk, length, &mut self.bytes).map_err(fault)
    }

    /// The array, once all of it is there and nothing follows.
    pub(crate) fn finish(self, source: &mut impl Read) -> Result<Array, Error> {
        if !self.is_complete() {
            return Err(Error::Length { got: self.bytes.len(), expected: self.expected });
        }
        if source.read(&mut [0])? != 0 {
            return Err(Error::Trailing);
        }
        Array::new(self.element, self.shape, self.bytes)
    }
}

/// Writes `bytes` as one chunk with the two lengths before it.
pub(crate) fn write_chunk(
    out: &mut impl Write,
    element: ElementType,
    bytes: &[u8],
) -> Result<(), Error> {
    let chunk = blosc2::encode(bytes, element.size());
    out.write_all(&(bytes.len() as u64).to_le_bytes())?;
    out.write_all(&(chunk.len() as u64).to_le_bytes())?;
    Ok(out.write_all(&chunk)?)
}
