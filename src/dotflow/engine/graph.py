"""Graph: decides on the tasks with links of one run: needs, conditions, maps, fallbacks and cleanup."""

import functools
import itertools
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from dotflow import clock
from dotflow.core.context import Context
from dotflow.core.events import MapEnded, MapOpened, TaskFailed, TaskRestored, TaskSkipped
from dotflow.core.failure import Failure
from dotflow.core.linked_task import Item, LinkedTask
from dotflow.core.params import Params
from dotflow.core.task import Task
from dotflow.core.types.status import TypeStatus
from dotflow.core.wiring import PREVIOUS
from dotflow.engine.lifecycle import Fallback, TaskFlow, new, task_flow
from dotflow.engine.maps import Digest, ItemMap, lists_of, make_items
from dotflow.engine.plan import Plan
from dotflow.engine.ready import Ready
from dotflow.engine.verdict import Arguments, Skip, arguments, decide, has_value
from dotflow.errors import NotAList, RunStopped, UnequalLists

UNFINISHED: Final = (TypeStatus.IN_PROGRESS, TypeStatus.RETRY)
NOT_ENDED: Final = (TypeStatus.NOT_STARTED, *UNFINISHED)


class Loop(Protocol):
    """The runner, as the graph uses it."""

    @property
    def is_stopping(self) -> bool: ...
    def make_ready(self, task_id: int, previous: Context, *, continues: bool = False) -> None: ...
    def add_ready(self, ready: Ready) -> None: ...
    def begin_flow(self, number: int, flow: TaskFlow) -> None: ...
    def leave(self, lane: int) -> None: ...
    def stop_new_tasks(self) -> None: ...


class Graph:
    """The tasks with links of one run.

    Args:
        tasks: The run's records, in order.
        plan: The dependencies and lanes.
        params: The run parameters.
        publish: Publishes an event.
        keep_going: Whether other tasks continue after a failure.
        digest: Returns a digest of an item's value.
        restored_items: Returns the contexts of a map's restored items by index.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        plan: Plan,
        params: Params,
        publish: Callable[[Any], None],
        *,
        keep_going: bool,
        digest: Digest,
        restored_items: Callable[[LinkedTask], Mapping[int, Context]],
    ) -> None:
        self._tasks = tasks
        self._plan = plan
        self._params = params
        self._publish = publish
        self._keep_going = keep_going
        self._digest = digest
        self._restored_items = restored_items
        self._followers = plan.followers()
        self._unmet = [len(needs) for needs in plan.needs]
        self._item_followers = plan.item_followers(tasks)
        self._last = plan.last_of_lanes()
        self._contexts: dict[int, Context] = {}  # of ended tasks, as previous_context of others
        self._maps: dict[int, ItemMap] = {}
        self._items: dict[int, tuple[ItemMap, Item, int]] = {}  # by number: the items in flight, and their lanes
        self._item_lanes: dict[tuple[int, int], int] = {}  # of ended items that another map continues
        self._opened: set[int] = set()  # maps that have opened, and so their item followers
        self._numbers = itertools.count(len(tasks))
        self._cleanups = deque(task for task in tasks if task.links is not None and task.links.always)  # left to run
        self.loop: Loop

    def in_flight(self, number: int) -> tuple[Item, int]:
        """Returns an item in flight, and its lane."""
        return self._items[number][1:]

    def enter(self, task_id: int, lane: int, previous: Context) -> Ready | None:
        """Returns a task whose needs have ended, to be begun. Skips it or opens its map instead, and returns None."""
        task: Any = self._tasks[task_id]
        try:
            decision = decide(task.links, self._tasks, self._params)
        except Exception as error:  # raised by the __bool__ or __eq__ of a value
            self._fail(task, Failure.of(error))
            return None
        if isinstance(decision, Skip):
            self._publish(TaskSkipped(task_id, decision.reason))
            self._end(task_id, previous)
        elif task.links.each:
            self._open(task, decision, previous)
        else:
            begin = functools.partial(self._begin, task, decision)
            return new(Ready, (task_id, lane, previous, None, task.step, begin, 1))
        return None

    def _begin(self, task: LinkedTask, arguments: Arguments, ready: Ready) -> None:
        fallback = None if task.links.fallback is None else functools.partial(self._fallback, task, {})
        flow = task_flow(task, ready.lane, ready.previous, task.task_id, arguments or None, None, fallback)
        self.loop.begin_flow(task.task_id, flow)

    def _fallback(self, task: LinkedTask, own: Mapping[str, Any]) -> Fallback | None:
        """Returns the task's fallback; None if a value that it requires is missing."""
        links = task.links
        assert links.fallback is not None
        for bind in links.fallback_binds:
            if bind.required and isinstance(bind.source, int) and not has_value(self._tasks[bind.source]):
                return None
        values = arguments(links.fallback_binds, self._tasks, self._params)
        values.update((name, value) for name, value in own.items() if name in links.fallback.named_params)
        return Fallback(links.fallback, values or None)

    def _fail(self, task: Task, failure: Failure) -> None:
        self._publish(TaskFailed(task.task_id, 1, failure, clock.now(), clock.monotonic()))
        self.end(task.task_id, None)

    def end(self, number: int, context: Context | None) -> None:
        """Makes the tasks ready that waited for an ended task or item. *context* is None if it failed."""
        in_flight = self._items.pop(number, None)
        if in_flight is not None:
            self._end_item(*in_flight, context)
            return
        if context is None and not self._goes_on(self._tasks[number]):
            self.loop.stop_new_tasks()
        self._end(number, Context() if context is None else context)

    def _goes_on(self, task: Task) -> bool:
        links = task.links
        return self._keep_going if links is None or links.keep_going is None else links.keep_going

    def _end(self, task_id: int, context: Context) -> None:
        """Releases the followers of a task. *context* is their previous context."""
        lane = self._plan.lanes[task_id]
        if self._last[lane] == task_id:
            self.loop.leave(lane)
        self._contexts[task_id] = context
        released = self._item_followers.get(task_id, ()) if task_id in self._opened else ()
        for follower in self._followers[task_id]:
            if follower not in released:
                self._release(follower, lane)

    def _release(self, follower: int, lane: int) -> None:
        self._unmet[follower] -= 1
        if not self._unmet[follower]:
            source = self._plan.previous[follower]
            previous = Context() if source is None else self._contexts[source]
            self.loop.make_ready(follower, previous, continues=self._plan.lanes[follower] == lane)

    # Maps

    def _open(self, task: LinkedTask, shared: Arguments, previous: Context) -> None:
        """Makes the items of a mapped task, whose lists are known."""
        try:
            lists = lists_of(task, self._tasks)
        except (NotAList, UnequalLists) as error:
            self._fail(task, Failure.of(error))
            return
        task._open(make_items(task, lists, self._digest))
        self._publish(MapOpened(task.task_id, len(task.items), clock.now(), clock.monotonic()))
        limit = task.links.max_parallel if self._plan.is_parallel else 1
        items = self._maps[task.task_id] = ItemMap(task, shared, previous, limit, self._goes_on(task))
        restored = self._restored_items(task)
        for item in task.items:
            context = restored.get(item.item)
            if context is not None:
                self._publish(TaskRestored(task.task_id, context, Context(), item.item))
                items.end(began=False)
            else:
                self._consider(items, item)
        self._opened.add(task.task_id)
        for follower in self._item_followers.get(task.task_id, ()):
            self._release(follower, -1)
        self._go_on(items)

    def _consider(self, items: ItemMap, item: Item) -> None:
        """Makes an item pending, unless it waits for an item of another map; skips it if that one has no value."""
        sources = item.sources()
        if any(source.status in NOT_ENDED for source in sources):
            return
        own = items.arguments_of(item) if sources else None
        if isinstance(own, Skip):
            self._publish(TaskSkipped(item.task_id, own.reason, item.item))
            items.end(began=False)
            self._continue_followers(item)
        else:
            items.pending.append(item.item)

    def _go_on(self, items: ItemMap) -> None:
        """Makes the next item of a map ready, or ends the map."""
        if items.is_over:
            self._end_map(items)
        elif (count := items.may_begin) and not self.loop.is_stopping:
            items.is_waiting = True
            task = items.task
            begin = functools.partial(self._begin_item, items)
            lane = self._plan.lanes[task.task_id]
            self.loop.add_ready(new(Ready, (task.task_id, lane, items.previous, None, task.step, begin, count)))

    def _begin_item(self, items: ItemMap, _: Ready) -> None:
        items.is_waiting = False
        item = items.begin()
        own = items.arguments_of(item)
        assert not isinstance(own, Skip), "_consider was asked before"
        number = next(self._numbers)
        previous = Context(own.pop(PREVIOUS)) if PREVIOUS in own else items.previous
        lane = self._lane_for(items, item, number)
        self._items[number] = items, item, lane
        fallback = None if items.task.links.fallback is None else functools.partial(self._fallback, items.task, own)
        flow = task_flow(item, lane, previous, number, own, items.shared or None, fallback)
        if items.may_begin:  # before this one runs, which may take long in this thread
            self._go_on(items)
        self.loop.begin_flow(number, flow)

    def _lane_for(self, items: ItemMap, item: Item, number: int) -> int:
        """Returns an item's lane. In parallel mode: that of the first item whose value it takes, or its own."""
        if not self._plan.is_parallel:
            return self._plan.lanes[item.task_id]
        for source in item.sources():
            lane = self._item_lanes.pop((source.task_id, source.item), None)
            if lane is not None:
                return lane
        return number

    def _end_item(self, items: ItemMap, item: Item, lane: int, context: Context | None) -> None:
        items.end(failed=context is None)
        if context is None and not items.keep_going:
            self.loop.stop_new_tasks()
        if self._plan.is_parallel:
            if context is not None and self._item_followers.get(item.task_id):
                self._item_lanes[item.task_id, item.item] = lane
            else:
                self.loop.leave(lane)
        self._continue_followers(item)
        self._go_on(items)

    def _continue_followers(self, item: Item) -> None:
        """Considers the items of other maps that wait for this one."""
        for follower in self._item_followers.get(item.task_id, ()):
            items = self._maps.get(follower)
            if items is not None:
                self._consider(items, items.task.items[item.item])
                self._go_on(items)

    def _end_map(self, items: ItemMap) -> None:
        task = items.task
        if self._maps.pop(task.task_id, None) is None:
            return
        self._close(items, items.failure())
        has_failed = task.status is TypeStatus.FAILED
        if has_failed and not items.keep_going:
            self.loop.stop_new_tasks()
        self._end(task.task_id, Context() if has_failed else task.current_context)

    def _close(self, items: ItemMap, failure: Failure | None) -> None:
        task = items.task
        context = items.context(Context._of(None, task.task_id, task.workflow_id, clock.now(), task.step.identity))
        self._publish(MapEnded(task.task_id, context, failure, clock.now(), clock.monotonic()))

    # Cleanup

    def has_cleanup(self) -> bool:
        """Returns whether a cleanup has not run."""
        while self._cleanups and self._cleanups[0].status is not TypeStatus.NOT_STARTED:
            self._cleanups.popleft()
        return bool(self._cleanups)

    def begin_cleanup(self) -> bool:
        """Makes the next cleanup of a stopped run ready. Returns whether there is one."""
        self.fail_unfinished("RunStopped", "the run was stopped by a failure")
        while self.has_cleanup():
            task = self._cleanups[0]
            ready = self.enter(task.task_id, self._plan.lanes[task.task_id], Context())
            if ready is not None:
                self.loop.add_ready(ready)
            if task.status is not TypeStatus.SKIPPED:
                return True
        return False

    def fail_unfinished(self, exception: str, reason: str) -> None:
        """Fails the items and maps that a stopped run leaves unfinished."""
        failed = {task_id: items.failure() for task_id, items in self._maps.items()}  # before the run was stopped
        for _, item, _ in self._items.values():
            if item.status in UNFINISHED:
                failure = Failure(exception, str(RunStopped(item.name, reason)))
                now, tick = clock.now(), clock.monotonic()
                self._publish(TaskFailed(item.task_id, item.attempt, failure, now, tick, item.item))
        for task_id, items in self._maps.items():
            count = len(items.task.items)
            progress = f"{reason}, after {count - items.left} of {count} items"
            self._close(items, failed[task_id] or Failure(exception, str(RunStopped(items.task.name, progress))))
        self._items.clear()
        self._maps.clear()
