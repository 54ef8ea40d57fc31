"""RunEnd: the end of a run, which other threads wait for."""

import math
import threading
from typing import Final

from dotflow import clock

MAX_SLEEP: Final = 0.5  # seconds; Python handles a signal that comes right before a wait only at the end of the wait


class RunEnd:
    """The end of one run.

    Attributes:
        is_over: Whether the run has ended.
    """

    def __init__(self) -> None:
        self.is_over = False
        self._changed = threading.Condition()

    def set(self) -> None:
        """Ends the run."""
        self.is_over = True
        clock.about_to_wake(self.notify)
        self.notify()

    def wait(self, timeout: float | None) -> bool:
        """Waits for at most *timeout* seconds, None for no limit, and returns whether the run has ended."""
        deadline = math.inf if timeout is None else clock.monotonic() + timeout

        def pause(seconds: float | None) -> None:
            end = math.inf if seconds is None else clock.ticks() + seconds
            with self._changed:
                # The second condition is for a virtual clock that has reached the deadline already.
                while not self.is_over and clock.monotonic() < deadline and (left := end - clock.ticks()) > 0:
                    self._changed.wait(min(left, MAX_SLEEP))

        if not self.is_over:
            clock.wait(pause, timeout, self.notify)
        return self.is_over

    def wait_real(self, seconds: float) -> None:
        """Waits for at most *seconds* of real time, which a virtual clock does not change."""
        end = clock.ticks() + seconds
        with self._changed:
            while not self.is_over and (left := end - clock.ticks()) > 0:
                self._changed.wait(min(left, MAX_SLEEP))

    def notify(self) -> None:
        """Wakes the waiters."""
        with self._changed:
            self._changed.notify_all()
