//! A reader for the protobuf wire format, just large enough for `sentencepiece_model.proto`.
//!
//! It reads from a slice and allocates nothing, so that a hostile file can cost no more than its
//! own length.

use crate::Error;
use crate::error::Detail;

/// The value of one field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed32(u32),
    Fixed64(u64),
    Bytes { at: usize, bytes: &'a [u8] },
}

/// The fields of one message.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    bytes: &'a [u8],
    /// Offset of `bytes` in the file, for error messages.
    at: usize,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// The next field's number and value, `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, Error> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let len = self.varint()?;
                let len = usize::try_from(len).unwrap_or(usize::MAX);
                let at = self.at;
                Value::Bytes { at, bytes: self.take(len)? }
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(self.error("unknown wire type")),
        };
        Ok(Some((key >> 3, value)))
    }

    fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.error("varint of more than ten bytes"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let Some((taken, rest)) = self.bytes.split_at_checked(len) else {
            return Err(self.error("the file ends within a field"));
        };
        (self.bytes, self.at) = (rest, self.at + len);
        Ok(taken)
    }

    pub(crate) fn error(&self, message: &'static str) -> Error {
        Error::from(Detail::SentencePiece { offset: self.at, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<(u64, Value<'_>)>, Error> {
        let mut fields = Fields::new(bytes, 0);
        let mut all = Vec::new();
        while let Some(field) = fields.next()? {
            all.push(field);
        }
        Ok(all)
    }

    #[test]
    fn every_wire_type_is_read() -> Result<(), Error> {
        let bytes = b"\x08\x96\x01\x12\x02hi\x1d\x00\x00\x80\x3f\x21\x01\0\0\0\0\0\0\0";
        assert_eq!(
            read(bytes)?,
            [
                (1, Value::Varint(150)),
                (2, Value::Bytes { at: 5, bytes: b"hi" }),
                (3, Value::Fixed32(1.0f32.to_bits())),
                (4, Value::Fixed64(1)),
            ]
        );
        Ok(())
    }

    #[test]
    fn broken_messages_are_errors_with_an_offset() {
        for (bytes, offset) in [
            (&b"\x08"[..], 1),
            (b"\x08\x80", 2),
            (b"\x12\x05hi", 2),
            (b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11),
            (b"\x0b", 1),
            (b"\x1d\0\0", 1),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 10),
        ] {
            assert!(
                matches!(read(bytes).unwrap_err().into_detail(), Detail::SentencePiece { offset: at, .. } if at == offset),
                "{bytes:?}: {:?}",
                read(bytes)
            );
        }
    }
}
