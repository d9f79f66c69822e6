"""A list of volumes on Ray: the results of `r1seg batch`, whatever dies on the way."""

import json
import os
import signal
import subprocess
import sys
import time

import nibabel
import numpy as np
import pytest

import r1seg
from conftest import QUESTION, program
from r1seg import _lists, errors
from r1seg import ray as on_ray

VOLUMES = 200


def test_rows_are_those_of_batch(tmp_path):
    (tmp_path / "list.csv").write_text(
        "id,image,organs,points,box,label\n"
        "p1,p1/ct.nii.gz,liver|spleen,,,\n"
        'p4,ct.nrrd,,"210,180,40|150,180,40:neg",,lesion\n'
        ',b/ct.nii.gz,,,"12,10,3,50,40,12",kidney\n'
    )
    first, second, third = _lists.read_rows(tmp_path / "list.csv")
    assert (first["id"], first["organs"]) == ("p1", ["liver", "spleen"])
    assert first["image"] == str(tmp_path / "p1/ct.nii.gz")
    assert second["points"] == ["210,180,40", "150,180,40:neg"] and second["labels"] == ["lesion"]
    assert (third["id"], third["box"]) == ("ct", "12,10,3,50,40,12")
    for wrong, message in (
        ([{"image": "a", "promptz": "x"}], "no field is called `promptz`"),
        ([{"prompt": "x"}], "no image"),
        ([{"image": "a"}, {"image": "b/a"}], "the id `a`"),
        ([], "no row"),
    ):
        with pytest.raises(errors.UsageError, match=message):
            _lists.read_rows(wrong)


def test_places_are_those_of_the_file():
    xyz, zyx = (r1seg.Volume(np.zeros((8, 9, 10), np.int16), axes=axes) for axes in ("xyz", "zyx"))
    row = {
        "points": ["1,2,3", {"voxel": [4, 5, 6], "positive": False}],
        "box": "0,1,2,3,4,5",
        "center": [1, 2, 3],
    }
    assert _lists.places(row, xyz) == {
        "points": [[1, 2, 3], [4, 5, 6]], "point_labels": [True, False], "box": [[0, 1, 2], [3, 4, 5]],
        "center": [1, 2, 3],
    }  # fmt: skip
    assert _lists.places(row, zyx) == {
        "points": [[3, 2, 1], [6, 5, 4]], "point_labels": [True, False], "box": [[2, 1, 0], [5, 4, 3]],
        "center": [3, 2, 1],
    }  # fmt: skip
    for wrong in ({"points": ["1,2"]}, {"points": ["1,2,3:no"]}, {"box": [1, 2]}, {"center": "a,b,c"}):
        with pytest.raises(errors.UsageError):
            _lists.places(wrong, xyz)


@pytest.fixture(scope="module")
def desk(tmp_path_factory, phantom):
    """200 small volumes, five of which cannot be used."""
    desk = tmp_path_factory.mktemp("ray")
    whole = np.asanyarray(nibabel.load(phantom).dataobj)
    affine = np.diag([5.2, 5.2, 8.0, 1.0])
    rows = []
    for n in range(VOLUMES):
        name = f"v{n:03}.nii.gz"
        voxels = np.roll(whole[::4, ::4], n % 11, axis=0)
        nibabel.save(nibabel.Nifti1Image(voxels.astype(np.int16), affine), desk / name)
        row = {"id": f"p{n:03}/ct", "image": name, "prompt": QUESTION}
        if n % 7 == 0:
            row |= {"organs": ["spleen"], "labels": ["liver", "milt"]}
        rows.append(row)
    good = (desk / "v000.nii.gz").read_bytes()
    (desk / "v017.nii.gz").write_bytes(good[: len(good) // 2])
    (desk / "v051.nii.gz").unlink()
    np.save(desk / "nan.npy", np.full((8, 16, 16), np.nan, np.float32))
    rows[88]["image"] = "nan.npy"
    nibabel.save(nibabel.Nifti1Image(np.zeros((8, 8, 8, 3), np.int16), affine), desk / "v123.nii.gz")
    header = bytearray(nibabel.Nifti1Header().binaryblock)
    header[40:48] = np.array([3, 30000, 30000, 30000], "<i2").tobytes()
    header[344:348] = b"n+1\0"
    (desk / "huge.nii").write_bytes(bytes(header) + bytes(100))
    rows[160]["image"] = "huge.nii"
    (desk / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = program(
        "batch",
        "-m",
        "demo",
        "--manifest",
        desk / "list.jsonl",
        "-o",
        desk / "serial",
        "--quiet",
        check=False,
    )
    assert done.returncode == 4, done.stderr
    return desk


def lines(folder):
    found = [path.read_text() for path in (folder / "results").glob("part-*.jsonl")]
    return [json.loads(line) for text in found for line in text.splitlines() if line.endswith("}")]


def start(desk, out):
    arguments = ["-m", "demo", "--manifest", desk / "list.jsonl", "-o", out, "--actors", "2", "--no-preview"]
    command = [sys.executable, "-m", "r1seg.ray", *map(str, arguments)]
    # The installed package, and not the folder of the tests.
    return subprocess.Popen(command, cwd=desk, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(count, out, child, seconds=240):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if len(lines(out)) >= count:
            return
        assert child.poll() is None, child.communicate()[0][-3000:]
        time.sleep(0.2)
    child.kill()
    raise AssertionError(f"{len(lines(out))} of {count} volumes after {seconds} s")


def test_what_dies_is_begun_again_and_the_results_are_those_of_batch(desk):
    pytest.importorskip("ray")
    out = desk / "ray"

    # An actor dies, and later the driver with all that hangs on it.
    child = start(desk, out)
    wait_for(20, out, child)
    actors = sorted((out / "results").glob("part-*.jsonl"))
    os.kill(int(actors[0].name.split("-")[1]), signal.SIGKILL)
    wait_for(90, out, child)
    parts = set((out / "results").glob("part-*.jsonl"))
    assert len(parts) == 3, "an actor that died was started again, once"
    child.kill()
    child.wait()
    time.sleep(5)
    before = {line["id"] for line in lines(out)}

    # What is there already is left out.
    child = start(desk, out)
    printed, _ = child.communicate(timeout=300)
    assert child.returncode == 4, printed[-3000:]
    assert len(set((out / "results").glob("part-*.jsonl")) - parts) == 2, "one load for each actor"
    again = [line["id"] for part in (out / "results").glob("part-*.jsonl") if part not in parts
             for line in map(json.loads, part.read_text().splitlines())]  # fmt: skip
    failed_before = {line["id"] for line in lines(out) if line["status"] == "failed"}
    assert set(again) & before <= failed_before

    serial = [json.loads(line) for line in (desk / "serial" / "results.jsonl").read_text().splitlines()]
    ours = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [line["id"] for line in ours] == [line["id"] for line in serial]
    assert sum(line["status"] == "failed" for line in ours) == 5
    for one, other in zip(ours, serial, strict=True):
        for field in ("status", "code", "text", "exit_code", "folder", "answers"):
            assert one[field] == other[field], (one["id"], field)
        for mask, expected in zip(one["masks"], other["masks"], strict=True):
            assert mask.items() <= expected.items(), one["id"]
        if one["masks"]:
            masks = (folder / one["folder"] / "mask.nii.gz" for folder in (out, desk / "serial"))
            assert len({path.read_bytes() for path in masks}) == 1, one["id"]
    assert not list((out / ".running").iterdir())


def test_a_volume_that_processes_die_of_is_left_out(desk, tmp_path):
    pytest.importorskip("ray")
    marker = on_ray._Marker(tmp_path, "p1")
    for _ in range(on_ray.MOST_DEATHS):
        marker.__enter__()
    settings = {"model": "demo", "load": {}, "encode": {}, "ask": {}, "preview": False}
    settings |= {"out": str(tmp_path), "threads": None}
    (tmp_path / "results").mkdir()
    actor = on_ray._Actor(settings)
    line = actor._line({"id": "p1", "image": str(desk / "v001.nii.gz"), "prompts": [QUESTION]}, "key")
    assert (line["status"], line["code"]) == ("failed", "R-PY-03")
    assert actor._line({"id": "p2", "image": str(desk / "v001.nii.gz"), "prompts": [QUESTION]}, "key")["status"] == "ok"


def test_a_model_that_cannot_be_loaded_ends_the_run(desk, tmp_path):
    pytest.importorskip("ray")
    child = subprocess.run(
        [sys.executable, "-m", "r1seg.ray", "-m", str(tmp_path / "absent"), "--manifest", str(desk / "list.jsonl"),
         "-o", str(tmp_path / "out"), "--no-preview"],
        cwd=desk, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert child.returncode == 66, child.stderr[-2000:]
    assert "R-MDL-01" in child.stderr.splitlines()[-2]
