"""OpenMaps: the mapped tasks of one run, from their lists to their ends."""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from dotflow import clock
from dotflow.abc.executor import ExecutorSession
from dotflow.core.context import Context
from dotflow.core.events import MapEnded, MapOpened, TaskFailed, TaskRestored, TaskSkipped
from dotflow.core.failure import Failure
from dotflow.core.task import Task
from dotflow.core.types.status import TypeStatus
from dotflow.engine.lifecycle import Fallback, TaskFlow, new
from dotflow.engine.ready import Ready
from dotflow.errors import LeaseLost, RunStopped
from dotflow.graph.linked_task import Item, LinkedTask
from dotflow.graph.maps import ItemMap, lists_of, make_items, map_context, map_failure
from dotflow.graph.plan import Plan
from dotflow.graph.verdict import UNFINISHED, Arguments, Skip
from dotflow.graph.wiring import PREVIOUS

NOT_ENDED: Final = (TypeStatus.NOT_STARTED, *UNFINISHED)


class Loop(Protocol):
    """The runner, as the graph uses it."""

    session: ExecutorSession
    is_stopping: bool
    is_cancelled: bool

    def make_ready(self, task_id: int, previous: Context, *, continues: bool = False) -> None: ...
    def add_ready(self, ready: Ready) -> None: ...
    def advance(self, number: int, flow: TaskFlow) -> None: ...
    def stop_new_tasks(self, *, at_once: bool = False) -> None: ...


class LinkedTasks(Protocol):
    """The graph, as its maps use it."""

    loop: Loop

    def flow(self, task: Task, *more: Any) -> TaskFlow: ...
    def restore_cached(
        self, task: Task, previous: Context, own: Arguments | None, shared: Arguments | None
    ) -> Context | None: ...
    def fallback(self, task: LinkedTask, own: Mapping[str, Any] | None = None) -> Fallback | None: ...
    def fail(self, task: Task, failure: Failure) -> None: ...
    def goes_on(self, task: Task) -> bool: ...
    def end_task(self, task_id: int, context: Context) -> None: ...
    def release(self, follower: int, lane: int) -> None: ...


class OpenMaps:
    """The mapped tasks of one run whose lists are known, and their items.

    Args:
        graph: Decides on all tasks with links.
        tasks: The run's records, in order.
        plan: The dependencies and lanes.
        publish: Publishes an event.
        restore_items: Returns the contexts of a map's restored items by index.
    """

    def __init__(
        self,
        graph: LinkedTasks,
        tasks: Sequence[Task],
        plan: Plan,
        publish: Callable[[Any], None],
        restore_items: Callable[[LinkedTask], Mapping[int, Context]],
    ) -> None:
        self._graph = graph
        self._tasks = tasks
        self._plan = plan
        self._publish = publish
        self._restore_items = restore_items
        self._item_followers = plan.item_followers(tasks)
        self._maps: dict[int, ItemMap] = {}
        self._items: dict[int, tuple[ItemMap, Item, int]] = {}  # by number: the items in flight, and their lanes
        self._item_lanes: dict[tuple[int, int], int] = {}  # of ended items that another map continues
        self._opened: set[int] = set()  # maps that have opened, and so their item followers
        self._is_stopped = False  # only cleanups begin, and other items never end
        self._numbers = itertools.count(len(tasks))

    def in_flight(self, number: int) -> tuple[Item, int]:
        """Returns an item in flight, and its lane."""
        return self._items[number][1:]

    def followers_of(self, task_id: int) -> Sequence[int]:
        """Returns the tasks that were released when the map opened, before its end."""
        return self._item_followers.get(task_id, ()) if task_id in self._opened else ()

    def open(self, task: LinkedTask, shared: Arguments, previous: Context) -> None:
        """Makes the items of a mapped task, whose lists are known."""
        try:
            task._open(make_items(task, lists_of(task, self._tasks)))
            restored = self._restore_items(task)
        except Exception as error:  # of the lists, which may be the user's own types, or of the storage
            if isinstance(error, LeaseLost):  # even with keep_going: another process runs the workflow
                self._graph.loop.stop_new_tasks(at_once=True)
            self._graph.fail(task, Failure.of(error))
            return
        self._publish(MapOpened(task.task_id, len(task.items), clock.now(), clock.monotonic()))
        limit = task.links.max_parallel if self._plan.is_parallel else 1
        keep_going = self._graph.goes_on(task) or (task.links.always and task.links.keep_going is None)
        items = self._maps[task.task_id] = ItemMap(task, shared, previous, limit, keep_going)
        for item in task.items:
            context = restored.get(item.item)
            if context is not None:
                self._publish(TaskRestored(task.task_id, context, Context(), item.item))
                items.end(began=False)
            else:
                self._consider(items, item)
        self._opened.add(task.task_id)
        for follower in self._item_followers.get(task.task_id, ()):
            self._graph.release(follower, -1)
        if self._graph.loop.is_stopping and not task.links.always:  # it was ready before
            items.stop()
        self._go_on(items)

    def stop(self) -> None:
        """Lets those items begin that are ready and within the limits of their maps, and no other one."""
        for items in self._maps.values():
            if not items.task.links.always:
                items.stop()

    def _consider(self, items: ItemMap, item: Item) -> bool:
        """Makes an item pending, unless it waits for an item of another map. Returns whether it was skipped."""
        sources = item.sources()
        if not self._is_stopped and any(source.status in NOT_ENDED for source in sources):
            return False
        own = items.arguments_of(item) if sources else None
        if isinstance(own, Skip):
            self._publish(TaskSkipped(item.task_id, own.reason, item.item))
            items.end(began=False)
            return True
        items.add(item)
        return False

    def _go_on(self, items: ItemMap) -> None:
        """Makes the next item of a map ready, or ends the map."""
        if items.task.step.cache is not None:
            self._restore_cached(items)
        if items.is_over:
            self._end_map(items)
        elif count := items.may_begin:
            items.is_waiting = True
            task = items.task
            begin = functools.partial(self._begin_item, items)
            lane = self._plan.lanes[task.task_id]
            self._graph.loop.add_ready(new(Ready, (task.task_id, lane, items.previous, None, task.step, begin, count)))

    def _restore_cached(self, items: ItemMap) -> None:
        """Restores the next items from the cache, up to the first that is not there."""
        while items.may_begin and not self._graph.loop.is_cancelled:
            item = items.next
            if item.item == items.missing:  # in the cache, when it was looked up before
                return
            own = items.arguments_of(item)
            assert not isinstance(own, Skip), "_consider was asked before"
            previous = Context(own.pop(PREVIOUS)) if PREVIOUS in own else items.previous
            if self._graph.restore_cached(item, previous, own, items.shared or None) is None:
                items.missing = item.item
                return
            items.begin()
            items.end()
            self._continue_followers(item)

    def _begin_item(self, items: ItemMap, _: Ready) -> None:
        items.is_waiting = False
        item = items.begin()
        own = items.arguments_of(item)
        assert not isinstance(own, Skip), "_consider was asked before"
        number = next(self._numbers)
        previous = Context(own.pop(PREVIOUS)) if PREVIOUS in own else items.previous
        lane = self._lane_for(items, item, number)
        self._items[number] = items, item, lane
        fallback = (
            None if items.task.links.fallback is None else functools.partial(self._graph.fallback, items.task, own)
        )
        flow = self._graph.flow(item, lane, previous, number, own, items.shared or None, fallback)
        if items.may_begin:  # before this one runs, which may take long in this thread
            self._go_on(items)
        self._graph.loop.advance(number, flow)

    def _lane_for(self, items: ItemMap, item: Item, number: int) -> int:
        """Returns an item's lane. In parallel mode: that of the first item whose value it takes, or its own."""
        if not self._plan.is_parallel:
            return self._plan.lanes[item.task_id]
        for source in item.sources():
            lane = self._item_lanes.pop((source.task_id, source.item), None)
            if lane is not None:
                return lane
        return number

    def end_item(self, number: int, context: Context | None) -> None:
        """Makes the items ready that waited for an ended one. *context* is None if it failed."""
        items, item, lane = self._items.pop(number)
        if context is None and not items.keep_going:  # first: nothing takes its place
            items.stop()
            self._graph.loop.stop_new_tasks()
        items.end(failed=context is None)
        if self._plan.is_parallel:
            if context is not None and self._item_followers.get(item.task_id):
                self._item_lanes[item.task_id, item.item] = lane
            else:
                self._graph.loop.session.leave(lane)
        self._continue_followers(item)
        self._go_on(items)

    def _continue_followers(self, item: Item) -> None:
        """Considers the items of other maps that wait for this one, and for those that are skipped for it."""
        ended = [item]
        while ended:
            item = ended.pop()
            for follower in self._item_followers.get(item.task_id, ()):
                items = self._maps.get(follower)
                if items is not None:
                    waiting = items.task.items[item.item]
                    if self._consider(items, waiting):
                        ended.append(waiting)
                    self._go_on(items)

    def _end_map(self, items: ItemMap) -> None:
        task = items.task
        if self._maps.pop(task.task_id, None) is None:
            return
        self._close(task, map_failure(task))
        has_failed = task.status is TypeStatus.FAILED
        if has_failed and not items.keep_going:
            self._graph.loop.stop_new_tasks()
        self._graph.end_task(task.task_id, Context() if has_failed else task.current_context)

    def _close(self, task: LinkedTask, failure: Failure | None) -> None:
        context = map_context(task, Context._of(None, task.task_id, task.workflow_id, clock.now(), task.step.identity))
        self._publish(MapEnded(task.task_id, context, failure, clock.now(), clock.monotonic()))

    def continue_cleanups(self) -> bool:
        """Makes the next items of cleanups ready, which the stop of the run has dropped. Returns whether there are."""
        dropped = [items for items in self._maps.values() if items.task.links.always and items.is_waiting]
        for items in dropped:
            items.is_waiting = False
            self._go_on(items)
        return bool(dropped)

    def fail_unfinished(self, exception: str, reason: str) -> None:
        """Fails the items and maps that a stopped run leaves unfinished."""
        self._is_stopped = True
        failed = {task_id: map_failure(items.task) for task_id, items in self._maps.items() if items.has_stopped}
        for _, item, _ in self._items.values():
            if item.status in UNFINISHED:
                failure = Failure(exception, str(RunStopped(item.name, reason)))
                now, tick = clock.now(), clock.monotonic()
                self._publish(TaskFailed(item.task_id, item.attempt, failure, now, tick, item.item))
        for task_id, items in self._maps.items():
            task, count = items.task, len(items.task.items)
            progress = f"{reason}, after {count - items.left} of {count} items"
            self._close(task, failed.get(task_id) or Failure(exception, str(RunStopped(task.name, progress))))
        self._items.clear()
        self._maps.clear()
