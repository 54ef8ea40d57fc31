"""Dispatcher: assigns calls to workers. It only keeps the assignment; calls wait elsewhere."""

import os
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from dotflow.errors import InvalidArgument

CORES: Final = os.cpu_count() or 1
DEFAULT_WORKERS: Final = max(32, 4 * CORES)

W = TypeVar("W")


def check_workers(max_workers: int | None) -> int:
    """Returns the number of workers, or the default for None. Raises InvalidArgument unless it is positive."""
    if max_workers is None:
        return DEFAULT_WORKERS
    if type(max_workers) is not int or max_workers < 1:
        raise InvalidArgument("max_workers", max_workers, "a whole number from 1")
    return max_workers


class Dispatcher(Generic[W]):
    """Assigns the calls of one lane to one worker, as long as it lives and no other lane needs it.

    `make_room` comes before each call. If it returns True, `take` returns a worker for the call.

    Args:
        start: Starts a worker; may raise OSError.
        max_workers: How many there may be at once.
        growth: How many workers may start now; its argument says whether that is for an isolated call.
        remove_for_isolated: Ends an idle worker, to make room for the worker of an isolated call.
    """

    def __init__(
        self,
        start: Callable[[], W],
        max_workers: int,
        growth: Callable[[bool], int] = lambda isolated: 1,
        remove_for_isolated: Callable[[W], object] = lambda worker: None,
    ) -> None:
        self._start = start
        self._max_workers = max_workers
        self._growth = growth
        self._remove_for_isolated = remove_for_isolated
        self._count = 0
        self._error: OSError | None = None
        self._idle: dict[W, None] = {}  # an ordered set: the last one to become idle is last
        self._unused: dict[W, None] = {}  # idle workers that have made no call yet
        self._assigned: dict[int, W] = {}  # lane -> its worker
        self._lanes: dict[W, set[int]] = {}  # worker -> the lanes that are assigned to it

    def has_worker(self, lane: int, isolated: bool = False) -> bool:
        """Returns whether an idle worker is there for the lane's next call, its own or one without lanes."""
        return self._find(lane, isolated) is not None

    def has_room(self, lane: int, isolated: bool = False) -> bool:
        """Returns whether `make_room` would return a worker or try to start one. It changes nothing."""
        if self.has_worker(lane, isolated) or (self._idle and not isolated):
            return True
        return (self._count < self._max_workers or bool(self._idle)) and self._growth(isolated) > 0

    def make_room(self, lane: int, isolated: bool = False) -> bool:
        """Returns whether there is a worker for a call of the lane; starts one if that is needed.

        Args:
            lane: The lane.
            isolated: Whether the call needs a worker that has made no call before.
        """
        if self.has_worker(lane, isolated) or (self._growth(isolated) > 0 and self._start_one(isolated)):
            return True
        return not isolated and bool(self._idle)  # their own lanes wait for a retry delay

    def room_left(self) -> int:
        """Returns how many more calls `max_workers` allows."""
        return self._max_workers - self._count + len(self._idle)

    def take(self, lane: int, isolated: bool = False) -> W | OSError | None:
        """Returns the worker for a call of the lane, which is now busy; None after False from `make_room`.

        If no worker can be started, and there is none to wait for, it returns the error instead.
        """
        if self._error is not None:
            error, self._error = self._error, None
            return error
        worker = self._find(lane, isolated) or (None if isolated else next(iter(self._idle), None))
        if worker is None:
            return None
        del self._idle[worker]
        self._unused.pop(worker, None)
        if not isolated:
            self._assigned[lane] = worker
            self._lanes[worker].add(lane)
        return worker

    def _find(self, lane: int, isolated: bool) -> W | None:
        """Returns an idle worker that no other lane needs: the lane's own, else one without lanes."""
        if isolated:
            return next(iter(self._unused), None)
        worker = self._assigned.get(lane)
        return worker if worker in self._idle else self._unassigned()

    def _unassigned(self) -> W | None:
        for worker in reversed(self._idle):
            if not self._lanes[worker]:
                return worker
        return None

    def _start_one(self, isolated: bool) -> bool:
        """Starts a worker; returns True also where there is none at all, so that `take` returns the error."""
        if isolated and self._count >= self._max_workers and self._idle:
            self._remove_for_isolated(self._unassigned() or next(iter(self._idle)))
        if self._count >= self._max_workers:
            return False
        try:
            worker = self._start()
        except OSError as error:
            if not self._count:
                self._error = error
                return True
            self._max_workers = self._count  # the system allows no more
            return False
        self.add(worker)
        return True

    @property
    def has_idle(self) -> bool:
        """Whether a worker is idle."""
        return bool(self._idle)

    @property
    def room_to_grow(self) -> int:
        """How many more workers may start."""
        return self._max_workers - self._count

    def add(self, worker: W) -> None:
        """Adds a new worker, which is idle."""
        self._count += 1
        self._lanes[worker] = set()
        self._idle[worker] = self._unused[worker] = None

    def release(self, worker: W) -> None:
        """Marks a worker as idle: its call has ended."""
        self._idle[worker] = None

    def leave(self, lane: int) -> None:
        """Drops a lane that has no more calls."""
        worker = self._assigned.pop(lane, None)
        if worker is not None and worker in self._lanes:
            self._lanes[worker].discard(lane)

    def remove(self, worker: W) -> None:
        """Drops a worker that has ended."""
        self._count -= 1
        self._idle.pop(worker, None)
        self._unused.pop(worker, None)
        for lane in self._lanes.pop(worker, ()):
            self._assigned.pop(lane, None)
