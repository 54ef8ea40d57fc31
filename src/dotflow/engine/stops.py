"""Stops: what stops one run before its end, from its beginning on: its runner comes and goes."""

import threading

from dotflow.engine.runner import Runner
from dotflow.engine.stop import CANCELLED, Stop


class Stops:
    """What stops one run: orders from any thread and from signal handlers, which its runner gets when it is there.

    Attributes:
        why: Why the run ends before its end; None if nothing stops it. A cancellation outvotes a pause.
        is_cancelled: Whether it was cancelled.
        pause: The pause that was ordered; None without one.
        runner: What runs it; None before, and afterwards.
    """

    def __init__(self) -> None:
        self.why: Stop | None = None
        self.is_cancelled = False
        self.pause: Stop | None = None
        self.runner: Runner | None = None
        self._lock = threading.RLock()  # a signal handler may come in between

    @property
    def is_timeout(self) -> bool:
        """Whether the timeout of the run has stopped it."""
        return self.why is not None and self.why.is_timeout

    def order_pause(self, stop: Stop) -> None:
        """Pauses the run, unless it was paused or cancelled before."""
        with self._lock:
            if self.is_cancelled or self.pause is not None:
                return
            self.pause = stop
            if self.runner is not None:  # within the lock: a cancellation that comes now has to be the last word
                self.runner.pause(stop)

    def order_cancel(self, stop: Stop, *, only_running: bool = False) -> None:
        """Cancels the run. With *only_running*, one that was stopped before goes on with its cleanup."""
        with self._lock:
            if only_running and (self.is_cancelled or (self.runner is not None and self.runner.is_stopped)):
                return
            self.is_cancelled = True
            self.why = self.why or stop
            runner = self.runner
        if runner is not None:
            runner.cancel(stop)

    def follow(self, runner: Runner) -> None:
        """Passes the orders on, beginning with those that have come before."""
        with self._lock:
            self.runner = runner
            if self.is_cancelled:
                runner.cancel(self.why or CANCELLED)
            elif self.pause is not None:
                runner.pause(self.pause)

    def leave(self) -> None:
        """Passes on no further orders: the runner has ended."""
        with self._lock:
            self.runner = None
