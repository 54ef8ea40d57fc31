"""ShutdownSignals: SIGINT and SIGTERM while a schedule goes on. The first lets it end, the second ends it."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

#: What a person who has just pressed Ctrl-C is told, where a run is going on.
NOTICE: Final = b"dotflow: the schedule ends when the run that is going on is over; once more stops that, too.\n"


class ShutdownSignals(contextlib.AbstractContextManager["ShutdownSignals"]):
    """Takes the two signals over, within; only in the main thread, since Python brings them nowhere else.

    A handler is called in the middle of whatever the main thread does, which may be holding a lock: so it only sets
    plain attributes, wakes and writes by single calls into C, and raises where that is wanted. A signal that the
    program ignores or that is handled outside of Python stays as it is.

    Args:
        wake: Makes the schedule look. Called in the handler.

    Attributes:
        count: How many have come.
        last: Which one came last.
        interrupts: Whether the second raises KeyboardInterrupt right where the main thread is: in the run.
        beside: How many runs go on in other threads.
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
        self._restore.callback(
            signal.signal, signum, previous
        )  # first: an interrupt may come right after the next line
        signal.signal(signum, self._handle)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.interrupts = False
        self._restore.close()  # each of them, whatever interrupts the one before

    def pass_on(self) -> None:
        """After the end: the second signal means what it would have meant without a schedule.

        Raises KeyboardInterrupt after SIGINT. After SIGTERM the process ends by it, or the program's handler is called.
        """
        if self.count < 2:
            return
        if self.last == signal.SIGINT:
            raise KeyboardInterrupt
        signal.raise_signal(self.last)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a child that a step has forked: it is not the schedule's to keep alive
            signal.signal(signum, self._previous[signum])
            signal.raise_signal(signum)
            return
        self.count += 1
        self.last = signum
        self._wake()
        if self.count == 1 and (self.interrupts or self.parallel) and self._stderr is not None:
            with contextlib.suppress(OSError):  # nobody reads it
                os.write(self._stderr, NOTICE)
        if self.count > 1 and self.interrupts:
            raise KeyboardInterrupt


def _descriptor_of_stderr() -> int | None:
    """Asked beforehand: a handler may come into the middle of a write to sys.stderr, and has to write beside it."""
    try:
        return None if sys.stderr is None else sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # it is no file, or closed
        return None
