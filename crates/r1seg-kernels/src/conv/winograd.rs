//! Convolution with a `3x3x3` kernel, a stride of one and a padding of one, after Winograd: the
//! kernel and the input are polynomials, evaluated at points and multiplied there.
//!
//! A tile of `2x4x4` output voxels takes 144 products per pair of channels and not 864. At each of
//! these points the channels of some tiles are multiplied with the weights, by the register tile: its
//! rows are tiles, and its lanes are output channels. The points of one plane are computed at a time,
//! and added up to the output. A task of `t` tiles has `36 t in + 32 t out + 1728 t` numbers in memory
//! and `102,000 + 16 out` more: 0.6 MiB for 48 channels (24 tiles), 2.8 MiB for 192 (48), 7 MiB for 384 and
//! 14 MiB for 768 (64).

use std::ops::Range;
use std::ptr::null;

use rayon::prelude::*;

use super::ConvFusion;
use super::transforms::{
    self, Input, Output, PLANES, POINTS, Run, SCRATCH, TAPS, TILE, Transformed,
};
use crate::buffer::{LINE, SharedMut, with_scratch, written};
use crate::isa::Isa;
use crate::simd::{self, Kernel, Simd};
use crate::tile::{F32, Start, Strides, Tile};

/// Pairs of channels up to which transformed weights are kept. They are 16/3 of the weights' memory;
/// others are transformed in every call, for some channels at a time.
const KEPT: usize = 192 * 192;

/// Input channels whose weights are transformed at a time.
const CHUNK: usize = 48;

/// Panels of [`LINE`] output channels whose products are in memory at a time.
const PANELS: usize = 3;

/// Whether so many transformed weights are worth their memory.
pub(super) fn keeps([out, inner]: [usize; 2]) -> bool {
    out.checked_mul(inner).is_some_and(|pairs| pairs <= KEPT)
}

/// Whether the direct way is slower, as it is from a vector of channels on.
pub(super) fn pays([out, inner]: [usize; 2]) -> bool {
    out >= LINE && inner >= LINE
}

#[derive(Clone)]
pub(super) struct Winograd {
    /// `[out / LINE][in][TAPS][LINE]`, filled up with zeros.
    taps: Vec<f32>,
    /// `[out / LINE / PANELS][PLANES][POINTS][PANELS][in][LINE]` with fewer panels in the last group, or
    /// nothing.
    kept: Vec<f32>,
    out_channels: usize,
    in_channels: usize,
}

impl Winograd {
    /// `None` when no memory could hold the packed weights.
    ///
    /// # Shapes
    /// - `weights`: `[out, in, 3, 3, 3]`, of exactly this length
    pub(super) fn new(
        weights: &[f32],
        [out_channels, in_channels]: [usize; 2],
        keep: bool,
    ) -> Option<Self> {
        let width = in_channels.checked_mul(TAPS * LINE)?;
        let mut taps = vec![0f32; width.checked_mul(out_channels.div_ceil(LINE))?];
        for (i, weight) in weights.iter().enumerate() {
            let (row, inner) = (i / (in_channels * TAPS), i % (in_channels * TAPS));
            taps[row / LINE * width + inner * LINE + row % LINE] = *weight;
        }
        let mut kept = Vec::new();
        if keep {
            kept = vec![0f32; taps.len() / TAPS * PLANES * POINTS];
            let group = PANELS * PLANES * POINTS * in_channels * LINE;
            let transform = |(i, to): (usize, &mut [f32])| {
                let taps = &taps[i * PANELS * width..];
                let taps = &taps[..taps.len().min(PANELS * width)];
                let each = to.len() / PLANES;
                for (plane, to) in to.chunks_exact_mut(each.max(1)).enumerate() {
                    let job = Transform { taps, channels: in_channels, plane, to };
                    // SAFETY: this is an instruction set of the machine.
                    unsafe { simd::run(Isa::detect(), job) }
                }
            };
            kept.par_chunks_mut(group.max(1)).enumerate().for_each(transform);
        }
        Some(Self { taps, kept, out_channels, in_channels })
    }

    /// The weights as they were given.
    pub(super) fn weights(&self) -> Vec<f32> {
        let inner = self.in_channels * TAPS;
        let number = |i: usize| {
            let (row, inner, width) = (i / inner, i % inner, inner * LINE);
            self.taps[row / LINE * width + inner * LINE + row % LINE]
        };
        (0..self.out_channels * inner).map(number).collect()
    }

    /// As [`ConvWeights::forward`](super::ConvWeights::forward), with lengths that are checked.
    ///
    /// # Safety
    /// The machine must have `isa`.
    pub(super) unsafe fn forward(
        &self,
        isa: Isa,
        x: &[f32],
        size: [usize; 3],
        fusion: ConvFusion<'_>,
    ) -> Vec<f32> {
        let voxels: usize = size.iter().product();
        let grid: [usize; 3] = std::array::from_fn(|axis| size[axis].div_ceil(TILE[axis]));
        let tiles: usize = grid.iter().product();
        let each = self.tiles_at_a_time();
        let blocks = tiles.div_ceil(each);
        let panels = self.out_channels.div_ceil(LINE);
        // Few blocks are divided by output channels.
        let parts = (2 * rayon::current_num_threads()).div_ceil(blocks.max(1));
        let width = panels.div_ceil(parts).next_multiple_of(PANELS).min(panels).max(1);
        let parts = panels.div_ceil(width);
        let run = |y: SharedMut, task: usize| {
            let (block, part) = (task / parts, task % parts);
            let tiles = block * each..((block + 1) * each).min(tiles);
            let panels = part * width..((part + 1) * width).min(panels);
            let lengths = self.lengths(tiles.len(), panels.len());
            with_scratch(lengths.iter().sum(), |scratch| {
                let job = Job {
                    weights: self,
                    x,
                    size,
                    grid,
                    tiles,
                    panels,
                    fusion,
                    lengths,
                    scratch,
                    y,
                };
                // SAFETY: the machine has `isa`; the lengths are checked, and every task writes its
                // own channels of its own tiles.
                unsafe { simd::run(isa, job) }
            });
        };
        // SAFETY: the tiles are all voxels, and all of their channels are written.
        unsafe {
            written(self.out_channels * voxels, |y| {
                (0..blocks * parts).into_par_iter().for_each(|task| run(y, task));
            })
        }
    }

    /// Tiles of a task. Its transformed input and its sums take 68 numbers per tile and channel, and
    /// stay in a second-level cache where channels are few; where they are many, what counts is how
    /// often the weights are read.
    fn tiles_at_a_time(&self) -> usize {
        match self.in_channels.max(self.out_channels) {
            _ if self.kept.is_empty() => 64,
            0..=128 => 24,
            _ => 48,
        }
    }

    /// Channels whose weights are multiplied at a time.
    fn chunk(&self) -> usize {
        if self.kept.is_empty() { CHUNK.min(self.in_channels) } else { self.in_channels }
    }

    /// Scratch numbers of a task: transformed input, sums, products, transformed weights, and what the
    /// transform of the input needs.
    fn lengths(&self, tiles: usize, panels: usize) -> [usize; 5] {
        let weights = if self.kept.is_empty() { PANELS * POINTS * self.chunk() * LINE } else { 0 };
        [
            POINTS * self.point_stride(tiles),
            // The transpose of a run's last columns reads whole vectors.
            (TILE.iter().product::<usize>() * tiles + LINE) * panels * LINE,
            PANELS * tiles * POINTS * LINE,
            weights,
            SCRATCH,
        ]
    }

    /// From one tile's channels to the next.
    fn tile_stride(&self) -> usize {
        self.in_channels.next_multiple_of(LINE)
    }

    /// From one point to the next, never a multiple of a page.
    fn point_stride(&self, tiles: usize) -> usize {
        tiles * self.tile_stride() + LINE
    }
}

/// The transform of the weights of some panels.
struct Transform<'a> {
    /// `[panels][in][TAPS][LINE]`
    taps: &'a [f32],
    channels: usize,
    plane: usize,
    /// `[POINTS][panels][in][LINE]`
    to: &'a mut [f32],
}

impl Kernel for Transform<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { taps, channels, plane, to } = self;
        let panel = channels * LINE;
        let point_stride = to.len() / POINTS;
        for (i, taps) in taps.chunks_exact((panel * TAPS).max(1)).enumerate() {
            let to = to[i * panel..].as_mut_ptr();
            // SAFETY: the caller has the instructions; the slices have these shapes.
            unsafe { transforms::weights::<S>(taps.as_ptr(), channels, plane, to, point_stride) }
        }
    }
}

/// Some output channels of some tiles.
struct Job<'a> {
    weights: &'a Winograd,
    /// `[in, size..]`
    x: &'a [f32],
    size: [usize; 3],
    /// Tiles along each axis.
    grid: [usize; 3],
    tiles: Range<usize>,
    panels: Range<usize>,
    fusion: ConvFusion<'a>,
    lengths: [usize; 5],
    scratch: &'a mut [f32],
    /// `[out, size..]`
    y: SharedMut,
}

impl Kernel for Job<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { weights, x, size, grid, tiles, panels, fusion, lengths, scratch, y } = self;
        let channels = weights.in_channels;
        let mut rest = scratch.as_mut_ptr();
        let mut parts = [rest; 5];
        for (part, length) in parts.iter_mut().zip(lengths) {
            *part = rest;
            rest = rest.wrapping_add(length);
        }
        let [transformed, sums, products, chunk_weights, scratch] = parts;
        let to = Transformed {
            numbers: transformed,
            point_stride: weights.point_stride(tiles.len()),
            tile_stride: weights.tile_stride(),
        };
        let sums_stride = panels.len() * LINE;
        let from = Input { numbers: x, channels, norm: fusion.norm };
        let run_at = |tile: usize| Run::new(tile, tile - tiles.start, tiles.end, grid);
        for plane in 0..PLANES {
            let mut tile = tiles.start;
            while tile < tiles.end {
                let run = run_at(tile);
                // SAFETY: the caller has the instructions; the scratch has these parts.
                unsafe {
                    transforms::input::<S>(from, size, run, plane, to, scratch);
                }
                tile += run.len;
            }
            for first_panel in panels.clone().step_by(PANELS) {
                let group = first_panel..panels.end.min(first_panel + PANELS);
                let multiply =
                    Multiply { weights, plane, panels: group.clone(), tiles: tiles.len(), to };
                // SAFETY: as above.
                unsafe {
                    multiply.run::<S>(chunk_weights, products);
                }
                let mut tile = tiles.start;
                while tile < tiles.end {
                    let run = run_at(tile);
                    let row = run.len * TILE[2];
                    for panel in group.clone() {
                        for i in 0..run.len {
                            let products = (panel - first_panel) * tiles.len() + run.first + i;
                            let at = run.first * 32 + i * TILE[2];
                            // SAFETY: as above.
                            unsafe {
                                transforms::output::<S>(
                                    parts[2].add(products * POINTS * LINE),
                                    plane,
                                    sums.add(at * sums_stride + (panel - panels.start) * LINE),
                                    row * sums_stride,
                                    sums_stride,
                                );
                            }
                        }
                    }
                    tile += run.len;
                }
            }
        }
        let first = panels.start * LINE;
        let count = weights.out_channels.min(panels.end * LINE) - first;
        let voxels: usize = size.iter().product();
        let mut tile = tiles.start;
        while tile < tiles.end {
            let run = run_at(tile);
            // SAFETY: as above; these channels of these tiles belong to this task.
            unsafe {
                let sums = sums.add(run.first * 32 * sums_stride);
                let into = Output {
                    bias: fusion.bias.map(|bias| &bias[first..]),
                    plus: fusion.residual.map_or(null(), |r| r.as_ptr().add(first * voxels)),
                    to: y.get().add(first * voxels),
                };
                transforms::write::<S>(sums, sums_stride, run, size, count, into);
            }
            tile += run.len;
        }
    }
}

/// The products of a task at the points of a plane, of up to [`PANELS`] panels of output channels.
struct Multiply<'a> {
    weights: &'a Winograd,
    plane: usize,
    panels: Range<usize>,
    tiles: usize,
    to: Transformed,
}

impl Multiply<'_> {
    /// # Shapes
    /// - `chunk_weights`: `[POINTS, PANELS, CHUNK, LINE]`
    /// - `products`: `[PANELS, tiles, POINTS, LINE]`
    ///
    /// # Safety
    /// As of [`Simd`]; the pointers must reach over these shapes.
    #[inline(always)]
    unsafe fn run<S: Simd>(self, chunk_weights: *mut f32, products: *mut f32) {
        let Self { weights, plane, panels, tiles, to } = self;
        let channels = weights.in_channels;
        let chunk = weights.chunk();
        for first in (0..channels).step_by(chunk.max(1)) {
            let steps = chunk.min(channels - first);
            let width = panels.len();
            let point_stride = width * steps * LINE;
            let b = if weights.kept.is_empty() {
                for (i, panel) in panels.clone().enumerate() {
                    let taps = &weights.taps[(panel * channels + first) * TAPS * LINE..];
                    // SAFETY: the caller's promise.
                    unsafe {
                        let to = chunk_weights.add(i * steps * LINE);
                        transforms::weights::<S>(taps.as_ptr(), steps, plane, to, point_stride);
                    }
                }
                chunk_weights.cast_const()
            } else {
                let before = panels.start * PLANES + plane * width;
                weights.kept[before * POINTS * channels * LINE..].as_ptr()
            };
            let ahead = steps.div_ceil(tiles.div_ceil(S::ROWS));
            for point in 0..POINTS {
                for panel in 0..width {
                    let b = b.wrapping_add(point * point_stride + panel * steps * LINE);
                    for row in (0..tiles).step_by(S::ROWS) {
                        // What the next panel is multiplied with, little by little.
                        let next = b.wrapping_add((steps + row / S::ROWS * ahead) * LINE);
                        for line in 0..ahead {
                            // SAFETY: a hint needs no valid pointer.
                            unsafe { S::prefetch_l2(next.wrapping_add(line * LINE).cast()) }
                        }
                        let at = point * to.point_stride + row * to.tile_stride + first;
                        let tile = Tile {
                            a: to.numbers.wrapping_add(at),
                            a_strides: Strides::rows(to.tile_stride),
                            b,
                            b_stride: LINE,
                            steps,
                            c: products
                                .wrapping_add(((panel * tiles + row) * POINTS + point) * LINE),
                            c_stride: POINTS * LINE,
                            start: if first == 0 { Start::Zero } else { Start::Output },
                        };
                        let rows = S::ROWS.min(tiles - row);
                        // SAFETY: the caller's promise.
                        unsafe { tile.vectors::<S, F32>(rows, LINE) }
                    }
                }
            }
        }
    }
}
