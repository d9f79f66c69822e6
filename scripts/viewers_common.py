"""What the checks of viewers share: servers, CTs that they and the command line read, and masks of both."""

import contextlib
import socket
import subprocess
import time
from pathlib import Path

import nibabel
import numpy as np

MODELS = Path("tests/data")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def named(model: str) -> str:
    """One of the recorded models, or `demo`."""
    return model if model == "demo" else str(MODELS / model)


@contextlib.contextmanager
def serving(r1seg: str, work: Path, model: str, *more: str, port: int = 0):
    """A server of one model; its address."""
    args = [r1seg, "serve", "--model", named(model), "--port", str(port)]
    args += ["--upload-dir", str(work / "uploads"), *more]
    log = open(work / "server.log", "a")
    server = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        line = server.stdout.readline().strip()
        assert line.startswith("http://"), (work / "server.log").read_text()
        yield line.rstrip("/")
    finally:
        server.terminate()
        assert server.wait(60) == 143, server.returncode
        log.close()
    left = list((work / "uploads").iterdir())
    assert not left, f"the server left {left}"


def ct_of(work: Path, name: str, array: np.ndarray, spacing) -> Path:
    """Writes an array with the axes S, A, R as a NIfTI file that is stored RAS, which the command line reads."""
    affine = np.diag([*reversed(spacing), 1.0])
    path = work / f"{name}.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(array.T), affine), path)
    return path


def canonical(path: Path):
    """A volume as napari-nifti hands it on: its array with the axes S, A, R, and its spacing."""
    image = nibabel.as_closest_canonical(nibabel.load(path))
    array = np.ascontiguousarray(np.asarray(image.dataobj).T)
    return array, [float(mm) for mm in reversed(image.header.get_zooms()[:3])]


def segment(r1seg: str, work: Path, model: str, ct: Path, *prompts: str) -> np.ndarray:
    """What the command line finds, with the axes S, A, R."""
    mask = work / "mask.nii.gz"
    args = [r1seg, "segment", "--model", named(model), str(ct), *prompts]
    args += ["--mask", str(mask), "--force", "--quiet"]
    done = subprocess.run(args, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return (np.asarray(nibabel.load(mask).dataobj).T > 0).astype(np.uint8)


def point(voxel, positive: bool = True) -> list[str]:
    """A point in the order of the command line: I, J, K."""
    ijk = ",".join(str(n) for n in reversed(voxel))
    return ["--point", ijk if positive else f"{ijk}:neg"]


def same(what: str, ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.shape == theirs.shape, (what, ours.shape, theirs.shape)
    different = int(((ours > 0) != (theirs > 0)).sum())
    assert different == 0 and theirs.any(), f"{what}: {different} voxels differ"
    print(f"  {what}: {int((theirs > 0).sum())} voxels, the same")


@contextlib.contextmanager
def raises(kind, words: str):
    """The words of an error, which a user reads."""
    try:
        yield
    except kind as error:
        assert words in str(error), error
        print(f"  refused: {error}".split("\nFor more information")[0])
    else:
        raise AssertionError(f"no error with the words `{words}`")


def until(what: str, holds, seconds: float = 60.0, tick=lambda: time.sleep(0.05)):
    begin = time.monotonic()
    while not holds():
        assert time.monotonic() - begin < seconds, what
        tick()
