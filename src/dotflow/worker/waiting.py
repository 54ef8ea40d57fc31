"""Waits, and what ends them: WakeupEvent, WakeupPipe and Waiters. A signal may come at any line, and ends any sleep."""

import contextlib
import math
import os
import threading
from collections.abc import Callable
from typing import Final

from dotflow import clock
from dotflow.worker.interrupts import interrupts_held

#: Seconds that a wait in the main thread sleeps at once. Python calls signal handlers in that thread only, between two
#: lines: for a signal that comes right before the sleep, or to another thread, when the main thread wakes.
MAX_SLEEP: Final = 0.5
MAX_WAIT: Final = 86_400.0  # seconds, elsewhere; epoll allows 24 days, and waking once a day costs nothing


def longest_sleep() -> float:
    """Returns how many seconds a wait in this thread may sleep at once."""
    return MAX_SLEEP if threading.current_thread() is threading.main_thread() else MAX_WAIT


class WakeupEvent:
    """An event that one thread waits for, and that is safe to set in a signal handler.

    threading.Event takes and releases a lock: an interrupt between the two leaves it locked, and the next `set` waits
    for ever. Here each method is a single call into C, which an interrupt can't divide.
    """

    def __init__(self) -> None:
        self._unset = threading.Lock()  # locked while the event is not set
        self._unset.acquire()

    def set(self) -> None:
        """Ends the current wait, or the next one."""
        with contextlib.suppress(RuntimeError):  # it is set already
            self._unset.release()

    def wait(self, seconds: float | None) -> None:
        """Waits until the event is set, and clears it; at most *seconds*, unless that is None."""
        until = math.inf if seconds is None else clock.ticks() + seconds
        while not self._unset.acquire(timeout=min(longest_sleep(), max(0.0, until - clock.ticks()))):
            if clock.ticks() >= until:
                return


class WakeupPipe:
    """A self-pipe, for a thread that waits in a selector: `fileno` is readable after `set`."""

    _reading = _writing = -1

    def __init__(self) -> None:
        with interrupts_held():
            self._lock = threading.Lock()
            self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)

    def fileno(self) -> int:
        """Returns the descriptor, for selectors."""
        return self._reading

    def set(self) -> None:
        """Wakes the waiting thread, from any thread. After `close` it does nothing."""
        with self._lock, contextlib.suppress(BlockingIOError):  # the pipe is full
            if self._writing >= 0:
                os.write(self._writing, b"!")

    def clear(self) -> None:
        """Undoes all calls of `set`."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._reading, 512)

    def close(self) -> None:
        """Closes the descriptors. Their numbers may be reused, so nothing is written to them any more."""
        with self._lock:
            if self._writing >= 0:
                os.close(self._reading)
                os.close(self._writing)
            self._reading = self._writing = -1

    def __del__(self) -> None:
        """Closes it where an interrupt came before its owner could."""
        if self._writing >= 0:
            self.close()


class Waiters:
    """The threads that wait for a condition.

    threading.Condition waits with a lock, which an interrupt at the wrong line leaves locked, or unlocked too early.
    """

    def __init__(self) -> None:
        self._events: set[WakeupEvent] = set()

    def wait_until(self, is_true: Callable[[], bool], seconds: float | None) -> None:
        """Waits until *is_true*, which is asked again after each `wake`; at most *seconds*, unless that is None."""
        until = math.inf if seconds is None else clock.ticks() + seconds
        event = WakeupEvent()
        self._events.add(event)  # first: what becomes true after the next line sets the event
        try:
            while not is_true() and (left := until - clock.ticks()) > 0:
                event.wait(left)
        finally:
            self._events.discard(event)

    def wake(self) -> None:
        """Wakes them all."""
        for event in tuple(self._events):
            event.set()
