"""Ending a step whose time is up, from inside the thread that runs it.

In the main thread an interval timer's signal raises inside the step, also out of `sleep`, `recv` and other waits.
In other threads, and where there is no such signal, an asynchronous exception does, at the next Python line. What
is raised is no `Exception`, so `except Exception` can't swallow it, and it is raised again every REPEAT seconds.
From the second time on the next line of the step raises as well, whatever it is, so that a loop around
`except BaseException`, which swallows what is raised within its `try`, is left through its own handler.

None of this can end C code that never returns; that takes the death of the process, which is the executors' part.

Python looks for signals and asynchronous exceptions only where a function begins, a call returns and a loop jumps
back. So a few assignments in a row can't be interrupted, and the order of such lines matters here.
"""

import sys
from types import FrameType
from typing import Any, Final

from dotflow.worker.interrupts import are_held

GRACE: Final = 1.0  # seconds that a step has to end after it was told to
GRACE_IN_THREAD: Final = 0.5  # the same for a thread, which can only be left behind afterwards
REPEAT: Final = 0.1  # seconds between two raises
SHORTEST_TIMER: Final = 1e-6  # seconds; a timer of 0 would be none


LEFT_BEHIND: Final = (
    "It is stuck in code that can't be interrupted, so its thread was left behind; it ends with the interpreter. "
    "@action(isolate=True) gives it a process that can be killed."
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
        """A step that swallowed what was raised in it, and then came back, is late all the same."""
        if self.raised:
            raise DeadlinePassed(self)


def raise_on_next_line(limit: Limit, frame: FrameType | None) -> None:
    """Makes the next line of the step that this thread runs raise, be it in an `except` block."""

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


#: Where the limits are kept: frames from here on down to the thread's first are not the step's.
OWN_FILES: Final[set[str]] = {__file__}
