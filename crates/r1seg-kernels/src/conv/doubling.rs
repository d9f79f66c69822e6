//! The transposed convolution that doubles a grid with overlapping kernels: eight convolutions whose outputs
//! are interleaved.

use rayon::prelude::*;

use super::ConvGeometry;
use super::direct::Direct;
use super::fusion::ConvFusion;
use crate::buffer::{SharedMut, written};
use crate::isa::Isa;
use crate::simd::{self, Kernel, Simd};

/// The weights of a transposed 3D convolution with kernel 3, stride 2, padding 1 and output padding 1, in
/// the order in which they are multiplied.
///
/// Along each axis an even output voxel reads one input voxel and an odd one two.
#[derive(Clone)]
pub struct DoublingWeights {
    /// By whether the output is odd along each axis, the last axis fastest.
    parts: Vec<Direct>,
    channels: [usize; 2],
}

impl std::fmt::Debug for DoublingWeights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [out, inner] = self.channels;
        write!(f, "DoublingWeights({inner} -> {out})")
    }
}

impl DoublingWeights {
    /// `None` when they are not as many as their shape says, or no memory could hold them packed.
    ///
    /// # Shapes
    /// - `weights`: `[out, in, 3, 3, 3]`, unlike PyTorch's, which have the input first
    pub fn new(weights: &[f32], [out, inner]: [usize; 2]) -> Option<Self> {
        let pairs = out.checked_mul(inner)?;
        if pairs.checked_mul(27)? != weights.len() {
            return None;
        }
        let parts = (0..8).map(|part| {
            let (kernel, taps) = Self::part(part);
            let chosen = |pair: &[f32]| taps.iter().map(|tap| pair[*tap]).collect::<Vec<f32>>();
            let chosen: Vec<f32> = weights.chunks_exact(27).flat_map(chosen).collect();
            Direct::new(&chosen, [out, inner], kernel)
        });
        Some(Self { parts: parts.collect::<Option<_>>()?, channels: [out, inner] })
    }

    /// The kernel `[kd, kh, kw]` of one of the eight convolutions, and which of the 27 weights it has.
    ///
    /// They are numbered by whether the output is odd along each axis, the last axis fastest.
    pub fn part(number: usize) -> ([usize; 3], Vec<usize>) {
        let odd = [number >> 2 & 1, number >> 1 & 1, number & 1];
        // In the order of the input voxels that they meet.
        let along = odd.map(|odd| if odd == 1 { &[2, 0][..] } else { &[1] });
        let mut taps = Vec::with_capacity(8);
        for i in along[0] {
            for j in along[1] {
                taps.extend(along[2].iter().map(|k| (i * 3 + j) * 3 + k));
            }
        }
        (odd.map(|odd| 1 + odd), taps)
    }

    /// Channels of the input.
    pub fn in_channels(&self) -> usize {
        self.channels[1]
    }

    /// Channels of the output.
    pub fn out_channels(&self) -> usize {
        self.channels[0]
    }

    /// The convolution with these weights, on rayon's current pool. Results do not depend on its size.
    ///
    /// # Shapes
    /// - `x`: `[in, D, H, W]` of `size`    - `bias`: `[out]`
    /// - `residual`, returns: `[out, 2 D, 2 H, 2 W]`
    ///
    /// # Panics
    /// When a slice has another length, or no memory could hold the result.
    pub fn forward(
        &self,
        x: &[f32],
        size: [usize; 3],
        bias: Option<&[f32]>,
        residual: Option<&[f32]>,
    ) -> Vec<f32> {
        self.forward_on(Isa::detect(), x, size, bias, residual)
    }

    /// `isa` must be one of this machine.
    pub(crate) fn forward_on(
        &self,
        isa: Isa,
        x: &[f32],
        size: [usize; 3],
        bias: Option<&[f32]>,
        residual: Option<&[f32]>,
    ) -> Vec<f32> {
        assert!(isa.is_here(), "this machine has no {isa:?}");
        let length = |n: usize| size.iter().try_fold(n, |n, side| n.checked_mul(*side));
        let [out, inner] = self.channels;
        assert_eq!(Some(x.len()), length(inner), "an input of [{inner}, {size:?}]");
        assert!(bias.is_none_or(|bias| bias.len() == out), "a bias per channel");
        let all = out.checked_mul(8).and_then(length);
        assert!(all.is_some(), "an output of [{out}, twice {size:?}]");
        assert!(residual.is_none_or(|r| Some(r.len()) == all), "a residual as the output");
        let fusion = ConvFusion { bias, ..ConvFusion::default() };
        let geometry = ConvGeometry { input: size, output: size, stride: [1; 3], padding: [0; 3] };
        let [_, h, w] = size;
        let row = |y: SharedMut, pair: usize, [even, odd]: [&[f32]; 2], row: usize| {
            let [i, j] = [pair / 2, pair % 2];
            let (plane, line) = (row / h, row % h);
            let to = ((2 * plane + i) * 2 * h + 2 * line + j) * 2 * w;
            let [even, odd] = [even, odd].map(|part| &part[row * w..][..w]);
            let plus = residual.map(|residual| &residual[to..][..2 * w]);
            // SAFETY: the machine has `isa`; every row of the output belongs to one row of one pair.
            unsafe { simd::run(isa, Interleave { even, odd, plus, y: y.get().add(to) }) }
        };
        let write = |y: SharedMut| {
            let mut spare = [Vec::new(), Vec::new()];
            for (pair, parts) in self.parts.chunks_exact(2).enumerate() {
                for (part, spare) in parts.iter().zip(&mut spare) {
                    let memory = std::mem::take(spare);
                    // SAFETY: the machine has `isa`; the lengths are checked.
                    *spare = unsafe { part.forward(isa, x, geometry, fusion, memory) };
                }
                let [even, odd] = &spare;
                let rows = (0..even.len() / w.max(1)).into_par_iter().with_min_len(h.max(1));
                rows.for_each(|at| row(y, pair, [even, odd], at));
            }
        };
        // SAFETY: the rows of the four pairs are the whole output.
        unsafe { written(all.unwrap_or(0), write) }
    }
}

/// Two rows in turns, and what is added to them. `y` reaches as far as both.
struct Interleave<'a> {
    even: &'a [f32],
    odd: &'a [f32],
    plus: Option<&'a [f32]>,
    y: *mut f32,
}

impl Kernel for Interleave<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { even, odd, plus, y } = self;
        let pairs = even.iter().zip(odd).enumerate();
        // SAFETY: `y` reaches as far as both rows.
        unsafe {
            match plus.map(|plus| plus.as_chunks::<2>().0) {
                None => {
                    for (i, (even, odd)) in pairs {
                        *y.add(2 * i) = *even;
                        *y.add(2 * i + 1) = *odd;
                    }
                }
                Some(plus) => {
                    for ((i, (even, odd)), plus) in pairs.zip(plus) {
                        *y.add(2 * i) = even + plus[0];
                        *y.add(2 * i + 1) = odd + plus[1];
                    }
                }
            }
        }
    }
}
