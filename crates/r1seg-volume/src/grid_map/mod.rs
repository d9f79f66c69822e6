//! The way between the voxels of an input and the cells of a model's grid.

mod region;
mod sources;
mod step;
#[cfg(test)]
mod tests;

use crate::crop::{Padding, Region};
use crate::error::Detail;
use crate::{Affine, AxisMap, Error, Geometry, Lattice};
pub use region::RegionRule;
pub(crate) use sources::Lookup;
pub use sources::NearestMode;
use step::{Change, Step, is_inside};

/// The way from the cells of one grid, the source, to those of another, the target: axes permuted and
/// reversed, crops, padding, and changes of size, one after the other. The source usually is the stored
/// volume, and the target what a model is given.
///
/// Shapes and coordinates are `[D, H, W]`. The center of cell `n` has coordinate `n`, so that a cell
/// reaches from `n - 0.5` to `n + 0.5`, and its edges belong to the cell above them.
///
/// # Conventions
///
/// | what | rule |
/// |---|---|
/// | points | the cell that holds the point: `floor(x + 0.5)`, rounded once, after the last step |
/// | boxes | one of [`RegionRule`] |
/// | labels and masks | the nearest cell, as [`NearestMode`] says for [`fitted`](Self::fitted) grids, and the [`Lattice`] for others |
/// | intensities and logits | [`resample`](crate::resample) |
///
/// ```
/// use r1seg_volume::{GridMap, Region, RegionRule};
///
/// // The middle 8 of 10 slices, on a grid of half the size.
/// let crop = Region { start: [1, 0, 0], end: [9, 20, 20] };
/// let map = GridMap::identity([10, 20, 20]).cropped(crop)?.fitted([4, 10, 10])?;
/// assert_eq!(map.cell_of([3, 7, 9]), Some([1, 3, 4]));
/// assert_eq!(map.cell_of([0, 7, 9]), None);
/// let cell = Region::at([1, 3, 4], [1; 3]);
/// let voxels = map.inverse().region(cell, RegionRule::Touched);
/// assert_eq!(voxels, Some(Region { start: [3, 6, 8], end: [5, 8, 10] }));
/// # Ok::<(), r1seg_volume::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct GridMap {
    source: [usize; 3],
    steps: Vec<Step>,
}

impl GridMap {
    /// The target is the source.
    pub fn identity(shape: [usize; 3]) -> Self {
        Self { source: shape, steps: Vec::new() }
    }

    /// Shape of the source.
    pub fn source_shape(&self) -> [usize; 3] {
        self.source
    }

    /// Shape of the target.
    pub fn shape(&self) -> [usize; 3] {
        self.steps.last().map_or(self.source, |step| step.to)
    }

    /// And then a part of the target so far.
    ///
    /// # Errors
    /// `R-GEO-04` if the part is empty or reaches out of it.
    pub fn cropped(self, region: Region) -> Result<Self, Error> {
        region.check(self.shape())?;
        let start = region.start.map(|n| i64::try_from(n).unwrap_or(i64::MAX));
        Ok(self.windowed(start, region.shape()))
    }

    /// And then the grid of `shape` that begins at cell `start` of the target so far, and may reach out
    /// of it: a crop where it does not, and padding where it does.
    #[must_use]
    pub fn windowed(self, start: [i64; 3], shape: [usize; 3]) -> Self {
        self.with(shape, Change::Window { start })
    }

    /// And then in the middle of padding.
    ///
    /// # Errors
    /// `R-GEO-02` if the padding is not one of the target so far.
    pub fn padded(self, padding: &Padding) -> Result<Self, Error> {
        let (expected, got) = (self.shape(), padding.inner.shape());
        if expected != got {
            return Err(Detail::ShapeMismatch { expected, got }.into());
        }
        let start = padding.inner.start.map(|n| -i64::try_from(n).unwrap_or(i64::MAX));
        Ok(self.windowed(start, padding.shape))
    }

    /// And then the axes in another order or direction.
    #[must_use]
    pub fn turned(self, axes: AxisMap) -> Self {
        let shape = axes.shape(self.shape());
        self.with(shape, Change::Axes(axes))
    }

    /// And then a grid of `shape` over the same extent, as torch's `interpolate` has it
    /// (`align_corners=False`).
    ///
    /// # Errors
    /// `R-GEO-06` if one of both grids has an axis of 0.
    pub fn fitted(self, shape: [usize; 3]) -> Result<Self, Error> {
        for shape in [self.shape(), shape] {
            if shape.contains(&0) {
                return Err(Detail::EmptyShape { shape }.into());
            }
        }
        Ok(self.with(shape, Change::Fit))
    }

    /// And then the cells of a lattice, such as one of another spacing.
    #[must_use]
    pub fn spaced(self, lattice: Lattice) -> Self {
        self.with(lattice.shape, Change::Space(lattice))
    }

    fn with(mut self, to: [usize; 3], change: Change) -> Self {
        let from = self.shape();
        let changes_nothing = match change {
            Change::Axes(axes) => axes.is_identity(),
            Change::Window { start } => start == [0; 3] && from == to,
            Change::Fit => from == to,
            Change::Space(_) | Change::SpaceBack(_) => false,
        };
        if !changes_nothing {
            self.steps.push(Step { from, to, change });
        }
        self
    }

    /// This map, and then another from its target on.
    ///
    /// # Errors
    /// `R-GEO-02` if the source of the other has another shape than this target.
    pub fn then(mut self, next: &Self) -> Result<Self, Error> {
        if next.source != self.shape() {
            return Err(Detail::ShapeMismatch { expected: self.shape(), got: next.source }.into());
        }
        self.steps.extend(&next.steps);
        Ok(self)
    }

    /// The way back.
    #[must_use]
    pub fn inverse(&self) -> Self {
        Self {
            source: self.shape(),
            steps: self.steps.iter().rev().map(|step| step.inverse()).collect(),
        }
    }

    /// Where a point of the source lies in the target, inside of it or not.
    pub fn point(&self, at: [f64; 3]) -> [f64; 3] {
        self.steps
            .iter()
            .fold(at, |at, step| std::array::from_fn(|n| step.target(n, at[step.source_axis(n)])))
    }

    /// The cell of the target that holds the center of a cell of the source; `None` where the target,
    /// or a grid on the way to it, does not reach that far.
    pub fn cell_of(&self, cell: [usize; 3]) -> Option<[usize; 3]> {
        self.cell_at(cell.map(|n| n as f64))
    }

    /// The cell of the target that holds a point of the source; `None` where the target, or a grid on
    /// the way to it, does not reach that far.
    pub fn cell_at(&self, at: [f64; 3]) -> Option<[usize; 3]> {
        let mut at = at;
        let is_in = |at: [f64; 3], shape: [usize; 3]| (0..3).all(|n| is_inside(at[n], shape[n]));
        if !is_in(at, self.source) {
            return None;
        }
        for step in &self.steps {
            at = std::array::from_fn(|n| step.target(n, at[step.source_axis(n)]));
            if step.is_bound() && !is_in(at, step.to) {
                return None;
            }
        }
        // Inside, so that a cast cannot saturate.
        is_in(at, self.shape()).then(|| at.map(|at| (at + 0.5).floor() as usize))
    }

    /// The cell of the target at a position in the world (RAS+ mm), where `geometry` places the source.
    /// `None` outside, and without an affine.
    pub fn cell_at_mm(&self, geometry: &Geometry, mm: [f64; 3]) -> Option<[usize; 3]> {
        let [i, j, k] = geometry.voxel_at_mm(mm)?;
        self.cell_at([k, j, i])
    }

    /// The position in the world (RAS+ mm) of a point of the target; `None` without an affine.
    pub fn mm_of_point(&self, geometry: &Geometry, at: [f64; 3]) -> Option<[f64; 3]> {
        let [k, j, i] = self.inverse().point(at);
        geometry.world_mm([i, j, k])
    }

    /// The part of the source that the target shows; `None` if it shows nothing of it.
    pub fn footprint(&self) -> Option<Region> {
        self.inverse().region(Region::whole(self.shape()), RegionRule::Touched)
    }

    /// Cells of the source behind one cell of the target, along each axis of the source, times `unit`.
    fn extent_of_cell(&self, unit: [f64; 3]) -> [f64; 3] {
        let mut extent = unit;
        // The axis of the source that each axis of the grid so far runs along.
        let mut axes = [0, 1, 2];
        for step in &self.steps {
            axes = std::array::from_fn(|n| axes[step.source_axis(n)]);
            for (n, axis) in axes.into_iter().enumerate() {
                extent[axis] = match step.change {
                    Change::Fit => extent[axis] * step.from[n] as f64 / step.to[n] as f64,
                    _ => extent[axis] * step.slope(n).abs(),
                };
            }
        }
        extent
    }

    /// Along each axis of the target, cells of the source behind one cell, times `unit` along the axes
    /// of the source.
    pub(crate) fn cell_lengths(&self, unit: [f64; 3]) -> [f64; 3] {
        let extent = self.extent_of_cell(unit);
        let axes = self.steps.iter().fold([0, 1, 2], |axes: [usize; 3], step| {
            std::array::from_fn(|n| axes[step.source_axis(n)])
        });
        axes.map(|axis| extent[axis])
    }

    /// Millimeters behind one cell of the target, along each axis of the source, which `geometry` is
    /// the place of: finer detail is lost. `None` without a spacing.
    pub fn resolution_mm(&self, geometry: &Geometry) -> Option<[f64; 3]> {
        Some(self.extent_of_cell(geometry.spacing_mm()?))
    }

    /// The target's place in the world, where `geometry` places the source. Without an affine there
    /// is none for the target either.
    ///
    /// # Errors
    /// `R-GEO-05` if the cells of the target are too small or too large for lengths.
    pub fn geometry(&self, geometry: &Geometry) -> Result<Geometry, Error> {
        let Some(affine) = geometry.affine() else {
            return Ok(Geometry::without_affine(self.shape()));
        };
        let mut slopes = [1.0; 3];
        let mut axes = [0, 1, 2];
        for step in &self.steps {
            slopes = std::array::from_fn(|n| slopes[step.source_axis(n)] * step.slope(n));
            axes = std::array::from_fn(|n| axes[step.source_axis(n)]);
        }
        let [k, j, i] = self.inverse().point([0.0; 3]);
        let origin = geometry.world_mm([i, j, k]).unwrap_or_default();
        let mut target: Affine = [[0.0; 4], [0.0; 4], [0.0; 4], [0.0, 0.0, 0.0, 1.0]];
        for row in 0..3 {
            // Columns are i, j, k, and axes k, j, i.
            for n in 0..3 {
                // Adding 0 makes 0 of -0.
                target[row][2 - n] = affine[row][2 - axes[n]] * slopes[n] + 0.0;
            }
            target[row][3] = origin[row];
        }
        let placed = Geometry::with_affine(self.shape(), target)?;
        Ok(placed.with_guessed_sides(geometry.has_guessed_sides()))
    }
}
