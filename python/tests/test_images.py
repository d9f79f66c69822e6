"""Masks lie on the volume that they are of, whatever it came in, and are those of the command line."""

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

import r1seg
from conftest import QUESTION, affines, image, program


@pytest.fixture(params=affines())
def placed(request, phantom):
    name = request.param
    return image(phantom, affines()[name], f"{name}.nii.gz")


@pytest.fixture
def of_program(placed, tmp_path):
    """The mask that the command line makes of the file."""
    out = tmp_path / "out"
    program("infer", "-m", "demo", "-i", placed, "-p", QUESTION, "-o", out)
    return nibabel.load(out / "mask.nii.gz")


def test_a_file_gets_the_mask_of_the_command_line(model, placed, of_program, tmp_path):
    result = model.encode(placed).ask(QUESTION)
    assert result.volume.axes == "xyz"
    assert np.array_equal(result.mask, np.asanyarray(of_program.dataobj))
    assert result.mask.dtype == np.uint8
    result.save(tmp_path / "saved")
    written, by_program = tmp_path / "saved" / "mask.nii.gz", tmp_path / "out" / "mask.nii.gz"
    assert written.read_bytes() == by_program.read_bytes()


def test_an_image_of_nibabel_gets_the_same_mask_under_its_own_header(model, placed, of_program):
    result = model.encode(nibabel.load(placed)).ask(QUESTION)
    assert np.array_equal(result.mask, np.asanyarray(of_program.dataobj))
    made = result.to_nibabel()
    assert made.header.binaryblock == of_program.header.binaryblock
    assert np.array_equal(np.asanyarray(made.dataobj), result.mask)


def test_an_array_with_an_affine_is_indexed_as_nibabel_indexes_it(model, placed, of_program):
    source = nibabel.load(placed)
    for array in (source.get_fdata(), np.ascontiguousarray(source.get_fdata(dtype=np.float32))):
        result = model.encode(array, affine=source.affine).ask(QUESTION)
        assert result.volume.axes == "xyz"
        assert np.array_equal(result.mask, np.asanyarray(of_program.dataobj))
        assert np.allclose(result.to_nibabel().affine, source.affine, atol=1e-5)


def test_an_image_of_simpleitk_gets_the_same_mask_in_its_own_axes(model, placed, of_program):
    source = sitk.ReadImage(str(placed))
    result = model.encode(source).ask(QUESTION)
    assert result.volume.axes == "zyx"
    assert np.array_equal(result.mask.T, np.asanyarray(of_program.dataobj))
    made = result.to_sitk()
    assert made.GetSize() == source.GetSize()
    for of in ("GetSpacing", "GetOrigin", "GetDirection"):
        assert np.allclose(getattr(made, of)(), getattr(source, of)(), atol=1e-6), of
    # SimpleITK computes with both only where it takes their places for one.
    masked = sitk.GetArrayFromImage(sitk.Mask(source, made, outsideValue=-5000))
    assert np.array_equal(masked != -5000, result.mask != 0)


def test_from_one_library_to_the_other(model, placed):
    by_nibabel = model.encode(nibabel.load(placed)).ask(QUESTION)
    by_sitk = model.encode(sitk.ReadImage(str(placed))).ask(QUESTION)
    assert np.allclose(by_nibabel.volume.affine, by_sitk.volume.affine, atol=1e-5)
    assert np.allclose(by_sitk.to_nibabel().affine, nibabel.load(placed).affine, atol=1e-5)
    direction = by_nibabel.to_sitk().GetDirection()
    assert np.allclose(direction, sitk.ReadImage(str(placed)).GetDirection(), atol=1e-6)


def test_a_bare_array_is_slices_rows_columns_and_has_no_place(model, phantom):
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(phantom)))
    result = model.encode(array).ask(QUESTION)
    assert (result.volume.axes, result.volume.affine, result.volume.spacing) == ("zyx", None, None)
    assert np.array_equal(result.mask, model.encode(phantom).ask(QUESTION).mask.T)
    with pytest.raises(r1seg.errors.UsageError, match="no affine"):
        result.to_nibabel()
    with pytest.raises(r1seg.errors.UsageError, match="no affine"):
        result.to_sitk()
    assert [warning.code for warning in result.volume.warnings] == ["W-GEOM"]


@pytest.mark.parametrize("layout", ["c", "f", "sliced", "mirrored", "leading"])
def test_the_layout_of_an_array_changes_nothing(model, phantom, layout):
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(phantom)))
    laid = {
        "c": array,
        "f": np.asfortranarray(array),
        "sliced": np.repeat(array, 2, axis=2)[:, :, ::2],
        "mirrored": np.ascontiguousarray(array[:, ::-1])[:, ::-1],
        "leading": array[None],
    }[layout]
    mask = model.encode(laid).ask(QUESTION).mask
    assert mask.shape == laid.shape
    assert np.array_equal(mask.reshape(array.shape), model.encode(array).ask(QUESTION).mask)


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<i4", "<u2", "<f4", ">f4", "<f8", "<i8"])
def test_any_type_of_number_holds_the_same_intensities(model, phantom, dtype):
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(phantom)))
    array = np.clip(array, 0, None).astype(dtype)
    volume = r1seg.Volume(array)
    assert np.array_equal(np.asarray(volume), array.astype(np.float32))
    assert np.asarray(volume, dtype=np.int16).dtype == np.int16


def test_one_frame_of_four_dimensions_is_chosen(model, phantom):
    still = nibabel.load(phantom)
    voxels = np.asanyarray(still.dataobj)
    moving = nibabel.Nifti1Image(np.stack([np.zeros_like(voxels), voxels], axis=3), still.affine)
    with pytest.raises(r1seg.errors.UsageError, match="2 volumes"):
        model.encode(moving)
    mask = model.encode(moving, frame=1).ask(QUESTION).mask
    assert np.array_equal(mask, model.encode(phantom).ask(QUESTION).mask)


def test_an_array_may_change_after_it_was_given(model, phantom):
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(phantom)))
    volume = r1seg.Volume(array)
    before = volume.to_numpy()
    array[:] = 0
    assert np.array_equal(volume.to_numpy(), before)


def test_masks_are_not_copied_and_outlive_their_result(model, phantom):
    mask = model.encode(phantom).ask(QUESTION).mask
    assert mask.flags.f_contiguous and not mask.flags.owndata
    assert mask.sum() > 0
