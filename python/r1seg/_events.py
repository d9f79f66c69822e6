"""Callbacks for the progress of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def pieces(on_text: Callable[[str], Any], on_event: Callable[[Any], Any] | None) -> Callable[[Any], None]:
    """Calls ``on_text`` with each piece of an answer, and ``on_event`` with every event."""

    def hear(event: Any) -> None:
        if event.kind == "text":
            on_text(event.text)
        if on_event is not None:
            on_event(event)

    return hear
