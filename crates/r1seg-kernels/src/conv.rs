//! 3D convolution: stretches of the input are laid side by side, and every weight is multiplied with
//! all of them.
//!
//! The lanes of a vector are output voxels. For some weights at a time, the input voxels that they
//! meet are gathered into panels, which stay in the cache while all output channels use them: no
//! unfolded input is ever in memory.

use std::ops::Range;

use rayon::prelude::*;

use crate::buffer::{LINE, SharedMut, with_scratch, written};
use crate::isa::Isa;
use crate::simd::{self, Kernel, Simd};
use crate::tile::{F32, MAX_ROWS, PANEL, Start, Strides, Tile};

/// Weights of an output channel that are multiplied at a time, whole lines: what they meet of a panel
/// fills the first-level cache.
const PASS: usize = 256;

/// Panels of output voxels per task, which share one read of the weights: their gathered input fills
/// a quarter of a second-level cache.
const PANELS: usize = 8;

/// Sizes of a convolution in voxels, each `[D, H, W]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvGeometry {
    /// Of the input.
    pub input: [usize; 3],
    /// Of the output. What it reads behind the input's last voxel is zero.
    pub output: [usize; 3],
    /// From one output voxel to the next, in input voxels.
    pub stride: [usize; 3],
    /// Zeros in front of the input's first voxel.
    pub padding: [usize; 3],
}

/// The weights of a 3D convolution, in the order in which they are multiplied.
#[derive(Clone)]
pub struct ConvWeights {
    /// `[out / MAX_ROWS][inner / LINE][MAX_ROWS][LINE]`, filled up with zeros, where `inner` runs over
    /// `[kd, kh, kw, in]`.
    packed: Vec<f32>,
    out_channels: usize,
    in_channels: usize,
    kernel: [usize; 3],
}

impl std::fmt::Debug for ConvWeights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { out_channels, in_channels, kernel, .. } = self;
        write!(f, "ConvWeights({in_channels} -> {out_channels}, {kernel:?})")
    }
}

impl ConvWeights {
    /// `None` when the weights are not as many as their shape says.
    ///
    /// # Shapes
    /// - `weights`: `[out, in, kd, kh, kw]`
    pub fn new(weights: &[f32], channels: [usize; 2], kernel: [usize; 3]) -> Option<Self> {
        let [out_channels, in_channels] = channels;
        let taps = kernel.iter().try_fold(1usize, |n, side| n.checked_mul(*side))?;
        let inner = taps.checked_mul(in_channels)?;
        if inner.checked_mul(out_channels)? != weights.len() {
            return None;
        }
        let width = inner.next_multiple_of(LINE);
        let mut packed = vec![0f32; out_channels.next_multiple_of(MAX_ROWS).checked_mul(width)?];
        for (row, weights) in weights.chunks_exact(inner.max(1)).enumerate() {
            let packed = &mut packed[row / MAX_ROWS * MAX_ROWS * width..];
            for (i, weight) in weights.iter().enumerate() {
                // From channels first to channels last.
                let at = i % taps * in_channels + i / taps;
                packed[at / LINE * MAX_ROWS * LINE + row % MAX_ROWS * LINE + at % LINE] = *weight;
            }
        }
        Some(Self { packed, out_channels, in_channels, kernel })
    }

    /// Channels of the input.
    pub fn in_channels(&self) -> usize {
        self.in_channels
    }

    /// Channels of the output.
    pub fn out_channels(&self) -> usize {
        self.out_channels
    }

    /// The convolution with these weights, on rayon's current pool. Results do not depend on its
    /// size.
    ///
    /// # Shapes
    /// - `x`: `[in, D, H, W]`    - `bias`: `[out]`    - returns: `[out, D', H', W']`
    ///
    /// # Panics
    /// When a slice has another length, a stride is zero, or no memory could hold the result.
    pub fn forward(&self, x: &[f32], geometry: ConvGeometry, bias: Option<&[f32]>) -> Vec<f32> {
        self.forward_on(Isa::detect(), x, geometry, bias)
    }

    /// `isa` must be one of this machine.
    pub(crate) fn forward_on(
        &self,
        isa: Isa,
        x: &[f32],
        geometry: ConvGeometry,
        bias: Option<&[f32]>,
    ) -> Vec<f32> {
        assert!(isa <= Isa::detect(), "this machine has no {isa:?}");
        let length = |channels: usize, size: [usize; 3]| {
            size.iter().try_fold(channels, |n, side| n.checked_mul(*side))
        };
        let (channels, input) = (self.in_channels, geometry.input);
        assert_eq!(Some(x.len()), length(channels, input), "an input of [{channels}, {input:?}]");
        assert!(bias.is_none_or(|bias| bias.len() == self.out_channels), "a bias per channel");
        assert!(!geometry.stride.contains(&0), "a stride of zero");
        // More than memory could hold is refused by the allocation.
        let len = length(self.out_channels, geometry.output).unwrap_or(usize::MAX);
        let voxels: usize = geometry.output.iter().product();
        let panels = voxels.div_ceil(PANEL);
        let each = panels.div_ceil(2 * rayon::current_num_threads()).clamp(1, PANELS);
        let run = |y: SharedMut, task: usize| {
            let panels = task * each..((task + 1) * each).min(panels);
            with_scratch(panels.len() * PASS * PANEL, |gathered| {
                let source = Source { weights: self, x, geometry };
                let job = Job { source, bias, voxels, panels, gathered, y };
                // SAFETY: the machine has `isa`; the lengths are checked, and every task writes the
                // voxels of its own panels.
                unsafe { simd::run(isa, job) }
            });
        };
        // SAFETY: the panels are all voxels, and all of their channels are written.
        unsafe {
            written(len, |y| {
                (0..panels.div_ceil(each)).into_par_iter().for_each(|task| run(y, task));
            })
        }
    }
}

/// What is multiplied.
#[derive(Clone, Copy)]
struct Source<'a> {
    weights: &'a ConvWeights,
    /// `[in, D, H, W]`
    x: &'a [f32],
    geometry: ConvGeometry,
}

/// All output channels of some panels of voxels.
struct Job<'a> {
    source: Source<'a>,
    bias: Option<&'a [f32]>,
    /// Of the output.
    voxels: usize,
    panels: Range<usize>,
    /// `[panels][PASS][PANEL]`
    gathered: &'a mut [f32],
    /// `[out, voxels]`
    y: SharedMut,
}

impl Kernel for Job<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { source, bias, voxels, panels, gathered, y } = self;
        let weights = source.weights;
        let inner = weights.kernel.iter().product::<usize>() * weights.in_channels;
        let width = inner.next_multiple_of(LINE);
        let first_voxel = panels.start * PANEL;
        let count = voxels.min(panels.end * PANEL) - first_voxel;
        for channel in 0..weights.out_channels {
            let start = bias.map_or(0.0, |bias| bias[channel]);
            // SAFETY: these voxels of a channel belong to this task.
            unsafe {
                let row = y.get().add(channel * voxels + first_voxel);
                for i in 0..count {
                    row.add(i).write(start);
                }
            }
        }
        for first in (0..inner).step_by(PASS) {
            let steps = first..inner.min(first + PASS);
            for (panel, gathered) in panels.clone().zip(gathered.chunks_exact_mut(PASS * PANEL)) {
                source.gather(panel, steps.clone(), gathered);
            }
            for row in (0..weights.out_channels).step_by(S::ROWS) {
                let block = row / MAX_ROWS * MAX_ROWS * width + row % MAX_ROWS * LINE;
                for (panel, gathered) in panels.clone().zip(gathered.chunks_exact(PASS * PANEL)) {
                    let tile = Tile {
                        a: weights.packed[block + first * MAX_ROWS..].as_ptr(),
                        a_strides: Strides { row: LINE, word: 1, line: MAX_ROWS * LINE },
                        b: gathered.as_ptr(),
                        b_stride: PANEL,
                        steps: steps.len(),
                        c: y.get().wrapping_add(row * voxels + panel * PANEL),
                        c_stride: voxels,
                        start: Start::Output,
                    };
                    let rows = S::ROWS.min(weights.out_channels - row);
                    let columns = PANEL.min(voxels - panel * PANEL);
                    // SAFETY: the weights have these rows, the panel whole vectors, and the output
                    // `columns` voxels of each row, which were written above.
                    unsafe { tile.run::<S, F32>(rows, columns) }
                }
            }
        }
    }
}

/// Output voxels of a panel that follow one another along the last axis.
#[derive(Clone, Copy, Default)]
struct Run {
    /// Its first column of the panel.
    column: usize,
    len: usize,
    /// Its first voxel.
    at: [usize; 3],
}

/// The runs of a panel, and how many there are.
fn runs(panel: usize, output: [usize; 3]) -> ([Run; PANEL], usize) {
    let [d, h, w] = output;
    let (mut runs, mut count) = ([Run::default(); PANEL], 0);
    let (mut voxel, end) = (panel * PANEL, (d * h * w).min((panel + 1) * PANEL));
    while voxel < end {
        let at = [voxel / (h * w), voxel / w % h, voxel % w];
        let len = (w - at[2]).min(end - voxel);
        runs[count] = Run { column: voxel - panel * PANEL, len, at };
        (voxel, count) = (voxel + len, count + 1);
    }
    (runs, count)
}

impl Source<'_> {
    /// The input voxels that the weights `steps` meet in the output voxels of a panel.
    ///
    /// # Shapes
    /// - `gathered`: `[steps, PANEL]`
    #[inline(always)]
    fn gather(self, panel: usize, steps: Range<usize>, gathered: &mut [f32]) {
        let Self { weights, x, geometry } = self;
        let ConvGeometry { input: [d, h, w], stride, padding, output } = geometry;
        let (channels, [_, kh, kw]) = (weights.in_channels, weights.kernel);
        let (runs, count) = runs(panel, output);
        let last = runs[count - 1];
        let mut step = steps.start;
        while step < steps.end {
            let (tap, channel) = (step / channels, step % channels);
            let here = channel..channels.min(channel + steps.end - step);
            let tap = [tap / (kh * kw), tap / kw % kh, tap % kw];
            let to = &mut gathered[(step - steps.start) * PANEL..][..here.len() * PANEL];
            if last.column + last.len < PANEL {
                for row in to.chunks_exact_mut(PANEL) {
                    row[last.column + last.len..].fill(0.0);
                }
            }
            for run in &runs[..count] {
                let source = |axis: usize, n: usize| {
                    (run.at[axis] * stride[axis] + tap[axis])
                        .checked_sub(padding[axis])
                        .filter(|at| *at < n)
                };
                let columns = run.column..run.column + run.len;
                let (Some(i), Some(j)) = (source(0, d), source(1, h)) else {
                    to.chunks_exact_mut(PANEL).for_each(|row| row[columns.clone()].fill(0.0));
                    continue;
                };
                let inside = inside(run, w, [stride[2], padding[2], tap[2]]);
                let at = (run.at[2] + inside.start) * stride[2] + tap[2];
                let from = (i * h + j) * w + at.saturating_sub(padding[2]);
                for (row, channel) in to.chunks_exact_mut(PANEL).zip(here.clone()) {
                    let from = x.get(channel * d * h * w + from..).unwrap_or_default();
                    spread(&mut row[columns.clone()], inside.clone(), from, stride[2]);
                }
            }
            step += here.len();
        }
    }
}

/// The voxels of a run, from its first one on, whose input lies inside a row of `w` voxels.
#[inline(always)]
fn inside(run: &Run, w: usize, [stride, padding, tap]: [usize; 3]) -> Range<usize> {
    let first = run.at[2];
    let start = padding.saturating_sub(tap).div_ceil(stride).saturating_sub(first);
    let end = (w + padding).saturating_sub(tap).div_ceil(stride).saturating_sub(first);
    let end = end.min(run.len);
    start.min(end)..end
}

/// Every `stride`-th number of `from` to the columns `inside` of `row`, and zeros to the others.
#[inline(always)]
fn spread(row: &mut [f32], inside: Range<usize>, from: &[f32], stride: usize) {
    row[..inside.start].fill(0.0);
    row[inside.end..].fill(0.0);
    let row = &mut row[inside];
    if stride == 1 {
        return copy(row, from);
    }
    for (to, from) in row.iter_mut().zip(from.iter().step_by(stride)) {
        *to = *from;
    }
}

/// `to` from the beginning of `from`; a whole panel without a call.
#[inline(always)]
fn copy(to: &mut [f32], from: &[f32]) {
    match (<&mut [f32; PANEL]>::try_from(&mut *to), from.first_chunk::<PANEL>()) {
        (Ok(to), Some(from)) => *to = *from,
        _ => to.copy_from_slice(&from[..to.len()]),
    }
}
