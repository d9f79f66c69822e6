"""The whole life of sessions with nninteractive-client: scripts/check-viewers runs it.

    viewers_nninteractive.py R1SEG WORK
"""

import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
from nnInteractive.inference.remote import (
    ServerAtCapacityError,
    SessionExpiredError,
    nnInteractiveRemoteInferenceSession,
)
from viewers_common import MODELS, canonical, ct_of, free_port, point, raises, same, segment, serving, until

KEY = "a-key-of-the-check-of-viewers"
REFUSED = httpx.HTTPStatusError
COMPAT = ["--compat", "nninteractive"]
# In an organ of the CT that SAM-Med3D was recorded with, and beside it.
INSIDE, BESIDE = (27, 86, 174), (30, 86, 174)


def session(url: str, key: str | None = None):
    return nnInteractiveRemoteInferenceSession(url, api_key=key)


def begin(client, image: np.ndarray, spacing=None, dtype=np.uint8) -> np.ndarray:
    client.set_image(image[None], {} if spacing is None else {"spacing": spacing})
    buffer = np.zeros(image.shape, dtype)
    client.set_target_buffer(buffer)
    return buffer


def phantom(shape=(16, 64, 64)) -> np.ndarray:
    volume = np.load(MODELS / "segvol/golden/volume.npy").squeeze()
    return np.ascontiguousarray(volume[tuple(slice(n) for n in shape)])


def whole_life(r1seg: str, work: Path) -> None:
    print("SegVol: points, boxes, undo, reset")
    keys = work / "keys.txt"
    keys.write_text(KEY + "\n")
    image = phantom()
    ct = ct_of(work, "segvol", image, (3.0, 1.5, 1.0))
    image, spacing = canonical(ct)
    first, second = (6, 20, 31), (12, 50, 10)
    one = segment(r1seg, work, "segvol", ct, *point(first))
    two = segment(r1seg, work, "segvol", ct, *point(first), *point(second))
    boxed = segment(r1seg, work, "segvol", ct, "--box", "12,10,2,49,39,11")
    with serving(r1seg, work, "segvol", *COMPAT, "--api-key-file", str(keys), "--max-sessions", "1") as url:
        for key in (None, "wrong"):
            with raises(REFUSED, "401"):
                session(url, key)
        client = session(url, KEY)
        assert client.supported_interactions == {
            "points": True, "bbox2d": False, "bbox3d": True, "scribble": False, "lasso": False
        }
        assert client.supports_undo and not client.supports_initial_label
        assert "research use only" in client.license and len(client.preferred_scribble_thickness) == 3
        with raises(ServerAtCapacityError, "all 1 sessions"):
            session(url, KEY)
        client.set_do_autozoom(True)
        client.reset_interactions()

        kinds(client)
        buffer = begin(client, image, spacing)
        box = client.add_point_interaction([5.9, 20.199999809265137, 31.5 - 0.6], True)
        changed = np.argwhere(buffer)
        assert box == [[low, high + 1] for low, high in zip(changed.min(0), changed.max(0))], box
        same("a point", buffer, one)
        assert client.add_point_interaction(second, True, run_prediction=False) is None
        same("a point that waits", buffer, one)
        assert client._predict() is not None
        same("two points", buffer, two)
        assert client.undo()
        same("the second one taken back", buffer, one)
        assert not client.undo()

        for what, ask, words in [
            ("a 2D box", lambda: client.add_bbox_interaction([[6, 7], [9, 30], [9, 30]], True), "box in one slice"),
            ("a box beside points", lambda: client.add_bbox_interaction([[2, 9]] * 3, True), "points and a box"),
            ("a point outside", lambda: client.add_point_interaction([16, 1, 1], True), "outside of the image"),
            ("a scribble", lambda: client.add_scribble_interaction(np.ones((1, 4, 4), np.uint8), True,
                                                                   interaction_bbox=[[0, 1], [0, 4], [0, 4]]), "scribbles"),
            ("a lasso", lambda: client.add_lasso_interaction(np.zeros(image.shape, np.uint8), True), "lassos"),
        ]:
            with raises(REFUSED, words):
                ask()
            same(f"after {what}", buffer, one)
        client.reset_interactions()
        assert not buffer.any()
        with raises(REFUSED, "every point is negative"):
            client.add_point_interaction(first, False)
        client.add_point_interaction(first, True)
        same("a point after a reset", buffer, one)
        with raises(REFUSED, "corrects no masks"):
            client.add_initial_seg_interaction(np.ones(image.shape, np.uint8))
        client.reset_interactions()
        client.add_bbox_interaction([[2, 12], [10, 40], [12, 50]], True)
        same("a box", buffer, boxed)
        client.close()
        session(url, KEY).close()


def kinds(client) -> None:
    """Whatever numpy holds is taken."""
    rng = np.random.default_rng(7)
    shape = (9, 20, 17)
    images = {
        "int16": (100 * phantom(shape)).astype(np.int16),
        "big-endian int16": (100 * phantom(shape)).astype(">i2"),
        "uint8": (100 * phantom(shape)).astype(np.uint8),
        "float32": phantom(shape),
        "float64": phantom(shape).astype(np.float64),
        "float16": phantom(shape).astype(np.float16),
        "bool": phantom(shape) > 0.5,
        "zeros": np.zeros(shape, np.int16),
        "a constant": np.full(shape, -1024, np.int16),
        "noise": rng.integers(-(2**15), 2**15, shape, dtype=np.int16),
    }
    for name, image in images.items():
        buffer = begin(client, image, [3.0, 1.5, 1.0], np.int32)
        client.add_point_interaction([4, 10, 8], True)
        assert set(np.unique(buffer)) <= {0, 1}, name
    print(f"  images of {len(images)} kinds are taken")


def other_models(r1seg: str, work: Path) -> None:
    print("SAM-Med3D: clicks on from its logits, an earlier mask, signs of life during a prediction")
    ct = ct_of(work, "sam", *canonical(MODELS / "sam-med3d/golden/ct.nii.gz"))
    image, spacing = canonical(ct)
    one = segment(r1seg, work, "sam-med3d", ct, *point(INSIDE))
    two = segment(r1seg, work, "sam-med3d", ct, *point(INSIDE), *point(BESIDE, False))
    with serving(r1seg, work, "sam-med3d", *COMPAT) as url:
        client = session(url)
        with raises(REFUSED, "without a spacing"):
            begin(client, image)
        buffer = begin(client, image, [-mm for mm in spacing])
        answered = during(client, lambda: client.add_point_interaction(INSIDE, True))
        print(f"  {answered} questions after the session were answered during the prediction")
        same("a point", buffer, one)
        client.add_point_interaction(BESIDE, False)
        same("two points", buffer, two)
        client.close()

        resumed = session(url)
        assert resumed.supports_initial_label
        buffer = begin(resumed, image, spacing)
        resumed.add_initial_seg_interaction(one)
        same("an earlier mask", buffer, one)
        resumed.add_point_interaction(BESIDE, False)
        mask = work / "earlier.nii.gz"
        ct_of(work, "earlier", one, spacing)
        corrected = segment(r1seg, work, "sam-med3d", ct, "--mask-prompt", str(mask), *point(BESIDE, False))
        same("an earlier mask and a point", buffer, corrected)
        assert resumed.undo()
        same("the point taken back", buffer, one)
        resumed.close()

    print("VISTA3D: points without a class")
    array, _ = canonical(MODELS / "vista3d/golden/ct.nii.gz")
    ct = ct_of(work, "vista", array, (1.5, 1.2, 1.3))
    image, spacing = canonical(ct)
    at = (23, 36, 29)
    with serving(r1seg, work, "vista3d", *COMPAT) as url:
        client = session(url)
        buffer = begin(client, image, spacing)
        client.add_point_interaction(at, True)
        same("a point", buffer, segment(r1seg, work, "vista3d", ct, *point(at)))
        with raises(REFUSED, "boxes are not supported"):
            client.add_bbox_interaction([[2, 9]] * 3, True)
        client.close()


def during(client, work) -> int:
    """Asks after the session while something runs. How often it was answered."""
    running = threading.Thread(target=work)
    running.start()
    answered = 0
    while running.is_alive():
        begin = time.monotonic()
        client.lease_status()
        took = time.monotonic() - begin
        assert took < 2, f"{took} s"
        answered += running.is_alive()
        time.sleep(0.05)
    running.join()
    return answered


def ends(r1seg: str, work: Path) -> None:
    print("Ends of sessions")
    port = free_port()
    times = ["--session-idle", "60s", "--session-liveness", "10s", "--max-sessions", "2"]
    with serving(r1seg, work, "segvol", *COMPAT, *times, port=port) as url:
        living, dead = session(url), session(url)
        # A viewer that has crashed beats no more.
        dead._stop_heartbeat.set()
        begin(living, phantom())
        time.sleep(25)
        assert living.add_point_interaction([6, 20, 31], True) is not None
        with raises(SessionExpiredError, "it has ended"):
            dead.lease_status()
        session(url).close()
        print("  a viewer that beats lives on after 25 s with a liveness of 10 s, a dead one does not")
    with serving(r1seg, work, "segvol", *COMPAT, port=port) as url:
        with raises(SessionExpiredError, "started again"):
            living.add_point_interaction([6, 20, 31], True)
        begin_count = 200
        for _ in range(begin_count):
            with session(url) as client:
                begin(client, phantom((8, 16, 16)))
        text = httpx.get(f"{url}/metrics").text
        for name in ("sessions", "memory_bytes", "cache_bytes", "stored_bytes"):
            assert f"r1seg_{name} 0\n" in text, name
        print(f"  {begin_count} sessions were opened and dropped, and nothing is left of them")
    until("threads end", lambda: threading.active_count() < 4, 30)


if __name__ == "__main__":
    program, folder = sys.argv[1], Path(sys.argv[2])
    whole_life(program, folder)
    other_models(program, folder)
    ends(program, folder)
