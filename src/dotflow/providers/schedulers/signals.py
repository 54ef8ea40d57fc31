"""SIGINT and SIGTERM during a schedule: the first lets the active run end, the second stops it."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

#: Written after the first signal, if a run is active.
NOTICE: Final = b"dotflow: the schedule ends after the active run. Press Ctrl-C again to stop that run.\n"


class ShutdownSignals(contextlib.AbstractContextManager["ShutdownSignals"]):
    """A context that handles the two signals. It needs the main thread, the only one in which Python handles signals.

    A handler interrupts the main thread, which may be holding a lock. So it only sets attributes, wakes and writes by
    single calls into C, and raises on request. A signal that the program ignores, or handles outside of Python, stays
    as it is.

    Args:
        wake: Wakes the schedule. Called in the handler.

    Attributes:
        count: How many signals have come.
        last: The last one.
        interrupts: Whether the second signal raises KeyboardInterrupt in the main thread, which runs the workflow.
        parallel: How many runs are active in other threads.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self.count = 0
        self.last = 0
        self.interrupts = False
        self.parallel = 0
        self._stderr = _descriptor_of_stderr()
        self._wake = wake
        self._process = os.getpid()
        self._previous: dict[int, Any] = {}
        self._restore = contextlib.ExitStack()

    def __enter__(self) -> "ShutdownSignals":
        if threading.current_thread() is threading.main_thread():
            try:
                for signum in SIGNALS:
                    self._replace_handler(signum)
            except BaseException:  # Ctrl-C between the two
                self._restore.close()
                raise
        return self

    def _replace_handler(self, signum: int) -> None:
        previous = signal.getsignal(signum)
        if previous in (None, signal.SIG_IGN):
            return
        self._previous[signum] = previous
        self._restore.callback(signal.signal, signum, previous)  # first: Ctrl-C may come right after the next line
        signal.signal(signum, self._handle)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.interrupts = False
        self._restore.close()  # each callback, even if a signal interrupts one

    def pass_on(self) -> None:
        """Gives the second signal, after the schedule's end, the effect that it has without a schedule.

        Raises KeyboardInterrupt after SIGINT. SIGTERM ends the process or calls the program's handler.
        """
        if self.count < 2:
            return
        if self.last == signal.SIGINT:
            raise KeyboardInterrupt
        signal.raise_signal(self.last)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a child that a step has forked
            signal.signal(signum, self._previous[signum])
            signal.raise_signal(signum)
            return
        self.count += 1
        self.last = signum
        self._wake()
        if self.count == 1 and (self.interrupts or self.parallel) and self._stderr is not None:
            with contextlib.suppress(OSError):  # stderr is closed
                os.write(self._stderr, NOTICE)
        if self.count > 1 and self.interrupts:
            raise KeyboardInterrupt


def _descriptor_of_stderr() -> int | None:
    """Returns the descriptor, since a handler may interrupt a write to sys.stderr and can't use the object."""
    try:
        return None if sys.stderr is None else sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # it is closed, or no file
        return None
