"""Roster: which worker takes which call. It only keeps the book; it starts and ends nobody."""

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from dotflow.core.call import Call

W = TypeVar("W")


class Roster(Generic[W]):
    """Calls of one lane go to one worker, as long as it lives and is not needed elsewhere.

    Args:
        hire: Starts a worker; may raise.
        most: How many there may be at once.
        may_hire: Whether now is the time to start one more.
        dismiss_for_isolated: Ends an idle worker, to make room for the one that an isolated call has to itself. None
            where isolation is somebody else's care.
    """

    def __init__(
        self,
        hire: Callable[[], W],
        most: int,
        may_hire: Callable[[], bool] = lambda: True,
        dismiss_for_isolated: Callable[[W], object] | None = None,
    ) -> None:
        self._hire = hire
        self._most = most
        self._may_hire = may_hire
        self._dismiss_for_isolated = dismiss_for_isolated
        self._count = 0
        self._queue: deque[Call] = deque()
        self._idle: dict[W, None] = {}  # a set that keeps its order: the one that rested least comes first
        self._home: dict[int, W] = {}  # lane -> its worker
        self._lanes: dict[W, set[int]] = {}  # worker -> the lanes that it is home to

    def add(self, call: Call) -> W | None:
        """Its worker, where the lane has one that is free; otherwise the call waits for `next`."""
        home = self._home.get(call.lane)
        if home is not None and home in self._idle:
            del self._idle[home]
            return home
        self._queue.append(call)
        return None

    def next(self) -> tuple[Call, W | OSError] | None:
        """The next call that can begin now, and its worker; None when all must wait.

        Where no worker can be hired, and there is none to wait for, the error stands in the worker's place.
        """
        if not self._queue:
            return None
        worker = self._find(self._queue[0])
        if worker is None:
            return None
        call = self._queue.popleft()
        if isinstance(worker, OSError):
            return call, worker
        self._idle.pop(worker, None)
        self._home[call.lane] = worker
        self._lanes[worker].add(call.lane)
        return call, worker

    def _find(self, call: Call) -> W | OSError | None:
        home = self._home.get(call.lane)
        if home is not None and home in self._idle:
            return home
        apart = self._dismiss_for_isolated is not None and call.step.isolate
        free = next((worker for worker in reversed(self._idle) if not self._lanes[worker]), None)
        if free is not None and not apart:
            return free
        if apart and self._count >= self._most and self._idle and self._dismiss_for_isolated is not None:
            self._dismiss_for_isolated(free or next(iter(self._idle)))
        if self._count < self._most and self._may_hire():
            try:
                worker = self._hire()
            except OSError as error:
                if not self._count:
                    return error
                self._most = self._count  # no more are to be had; those who are there will do it
            else:
                self._count += 1
                self._lanes[worker] = set()
                return worker
        return None if apart else next(iter(self._idle), None)  # home to others, whose lanes are waiting out a delay

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return len(self._queue)

    @property
    def wants_more(self) -> bool:
        """Whether a call waits that one more worker could begin."""
        return bool(self._queue) and self._count < self._most

    def join(self, worker: W) -> None:
        """A worker has come that was not hired here."""
        self._count += 1
        self._lanes[worker] = set()
        self._idle[worker] = None

    def rest(self, worker: W) -> None:
        """The worker has done its call."""
        self._idle[worker] = None

    def leave(self, lane: int) -> None:
        """The lane has no more calls."""
        home = self._home.pop(lane, None)
        if home is not None and home in self._lanes:
            self._lanes[home].discard(lane)

    def dismiss(self, worker: W) -> None:
        """The worker is no more."""
        self._count -= 1
        self._idle.pop(worker, None)
        for lane in self._lanes.pop(worker, ()):
            self._home.pop(lane, None)
