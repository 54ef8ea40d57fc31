"""ReadyTasks: the tasks and items that may begin, in order."""

import itertools
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple

from dotflow.core.action import AnyAction
from dotflow.core.call import Call
from dotflow.core.context import Context
from dotflow.core.task import Task


class Ready(NamedTuple):
    """A task or an item that may begin, or make its next attempt.

    Attributes:
        number: The number of its calls, unique in the run.
        lane: Its lane.
        task: The task or the item.
        previous: Its previous context.
        step: The step of the next attempt.
        continues: Whether it continues its lane.
        inputs: Its own and its shared arguments, the function that returns its fallback after a failure, and its
            secrets; empty if it has none of them. None until the graph has decided on them, when its turn has come.
        call: The call of the next attempt, once the task has begun.
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
    before: int = 0


class _Queue:
    """The ready tasks that need one pool of workers. The items of several maps take turns."""

    def __init__(self, pool: Hashable) -> None:
        self.pool = pool
        self.continuing: deque[tuple[int, Ready]] = deque()
        self.new: OrderedDict[int, deque[tuple[int, Ready]]] = OrderedDict()  # by task
        self.count = 0

    def first(self) -> tuple[int, Ready]:
        """Returns what begins next, after its number."""
        return (self.continuing or next(iter(self.new.values())))[0]

    def add(self, number: int, task: Ready) -> None:
        """Adds a task or an item, with its number."""
        self.count += 1
        if task.continues:
            self.continuing.append((number, task))
            return
        task_id = task.task.task_id
        entries = self.new.get(task_id)
        if entries is None:
            entries = self.new[task_id] = deque()
        entries.append((number, task))

    def take(self) -> None:
        """Removes the first one."""
        self.count -= 1
        if self.continuing:
            self.continuing.popleft()
            return
        task_id, entries = self.new.popitem(last=False)
        entries.popleft()
        if entries:
            self.new[task_id] = entries

    def keep(self, is_kept: Callable[[Ready], bool]) -> None:
        """Removes those that continue a lane and are not kept."""
        self.continuing = deque(entry for entry in self.continuing if is_kept(entry[1]))
        self.count = sum(map(len, (self.continuing, *self.new.values())))

    def rank(self) -> tuple[bool, int]:
        """Returns the sort key of the queue: that of its first task."""
        return not self.continuing, self.first()[0]


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

    def add(self, pool: Hashable, task: Ready) -> None:
        """Adds a task that has to wait."""
        queue = self.queues.get(pool)
        if queue is None:
            queue = self.queues[pool] = _Queue(pool)
        queue.add(next(self._numbers), task)

    def take(self, make_room: Callable[[Hashable, int, int], bool]) -> Ready | None:
        """Removes and returns the first task whose pool has room, by ExecutorSession.make_room; None for no task."""
        queues: Iterable[_Queue] = self.queues.values()
        if len(self.queues) > 1:
            queues = sorted(queues, key=_Queue.rank)
        for queue in queues:
            task = queue.first()[1]
            if make_room(queue.pool, task.lane, queue.count):
                queue.take()
                if not queue.count:
                    del self.queues[queue.pool]
                return task
        return None

    def by_pool(self) -> Iterator[tuple[Hashable, Ready]]:
        """Yields each task, after the key of its pool."""
        for pool, queue in self.queues.items():
            yield from ((pool, task) for _, task in chain(queue.continuing, *queue.new.values()))

    def remove(self, is_over: Callable[[Ready], bool]) -> None:
        """Removes those that have begun for which *is_over* returns True."""
        for pool, queue in list(self.queues.items()):
            queue.keep(lambda task: not is_over(task))
            if not queue.count:
                del self.queues[pool]

    def drop_new(self, stays: Callable[[Hashable], bool]) -> None:
        """Removes the tasks that have not begun, but those of the pools for which *stays* returns True."""
        for pool, queue in list(self.queues.items()):
            if stays(pool):
                continue
            queue.new.clear()
            queue.keep(lambda task: task.call is not None)
            if not queue.count:
                del self.queues[pool]
