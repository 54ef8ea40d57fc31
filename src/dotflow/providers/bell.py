"""Bell: wakes somebody who waits on a selector, from any thread."""

import contextlib
import os
import threading


class Bell:
    """A pipe to oneself: `fileno` is readable once it was rung."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)
        self._lock = threading.Lock()

    def fileno(self) -> int:
        """For selectors."""
        return self._reading

    def ring(self) -> None:
        """Wakes whoever waits. After `close` it does nothing."""
        with self._lock, contextlib.suppress(BlockingIOError):  # full: it has been rung already
            if self._writing >= 0:
                os.write(self._writing, b"!")

    def silence(self) -> None:
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
