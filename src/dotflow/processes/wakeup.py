"""WakeupPipe: wakes a thread that waits in a selector."""

import contextlib
import os
import threading

from dotflow.worker.interrupts import interrupts_held


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
