"""What the tests share: a phantom as a file, the demo model, and the program that the wheel carries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

import r1seg

#: Recorded cases of the project: tiny checkpoints of every family.
CASES = Path(__file__).parents[2] / "tests" / "data"
QUESTION = "Can you segment the liver in this image?"


def program(*arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs the command line of the package."""
    command = [sys.executable, "-m", "r1seg", *map(str, arguments)]
    return subprocess.run(command, check=check, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom as NIfTI, LPS, with HU."""
    folder = tmp_path_factory.mktemp("demo")
    program("demo", "--out", folder / "demo")
    return folder / "demo" / "phantom.nii.gz"


@pytest.fixture(scope="session")
def model() -> r1seg.Model:
    return r1seg.load("demo")


@pytest.fixture(scope="session")
def encoded(model: r1seg.Model, phantom: Path) -> r1seg.EncodedVolume:
    return model.encode(phantom)


def image(phantom: Path, affine: np.ndarray, name: str) -> Path:
    """The phantom's voxels at another place, as a file beside it."""
    voxels = np.asanyarray(nibabel.load(phantom).dataobj)
    moved = nibabel.Nifti1Image(voxels, affine)
    moved.set_qform(affine, code=1)
    moved.set_sform(affine, code=3)
    path = phantom.parent / name
    nibabel.save(moved, path)
    return path


def affines() -> dict[str, np.ndarray]:
    """Places of a grid: as stored, mirrored, and turned by odd angles."""
    straight = np.diag([1.3, 1.3, 8.0, 1.0])
    mirrored = np.diag([-1.3, 1.3, -8.0, 1.0])
    mirrored[:3, 3] = [100.0, -50.0, 30.0]
    a, b = np.deg2rad([17.0, -8.0])
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1.0]])
    tilt = np.array([[1.0, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    oblique = np.eye(4)
    oblique[:3, :3] = turn @ tilt @ np.diag([-1.3, 1.3, 8.0])
    oblique[:3, 3] = [-12.5, 7.25, 400.0]
    return {"straight": straight, "mirrored": mirrored, "oblique": oblique}
