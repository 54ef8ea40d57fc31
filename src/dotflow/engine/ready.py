"""ReadyTasks: the tasks that may begin, in the order in which they do. It begins none of them."""

import itertools
from collections import deque
from collections.abc import Callable, Hashable
from typing import NamedTuple

from dotflow.core.context import Context
from dotflow.engine.lifecycle import TaskFlow


class Ready(NamedTuple):
    """A task that may begin, or make its next attempt.

    Attributes:
        task_id: The task.
        lane: Its lane.
        previous: The context that it is given.
        flow: Where it has begun: its flow, which waits to make the next attempt.
    """

    task_id: int
    lane: int
    previous: Context
    flow: TaskFlow | None


class _Queue:
    """The ready tasks that need one pool of workers."""

    def __init__(self, pool: Hashable) -> None:
        self.pool = pool
        self.continuing: deque[tuple[int, Ready]] = deque()
        self.new: deque[tuple[int, Ready]] = deque()

    def __len__(self) -> int:
        return len(self.continuing) + len(self.new)

    def rank(self) -> tuple[bool, int]:
        """Order the pools by their first tasks."""
        first = self.continuing or self.new
        return first is self.new, first[0][0]


class ReadyTasks:
    """What waits for a worker.

    What continues a lane, its next task or the next attempt, goes first: the lane's worker has its values. Everything
    else begins in the order in which it became ready. A task whose pool has no room lets those of other pools pass.
    """

    def __init__(self) -> None:
        self._queues: dict[Hashable, _Queue] = {}
        self._numbers = itertools.count()

    def __bool__(self) -> bool:
        return bool(self._queues)

    def must_wait(self, pool: Hashable, *, continues: bool) -> bool:
        """Return whether others of its pool go before a task that becomes ready now."""
        queue = self._queues.get(pool)
        return queue is not None and (not continues or bool(queue.continuing))

    def add(self, pool: Hashable, task: Ready, *, continues: bool) -> None:
        """Take in a task that has to wait."""
        queue = self._queues.get(pool)
        if queue is None:
            queue = self._queues[pool] = _Queue(pool)
        (queue.continuing if continues else queue.new).append((next(self._numbers), task))

    def take(self, make_room: Callable[[Hashable, int, int], bool]) -> Ready | None:
        """Take out the first task whose pool has room, as ExecutorSession.make_room says; None where none has."""
        queues = list(self._queues.values())
        if len(queues) > 1:
            queues.sort(key=_Queue.rank)
        for queue in queues:
            first = queue.continuing or queue.new
            task = first[0][1]
            if make_room(queue.pool, task.lane, len(queue)):
                first.popleft()
                if not queue:
                    del self._queues[queue.pool]
                return task
        return None

    def drop_new(self) -> None:
        """Leave only tasks that have begun."""
        for queue in list(self._queues.values()):
            queue.new.clear()
            queue.continuing = deque(entry for entry in queue.continuing if entry[1].flow is not None)
            if not queue:
                del self._queues[queue.pool]
