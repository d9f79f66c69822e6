//! Between `[D, H, W]` and the axes of the caller's array.

use numpy::ndarray::Array3;
use numpy::{Element, IntoPyArray};
use pyo3::prelude::*;
use r1seg::volume::{ArrayAxes, Geometry, Region};
use r1seg_results::Input;

/// The axes of the arrays about a volume: those of the array that it came from, and of a file (i, j, k).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axes {
    /// Whether they are (i, j, k), which is `[W, H, D]`.
    is_ijk: bool,
    /// Whether there is one more axis of size 1 in front.
    leading: bool,
}

impl Axes {
    pub(crate) fn of(input: &Input) -> Self {
        let geometry = input.volume.geometry();
        match input.is_array() {
            true => Self {
                is_ijk: geometry.npy_axes() == ArrayAxes::Xyz,
                leading: geometry.npy_leading_axis(),
            },
            false => Self { is_ijk: true, leading: false },
        }
    }

    /// As Python names them.
    pub(crate) fn name(self) -> &'static str {
        if self.is_ijk { "xyz" } else { "zyx" }
    }

    /// Between `[D, H, W]` and the axes of the array, both ways.
    pub(crate) fn swap<T>(self, [a, b, c]: [T; 3]) -> [T; 3] {
        if self.is_ijk { [c, b, a] } else { [a, b, c] }
    }

    /// The shape of arrays about a volume.
    pub(crate) fn shape(self, geometry: &Geometry) -> Vec<usize> {
        let shape = self.swap(geometry.shape());
        if self.leading { [&[1], &shape[..]].concat() } else { shape.to_vec() }
    }

    /// From the first and the last voxel, both inside.
    pub(crate) fn region(self, [first, last]: [[usize; 3]; 2]) -> Region {
        let end = self.swap(last).map(|voxel| voxel.saturating_add(1));
        Region { start: self.swap(first), end }
    }

    /// The first and the last voxel of a box.
    pub(crate) fn corners(self, region: Region) -> [[usize; 3]; 2] {
        [self.swap(region.start), self.swap(region.end.map(|end| end.saturating_sub(1)))]
    }

    /// Voxels in `[D, H, W]` C order as an array, without copying them.
    pub(crate) fn array<T: Element>(
        self,
        py: Python<'_>,
        voxels: Vec<T>,
        geometry: &Geometry,
    ) -> PyResult<Py<PyAny>> {
        let array = Array3::from_shape_vec(geometry.shape(), voxels)
            .map_err(|error| pyo3::exceptions::PyRuntimeError::new_err(error.to_string()))?;
        let array = array.into_pyarray(py).into_any();
        let array = if self.is_ijk { array.call_method0("transpose")? } else { array };
        if self.leading {
            return Ok(array.call_method1("reshape", (self.shape(geometry),))?.unbind());
        }
        Ok(array.unbind())
    }
}
