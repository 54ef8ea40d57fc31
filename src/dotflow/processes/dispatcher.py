"""Dispatcher: which worker takes which call. It only keeps the book; calls wait elsewhere."""

from collections.abc import Callable
from typing import Generic, TypeVar

W = TypeVar("W")


class Dispatcher(Generic[W]):
    """Calls of one lane go to one worker, as long as it lives and is not needed elsewhere.

    Before each call `make_room` is asked; after True, `take` has a worker for it.

    Args:
        start: Starts a worker; may raise OSError.
        most: How many there may be at once.
        should_grow: Whether now is the time to start one more; it is given whether that is for a call that must have a
            worker to itself.
        dismiss_for_isolated: Ends an idle worker, to make room for the one that an isolated call has to itself.
    """

    def __init__(
        self,
        start: Callable[[], W],
        max_workers: int,
        should_grow: Callable[[bool], bool] = lambda isolated: True,
        remove_for_isolated: Callable[[W], object] = lambda worker: None,
    ) -> None:
        self._start = start
        self._max_workers = max_workers
        self._should_grow = should_grow
        self._remove_for_isolated = remove_for_isolated
        self._count = 0
        self._error: OSError | None = None
        self._idle: dict[W, None] = {}  # a set that keeps its order: the one that rested least comes first
        self._unused: dict[W, None] = {}  # those of the idle that have made no call yet
        self._worker_of: dict[int, W] = {}  # lane -> its worker
        self._lanes: dict[W, set[int]] = {}  # worker -> the lanes that it is home to

    def has_worker(self, lane: int, isolated: bool = False) -> bool:
        """Return whether there is an idle worker for a call of the lane that no other lane comes back to."""
        if isolated:
            return bool(self._unused)
        return self._has_idle_home(lane) or self._unassigned() is not None

    def has_room(self, lane: int, isolated: bool = False) -> bool:
        """Return whether `make_room` would try to make some. It changes nothing."""
        if self.has_worker(lane, isolated) or (self._idle and not isolated):
            return True
        return (self._count < self._max_workers or bool(self._idle)) and self._should_grow(isolated)

    def make_room(self, lane: int, isolated: bool = False) -> bool:
        """Return whether there is a worker for a call of the lane; one is hired where it takes that.

        Args:
            lane: The lane.
            apart: Whether it must be a worker that has made no call before.
        """
        if self.has_worker(lane, isolated) or (self._should_grow(isolated) and self._start_one(isolated)):
            return True
        return not isolated and bool(self._idle)  # home to others, whose lanes are waiting out a delay

    def take(self, lane: int, isolated: bool = False) -> W | OSError | None:
        """Return the worker for a call of the lane, which is idle no longer; None where `make_room` found none.

        Where no worker can be hired, and there is none to wait for, the error stands in the worker's place.
        """
        if self._error is not None:
            error, self._error = self._error, None
            return error
        if isolated:
            worker = next(iter(self._unused), None)
        elif self._has_idle_home(lane):
            worker = self._worker_of[lane]
        else:
            worker = self._unassigned() or next(iter(self._idle), None)
        if worker is None:
            return None
        del self._idle[worker]
        self._unused.pop(worker, None)
        if not isolated:
            self._worker_of[lane] = worker
            self._lanes[worker].add(lane)
        return worker

    def _has_idle_home(self, lane: int) -> bool:
        home = self._worker_of.get(lane)
        return home is not None and home in self._idle

    def _unassigned(self) -> W | None:
        return next((worker for worker in reversed(self._idle) if not self._lanes[worker]), None)

    def _start_one(self, isolated: bool) -> bool:
        """Hire a worker; True, too, where none is there and none can be had, which `take` then says."""
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
            self._max_workers = self._count  # no more are to be had; those who are there will do it
            return False
        self.add(worker)
        return True

    @property
    def has_idle(self) -> bool:
        """Whether there is an idle worker."""
        return bool(self._idle)

    @property
    def can_grow(self) -> bool:
        """Whether there may be one more worker."""
        return self._count < self._max_workers

    def add(self, worker: W) -> None:
        """A worker has come."""
        self._count += 1
        self._lanes[worker] = set()
        self._idle[worker] = self._unused[worker] = None

    def release(self, worker: W) -> None:
        """The worker has done its call."""
        self._idle[worker] = None

    def leave(self, lane: int) -> None:
        """The lane has no more calls."""
        home = self._worker_of.pop(lane, None)
        if home is not None and home in self._lanes:
            self._lanes[home].discard(lane)

    def remove(self, worker: W) -> None:
        """The worker is no more."""
        self._count -= 1
        self._idle.pop(worker, None)
        self._unused.pop(worker, None)
        for lane in self._lanes.pop(worker, ()):
            self._worker_of.pop(lane, None)
