"""Graph: decides on the tasks with links of one run: needs, conditions, maps, fallbacks and cleanup."""

import functools
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dotflow import clock
from dotflow.core.context import Context
from dotflow.core.events import NOT_NEEDED, TaskFailed, TaskRestored, TaskSkipped
from dotflow.core.failure import Failure
from dotflow.core.task import Task
from dotflow.core.types.status import TypeStatus
from dotflow.engine.lifecycle import Fallback, TaskFlow, new, task_flow
from dotflow.engine.open_maps import Loop, OpenMaps
from dotflow.engine.ready import Ready
from dotflow.graph.linked_task import LinkedTask
from dotflow.graph.params import Params
from dotflow.graph.plan import Plan
from dotflow.graph.run_secrets import NO_RUN_SECRETS, RunSecrets
from dotflow.graph.verdict import Arguments, Skip, arguments, decide, unmet_need
from dotflow.resume.cache import Cache, is_cached
from dotflow.resume.checkpoint import Checkpoints


class Graph:
    """The tasks with links of one run.

    Args:
        tasks: The run's records, in order.
        plan: The dependencies and lanes.
        params: The run parameters.
        publish: Publishes an event.
        checkpoints: The checkpoints of the run.
        keep_going: Whether other tasks continue after a failure.
        cache: The cached values; None for none.
        secrets: The secrets of the run.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        plan: Plan,
        params: Params,
        publish: Callable[[Any], None],
        checkpoints: Checkpoints,
        *,
        keep_going: bool,
        cache: Cache | None = None,
        secrets: RunSecrets = NO_RUN_SECRETS,
    ) -> None:
        self._tasks = tasks
        self._plan = plan
        self._params = params
        self._publish = publish
        self._fallback_values: dict[int, Arguments | Skip] = {}  # by task; its items share them
        self._keep_going = keep_going
        self._checkpoints = checkpoints
        self._cache = cache
        self._secrets = secrets
        self._followers = plan.followers()
        self._unmet = [len(needs) for needs in plan.needs]
        self._last = plan.last_of_lanes()
        self._contexts: dict[int, Context] = {}  # of ended tasks, as previous_context of others
        self.maps = OpenMaps(self, tasks, plan, publish, checkpoints.restore_items)
        self._cleanups = deque(task for task in tasks if task.links is not None and task.links.always)  # left to run
        self.loop: Loop

    def enter(self, task_id: int, lane: int, previous: Context) -> Ready | None:
        """Returns a task whose needs have ended, to be begun. Skips it or opens its map instead, and returns None."""
        task: Any = self._tasks[task_id]
        if task_id in self._checkpoints.not_needed:
            self._publish(TaskSkipped(task_id, NOT_NEEDED))
            self.end_task(task_id, previous)
            return None
        restored_items = self._checkpoints.whole_maps.get(task_id)
        unmet = unmet_need(task.links.needs, self._tasks, self._checkpoints.not_needed)
        if restored_items or (restored_items == 0 and unmet is None):
            # No item runs, so a value that they would take may be missing. What is restored needs no order.
            self.maps.open(task, {}, previous)
            return None
        try:
            decision = unmet or decide(task.links, self._tasks, self._params, self._secrets.masks)
        except Exception as error:  # raised by the __bool__ or __eq__ of a value
            error.add_note(
                "The value of a condition can't be compared. Return True or False from a step, and use that."
            )
            self.fail(task, Failure.of(error))
            return None
        if isinstance(decision, Skip):
            self._publish(TaskSkipped(task_id, decision.reason))
            self.end_task(task_id, previous)
        elif task.links.each:
            self.maps.open(task, decision, previous)
        else:
            context = self.restore_cached(task, previous, decision or None, None)
            if context is not None:
                self.end(task_id, context)
                return None
            fallback = None if task.links.fallback is None else functools.partial(self.fallback, task)
            flow = self.flow(task, lane, previous, task_id, decision or None, None, fallback)
            return new(Ready, (task_id, lane, previous, flow, task.step, None, 1))
        return None

    def flow(self, task: Task, *more: Any) -> TaskFlow:
        """Returns the flow of a task or an item. *more* are the other arguments of `task_flow`."""
        return task_flow(task, *(*more, self._secrets.of_task(task.task_id)))

    def restore_cached(
        self, task: Task, previous: Context, own: Arguments | None, shared: Arguments | None
    ) -> Context | None:
        """Restores a task or an item from the cache, which needs no worker. Returns None if it has to run."""
        if self._cache is None or not is_cached(self._tasks[task.task_id]):
            return None
        context = self._cache.restore(task, previous, own, shared)
        if context is not None:
            self._publish(TaskRestored(task.task_id, context, previous, task.item, "cache"))
        return context

    def fallback(self, task: LinkedTask, own: Mapping[str, Any] | None = None) -> Fallback | None:
        """Returns the task's fallback; None if a value that it requires is missing. *own* are an item's arguments."""
        links = task.links
        assert links.fallback is not None
        values = self._fallback_values.get(task.task_id)
        if values is None:
            values = arguments(links.fallback_binds, self._tasks, self._params)
            self._fallback_values[task.task_id] = values
        if isinstance(values, Skip):
            return None
        if own is None:
            return Fallback(links.fallback, values or None)
        names = links.fallback.named_params
        return Fallback(links.fallback, {name: own[name] for name in own if name in names}, values or None)

    def fail(self, task: Task, failure: Failure) -> None:
        """Fails a task that has made no attempt."""
        self._publish(TaskFailed(task.task_id, 1, failure, clock.now(), clock.monotonic()))
        self.end(task.task_id, None)

    def end(self, number: int, context: Context | None) -> None:
        """Makes the tasks ready that waited for an ended task or item. *context* is None if it failed."""
        if number >= len(self._tasks):
            self.maps.end_item(number, context)
            return
        if context is None and not self.goes_on(self._tasks[number]):
            self.loop.stop_new_tasks()
        self.end_task(number, Context() if context is None else context)

    def goes_on(self, task: Task) -> bool:
        """Returns whether other tasks continue after a failure of the task."""
        links = task.links
        return self._keep_going if links is None or links.keep_going is None else links.keep_going

    def end_task(self, task_id: int, context: Context) -> None:
        """Releases the followers of a task. *context* is their previous context."""
        lane = self._plan.lanes[task_id]
        if self._last[lane] == task_id:
            self.loop.session.leave(lane)
        self._contexts[task_id] = context
        released = self.maps.followers_of(task_id)
        for follower in self._followers[task_id]:
            if follower not in released:
                self.release(follower, lane)

    def release(self, follower: int, lane: int) -> None:
        """Counts one need of a task as met, that of a task in *lane*. The last one makes it ready."""
        self._unmet[follower] -= 1
        if not self._unmet[follower]:
            source = self._plan.previous[follower]
            previous = Context() if source is None else self._contexts[source]
            self.loop.make_ready(follower, previous, continues=self._plan.lanes[follower] == lane)

    # Cleanup

    def has_cleanup(self) -> bool:
        """Returns whether a cleanup has not run."""
        while self._cleanups and self._cleanups[0].status is not TypeStatus.NOT_STARTED:
            self._cleanups.popleft()
        return bool(self._cleanups)

    def begin_cleanup(self) -> bool:
        """Makes the next cleanup of a stopped run ready. Returns whether there is one."""
        if self.maps.continue_cleanups():
            return True
        self.maps.fail_unfinished("RunStopped", "the run was stopped by a failure")
        while self.has_cleanup():
            task = self._cleanups[0]
            ready = self.enter(task.task_id, self._plan.lanes[task.task_id], Context())
            if ready is not None:
                self.loop.add_ready(ready)
            if task.status is not TypeStatus.SKIPPED:
                return True
        return False
