//! VoxTell's framing, `VXA2`.

use std::io::{Read, Write};

use crate::chunks::{self, CHUNK, Reading, take, take_many, take_shape};
use crate::{Array, ElementType, Error, array};

const MAGIC: [u8; 4] = *b"VXA2";

/// Reads an array that holds at most `limit` bytes, to the end of `source`.
///
/// # Errors
/// [`Error::TooLarge`] before memory is reserved; otherwise whatever is wrong with the bytes.
pub fn read(source: &mut impl Read, limit: u64) -> Result<Array, Error> {
    read_if(source, limit, |_| true)
}

/// As [`read`], if `admit` lets an array of so many bytes in.
///
/// # Errors
/// As [`read`]; [`Error::Memory`] for what is not let in.
pub fn read_if(
    source: &mut impl Read,
    limit: u64,
    admit: impl FnOnce(u64) -> bool,
) -> Result<Array, Error> {
    if take(source, "its first bytes")? != MAGIC {
        return Err(Error::Magic { expected: "VXA2" });
    }
    let [length] = take(source, "the element type")?;
    let descr = take_many(source, length.into(), "the element type")?;
    let element =
        str::from_utf8(&descr).ok().and_then(ElementType::from_descr).ok_or(Error::Element {
            known: "|b1, |u1, |i1 and the little-endian types such as <i2 and <f4",
        })?;
    let [axes] = take(source, "the shape")?;
    let shape = take_shape(source, axes)?;
    let declared = u64::from_le_bytes(take(source, "its length")?);
    let mut reading = Reading::new(element, shape, limit, admit)?;
    if declared != reading.expected() {
        return Err(Error::Total { declared, expected: reading.expected() });
    }
    while !reading.is_complete() {
        reading.read_chunk(source)?;
    }
    reading.finish(source)
}

/// Writes a whole array.
///
/// # Errors
/// If writing fails.
pub fn write(out: &mut impl Write, array: &Array) -> Result<(), Error> {
    let mut writer = Writer::new(out, array.element(), array.shape())?;
    writer.push(array.bytes())?;
    writer.finish()
}

/// Writes an array part by part, so that no more than a part of it must be in memory.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    element: ElementType,
    expected: usize,
    written: usize,
}

impl<W: Write> Writer<W> {
    /// Writes what stands before the elements.
    ///
    /// # Errors
    /// If writing fails, or `shape` has no axes, too many or an empty one.
    pub fn new(mut out: W, element: ElementType, shape: &[usize]) -> Result<Self, Error> {
        let expected = array::length(element, shape)?;
        out.write_all(&MAGIC)?;
        // Names have three characters, and there are few axes.
        out.write_all(&[element.descr().len() as u8])?;
        out.write_all(element.descr().as_bytes())?;
        out.write_all(&[shape.len() as u8])?;
        for size in shape {
            out.write_all(&(*size as u64).to_le_bytes())?;
        }
        out.write_all(&(expected as u64).to_le_bytes())?;
        Ok(Self { out, element, expected, written: 0 })
    }

    /// Writes the next elements, whole ones.
    ///
    /// # Errors
    /// If writing fails, or there are more than the shape holds.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let got = self.written.saturating_add(bytes.len());
        if self.expected < got {
            return Err(Error::Length { got, expected: self.expected });
        }
        for part in bytes.chunks(CHUNK) {
            chunks::write_chunk(&mut self.out, self.element, part)?;
        }
        self.written = got;
        Ok(())
    }

    /// Ends the array.
    ///
    /// # Errors
    /// If elements are missing, or writing fails.
    pub fn finish(mut self) -> Result<(), Error> {
        if self.written != self.expected {
            return Err(Error::Length { got: self.written, expected: self.expected });
        }
        Ok(self.out.flush()?)
    }
}
