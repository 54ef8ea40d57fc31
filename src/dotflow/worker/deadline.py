"""Ending a step whose time is up, from inside the thread that runs it.

In the main thread an interval timer's signal raises DeadlinePassed inside the step, also out of `sleep`, `recv` and
other waits. In other threads, and without the signal, an asynchronous exception is raised at the next Python line. It
is no `Exception`, so `except Exception` can't swallow it, and it is raised again every REPEAT seconds. From the second
time on, the line after it raises as well: that ends a loop around `except BaseException` through its own handler.

C code that never returns ends only with its process, which executors kill.

CPython checks for signals and asynchronous exceptions only where a function begins, a call returns and a loop jumps
back. So consecutive assignments can't be interrupted, and the order of such lines matters here.
"""

import sys
from types import FrameType
from typing import Any, Final

from dotflow.worker.interrupts import are_held

GRACE: Final = 1.0  # seconds that a step has to end after its deadline
GRACE_IN_THREAD: Final = 0.5  # the same in a thread, which is abandoned afterwards
REPEAT: Final = 0.1  # seconds between two raises
SHORTEST_TIMER: Final = 1e-6  # seconds; 0 would stop the timer

LEFT_BEHIND: Final = (
    "Its code can't be interrupted, so its thread was left behind and ends with the interpreter. "
    "Use @action(isolate=True) to run it in a process that can be killed."
)


class DeadlinePassed(BaseException):
    """Raised inside a step whose time is up."""

    def __init__(self, limit: "Limit") -> None:
        super().__init__(f"the step's time of {limit.seconds:g} s is up")
        self.limit = limit


class LoopBlocked(DeadlinePassed):
    """A coroutine blocks its loop, so that not even its cancellation gets through."""


class Limit:
    """The time limit of one attempt.

    Args:
        seconds: How long it may take.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.due = 0.0
        self.live = False
        self.raised = 0

    def raise_if_late(self) -> None:
        """Raises DeadlinePassed for a step that has swallowed it and then returned."""
        if self.raised:
            raise DeadlinePassed(self)


def raise_on_next_line(limit: Limit, frame: FrameType | None) -> None:
    """Makes the next line of this thread's step raise DeadlinePassed, also in an `except` block."""

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        if not limit.live or frame.f_code.co_filename in OWN_FILES:
            return None
        if event == "line" and not are_held():
            raise DeadlinePassed(limit)
        return trace

    while frame is not None and frame.f_code.co_filename not in OWN_FILES:
        frame.f_trace = trace
        frame = frame.f_back
    sys.settrace(trace)


#: The modules that run limited code: their frames, and those below, are not the step's.
OWN_FILES: Final[set[str]] = {__file__}
