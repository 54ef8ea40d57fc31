"""RunGraph: decides which tasks and items of a run begin, and what follows from their ends. Only the runner acts."""

import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dotflow import clock
from dotflow.core.action import APPROVAL
from dotflow.core.call import KEY_BASE
from dotflow.core.context import NOTHING, Context
from dotflow.core.events import (
    NOT_NEEDED,
    MapEnded,
    MapOpened,
    TaskEvent,
    TaskFailed,
    TaskPaused,
    TaskRestored,
    TaskSkipped,
)
from dotflow.core.failure import Failure, TaskError
from dotflow.core.links import Nest
from dotflow.core.task import Task
from dotflow.core.types.decision import TypeDecision
from dotflow.core.types.run_state import TypeRunState
from dotflow.core.types.status import TypeStatus
from dotflow.engine.lifecycle import Fallback, new
from dotflow.engine.ready import NextItem, Ready
from dotflow.engine.stop import FAILED, PAUSED, Stop
from dotflow.errors import LeaseLost, Rejected, RunStopped
from dotflow.graph.gather import (
    UNFINISHED,
    Arguments,
    ByItem,
    Got,
    Skip,
    arguments,
    gather,
    is_over,
    unmet_need,
    value_of,
)
from dotflow.graph.linked_task import InnerMap, Item, ItemOrMap, LinkedTask, Scope, map_of
from dotflow.graph.linking import ERROR
from dotflow.graph.maps import (
    Held,
    ItemMap,
    LoopRun,
    NestRun,
    items_of,
    map_context,
    map_failure,
    missing_values,
    not_reached,
    open_map,
    record_skipped,
    round_end,
    scope_of,
    why_failed,
)
from dotflow.graph.params import Params
from dotflow.graph.plan import Plan
from dotflow.graph.run_secrets import NO_RUN_SECRETS, RunSecrets, TaskSecrets
from dotflow.graph.wiring import PREVIOUS
from dotflow.resume.cache import Cache, is_cached
from dotflow.resume.checkpoint import Checkpoints
from dotflow.resume.judge import judge

if TYPE_CHECKING:  # few workflows ask
    from dotflow.core.approval import Question
    from dotflow.engine.approvals import Approvals

SKIPPED: Final = TypeStatus.SKIPPED
NOTHING_TAKEN: Final = Got({})
NEVER: Final = 1 << 60  # instead of the number of unmet needs, for a task that another one begins


#: The reason of a task that waits for an approval, before its question, or before the items that wait.
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
        asked: What waits for an approval, by the id of the task and the index of the item, with its question.
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
        self._root = Scope([*tasks])
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
        self.asked: dict[tuple[int, int | None], tuple[Ready | Held, Question]] = {}
        self._lanes = plan.lanes
        self._previous = plan.previous
        self._followers = plan.followers(tasks)
        self._unmet = [1] * len(tasks)  # by task, the needs that are not met; without needs: the start of the run
        for task_id, needs in plan.linked.items():
            self._unmet[task_id] = len(needs)
        self._last = {*plan.last_of_lanes().values()}
        self._contexts: dict[int, Context] = {}  # of ended tasks, until the next one of the lane takes it
        self._fallback_values: dict[int, Arguments | Skip] = {}  # by task; its items share them
        linked = [task for task in tasks if type(task) is LinkedTask]
        self.outputs = {task.task_id: task.links.outputs for task in linked if task.links.outputs}
        self._undecided = {
            *restored,
            *checkpoints.not_needed,
            *[task.task_id for task in linked],
        }  # when they are ready; others just begin
        self._cleanups = deque([task for task in linked if task.links.always and not task.links.nest])  # left to run
        self._item_followers = plan.item_followers(tasks, linked)
        self._with_maps = {task.task_id for task in linked if task.has_maps}
        self._nests: dict[int, NestRun] = {}  # by the ids of all of its tasks
        for nest in {task.links.nest.tasks: task.links.nest for task in linked if task.links.nest}.values():
            limit = nest.limit if plan.is_parallel else 1
            kind = LoopRun if nest.repeat else NestRun
            run = kind(nest, limit, is_last_of_lane=nest.tasks[-1] in self._last)
            run.considers_once = bool(nest.repeat) or not self._with_maps.isdisjoint(nest.tasks)
            self._nests.update(dict.fromkeys(nest.tasks, run))
            self._unmet[nest.tasks[0] + 1 : nest.tasks[-1] + 1] = [NEVER] * (len(nest.tasks) - 1)
        self._maps: dict[LinkedTask, ItemMap] = {}  # that have opened, until they end
        self._cleaning: dict[int, ItemMap] = {}  # those of a stopped run's cleanups for each item
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
        if context is None and task_id in self.checkpoints.undecided:
            self._flush()
            try:
                context = self.checkpoints.restore_task(task)
            except Exception as error:  # of the storage
                stop = [StopNew(at_once=True)] if isinstance(error, LeaseLost) else []
                return [*stop, _failed(task, error)]
        if context is not None:
            event = new(TaskRestored, (task_id, context, previous, None, "checkpoint"))
            return [new(Ended, (event, task, context))]
        if isinstance(task, LinkedTask) and (task.links.each or task.links.nest):
            return self._enter_maps(ready, task)
        decision = self._decide(task, previous)
        if isinstance(decision, Ended):
            return [decision]
        assert isinstance(task, LinkedTask)
        if restored := self._cached(task, previous, decision or None, None):
            return [restored]
        if task.step.approve is not None:
            answer = self._ask(ready, task, decision)
            if isinstance(answer, Ended | TaskPaused):
                return [answer]
            decision = {**decision, **answer}
        number, lane, _, _, step, continues, _, call, calls, before = ready  # a `_replace` takes ten times as long
        inputs = self._inputs(task, decision or None, None)
        return new(Ready, (number, lane, task, previous, step, continues, inputs, call, calls, before))

    def _decide(self, task: Task, previous: Context) -> Arguments | Ended:
        """Returns a task's arguments, of a mapped one those that its items share, or its end without an attempt."""
        task_id = task.task_id
        if task_id in self.checkpoints.not_needed:
            return _skipped(task, self.checkpoints.not_needed[task_id], previous)
        assert isinstance(task, LinkedTask), "others are restored, not needed, or not asked"
        links = task.links
        if links.conditions:
            self._flush()
        needs = links.needs if links.nest is None else links.whole().needs
        unmet = unmet_need(needs, self._tasks.__getitem__, self.checkpoints.not_needed)
        restored_items = self.checkpoints.whole_maps.get(task_id)
        if restored_items or (restored_items == 0 and unmet is None):
            # No item runs, so a value that they would take may be missing. What is restored needs no order.
            return {}
        try:
            got = gather(links, self._tasks, self._params, self._secrets.masks)
        except Exception as error:  # raised by the __bool__ or __eq__ of a value
            return _undecided(task, error)
        verdict = judge(task, got, unmet)
        if verdict.kind is TypeDecision.SKIP:
            return _skipped(task, verdict.reason, previous)
        if self._short and (note := missing_values(task, self._tasks, self._params, self._short)):
            self._log_line(note, None)
        return got.args

    def _ask(self, waits: Ready | Held, task: Task, shown: Arguments) -> Arguments | Ended | TaskPaused:
        """Returns what a task or an item takes of its approval, its end after a no, or its pause without an answer.

        Args:
            waits: What goes on after the answer.
            task: The task or the item.
            shown: The arguments that the question may show.
        """
        approvals = self._approvals
        assert approvals is not None, "checked before the run began"
        self._flush()
        try:
            answer = approvals.ask(task, shown)
        except Exception as error:  # of the history
            return _failed(task, error)
        if answer.approval is not None:
            return {APPROVAL: answer.approval} if task.step.takes_approval else {}
        if answer.open is None:
            return _failed(task, Rejected(task.name, answer.refusal, self._tasks[task.task_id].name))
        self.asked[task.task_id, task.item] = waits, answer.open
        reason = f"{WAITS}: {answer.open.text}"
        return TaskPaused(task.task_id, reason, clock.now(), clock.monotonic(), task.item, answer.open)

    def _lists_shown(self, task: LinkedTask) -> dict[str, Any]:
        """Returns the lists of a mapped task by parameter, for its question, which is asked before its items."""
        lists: dict[str, Any] = {}
        for parameter, source, part, _ in task.lists:
            if isinstance(source, int):
                lists[parameter] = value_of(self._tasks[source], part)
            else:
                lists[parameter] = self._params[source] if isinstance(source, str) else source
        return lists

    def answered(self) -> list[Decision]:
        """Returns what follows from the answers, by now, to the questions of tasks and items that wait."""
        if self._approvals is None or self.is_stopping or self._has_stopped or not self.asked:
            return []
        _, first = next(iter(self.asked.values()))
        settled = self._approvals.answered(first.id.origin)
        decisions: list[Decision] = []
        for key, (waits, question) in [*self.asked.items()]:
            if question.id not in settled:
                continue
            del self.asked[key]
            if isinstance(waits, Ready):
                decisions.append(waits._replace(continues=False))
                continue
            items = waits.items  # it becomes pending as soon as there is room for it
            if items.run is not None and items.task in self._maps and items.run.may_begin(*waits):
                decisions += [*self._begin_or_skip(*waits), *self._continue(items)]
        return decisions

    def waiting(self) -> Iterator[TaskEvent]:
        """Yields the pauses of the maps that are open since items wait for an approval. Only cleanups are left to do.

        An answer that comes from now on is for the run that continues this one.
        """
        self._has_stopped = True
        if not self.is_stopping:
            from dotflow.core.approval import names_of  # here: few workflows ask

            reason = f"{WAITS}: {names_of([question for _, question in self.asked.values()])}"
            yield from self.paused(PAUSED._replace(reason=reason), has_failed=False)

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
        secrets = self._secrets.by_task.get(task.task_id)
        if task.links.takes_key:
            base = self.checkpoints.key_base(item or task)
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
            values = self._fallback_values[task.task_id] = arguments(links, self._tasks, self._params, of_fallback=True)
        if isinstance(values, Skip):
            return None
        if item is not None and links.nest is not None:
            scope = item.scope
            if scope.node(task.task_id) is item:
                own = {}
            while scope.outer is not None:  # from inside to outside
                node = scope.node(task.task_id)
                inputs = self._maps[scope.outer.node(task.task_id)].inputs
                of_item = inputs.fallback_arguments(node)
                if isinstance(of_item, Skip):
                    return None
                own = {**(own or {}), **of_item}
                if scope.before is not None:
                    carried = inputs.fallback_carried
                    values = {name: value for name, value in values.items() if name not in carried}
                scope = scope.outer
        attempt = (item or task).attempt
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
        is_last = self._is_last(task_id) if self._nests else task_id in self._last
        decisions: list[Decision] = [new(Leave, (lane,))] if is_last else []
        if context is None:
            context = Context()
            if not self._goes_on(task):
                return [StopNew(), *decisions]
        self._contexts[task_id] = context
        if not self.is_stopping:
            self._release(self._followers[task_id], lane, decisions)
        if self._nests and not (isinstance(task, LinkedTask) and task.nodes):
            decisions += self._consider_all(task_id)
        return decisions

    def _is_last(self, task_id: int) -> bool:
        """Returns whether a lane has ended with the task: the last one of an added workflow may end before others."""
        run = self._nests.get(task_id)
        if run is None:
            return task_id in self._last
        run.left -= 1
        return run.is_last_of_lane and not run.left

    def _goes_on(self, task: Task) -> bool:
        """Returns whether other tasks continue after a failure of the task."""
        links = task.links
        return self._keep_going if links is None or links.keep_going is None else links.keep_going

    def _release(self, followers: Iterable[int], lane: int | None, decisions: list[Decision]) -> None:
        """Counts one need of each task as met, that of a task in *lane*. Adds those without another need."""
        unmet, nests, undecided = self._unmet, self._nests, self._undecided
        for task_id in followers:
            if unmet[task_id] > 1:
                unmet[task_id] -= 1
                continue
            source, task, own = self._previous[task_id], self._tasks[task_id], self._lanes[task_id]
            if nests and source in nests:  # its last task that was not skipped
                nest = nests[source].nest
                tasks = [self._tasks[one] for one in (nest.result, *reversed(nest.tasks)) if one != nest.until]
                source = next(
                    (one.task_id for one in tasks if one.status is not SKIPPED and not one.is_cleanup), source
                )
            inputs = None if task_id in undecided else ()
            if source is None:
                previous = NOTHING
            elif inputs is None and task.is_cleanup:  # may be dropped by a stop, and become ready once more
                previous = self._contexts[source]
            else:
                previous = self._contexts.pop(source)
            decisions.append(new(Ready, (task_id, own, task, previous, task.step, own == lane, inputs, None, 1, 0)))

    # Maps

    def _enter_maps(self, ready: Ready, first: LinkedTask) -> list[Decision]:
        """Opens a map, or the maps of an added workflow, of which *first* is the first one."""
        self._flush()
        previous = ready.previous
        run = self._nests.get(first.task_id)
        ended: list[Ended] = []
        opening: list[tuple[LinkedTask, Arguments]] = []
        for task in [first] if run is None else [self._tasks[task_id] for task_id in run.nest.tasks]:
            assert isinstance(task, LinkedTask)
            decision = self._decide(task, previous)
            if isinstance(decision, Ended):
                ended.append(decision)
                continue
            if task.step.approve is not None and run is None and self._has_open_items(task, previous, decision):
                answer = self._ask(ready, task, {**self._lists_shown(task), **decision})
                if isinstance(answer, Ended | TaskPaused):
                    return [answer]
                decision = {**decision, **answer}
            opening.append((task, decision))
        if run is not None and run.nest.repeat and opening:
            needed = {run.nest.result, run.nest.until}.difference(self.checkpoints.not_needed)
            lacking = [one for one in ended if one.task.task_id in needed]
            if lacking:  # no round could be judged
                why = f"it needs '{lacking[0].task.name}', which was skipped"
                ended += [_skipped(task, why) for task, _ in opening]
                opening = []
        return [*ended, *(self._open(opening, previous, run) if opening else [])]

    def _has_open_items(self, task: LinkedTask, previous: Context, shared: Arguments) -> bool:
        """Returns whether an item of a mapped task may run: they are neither restored, nor all in the cache."""
        is_empty = any(type(one) in (list, tuple) and not one for one in self._lists_shown(task).values())
        if is_empty or task.task_id in self.checkpoints.whole_maps:
            return False
        if self._cache is None or not is_cached(task):
            return True
        try:
            inputs = ByItem(task, self._tasks)
            for item in items_of(task, self._root, self._params):
                got = inputs.gather(item, self._secrets.masks)
                if got.lack is not None:
                    continue
                own = got.args
                given = Context(own.pop(PREVIOUS)) if PREVIOUS in own else previous
                if self._cache.find(item, self._cache.key(item, given, own, shared or None)) is None:
                    return True
        except Exception:  # of the lists, or of a condition: the map, or the item, fails without a step
            return False
        return False

    def _open(
        self, opening: Sequence[tuple[LinkedTask, Arguments]], previous: Context, run: NestRun | None
    ) -> list[Decision]:
        """Makes the items of mapped tasks, whose lists are known.

        Args:
            opening: A task, or those of an added workflow, and the arguments that their items share.
            previous: The previous context of each item.
            run: The workflow.
        """
        tasks = [task for task, _ in opening]
        try:
            for task in tasks:
                open_map(task, self._root, self._params)
                if run is not None and task.step.approve is not None and self._approvals is not None:
                    self._approvals.place(task, task.items)
            restored = self.checkpoints.restore_items(tasks)
        except Exception as error:  # of the lists, which may be the user's own types, or of the storage
            why = f"it needs '{tasks[0].name}', which failed"  # whose list can't be used
            failed: list[Decision] = [_failed(tasks[0], error), *(_skipped(task, why) for task in tasks[1:])]
            # Even with keep_going: another process runs the workflow.
            return [StopNew(at_once=True), *failed] if isinstance(error, LeaseLost) else failed
        if run is not None:
            run.open(tasks[0].scopes, len(tasks))
        decisions: list[Decision] = []
        opened = []
        for task, shared in opening:
            limit = task.links.max_parallel if self._plan.is_parallel else 1
            keep_going = self._goes_on(task) or (task.links.always and task.links.keep_going is None)
            inputs = ByItem(task, self._tasks, self._plan.goes_after(task, 0, self._tasks))
            items = ItemMap(task, inputs, shared, previous, limit, keep_going)
            self._maps[task] = items
            opened.append(items)
            decisions.append(MapOpened(task.task_id, len(task.items), clock.now(), clock.monotonic()))
            # Those of a map in a scope are asked for there.
            values = {} if task.has_maps else restored.values.get(task.task_id, {})
            not_needed = () if task.has_maps else restored.not_needed.get(task.task_id, ())
            items.run = run
            items.settled = values.keys() | not_needed if not_needed else values.keys()
            items.whole_scopes = restored.whole_scopes.get(task.task_id, ())
            for scope in () if task.is_repeated or not task.has_maps else task.scopes:
                task.begin_in(scope)
            for item in task.nodes:
                context = values.get(item.item)
                if context is not None:
                    event: TaskEvent = new(TaskRestored, (task.task_id, context, Context(), item.item, "checkpoint"))
                    decisions.append(new(Ended, (event, item, context)))
                elif item.item in not_needed:
                    decisions.append(_skipped(item, NOT_NEEDED))
                elif not inputs.follows and not isinstance(run, LoopRun):
                    decisions += self._consider(items, item)
        for items in opened:
            task_id = items.task.task_id
            followers = self._item_followers.get(task_id, ())
            first = tasks[0].task_id if run is None else run.nest.tasks[0]
            items.beside = [(one, one.task.task_id - first) for one in opened if one.inputs.waits_for(task_id)]
            items.in_step = [self._root.nodes[one] for one in followers if run is None or one not in run.nest.tasks]
            if not self.is_stopping:
                self._followers[task_id] = [other for other in self._followers[task_id] if other not in followers]
                self._release(followers, None, decisions)
            elif not items.task.links.always:  # it was ready before
                items.stop()
            decisions += self._continue(items)
        if run is not None and run.scopes:
            # It begins once all that is restored has been published.
            lane, step = self._lanes[tasks[0].task_id], tasks[0].step
            decisions.append(NextItem(opened[0], lane, step, 0))
        return decisions

    def _consider(self, items: ItemMap, item: ItemOrMap, lane: int | None = None) -> list[Decision]:
        """Makes an item pending, or opens a map in a scope, unless it waits for another node or is skipped.

        Args:
            items: Its map.
            item: The item, or the map.
            lane: The lane of the item that has ended last of those whose values it takes.
        """
        inputs, index = items.inputs, item.item
        if inputs.is_plain and not item.sources():
            items.add(index, lane)
            return []
        run, goes_on = items.run, not self._has_stopped
        if goes_on and run.__class__ is LoopRun and index != run.round:
            return []  # its round has not begun
        if index in items.settled or (goes_on and not inputs.is_ready(item)):
            return []  # what is restored waits for nothing
        if run is not None:
            if goes_on and run.considers_once:
                if index in items.considered:
                    return []  # a map that ends as soon as it opens has let others begin meanwhile
                items.considered.add(index)
            if items.task.links.always and not self._has_run(items.task, index):
                return [_skipped(item, NOT_NEEDED)]
            if goes_on and not run.may_begin(items, item, lane):
                return []
        return self._begin_or_skip(items, item, lane)

    def _begin_or_skip(self, items: ItemMap, item: ItemOrMap, lane: int | None) -> list[Decision]:
        """Makes an item pending that waits for nothing, or skips it; or opens a map in its scope."""
        if isinstance(item, InnerMap):
            return self._open_inner(items, item)
        try:
            got = items.inputs.gather(item, self._secrets.masks)
        except Exception as error:  # raised by the __bool__ or __eq__ of a value
            return [_undecided(item, error)]
        verdict = judge(item, got, items.inputs.unmet_need(item))
        if verdict.kind is TypeDecision.SKIP:
            return [_skipped(item, verdict.reason)]
        if items.run is not None:
            items.decided[item.item] = got.args
        items.add(item.item, lane)
        return []

    def _open_inner(self, items: ItemMap, node: InnerMap) -> list[Decision]:
        """Makes the items of a map in a scope that has begun, or ends it where it has none.

        Those of a workflow in the scope begin together, when the first of them is considered.

        Args:
            items: The map of its task.
            node: The map.
        """
        if items.is_closed or node in self._maps or is_over(node):
            return []
        nest = node.nest
        unit = [node] if nest is None else [node.scope.node(task_id) for task_id in nest.tasks]
        decisions: list[Decision] = []
        opening: list[tuple[ItemMap, InnerMap, Arguments]] = []
        for one in unit:
            of = self._maps.get(one.owner) if isinstance(one, InnerMap) and one.scope is node.scope else None
            if of is None:  # it was skipped with all of its items, here or in a scope around
                continue
            try:
                # If no item runs, a value that it would take may be missing.
                got = NOTHING_TAKEN if one.item in of.whole_scopes else of.inputs.gather(one, self._secrets.masks)
                verdict = judge(one, got, None if got is NOTHING_TAKEN else of.inputs.unmet_need(one))
            except Exception as error:  # of values, which may be the user's own types
                decisions += self._fail_inner(of, one, error)
                continue
            if verdict.kind is TypeDecision.SKIP:
                record_skipped(one, verdict.reason)
                decisions += self._end_inner(of, one)
            else:
                opening.append((of, one, got.args))
        return decisions + (self._open_together(opening, nest) if opening else [])

    def _open_together(
        self, opening: Sequence[tuple[ItemMap, InnerMap, Arguments]], nest: Nest | None
    ) -> list[Decision]:
        """Makes the items of maps in a scope: of one, or of those of a workflow there, whose lists are known.

        Args:
            opening: The map of each one's task, the one, and the arguments that only its items share.
            nest: The workflow.
        """
        try:
            for _, node, _ in opening:
                open_map(node, self._root, self._params)
                node.add_items()
            restored = self.checkpoints.restore_items([node for _, node, _ in opening])
        except Exception as error:  # of lists, which may be the user's own types, or of the storage
            decisions = self._fail_inner(*opening[0][:2], error)
            for of, node, _ in opening[1:]:
                record_skipped(node, f"it needs '{opening[0][1].name}', which failed")
                decisions += self._end_inner(of, node)
            return decisions
        run = None
        if nest is not None:
            run = NestRun(nest, nest.limit if self._plan.is_parallel else 1, is_last_of_lane=False)
            run.considers_once = True
            run.open(opening[0][1].scopes, len(opening))
        decisions = []
        opened: list[ItemMap] = []
        for of, node, own in opening:
            task_id, level = node.task_id, node.level
            limit = node.links.max_parallel if self._plan.is_parallel else 1
            inputs = ByItem(node, self._tasks, self._plan.goes_after(node, level, self._tasks))
            items = ItemMap(node, inputs, {**of.shared_by(node.scope), **own}, of.previous, limit, of.keep_going)
            self._maps[node] = items
            opened.append(items)
            count = len(self._tasks[task_id].items)
            event = MapOpened(task_id, count, clock.now(), clock.monotonic(), round=scope_of(node.scope, 1).index)
            node._apply(event)
            decisions.append(event)
            values = {} if node.has_maps else restored.values.get(task_id, {})
            items.run = run
            items.settled = values.keys()
            items.whole_scopes = restored.whole_scopes.get(task_id, ())
            for scope in node.scopes if node.has_maps else ():
                node.begin_in(scope)
            for item in node.nodes:
                context = values.get(item.item)
                if context is not None:
                    restoring = TaskRestored(task_id, context, Context(), item.item, "checkpoint")
                    decisions.append(Ended(restoring, item, context))
                elif run is None:
                    decisions += self._begin_or_skip(items, item, None)
                else:  # what it follows may have been skipped
                    decisions += self._consider(items, item)
        for items in opened:
            first = items.task.task_id if nest is None else nest.tasks[0]
            task_id = items.task.task_id
            items.beside = [(one, one.task.task_id - first) for one in opened if one.inputs.waits_for(task_id)]
        for items in opened:
            decisions += self._continue(items)
        if run is not None and run.scopes:
            # It begins once all that is restored has been published.
            decisions.append(NextItem(opened[0], self._lanes[opened[0].task.task_id], opened[0].task.step, 0))
        return decisions

    def _fail_inner(self, items: ItemMap, node: InnerMap, error: Exception) -> list[Decision]:
        """Ends a map in a scope that can't open."""
        node._apply(TaskFailed(node.task_id, 1, Failure.of(error), clock.now(), clock.monotonic()))
        is_lost = isinstance(error, LeaseLost)
        stop = [StopNew(at_once=is_lost)] if is_lost or not items.keep_going else []
        return [*stop, *self._end_inner(items, node)]

    def _end_inner(self, items: ItemMap, node: InnerMap) -> list[Decision]:
        """Ends a map in a scope, all of whose items have ended, and continues what waits for it there."""
        run = items.run
        assert run is not None
        self._maps.pop(node, None)
        if node.status not in (SKIPPED, TypeStatus.FAILED):
            node._apply(self._map_ended(node, map_failure(node)))
        decisions = self._follow(items, node, None)[0]
        if run.end(node):
            decisions += self._admit(run)
        elif self.asked:
            decisions += self._give_place(run, node.item)
        if not items.task.is_repeated:
            items.left -= 1
            decisions += self._continue(items)
        return decisions

    def _follow(self, items: ItemMap, node: ItemOrMap, lane: int | None) -> tuple[list[Decision], int | None]:
        """Considers what waits for a node that has ended. Returns its lane, too, unless one of these continues it."""
        decisions: list[Decision] = []
        nodes = node.scope.nodes
        following = [(beside, nodes[position]) for beside, position in items.beside]
        if items.in_step:
            following += self._in_step(items, node)
        for beside, other in following:
            if beside.task not in self._maps:
                continue
            if lane is None:
                decisions += self._consider(beside, other)
            else:
                is_isolated = node.step.isolate or beside.task.step.isolate
                decisions += self._consider(beside, other, None if is_isolated else lane)
                if node.item in beside.continued:
                    lane = None
            if beside.pending and not beside.is_waiting:
                decisions += self._continue(beside)
        return decisions, lane

    def _in_step(self, items: ItemMap, node: ItemOrMap) -> Iterator[tuple[ItemMap, ItemOrMap]]:
        """Yields the maps in step with this one, and workflows over it, each with its node of the same index."""
        for task in items.in_step:
            if task in self._maps:
                other = task.scopes[node.item].node(task.task_id) if task.scopes else task.items[node.item]
                yield self._maps[task], other

    def _has_run(self, cleanup: LinkedTask, index: int) -> bool:
        """Returns whether a task of an item of an added workflow has run that was added before a cleanup for it."""
        nest = cleanup.links.nest
        before = () if nest is None else (task_id for task_id in nest.tasks if task_id < cleanup.task_id)
        nodes = [node for node in map(cleanup.scopes[index].node, before) if isinstance(node, ItemOrMap)]
        return any(item.attempt for node in nodes for item in (node.items if isinstance(node, InnerMap) else [node]))

    def _consider_all(self, task_id: int) -> list[Decision]:
        """Considers all items beside a task of an added workflow that has ended without items: it was skipped."""
        decisions: list[Decision] = []
        for follower in self._item_followers.get(task_id, ()) if task_id in self._nests else ():
            following = self._maps.get(self._root.nodes[follower])
            if following is None:
                continue
            for item in following.task.nodes:
                decisions += self._consider(following, item)
        return decisions

    def _admit(self, run: NestRun) -> list[Decision]:
        """Begins further items of an added workflow, if others are over."""
        if isinstance(run, LoopRun):
            return self._next_round(run) if run.is_open else []
        decisions: list[Decision] = []
        admitted = run.admit()
        for items, item, lane in admitted:
            decisions += self._begin_or_skip(items, item, lane)
        for items in {held.items: None for held in admitted}:
            decisions += self._continue(items)
        return decisions

    def _next_round(self, run: LoopRun) -> list[Decision]:
        """Begins the next round of an added workflow if this one is over, or ends all of its tasks."""
        decisions: list[Decision] = []
        maps = self._maps_of(run)
        if run.is_advancing:  # by a round that is over at once
            return []
        run.is_advancing = True
        while maps and run.is_round_over:
            if run.round >= 0:
                self._flush()
                end = round_end(run.nest, run.scopes[run.round], self._secrets.masks)
                if end.is_end:
                    run.failure = not_reached(run.nest, end.failure) if end.failure else None
                    if end.note:
                        self._log_line(end.note, None)
                    self._cut(run)
                    for items in maps:
                        items.left = 0
                        decisions += self._continue(items)
                    break
                if self.is_stopping:
                    break
            run.round += 1
            scope = run.scopes[run.round]
            for items in maps:
                if items.task.has_maps:
                    items.task.begin_in(scope)
            for items in maps:
                decisions += self._consider(items, scope.node(items.task.task_id))
                decisions += self._continue(items)
        run.is_advancing = False
        return decisions

    def _cut(self, run: LoopRun) -> None:
        """Drops the records of rounds that did not begin."""
        for task_id in run.nest.tasks:
            task = self._tasks[task_id]
            if isinstance(task, LinkedTask):
                task.cut(max(run.round, 0) + 1)

    def _maps_of(self, run: NestRun) -> list[ItemMap]:
        """Returns the maps of the tasks of an added workflow that have not ended."""
        return [self._maps[task] for task in map(self._root.node, run.nest.tasks) if task in self._maps]

    def _continue(self, items: ItemMap) -> list[Decision]:
        """Returns the end of a map that is over, or its next item if that may begin."""
        task = items.task
        if items.is_over:
            if isinstance(task, InnerMap):
                return self._end_inner(self._maps[task.owner], task) if task in self._maps else []
            if self._maps.pop(task, None) is None:  # it has ended before
                return []
            run = items.run
            failure = run.failure if isinstance(run, LoopRun) and not task.is_cleanup else map_failure(task)
            last = task.last if task.is_repeated else task
            if last.status is SKIPPED and failure is None:
                return [_skipped(task, last.reason)]
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
        continues = items.pending[0] in items.continued
        inputs = None if items.is_entered else ()
        return new(NextItem, (items, self._lanes[task.task_id], task.step, count, continues, inputs, None))

    def _map_ended(self, task: LinkedTask, failure: Failure | None) -> MapEnded:
        if task.is_repeated:  # its value is that of the last round
            is_there = failure is None and task.scopes and task.last.status is TypeStatus.COMPLETED
            last = task.last.current_context if is_there else Context()
            return MapEnded(task.task_id, last, failure, clock.now(), clock.monotonic(), items=len(task.items))
        context = map_context(task)
        if len(context.values) < len(context.storage) and not isinstance(task, InnerMap):
            self._short.add(task.task_id)
        return MapEnded(task.task_id, context, failure, clock.now(), clock.monotonic())

    def _enter_item(self, ready: NextItem) -> NextItem | list[Decision]:
        """Restores the next item of a map from the cache, or returns it, to begin when there is room."""
        items = ready.items
        if items.run is not None and not items.run.is_open:
            items.run.is_open = True
            return self._admit(items.run)
        item, lane = items.next, items.continued_lane
        left: list[Decision] = [] if lane is None or not self._plan.is_parallel else [Leave(lane)]
        previous, own, shared = _arguments_of(items, item)
        ended: Ended | TaskPaused | None = self._cached(item, previous, own, shared)
        if ended is None and items.run is not None and item.step.approve is not None:
            answer = self._ask(Held(items, item, None), item, {**(shared or {}), **own})
            if isinstance(answer, TaskPaused):
                items.set_aside()
                return [*left, answer, *self._give_place(items.run, item.item), *self._continue(items)]
            if isinstance(answer, Ended):
                ended = answer
            else:
                items.decided[item.item] = {**own, **answer}
        if ended is None:
            return ready
        items.begin(None)
        return [*left, ended]

    def _give_place(self, run: NestRun, index: int) -> list[Decision]:
        """Lets another item of an added workflow begin, if what is left of this one waits for approvals."""
        nodes = [node for node in run.scopes[index].nodes if isinstance(node, Item)]
        waits = any((node.task_id, node.item) in self.asked for node in nodes)
        maps = self._maps_of(run)
        is_inside = any(node in self._maps for node in run.scopes[index].nodes if isinstance(node, InnerMap))
        if not waits or is_inside or any(index in items.in_flight or index in items.pending for items in maps):
            return []
        run.leave(index)
        return self._admit(run)

    def begin_item(self, items: ItemMap) -> tuple[Ready, NextItem | None]:
        """Returns the next item of a map, which begins now, and the one after it if that may begin."""
        number, item, lane = next(self._numbers), items.next, items.continued_lane
        if lane is None:
            lane = number if self._plan.is_parallel else self._lanes[item.task_id]
        items.begin(lane)
        previous, own, shared = _arguments_of(items, item)
        inputs = self._inputs(items.task, own, shared, item, own)
        ready = new(Ready, (number, lane, item, previous, item.step, False, inputs, None, 1, 0))
        return ready, self._next(items)

    def _end_item(self, item: Item, context: Context | None) -> list[Decision]:
        """Continues its map, and those that wait for the item."""
        root = self._root.nodes[item.task_id]
        items = self._maps.get(map_of(item) if item.task_id in self._with_maps else root)
        if items is None:  # the map has ended without it
            return []
        decisions: list[Decision] = []
        if context is None and not items.keep_going:  # first: nothing takes its place
            items.stop()
            decisions.append(StopNew())
        lane = items.end(item, has_failed=context is None)
        if items.beside or items.in_step:
            followed, lane = self._follow(items, item, lane)
            decisions += followed
        if lane is not None and self._plan.is_parallel:
            decisions.append(Leave(lane))
        if items.run is not None and items.run.end(item):
            decisions += self._admit(items.run)
        elif items.run is not None and self.asked:
            decisions += self._give_place(items.run, item.scope.index)
        if items.left and (items.is_waiting or not items.pending) and not items.has_stopped:
            return decisions  # nothing follows in its own map
        return decisions + self._continue(items)

    # The end of a run that was stopped

    def paused(self, stop: Stop, *, has_failed: bool) -> Iterator[TaskEvent]:
        """Yields the events of the tasks and items that a pause has held, but of cleanups. No attempt is in flight.

        With *has_failed* a failure has stopped the run before, and so the maps that are open.
        """
        self._stop = stop
        maps = [items for items in self._root_maps() if not items.task.links.always]
        yield from self._end_maps(maps, FAILED if has_failed else stop)
        yield from _stopped((task for task in self._tasks if not task.is_cleanup), stop)

    def clean_up(self) -> Iterator[Decision]:
        """Yields the next cleanup that begins, or what else is left to do, once nothing is ready or runs."""
        dropped = [items for items in self._maps.values() if items.task.links.always and items.is_waiting]
        for items in dropped:  # by the stop
            items.is_waiting = False
            yield from self._continue(items)
        if not dropped:
            yield from self._unfinished_maps(self._stop)
            if self._cleaning:
                yield from self._clean_up_items()
            if not self._cleaning and (cleanup := self.next_cleanup()) is not None:
                task_id = cleanup.task_id
                source = self._previous[task_id]
                previous = Context() if source is None else self._contexts.get(source, Context())
                yield Ready(task_id, self._lanes[task_id], cleanup, previous, cleanup.step)

    def _clean_up_items(self) -> Iterator[Decision]:
        """Yields what begins the cleanups of the items that have begun, in maps that would have ended."""
        for items in [*self._cleaning.values()]:
            while items.wanted:
                yield from self._consider(items, items.task.items[items.wanted.popleft()])
            yield from self._continue(items)
            if items.is_over:
                del self._cleaning[items.task.task_id]

    @property
    def has_cleanups(self) -> bool:
        """Whether cleanups are left to run."""
        return bool(self._cleaning) or self.next_cleanup() is not None

    def next_cleanup(self) -> Task | None:
        """Returns the first cleanup that has not run; None if there is none."""
        while self._cleanups and self._cleanups[0].status is not TypeStatus.NOT_STARTED:
            self._cleanups.popleft()
        return self._cleanups[0] if self._cleanups else None

    def unfinished(self, stop: Stop, *, is_over: bool = False) -> Iterator[TaskEvent]:
        """Yields the failures of what a stopped run leaves unfinished. With *is_over* no cleanup follows."""
        paused, self._paused = self._paused, []
        yield from self._end_maps(paused, stop)
        yield from self._unfinished_maps(stop, is_over=is_over)
        yield from _stopped((task for task in self._tasks if task.task_id not in self._cleaning), stop)

    def _unfinished_maps(self, stop: Stop, *, is_over: bool = False) -> Iterator[TaskEvent]:
        self._has_stopped = True
        if is_over:
            self._cleaning.clear()
        for items in self._root_maps() if self._nests else ():
            if isinstance(items.run, LoopRun):
                self._cut(items.run)
            if items.run is None or is_over or not items.task.links.always:
                continue
            yield from _stopped((items.task.items[index] for index in items.in_flight), stop)
            if items.want([item.item for item in items.task.items if self._has_run(items.task, item.item)]):
                self._cleaning[items.task.task_id] = items
        left = [items for items in self._root_maps() if items.task.task_id not in self._cleaning]
        yield from self._end_maps(left, stop)

    def _root_maps(self) -> list[ItemMap]:
        """Returns the open maps of the run, without those in scopes."""
        return [items for items in self._maps.values() if not isinstance(items.task, InnerMap)]

    def _end_maps(self, maps: Sequence[ItemMap], stop: Stop) -> Iterator[TaskEvent]:
        failed: dict[int, Failure | None] = {}
        for items in maps:
            if isinstance(run := items.run, LoopRun):
                self._cut(run)
                why = why_failed(run.nest, run.scopes[run.round]) if run.round >= 0 else ""
                failed[items.task.task_id] = not_reached(run.nest, why) if why else None
            elif items.has_stopped or (items.task.has_maps and not items.keep_going):
                failed[items.task.task_id] = map_failure(items.task)
        inner = {
            items.task: [self._maps.pop(node) for node in items.task.inner_maps if node in self._maps] for items in maps
        }
        for items in maps:
            for one in (items, *inner[items.task]):
                yield from _stopped((one.task.items[index - one.first] for index in one.in_flight), stop)
        for items in maps:
            task, count = items.task, len(items.task.items)
            self._maps.pop(task, None)
            failure = failed.get(task.task_id)
            if failure is None and stop.state is TypeRunState.PAUSED:
                self._paused.append(items)
                yield _paused(task, stop)
                continue
            ended = sum(map(is_over, task.items)) if task.has_maps else count - items.left
            progress = f"{stop.reason}, after {ended} of {count} items"
            if isinstance(run := items.run, LoopRun):
                progress = f"{stop.reason}, after {max(run.round, 0)} of at most {run.nest.repeat} rounds"
            stopped = Failure(stop.exception, str(RunStopped(task.name, progress)))
            for node in task.inner_maps:
                if node.status in UNFINISHED:
                    node._apply(self._map_ended(node, map_failure(node) or stopped))
            yield self._map_ended(task, failure or stopped)


def _stopped(tasks: Iterable[Task], stop: Stop) -> Iterator[TaskFailed | TaskPaused]:
    for task in tasks:
        is_paused = task.status is TypeStatus.PAUSED
        if task.status not in UNFINISHED and (not is_paused or task.question is not None):
            continue  # what waits for an approval has not begun
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
    event = TaskFailed(task.task_id, 1, Failure.of(error), clock.now(), clock.monotonic(), task.item)
    return Ended(event, task, None)


def _undecided(task: Task, error: Exception) -> Ended:
    """Returns the failure of a task or an item of which a condition raises."""
    error.add_note("The value of a condition can't be compared. Return True or False from a step, and use that.")
    return _failed(task, error)


def _skipped(task: Task, reason: str, previous: Context | None = None) -> Ended:
    """Returns the end of a task or an item that does not run. *previous* goes on to those that follow it."""
    return Ended(TaskSkipped(task.task_id, reason, task.item), task, previous or Context())


def _arguments_of(items: ItemMap, item: Item) -> tuple[Context, Arguments, Arguments | None]:
    """Returns the previous context of an item that may begin, its other own arguments and those that it shares."""
    own = items.decided.pop(item.item) if item.item in items.decided else items.inputs.arguments(item)
    assert not isinstance(own, Skip), "it was considered before"
    previous = Context(own.pop(PREVIOUS)) if PREVIOUS in own else items.previous
    return previous, *items.given(item, own)
