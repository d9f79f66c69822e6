//! A position in the bytes of a header. Nothing is taken that is not there.

use super::{Error, Value, ValueType};

/// The deepest list in a list: no field of llama.cpp has one at all.
const MAX_DEPTH: usize = 4;

pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn at(&self) -> u64 {
        self.at as u64
    }

    pub(crate) fn left(&self) -> u64 {
        self.bytes.len().saturating_sub(self.at) as u64
    }

    pub(crate) fn damaged(&self, what: impl Into<String>) -> Error {
        Error::Damaged { at: self.at(), what: what.into() }
    }

    pub(crate) fn take(&mut self, length: u64) -> Result<&'a [u8], Error> {
        let early = || Error::EndsEarly { at: self.at(), needed: length, left: self.left() };
        let end = usize::try_from(length).ok().and_then(|length| self.at.checked_add(length));
        let end = end.ok_or_else(early)?;
        let taken = self.bytes.get(self.at..end).ok_or_else(early)?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let taken = self.take(N as u64)?;
        taken.try_into().map_err(|_| self.damaged("a number is cut off"))
    }

    pub(crate) fn bytes4(&mut self) -> Result<[u8; 4], Error> {
        self.array()
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_le_bytes)
    }

    fn bool(&mut self) -> Result<bool, Error> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(self.damaged(format!("a bool is {other}"))),
        }
    }

    pub(crate) fn string(&mut self) -> Result<&'a str, Error> {
        let length = self.u64()?;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|_| self.damaged("a string is not UTF-8"))
    }

    pub(crate) fn value_type(&mut self) -> Result<ValueType, Error> {
        let number = self.u32()?;
        ValueType::from_number(number)
            .ok_or_else(|| self.damaged(format!("there is no value type {number}")))
    }

    pub(crate) fn value(&mut self, value_type: ValueType) -> Result<Value, Error> {
        Ok(match value_type {
            ValueType::U8 => Value::U8(self.array().map(u8::from_le_bytes)?),
            ValueType::I8 => Value::I8(self.array().map(i8::from_le_bytes)?),
            ValueType::U16 => Value::U16(self.array().map(u16::from_le_bytes)?),
            ValueType::I16 => Value::I16(self.array().map(i16::from_le_bytes)?),
            ValueType::U32 => Value::U32(self.u32()?),
            ValueType::I32 => Value::I32(self.array().map(i32::from_le_bytes)?),
            ValueType::F32 => Value::F32(self.array().map(f32::from_le_bytes)?),
            ValueType::Bool => Value::Bool(self.bool()?),
            ValueType::String => Value::String(self.string()?.to_owned()),
            ValueType::Array => {
                let of = self.value_type()?;
                let len = self.u64()?;
                let start = self.at;
                self.skip(of, len, 1)?;
                let bytes = self.bytes.get(start..self.at).unwrap_or_default().to_vec();
                Value::Array { of, len, bytes }
            }
            ValueType::U64 => Value::U64(self.u64()?),
            ValueType::I64 => Value::I64(self.array().map(i64::from_le_bytes)?),
            ValueType::F64 => Value::F64(self.array().map(f64::from_le_bytes)?),
        })
    }

    /// Passes over the elements of a list. Each takes at least one byte of the file, so that a
    /// claimed length costs no more than the file.
    fn skip(&mut self, of: ValueType, len: u64, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(self.damaged(format!("lists are more than {MAX_DEPTH} deep")));
        }
        if let Some(size) = of.size() {
            return self.take(len.saturating_mul(size)).map(|_| ());
        }
        for _ in 0..len {
            if of == ValueType::Array {
                let of = self.value_type()?;
                let len = self.u64()?;
                self.skip(of, len, depth + 1)?;
            } else {
                let length = self.u64()?;
                self.take(length)?;
            }
        }
        Ok(())
    }
}
