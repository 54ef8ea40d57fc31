"""virtual_clock: dotflow's time in a test's hands, so that a night takes milliseconds."""

import contextlib
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from dotflow import clock
from dotflow.errors import InvalidArgument, VirtualClockMisuse
from dotflow.testing.clock.virtual_clock import VirtualClock

DEFAULT_START: Final = datetime(2026, 1, 1, tzinfo=UTC)  # the same in every run of a test
_REAL: Final = (clock.now, clock.monotonic, clock.sleep)
_in_use: Final = threading.Lock()


@contextlib.contextmanager
def virtual_clock(start: datetime | None = None) -> Iterator[VirtualClock]:
    """Within, dotflow lives in a time that costs nothing: retry delays and schedules don't wait.

    Time stands still while anything runs. Once all runs and schedules of this process do nothing but wait for their
    time, it jumps to the moment that the first of them waits for. What runs, runs really, and its timeouts are real: a
    step that is to take virtual time calls `sleep` of the clock. Worker processes live in real time.

    Args:
        start: The moment at which it begins, with a time zone; 2026-01-01 00:00 UTC unless given.

    Raises:
        InvalidArgument: start is no moment with a time zone.
        VirtualClockMisuse: There is a virtual clock already; or, at the end, runs still go on.
    """
    if start is not None and (not isinstance(start, datetime) or start.utcoffset() is None):
        raise InvalidArgument("start", start, "a datetime with a time zone: datetime(2026, 3, 8, tzinfo=UTC)")
    if not _in_use.acquire(blocking=False):
        raise VirtualClockMisuse("There is a virtual clock already, and a process has one time: end the other first.")
    try:
        virtual = VirtualClock((start or DEFAULT_START).astimezone(UTC))
        try:
            clock.source = virtual
            clock.now, clock.monotonic, clock.sleep = virtual.now, virtual.monotonic, virtual.sleep
            yield virtual
        finally:
            try:
                virtual.settle()
            finally:
                _restore()
                left = virtual.close()
        if left:
            raise VirtualClockMisuse(
                f"{left} runs or schedules still go on at the end of virtual_clock(). Wait for them before: "
                f"run.wait(), or scheduler.stop() and the end of its thread."
            )
    finally:
        with contextlib.suppress(RuntimeError):  # a forked child has given it back already
            _in_use.release()


def _restore() -> None:
    clock.source = None
    clock.now, clock.monotonic, clock.sleep = _REAL


def _restore_in_child() -> None:
    """In a forked child nobody moves virtual time."""
    clock.attempt_threads.clear()
    if clock.source is not None:
        _restore()
        _in_use.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restore_in_child)
