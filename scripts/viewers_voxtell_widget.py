"""The real plug-in of VoxTell for napari, without a screen: scripts/check-viewers runs it.

    viewers_voxtell_widget.py R1SEG WORK
"""

import sys
from pathlib import Path

import numpy as np
from napari._qt.qt_event_loop import get_qapp
from napari_voxtell._reader import reader_function
from napari_voxtell.widget_main import VoxtellWidget
from viewers_common import MODELS, same, serving
from viewers_headless import Headless, messages, wait
from viewers_voxtell import COMPAT, LIVER, on_grid_of, phantom, turned

REMOTE = 1


def connected(url: str) -> VoxtellWidget:
    widget = VoxtellWidget(Headless())
    widget.mode_selection.setCurrentIndex(REMOTE)
    widget.server_url_input.setText(url)
    widget.on_init()
    wait("the server is found", lambda: widget.remote_client is not None)
    return widget


def opened(widget, ct: Path) -> np.ndarray:
    """Opens a CT with the plug-in's own reader; what is shown of it."""
    [(data, options, kind)] = reader_function(str(ct))
    assert kind == "image"
    widget._viewer.add_image(data, **options)
    return np.asarray(data)


def submit(widget, text: str) -> None:
    widget.text_input.setPlainText(text)
    widget.on_submit()


def is_idle(widget) -> bool:
    thread = widget.processing_thread
    return thread is not None and thread.isFinished() and widget.submit_button.isEnabled()


def labels(widget, text: str) -> tuple[np.ndarray, list[str]]:
    """Submits prompts; the layer that appears, and what the user reads meanwhile."""
    before, told = len(widget._viewer.layers), len(messages())
    submit(widget, text)
    wait("a layer appears", lambda: len(widget._viewer.layers) > before or failed(told))
    assert not failed(told), messages(told)
    wait("the job is over", lambda: is_idle(widget))
    return np.asarray(widget._viewer.layers[-1].data), messages(told)


def failed(since: int) -> bool:
    return any("failed" in message for message in messages(since))


def texts(r1seg: str, work: Path) -> None:
    print("napari-voxtell: texts about a CT that is stored in another order")
    ct = turned(work, "shown.nii.gz", phantom())
    expected = on_grid_of(r1seg, work, "segvol", ct, "--text", "liver")
    with serving(r1seg, work, "segvol", *COMPAT) as url:
        widget = connected(url)
        shown = opened(widget, ct)
        assert shown.shape == expected.shape
        found, told = labels(widget, "liver")
        same("liver", (found == 1).astype(np.uint8), expected)
        assert not any("Orientation" in message for message in told), told
        again, _ = labels(widget, "\n liver \n\n spleen")
        assert set(np.unique(again)) <= {0, 1, 2} and (again == 2).any()


def words(r1seg: str, work: Path) -> None:
    print("napari-voxtell: words of a language model, an empty mask, cancelling, a lost image")
    ct = work / "demo/phantom.nii.gz"
    with serving(r1seg, work, "demo", *COMPAT) as url:
        widget = connected(url)
        opened(widget, ct)
        caption = "Can you provide a caption consists of findings for this medical image?"
        found, told = labels(widget, f"{LIVER}\n{caption}")
        assert (found == 1).any() and not (found == 2).any()
        for words in (f"{LIVER}: ", f"No voxels found for: {caption}"):
            assert any(message.startswith(words) for message in told), told
        print("  " + "\n  ".join(told))
        submit(widget, "\n".join([LIVER] * 60))
        wait("it runs", lambda: widget.processing_thread.isRunning() and widget.processing_thread.job_id)
        widget.on_cancel()
        wait("it is cancelled", lambda: messages()[-1] == "Segmentation cancelled.")
        wait("the job is over", lambda: is_idle(widget))
        port = url.rsplit(":", 1)[1]
    with serving(r1seg, work, "demo", *COMPAT, port=int(port)):
        told = len(messages())
        submit(widget, LIVER)
        wait("it fails", lambda: failed(told))
        print("  " + messages(told)[-1])
        assert "load it again" in messages(told)[-1], messages(told)


def classes(r1seg: str, work: Path) -> None:
    print("napari-voxtell: a class that VISTA3D does not know")
    ct = MODELS / "vista3d/golden/ct.nii.gz"
    with serving(r1seg, work, "vista3d", *COMPAT) as url:
        widget = connected(url)
        opened(widget, ct)
        told = len(messages())
        submit(widget, "livr")
        wait("it fails", lambda: failed(told))
        print("  " + messages(told)[-1])
        assert "did you mean liver?" in messages(told)[-1], messages(told)
        found, _ = labels(widget, "liver")
        expected = on_grid_of(r1seg, work, "vista3d", ct, "--text", "liver")
        same("liver", (found == 1).astype(np.uint8), expected)


if __name__ == "__main__":
    get_qapp()
    for part in (texts, words, classes):
        part(sys.argv[1], Path(sys.argv[2]))
