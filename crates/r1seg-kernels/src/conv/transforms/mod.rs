//! Winograd's transforms of a tile of `2x4x4` output voxels: polynomials evaluated at four points
//! along D (0, 1, -1, infinity) and at six along H and W (0, ±√½, ±√2, infinity).
//!
//! With these six points, and not the usual 0, ±1, ±2, the error is that of the direct sums.

mod input;
mod output;
mod weights;

use crate::simd::WIDEST;

pub(super) use input::{Input, Transformed, input};
pub(super) use output::{Output, output, write};
pub(super) use weights::weights;

/// Points along D.
pub(super) const PLANES: usize = 4;

/// Points along H and W together.
pub(super) const POINTS: usize = SIX * SIX;

/// Points along H or W, which are also the input voxels of a tile.
pub(super) const SIX: usize = 6;

/// Output voxels of a tile.
pub(super) const TILE: [usize; 3] = [2, 4, 4];

/// Weights of a pair of channels.
pub(super) const TAPS: usize = 27;

/// The most tiles of a [`Run`], whose transformed input fits a first-level cache.
const LONGEST: usize = 16;

/// Columns of input that a run reads, in whole vectors from a multiple of a vector on.
const COLUMNS: usize = LONGEST * TILE[2] + 2 * WIDEST;

/// Scratch numbers of [`input`].
pub(super) const SCRATCH: usize = 2 * SIX * WIDEST * COLUMNS;

/// Tiles that follow one another along W.
#[derive(Clone, Copy)]
pub(super) struct Run {
    /// Its first tile, counted within the task.
    pub(super) first: usize,
    pub(super) len: usize,
    /// The first output voxel of its first tile.
    pub(super) at: [usize; 3],
}

impl Run {
    /// The run that begins at a tile, of tiles before `end`, within a grid of tiles.
    pub(super) fn new(tile: usize, first: usize, end: usize, [_, h, w]: [usize; 3]) -> Self {
        let at = [tile / (h * w), tile / w % h, tile % w];
        let len = LONGEST.min(w - at[2]).min(end - tile);
        Self { first, len, at: std::array::from_fn(|axis| at[axis] * TILE[axis]) }
    }
}
