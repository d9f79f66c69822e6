"""Converts arrays and images of nibabel and SimpleITK for the native module, and back."""

from __future__ import annotations

import io
from typing import Any, NamedTuple

import numpy as np

from r1seg.errors import UsageError

#: From LPS, the world of DICOM and ITK, to RAS, the world of NIfTI, and back.
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


class Parts(NamedTuple):
    """An array as the native module takes it."""

    data: np.ndarray
    descr: str
    fortran_order: bool
    shape: list[int]
    axes: str
    affine: list[list[float]] | None
    header: bytes | None
    has_chosen_frame: bool = False


def parts(source: Any, affine: Any = None, axes: str | None = None, frame: int | None = None) -> Parts:
    """Takes an array or an image apart; ``affine`` maps indices of an array to mm (RAS+)."""
    if _is_nibabel(source):
        return _of_nibabel(source, affine, axes, frame)
    if _is_sitk(source):
        return _of_sitk(source, affine, axes)
    if not is_array(source):
        raise UsageError(
            f"a {type(source).__name__} is not a volume",
            "R-PY-01",
            fix="give a path, a numpy array, or an image of nibabel or SimpleITK",
        )
    array = np.asarray(source)
    return _of_array(array, affine, axes or ("zyx" if affine is None else "xyz"))


def is_array(source: Any) -> bool:
    """Whether it is an array without a place in the world: of numpy, PyTorch or the like."""
    return isinstance(source, np.ndarray) or (
        hasattr(source, "__array__")
        and hasattr(source, "shape")
        and not _is_nibabel(source)
        and type(source).__module__.split(".")[0] != "r1seg"
    )


def as_labels(array: Any) -> np.ndarray:
    """A mask as numbers that the native module reads."""
    array = np.asarray(array)
    labels: np.ndarray = array.astype(np.uint8) if array.dtype == bool else array
    return labels


def _of_array(array: np.ndarray, affine: Any, axes: str, header: bytes | None = None) -> Parts:
    if array.dtype.kind not in "biuf":
        raise UsageError(
            f"an array of {array.dtype} does not hold intensities",
            "R-PY-01",
            fix="convert it with .astype(numpy.float32)",
        )
    if array.dtype == bool:
        array = array.view(np.uint8)
    elif array.dtype.kind == "f" and array.dtype.itemsize not in (2, 4, 8):
        array = array.astype(np.float64)
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    if not (fortran or array.flags.c_contiguous):
        # The order of the axes in memory is kept where it is nearly one of the two.
        fortran = abs(array.strides[0]) < abs(array.strides[-1])
        array = np.asfortranarray(array) if fortran else np.ascontiguousarray(array)
    flat = (array.T if fortran else array).reshape(-1)
    matrix = None if affine is None else np.asarray(affine, dtype=np.float64)
    if matrix is not None and matrix.shape != (4, 4):
        raise UsageError(
            f"affine has the shape {matrix.shape}",
            "R-PY-01",
            fix="give 4 x 4 numbers, from (i, j, k, 1) to mm (RAS+)",
        )
    return Parts(
        data=flat.view(np.uint8),
        descr=array.dtype.str,
        fortran_order=bool(fortran),
        shape=list(array.shape),
        axes=axes,
        affine=None if matrix is None else matrix.tolist(),
        header=header,
    )


def _is_nibabel(source: Any) -> bool:
    return hasattr(source, "dataobj") and hasattr(source, "affine") and hasattr(source, "header")


def _of_nibabel(image: Any, affine: Any, axes: str | None, frame: int | None) -> Parts:
    _refuse_geometry("an image of nibabel", affine, axes)
    data = image.dataobj
    if len(image.shape) > 3:
        frames = int(np.prod(image.shape[3:]))
        if frame is None and frames > 1:
            raise UsageError(f"the image holds {frames} volumes", "R-PY-01", fix=f"choose one: frame=0 to {frames - 1}")
        index = np.unravel_index(frame or 0, image.shape[3:], order="F")
        data = data[(slice(None),) * 3 + tuple(int(n) for n in index)]
    array = np.asanyarray(data)
    if array.dtype == np.float64:
        # As files are read: scaled in 64 bits, kept in 32.
        array = array.astype(np.float32)
    taken = _of_array(array, image.affine, "xyz", _nifti_header(image))
    return taken._replace(has_chosen_frame=len(image.shape) > 3)


def _nifti_header(image: Any) -> bytes | None:
    """The header, where it gives the same place as the image: masks repeat it bit for bit."""
    header = image.header
    if image.affine is None or not hasattr(header, "get_best_affine"):
        return None
    if not np.allclose(header.get_best_affine(), image.affine):
        return None
    header = header.copy()
    # The magic of a pair in memory says nothing of the file that will be written.
    with io.BytesIO() as file:
        header.write_to(file)
        return file.getvalue()


def _is_sitk(source: Any) -> bool:
    return type(source).__module__.split(".")[0] == "SimpleITK" and hasattr(source, "GetDirection")


def _of_sitk(image: Any, affine: Any, axes: str | None) -> Parts:
    import SimpleITK as sitk

    _refuse_geometry("an image of SimpleITK", affine, axes)
    if image.GetDimension() != 3:
        raise UsageError(f"the image has {image.GetDimension()} dimensions", "R-PY-01", fix="give an image of 3")
    spacing = np.diag(image.GetSpacing())
    direction = np.asarray(image.GetDirection()).reshape(3, 3)
    lps = np.eye(4)
    lps[:3, :3] = direction @ spacing
    lps[:3, 3] = image.GetOrigin()
    return _of_array(sitk.GetArrayViewFromImage(image), _LPS @ lps, "zyx")


def _refuse_geometry(what: str, affine: Any, axes: str | None) -> None:
    if affine is not None or axes is not None:
        raise UsageError(f"{what} already says where it is", "R-PY-01", fix="leave affine and axes out")


def to_nibabel(data: bytes) -> Any:
    """The bytes of a NIfTI file as an image."""
    import nibabel

    # The length of the header, in the byte order of this machine, tells the version.
    is_first = int.from_bytes(data[:4], "little") == 348
    return (nibabel.Nifti1Image if is_first else nibabel.Nifti2Image).from_bytes(data)


def to_sitk(mask: np.ndarray, volume: Any) -> Any:
    """A mask, in the axes of the volume's array, as an image."""
    import SimpleITK as sitk

    affine = volume.affine
    if affine is None:
        raise UsageError(
            "the volume has no affine, so an image of the mask would have no place",
            "R-PY-01",
            fix="give the volume its affine= or spacing=",
        )
    if mask.ndim == 4:
        mask = mask[0]
    image = sitk.GetImageFromArray(np.ascontiguousarray(mask.T if volume.axes == "xyz" else mask))
    lps = _LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).flatten().tolist())
    return image
