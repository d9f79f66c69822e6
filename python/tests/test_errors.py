"""Errors are typed, say what to do, and cross processes."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest

import r1seg
from conftest import CASES
from r1seg import errors


@pytest.mark.parametrize(
    ("cause", "kind", "also", "code"),
    [
        (lambda tmp: r1seg.Volume(tmp / "absent.nii.gz"), errors.MissingError, FileNotFoundError, "R-IN-01"),
        (lambda tmp: r1seg.load(tmp / "absent"), errors.MissingError, FileNotFoundError, "R-MDL-01"),
        (lambda tmp: r1seg.load("demo", device="tpu"), errors.UsageError, ValueError, "R-ARG-01"),
        (lambda tmp: r1seg.load("demo", memory_limit=1), errors.ResourceError, MemoryError, "R-MEM-01"),
        (lambda tmp: r1seg.Volume(np.zeros((2, 8, 8))), errors.DataError, ValueError, "R-IN-08"),
        (lambda tmp: r1seg.Volume(np.zeros((8, 8))), errors.DataError, ValueError, "R-NPY-03"),
        (lambda tmp: r1seg.Volume(np.full((8, 8, 8), np.nan)), errors.DataError, ValueError, "R-IN-09"),
        (lambda tmp: r1seg.Volume("not a path\0"), errors.Error, ValueError, ""),
        (lambda tmp: r1seg.Volume(3), errors.UsageError, ValueError, "R-PY-01"),
        (lambda tmp: r1seg.Volume(np.zeros((8, 8, 8)), axes="abc"), errors.UsageError, ValueError, "R-PY-01"),
        (
            lambda tmp: r1seg.Volume(np.zeros((8, 8, 8)), affine=np.eye(4), spacing=(1, 1, 1)),
            errors.UsageError,
            ValueError,
            "R-GEO-07",
        ),
        (
            lambda tmp: r1seg.Volume(np.zeros((8, 8, 8)), affine=np.zeros((4, 4))),
            errors.UsageError,
            ValueError,
            "R-GEO-05",
        ),
    ],
)
def test_an_error_says_what_kind_it_is(tmp_path, cause, kind, also, code):
    with pytest.raises((kind, also)) as raised:
        cause(tmp_path)
    error = raised.value
    if code:
        assert isinstance(error, kind) and isinstance(error, also)
        assert error.code == code and code in str(error)


def test_the_page_of_errors_lists_every_code_of_the_package():
    page = (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| (R-\w+-\d\d) \|", page, re.MULTILINE))
    for source in Path(r1seg.__file__).parent.glob("*.py"):
        given = set(re.findall(r"R-[A-Z0-9]+-\d\d", source.read_text(encoding="utf-8")))
        assert given <= listed, f"{source.name}: {given - listed}"


def test_errors_survive_pickle():
    with pytest.raises(errors.MissingError) as raised:
        r1seg.load("/absent/model")
    copied = pickle.loads(pickle.dumps(raised.value))
    assert type(copied) is errors.MissingError
    assert (copied.code, copied.path, copied.fix) == (raised.value.code, "/absent/model", raised.value.fix)
    assert str(copied) == str(raised.value)


def test_results_replace_nothing_unless_told(encoded, tmp_path):
    result = encoded.ask("Can you segment the liver in this image?")
    folder = result.save(tmp_path / "out")
    kept = (folder / "report.json").read_bytes()
    with pytest.raises(errors.OutputError, match="exists already"):
        result.save(tmp_path / "out")
    assert (folder / "report.json").read_bytes() == kept
    result.save(tmp_path / "out", overwrite=True, preview=False)
    assert not (folder / "preview.png").exists()


def test_a_broken_model_is_refused_by_name(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text((CASES / "phi3" / "config.json").read_text())
    with pytest.raises(r1seg.Error) as raised:
        r1seg.load(folder)
    assert "tokenizer" in str(raised.value) and raised.value.fix
