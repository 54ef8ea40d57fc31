"""Capture: what the history wants of the output of a run's attempts."""

from collections.abc import Callable
from typing import Any, NamedTuple

from dotflow.core.events import AttemptOutput
from dotflow.core.masks import NO_MASKS, Masks
from dotflow.core.types.capture import TypeCapture


class Capture(NamedTuple):
    """A request for the output of a run's attempts.

    Attributes:
        mode: How to capture it; NONE for not at all.
        limit: The number of bytes that are kept of an attempt's output.
        record: Takes the output. Called in the thread of the run only, before the end of the attempt is known.
        settle: Has the history save what was recorded, while the attempt goes on.
        masks: The secrets, which the history does not receive.
        history: The history, for a process that records in its place; None if its `store` is.
    """

    mode: TypeCapture
    limit: int
    record: Callable[[AttemptOutput], object]
    settle: Callable[[], object] = int
    masks: Masks = NO_MASKS
    history: Any = None
