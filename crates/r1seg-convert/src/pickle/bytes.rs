//! Reading from the pickle: nothing is taken that is not there.

use std::ops::Range;

use super::error::PickleError;
use super::machine::Machine;
use super::value::{Id, Value};

impl<'a> Machine<'a> {
    pub(super) fn take(&mut self, length: usize) -> Result<Range<usize>, PickleError> {
        let end = self.position.checked_add(length).filter(|end| *end <= self.bytes.len());
        let Some(end) = end else {
            return Err(PickleError::Truncated { at: self.bytes.len() });
        };
        let range = self.position..end;
        self.position = end;
        Ok(range)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let range = self.take(N)?;
        let bytes = self.bytes.get(range).and_then(|bytes| bytes.first_chunk());
        bytes.copied().ok_or(PickleError::Truncated { at: self.bytes.len() })
    }

    pub(super) fn byte(&mut self) -> Result<u8, PickleError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A length of 1, 4 or 8 bytes. One that does not fit ends beyond the file in any case.
    pub(super) fn length(&mut self, bytes: usize) -> Result<usize, PickleError> {
        let length = match bytes {
            1 => u64::from(self.byte()?),
            4 => u32::from_le_bytes(self.array()?).into(),
            _ => u64::from_le_bytes(self.array()?),
        };
        Ok(usize::try_from(length).unwrap_or(usize::MAX))
    }

    pub(super) fn line(&mut self) -> Result<&'a str, PickleError> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let length = rest.iter().position(|byte| *byte == b'\n');
        let Some(length) = length else {
            return Err(PickleError::Truncated { at: self.bytes.len() });
        };
        let range = self.take(length)?;
        self.take(1)?;
        self.str(range)
    }

    pub(super) fn str(&self, range: Range<usize>) -> Result<&'a str, PickleError> {
        let bytes = self.bytes.get(range).unwrap_or_default();
        std::str::from_utf8(bytes).map_err(|_| self.malformed("a name is not UTF-8"))
    }

    pub(super) fn string(&self, id: Id) -> Result<&'a str, PickleError> {
        match self.value(id)? {
            Value::Str(range) => self.str(range.clone()),
            _ => Err(self.malformed("a string is expected")),
        }
    }
}
