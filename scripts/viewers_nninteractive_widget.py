"""The real plug-in of nnInteractive for napari, without a screen: scripts/check-viewers runs it.

    viewers_nninteractive_widget.py R1SEG WORK [PICTURE]

With PICTURE, a file of that name gets what the plug-in looks like in napari; that needs a screen, such as
that of Xvfb.
"""

import sys
from pathlib import Path

import numpy as np
from napari._qt.qt_event_loop import get_qapp
from napari_nninteractive.widget_main import nnInteractiveWidget
from viewers_common import MODELS, canonical, ct_of, free_port, point, same, segment, serving
from viewers_headless import Headless, messages, pump, wait
from viewers_nninteractive import BESIDE, COMPAT, INSIDE, phantom

FIRST, SECOND = (6, 20, 31), (12, 50, 10)
POINTS, BOXES = 0, 1


def begin(url: str, ct: Path, viewer=None):
    """A viewer with an image, and the plug-in initialized on it."""
    viewer = viewer if viewer is not None else Headless()
    image, spacing = canonical(ct)
    viewer.add_image(image, name="ct", scale=spacing)
    widget = nnInteractiveWidget(viewer)
    widget.server_url_edit.setText(url)
    initialize(widget)
    return widget


def initialize(widget) -> None:
    widget.on_init()
    told = len(messages())
    wait("the image is sent", lambda: is_ready(widget) or len(messages()) > told)


def is_ready(widget) -> bool:
    return (
        widget.session is not None
        and widget.session.target_buffer is not None
        and widget._upload_dialog is None
        and widget.point_layer_name in widget._viewer.layers
    )


def mask(widget) -> np.ndarray:
    return np.asarray(widget._viewer.layers[widget.label_layer_name].data)


def click(widget, at, positive: bool = True) -> None:
    """A click of the mouse on a voxel."""
    widget.prompt_button._uncheck()
    widget.prompt_button._check(0 if positive else 1)
    widget.on_prompt_selected()
    widget._viewer.layers[widget.point_layer_name].add(np.array(at, np.float32))
    pump()


def refused(widget, at, positive: bool) -> str:
    """The words that napari shows of a click that is refused."""
    try:
        click(widget, at, positive)
    except Exception as error:
        while error.__cause__ is not None:
            error = error.__cause__
        words = str(error).split("\n")[0]
        print(f"  the user reads: {words}")
        return words
    raise AssertionError("the click was not refused")


def whole_life(r1seg: str, work: Path) -> None:
    print("napari-nninteractive with SegVol")
    ct = ct_of(work, "napari", phantom(), (3.0, 1.5, 1.0))
    one = segment(r1seg, work, "segvol", ct, *point(FIRST))
    two = segment(r1seg, work, "segvol", ct, *point(FIRST), *point(SECOND))
    port = free_port()
    with serving(r1seg, work, "segvol", *COMPAT, port=port) as url:
        widget = begin(url, ct)
        assert widget.remote_status_label.text() == f"connected ({url})"
        assert "research use only" in widget.model_license_label.text()
        enabled = [button.isEnabled() for button in widget.interaction_button.buttons]
        assert enabled == [True, False, False, False], enabled
        assert "every point is negative" in refused(widget, FIRST, False)
        widget.on_reset_interactions()
        click(widget, FIRST)
        same("a click", mask(widget), one)
        click(widget, SECOND)
        same("a click beside it", mask(widget), two)
        widget.on_undo()
        same("undo", mask(widget), one)
        assert len(widget._viewer.layers[widget.point_layer_name].data) == 1
        widget.on_undo()
        assert messages()[-1] == "Nothing to undo."
        assert "outside of the image" in refused(widget, (15.8, 20, 31), True)
        same("after a refused click", mask(widget), one)
        widget.on_reset_interactions()
        assert not mask(widget).any()
        widget.auto_run_ckbx.setChecked(False)
        click(widget, FIRST)
        click(widget, SECOND)
        assert not mask(widget).any()
        widget.on_run()
        same("manual mode", mask(widget), two)
        widget.auto_run_ckbx.setChecked(True)
        widget.on_next()
        assert not mask(widget).any()
        click(widget, FIRST)
        same("the next object", mask(widget), one)
        session = widget.session
    # The server is gone, and comes back without the session.
    with serving(r1seg, work, "segvol", *COMPAT, port=port):
        click(widget, SECOND)
        assert messages()[-1].startswith("Server session lost."), messages()[-1]
        same("a lost session keeps the mask", mask(widget), one)
        initialize(widget)
        print(f"  the user reads: {messages()[-1]}".split("\n")[0])
        assert "corrects no masks" in messages()[-1], messages()[-1]
        widget._viewer.layers[widget.label_layer_name].name = "before"
        initialize(widget)
        click(widget, FIRST)
        same("begun anew", mask(widget), one)
        widget._release_session()
    session.close()


def resumed(r1seg: str, work: Path) -> None:
    print("napari-nninteractive with SAM-Med3D: a session that was lost is resumed")
    ct = ct_of(work, "napari-sam", *canonical(MODELS / "sam-med3d/golden/ct.nii.gz"))
    _, spacing = canonical(ct)
    one = segment(r1seg, work, "sam-med3d", ct, *point(INSIDE))
    earlier = str(ct_of(work, "napari-earlier", one, spacing))
    two = segment(r1seg, work, "sam-med3d", ct, "--mask-prompt", earlier, *point(BESIDE, False))
    port = free_port()
    with serving(r1seg, work, "sam-med3d", *COMPAT, port=port) as url:
        widget = begin(url, ct)
        click(widget, INSIDE)
        same("a click", mask(widget), one)
        session = widget.session
    with serving(r1seg, work, "sam-med3d", *COMPAT, port=port):
        click(widget, BESIDE, False)
        assert messages()[-1].startswith("Server session lost."), messages()[-1]
        initialize(widget)
        same("the mask of the session before", mask(widget), one)
        click(widget, BESIDE, False)
        same("a click that corrects it", mask(widget), two)
        widget._release_session()
    session.close()


def picture(r1seg: str, work: Path, to: Path) -> None:
    import napari
    from napari.settings import get_settings

    get_settings().application.gui_notification_level = "error"
    ct = ct_of(work, "picture", *canonical(MODELS / "sam-med3d/golden/ct.nii.gz"))
    _, spacing = canonical(ct)
    with serving(r1seg, work, "sam-med3d", *COMPAT) as url:
        viewer = napari.Viewer(show=True)
        widget = begin(url, ct, viewer)
        viewer.window.add_dock_widget(widget, name="nnInteractive")
        viewer.window.resize(1180, 720)
        viewer.layers["ct"].contrast_limits = (-160, 240)
        viewer.layers[widget.label_layer_name].opacity = 0.6
        viewer.dims.set_point(0, INSIDE[0] * spacing[0])
        click(widget, INSIDE)
        for _ in range(50):
            pump()
        viewer.reset_view()
        for _ in range(50):
            pump()
        viewer.screenshot(str(to), canvas_only=False, flash=False)
        widget._release_session()
        viewer.close()


if __name__ == "__main__":
    program, folder = sys.argv[1], Path(sys.argv[2])
    app = get_qapp()
    if len(sys.argv) > 3:
        picture(program, folder, Path(sys.argv[3]))
        sys.exit()
    whole_life(program, folder)
    resumed(program, folder)
