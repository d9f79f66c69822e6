//! The layouts in which the product kernels stream their operands.
//!
//! - Weights `[n, k]`: panels of [`PANEL`] rows, each panel inner-dimension first. bf16 panels hold
//!   words of two neighbours along `k`: `[n / 32][k / 2][32][2]`; f32 panels are `[n / 32][k][32]`.
//! - Activations `[m, k]`: blocks of the register tile's rows, again inner-dimension first, so
//!   that the tile reads one stream instead of a dozen whose distance may be a multiple of the
//!   cache's sets. The last block has as many rows as are left.
//!
//! Odd sizes are filled up with zeros.

use half::bf16;
use rayon::prelude::*;

use crate::buffer::{Buffer, SharedMut};
use crate::tile::PANEL;

/// Inner elements that are transposed at a time: they stay in the first-level cache.
const CHUNK: usize = 128;

/// Two bf16 as the bits of one f32, the first in the low half.
#[inline(always)]
fn pair(low: bf16, high: bf16) -> f32 {
    f32::from_bits(u32::from(low.to_bits()) | u32::from(high.to_bits()) << 16)
}

/// # Shapes
/// - `weight`: `[n, k]`    - returns: `[n / 32][k / 2][32]` words
pub(crate) fn weights_bf16(weight: &[bf16], n: usize, k: usize) -> Buffer {
    weights(n, k.div_ceil(2), |row, s| {
        let row = &weight[row * k..][..k];
        pair(row[2 * s], row.get(2 * s + 1).copied().unwrap_or(bf16::ZERO))
    })
}

/// # Shapes
/// - `weight`: `[n, k]`    - returns: `[n / 32][k][32]`
pub(crate) fn weights_f32(weight: &[f32], n: usize, k: usize) -> Buffer {
    weights(n, k, |row, s| weight[row * k + s])
}

fn weights(n: usize, steps: usize, word: impl Fn(usize, usize) -> f32 + Sync) -> Buffer {
    let mut packed = Buffer::zeroed(n.div_ceil(PANEL) * steps * PANEL);
    if steps == 0 {
        return packed;
    }
    packed.as_mut_slice().par_chunks_mut(steps * PANEL).enumerate().for_each(|(p, panel)| {
        let rows = PANEL.min(n - p * PANEL);
        for first in (0..steps).step_by(CHUNK) {
            let chunk = first..(first + CHUNK).min(steps);
            for j in 0..rows {
                for s in chunk.clone() {
                    panel[s * PANEL + j] = word(p * PANEL + j, s);
                }
            }
        }
    });
    packed
}

/// How activations are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activations {
    /// f32, `k` filled up to a multiple of this.
    F32 { multiple: usize },
    /// Words of two bf16, rounded to nearest even.
    Bf16,
}

impl Activations {
    /// Words per row.
    pub(crate) fn words(self, k: usize) -> usize {
        match self {
            Self::F32 { multiple } => k.next_multiple_of(multiple),
            Self::Bf16 => k.div_ceil(2),
        }
    }

    /// # Shapes
    /// - `x`: `[m, k]`    - `packed`: `[m / rows][words(k)][rows]`
    pub(crate) fn pack(self, x: &[f32], m: usize, k: usize, rows: usize, packed: &mut [f32]) {
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
                    Self::F32 { .. } => {
                        let whole = chunk.min(k - first);
                        rounded[..whole].copy_from_slice(&row[first..][..whole]);
                        rounded[whole..chunk].fill(0.0);
                        &rounded[..chunk]
                    }
                    Self::Bf16 => {
                        let row = &row[2 * first..(2 * (first + chunk)).min(k)];
                        let (pairs, last) = row.as_chunks::<2>();
                        for (word, [low, high]) in rounded.iter_mut().zip(pairs) {
                            *word = f32::from_bits(round(*low) | round(*high) << 16);
                        }
                        if let [last] = last {
                            rounded[pairs.len()] = f32::from_bits(round(*last));
                        }
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
