//! Headers that are right, against an independent reader; and headers that are not, one test a check.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod hostile;
mod round_trip;

/// A header in the making: bytes as a GGUF file has them.
#[derive(Clone, Default)]
struct Raw(Vec<u8>);

impl Raw {
    fn new(version: u32, tensors: u64, fields: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(version).u64(tensors).u64(fields)
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn u32(self, n: u32) -> Self {
        self.bytes(&n.to_le_bytes())
    }

    fn u64(self, n: u64) -> Self {
        self.bytes(&n.to_le_bytes())
    }

    fn text(self, text: &str) -> Self {
        self.u64(text.len() as u64).bytes(text.as_bytes())
    }

    /// A tensor's entry. `axes` are in ggml's order, the fastest first.
    fn tensor(self, name: &str, axes: &[u64], number: u32, offset: u64) -> Self {
        let mut raw = self.text(name).u32(axes.len() as u32);
        for axis in axes {
            raw = raw.u64(*axis);
        }
        raw.u32(number).u64(offset)
    }

    /// Padding to `alignment`, and `data` zeros.
    fn data(mut self, alignment: usize, data: usize) -> Vec<u8> {
        self.0.resize(self.0.len().next_multiple_of(alignment) + data, 0);
        self.0
    }
}
