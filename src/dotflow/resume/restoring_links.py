"""LinkedRestorer: which checkpoints a resume restores in a workflow with links."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final

from dotflow.core.context import Context, Inputs, Origin
from dotflow.core.events import MapEnded, MapOpened, TaskRestored, TaskSkipped
from dotflow.core.task import Task
from dotflow.core.types.status import TypeStatus
from dotflow.errors import CheckpointMismatch
from dotflow.graph.linked_task import Item, LinkedTask
from dotflow.graph.maps import lists_of, make_items, map_context
from dotflow.graph.params import Params
from dotflow.graph.verdict import Skip, decide, unmet_need
from dotflow.graph.wiring import PREVIOUS
from dotflow.resume.changed_code import ChangedCode
from dotflow.resume.restoring import TAKES, Restoration, is_same_step, notes_on, previous_of, takes_previous
from dotflow.resume.tokens import NOTHING, difference, token_of, tokens_of, tokens_of_item, tokens_of_params
from dotflow.resume.unsaved import always_takes_previous, not_needed, stable_run

Read = Callable[[Task], Context | None]

COMPLETED: Final = TypeStatus.COMPLETED


class LinkedRestorer:
    """Decides which checkpoints of a workflow are valid, in the order of `add`.

    Args:
        tasks: The run's tasks.
        previous: For each task, the task whose context is its `previous_context`.
        params: The run parameters.
        initials: For each task, the digest of its initial context.
        read: Reads the checkpoint of a task or an item.
        changes: Compares the code.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        previous: Sequence[int | None],
        params: Params,
        initials: Sequence[str],
        read: Read,
        changes: ChangedCode,
    ) -> None:
        self._tasks = tasks
        self._previous = previous
        self._params = params
        self._param_tokens = tokens_of_params(params)
        self._initials = initials
        self._shared_tokens: dict[tuple[int, bool], Mapping[str, str]] = {}  # of all items of a map
        self._last_tokens: dict[int, Mapping[str, str]] = {}  # by mapped task: those of an item
        self._read = read
        self._changes = changes
        self._run_again: set[int] = set()  # tasks that are not restored, or not all of their items
        self._valid_items: dict[int, dict[int, Context]] = {}  # of the maps that restore() could open
        self._mismatches: dict[tuple[int, str, str], None] = {}  # each once, not for each item

    def restore(self, *, left_open: Collection[int] = (), unfinished_only: bool = False) -> Restoration:
        """Returns which checkpoints are valid and which are void.

        Args:
            left_open: The cleanups that did not complete in the last run.
            unfinished_only: Whether nothing is restored if all tasks are finished.

        Raises:
            CheckpointMismatch: Another step made one of them, and they may be restored.
        """
        real, self._tasks = self._tasks, [task._snapshot() for task in self._tasks]  # which record the decisions
        try:
            result = Restoration(tasks=self._tasks, is_finished=not left_open)
            for task in self._tasks:
                if isinstance(task, LinkedTask) and task.is_mapped:
                    self._restore_map(task, result)
                else:
                    self._restore_task(task, result)
            result.not_needed = not_needed(self._tasks, self._run_again, self._previous_of, left_open)
        finally:
            self._tasks = real
            self._shared_tokens.clear()
        if not (unfinished_only and result.is_finished):
            self._raise_mismatches()
        return result

    def restore_items(self, task: LinkedTask) -> tuple[dict[int, Context], list[tuple[Task, str]]]:
        """Returns the valid contexts of an open map's items by index, and its items whose checkpoint is void."""
        if not task.step.checkpoint:
            return {}, []
        if task.task_id in self._valid_items:
            return self._valid_items.pop(task.task_id), []
        valid: dict[int, Context] = {}
        void: list[tuple[Task, str]] = []
        for item, context, reason in self._judge_items(task):
            if reason:
                void.append((item, reason))
            else:
                valid[item.item] = context
        self._raise_mismatches()
        return valid, void

    def _raise_mismatches(self) -> None:
        mismatches, self._mismatches = list(self._mismatches), {}  # those of another map are its own
        if mismatches:
            raise CheckpointMismatch(mismatches)

    def tokens(self, task: Task, context: Context) -> Mapping[str, str]:
        """Returns the tokens of the values that a task or an item depends on."""
        takes_previous = self._takes_previous(task, context)
        if not isinstance(task, Item):
            return self._tokens_of(task, takes_previous)
        cached = self._shared_tokens.get((task.task_id, takes_previous))
        if cached is None:
            cached = self._tokens_of(self._tasks[task.task_id], takes_previous)
            self._shared_tokens[task.task_id, takes_previous] = cached
        own = tokens_of_item(task, self._tasks)
        if not own:
            return cached
        tokens, last = {**cached, **own}, self._last_tokens.get(task.task_id)
        if tokens != last:  # most items of a map have the same: one object for all takes no memory
            self._last_tokens[task.task_id] = last = tokens
        return last

    def _tokens_of(self, task: Task, takes_previous: bool) -> dict[str, str]:
        tokens = {} if task.links is None else tokens_of(task.links, self._tasks, self._param_tokens)
        if takes_previous:
            source = self._previous_of(task)
            tokens[PREVIOUS] = NOTHING if source is None else token_of(source, by_index=True)
        return tokens

    def _takes_previous(self, task: Task, context: Context) -> bool:
        """Returns whether the value may depend on the previous one; an item may itself be what it is given as that."""
        links = self._tasks[task.task_id].links
        is_item = links is not None and any(each.parameter == PREVIOUS for each in links.each)
        if not task.step.checkpoint:  # the context stands for a value that is not known
            return not is_item and always_takes_previous(task)
        return not is_item and takes_previous(task, context)

    def stable_run(self, task: Task) -> str | None:
        """Returns what stands for the run that makes a value without a checkpoint; None for other values."""
        if task.step.checkpoint:
            return None
        tokens = self._tokens_of(self._tasks[task.task_id], always_takes_previous(task))
        own = tokens_of_item(task, self._tasks) if isinstance(task, Item) else {}
        return stable_run(self._initials[task.task_id], {**tokens, **own})

    def _checkpoint_of(self, task: Task) -> Context | None:
        """Returns the checkpoint; for a value without one, an empty context that stands for it."""
        run = self.stable_run(task)
        if run is None:
            return self._read(task)
        context = Context(None, task.task_id, task.workflow_id, step=task.step.identity)
        code = self._changes.code_of(task, context)  # that of today: nothing shows whether it has changed
        origin = Origin(self._initials[task.task_id], run, code)
        context._set_inputs(origin, Context(), self.tokens(task, context))
        return context

    def _restore_task(self, task: Task, result: Restoration) -> None:
        is_saved = task.step.checkpoint and not task.is_cleanup
        context = None if task.is_cleanup else self._checkpoint_of(task)
        unmet = self._unmet_need(task)
        reason = (None if is_saved else unmet) or self._judge(task)  # without a checkpoint nothing is restored
        if isinstance(reason, Skip):
            task._apply(TaskSkipped(task.task_id, reason.reason))
            if context is not None and is_saved:
                result.void.append((task, reason.reason))
            return
        if context is not None:
            reason = reason or self._why_void(task, context)
            if not reason:
                previous = self._previous_of(task)
                before = Context() if previous is None else previous.current_context
                task._apply(TaskRestored(task.task_id, context, before))
                if not is_saved:
                    return
                result.notes += notes_on(task, context, self._initials[task.task_id])
                result.restored[task.task_id] = context
                return
            if is_saved:
                result.void.append((task, reason))
        elif is_saved and not unmet:
            result.is_finished = False
        self._go_on_without(task, unmet)

    def _go_on_without(self, task: Task, unmet: Skip | None) -> None:
        """Records that a task is not restored: it runs again, unless a task that it needs is skipped."""
        if unmet:
            task._apply(TaskSkipped(task.task_id, unmet.reason))
        else:
            self._run_again.add(task.task_id)

    def _unmet_need(self, task: Task) -> Skip | None:
        """Returns a Skip if a task that must have completed is skipped for certain. Those that run may complete."""
        certain = () if task.links is None else [need for need in task.links.needs if need[-1] not in self._run_again]
        return unmet_need(certain, self._tasks)

    def _judge(self, task: Task) -> Skip | str:
        """Returns why a task is skipped, or as a text why it can't be restored; "" if neither."""
        if task.links is None:
            return ""
        whole = task.links.whole_value_sources()
        for source in task.links.value_sources():
            if source in self._run_again and (source in whole or not self._tasks[source].items):
                return self._runs_again(source)
        try:
            decision = decide(task.links, self._tasks, self._params)
        except Exception as error:  # the values' own code; in the run it fails the task
            return f"its conditions raised {type(error).__name__}"
        return decision if isinstance(decision, Skip) else ""

    def _runs_again(self, source: int) -> str:
        task = self._tasks[source]
        why = "which runs again"
        if task.is_mapped and not task.items:
            why = "whose items are known only in the run"
        elif task.step.cache is not None:
            why = "which is made anew"
        return f"{TAKES} task {source} {task.name}, {why}"

    def _why_void(self, task: Task, context: Context) -> str:
        """Returns why the checkpoint of a task or an item is void; "" where it is valid."""
        if context.step is not None and not self._is_of_step(task, context.step):
            self._mismatches[task.task_id, context.step, task.step.identity] = None
        if self._takes_previous(task, context):
            source = self._previous_of(task)
            if source is not None and source.task_id in self._run_again:
                return self._runs_again(source.task_id)
        inputs = context.inputs
        if inputs is None:
            return self._changes.why_void(task, context)
        if inputs.initial != self._initials[task.task_id]:
            return "its initial_context has changed"
        now = self.tokens(task, context)
        if PREVIOUS in now and PREVIOUS not in inputs.links:  # a run without links has saved it
            if not self._is_previous(inputs, self._previous_of(task)):
                return f"it was made from another value of '{PREVIOUS}'"
            now = {label: token for label, token in now.items() if label != PREVIOUS}
        label = difference(inputs.links, now)
        return f"it was made from another value of '{label}'" if label else self._changes.why_void(task, context)

    def _is_previous(self, inputs: Inputs, source: Task | None) -> bool:
        if source is None:
            return inputs.previous is None
        return (inputs.previous, inputs.source) == (source.task_id, source.current_context._origin.run)

    def _previous_of(self, task: Task) -> Task | None:
        return previous_of(task, self._tasks, self._previous)

    def _is_of_step(self, task: Task, identity: str) -> bool:
        links = self._tasks[task.task_id].links
        steps = (task.step, None if links is None else links.fallback)
        return any(step is not None and is_same_step(identity, step.identity) for step in steps)

    def _restore_map(self, task: LinkedTask, result: Restoration) -> None:
        unmet = self._unmet_need(task)
        reason = (None if task.step.checkpoint else unmet) or self._judge(task)
        if isinstance(reason, Skip):
            task._apply(TaskSkipped(task.task_id, reason.reason))
            return
        if self._open(task, result):
            valid = self._valid_items[task.task_id] = dict[int, Context]()
            judged = list(self._judge_items(task))
            for item, context, why in judged:
                if reason or why:
                    if task.step.checkpoint:
                        result.void.append((item, reason or why))
                else:
                    item._apply(TaskRestored(task.task_id, context, Context(), item.item))
                    valid[item.item] = context
            if valid and task.step.checkpoint:
                result.notes += notes_on(task, next(iter(valid.values())), self._initials[task.task_id])
            if not reason and all(item.status is COMPLETED for item in task.items) and (task.items or not unmet):
                if task.step.checkpoint:
                    result.whole_maps[task.task_id] = len(task.items)
                self._close(task)
                return
            result.is_finished = result.is_finished and (bool(unmet) or len(judged) == len(task.items))
        self._go_on_without(task, unmet)

    def _open(self, task: LinkedTask, result: Restoration) -> bool:
        """Makes the items of a map. Returns False if its lists are not known yet."""
        for each in task.links.each:
            source = self._tasks[each.source] if isinstance(each.source, int) else None
            if source is not None and not source.has_value and not (source.is_mapped and source.items):
                return False
            if source is not None and not source.step.checkpoint:
                return False
        try:
            items = make_items(task, lists_of(task, self._tasks))
        except Exception:  # NotAList, UnequalLists, or of a list type of the user; in the run it fails the task
            result.is_finished = False
            return False
        task._open(items)
        task._apply(MapOpened(task.task_id, len(items), Context().time, 0.0))
        return True

    def _close(self, task: LinkedTask) -> None:
        nothing = Context(None, task.task_id, task.workflow_id, step=task.step.identity)
        context = map_context(task, nothing)
        task._apply(MapEnded(task.task_id, context, None, context.time, 0.0))

    def _judge_items(self, task: LinkedTask) -> Iterator[tuple[Item, Context, str]]:
        """Yields each item that has a checkpoint, the checkpoint, and why that is void."""
        for item in task.items:
            context = self._checkpoint_of(item)
            if context is None:
                continue
            if any(not source.has_value for source in item.sources()):
                yield item, context, f"{TAKES} an item that runs again"
            else:
                yield item, context, self._why_void(item, context)
