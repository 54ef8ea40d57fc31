"""Capture: what the history wants of the output of a run's attempts."""

from abc import ABC, abstractmethod
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


class CapturingSession(ABC):
    """What dotflow's own sessions offer beside the contract of ExecutorSession."""

    @abstractmethod
    def capture_output(self, capture: Capture) -> bool:
        """Asks for the output of the attempts whose calls have a `watch`. Called at most once, before anything else.

        Returns whether the session calls `capture.settle` before the attempts of submitted calls begin: once for all
        that it sends together. Otherwise it has to be called before each `submit`.
        """
