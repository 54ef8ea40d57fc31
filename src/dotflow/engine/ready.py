"""ReadyTasks: the tasks that may begin, in order."""

import inspect
import itertools
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple

from dotflow.core.action import Action
from dotflow.core.context import Context
from dotflow.engine.lifecycle import TaskFlow


class Ready(NamedTuple):
    """A task or an item that may begin, or make its next attempt.

    Attributes:
        number: The task's id, or the item's number.
        lane: Its lane.
        previous: Its previous context.
        flow: The flow of a task that waits for its next attempt, or that has links; None for a new plain task.
        step: The step of the next attempt.
        begin: Begins the next item of a map; None for a task.
        calls: The number of calls that wait: the next item of a map counts for all of its items that may begin.
    """

    number: int
    lane: int
    previous: Context
    flow: TaskFlow | None
    step: Action[..., Any]
    begin: "Callable[[Ready], None] | None" = None
    calls: int = 1

    @property
    def has_begun(self) -> bool:
        """Whether it waits for its next attempt."""
        return self.flow is not None and inspect.getgeneratorstate(self.flow) != inspect.GEN_CREATED


class _Queue:
    """The ready tasks that need one pool of workers."""

    def __init__(self, pool: Hashable) -> None:
        self.pool = pool
        self.continuing: deque[tuple[int, Ready]] = deque()
        self.new: deque[tuple[int, Ready]] = deque()
        self.count = 0

    def __len__(self) -> int:
        return len(self.continuing) + len(self.new)

    def rank(self) -> tuple[bool, int]:
        """Returns the sort key of the queue: that of its first task."""
        first = self.continuing or self.new
        return first is self.new, first[0][0]


class ReadyTasks:
    """The tasks that wait for a worker.

    The next task or attempt of a lane goes first, since the lane's worker has its values. Other tasks begin in the
    order in which they became ready. A task whose pool is full does not block the tasks of other pools.
    """

    def __init__(self) -> None:
        self._queues: dict[Hashable, _Queue] = {}
        self._numbers = itertools.count()

    def __bool__(self) -> bool:
        return bool(self._queues)

    def must_wait(self, pool: Hashable, *, continues: bool) -> bool:
        """Returns whether other tasks of the pool go before a task that becomes ready now."""
        queue = self._queues.get(pool)
        return queue is not None and (not continues or bool(queue.continuing))

    def add(self, pool: Hashable, task: Ready, *, continues: bool) -> None:
        """Adds a task that has to wait."""
        queue = self._queues.get(pool)
        if queue is None:
            queue = self._queues[pool] = _Queue(pool)
        (queue.continuing if continues else queue.new).append((next(self._numbers), task))
        queue.count += task.calls

    def take(self, make_room: Callable[[Hashable, int, int], bool]) -> Ready | None:
        """Removes and returns the first task whose pool has room, by ExecutorSession.make_room; None for no task."""
        queues = list(self._queues.values())
        if len(queues) > 1:
            queues.sort(key=_Queue.rank)
        for queue in queues:
            first = queue.continuing or queue.new
            task = first[0][1]
            if make_room(queue.pool, task.lane, queue.count):
                first.popleft()
                queue.count -= task.calls
                if not queue:
                    del self._queues[queue.pool]
                return task
        return None

    def by_pool(self) -> Iterator[tuple[Hashable, Ready]]:
        """Yields each task, after the key of its pool."""
        for pool, queue in self._queues.items():
            yield from ((pool, task) for _, task in (*queue.continuing, *queue.new))

    def drop_new(self, stays: Callable[[Hashable], bool]) -> None:
        """Removes the tasks that have not begun, but those of the pools for which *stays* returns True."""
        for pool, queue in list(self._queues.items()):
            if stays(pool):
                continue
            queue.new.clear()
            queue.continuing = deque(entry for entry in queue.continuing if entry[1].has_begun)
            queue.count = sum(entry[1].calls for entry in queue.continuing)
            if not queue:
                del self._queues[pool]
