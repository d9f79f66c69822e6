//! A CT in Python.

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use numpy::{PyArray2, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use r1seg::volume::{ArrayAxes, Geometry, ReadOptions, nifti_geometry, npy_header};
use r1seg_results::Input;

use crate::answer::Warning;
use crate::arrays::Axes;
use crate::error;
use crate::running::run;

/// What the reports call a volume that came from no file.
const ARRAY: &str = "array";

/// A CT with its place in the world, read once and usable for any number of models.
///
/// ``source`` is the path of a file or of a DICOM folder, a numpy array, or an image of nibabel or of
/// SimpleITK. An array has the axes (z, y, x), as SimpleITK gives them. With ``affine``, which maps
/// indices of the array to mm (RAS+), they are those of nibabel: (x, y, z). ``axes="zyx"`` or ``"xyz"``
/// says otherwise.
///
/// Arrays are copied: what becomes of them later changes nothing here.
#[pyclass(frozen, module = "r1seg")]
#[derive(Debug)]
pub(crate) struct Volume {
    pub(crate) input: Arc<Input>,
}

/// An array or an image, taken apart in Python.
#[derive(FromPyObject)]
struct Parts<'py> {
    /// All bytes in the order in which they lie.
    data: PyReadonlyArray1<'py, u8>,
    /// Their type, as numpy writes it.
    descr: String,
    fortran_order: bool,
    shape: Vec<usize>,
    axes: String,
    /// From (i, j, k) to mm, RAS+.
    affine: Option<[[f64; 4]; 4]>,
    /// A NIfTI header with the same affine.
    header: Option<Vec<u8>>,
    /// Whether the array is the frame that was asked for, and no longer all of them.
    has_chosen_frame: bool,
}

#[pymethods]
impl Volume {
    #[new]
    #[pyo3(signature = (
        source, *, affine = None, spacing = None, axes = None, affine_from = None, frame = None,
        key = None, series = None, allow_gaps = false, allow_modality = false, max_voxels = None,
    ))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords of Python")]
    fn new(
        py: Python<'_>,
        source: &Bound<'_, PyAny>,
        affine: Option<&Bound<'_, PyAny>>,
        spacing: Option<[f64; 3]>,
        axes: Option<&str>,
        affine_from: Option<PathBuf>,
        frame: Option<usize>,
        key: Option<String>,
        series: Option<&Bound<'_, PyAny>>,
        allow_gaps: bool,
        allow_modality: bool,
        max_voxels: Option<u64>,
    ) -> PyResult<Self> {
        let mut options = ReadOptions::default();
        options.affine_from = affine_from;
        (options.frame, options.key) = (frame, key);
        (options.allow_gaps, options.allow_modality) = (allow_gaps, allow_modality);
        options.series =
            series.map(|series| series.str().map(|text| text.to_string())).transpose()?;
        options.max_voxels = max_voxels.unwrap_or(options.max_voxels);
        options.axes = axes.map(|axes| named_axes(py, axes)).transpose()?;
        if let Ok(path) = source.extract::<PathBuf>() {
            // The spacing of a file is that of (i, j, k), as its masks are indexed.
            options.spacing_mm = spacing.map(|[i, j, k]| [k, j, i]);
            if affine.is_some() {
                let message = "affine is for arrays, and a file is read";
                return Err(error::usage(
                    py,
                    message,
                    "give affine_from= another file, or spacing=",
                ));
            }
            return Self::of_file(py, &path, &options);
        }
        Self::of_array(py, source, options, (affine, spacing, axes))
    }

    /// The shape of the array and of its masks.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, pyo3::types::PyTuple>> {
        pyo3::types::PyTuple::new(py, self.axes_of_arrays().shape(self.geometry()))
    }

    /// ``"xyz"`` where axis 0 of arrays is i, or ``"zyx"`` where it is k.
    #[getter]
    fn axes(&self) -> &'static str {
        self.axes_of_arrays().name()
    }

    /// From (i, j, k, 1) to mm (RAS+), 4 x 4, whatever the axes of arrays are; ``None`` where it is not
    /// known.
    #[getter]
    fn affine<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyArray2<f64>>>> {
        let Some(affine) = self.geometry().affine() else { return Ok(None) };
        let rows: Vec<Vec<f64>> = affine.iter().map(|row| row.to_vec()).collect();
        Ok(Some(PyArray2::from_vec2(py, &rows)?))
    }

    /// Millimeters from voxel to voxel along the axes of arrays; ``None`` where they are not known.
    #[getter]
    fn spacing(&self) -> Option<[f64; 3]> {
        self.geometry().spacing_mm().map(|spacing| self.axes_of_arrays().swap(spacing))
    }

    /// Where i, j and k grow to, such as ``"RAS"``; ``None`` where it is not known.
    #[getter]
    fn orientation(&self) -> Option<String> {
        self.geometry().orientation().map(|orientation| orientation.to_string())
    }

    /// What a person should know about the file or the array.
    #[getter]
    fn warnings(&self) -> Vec<Warning> {
        self.input.warnings.iter().map(Warning::from).collect()
    }

    /// The path, as given; ``None`` for an array or an image.
    #[getter]
    fn path(&self) -> Option<PathBuf> {
        Some(self.input.path.clone()).filter(|path| path != Path::new(ARRAY))
    }

    /// A copy of the intensities (HU for most CTs), as f32.
    fn to_numpy(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let voxels = self.input.volume.voxels().to_f32().into_owned();
        self.axes_of_arrays().array(py, voxels, self.geometry())
    }

    #[pyo3(signature = (dtype = None, copy = None))]
    fn __array__(
        &self,
        py: Python<'_>,
        dtype: Option<&Bound<'_, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Py<PyAny>> {
        // There is no array to share: the voxels of a CT are kept in 16 bits.
        if copy == Some(false) {
            return Err(pyo3::exceptions::PyValueError::new_err("a copy is always made"));
        }
        let array = self.to_numpy(py)?;
        match dtype {
            Some(dtype) => array.call_method1(py, "astype", (dtype,)),
            None => Ok(array),
        }
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let shape = self.shape(py)?.to_string();
        let place = self.orientation().unwrap_or_else(|| "no affine".to_string());
        Ok(format!("Volume(shape={shape}, axes={:?}, {place})", self.axes()))
    }
}

impl Volume {
    pub(crate) fn geometry(&self) -> &Geometry {
        self.input.volume.geometry()
    }

    pub(crate) fn axes_of_arrays(&self) -> Axes {
        Axes::of(&self.input)
    }

    fn of_file(py: Python<'_>, path: &Path, options: &ReadOptions) -> PyResult<Self> {
        let input = run(py, None, |_| Ok(Input::read(path, options)?))?;
        Ok(Self { input: Arc::new(input) })
    }

    fn of_array(
        py: Python<'_>,
        source: &Bound<'_, PyAny>,
        mut options: ReadOptions,
        (affine, spacing, axes): (Option<&Bound<'_, PyAny>>, Option<[f64; 3]>, Option<&str>),
    ) -> PyResult<Self> {
        let named = PyDict::new(py);
        named.set_item("affine", affine)?;
        named.set_item("axes", axes)?;
        named.set_item("frame", options.frame)?;
        let parts = py.import("r1seg._images")?.call_method("parts", (source,), Some(&named))?;
        let parts: Parts<'_> = parts.extract()?;
        let axes = named_axes(py, &parts.axes)?;
        options.axes = Some(axes);
        options.frame = options.frame.filter(|_| !parts.has_chosen_frame);
        options.spacing_mm = spacing.map(|[a, b, c]| match axes {
            ArrayAxes::Xyz => [c, b, a],
            _ => [a, b, c],
        });
        let spatial = parts.shape.len().checked_sub(3).map(|first| &parts.shape[first..]);
        if let (Some(affine), Some(&[a, b, c])) = (parts.affine, spatial) {
            let shape = if axes == ArrayAxes::Xyz { [c, b, a] } else { [a, b, c] };
            let placed = match &parts.header {
                Some(header) => nifti_geometry(header).map(|(geometry, _)| geometry),
                None => Geometry::with_affine(shape, affine),
            };
            options.geometry = Some(placed.map_err(|error| error::exception(py, &error))?);
        }
        let bytes = parts.data.as_slice()?;
        let header = npy_header(&parts.descr, parts.fortran_order, &parts.shape);
        let input = run(py, None, |_| {
            let stream = Cursor::new(header).chain(bytes);
            Ok(Input::read_stream(stream, (Path::new(ARRAY), ARRAY), &options)?)
        })?;
        Ok(Self { input: Arc::new(input) })
    }
}

fn named_axes(py: Python<'_>, axes: &str) -> PyResult<ArrayAxes> {
    match axes {
        "xyz" => Ok(ArrayAxes::Xyz),
        "zyx" => Ok(ArrayAxes::Zyx),
        _ => Err(error::usage(
            py,
            format!("axes is \"{axes}\""),
            "give \"zyx\" for [slices, rows, columns] or \"xyz\" for (i, j, k), as nibabel has them",
        )),
    }
}
