"""Whole jobs with the client of napari-voxtell: scripts/check-viewers runs it.

    viewers_voxtell.py R1SEG WORK
"""

import importlib.util
import subprocess
import sys
import threading
import types
from pathlib import Path

import httpx
import nibabel
import numpy as np
from viewers_common import MODELS, raises, same, segment, serving

# The package imports napari, of which its client needs nothing.
_found = importlib.util.find_spec("napari_voxtell")
_package = types.ModuleType("napari_voxtell")
_package.__path__ = list(_found.submodule_search_locations)
sys.modules["napari_voxtell"] = _package
from napari_voxtell.remote import VoxTellRemoteClient  # noqa: E402

KEY = "a-key-of-the-check-of-viewers"
REFUSED = httpx.HTTPStatusError
COMPAT = ["--compat", "voxtell"]
LIVER = "Can you segment the liver in this image?"


def turned(work: Path, name: str, array: np.ndarray) -> Path:
    """A CT with the axes S, A, R in a file whose axes run to the posterior, the inferior and the right."""
    stored = np.transpose(array, (1, 0, 2))[::-1, ::-1]
    affine = np.array([[0, 0, 1.25, -30], [-0.75, 0, 0, 20], [0, -2.5, 0, 10], [0, 0, 0, 1]])
    path = work / name
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(stored), affine), path)
    return path


def shown(path: Path) -> np.ndarray:
    """A file as napari shows it: the closest canonical volume with the axes S, A, R."""
    return nibabel.as_closest_canonical(nibabel.load(path)).get_fdata(dtype=np.float32).T


def phantom() -> np.ndarray:
    volume = np.load(MODELS / "segvol/golden/volume.npy").squeeze()
    return np.ascontiguousarray(volume[:16, :48, :64])


def finish(client, job: str) -> list[dict]:
    events = list(client.stream_events(job))
    assert "status" in events[-1] and not any("status" in event for event in events[:-1]), events
    return events


def run(client, image: str, prompts: list[str], **options) -> tuple[np.ndarray, list[str]]:
    job = client.start_job(image, prompts, **options)
    events = finish(client, job)
    assert events[-1] == {"status": "done"}, events
    masks = client.get_result(job)
    assert masks.dtype == np.uint8 and masks.shape[0] == len(prompts) and masks.max() <= 1
    return masks, [event["message"] for event in events if event.get("event") == "oom_fallback"]


def on_grid_of(r1seg: str, work: Path, model: str, ct: Path, *prompts: str) -> np.ndarray:
    """What the command line finds, as napari shows it."""
    segment(r1seg, work, model, ct, *prompts)
    return (shown(work / "mask.nii.gz") > 0).astype(np.uint8)


def texts(r1seg: str, work: Path) -> None:
    print("SegVol: texts, orientation, export")
    keys = work / "keys.txt"
    keys.write_text(KEY + "\n")
    array = phantom()
    with serving(r1seg, work, "segvol", *COMPAT, "--api-key-file", str(keys)) as url:
        assert VoxTellRemoteClient(url).healthz()
        for key in (None, "wrong"):
            with raises(REFUSED, "401"):
                VoxTellRemoteClient(url, key).capabilities()
        client = VoxTellRemoteClient(url, KEY)
        print(f"  {client.capabilities()['model']}")
        for name in ("turned.nii.gz", "turned.nii"):
            ct = turned(work, name, array)
            image, seen, spacing, shape = client.upload_image(ct.read_bytes(), include_image=True)
            assert seen.dtype == np.float32 and np.array_equal(seen, shown(ct))
            assert shape == seen.shape and np.allclose(spacing, (2.5, 0.75, 1.25)), spacing
            masks, _ = run(client, image, ["liver", "left kidney"])
            for mask, text in zip(masks, ["liver", "left kidney"]):
                same(f"{name}, {text}", mask, on_grid_of(r1seg, work, "segvol", ct, "--text", text))
            image, seen, _, again = client.upload_image(ct.read_bytes(), include_image=False)
            assert seen is None and again == shape
            for top, dtype in ((300, np.uint16), (7, np.uint8)):
                labels = (np.arange(np.prod(shape)) % (top + 1)).reshape(shape).astype(np.uint16)
                exported = work / "exported.nii.gz"
                exported.write_bytes(client.export(image, labels))
                written, source = nibabel.load(exported), nibabel.load(ct)
                assert written.get_data_dtype() == dtype, written.get_data_dtype()
                assert np.array_equal(written.affine, source.affine)
                assert written.shape == source.shape
                assert np.array_equal(shown(exported), labels)
        with raises(REFUSED, "the labels have the shape"):
            client.export(image, labels[:-1])
        with raises(REFUSED, "load it again"):
            client.start_job("0" * 32, ["liver"])
        with raises(REFUSED, "none of them may be blank"):
            client.start_job(image, ["liver", " "])
        with raises(REFUSED, "400"):
            client.upload_image(b"no volume", include_image=False)


def classes(r1seg: str, work: Path) -> None:
    print("VISTA3D: classes, a group, and a name that it does not know")
    ct = MODELS / "vista3d/golden/ct.nii.gz"
    with serving(r1seg, work, "vista3d", *COMPAT) as url:
        client = VoxTellRemoteClient(url)
        assert "liver" in client.capabilities()["available_embeddings"]
        image, *_ = client.upload_image(ct.read_bytes(), include_image=False)
        masks, _ = run(client, image, ["Liver", "3", "kidney"])
        # Classes that are asked for together compete for voxels, here and there.
        asked = {"liver": 1, "spleen": 3, "kidney": 2}
        segment(r1seg, work, "vista3d", ct, *(word for name in asked for word in ("--text", name)))
        labels = shown(work / "mask.nii.gz")
        for mask, (name, label) in zip(masks, asked.items()):
            same(name, mask, (labels == label).astype(np.uint8))
        job = client.start_job(image, ["spleen", "livr"])
        [event] = finish(client, job)
        assert event["status"] == "error" and "liver" in event["message"], event
        print(f"  refused: {event['message']}")
        with raises(REFUSED, event["message"]):
            client.get_result(job)


def words(r1seg: str, work: Path) -> None:
    print("A language model: words, no mask, cancelling")
    demo = [r1seg, "demo", "--force", "--out", str(work / "demo")]
    subprocess.run(demo, check=True, capture_output=True)
    ct = work / "demo/phantom.nii.gz"
    with serving(r1seg, work, "demo", *COMPAT) as url:
        client = VoxTellRemoteClient(url)
        image, *_ = client.upload_image(ct.read_bytes(), include_image=False)
        masks, said = run(client, image, [LIVER, "Please generate a medical report based on this image."])
        assert masks[0].any() and not masks[1].any()
        assert any(message.startswith(LIVER + ": ") for message in said), said
        for message in said:
            print(f"  said: {message}")
        job = client.start_job(image, [LIVER] * 64)
        seen = []
        for event in client.stream_events(job):
            seen.append(event)
            if len(seen) == 2:
                threading.Thread(target=client.cancel, args=[job]).start()
        assert seen[-1] == {"status": "cancelled"}, seen
        with raises(REFUSED, "the job was cancelled"):
            client.get_result(job)
        run(client, image, [LIVER])


def refused(r1seg: str, work: Path) -> None:
    print("SAM-Med3D: no texts, no server")
    args = [r1seg, "serve", "--model", str(MODELS / "sam-med3d"), "--port", "0", *COMPAT]
    done = subprocess.run(args, capture_output=True, text=True)
    assert done.returncode == 2 and "R-SRV-21" in done.stderr, done.stderr
    print(f"  {done.stderr.strip().splitlines()[-1]}")


if __name__ == "__main__":
    for part in (texts, classes, words, refused):
        part(sys.argv[1], Path(sys.argv[2]))
