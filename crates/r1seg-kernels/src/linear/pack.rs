//! The layout in which the register tile streams activations `[m, k]`: blocks of its rows, the inner
//! dimension first, so that the tile reads one stream instead of a dozen whose distance may be a
//! multiple of the cache's sets. The last block has as many rows as are left.

use rayon::prelude::*;

use crate::buffer::SharedMut;

/// Inner elements that are transposed at a time: they stay in the first-level cache.
const CHUNK: usize = 128;

/// How activations are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activations {
    /// f32, filled up to an even number.
    F32,
    /// Words of two bf16, rounded to nearest even.
    Bf16,
}

impl Activations {
    /// Words per row.
    pub(super) fn words(self, k: usize) -> usize {
        match self {
            Self::F32 => k.next_multiple_of(2),
            Self::Bf16 => k.div_ceil(2),
        }
    }

    /// # Shapes
    /// - `x`: `[m, k]`    - `packed`: `[m / rows][words(k)][rows]`
    pub(super) fn pack(self, x: &[f32], m: usize, k: usize, rows: usize, packed: &mut [f32]) {
        let words = self.words(k);
        let out = SharedMut::new(&mut packed[..m * words]);
        let block = |b: usize| {
            let first = b * rows;
            let rows = rows.min(m - first);
            // SAFETY: block `b` is `rows * words` long and starts after `first` whole rows, so
            // that the blocks of different tasks do not overlap and end with the buffer.
            let packed = unsafe {
                std::slice::from_raw_parts_mut(out.get().add(first * words), rows * words)
            };
            self.pack_block(&x[first * k..][..rows * k], k, rows, packed);
        };
        let blocks = m.div_ceil(rows);
        if m * k < 1 << 16 {
            (0..blocks).for_each(block);
        } else {
            (0..blocks).into_par_iter().with_min_len(4).for_each(block);
        }
    }

    fn pack_block(self, x: &[f32], k: usize, rows: usize, packed: &mut [f32]) {
        let words = self.words(k);
        let mut rounded = [0f32; CHUNK];
        for first in (0..words).step_by(CHUNK) {
            let chunk = CHUNK.min(words - first);
            let packed = &mut packed[first * rows..][..chunk * rows];
            for i in 0..rows {
                let row = &x[i * k..][..k];
                let source = match self {
                    Self::F32 => {
                        let whole = chunk.min(k - first);
                        rounded[..whole].copy_from_slice(&row[first..][..whole]);
                        rounded[whole..chunk].fill(0.0);
                        &rounded[..chunk]
                    }
                    Self::Bf16 => {
                        let row = &row[2 * first..(2 * (first + chunk)).min(k)];
                        round_pairs(row, &mut rounded[..chunk]);
                        &rounded[..chunk]
                    }
                };
                for (s, word) in source.iter().enumerate() {
                    packed[s * rows + i] = *word;
                }
            }
        }
    }
}

/// Words of two bf16 each, filled up with zeros.
#[inline(always)]
fn round_pairs(x: &[f32], words: &mut [f32]) {
    let (pairs, last) = x.as_chunks::<2>();
    let (whole, rest) = words.split_at_mut(pairs.len());
    for (word, [low, high]) in whole.iter_mut().zip(pairs) {
        *word = f32::from_bits(round(*low) | round(*high) << 16);
    }
    rest.fill(0.0);
    if let ([last], [word, ..]) = (last, rest) {
        *word = f32::from_bits(round(*last));
    }
}

/// bf16 bits of `x`, to nearest even; the compiler vectorises it, other than `bf16::from_f32`.
#[inline(always)]
fn round(x: f32) -> u32 {
    let bits = x.to_bits();
    let even = (bits.wrapping_add(0x7fff + (bits >> 16 & 1))) >> 16;
    // A NaN whose payload sits in the low half would round to infinity.
    let nan = bits >> 16 | 0x40;
    if bits & 0x7fff_ffff > 0x7f80_0000 { nan } else { even }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    #[test]
    fn rounding_is_that_of_half() {
        let special = [0.0, -0.0, 1.0, f32::MAX, f32::MIN, f32::INFINITY, f32::NEG_INFINITY, 1e-40];
        let many = (0..1u32 << 20)
            .map(|i| f32::from_bits(i.wrapping_mul(4099).wrapping_mul(2_654_435_761)));
        for x in special.into_iter().chain(many) {
            assert_eq!(round(x), u32::from(bf16::from_f32(x).to_bits()), "{x:e}");
        }
    }
}
