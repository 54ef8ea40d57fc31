"""WakeupPipe and WakeupEvent: wake somebody who waits, on a selector or for nothing else, from any thread."""

import contextlib
import math
import os
import threading
from typing import Final

from dotflow import clock
from dotflow.worker.interrupts import interrupts_held

#: Seconds that a wait in Python may sleep at once. Python calls the handler of a signal in the main thread, and between
#: two lines: one that comes right before it goes to sleep, or to another thread, is heard of when it wakes.
MAX_SLEEP: Final = 0.5


class WakeupPipe:
    """A pipe to oneself: `fileno` is readable once it was rung."""

    _reading = _writing = -1

    def __init__(self) -> None:
        with interrupts_held():
            self._lock = threading.Lock()
            self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)

    def fileno(self) -> int:
        """For selectors."""
        return self._reading

    def set(self) -> None:
        """Wakes whoever waits. After `close` it does nothing."""
        with self._lock, contextlib.suppress(BlockingIOError):  # full: it has been rung already
            if self._writing >= 0:
                os.write(self._writing, b"!")

    def clear(self) -> None:
        """Takes back what was rung."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._reading, 512)

    def close(self) -> None:
        """Gives the descriptors back. Their numbers will be somebody else's: nothing is written to them any more."""
        with self._lock:
            if self._writing >= 0:
                os.close(self._reading)
                os.close(self._writing)
            self._reading = self._writing = -1

    def __del__(self) -> None:
        """Closes it where an interrupt came before its owner could."""
        if self._writing >= 0:
            self.close()


class WakeupEvent:
    """Wakes a thread that waits for it, from any thread; rung before, it does not have to wait.

    A threading.Event takes a lock and gives it back: an interrupt between the two leaves it taken, and the next one who
    rings waits for ever. Here each call is a single one into C, which an interrupt comes before or after.
    """

    def __init__(self) -> None:
        self._unset = threading.Lock()  # taken, but for the moment between a ring and whoever hears it
        self._unset.acquire()

    def set(self) -> None:
        """Wakes whoever waits, or the next one who would."""
        with contextlib.suppress(RuntimeError):  # it has been rung already
            self._unset.release()

    def wait(self, seconds: float | None) -> None:
        """Waits until it rings, or until so many seconds are over; None for as long as it takes."""
        until = math.inf if seconds is None else clock.ticks() + seconds
        while not self._unset.acquire(timeout=min(MAX_SLEEP, max(0.0, until - clock.ticks()))):
            if clock.ticks() >= until:
                return
