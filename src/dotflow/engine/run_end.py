"""RunEnd: the end of a run, which other threads wait for."""

import math

from dotflow import clock
from dotflow.worker.waiting import Waiters


class RunEnd:
    """The end of one run.

    Attributes:
        is_over: Whether the run has ended.
    """

    def __init__(self) -> None:
        self.is_over = False
        self._waiters = Waiters()

    def set(self) -> None:
        """Ends the run."""
        self.is_over = True
        clock.about_to_wake(self.notify)
        self.notify()

    def wait(self, timeout: float | None) -> bool:
        """Waits for at most *timeout* seconds, None for no limit, and returns whether the run has ended."""
        deadline = math.inf if timeout is None else clock.monotonic() + timeout

        def pause(seconds: float | None) -> None:
            # The second condition is for a virtual clock that has reached the deadline already.
            self._waiters.wait_until(lambda: self.is_over or clock.monotonic() >= deadline, seconds)

        if not self.is_over:
            clock.wait(pause, timeout, self.notify)
        return self.is_over

    def wait_real(self, seconds: float) -> None:
        """Waits for at most *seconds* of real time, which a virtual clock does not change."""
        self._waiters.wait_until(lambda: self.is_over, seconds)

    def notify(self) -> None:
        """Wakes the waiters."""
        self._waiters.wake()
