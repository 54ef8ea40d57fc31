"""WakeupPipe and WakeupEvent: wake a thread that waits in a selector, or for nothing else."""

import contextlib
import math
import os
import threading
from typing import Final

from dotflow import clock
from dotflow.worker.interrupts import interrupts_held

#: Seconds that a wait sleeps at once. Python calls signal handlers in the main thread only, between two lines: for a
#: signal that comes right before the sleep, or to another thread, when the main thread wakes.
MAX_SLEEP: Final = 0.5


class WakeupPipe:
    """A self-pipe: `fileno` is readable after `set`."""

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
        while not self._unset.acquire(timeout=min(MAX_SLEEP, max(0.0, until - clock.ticks()))):
            if clock.ticks() >= until:
                return
