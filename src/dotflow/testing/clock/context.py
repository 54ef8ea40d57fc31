"""virtual_clock: a test sets dotflow's time, so that a night takes milliseconds."""

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
    """Moves dotflow into a virtual time, in which retry delays and schedules take no real time.

    Time stands still while anything runs. Once all runs and schedules of this process only wait, it jumps to the
    earliest moment that one of them waits for. Steps and their timeouts stay in real time: a step that should take
    virtual time calls `sleep` of the clock. Worker processes use real time.

    Args:
        start: The moment at which it begins, with a time zone; 2026-01-01 00:00 UTC unless given.

    Raises:
        InvalidArgument: start is not a datetime with a time zone.
        VirtualClockMisuse: There is a virtual clock already; or, at the end, runs are still in progress.
    """
    if start is not None and (not isinstance(start, datetime) or start.utcoffset() is None):
        raise InvalidArgument("start", start, "a datetime with a time zone: datetime(2026, 3, 8, tzinfo=UTC)")
    if not _in_use.acquire(blocking=False):
        raise VirtualClockMisuse(
            "virtual_clock() was entered twice: a process has one time. Leave the other context first."
        )
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
                f"virtual_clock() was left too early: {left} runs or schedules are still in progress. Call run.wait() "
                f"first, or scheduler.stop() and wait for its thread."
            )
    finally:
        with contextlib.suppress(RuntimeError):  # a forked child has released it already
            _in_use.release()


def _restore() -> None:
    clock.source = None
    clock.now, clock.monotonic, clock.sleep = _REAL


def _restore_in_child() -> None:
    """Real time again: a forked child has none of the threads that move virtual time."""
    clock.attempt_threads.clear()
    if clock.source is not None:
        _restore()
        _in_use.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restore_in_child)
