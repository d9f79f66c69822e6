//! Where a tensor lies in a file.

use r1seg_checkpoint::NumberFormat;
use serde::{Deserialize, Serialize};

use crate::pickle::{PickleError, sanitize};

/// A tensor that lies in a file: numbers of one format, reached by strides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorEntry {
    /// Its name.
    pub name: String,
    /// The format of its numbers.
    pub dtype: NumberFormat,
    /// Its axes.
    pub shape: Vec<u64>,
    /// The way to the next number along each axis, in numbers.
    pub strides: Vec<u64>,
    /// Where its first number lies, in bytes from the start of the file.
    pub start: u64,
    /// The bytes of its storage, `[start, end)`. Tied weights share one.
    pub storage: [u64; 2],
}

impl TensorEntry {
    /// How many numbers it has, if that can be counted.
    pub fn numbers(&self) -> Option<u64> {
        self.shape.iter().try_fold(1u64, |product, axis| product.checked_mul(*axis))
    }

    /// How many bytes its numbers take in a row.
    pub fn bytes(&self) -> Option<u64> {
        self.numbers()?.checked_mul(self.dtype.size() as u64)
    }

    /// How many bytes of the file it reaches over, holes included.
    pub(crate) fn span(&self) -> Option<u64> {
        if self.numbers()? == 0 {
            return Some(0);
        }
        let mut last = 0u64;
        for (axis, stride) in self.shape.iter().zip(&self.strides) {
            last = last.checked_add(axis.checked_sub(1)?.checked_mul(*stride)?)?;
        }
        last.checked_add(1)?.checked_mul(self.dtype.size() as u64)
    }

    /// Whether its numbers lie in order, one after another.
    pub(crate) fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(axis, stride)| {
            let fits = *axis == 1 || *stride == expected;
            expected *= axis;
            fits
        })
    }

    /// Checks that the tensor lies within its storage, and its storage within the file.
    pub(crate) fn check(&self, file_bytes: u64) -> Result<(), PickleError> {
        let refuse = |what: String| Err(PickleError::Tensor { name: sanitize(&self.name), what });
        // A child process that reads pickles may say anything.
        if !self.dtype.is_plain() {
            return refuse(format!("is in {}, whose numbers cannot be strided", self.dtype));
        }
        if self.shape.len() != self.strides.len() {
            return refuse("has not as many strides as axes".to_owned());
        }
        let (Some(span), Some(_)) = (self.span(), self.bytes()) else {
            return refuse(format!("of shape {:?} is too large to be counted", self.shape));
        };
        let [start, end] = self.storage;
        if start > end || end > file_bytes {
            return refuse(format!("lies beyond the end of the file, at {end} of {file_bytes}"));
        }
        let fits = self.start >= start && self.start.checked_add(span).is_some_and(|e| e <= end);
        if !fits {
            return refuse(format!(
                "of shape {:?} does not fit into its storage of {} bytes",
                self.shape,
                end - start
            ));
        }
        Ok(())
    }
}

/// The strides of a tensor whose numbers lie in order.
pub(crate) fn contiguous_strides(shape: &[u64]) -> Vec<u64> {
    let mut strides = vec![1u64; shape.len()];
    let mut next = 1u64;
    for (stride, axis) in strides.iter_mut().zip(shape).rev() {
        *stride = next;
        next = next.saturating_mul(*axis);
    }
    strides
}
