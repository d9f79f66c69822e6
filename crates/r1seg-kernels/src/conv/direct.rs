//! Convolution with any geometry: stretches of the input are laid side by side, and every weight is multiplied with
//! all of them.
//!
//! The lanes of a vector are output voxels. For some weights at a time, the input voxels that they
//! meet are gathered into panels, which stay in the cache while all output channels use them: no
//! unfolded input is ever in memory.

use std::ops::Range;

use rayon::prelude::*;

use super::{ConvFusion, ConvGeometry, ConvNorm};
use crate::buffer::{LINE, SharedMut, with_scratch, written_in};
use crate::isa::Isa;
use crate::simd::{self, Kernel, Simd};
use crate::tile::{F32, MAX_ROWS, PANEL, Start, Strides, Tile};

/// Weights of an output channel that are multiplied at a time, whole lines: what they meet of a panel
/// fills half of a first-level cache, and stays there for all output channels.
const PASS: usize = 128;

/// Panels of output voxels per task, which share one read of the weights: their gathered input fills
/// a quarter of a second-level cache.
const PANELS: usize = 8;

/// The weights of a 3D convolution, in the order in which they are multiplied.
#[derive(Clone)]
pub(super) struct Direct {
    /// `[out / MAX_ROWS][inner / LINE][MAX_ROWS][LINE]`, filled up with zeros, where `inner` runs over
    /// `[kd, kh, kw, in]`.
    packed: Vec<f32>,
    out_channels: usize,
    in_channels: usize,
    kernel: [usize; 3],
}

impl Direct {
    /// `None` when no memory could hold the packed weights.
    ///
    /// # Shapes
    /// - `weights`: `[out, in, kd, kh, kw]`, of exactly this length
    pub(super) fn new(
        weights: &[f32],
        [out_channels, in_channels]: [usize; 2],
        kernel: [usize; 3],
    ) -> Option<Self> {
        let taps = kernel.iter().product::<usize>();
        let inner = taps * in_channels;
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

    /// As [`ConvWeights::forward`](super::ConvWeights::forward), with lengths that are checked. The result
    /// takes over `memory` where it fits.
    ///
    /// # Safety
    /// The machine must have `isa`.
    pub(super) unsafe fn forward(
        &self,
        isa: Isa,
        x: &[f32],
        geometry: ConvGeometry,
        fusion: ConvFusion<'_>,
        memory: Vec<f32>,
    ) -> Vec<f32> {
        let voxels: usize = geometry.output.iter().product();
        let panels = voxels.div_ceil(PANEL);
        let each = panels.div_ceil(2 * rayon::current_num_threads()).clamp(1, PANELS);
        let run = |y: SharedMut, task: usize| {
            let panels = task * each..((task + 1) * each).min(panels);
            with_scratch(panels.len() * PASS * PANEL, |gathered| {
                let source = Source { weights: self, x, norm: fusion.norm, geometry };
                let job = Job { source, fusion, voxels, panels, gathered, y };
                // SAFETY: the machine has `isa`; the lengths are checked, and every task writes the
                // voxels of its own panels.
                unsafe { simd::run(isa, job) }
            });
        };
        // SAFETY: the panels are all voxels, and all of their channels are written.
        unsafe {
            written_in(memory, self.out_channels * voxels, |y| {
                (0..panels.div_ceil(each)).into_par_iter().for_each(|task| run(y, task));
            })
        }
    }
}

/// What is multiplied.
#[derive(Clone, Copy)]
struct Source<'a> {
    weights: &'a Direct,
    /// `[in, D, H, W]`
    x: &'a [f32],
    norm: Option<ConvNorm<'a>>,
    geometry: ConvGeometry,
}

/// All output channels of some panels of voxels.
struct Job<'a> {
    source: Source<'a>,
    fusion: ConvFusion<'a>,
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
        let Self { source, fusion, voxels, panels, gathered, y } = self;
        let weights = source.weights;
        let inner = weights.kernel.iter().product::<usize>() * weights.in_channels;
        let width = inner.next_multiple_of(LINE);
        for first in (0..inner.max(1)).step_by(PASS) {
            let steps = first..inner.min(first + PASS);
            for (panel, gathered) in panels.clone().zip(gathered.chunks_exact_mut(PASS * PANEL)) {
                source.gather(panel, steps.clone(), gathered);
            }
            for (panel, gathered) in panels.clone().zip(gathered.chunks_exact(PASS * PANEL)) {
                for row in (0..weights.out_channels).step_by(S::ROWS) {
                    let block = row / MAX_ROWS * MAX_ROWS * width + row % MAX_ROWS * LINE;
                    let rows = S::ROWS.min(weights.out_channels - row);
                    let columns = PANEL.min(voxels - panel * PANEL);
                    let at = row * voxels + panel * PANEL;
                    let start = match fusion {
                        _ if first > 0 => Start::Output,
                        ConvFusion { residual: Some(residual), bias, .. } => {
                            for i in 0..rows {
                                let bias = bias.map_or(0.0, |bias| bias[row + i]);
                                let at = at + i * voxels;
                                // SAFETY: the residual and the output have these voxels, which are
                                // this task's.
                                unsafe { shift(&residual[at..][..columns], bias, y.get().add(at)) }
                            }
                            Start::Output
                        }
                        ConvFusion { bias: Some(bias), .. } => Start::Rows(bias[row..].as_ptr()),
                        _ => Start::Zero,
                    };
                    let tile = Tile {
                        a: weights.packed.as_ptr().wrapping_add(block + first * MAX_ROWS),
                        a_strides: Strides { row: LINE, word: 1, line: MAX_ROWS * LINE },
                        b: gathered.as_ptr(),
                        b_stride: PANEL,
                        steps: steps.len(),
                        c: y.get().wrapping_add(at),
                        c_stride: voxels,
                        start,
                    };
                    // SAFETY: the weights have these rows, the panel whole vectors, and the output
                    // `columns` voxels of each row, which the first pass writes.
                    unsafe { tile.run::<S, F32>(rows, columns) }
                }
            }
        }
    }
}

/// `x + bias` to where `y` points to.
///
/// # Safety
/// `y` must reach as far as `x`.
#[inline(always)]
unsafe fn shift(x: &[f32], bias: f32, y: *mut f32) {
    for (i, x) in x.iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { *y.add(i) = x + bias }
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
        let Self { weights, x, norm, geometry } = self;
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
                    let row = &mut row[columns.clone()];
                    spread(row, inside.clone(), from, stride[2]);
                    if let Some(norm) = norm {
                        row[inside.clone()].iter_mut().for_each(|x| *x = norm.apply(channel, *x));
                    }
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
    if stride == 2 {
        // The compiler makes vectors of this, and not of any stride.
        let (pairs, rest) = from.as_chunks::<2>();
        let numbers = pairs.iter().map(|pair| pair[0]).chain(rest.first().copied());
        row.iter_mut().zip(numbers).for_each(|(to, from)| *to = from);
        return;
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
