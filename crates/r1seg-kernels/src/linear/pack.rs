//! Activations `[m, k]` as the register tile streams them: the lanes of a vector are rows.

use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use super::blocks::Blocks;
use super::path::Path;
use crate::buffer::SharedMut;
use crate::isa::Isa;
use crate::simd::{self, Kernel, Simd, WIDEST};
use crate::tile::PANEL;

/// The most words that are transposed at a time: they stay in the first-level cache.
const CHUNK: usize = 160;

/// Words that are transposed at a time: whole vectors and whole blocks.
fn chunk_of(path: Path) -> usize {
    match path {
        #[cfg(target_arch = "x86_64")]
        Path::Blocks(blocks) => {
            // Blocks have an even number of words.
            let unit = blocks.x_words() / 2 * WIDEST;
            CHUNK / unit * unit
        }
        _ => CHUNK,
    }
}

/// Words of all panels.
pub(super) fn words(path: Path, m: usize, k: usize) -> usize {
    m.div_ceil(PANEL) * path.x_words(k) * PANEL
}

/// Lanes beyond `m` that share a vector with others are zero.
///
/// # Shapes
/// - `x`: `[m, k]`    - `packed`: `[m / PANEL][words(k)][PANEL]`
pub(super) fn pack(isa: Isa, path: Path, x: &[f32], m: usize, k: usize, packed: &mut [f32]) {
    let words = path.x_words(k);
    let chunk = chunk_of(path);
    let chunks = words.div_ceil(chunk);
    let out = SharedMut::new(packed);
    let run = |task: usize| {
        let (panel, first) = (task / chunks, task % chunks * chunk);
        let len = chunk.min(words - first) * PANEL;
        // SAFETY: chunks of panels lie one behind the other and end with the buffer.
        let packed = unsafe {
            std::slice::from_raw_parts_mut(out.get().add((panel * words + first) * PANEL), len)
        };
        let x = &x[panel * PANEL * k..(panel + 1).saturating_mul(PANEL).min(m) * k];
        // SAFETY: the machine has `isa`, and the kernel no pointers of its own.
        unsafe { simd::run(isa, Pack { path, x, k, first, packed }) }
    };
    let tasks = m.div_ceil(PANEL) * chunks;
    if m * k < 1 << 16 {
        (0..tasks).for_each(run);
    } else {
        (0..tasks).into_par_iter().with_min_len(4).for_each(run);
    }
}

/// Some words of a panel from `first` on, whole vectors of them.
struct Pack<'a> {
    path: Path,
    x: &'a [f32],
    k: usize,
    first: usize,
    packed: &'a mut [f32],
}

impl Kernel for Pack<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { path, x, k, first, packed } = self;
        let count = packed.len() / PANEL;
        let mut staged = [[0f32; CHUNK]; WIDEST];
        for (group, x) in x.chunks(S::LANES * k).enumerate() {
            let rows = x.len() / k;
            for (row, staged) in x.chunks_exact(k).zip(&mut staged) {
                let words = &mut staged[..count];
                match path {
                    Path::F32 => {
                        let row = &row[first.min(k)..(first + count).min(k)];
                        without_denormals(row, &mut words[..row.len()]);
                        words[row.len()..].fill(0.0);
                    }
                    #[cfg(target_arch = "x86_64")]
                    Path::Dot | Path::Amx => {
                        round_pairs(&row[(2 * first).min(k)..(2 * (first + count)).min(k)], words);
                    }
                    #[cfg(target_arch = "x86_64")]
                    Path::Blocks(blocks) => {
                        let number = |word: usize| word / blocks.x_words() * Blocks::LEN;
                        blocks.round(&row[number(first)..number(first + count).min(k)], words);
                    }
                }
            }
            staged[rows..].as_flattened_mut().fill(0.0);
            for s in (0..count).step_by(S::LANES) {
                // SAFETY: a chunk is whole vectors of words, staged in as many rows as lanes, and a
                // panel whole vectors of lanes.
                unsafe {
                    let from = staged.as_ptr().cast::<f32>().add(s).cast();
                    let to = packed.as_mut_ptr().add(s * PANEL + group * S::LANES);
                    S::transpose(from, CHUNK * 4, to, PANEL);
                }
            }
        }
    }
}

/// A copy in which denormal numbers are zero: some processors take a hundred times as long for a product with one.
#[inline(always)]
pub(super) fn without_denormals(x: &[f32], copy: &mut [f32]) {
    for (copy, &x) in copy.iter_mut().zip(x) {
        // NaN is not smaller.
        *copy = if x.abs() < f32::MIN_POSITIVE { 0.0 } else { x };
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

/// bf16 bits of `x`, to nearest even; the compiler vectorizes it, other than `bf16::from_f32`.
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
