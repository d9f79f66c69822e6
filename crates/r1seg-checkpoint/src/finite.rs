//! Weights that are NaN or infinite, found by reading all of them.

use std::io;
use std::ops::Range;

use rayon::prelude::*;

use crate::{Error, NumberFormat, WeightFiles};

/// Bytes that one task reads, or that are read from a file at once.
const CHUNK: usize = 4 << 20;

impl WeightFiles {
    /// Reads every number of the weights and looks for NaN and infinity, which none of the published
    /// models has. Returns the sorted names of the tensors that have them.
    pub fn damaged(&self) -> Vec<String> {
        let mut damaged: Vec<String> = self
            .tensors()
            .filter(|(_, tensor)| {
                let bytes = self.stored_bytes(tensor);
                let found = bytes
                    .par_chunks(whole_blocks(tensor.format))
                    .any(|bytes| count_not_finite(bytes, tensor.format) > 0);
                self.release(tensor);
                found
            })
            .map(|(name, _)| name.to_string())
            .collect();
        damaged.sort();
        damaged
    }

    /// [`WeightFiles::damaged`] as an error.
    ///
    /// # Errors
    /// [`Error::DamagedWeights`] with the names of the tensors.
    pub fn require_finite(&self) -> Result<(), Error> {
        let damaged = self.damaged();
        match damaged.is_empty() {
            true => Ok(()),
            false => Err(Error::DamagedWeights { path: self.path().to_path_buf(), damaged }),
        }
    }
}

/// Bytes of as many whole blocks as one task reads.
fn whole_blocks(format: NumberFormat) -> usize {
    (CHUNK / format.size()).max(1) * format.size()
}

/// Counts what is not finite in a range of a file, read piece by piece with `read_at`.
///
/// # Errors
/// Those of `read_at`.
pub fn scan(
    range: Range<u64>,
    format: NumberFormat,
    mut read_at: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
) -> io::Result<u64> {
    let chunk = whole_blocks(format) as u64;
    let Range { start: mut position, end } = range;
    let (mut found, mut buffer) = (0, Vec::new());
    while position < end {
        let length = (end - position).min(chunk);
        buffer.resize(usize::try_from(length).unwrap_or(0), 0);
        read_at(position, &mut buffer)?;
        found += count_not_finite(&buffer, format);
        position += length;
    }
    Ok(found)
}

/// How many numbers of the four float formats, or scales of blocks, are NaN or infinite: whole numbers
/// times finite scales are finite. `bytes` are whole blocks. Integers are always finite, and no model
/// takes other formats.
pub fn count_not_finite(bytes: &[u8], format: NumberFormat) -> u64 {
    // Where a block has its halves (ggml-common.h).
    let halves: &[usize] = match format {
        NumberFormat::F64 => return count(bytes, |n| !f64::from_le_bytes(n).is_finite()),
        NumberFormat::F32 => {
            return count(bytes, |n| u32::from_le_bytes(n) & 0x7f80_0000 == 0x7f80_0000);
        }
        NumberFormat::F16 => return count(bytes, is_f16_special),
        NumberFormat::Bf16 => return count(bytes, |n| u16::from_le_bytes(n) & 0x7f80 == 0x7f80),
        NumberFormat::Q4_0 | NumberFormat::Q5_0 | NumberFormat::Q8_0 => &[0],
        NumberFormat::Q4_1 | NumberFormat::Q5_1 | NumberFormat::Q4K | NumberFormat::Q5K => &[0, 2],
        NumberFormat::Q2K => &[80, 82],
        NumberFormat::Q3K => &[108],
        NumberFormat::Q6K => &[208],
        _ => return 0,
    };
    let half = |block: &[u8], at: usize| {
        let half = block.get(at..).and_then(|rest| rest.first_chunk());
        u64::from(half.is_some_and(|half| is_f16_special(*half)))
    };
    bytes
        .par_chunks(format.size())
        .with_min_len(1024)
        .map(|block| halves.iter().map(|at| half(block, *at)).sum::<u64>())
        .sum()
}

fn is_f16_special(bytes: [u8; 2]) -> bool {
    u16::from_le_bytes(bytes) & 0x7c00 == 0x7c00
}

fn count<const N: usize>(bytes: &[u8], special: impl Fn([u8; N]) -> bool) -> u64 {
    // Not more than 32 bits hold, in chunks: a narrow counter keeps the loop in vectors.
    let chunks = bytes.as_chunks::<N>().0.chunks(1 << 20);
    chunks
        .map(|chunk| {
            let mut found = 0u32;
            for number in chunk {
                found += u32::from(special(*number));
            }
            u64::from(found)
        })
        .sum()
}
