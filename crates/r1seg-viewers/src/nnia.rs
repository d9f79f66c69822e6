//! nnInteractive's framing, `NNIA`.

use std::io::{Read, Write};

use crate::chunks::{self, CHUNK, Reading, take, take_many, take_shape};
use crate::{Array, ElementType, Error};

const MAGIC: [u8; 4] = *b"NNIA";
const VERSION: u8 = 1;
const ZSTD: u8 = 1;
const LZ4: u8 = 2;

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
        return Err(Error::Magic { expected: "NNIA" });
    }
    let [version, codec, axes, length] = take(source, "its header")?;
    if version != VERSION {
        return Err(Error::Version { version });
    }
    // Chunks say themselves what compressed them.
    if ![ZSTD, LZ4].contains(&codec) {
        return Err(Error::Codec { codec });
    }
    let name = take_many(source, length.into(), "the element type")?;
    let element =
        str::from_utf8(&name).ok().and_then(ElementType::from_name).ok_or(Error::Element {
            known: "bool, int8 to int64, uint8 to uint64 and float16 to float64",
        })?;
    let shape = take_shape(source, axes)?;
    let count = u32::from_le_bytes(take(source, "the number of chunks")?);
    let mut reading = Reading::new(element, shape, limit, admit)?;
    for _ in 0..count {
        reading.read_chunk(source)?;
    }
    reading.finish(source)
}

/// Writes an array.
///
/// # Errors
/// If writing fails.
pub fn write(out: &mut impl Write, array: &Array) -> Result<(), Error> {
    let element = array.element();
    let count = array.bytes().len().div_ceil(CHUNK);
    out.write_all(&MAGIC)?;
    // Names have at most seven characters, and there are few axes.
    out.write_all(&[VERSION, ZSTD, array.shape().len() as u8, element.name().len() as u8])?;
    out.write_all(element.name().as_bytes())?;
    for size in array.shape() {
        out.write_all(&(*size as i64).to_le_bytes())?;
    }
    // An array in memory has fewer than 2^32 chunks of a GiB.
    out.write_all(&(count as u32).to_le_bytes())?;
    for part in array.bytes().chunks(CHUNK) {
        chunks::write_chunk(out, element, part)?;
    }
    Ok(out.flush()?)
}
