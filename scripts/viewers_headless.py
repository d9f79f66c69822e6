"""napari without a window, for the checks of its plug-ins."""

from unittest.mock import MagicMock

from napari.components import ViewerModel
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import QApplication
from viewers_common import until

WINDOW = MagicMock()


class Headless(ViewerModel):
    """napari's viewer without its window, which would need OpenGL."""

    @property
    def window(self):
        return WINDOW


def pump() -> None:
    QApplication.processEvents()


def wait(what: str, holds) -> None:
    until(what, holds, 120, pump)


def messages(since: int = 0) -> list[str]:
    """What the user has read, from a message on."""
    return [str(record.message) for record in notification_manager.records[since:]]
