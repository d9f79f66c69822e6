//! One step of a [`GridMap`](super::GridMap), along each axis.

use crate::{AxisMap, Lattice};

/// A step from a grid of shape `from` to one of shape `to`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Step {
    pub(super) from: [usize; 3],
    pub(super) to: [usize; 3],
    pub(super) change: Change,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Change {
    /// Axes change their order and direction.
    Axes(AxisMap),
    /// Cell 0 of the target is cell `start` of the source: a crop, or padding, by axis and side.
    Window { start: [i64; 3] },
    /// Both grids span the same extent.
    Fit,
    /// Cells of the target lie on a lattice in the source.
    Space(Lattice),
    /// Cells of the source lie on a lattice in the target.
    SpaceBack(Lattice),
}

impl Step {
    pub(super) fn inverse(self) -> Self {
        let change = match self.change {
            Change::Axes(axes) => Change::Axes(axes.inverse()),
            Change::Window { start } => Change::Window { start: start.map(|n| -n) },
            Change::Fit => Change::Fit,
            Change::Space(lattice) => Change::SpaceBack(lattice),
            Change::SpaceBack(lattice) => Change::Space(lattice),
        };
        Self { from: self.to, to: self.from, change }
    }

    /// Whether each cell of the target is a cell of the source, or lies beyond it.
    pub(super) fn moves_whole_cells(self) -> bool {
        match self.change {
            Change::Axes(_) | Change::Window { .. } => true,
            Change::Fit => self.from == self.to,
            Change::Space(_) | Change::SpaceBack(_) => false,
        }
    }

    /// Whether what lies beyond the target is lost. A voxel at the edge may lie beyond the outermost
    /// cells of a lattice, but not beyond a window that shows more than these.
    pub(super) fn is_bound(self) -> bool {
        !matches!(self.change, Change::Axes(_) | Change::Space(_))
    }

    /// The axis of the source that axis `n` of the target runs along.
    pub(super) fn source_axis(self, n: usize) -> usize {
        match self.change {
            Change::Axes(axes) => axes.source_axis(n),
            _ => n,
        }
    }

    /// Where `at`, a coordinate along the source axis of axis `n` of the target, lies along axis `n`.
    /// Centers of cells are whole numbers.
    pub(super) fn target(self, n: usize, at: f64) -> f64 {
        let (from, to) = (self.from[self.source_axis(n)] as f64, self.to[n] as f64);
        match self.change {
            Change::Axes(axes) if axes.is_reversed(n) => from - 1.0 - at,
            Change::Axes(_) => at,
            Change::Window { start } => at - start[n] as f64,
            // One division of exact numbers, so that the edges of cells stay exact.
            Change::Fit => ((2.0 * at + 1.0) * to / from - 1.0) / 2.0,
            Change::Space(lattice) => (at - lattice.offset[n]) / lattice.scale[n],
            Change::SpaceBack(lattice) => lattice.offset[n] + lattice.scale[n] * at,
        }
    }

    /// The way back from [`target`](Self::target).
    pub(super) fn source(self, n: usize, at: f64) -> f64 {
        let back = self.inverse();
        let axis = self.source_axis(n);
        back.target(axis, at)
    }

    /// Cells of the source to one cell of the target along axis `n` of the target: negative where the
    /// axis is reversed.
    pub(super) fn slope(self, n: usize) -> f64 {
        let (from, to) = (self.from[self.source_axis(n)] as f64, self.to[n] as f64);
        match self.change {
            Change::Axes(axes) if axes.is_reversed(n) => -1.0,
            Change::Axes(_) | Change::Window { .. } => 1.0,
            Change::Fit => from / to,
            Change::Space(lattice) => lattice.scale[n],
            Change::SpaceBack(lattice) => 1.0 / lattice.scale[n],
        }
    }
}

/// Whether a coordinate lies in a cell of an axis of `size` cells.
pub(super) fn is_inside(at: f64, size: usize) -> bool {
    -0.5 <= at && at < size as f64 - 0.5
}
