"""Time limits in any thread. Other threads than the main one have asynchronous exceptions that a second thread sets."""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from dotflow.cpython import frame_of_caller, raise_in_thread
from dotflow.worker.deadline import (
    OWN_FILES,
    REPEAT,
    DeadlinePassed,
    Limit,
    has_timer_signal,
    raise_on_next_line,
    run_with_signal,
)
from dotflow.worker.interrupts import may_interrupt
from dotflow.worker.programs import ThreadPrograms, kill

T = TypeVar("T")

OWN_FILES.add(__file__)

Interrupts = list[type[BaseException]]

#: By thread: what ends its waits in dotflow's own code, and the exceptions with which it was called.
_wakers: dict[int, list[tuple[Callable[[], object], Interrupts]]] = {}


@contextlib.contextmanager
def waking(wake: Callable[[], object]) -> Iterator[Interrupts]:
    """Within, *wake* is called when the calling thread is interrupted: it ends a wait, which nothing else does.

    Yields the exceptions of these interrupts. CPython drops one that is raised in a finalizer: the waiter raises it.
    """
    ident = threading.get_ident()
    wakers = _wakers.setdefault(ident, [])
    waker: tuple[Callable[[], object], Interrupts] = (wake, [])
    wakers.append(waker)
    try:
        yield waker[1]
    finally:
        wakers.remove(waker)
        if not wakers:
            _wakers.pop(ident, None)


def _wake(ident: int, exception: type[BaseException]) -> None:
    for wake, interrupts in tuple(_wakers.get(ident, ())):
        interrupts.append(exception)
        wake()


def run_limited(limit: Limit, function: Callable[[], T]) -> T:
    """Returns what *function* returns; raises DeadlinePassed of *limit* if that takes too long."""
    return (run_with_signal if has_timer_signal() else run_with_thread)(limit, function)


def run_with_thread(limit: Limit, function: Callable[[], T]) -> T:
    """Implements `run_limited` in any thread."""
    deadline = ThreadDeadline(limit, threading.get_ident())
    tracing = sys.gettrace()
    try:
        try:
            deadline.thread.start()
            limit.live = True
            value = function()
        finally:
            limit.live = False
        limit.raise_if_late()
        return value
    except deadline.exception as passed:
        raise DeadlinePassed(limit).with_traceback(passed.__traceback__) from None
    finally:
        deadline.stop()
        if limit.raised > 1:
            sys.settrace(tracing)


class ThreadDeadline:
    """A thread that waits for an attempt's end or deadline."""

    def __init__(self, limit: Limit, ident: int) -> None:
        self.limit = limit
        self.ident = ident
        self.programs = ThreadPrograms()
        self.over = threading.Event()
        self.lock = threading.Lock()
        # Only a class can be raised in another thread. This one is the attempt's own, to distinguish nested attempts.
        self.exception: type[_Asynchronous] = type("DeadlinePassed", (_Asynchronous,), {"limit": limit})
        self.thread = threading.Thread(target=self.run, name="dotflow-deadline", daemon=True)

    def run(self) -> None:
        """Interrupts the attempt at its deadline, and every REPEAT seconds until it ends."""
        seconds = self.limit.seconds
        while not self.over.wait(seconds):
            with self.lock, may_interrupt(self.ident) as may:
                passed = may and not self.over.is_set() and self.limit.live
                if passed:
                    self.limit.raised += 1
                    _interrupt(self.ident, self.exception, self.programs)
            if passed:
                _wake(self.ident, self.exception)
            seconds = REPEAT

    def stop(self) -> None:
        """Ends the thread, and cancels an exception that is set but not yet raised."""
        while True:
            try:
                with self.lock:
                    self.over.set()
                raise_in_thread(self.ident, None)
                return
            except self.exception:
                continue


class _Asynchronous(DeadlinePassed):
    """DeadlinePassed without arguments: Python makes the instance, in the interrupted thread."""

    limit: Limit

    def __init__(self) -> None:
        super().__init__(type(self).limit)
        if self.limit.raised > 1 and self.limit.live:
            raise_on_next_line(self.limit, frame_of_caller())


def _interrupt(ident: int, exception: type[BaseException], programs: ThreadPrograms) -> None:
    """Raises *exception* in a thread and kills the programs that it waits for.

    They are stopped first: if an `except` block of the step ends a program, its children lose their parent, by which
    they are found.
    """
    frozen = programs.freeze()
    raise_in_thread(ident, exception)
    kill(frozen)


class Stopped(BaseException):
    """Raised in a thread whose run is being stopped."""


def stop_thread(ident: int, programs: ThreadPrograms) -> None:
    """Raises Stopped at a thread's next Python line, and kills the programs that it has started."""
    with may_interrupt(ident) as may:
        if may:
            _interrupt(ident, Stopped, programs)
    _wake(ident, Stopped)
