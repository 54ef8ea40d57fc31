"""Time limits in the main thread, by the process's interval timer and its signal."""

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, TypeVar

from dotflow import clock
from dotflow.cpython import get_handler
from dotflow.worker.deadline import OWN_FILES, REPEAT, SHORTEST_TIMER, DeadlinePassed, Limit, raise_on_next_line

T = TypeVar("T")

# Systems without them import this module, but never use it.
SIGALRM: Final = int(getattr(signal, "SIGALRM", 0))
ITIMER_REAL: Final = getattr(signal, "ITIMER_REAL", 0)

OWN_FILES.add(__file__)


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


def reset() -> None:
    """Drops the parent's limits in a forked child, which does not inherit the timer."""
    _timer.__init__()  # type: ignore[misc]


def restore_handler() -> None:
    """Restores the signal handler that was set before the first attempt with a timeout."""
    if not _timer.limits and _timer.previous_handler is not None:
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
