"""A list of volumes on Ray: the results of `r1seg batch`, whatever dies on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest

import r1seg
from conftest import QUESTION, program
from r1seg import _lists, errors
from r1seg import ray as on_ray

VOLUMES = 200


def read(tmp_path, text, name="list.csv"):
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    return _lists.read_rows(tmp_path / name)


def test_rows_are_those_of_batch(tmp_path):
    first, second, third = read(
        tmp_path,
        "\ufeffID, Image ,organs,points,box,label\r\n"
        "p1,p1/ct.nii.gz, liver | spleen ,,,\r\n"
        "\r\n"
        'p4,ct.nrrd,,"210,180,40 | 150,180,40:neg",,lesion\r\n'
        ',b/ct.nii.gz,,"1, 2, 3","12,10,3,50,40,12",kidney\r\n',
    )
    assert (first["id"], first["organs"]) == ("p1", ["liver", "spleen"])
    assert first["image"] == str(tmp_path / "p1/ct.nii.gz")
    assert second["points"] == [([210, 180, 40], True), ([150, 180, 40], False)] and second["labels"] == ["lesion"]
    assert (third["id"], third["points"], third["box"]) == ("ct", [([1, 2, 3], True)], [12, 10, 3, 50, 40, 12])
    (row,) = _lists.read_rows(
        [{"id": 17, "image": "a", "frame": "3", "series": 2, "key": None, "text": " ", "organ": "x"}]
    )
    assert row == {"id": "17", "image": str(Path.cwd() / "a"), "frame": 3, "series": "2", "organs": ["x"]}
    # Bars divide cells only.
    assert read(tmp_path, '{"image": "a", "prompts": "x|y"}', "list.json")[0]["prompts"] == ["x|y"]
    assert read(tmp_path, "image,prompt,prompts\na,x|y,\nb,,x|y\n")[0]["prompts"] == ["x|y"]


def test_rows_without_an_id_get_those_of_batch(tmp_path):
    def ids(*rows):
        rows = [{"image": row} if isinstance(row, str) else row for row in rows]
        return [row["id"] for row in _lists.read_rows([row | {"organ": "liver"} for row in rows])]

    assert ids("p1/ct.nii.gz", "p2/ct.nii.gz", "a.b.npy") == ["p1/ct", "p2/ct", "a.b"]
    assert ids("p1/ct.nii.gz", {"id": "ct", "image": "x.nii"}) == ["p1/ct", "ct"]
    first, second = ids("ct.nii", "ct.nrrd")
    assert first != second


def test_folders_are_those_of_batch(tmp_path, phantom):
    """Also for ids beyond ASCII, which alphabets, marks and digits make hard to copy."""
    ids = ["p1/ct", "Müller", "u\u0308", "腹部 CT", "४२", "①", "a\u2028b", ".x.", "con1", "ß" * 150]
    rows = [{"id": id, "image": str(phantom), "prompt": QUESTION} for id in ids]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    program("batch", "-m", "demo", "--manifest", tmp_path / "list.jsonl", "-o", tmp_path / "out", "--quiet")
    lines = (tmp_path / "out" / "results.jsonl").read_text(encoding="utf-8").split("\n")
    folders = {line["id"]: line["folder"] for line in map(json.loads, filter(None, lines))}
    assert {id: on_ray.folder_of(id) for id in ids} == folders


@pytest.mark.parametrize("odd", ["\u2028", "\u0085", "\x0b"])
def test_lines_end_at_line_feeds_only(tmp_path, odd):
    prompt = f"Where is{odd}the liver?"
    text = json.dumps({"image": "a", "prompt": prompt}, ensure_ascii=False)
    (row,) = read(tmp_path, text + "\r\n", "list.jsonl")
    assert row["prompts"] == [prompt]
    first, second = read(tmp_path, f'image,prompt\n"a","{prompt}\r\nAnd the spleen?"\nb,x\n')
    assert first["prompts"] == [prompt + "\r\nAnd the spleen?"] and second["prompts"] == ["x"]

    line = {"id": "a", "status": "ok", "key": "k", "folder": "f", "text": prompt}
    (tmp_path / "results").mkdir()
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "report.json").write_text("{}")
    (tmp_path / "results" / "part-1.jsonl").write_text(on_ray._json(line) + '{"id": "b', encoding="utf-8")
    assert on_ray._done(tmp_path, {"a": "k", "b": "k"}) == {"a": line}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image\n", "no volumes"),
        ("id,prompt\na,b\n", "line 1: it has no column `image`"),
        ("imgae\na\n", "did you mean `image` by `imgae`"),
        ("image,organ,organ\na,b,c\n", "two columns `organ`"),
        ("image,organ\na,liver,spleen\n", "line 2: it has 3 fields, and the first line has 2"),
        ('image,organ\n"a\nb",liver\nc\n', "line 4: it has 1 fields"),
        ("image,organ,\na,liver,\n", "line 2: `` is not a field"),
        ("image,organ,label\na, ,x\n", "line 2: this volume has no prompt"),
        ("image,orgam\na,b\n", "line 2: `orgam` is not a field: did you mean `organ`"),
        ('{"image": "a", "organ": "x"}\n{"image": "b"\n', "line 2: this is not a JSON object"),
        ('{"image": "a", "organ": "x"}\n\n[1]\n', "line 3: this is not a JSON object"),
        ('{"prompt": "x"}', "line 1: it has no `image`"),
        ('{"image": "a", "text": "x", "texts": ["y"]}', "both `text` and `texts`"),
        ('{"image": ["a"]}', "`image` is neither"),
        ('{"image": "a", "frame": "first"}', "`frame` is first"),
        ('{"image": "a", "points": 3}', "not a list of points"),
        ('{"image": "a", "points": ["1,2"]}', "2 were given"),
        ('{"image": "a", "points": ["1,2,3:no"]}', "neither pos nor neg"),
        ('{"image": "a", "points": [[1, 2, 3.5]]}', "`3.5` in `points` is not a voxel index"),
        ('{"image": "a", "points": [{"at": 1}]}', "has no `voxel`"),
        ('{"image": "a", "points_mm": "1,2,nan"}', "not a finite number"),
        ('{"image": "a", "center": "1,-2,3"}', "not a voxel index"),
        ('{"image": "a", "box": [5, 0, 0, 1, 1, 1]}', "reversed"),
        ('{"image": "a", "box": "0,0,0,1,1,1", "box_mm": "0,0,0,1,1,1"}', "both `box` and `box_mm`"),
    ],
)
def test_what_is_wrong_with_a_list_is_told_with_its_line(tmp_path, text, message):
    with pytest.raises(errors.DataError, match=message) as raised:
        read(tmp_path, text, "list")
    assert raised.value.code == "R-BAT-01" and raised.value.path == str(tmp_path / "list")


def test_a_list_has_codes_of_batch(tmp_path):
    with pytest.raises(errors.MissingError) as raised:
        _lists.read_rows(tmp_path / "none.csv")
    assert raised.value.code == "R-BAT-02"
    with pytest.raises(errors.DataError, match="row 2: the id `a` is also that of row 1") as raised:
        _lists.read_rows([{"id": "a", "image": image, "organ": "liver"} for image in ("x", "y")])
    assert raised.value.code == "R-BAT-03"
    (tmp_path / "bytes.csv").write_bytes(b"image\n\xff\xfe\n")
    for wrong in (tmp_path / "bytes.csv", [], [{"image": "a", "promptz": "x"}]):
        with pytest.raises(errors.DataError) as raised:
            _lists.read_rows(wrong)
        assert raised.value.code == "R-BAT-01"


def test_places_are_those_of_the_file():
    xyz, zyx = (r1seg.Volume(np.zeros((8, 9, 10), np.int16), axes=axes) for axes in ("xyz", "zyx"))
    fields = {
        "image": "a",
        "points": ["1,2,3", {"voxel": [4, 5, 6], "positive": False}],
        "points_mm": [0.5, -1, 2],
        "box": "0,1,2,3,4,5",
        "center": [1, 2, 3],
    }
    (row,) = _lists.read_rows([fields])
    others = {"point_labels": [True, False, True], "points_mm": [[0.5, -1, 2]]}
    assert _lists.places(row, xyz) == others | {
        "points": [[1, 2, 3], [4, 5, 6]], "box": [[0, 1, 2], [3, 4, 5]], "center": [1, 2, 3],
    }  # fmt: skip
    # A row reaches its actor as JSON.
    assert _lists.places(json.loads(json.dumps(row)), zyx) == others | {
        "points": [[3, 2, 1], [6, 5, 4]], "box": [[2, 1, 0], [5, 4, 3]], "center": [3, 2, 1],
    }  # fmt: skip
    for one in ("1,2,3", [1, 2, 3], [[1, 2, 3]], ["1,2,3:pos"]):
        (row,) = _lists.read_rows([{"image": "a", "points": one}])
        assert _lists.places(row, xyz) == {"points": [[1, 2, 3]]}


def basis(**settings):
    return on_ray._basis({"model": "demo", "load": {}, "encode": {}, "ask": {}, "preview": True} | settings)


def test_results_stay_on_another_device_and_not_with_other_weights(tmp_path):
    row = {"id": "a", "image": "a.nii"}

    def key(**settings):
        return on_ray._key(row, basis(**settings))

    assert key(load={"device": "cpu"}) == key(load={"device": "cuda:1", "mmap": False}) == key()
    assert key(load={"dtype": "f32"}) != key() != key(ask={"seed": 1})

    manifest, weights = tmp_path / "manifest.json", tmp_path / "parts" / "model.safetensors"
    weights.parent.mkdir()
    manifest.write_text("{}")
    weights.write_bytes(b"one")
    before = key(model=str(tmp_path))
    os.utime(manifest, ns=(1, 1))
    assert key(model=str(tmp_path)) == before
    os.utime(weights, ns=(1, 1))
    replaced = key(model=str(tmp_path))
    manifest.write_text("[]")
    assert len({before, replaced, key(model=str(tmp_path))}) == 3


def test_deaths_count_within_their_run_only(tmp_path):
    def die(run):
        return on_ray._Marker(tmp_path, "p1", run).__enter__()

    assert [die("stopped"), die("stopped"), die("this"), die("this"), die("this")] == [0, 1, 0, 1, 2]
    with on_ray._Marker(tmp_path, "p1", "next") as deaths:
        assert deaths == 0
    assert die("this") == 0, "a volume that was survived leaves no mark"


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


def test_what_dies_is_restarted_and_the_results_are_those_of_batch(desk):
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
    for run in ("this", "stopped", "this"):
        on_ray._Marker(tmp_path, "p1", run).__enter__()
    for run in ("stopped", "stopped", "this"):
        on_ray._Marker(tmp_path, "p3", run).__enter__()
    settings = {"model": "demo", "load": {}, "encode": {}, "ask": {}, "preview": False}
    settings |= {"out": str(tmp_path), "threads": None, "run": "this"}
    (tmp_path / "results").mkdir()
    actor = on_ray._Actor(settings)

    def status(id):
        line = actor._line({"id": id, "image": str(desk / "v001.nii.gz"), "prompts": [QUESTION]}, "key")
        return line["status"], line["code"]

    assert status("p1") == ("failed", "R-BAT-08")
    assert status("p2") == status("p3") == ("ok", None)


def test_a_prompt_that_is_not_for_the_model_has_the_code_of_batch(model, phantom):
    settings = {"encode": {}, "ask": {}}
    for asks in ({"texts": ["x"]}, {"points": [([1, 2, 3], True)]}, {}, {"prompts": ["a", "b"], "labels": ["c"]}):
        with pytest.raises(errors.DataError) as raised:
            on_ray._result(model, {"image": str(phantom)} | asks, settings)
        assert raised.value.code == "R-BAT-10", asks


def test_a_model_that_cannot_be_loaded_ends_the_run(desk, tmp_path):
    pytest.importorskip("ray")
    child = subprocess.run(
        [sys.executable, "-m", "r1seg.ray", "-m", str(tmp_path / "absent"), "--manifest", str(desk / "list.jsonl"),
         "-o", str(tmp_path / "out"), "--no-preview"],
        cwd=desk, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert child.returncode == 66, child.stderr[-2000:]
    assert "R-MDL-01" in child.stderr.splitlines()[-2]
