//! A file to be written: all of its header first, then tensor after tensor.

use std::collections::BTreeSet;

use super::number::to_number;
use super::read::tensor_bytes;
use super::value::write_string;
use super::{Error, Value};
use crate::NumberFormat;
use crate::shown;

/// What the position of every tensor that is written is a multiple of: a cache line, so that no
/// row of a mapped file begins in the middle of one that it need not share.
pub const ALIGNMENT: u64 = 64;

const VERSION: u32 = 3;

/// A tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTensor {
    /// llama.cpp's name.
    pub name: String,
    /// How its numbers are stored.
    pub format: NumberFormat,
    /// Its axes, row-major: `[rows, columns]`.
    pub shape: Vec<u64>,
}

impl NewTensor {
    /// A tensor of this name, type and row-major shape.
    pub fn new(name: impl Into<String>, format: NumberFormat, shape: Vec<u64>) -> Self {
        Self { name: name.into(), format, shape }
    }
}

/// Where everything goes in a file that is written from front to back: [`Layout::header`], then for
/// each tensor its bytes and [`Layout::padding`] zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    header: Vec<u8>,
    /// Bytes of each tensor.
    bytes: Vec<u64>,
}

impl Layout {
    /// Lays out a file of version 3. `general.alignment` is added to the fields.
    ///
    /// # Errors
    /// [`Error::Format`] for a format that GGUF does not have, [`Error::Shape`] for a shape that the
    /// format cannot store; [`Error::DuplicateField`] and
    /// [`Error::DuplicateTensor`] for names that are there twice.
    pub fn new(metadata: &[(String, Value)], tensors: &[NewTensor]) -> Result<Self, Error> {
        let alignment = ("general.alignment".to_owned(), Value::U32(ALIGNMENT as u32));
        let metadata = || metadata.iter().chain([&alignment]);

        let mut header = b"GGUF".to_vec();
        header.extend(VERSION.to_le_bytes());
        header.extend((tensors.len() as u64).to_le_bytes());
        header.extend((metadata().count() as u64).to_le_bytes());
        let mut names = BTreeSet::new();
        for (key, value) in metadata() {
            if !names.insert(key) {
                return Err(Error::DuplicateField { name: shown::name(key) });
            }
            write_string(key, &mut header);
            header.extend(value.value_type().number().to_le_bytes());
            value.write(&mut header);
        }

        let mut names = BTreeSet::new();
        let mut bytes = Vec::with_capacity(tensors.len());
        let mut offset = 0u64;
        for NewTensor { name, format, shape } in tensors {
            if !names.insert(name) {
                return Err(Error::DuplicateTensor { name: shown::name(name) });
            }
            write_string(name, &mut header);
            let length = tensor_bytes(name, *format, shape)?;
            // At most four axes, or `tensor_bytes` had refused it.
            header.extend((shape.len() as u32).to_le_bytes());
            shape.iter().rev().for_each(|axis| header.extend(axis.to_le_bytes()));
            let number = to_number(*format)
                .ok_or_else(|| Error::Format { name: shown::name(name), format: *format })?;
            header.extend(number.to_le_bytes());
            header.extend(offset.to_le_bytes());
            bytes.push(length);
            let end = offset.checked_add(length);
            offset =
                end.and_then(|end| end.checked_next_multiple_of(ALIGNMENT)).ok_or_else(|| {
                    let what = "the file is too large to be counted";
                    Error::Shape { name: shown::name(name), shape: shape.clone(), what }
                })?;
        }
        header.resize(header.len().next_multiple_of(ALIGNMENT as usize), 0);
        Ok(Self { header, bytes })
    }

    /// What comes before the first tensor.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Bytes of the tensor of this index; 0 if there is none.
    pub fn bytes(&self, tensor: usize) -> u64 {
        self.bytes.get(tensor).copied().unwrap_or(0)
    }

    /// How many zeros come after the tensor of this index.
    pub fn padding(&self, tensor: usize) -> usize {
        let bytes = self.bytes(tensor);
        // Less than the alignment.
        (bytes.next_multiple_of(ALIGNMENT) - bytes) as usize
    }
}
