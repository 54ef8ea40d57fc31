"""What dotflow's own sessions do beside the contract of ExecutorSession: they capture output, and gather attempts."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dotflow.core.capture import Capture
from dotflow.core.types.capture import TypeCapture

if TYPE_CHECKING:
    from dotflow.capture.collector import CollectorCapture
    from dotflow.capture.streams import StreamCapture

    RunCapture = CollectorCapture | StreamCapture


class CapturingSession(ABC):
    """A session that captures the output of its attempts, and whose own work does not take long.

    Attributes:
        gather: Lets the session gather submitted attempts, to begin several at once. It returns a function that begins
            them, which the run calls before each `wait` and before anything that takes long. None where attempts begin
            in `submit`.
    """

    gather: Callable[[], Callable[[], None]] | None = None

    @abstractmethod
    def capture_output(self, capture: Capture) -> bool:
        """Asks for the output of the attempts whose calls have a `watch`. Called at most once, before anything else.

        Returns whether the session calls `capture.settle` before the attempts of submitted calls begin: once for all
        that it sends together. Otherwise it has to be called before each `submit`.
        """


def capture_here(
    capture: Capture, wake: Callable[[Any], object] | None = None, *, one_at_a_time: bool = True
) -> "RunCapture | None":
    """Begins to capture what attempts in this process print; returns None where the history does not want it.

    The collector of this process does it, if there is one that records for the history. With FD, one is started for the
    run, where that is possible. The marks of a collector tell apart attempts that are made one at a time.

    Args:
        capture: Where the output goes.
        wake: As in StreamCapture.
        one_at_a_time: Whether no two attempts are made at the same time.
    """
    if capture.mode is TypeCapture.NONE:
        return None
    from dotflow.capture import streams  # here: slow to import, and only for a history

    if one_at_a_time and (streams.active_collector is not None or capture.mode is TypeCapture.FD):
        from dotflow.capture.collector import collector_capture

        if (found := collector_capture(capture)) is not None:
            return found
    return streams.StreamCapture(capture, wake)
