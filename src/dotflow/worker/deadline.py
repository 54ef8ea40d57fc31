"""Ending a step whose time is up, from inside the thread that runs it.

In the main thread an interval timer's signal raises DeadlinePassed inside the step, also out of `sleep`, `recv` and
other waits. In other threads, and without the signal, an asynchronous exception is raised at the next Python line. It
is no `Exception`, so `except Exception` can't swallow it, and it is raised again every REPEAT seconds. From the second
time on, the line after it raises as well: that ends a loop around `except BaseException` through its own handler. The
end of a `with` is no such line, so what it has locked or opened is given back.

C code that never returns ends only with its process, which executors kill.

CPython checks for signals and asynchronous exceptions only where a function begins, a call returns and a loop jumps
back. So consecutive assignments can't be interrupted, and the order of such lines matters here.
"""

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, TypeVar

from dotflow import clock
from dotflow.cpython import get_handler, is_leaving_with
from dotflow.worker.interrupts import are_held

T = TypeVar("T")

GRACE: Final = 1.0  # seconds that a step has to end after its deadline
GRACE_IN_THREAD: Final = 0.5  # the same in a thread, which is abandoned afterwards
REPEAT: Final = 0.1  # seconds between two raises
SHORTEST_TIMER: Final = 1e-6  # seconds; 0 would stop the timer

# Systems without them import this module, but never use them.
SIGALRM: Final = int(getattr(signal, "SIGALRM", 0))
ITIMER_REAL: Final = getattr(signal, "ITIMER_REAL", 0)
HAS_TIMER: Final = hasattr(signal, "setitimer")

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
        if event == "line" and not (are_held() or is_leaving_with(frame) or _is_spared(frame)):
            raise DeadlinePassed(limit)
        return trace

    while frame is not None and frame.f_code.co_filename not in OWN_FILES:
        frame.f_trace = trace
        frame = frame.f_back
    sys.settrace(trace)


#: The modules that run limited code: their frames, and those below, are not the step's.
OWN_FILES: Final[set[str]] = {__file__}

#: No line of these modules raises, where a step has started a run: all runs of the process share dotflow's locks.
SPARED: Final = ("dotflow.", "contextlib")


def _is_spared(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).startswith(SPARED)


class _Timer:
    """The process's only interval timer, shared by nested attempts and the program's own use of it."""

    def __init__(self) -> None:
        self.limits: list[Limit] = []
        self.previous_handler: Any = None  # the program's own handler
        self.previous_due: float | None = None  # when the program's own timer is due
        self.previous_interval = 0.0

    def push(self, limit: Limit) -> None:
        if get_handler(SIGALRM) is not _on_alarm:
            self.previous_handler = signal.signal(SIGALRM, _on_alarm)
        self.limits.append(limit)
        limit.due = clock.ticks() + limit.seconds
        left, interval = signal.setitimer(ITIMER_REAL, max(limit.seconds, SHORTEST_TIMER), REPEAT)
        if len(self.limits) == 1 and left:
            self.previous_due = clock.ticks() + left
            self.previous_interval = interval
        if len(self.limits) > 1 or self.previous_due is not None:
            self.arm()

    def pop(self, depth: int) -> None:
        del self.limits[depth:]
        if self.limits or self.previous_due is not None:
            self.arm()
        else:
            signal.setitimer(ITIMER_REAL, 0)

    def arm(self) -> None:
        """Sets the timer to what is due first."""
        dues = [limit.due for limit in self.limits]
        interval = REPEAT
        if self.previous_due is not None:
            dues.append(self.previous_due)
            if not self.limits:
                interval = self.previous_interval
                signal.signal(SIGALRM, self.previous_handler)
                self.previous_due = None
        signal.setitimer(ITIMER_REAL, max(min(dues) - clock.ticks(), SHORTEST_TIMER), interval)

    def call_previous(self, frame: FrameType | None) -> None:
        """Calls the program's own handler, whose timer is due while ours has replaced it."""
        self.previous_due = (
            self.previous_due + self.previous_interval if self.previous_interval and self.previous_due else None
        )
        if callable(self.previous_handler):
            self.previous_handler(SIGALRM, frame)
        elif self.previous_handler is signal.SIG_DFL:
            signal.signal(SIGALRM, signal.SIG_DFL)
            signal.raise_signal(SIGALRM)


_timer = _Timer()


def has_timer_signal() -> bool:
    """Returns whether a timer's signal can interrupt the calling thread: only the main one, where there are timers."""
    return HAS_TIMER and threading.get_ident() == threading.main_thread().ident


def forget_limits() -> None:
    """Drops the parent's limits in a forked child, which does not inherit the timer."""
    _timer.__init__()  # type: ignore[misc]


def restore_handler() -> None:
    """Restores the signal handler that was set before the first attempt with a timeout, in the main thread."""
    if _timer.previous_handler is not None and not _timer.limits and has_timer_signal():
        if get_handler(SIGALRM) is _on_alarm:
            signal.signal(SIGALRM, _timer.previous_handler)
        _timer.previous_handler = None


def _on_alarm(signum: int, frame: FrameType | None) -> None:
    now = clock.ticks()
    if _timer.previous_due is not None and now >= _timer.previous_due:
        _timer.call_previous(frame)
    if not _timer.limits or not _timer.limits[-1].live:
        return  # between two attempts; the timer is periodic
    for limit in _timer.limits:
        if now >= limit.due:
            limit.raised += 1
            limit.due = now + REPEAT / 2  # so that the timer's next tick raises again
            passed = DeadlinePassed(limit)
            if limit.raised > 1:
                raise_on_next_line(limit, frame)
            raise passed


def run_with_signal(limit: Limit, function: Callable[[], T]) -> T:
    """Implements `run_limited` in the main thread."""
    depth = len(_timer.limits)
    tracing = sys.gettrace()
    try:
        try:
            _timer.push(limit)
            limit.live = True
            value = function()
        finally:
            limit.live = False  # from here on nothing is raised
        limit.raise_if_late()
        return value
    finally:
        limit.live = False
        if limit.raised > 1:
            sys.settrace(tracing)
        try:
            _timer.pop(depth)
        except BaseException:  # Ctrl-C may have interrupted it, and it may be repeated
            _timer.pop(depth)
            raise
