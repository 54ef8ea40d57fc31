"""LinkedRestorer: which checkpoints a resume restores in a workflow with links."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from dotflow.codec.canonical import digest
from dotflow.core.context import Context
from dotflow.core.events import MapEnded, MapOpened, TaskEvent, TaskRestored, TaskSkipped
from dotflow.core.linked_task import Item, LinkedTask
from dotflow.core.params import Params
from dotflow.core.task import Task
from dotflow.core.types.status import TypeStatus
from dotflow.core.wiring import PREVIOUS
from dotflow.engine.maps import ItemMap, lists_of, make_items
from dotflow.engine.restoring import is_same_step, takes_previous, uncertainty
from dotflow.engine.tokens import difference, token_of, tokens_of
from dotflow.engine.verdict import Skip, decide, has_value
from dotflow.errors import CheckpointMismatch, NotAList, UnequalLists

Read = Callable[[Task], Context | None]

COMPLETED: Final = TypeStatus.COMPLETED


@dataclass
class LinkedRestoration:
    """The decisions on the checkpoints of a workflow.

    Attributes:
        restored: The valid contexts, by task id.
        void: The tasks and items whose checkpoint is void, with the reason, in the order of `add`.
        is_finished: Whether all tasks were finished.
        notes: Notes on values that are restored without comparing their inputs.
    """

    restored: dict[int, Context] = field(default_factory=dict)
    void: list[tuple[Task, str]] = field(default_factory=list)
    is_finished: bool = True
    notes: list[str] = field(default_factory=list)


class LinkedRestorer:
    """Decides which checkpoints of a workflow are valid, in the order of `add`.

    Args:
        tasks: The run's tasks.
        previous: For each task, the task whose context is its `previous_context`.
        params: The run parameters.
        initials: For each task, the digest of its initial context.
        read: Reads the checkpoint of a task or an item.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        previous: Sequence[int | None],
        params: Params,
        initials: Sequence[str],
        read: Read,
    ) -> None:
        self._tasks = tasks
        self._previous = previous
        self._params = params
        self._initials = initials
        self._shared_tokens: dict[int, Mapping[str, str]] = {}
        self._read = read
        self._run_again: set[int] = set()  # tasks that are not restored, or not all of their items
        self._mismatches: list[tuple[int, str, str]] = []

    def restore(self) -> LinkedRestoration:
        """Returns which checkpoints are valid and which are void. Raises CheckpointMismatch."""
        real, self._tasks = self._tasks, [task._snapshot() for task in self._tasks]  # which record the decisions
        try:
            result = LinkedRestoration()
            for task in self._tasks:
                if isinstance(task, LinkedTask) and task.is_mapped:
                    self._restore_map(task, result)
                else:
                    self._restore_task(task, result)
        finally:
            self._tasks = real
        if self._mismatches:
            raise CheckpointMismatch(self._mismatches)
        return result

    def restore_items(self, task: LinkedTask) -> tuple[dict[int, Context], list[tuple[Task, str]]]:
        """Returns the valid contexts of an open map's items by index, and its items whose checkpoint is void."""
        valid: dict[int, Context] = {}
        void: list[tuple[Task, str]] = []
        for item, context, reason in self._judge_items(task):
            if reason:
                void.append((item, reason))
            else:
                valid[item.item] = context
        if self._mismatches:
            raise CheckpointMismatch(self._mismatches)
        return valid, void

    def tokens(self, task: Task) -> Mapping[str, str]:
        """Returns the tokens of the values that a task or an item depends on."""
        if isinstance(task, Item):
            shared = self._shared_tokens.get(task.task_id)
            if shared is None:
                shared = self._shared_tokens[task.task_id] = self.tokens(self._tasks[task.task_id])
            return _with_sources(shared, task)
        links = task.links
        tokens = {} if links is None else tokens_of(links, self._tasks, self._params)
        if links is not None and links.each and PREVIOUS in task.step.context_params:
            source = self._previous_of(task)
            tokens[PREVIOUS] = "" if source is None else token_of(source)
        return tokens

    def _restore_task(self, task: Task, result: LinkedRestoration) -> None:
        is_cleanup = task.links is not None and task.links.always
        context = None if is_cleanup else self._read(task)
        reason = self._why_it_runs(task)
        if not reason and task.links is not None:
            decision = decide(task.links, self._tasks, self._params)
            if isinstance(decision, Skip):
                task._apply(TaskSkipped(task.task_id, decision.reason))
                if context is not None:
                    result.void.append((task, decision.reason))
                return
        if context is not None:
            reason = reason or self._why_void(task, context)
            if not reason:
                previous = self._previous_of(task)
                before = Context() if previous is None else previous.current_context
                task._apply(TaskRestored(task.task_id, context, before))
                if note := uncertainty(context, self._initials[task.task_id]):
                    result.notes.append(f"Task {task.task_id} {task.name} is restored, {note}.")
                result.restored[task.task_id] = context
                return
            result.void.append((task, reason))
        self._run_again.add(task.task_id)
        result.is_finished = result.is_finished and is_cleanup

    def _why_it_runs(self, task: Task) -> str:
        """Returns why a task can't be restored: a task that it depends on runs again; "" if none does."""
        if task.links is None:
            return ""
        for source in task.links.value_sources():
            by_item = task.is_mapped and self._tasks[source].is_mapped and source not in task.links.whole_sources()
            if source in self._run_again and not by_item:
                return self._runs_again(source)
        return ""

    def _runs_again(self, source: int) -> str:
        return f"it takes the value of task {source} {self._tasks[source].name}, which runs again"

    def _why_void(self, task: Task, context: Context) -> str:
        if context.step is not None and not self._is_of_step(task, context.step):
            self._mismatches.append((task.task_id, context.step, task.step.identity))
        inputs = context.inputs
        if inputs is not None and inputs.initial != self._initials[task.task_id]:
            return "its initial_context has changed"
        if inputs is not None:
            label = difference(inputs.links, self.tokens(task))
            if label:
                return f"it was made from another value of '{label}'"
        return "" if isinstance(task, Item) else self._why_previous_void(task, context)

    def _why_previous_void(self, task: Task, context: Context) -> str:
        if not takes_previous(task, context):
            return ""
        source = self._previous_of(task)
        if source is not None and source.task_id in self._run_again:
            return self._runs_again(source.task_id)
        inputs = context.inputs
        if inputs is None:
            return ""
        if inputs.previous != (None if source is None else source.task_id):
            return "it was made from the value of another task"
        if source is not None and source.current_context._run != inputs.source:
            return f"it was made from an earlier value of task {source.task_id} {source.name}"
        return ""

    def _previous_of(self, task: Task) -> Task | None:
        """Returns the task whose context is the `previous_context`: the last one that was not skipped."""
        source = self._previous[task.task_id]
        while source is not None and self._tasks[source].status is TypeStatus.SKIPPED:
            source = self._previous[source]
        return None if source is None else self._tasks[source]

    def _is_of_step(self, task: Task, identity: str) -> bool:
        links = self._tasks[task.task_id].links
        steps = [task.step, *([links.fallback] if links is not None and links.fallback is not None else [])]
        return any(is_same_step(identity, step.identity) for step in steps)

    def _restore_map(self, task: LinkedTask, result: LinkedRestoration) -> None:
        reason = self._why_it_runs(task)
        if not reason:
            decision = decide(task.links, self._tasks, self._params)
            if isinstance(decision, Skip):
                task._apply(TaskSkipped(task.task_id, decision.reason))
                return
        if self._open(task):
            for item, context, why in self._judge_items(task):
                if reason or why:
                    result.void.append((item, reason or why))
                else:
                    item._apply(TaskRestored(task.task_id, context, Context(), item.item))
            if all(item.status is COMPLETED for item in task.items):
                self._close(task)
                return
        self._run_again.add(task.task_id)
        result.is_finished = False

    def _open(self, task: LinkedTask) -> bool:
        """Makes the items of a map. Returns False if its lists are not known yet."""
        for each in task.links.each:
            source = self._tasks[each.source] if isinstance(each.source, int) else None
            if source is not None and not has_value(source) and not (source.is_mapped and source.items):
                return False
        try:
            items = make_items(task, lists_of(task, self._tasks), digest)
        except (NotAList, UnequalLists):
            return False
        task._open(items)
        task._apply(MapOpened(task.task_id, len(items), Context().time, 0.0))
        return True

    def _close(self, task: LinkedTask) -> None:
        nothing = Context(None, task.task_id, task.workflow_id, step=task.step.identity)
        context = ItemMap(task, {}, nothing, 1, True).context(nothing)
        event: TaskEvent = MapEnded(task.task_id, context, None, context.time, 0.0)
        task._apply(event)

    def _judge_items(self, task: LinkedTask) -> Iterator[tuple[Item, Context, str]]:
        """Yields each item that has a checkpoint, the checkpoint, and why that is void."""
        shared = self.tokens(task)
        for item in task.items:
            context = self._read(item)
            if context is None:
                continue
            if any(not has_value(source) for source in item.sources()):
                yield item, context, "it takes the value of an item that runs again"
            else:
                yield item, context, self._why_item_void(item, context, shared)

    def _why_item_void(self, item: Item, context: Context, shared: Mapping[str, str]) -> str:
        if context.step is not None and not self._is_of_step(item, context.step):
            self._mismatches.append((item.task_id, context.step, item.step.identity))
        inputs = context.inputs
        if inputs is None:
            return ""
        if inputs.initial != self._initials[item.task_id]:
            return "its initial_context has changed"
        label = difference(inputs.links, _with_sources(shared, item))
        return f"it was made from another value of '{label}'" if label else ""


def _with_sources(shared: Mapping[str, str], item: Item) -> Mapping[str, str]:
    """Returns the tokens that all items share, and those of the items whose values this one takes."""
    sources = item.sources()
    return {**shared, **{f"item of {source.step.name}": token_of(source) for source in sources}} if sources else shared
