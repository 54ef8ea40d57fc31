"""What a node begins with, or why it ends without an attempt: asked when its turn has come."""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dotflow import clock
from dotflow.core.action import APPROVAL
from dotflow.core.call import KEY_BASE
from dotflow.core.context import Context
from dotflow.core.events import TaskEvent, TaskFailed, TaskPaused, TaskRestored, TaskSkipped
from dotflow.core.failure import Failure, TaskError
from dotflow.core.links import Links
from dotflow.core.task import Task
from dotflow.core.types.decision import TypeDecision
from dotflow.engine.lifecycle import Fallback, new
from dotflow.engine.ready import Ready
from dotflow.errors import ApprovalExpired, LeaseLost, Rejected
from dotflow.graph.fan import Fan
from dotflow.graph.gather import Arguments, ByItem, Skip, arguments, gather, unmet_need, value_of
from dotflow.graph.linked_task import InnerMap, Item, ItemOrMap, LinkedTask, Scope
from dotflow.graph.linking import ERROR
from dotflow.graph.maps import items_of, missing_values
from dotflow.graph.params import Params
from dotflow.graph.run_secrets import NO_RUN_SECRETS, RunSecrets, TaskSecrets
from dotflow.graph.wiring import PREVIOUS
from dotflow.resume.cache import Cache, is_cached
from dotflow.resume.checkpoint import Checkpoints
from dotflow.resume.judge import judge

if TYPE_CHECKING:  # few workflows ask
    from dotflow.core.approval import Question
    from dotflow.engine.approvals import Approvals

#: The reason of a task that waits for an approval, before its question, or before the items that wait.
WAITS: Final = "waits for an approval"


class StopNew(NamedTuple):
    """No further task becomes ready. With *at_once*, those that are ready don't begin either."""

    at_once: bool = False


class Ended(NamedTuple):
    """A task, an item or a map in a scope ends without an attempt.

    Attributes:
        event: Its last event, which is published first; None for a map in a scope, which has none of its own.
        task: The task, the item or the map.
        context: The previous context of those that follow it; None for a failure, which may stop the run.
    """

    event: TaskEvent | None
    task: Task
    context: Context | None


class Refused(NamedTuple):
    """The step of a task or an item does not run; a fallback that names the reason follows, as after an attempt.

    Attributes:
        ready: The task or the item, as it was ready for its step.
        failure: The reason.
    """

    ready: Ready
    failure: Failure


#: The own and the shared arguments of a node.
Taken = tuple[Arguments, Arguments | None]


class NodeInputs:
    """Decides on a node whose turn has come: a task, an item, or a map in a scope.

    Args:
        root: The scope of the run.
        params: The run parameters.
        checkpoints: The checkpoints of the run.
        cache: The cached values; None for none.
        secrets: The secrets of the run.
        approvals: Asks for the approvals of tasks; None where none asks.
        flush: Called before values are compared or read, which may take long.
        log_line: Writes a line into the log.

    Attributes:
        checkpoints: The checkpoints of the run.
        outputs: The outputs of the tasks that have some, by task id.
        asked: What waits for an approval, by the id of the task and the index of the item, with its questions.
        short: The maps that have ended with fewer values than items.
    """

    def __init__(
        self,
        root: Scope,
        params: Params,
        checkpoints: Checkpoints,
        *,
        cache: Cache | None = None,
        secrets: RunSecrets = NO_RUN_SECRETS,
        approvals: "Approvals | None" = None,
        flush: Callable[[], object] = int,
        log_line: Callable[..., object] = lambda *line: None,
    ) -> None:
        self.root = root
        self.params = params
        self.masks = secrets.masks
        self.flush = flush
        self.log_line = log_line
        self.approvals = approvals
        self.asked: dict[tuple[int, int | None], tuple[Ready, tuple[Question, ...]]] = {}
        self.short: set[int] = set()
        self._tasks: Sequence[Task] = root.nodes
        self.checkpoints = checkpoints
        self.outputs = {task.task_id: task.links.outputs for task in self._tasks if task.links and task.links.outputs}
        self._restored = checkpoints.found.restored  # which does not run
        self._cache = cache
        self._secrets = secrets
        self._refusals: dict[int, Failure] = {}  # by mapped task
        self._fallback_values: dict[tuple[int, int], Arguments | Skip] = {}  # by task and fallback; items share them

    def restore(self, task: Task, previous: Context) -> "list[Ended | StopNew]":
        """Returns the end of a task of the run whose checkpoint counts, or can't be read; nothing for others."""
        context = self._restored.get(task.task_id)
        if context is None and task.task_id in self.checkpoints.found.undecided:
            self.flush()
            try:
                context = self.checkpoints.restore_task(task)
            except Exception as error:  # of the storage
                return [*stop_after(error), failed(task, error)]
        if context is None:
            return []
        event = new(TaskRestored, (task.task_id, context, previous, None, "checkpoint"))
        return [new(Ended, (event, task, context))]

    def enter(self, ready: Ready, fan: Fan | None) -> Ready | Refused | Ended | TaskPaused:
        """Returns a node that makes attempts with its inputs; or its end without one, its pause, or a refusal.

        Args:
            ready: The node.
            fan: The fan below which it is; None for a task of the run.
        """
        number, lane, node, previous, step, continues, _, call, before = ready  # a `_replace` takes ten times as long
        taken = self.take(node, previous, fan)
        if isinstance(taken, Ended):
            return taken
        own, shared = taken
        if PREVIOUS in own and fan is not None:
            previous = Context(own.pop(PREVIOUS))
        given = own if fan is not None else own or None
        if restored := self._cached(node, previous, given, shared):
            return restored
        refusal = None
        if step.approve is not None and fan is not None and fan.nest is None:
            refusal = self._refusals.get(node.task_id)  # the map has asked for all of its items
        elif step.approve is not None:
            answer = self.ask(ready, node, {**(shared or {}), **own})
            if isinstance(answer, Ended | TaskPaused):
                return answer
            if isinstance(answer, Failure):
                refusal = answer
            else:
                given = {**own, **answer}
        inputs = self.of(node, given, shared)
        entered: Ready = new(Ready, (number, lane, node, previous, step, continues, inputs, call, before))
        return entered if refusal is None else Refused(entered, refusal)

    def take(self, node: Task, previous: Context, fan: Fan | None) -> Taken | Ended:
        """Returns the arguments of a node, of a map those that its items share, or its end without an attempt."""
        if fan is not None:
            assert isinstance(node, ItemOrMap)
            return self._take_in(fan, node)
        task_id, found = node.task_id, self.checkpoints.found
        if task_id in found.not_needed:
            return skipped(node, found.not_needed[task_id], previous)
        assert isinstance(node, LinkedTask), "others are restored, not needed, or not asked"
        links = node.links
        if links.conditions:
            self.flush()
        unmet = unmet_need(links.at().needs, self._tasks.__getitem__, found.not_needed)
        restored_items = found.whole_maps.get(task_id)
        if restored_items or (restored_items == 0 and unmet is None):
            # No item runs, so a value that they would take may be missing. What is restored needs no order.
            return {}, None
        try:
            got = gather(links, self._tasks, self.params, self.masks)
        except Exception as error:  # raised by the __bool__ or __eq__ of a value
            return _undecided(node, error)
        verdict = judge(node, got, unmet)
        if verdict.kind is TypeDecision.SKIP:
            return skipped(node, verdict.reason, previous)
        if self.short and (note := missing_values(node, self._tasks, self.params, self.short)):
            self.log_line(note, None)
        return got.args, None

    def _take_in(self, fan: Fan, node: ItemOrMap) -> Taken | Ended:
        """Returns what `take` does, for a node below a fan."""
        if isinstance(node, InnerMap) and self.checkpoints.found.is_whole(node):
            return fan.given(node, {})  # as no item runs, a value that it would take may be missing
        inputs = fan.unit.inputs[node.task_id]
        try:
            got = inputs.gather(node, self.masks)
            verdict = judge(node, got, inputs.unmet_need(node))
        except Exception as error:  # of values, which may be the user's own types
            return _undecided(node, error)
        if verdict.kind is TypeDecision.SKIP:
            return skipped(node, verdict.reason)
        return fan.given(node, got.args)

    def ask(self, waits: Ready, task: Task, shown: Arguments) -> Arguments | Failure | Ended | TaskPaused:
        """Returns what a task or an item takes of its approval, or its pause without an answer.

        After a no it returns its end, or the failure if there is a fallback for it.

        Args:
            waits: What goes on after the answer.
            task: The task or the item.
            shown: The arguments that the question may show.
        """
        approvals = self.approvals
        assert approvals is not None, "checked before the run began"
        self.flush()
        try:
            answer = approvals.ask(task, shown)
        except Exception as error:  # of the history
            return failed(task, error)
        if answer.approval is not None:
            return {APPROVAL: answer.approval} if task.step.takes_approval else {}
        if answer.open is None:
            of_run = self._tasks[task.task_id]
            refusal = (ApprovalExpired if answer.is_late else Rejected)(task.name, answer.refusal, of_run.name)
            failure, links = Failure.of(refusal), of_run.links
            return failed(task, refusal) if links is None or links.fallback_for(failure.kinds) is None else failure
        self.asked[task.task_id, task.item] = waits, (answer.open,)
        reason = f"{WAITS}: {answer.open.text}"
        return TaskPaused(task.task_id, reason, clock.now(), clock.monotonic(), task.item, answer.open)

    def answered(self) -> list[Ready]:
        """Returns what goes on by the answers, by now, to the questions of tasks and items that wait."""
        if self.approvals is None or not self.asked:
            return []
        _, (first, *_) = next(iter(self.asked.values()))
        settled = self.approvals.answered(first.id.origin)
        found = [key for key, (_, asked) in self.asked.items() if any(question.id in settled for question in asked)]
        return [self.asked.pop(key)[0]._replace(continues=False) for key in found]

    def ask_for_all(self, ready: Ready, task: LinkedTask, shared: Arguments) -> Arguments | Ended | TaskPaused:
        """Returns what `ask` does for a map, before its items, unless none of them would run.

        After a no for which there is a fallback, each item is refused.
        """
        if not self._has_open_items(task, ready.previous, shared):
            return {}
        answer = self.ask(ready, task, {**self._lists_shown(task), **shared})
        if isinstance(answer, Failure):
            self._refusals[task.task_id] = answer
            return {}
        return answer

    def _lists_shown(self, task: LinkedTask) -> dict[str, Any]:
        lists: dict[str, Any] = {}
        for parameter, source, part, _ in task.lists:
            if isinstance(source, int):
                lists[parameter] = value_of(self._tasks[source], part)
            else:
                lists[parameter] = self.params[source] if isinstance(source, str) else source
        return lists

    def _has_open_items(self, task: LinkedTask, previous: Context, shared: Arguments) -> bool:
        """Returns whether an item of a mapped task may run: they are neither restored, nor all in the cache."""
        is_empty = any(type(one) in (list, tuple) and not one for one in self._lists_shown(task).values())
        if is_empty or task.task_id in self.checkpoints.found.whole_maps:
            return False
        if self._cache is None or not is_cached(task):
            return True
        try:
            inputs = ByItem(task, self._tasks)
            for item in items_of(task, self.root, self.params):
                got = inputs.gather(item, self.masks)
                if got.lack is not None:
                    continue
                own = got.args
                given = Context(own.pop(PREVIOUS)) if PREVIOUS in own else previous
                if self._cache.find(item, self._cache.key(item, given, own, shared or None)) is None:
                    return True
        except Exception:  # of the lists, or of a condition: the map, or the item, fails without a step
            return False
        return False

    def _cached(self, task: Task, previous: Context, own: Arguments | None, shared: Arguments | None) -> Ended | None:
        """Returns the end of a task or an item whose value is in the cache, so it needs no worker; else None."""
        if self._cache is None or not is_cached(self._tasks[task.task_id]):
            return None
        self.flush()
        context = self._cache.restore(task, previous, own, shared)
        if context is None:
            return None
        return Ended(TaskRestored(task.task_id, context, previous, task.item, "cache"), task, context)

    def direct(self, task: LinkedTask, inputs: ByItem) -> str | None:
        """Returns the parameter that gets the entry of an item, where that is all that has to be known; else None."""
        is_plain = inputs.is_plain and inputs.only != PREVIOUS
        is_plain = is_plain and not task.links.fallbacks and not task.links.takes_key
        is_plain = is_plain and task.task_id not in self._secrets.by_task
        return inputs.only if is_plain and (self._cache is None or not is_cached(task)) else None

    def of(self, node: Task, own: Arguments | None, shared: Arguments | None) -> tuple[Any, ...]:
        """Returns the inputs of a task or an item: those of Ready."""
        task_id = node.task_id
        links = self._tasks[task_id].links
        assert links is not None
        fallback = functools.partial(self._fallback, links, node, own) if links.fallbacks else None
        secrets = self._secrets.by_task.get(task_id)
        if links.takes_key:
            secrets = TaskSecrets({**(secrets or {}), KEY_BASE: self.checkpoints.ids.key_base(node)})
        return own, shared, fallback, secrets

    def _fallback(self, links: Links, node: Task, own: Arguments | None, failure: Failure) -> Fallback | None:
        """Returns a node's fallback; None if it has none for the failure, or a value that it requires is missing.

        Args:
            links: The links of its task.
            node: The task or the item.
            own: Its own arguments.
            failure: The failure of the last attempt.
        """
        index = links.fallback_for(failure.kinds)
        if index is None:
            return None
        key, handler = (node.task_id, index), links.fallbacks[index]
        values = self._fallback_values.get(key)
        if values is None:
            values = self._fallback_values[key] = arguments(links, self._tasks, self.params, fallback=index)
        if isinstance(values, Skip):
            return None
        if not isinstance(node, Item):
            own = None
        elif links.nest is not None:
            scope = node.scope
            if scope.node(node.task_id) is node:
                own = {}
            while scope.outer is not None:  # from inside to outside
                inputs: ByItem = scope.fan.unit.inputs[node.task_id]
                of_item = inputs.fallback_arguments(scope.node(node.task_id), index)
                if isinstance(of_item, Skip):
                    return None
                own = {**(own or {}), **of_item}
                if scope.before is not None:
                    carried = inputs.fallback_carried
                    values = {name: value for name, value in values.items() if name not in carried}
                scope = scope.outer
        error = {ERROR: TaskError(node.attempt, failure.masked(self.masks))} if handler.takes_error else {}
        if own is None:
            return Fallback(handler.step, index + 1, {**values, **error} or None)
        names = handler.step.named_params
        own = {name: own[name] for name in own if name in names}
        return Fallback(handler.step, index + 1, {**own, **error}, values or None)


def ended(event: TaskEvent, node: Task, context: Context | None) -> Ended:
    """Returns the end of a node. A map in a scope has no events of its own: its record is up to date at once."""
    if not isinstance(node, InnerMap):
        return Ended(event, node, context)
    node._apply(event)
    return Ended(None, node, context)


def failed(node: Task, error: Exception) -> Ended:
    """Returns the failure of a node that has made no attempt."""
    event = TaskFailed(node.task_id, 1, Failure.of(error), clock.now(), clock.monotonic(), node.item)
    return ended(event, node, None)


def skipped(node: Task, reason: str, previous: Context | None = None) -> Ended:
    """Returns the end of a node that does not run. *previous* goes on to those that follow it."""
    return ended(TaskSkipped(node.task_id, reason, node.item), node, previous or Context())


def stop_after(error: Exception) -> list[StopNew]:
    """Returns what stops the run after an error of the storage even with keep_going: another process runs it."""
    return [StopNew(at_once=True)] if isinstance(error, LeaseLost) else []


def _undecided(node: Task, error: Exception) -> Ended:
    """Returns the failure of a node of which a condition raises."""
    error.add_note("The value of a condition can't be compared. Return True or False from a step, and use that.")
    return failed(node, error)
