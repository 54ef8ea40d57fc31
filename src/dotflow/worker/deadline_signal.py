"""Time limits in the main thread: the process's interval timer and its signal."""

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, TypeVar

from dotflow import clock
from dotflow.cpython import get_handler
from dotflow.worker.deadline import OURS, REPEAT, SOONEST, DeadlinePassed, Limit, raise_on_next_line

T = TypeVar("T")

# A system without them never gets here, but it imports this module.
SIGALRM: Final = int(getattr(signal, "SIGALRM", 0))
ITIMER_REAL: Final = getattr(signal, "ITIMER_REAL", 0)

OURS.add(__file__)


class _Alarm:
    """The process has one such timer. Attempts nest (a step may run a workflow), and others may use it too."""

    def __init__(self) -> None:
        self.limits: list[Limit] = []
        self.previous: Any = None  # the handler that was there before ours
        self.foreign_due: float | None = None  # when somebody else's timer would have gone off
        self.foreign_interval = 0.0

    def push(self, limit: Limit) -> None:
        if get_handler(SIGALRM) is not _on_alarm:
            self.previous = signal.signal(SIGALRM, _on_alarm)
        self.limits.append(limit)
        limit.due = clock.ticks() + limit.seconds
        left, interval = signal.setitimer(ITIMER_REAL, max(limit.seconds, SOONEST), REPEAT)
        if len(self.limits) == 1 and left:
            self.foreign_due = clock.ticks() + left
            self.foreign_interval = interval
        if len(self.limits) > 1 or self.foreign_due is not None:
            self.arm()

    def pop(self, depth: int) -> None:
        del self.limits[depth:]
        if self.limits or self.foreign_due is not None:
            self.arm()
        else:
            signal.setitimer(ITIMER_REAL, 0)

    def arm(self) -> None:
        """Sets the timer to the first of all that are due."""
        dues = [limit.due for limit in self.limits]
        interval = REPEAT
        if self.foreign_due is not None:
            dues.append(self.foreign_due)
            if not self.limits:
                interval = self.foreign_interval
                signal.signal(SIGALRM, self.previous)
                self.foreign_due = None
        signal.setitimer(ITIMER_REAL, max(min(dues) - clock.ticks(), SOONEST), interval)

    def ring_foreign(self, frame: FrameType | None) -> None:
        """Somebody else's timer went off while ours stood in its place."""
        self.foreign_due = (
            self.foreign_due + self.foreign_interval if self.foreign_interval and self.foreign_due else None
        )
        if callable(self.previous):
            self.previous(SIGALRM, frame)
        elif self.previous is signal.SIG_DFL:
            signal.signal(SIGALRM, signal.SIG_DFL)
            signal.raise_signal(SIGALRM)


_alarm = _Alarm()


def forget() -> None:
    """A forked child inherits what its parent was in the middle of, but not the timer."""
    _alarm.__init__()  # type: ignore[misc]


def release() -> None:
    """Puts back the signal handler that was there before the first attempt with a timeout."""
    if not _alarm.limits and _alarm.previous is not None:
        if get_handler(SIGALRM) is _on_alarm:
            signal.signal(SIGALRM, _alarm.previous)
        _alarm.previous = None


def _on_alarm(signum: int, frame: FrameType | None) -> None:
    now = clock.ticks()
    if _alarm.foreign_due is not None and now >= _alarm.foreign_due:
        _alarm.ring_foreign(frame)
    if not _alarm.limits or not _alarm.limits[-1].live:
        return  # between two attempts; the timer comes again
    for limit in _alarm.limits:
        if now >= limit.due:
            limit.raised += 1
            limit.due = now + REPEAT / 2  # the timer's next tick is the next time
            passed = DeadlinePassed(limit)
            if limit.raised > 1:
                raise_on_next_line(limit, frame)
            raise passed


def run_under_alarm(limit: Limit, function: Callable[[], T]) -> T:
    """As `run_limited`, in the main thread."""
    depth = len(_alarm.limits)
    tracing = sys.gettrace()
    try:
        try:
            _alarm.push(limit)
            limit.live = True
            value = function()
        finally:
            limit.live = False  # from here on nothing is raised any more
        limit.give_up_if_late()
        return value
    finally:
        limit.live = False
        if limit.raised > 1:
            sys.settrace(tracing)
        try:
            _alarm.pop(depth)
        except BaseException:  # Ctrl-C in the middle of it: doing it again is harmless, leaving it half done is not
            _alarm.pop(depth)
            raise
