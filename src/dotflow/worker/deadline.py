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

import ctypes
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, TypeVar

from dotflow import clock

T = TypeVar("T")

GRACE: Final = 1.0  # seconds that a step has to end after it was told to
REPEAT: Final = 0.1  # seconds between two raises
SOONEST: Final = 1e-6  # seconds; a timer of 0 would be none


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

    def run(self, function: Callable[[], T]) -> T:
        """What *function* returns; raises DeadlinePassed if it did not get there in time."""
        if threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer"):
            return _run_under_alarm(self, function)
        return _run_under_watch(self, function)

    def give_up_if_late(self) -> None:
        """A step that swallowed what was raised in it, and then came back, is late all the same."""
        if self.raised:
            raise DeadlinePassed(self)


# The main thread: an interval timer


class _Alarm:
    """The process has one such timer. Attempts nest (a step may run a workflow), and others may use it too."""

    def __init__(self) -> None:
        self.limits: list[Limit] = []
        self.previous: Any = None  # the handler that was there before ours
        self.foreign_due: float | None = None  # when somebody else's timer would have gone off
        self.foreign_interval = 0.0

    def push(self, limit: Limit) -> None:
        if signal.getsignal(signal.SIGALRM) is not _on_alarm:
            self.previous = signal.signal(signal.SIGALRM, _on_alarm)
        self.limits.append(limit)
        limit.due = clock.monotonic() + limit.seconds
        left, interval = signal.setitimer(signal.ITIMER_REAL, max(limit.seconds, SOONEST), REPEAT)
        if len(self.limits) == 1 and left:
            self.foreign_due = clock.monotonic() + left
            self.foreign_interval = interval
        if len(self.limits) > 1 or self.foreign_due is not None:
            self.arm()

    def pop(self, depth: int) -> None:
        del self.limits[depth:]
        if self.limits or self.foreign_due is not None:
            self.arm()
        else:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def arm(self) -> None:
        """Sets the timer to the first of all that are due."""
        dues = [limit.due for limit in self.limits]
        interval = REPEAT
        if self.foreign_due is not None:
            dues.append(self.foreign_due)
            if not self.limits:
                interval = self.foreign_interval
                signal.signal(signal.SIGALRM, self.previous)
                self.foreign_due = None
        signal.setitimer(signal.ITIMER_REAL, max(min(dues) - clock.monotonic(), SOONEST), interval)

    def ring_foreign(self, frame: FrameType | None) -> None:
        """Somebody else's timer went off while ours stood in its place."""
        self.foreign_due = (
            self.foreign_due + self.foreign_interval if self.foreign_interval and self.foreign_due else None
        )
        if callable(self.previous):
            self.previous(signal.SIGALRM, frame)
        elif self.previous is signal.SIG_DFL:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGALRM)


_alarm = _Alarm()


def forget() -> None:
    """A forked child inherits what its parent was in the middle of, but not the timer."""
    _alarm.__init__()  # type: ignore[misc]


def release() -> None:
    """Puts back the signal handler that was there before the first attempt with a timeout."""
    if not _alarm.limits and _alarm.previous is not None:
        if signal.getsignal(signal.SIGALRM) is _on_alarm:
            signal.signal(signal.SIGALRM, _alarm.previous)
        _alarm.previous = None


def _on_alarm(signum: int, frame: FrameType | None) -> None:
    now = clock.monotonic()
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
                _haunt(limit, frame)
            raise passed


def _run_under_alarm(limit: Limit, function: Callable[[], T]) -> T:
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


# Other threads: an asynchronous exception, set by a thread that waits


def _run_under_watch(limit: Limit, function: Callable[[], T]) -> T:
    watch = _Watch(limit, threading.get_ident())
    tracing = sys.gettrace()
    try:
        try:
            watch.thread.start()
            limit.live = True
            value = function()
        finally:
            limit.live = False
        limit.give_up_if_late()
        return value
    except watch.exception:
        raise DeadlinePassed(limit) from None
    finally:
        watch.settle()
        if limit.raised > 1:
            sys.settrace(tracing)


class _Watch:
    """Waits for one attempt's end or deadline, whichever comes first."""

    def __init__(self, limit: Limit, ident: int) -> None:
        self.limit = limit
        self.ident = ident
        self.over = threading.Event()
        self.lock = threading.Lock()
        # A class, since only a class can be raised in another thread; one of its own, to be told from others'.
        self.exception: type[_Asynchronous] = type("DeadlinePassed", (_Asynchronous,), {"limit": limit})
        self.thread = threading.Thread(target=self.watch, name="dotflow-deadline", daemon=True)

    def watch(self) -> None:
        seconds = self.limit.seconds
        while not self.over.wait(seconds):
            with self.lock:
                if not self.over.is_set() and self.limit.live:
                    self.limit.raised += 1
                    _raise_in(self.ident, self.exception)
            seconds = REPEAT

    def settle(self) -> None:
        """Ends the watch, and takes back what was set but not yet raised."""
        while True:
            try:
                with self.lock:
                    self.over.set()
                _raise_in(self.ident, None)
                return
            except self.exception:
                continue


class _Asynchronous(DeadlinePassed):
    """Python makes the instance itself, in the thread that it is raised in."""

    limit: Limit

    def __init__(self) -> None:
        super().__init__(type(self).limit)
        if self.limit.raised > 1 and self.limit.live:
            _haunt(self.limit, sys._getframe(1))


def _raise_in(ident: int, exception: type[BaseException] | None) -> None:
    """Sets *exception* to be raised in a thread at its next Python line; None takes it back."""
    raised = None if exception is None else ctypes.py_object(exception)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), raised)


def _haunt(limit: Limit, frame: FrameType | None) -> None:
    """Makes the next line of the step that this thread runs raise, be it in an `except` block."""

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        if not limit.live or frame.f_code.co_filename == __file__:
            return None
        if event == "line":
            raise DeadlinePassed(limit)
        return trace

    while frame is not None and frame.f_code not in _OURS:
        frame.f_trace = trace
        frame = frame.f_back
    sys.settrace(trace)


_OURS: Final = (_run_under_alarm.__code__, _run_under_watch.__code__)


class Stopped(BaseException):
    """Raised in a thread whose run is being stopped."""


def stop_thread(ident: int) -> None:
    """Ends what a thread is doing, at its next Python line."""
    _raise_in(ident, Stopped)
