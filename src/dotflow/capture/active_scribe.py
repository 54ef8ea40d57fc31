"""The scribe of this process, if there is one. The scribe itself is imported where one is needed: that takes time."""

import os
from typing import TYPE_CHECKING

from dotflow.core.capture import Capture
from dotflow.core.types.capture import TypeCapture

if TYPE_CHECKING:
    from dotflow.capture.scribe import Scribe, ScribeCapture

#: The scribe of this process; None without one.
active: "Scribe | None" = None


def scribe_capture(capture: Capture) -> "ScribeCapture | None":
    """Returns the capture by the scribe of this process, if there is one that records for the history that asks.

    With FD a scribe is started for the run, where that is possible.
    """
    store = getattr(capture.history, "store", None)
    if store is None or capture.mode not in (TypeCapture.AUTO, TypeCapture.FD):
        return None
    if active is None and capture.mode is TypeCapture.AUTO:
        return None
    from dotflow.capture.scribe import ScribeCapture, make_scribe

    if active is not None:
        return ScribeCapture(active, capture) if active.store == store and active.is_free() else None
    scribe = make_scribe(capture.history)
    return None if scribe is None else ScribeCapture(scribe.__enter__(), capture, is_own=True)


def _forget() -> None:
    """Leaves the descriptors of a forked child alone, and writes no marks in it."""
    global active
    forgotten, active = active, None
    if forgotten is not None:
        forgotten.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
