"""ReadyTasks: the tasks and items that may begin, in order."""

import itertools
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, NamedTuple

from dotflow.core.action import AnyAction
from dotflow.core.call import Call
from dotflow.core.context import Context
from dotflow.core.task import Task
from dotflow.graph.maps import ItemMap


class Ready(NamedTuple):
    """A task or an item that may begin, or make its next attempt.

    Attributes:
        number: The number of its calls, unique in the run.
        lane: Its lane.
        task: The task or the item.
        previous: Its previous context.
        step: The step of the next attempt.
        continues: Whether it continues its lane.
        inputs: Its own and its shared arguments, the function that returns its fallback, and its secrets; empty if it
            has none of them. None until the graph has decided on them, when its turn has come.
        call: The call of the next attempt, once the task has begun.
        calls: The number of calls that wait.
        before: The number of its attempts before its fallback.
    """

    number: int
    lane: int
    task: Task
    previous: Context
    step: AnyAction
    continues: bool = False
    inputs: tuple[Any, ...] | None = None
    call: Call | None = None
    calls: int = 1
    before: int = 0


class NextItem(NamedTuple):
    """The next item of a map. Which one that is, is decided when there is room for it.

    Attributes:
        items: The map.
        own_lane: The lane of the mapped task.
        calls: The number of its items that may begin.
    """

    items: ItemMap
    own_lane: int
    step: AnyAction
    calls: int
    continues: bool = False
    inputs: tuple[Any, ...] | None = None
    call: None = None

    @property
    def lane(self) -> int:
        """The lane that the item would continue if it began now, or else that of the mapped task."""
        lane = self.items.continued_lane
        return self.own_lane if lane is None else lane


class _Queue:
    """The ready tasks that need one pool of workers."""

    def __init__(self, pool: Hashable) -> None:
        self.pool = pool
        self.continuing: deque[tuple[int, Ready | NextItem]] = deque()
        self.new: deque[tuple[int, Ready | NextItem]] = deque()
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

    Attributes:
        queues: The queue of each pool for which tasks wait.
    """

    def __init__(self) -> None:
        self.queues: dict[Hashable, _Queue] = {}
        self._numbers = itertools.count()

    def must_wait(self, pool: Hashable, *, continues: bool) -> bool:
        """Returns whether other tasks of the pool go before a task that becomes ready now."""
        queue = self.queues.get(pool)
        return queue is not None and (not continues or bool(queue.continuing))

    def add(self, pool: Hashable, task: Ready | NextItem) -> None:
        """Adds a task that has to wait."""
        queue = self.queues.get(pool)
        if queue is None:
            queue = self.queues[pool] = _Queue(pool)
        (queue.continuing if task.continues else queue.new).append((next(self._numbers), task))
        queue.count += task.calls

    def take(self, make_room: Callable[[Hashable, int, int], bool]) -> Ready | NextItem | None:
        """Removes and returns the first task whose pool has room, by ExecutorSession.make_room; None for no task."""
        queues: Iterable[_Queue] = self.queues.values()
        if len(self.queues) > 1:
            queues = sorted(queues, key=_Queue.rank)
        for queue in queues:
            first = queue.continuing or queue.new
            task = first[0][1]
            if make_room(queue.pool, task.lane, queue.count):
                first.popleft()
                queue.count -= task.calls
                if not first and not queue:
                    del self.queues[queue.pool]
                return task
        return None

    def by_pool(self) -> Iterator[tuple[Hashable, Ready | NextItem]]:
        """Yields each task, after the key of its pool."""
        for pool, queue in self.queues.items():
            yield from ((pool, task) for _, task in (*queue.continuing, *queue.new))

    def remove(self, is_over: Callable[[Ready | NextItem], bool]) -> None:
        """Removes those that have begun for which *is_over* returns True."""
        for pool, queue in list(self.queues.items()):
            queue.continuing = deque(entry for entry in queue.continuing if not is_over(entry[1]))
            queue.count = sum(entry[1].calls for entry in (*queue.continuing, *queue.new))
            if not queue:
                del self.queues[pool]

    def drop_new(self, stays: Callable[[Hashable], bool]) -> None:
        """Removes the tasks that have not begun, but those of the pools for which *stays* returns True."""
        for pool, queue in list(self.queues.items()):
            if stays(pool):
                continue
            queue.new.clear()
            queue.continuing = deque(entry for entry in queue.continuing if entry[1].call is not None)
            queue.count = sum(entry[1].calls for entry in queue.continuing)
            if not queue:
                del self.queues[pool]
