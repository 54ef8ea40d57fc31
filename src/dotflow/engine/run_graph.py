"""RunGraph: decides which tasks and items of a run begin, and what follows from their ends. Only the runner acts."""

import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dotflow import clock
from dotflow.core.action import APPROVAL
from dotflow.core.call import KEY_BASE
from dotflow.core.context import Context
from dotflow.core.events import (
    MapEnded,
    MapOpened,
    TaskEvent,
    TaskFailed,
    TaskPaused,
    TaskRestored,
    TaskSkipped,
)
from dotflow.core.failure import Failure, TaskError
from dotflow.core.task import Task
from dotflow.core.types.run_state import TypeRunState
from dotflow.core.types.status import TypeStatus
from dotflow.engine.lifecycle import Fallback, new
from dotflow.engine.ready import NextItem, Ready
from dotflow.engine.stop import FAILED, Stop
from dotflow.errors import LeaseLost, Rejected, RunStopped
from dotflow.graph.decisions import UNFINISHED, Arguments, Skip, arguments, decide, unmet_need, value_of
from dotflow.graph.linked_task import Item, LinkedTask
from dotflow.graph.linking import ERROR
from dotflow.graph.maps import ItemMap, lists_of, make_items, map_context, map_failure, missing_values
from dotflow.graph.params import Params
from dotflow.graph.plan import Plan
from dotflow.graph.run_secrets import NO_RUN_SECRETS, RunSecrets, TaskSecrets
from dotflow.graph.wiring import PREVIOUS
from dotflow.resume.cache import Cache, is_cached
from dotflow.resume.checkpoint import Checkpoints

if TYPE_CHECKING:  # few workflows ask
    from dotflow.core.approval import Approval, Question
    from dotflow.engine.approvals import Approvals

NOT_ENDED: Final = (TypeStatus.NOT_STARTED, *UNFINISHED)


#: The reason of a task that waits for an approval, before its question.
WAITS: Final = "waits for an approval"


class Leave(NamedTuple):
    """The lane has no more calls."""

    lane: int


class StopNew(NamedTuple):
    """No further task becomes ready. With *at_once*, those that are ready don't begin either."""

    at_once: bool = False


class Ended(NamedTuple):
    """A task or an item ends without an attempt.

    Attributes:
        event: Its last event, which is published first.
        task: The task or the item.
        context: The previous context of those that follow it; None for a failure, which may stop the run.
    """

    event: TaskEvent
    task: Task
    context: Context | None


#: What the runner does next. An event is published, and nothing follows from it.
Decision = Ready | NextItem | Leave | StopNew | Ended | TaskEvent


class RunGraph:
    """The tasks of one run. Records and storage are up to date whenever it decides.

    Args:
        tasks: The run's records, in order.
        plan: The dependencies and lanes.
        params: The run parameters.
        checkpoints: The checkpoints of the run.
        restored: The contexts of restored tasks, which don't run, by task id.
        keep_going: Whether other tasks continue after a failure.
        cache: The cached values; None for none.
        secrets: The secrets of the run.
        approvals: Asks for the approvals of tasks; None where none asks.
        flush: Called before values are compared or read, which may take long.
        log_line: Writes a line into the log.

    Attributes:
        is_stopping: Whether no further task becomes ready.
        asked: The tasks that wait for an approval, by id, with their questions.
        outputs: The outputs of the tasks that have some, by task id.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        plan: Plan,
        params: Params,
        checkpoints: Checkpoints,
        restored: Mapping[int, Context],
        *,
        keep_going: bool,
        cache: Cache | None = None,
        secrets: RunSecrets = NO_RUN_SECRETS,
        approvals: "Approvals | None" = None,
        flush: Callable[[], object] = int,
        log_line: Callable[..., object] = lambda *line: None,
    ) -> None:
        self._tasks = tasks
        self._log_line = log_line
        self._short: set[int] = set()  # the maps that have ended with fewer values than items
        self._flush = flush
        self._plan = plan
        self._params = params
        self.checkpoints = checkpoints
        self._restored = restored
        self._keep_going = keep_going
        self._cache = cache
        self._secrets = secrets
        self._approvals = approvals
        self.asked: dict[int, tuple[Ready, Question]] = {}  # the tasks that wait for an approval, by id
        self._lanes = plan.lanes
        self._previous = plan.previous
        self._followers = plan.followers(tasks)
        self._unmet = [1] * len(tasks)  # by task, the needs that are not met; without needs: the start of the run
        for task_id, needs in plan.linked.items():
            self._unmet[task_id] = len(needs)
        self._last = {*plan.last_of_lanes().values()}
        self._contexts: dict[int, Context] = {}  # of ended tasks, until the next one of the lane takes it
        self._fallback_values: dict[int, Arguments | Skip] = {}  # by task; its items share them
        linked = [task for task in tasks if isinstance(task, LinkedTask)]
        self.outputs = {task.task_id: task.links.outputs for task in linked if task.links.outputs}
        self._undecided = {
            *restored,
            *checkpoints.not_needed,
            *[task.task_id for task in linked],
        }  # when they are ready; others just begin
        self._cleanups = deque([task for task in linked if task.links.always])  # left to run
        self._item_followers = plan.item_followers(tasks)
        self._maps: dict[int, ItemMap] = {}  # that have opened, until they end
        self._paused: list[ItemMap] = []  # the maps that a pause has held: an interrupt or cancel() fails them
        self._numbers = itertools.count(len(tasks))
        self._stop = FAILED  # why maps of cleanups end before all of their items
        self._has_stopped = False  # only cleanups begin, and other items never end
        self.is_stopping = False

    def start(self) -> list[Decision]:
        """Returns the tasks without needs."""
        decisions: list[Decision] = []
        previous, linked = self._previous, self._plan.linked
        first = [task_id for task_id, before in enumerate(previous) if before is None and task_id not in linked]
        self._release(first, None, decisions)
        return decisions

    def stop(self) -> bool:
        """Makes no further task ready, and no further item of a map, but a cleanup's. Returns False if it did before.

        An item that is within the limit of its map is ready.
        """
        if self.is_stopping:
            return False
        self.is_stopping = True
        for items in self._maps.values():
            if not items.task.links.always:
                items.stop()
        return True

    def hold(self) -> None:
        """Makes nothing ready any more, not even an item within the limit of its map, but for cleanups."""
        self.stop()
        for items in self._maps.values():
            if not items.task.links.always:
                items.pending.clear()

    @property
    def has_left(self) -> bool:
        """Whether there are tasks that a resume would begin, or go on with."""
        return any(task.status in (TypeStatus.NOT_STARTED, TypeStatus.PAUSED) for task in self._tasks)

    def is_cleanup(self, task: Task) -> bool:
        """Returns whether it is a cleanup, or an item of one."""
        return self._tasks[task.task_id].is_cleanup

    def enter(self, ready: Ready | NextItem) -> Ready | NextItem | list[Decision]:
        """Returns what begins as soon as there is room: *ready*, with its inputs. Or returns decisions instead."""
        if isinstance(ready, NextItem):
            return self._enter_item(ready)
        task, previous = ready.task, ready.previous
        task_id = task.task_id
        context = self._restored.get(task_id)
        if context is not None:
            event = new(TaskRestored, (task_id, context, previous, None, "checkpoint"))
            return [new(Ended, (event, task, context))]
        if task_id in self.checkpoints.not_needed:
            return [Ended(TaskSkipped(task_id, self.checkpoints.not_needed[task_id]), task, previous)]
        assert isinstance(task, LinkedTask)
        links = task.links
        if links.conditions or links.each:
            self._flush()
        restored_items = self.checkpoints.whole_maps.get(task_id)
        unmet = unmet_need(links.needs, self._tasks, self.checkpoints.not_needed)
        if restored_items or (restored_items == 0 and unmet is None):
            # No item runs, so a value that they would take may be missing. What is restored needs no order.
            return self._open(task, {}, previous)
        try:
            decision = unmet or decide(links, self._tasks, self._params, self._secrets.masks)
        except Exception as error:  # raised by the __bool__ or __eq__ of a value
            error.add_note(
                "The value of a condition can't be compared. Return True or False from a step, and use that."
            )
            return [_failed(task, error)]
        if isinstance(decision, Skip):
            return [Ended(TaskSkipped(task_id, decision.reason), task, previous)]
        if self._short and (note := missing_values(task, self._tasks, self._params, self._short)):
            self._log_line(note, None)
        own = decision or None
        if not links.each and (restored := self._cached(task, previous, own, None)):
            return [restored]
        if task.step.approve is not None:
            answer = self._ask(ready, decision)
            if isinstance(answer, list):
                return answer
            if task.step.takes_approval:
                decision = own = {**decision, APPROVAL: answer}
        if links.each:
            return self._open(task, decision, previous)
        return ready._replace(inputs=self._inputs(task, own, None))

    def _ask(self, ready: Ready, own: Arguments) -> "Approval | list[Decision]":
        """Returns the approval of a task. Or returns what follows from a no, or from no answer yet."""
        task, approvals = ready.task, self._approvals
        assert approvals is not None, "checked before the run began"
        assert isinstance(task, LinkedTask)
        self._flush()
        try:
            answer = approvals.ask(task, {**self._lists_shown(task), **own})
        except Exception as error:  # of the history
            return [_failed(task, error)]
        if answer.approval is not None:
            return answer.approval
        if answer.open is None:
            return [_failed(task, Rejected(task.name, answer.refusal))]
        self.asked[task.task_id] = ready, answer.open
        reason = f"{WAITS}: {answer.open.text}"
        return [TaskPaused(task.task_id, reason, clock.now(), clock.monotonic(), question=answer.open)]

    def _lists_shown(self, task: LinkedTask) -> dict[str, Any]:
        """Returns the lists of a mapped task by parameter, for its question, which is asked before its items."""
        lists: dict[str, Any] = {}
        for parameter, source, part in task.links.each:
            if isinstance(source, int):
                lists[parameter] = value_of(self._tasks[source], part)
            else:
                lists[parameter] = self._params[source] if isinstance(source, str) else source
        return lists

    def answered(self) -> list[Ready]:
        """Returns the tasks that have waited for an approval and have their answer now.

        Raises HistoryError.
        """
        if self._approvals is None or self.is_stopping:
            return []
        answered = [ready for ready, question in self.asked.values() if self._approvals.is_answered(question)]
        for ready in answered:
            del self.asked[ready.task.task_id]
        return [ready._replace(continues=False) for ready in answered]

    @property
    def only_waits(self) -> bool:
        """Whether no task has failed."""
        return all(task.status is not TypeStatus.FAILED for task in self._tasks)

    def _cached(self, task: Task, previous: Context, own: Arguments | None, shared: Arguments | None) -> Ended | None:
        """Returns the end of a task or an item whose value is in the cache, so it needs no worker; else None."""
        if self._cache is None or not is_cached(self._tasks[task.task_id]):
            return None
        self._flush()
        context = self._cache.restore(task, previous, own, shared)
        if context is None:
            return None
        return Ended(TaskRestored(task.task_id, context, previous, task.item, "cache"), task, context)

    def _inputs(
        self,
        task: LinkedTask,
        own: Arguments | None,
        shared: Arguments | None,
        item: Item | None = None,
        of_item: Arguments | None = None,
    ) -> tuple[Any, ...]:
        """Returns the inputs of a task or of an item of it: those of Ready."""
        fallback = None if task.links.fallback is None else functools.partial(self._fallback, task, item, of_item)
        secrets = self._secrets.of_task(task.task_id)
        if task.links.takes_key:
            base = self.checkpoints.key_base(task if item is None else item)
            secrets = TaskSecrets({**(secrets or {}), KEY_BASE: base})
        return own, shared, fallback, secrets

    def _fallback(
        self, task: LinkedTask, item: Item | None, own: Arguments | None, failure: Failure
    ) -> Fallback | None:
        """Returns the task's fallback; None if a value that it requires is missing.

        Args:
            task: The task.
            item: The item whose attempt has failed; None for that of the task.
            own: The arguments of the item.
            failure: The failure of the last attempt.
        """
        links = task.links
        assert links.fallback is not None
        values = self._fallback_values.get(task.task_id)
        if values is None:
            values = arguments(links.fallback_binds, self._tasks, self._params)
            self._fallback_values[task.task_id] = values
        if isinstance(values, Skip):
            return None
        attempt = task.attempt if item is None else item.attempt
        error = {ERROR: TaskError(attempt, failure.masked(self._secrets.masks))} if links.takes_error else {}
        if own is None:
            return Fallback(links.fallback, {**values, **error} or None)
        names = links.fallback.named_params
        own = {name: own[name] for name in own if name in names}
        return Fallback(links.fallback, {**own, **error}, values or None)

    def end(self, task: Task, context: Context | None) -> list[Decision]:
        """Returns what follows from the end of a task or an item. *context* is None if it failed."""
        if task.__class__ is Item:
            return self._end_item(task, context)
        task_id = task.task_id
        lane = self._lanes[task_id]
        decisions: list[Decision] = [Leave(lane)] if task_id in self._last else []
        if context is None:
            context = Context()
            if not self._goes_on(task):
                return [StopNew(), *decisions]
        self._contexts[task_id] = context
        if not self.is_stopping:
            self._release(self._followers[task_id], lane, decisions)
        return decisions

    def _goes_on(self, task: Task) -> bool:
        """Returns whether other tasks continue after a failure of the task."""
        links = task.links
        return self._keep_going if links is None or links.keep_going is None else links.keep_going

    def _release(self, followers: Iterable[int], lane: int | None, decisions: list[Decision]) -> None:
        """Counts one need of each task as met, that of a task in *lane*. Adds those without another need."""
        for task_id in followers:
            if self._unmet[task_id] > 1:
                self._unmet[task_id] -= 1
                continue
            source, task, own = self._previous[task_id], self._tasks[task_id], self._lanes[task_id]
            inputs = None if task_id in self._undecided else ()
            if source is None:
                previous = Context()
            elif inputs is None and task.is_cleanup:  # may be dropped by a stop, and become ready once more
                previous = self._contexts[source]
            else:
                previous = self._contexts.pop(source)
            decisions.append(new(Ready, (task_id, own, task, previous, task.step, own == lane, inputs, None, 1, 0)))

    # Maps

    def _open(self, task: LinkedTask, shared: Arguments, previous: Context) -> list[Decision]:
        """Makes the items of a mapped task, whose lists are known."""
        try:
            task._open(make_items(task, lists_of(task, self._tasks, self._params)))
            restored = self.checkpoints.restore_items(task)
        except Exception as error:  # of the lists, which may be the user's own types, or of the storage
            failed = _failed(task, error)
            # Even with keep_going: another process runs the workflow.
            return [StopNew(at_once=True), failed] if isinstance(error, LeaseLost) else [failed]
        limit = task.links.max_parallel if self._plan.is_parallel else 1
        keep_going = self._goes_on(task) or (task.links.always and task.links.keep_going is None)
        items = self._maps[task.task_id] = ItemMap(task, shared, previous, limit, keep_going)
        decisions: list[Decision] = [MapOpened(task.task_id, len(task.items), clock.now(), clock.monotonic())]
        for item in task.items:
            context = restored.get(item.item)
            if context is not None:
                event = new(TaskRestored, (task.task_id, context, Context(), item.item, "checkpoint"))
                decisions.append(new(Ended, (event, item, context)))
            else:
                decisions += self._consider(items, item)
        if not self.is_stopping:
            now = self._item_followers.get(task.task_id, ())
            self._followers[task.task_id] = [other for other in self._followers[task.task_id] if other not in now]
            self._release(now, None, decisions)
        elif not task.links.always:  # it was ready before
            items.stop()
        return decisions + self._continue(items)

    def _consider(self, items: ItemMap, item: Item, lane: int | None = None) -> list[Decision]:
        """Makes an item pending, unless it waits for an item of another map, or is skipped.

        Args:
            items: Its map.
            item: The item.
            lane: The lane of the item that has ended last of those whose values it takes.
        """
        sources = item.sources()
        if not self._has_stopped and any(source.status in NOT_ENDED for source in sources):
            return []
        own = items.arguments_of(item) if sources else None
        if isinstance(own, Skip):
            return [Ended(TaskSkipped(item.task_id, own.reason, item.item), item, Context())]
        items.add(item, lane)
        return []

    def _continue(self, items: ItemMap) -> list[Decision]:
        """Returns the end of a map that is over, or its next item if that may begin."""
        task = items.task
        if items.is_over:
            if self._maps.pop(task.task_id, None) is None:  # it has ended before
                return []
            failure = map_failure(task)
            ended = self._map_ended(task, failure)
            if failure is None:
                return [Ended(ended, task, ended.context)]
            stop = [] if items.keep_going else [StopNew()]
            return [*stop, Ended(ended, task, Context())]
        following = self._next(items)
        return [] if following is None else [following]

    def _next(self, items: ItemMap) -> NextItem | None:
        """Returns the next item of a map; None if none may begin now."""
        count, task = items.may_begin, items.task
        if not count:
            return None
        items.is_waiting = True
        continues = items.continued_lane is not None
        inputs = () if task.step.cache is None else None
        return new(NextItem, (items, self._lanes[task.task_id], task.step, count, continues, inputs, None))

    def _map_ended(self, task: LinkedTask, failure: Failure | None) -> MapEnded:
        context = map_context(task, Context._of(None, task.task_id, task.workflow_id, clock.now(), task.step.identity))
        if len(context.values) < len(task.items):
            self._short.add(task.task_id)
        return MapEnded(task.task_id, context, failure, clock.now(), clock.monotonic())

    def _enter_item(self, ready: NextItem) -> NextItem | list[Decision]:
        """Restores the next item of a map from the cache, or returns it, to begin when there is room."""
        items, item = ready.items, ready.items.next
        previous, own = _arguments_of(items, item)
        restored = self._cached(item, previous, own, items.shared or None)
        if restored is None:
            return ready
        lane = items.continued_lane
        items.begin(None)
        return [restored] if lane is None else [Leave(lane), restored]

    def begin_item(self, items: ItemMap) -> tuple[Ready, NextItem | None]:
        """Returns the next item of a map, which begins now, and the one after it if that may begin."""
        number, item, lane = next(self._numbers), items.next, items.continued_lane
        if lane is None:
            lane = number if self._plan.is_parallel else self._lanes[item.task_id]
        items.begin(lane)
        previous, own = _arguments_of(items, item)
        inputs = self._inputs(items.task, own, items.shared or None, item, own)
        ready = new(Ready, (number, lane, item, previous, item.step, False, inputs, None, 1, 0))
        return ready, self._next(items)

    def _end_item(self, item: Item, context: Context | None) -> list[Decision]:
        """Continues its map, and those that wait for the item."""
        items = self._maps.get(item.task_id)
        if items is None:  # the map has ended without it
            return []
        decisions: list[Decision] = []
        if context is None and not items.keep_going:  # first: nothing takes its place
            items.stop()
            decisions.append(StopNew())
        lane = items.end(item, has_failed=context is None)
        for follower in self._item_followers.get(item.task_id, ()):
            following = self._maps.get(follower)
            if following is not None:
                is_isolated = item.step.isolate or following.task.step.isolate
                decisions += self._consider(following, following.task.items[item.item], None if is_isolated else lane)
                if item.item in following.continued:
                    lane = None
                decisions += self._continue(following)
        if lane is not None and self._plan.is_parallel:
            decisions.append(Leave(lane))
        return decisions + self._continue(items)

    # The end of a run that was stopped

    def paused(self, stop: Stop) -> Iterator[TaskEvent]:
        """Yields the events of the tasks and items that a pause has held, but of cleanups. No attempt is in flight."""
        self._stop = stop
        yield from self._end_maps([items for items in self._maps.values() if not items.task.links.always], stop)
        yield from _stopped((task for task in self._tasks if not task.is_cleanup), stop)

    def clean_up(self) -> Iterator[Decision]:
        """Yields the next cleanup that begins, or what else is left to do, once nothing is ready or runs."""
        dropped = [items for items in self._maps.values() if items.task.links.always and items.is_waiting]
        for items in dropped:  # by the stop
            items.is_waiting = False
            yield from self._continue(items)
        if not dropped:
            yield from self._unfinished_maps(self._stop)
            if (cleanup := self.next_cleanup()) is not None:
                task_id = cleanup.task_id
                source = self._previous[task_id]
                previous = Context() if source is None else self._contexts.get(source, Context())
                yield Ready(task_id, self._lanes[task_id], cleanup, previous, cleanup.step)

    def next_cleanup(self) -> Task | None:
        """Returns the first cleanup that has not run; None if there is none."""
        while self._cleanups and self._cleanups[0].status is not TypeStatus.NOT_STARTED:
            self._cleanups.popleft()
        return self._cleanups[0] if self._cleanups else None

    def unfinished(self, stop: Stop) -> Iterator[TaskEvent]:
        """Yields the failures of what a stopped run leaves unfinished."""
        paused, self._paused = self._paused, []
        yield from self._end_maps(paused, stop)
        yield from self._unfinished_maps(stop)
        yield from _stopped(self._tasks, stop)

    def _unfinished_maps(self, stop: Stop) -> Iterator[TaskEvent]:
        self._has_stopped = True
        return self._end_maps([*self._maps.values()], stop)

    def _end_maps(self, maps: Sequence[ItemMap], stop: Stop) -> Iterator[TaskEvent]:
        failed = {items.task.task_id: map_failure(items.task) for items in maps if items.has_stopped}
        for items in maps:
            yield from _stopped((items.task.items[index] for index in items.in_flight), stop)
        for items in maps:
            task, count = items.task, len(items.task.items)
            self._maps.pop(task.task_id, None)
            failure = failed.get(task.task_id)
            if failure is None and stop.state is TypeRunState.PAUSED:
                self._paused.append(items)
                yield _paused(task, stop)
                continue
            progress = f"{stop.reason}, after {count - items.left} of {count} items"
            stopped = Failure(stop.exception, str(RunStopped(task.name, progress)))
            yield self._map_ended(task, failure or stopped)


def _stopped(tasks: Iterable[Task], stop: Stop) -> Iterator[TaskFailed | TaskPaused]:
    for task in tasks:
        is_paused = task.status is TypeStatus.PAUSED
        if task.status not in UNFINISHED and not is_paused:
            continue
        if stop.state is TypeRunState.PAUSED:
            if not is_paused:
                yield _paused(task, stop)
            continue
        failure = Failure(stop.exception, str(RunStopped(task.name, stop.reason)))
        yield TaskFailed(task.task_id, task.attempt, failure, clock.now(), clock.monotonic(), task.item)


def _paused(task: Task, stop: Stop) -> TaskPaused:
    return TaskPaused(task.task_id, stop.reason, clock.now(), clock.monotonic(), task.item)


def _failed(task: Task, error: Exception) -> Ended:
    """Returns the failure of a task that has made no attempt."""
    event = TaskFailed(task.task_id, 1, Failure.of(error), clock.now(), clock.monotonic())
    return Ended(event, task, None)


def _arguments_of(items: ItemMap, item: Item) -> tuple[Context, Arguments]:
    """Returns the previous context and the other arguments of an item that may begin."""
    own = items.arguments_of(item)
    assert not isinstance(own, Skip), "it was considered before"
    return Context(own.pop(PREVIOUS)) if PREVIOUS in own else items.previous, own
