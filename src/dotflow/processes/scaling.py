"""PoolGrowth: how many workers there may be, and when to start one more."""

import os
from typing import Final

from dotflow import clock
from dotflow.errors import InvalidArgument

CORES: Final = os.cpu_count() or 1
DEFAULT_WORKERS: Final = max(32, 4 * CORES)
STARTUP_DELAY: Final = 0.001  # seconds without a free worker before more are started; a fork takes about as long


class PoolGrowth:
    """Starts no worker while calls end faster than a process starts, and no more at a time than there are cores.

    Attributes:
        workers: How many there are.
        starting: How many of them have not reported yet.
    """

    def __init__(self) -> None:
        self.workers = 0
        self.starting = 0
        self._last_end = clock.ticks()

    def call_ended(self) -> None:
        """Notes that a call has ended, so that its worker is free."""
        self._last_end = clock.ticks()

    def should_grow(self, isolated: bool = False) -> bool:
        """Returns whether to start one more; up to one for each core always starts.

        Args:
            isolated: Whether it is for a call that can't use a free worker.
        """
        if self.workers < CORES:
            return True
        return self.starting < CORES and (isolated or clock.ticks() - self._last_end >= STARTUP_DELAY)

    def next_check(self) -> float:
        """Returns when to ask again, on the monotonic clock, if nothing happens before."""
        return float("inf") if self.starting >= CORES else self._last_end + STARTUP_DELAY


def check_workers(max_workers: int | None) -> int:
    """Returns the number of workers, or the default for None. Raises InvalidArgument unless it is positive."""
    if max_workers is None:
        return DEFAULT_WORKERS
    if type(max_workers) is not int or max_workers < 1:
        raise InvalidArgument("max_workers", max_workers, "a whole number from 1")
    return max_workers
