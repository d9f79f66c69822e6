//! Which cell of the source each cell of the target takes its value from.

use super::GridMap;
use super::step::{Change, Step, is_inside};
use crate::crop::{Region, check_data};
use crate::orientation::Row;
use crate::resample::{nearest_exact_sources, nearest_sources, trilinear_threshold};
use crate::{Error, RegionRule, Voxels};

/// How the nearest cell is found where grids [span the same extent](GridMap::fitted): the two ways of
/// torch's `interpolate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NearestMode {
    /// `nearest`: cell `floor(n * from / to)`, which holds the lower edge of cell `n`.
    Nearest,
    /// `nearest-exact`: cell `floor((n + 0.5) * from / to)`, which holds the center of cell `n`.
    NearestExact,
}

/// The cells of the source behind those of the target.
pub(super) struct Sources {
    /// The axis of the source that each axis of the target runs along.
    pub(super) axes: [usize; 3],
    /// By axis of the target, and by cell along it, the cell along that axis of the source; `None` beyond
    /// the source.
    pub(super) cells: [Vec<Option<usize>>; 3],
}

impl GridMap {
    /// Where each cell of the target takes its label from.
    pub(super) fn sources(&self, mode: NearestMode) -> Sources {
        let shape = self.shape();
        let mut axes = [0, 1, 2];
        let cells = std::array::from_fn(|n| {
            let mut at: Vec<Option<f64>> = (0..shape[n]).map(|cell| Some(cell as f64)).collect();
            for step in self.steps.iter().rev() {
                back(*step, axes[n], mode, &mut at);
                axes[n] = step.source_axis(axes[n]);
            }
            // Rounded once. What is inside cannot saturate a cast.
            let whole = |at: f64| (at + 0.5).floor() as usize;
            let inside = |at: &f64| is_inside(*at, self.source[axes[n]]);
            at.into_iter().map(|at| at.filter(inside).map(whole)).collect()
        });
        Sources { axes, cells }
    }

    /// The labels of the target, each that of the nearest cell of the source, and `T::default()` where
    /// the target reaches out of the source.
    ///
    /// # Errors
    /// `R-GEO-01` if `labels` has not one value for each cell of the source.
    pub fn gather<T: Copy + Default>(
        &self,
        labels: &[T],
        mode: NearestMode,
    ) -> Result<Vec<T>, Error> {
        check_data(labels, self.source)?;
        let [_, h, w] = self.source;
        let strides = [h * w, w, 1];
        let Sources { axes, cells } = self.sources(mode);
        let offsets: [Vec<Option<usize>>; 3] = std::array::from_fn(|n| {
            cells[n].iter().map(|cell| cell.map(|cell| cell * strides[axes[n]])).collect()
        });
        let columns = &offsets[2];
        let run = run_of(columns);
        let mut out = vec![T::default(); self.shape().iter().product()];
        if columns.is_empty() {
            return Ok(out);
        }
        let rows = offsets[0].iter().flat_map(|z| offsets[1].iter().map(move |y| (z, y)));
        for (row, offset) in out.chunks_exact_mut(columns.len()).zip(rows) {
            let (Some(z), Some(y)) = offset else { continue };
            match &run {
                Some((at, first)) => {
                    let length = at.len();
                    row[at.clone()].copy_from_slice(&labels[z + y + first..][..length]);
                }
                None => {
                    for (value, x) in row.iter_mut().zip(columns) {
                        if let Some(x) = x {
                            *value = labels[z + y + x];
                        }
                    }
                }
            }
        }
        Ok(out)
    }

    /// A mask on the source from one on the target: the way back, by the nearest cell, and 0 where the
    /// target shows nothing of the source.
    ///
    /// # Errors
    /// `R-GEO-01` if `mask` has not one value for each cell of the target.
    pub fn mask_to_source(&self, mask: &[u8], mode: NearestMode) -> Result<Vec<u8>, Error> {
        self.inverse().gather(mask, mode)
    }

    /// A mask on the source from `logits` on a grid of shape `from` that spans the target: trilinear
    /// interpolation to the target, `logit > 0`, and then [the way back](Self::mask_to_source).
    ///
    /// # Errors
    /// `R-GEO-01` if there is not one logit for each cell; `R-GEO-06`.
    pub fn mask_from_logits(&self, logits: &[f32], from: [usize; 3]) -> Result<Vec<u8>, Error> {
        let mask = trilinear_threshold(logits, from, self.shape())?;
        self.mask_to_source(&mask, NearestMode::NearestExact)
    }

    /// How cells of the target are looked up in the source. Of steps that resample there is none.
    pub(crate) fn lookup(&self) -> Lookup {
        debug_assert!(self.steps.iter().all(|step| step.moves_whole_cells()), "{self:?}");
        let (mut axes, mut reversed) = ([0, 1, 2], [false; 3]);
        for step in &self.steps {
            reversed =
                std::array::from_fn(|n| reversed[step.source_axis(n)] != (step.slope(n) < 0.0));
            axes = std::array::from_fn(|n| axes[step.source_axis(n)]);
        }
        let nothing = Region { start: [0; 3], end: [0; 3] };
        let inside =
            self.region(Region::whole(self.source), RegionRule::Touched).unwrap_or(nothing);
        let first = self.inverse().point(inside.start.map(|n| n as f64));
        Lookup {
            source: self.source,
            shape: self.shape(),
            axes,
            reversed,
            inside,
            // The first cell inside is one of the source.
            first: axes.map(|axis| first[axis].max(0.0) as usize),
        }
    }
}

/// Moves coordinates along axis `n` of the target of a step to its source.
fn back(step: Step, n: usize, mode: NearestMode, at: &mut [Option<f64>]) {
    let size = step.from[step.source_axis(n)];
    match step.change {
        Change::Fit => {
            let sources = match mode {
                NearestMode::Nearest => nearest_sources(size, step.to[n]),
                NearestMode::NearestExact => nearest_exact_sources(size, step.to[n]),
            };
            let source = |at: f64| sources.get((at + 0.5).floor() as usize).map(|n| *n as f64);
            at.iter_mut().for_each(|at| *at = at.and_then(source));
        }
        Change::Space(lattice) => {
            let source = |at: f64| lattice.nearest(step.source(n, at), size);
            at.iter_mut().for_each(|at| *at = at.and_then(source));
        }
        Change::SpaceBack(lattice) => {
            // Not only inside: see `Step::is_bound`.
            let source = |at: f64| lattice.nearest_cell(step.source(n, at), size);
            at.iter_mut().for_each(|at| *at = at.map(source));
        }
        Change::Axes(_) => {
            at.iter_mut().for_each(|at| *at = at.map(|at| step.source(n, at)));
        }
        Change::Window { .. } => {
            let source = |at: f64| Some(step.source(n, at)).filter(|at| is_inside(*at, size));
            at.iter_mut().for_each(|at| *at = at.and_then(source));
        }
    }
}

/// Where neighbors along a row are neighbors in memory as well: which of the row have a source, and the
/// first of these.
fn run_of(columns: &[Option<usize>]) -> Option<(std::ops::Range<usize>, usize)> {
    let start = columns.iter().position(Option::is_some)?;
    let end = columns.iter().rposition(Option::is_some)? + 1;
    let first = columns[start]?;
    let follows = |(n, column): (usize, &Option<usize>)| *column == Some(first + n);
    columns[start..end].iter().enumerate().all(follows).then_some((start..end, first))
}

/// How cells of a target are looked up in a source whose cells they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lookup {
    source: [usize; 3],
    shape: [usize; 3],
    axes: [usize; 3],
    reversed: [bool; 3],
    /// The cells of the target that are cells of the source.
    inside: Region,
    /// Of the first of them, by axis of the target.
    first: [usize; 3],
}

impl Lookup {
    /// Shape of the target.
    pub(crate) fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The cells of the target that are cells of the source.
    pub(crate) fn inside(&self) -> Region {
        self.inside
    }

    /// Where the cells of the target's row at `[z, y]` that have one are in the source.
    fn row(&self, [z, y]: [usize; 2]) -> Option<Row> {
        let [_, h, w] = self.source;
        let strides = [h * w, w, 1];
        let Region { start, end } = self.inside;
        if !(start[0]..end[0]).contains(&z) || !(start[1]..end[1]).contains(&y) {
            return None;
        }
        let mut first = 0;
        for (n, at) in [z, y, start[2]].into_iter().enumerate() {
            let steps = at - start[n];
            let cell = match self.reversed[n] {
                true => self.first[n].saturating_sub(steps),
                false => self.first[n] + steps,
            };
            first += cell * strides[self.axes[n]];
        }
        let stride = strides[self.axes[2]].cast_signed();
        Some(Row { first, step: if self.reversed[2] { -stride } else { stride } })
    }

    /// Appends the target's row at `[z, y]`, with 0 beyond the source.
    pub(crate) fn append_row(&self, voxels: &Voxels, at: [usize; 2], out: &mut Vec<f32>) {
        let (end, columns) = (out.len() + self.shape[2], self.inside.start[2]..self.inside.end[2]);
        if let Some(row) = self.row(at) {
            out.resize(out.len() + columns.start, 0.0);
            voxels.append_row_to(row, columns.len(), out);
        }
        out.resize(end, 0.0);
    }
}
