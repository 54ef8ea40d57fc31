"""The inputs of a task of an earlier run, from the values that its storage still has. It only reads."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from dotflow.abc.storage import Storage
from dotflow.core.context import NOTHING, Context
from dotflow.core.links import Carried
from dotflow.core.task import Task
from dotflow.errors import NotInHistory
from dotflow.graph.gather import Arguments, ByItem, Skip, arguments
from dotflow.graph.linked_task import LinkedTask
from dotflow.graph.maps import open_map
from dotflow.graph.params import Params
from dotflow.graph.plan import Plan
from dotflow.graph.wiring import PREVIOUS
from dotflow.resume.changed_code import ChangedCode
from dotflow.resume.earlier_runs import EarlierRuns, Restoration
from dotflow.resume.journal import Journal
from dotflow.resume.tokens import Tokens

#: Returns whether the run had this value: that of a task, or of an item of it.
IsOfRun = Callable[[Context, int, int | None], bool]


class TaskInputs(NamedTuple):
    """What an attempt takes: its contexts, and its other arguments by parameter."""

    previous: Context = NOTHING
    initial: Context = NOTHING
    arguments: Mapping[str, Any] = {}


class StoredInputs:
    """The inputs of the tasks of one earlier run.

    Args:
        storage: Where its values are.
        tasks: New records of the tasks of today's workflow, with the id of the run's workflow.
        plan: The run's plan, in its mode.
        params: The parameters of the run.
        without_value: The tasks that had no value in the run: they failed or were skipped.
        is_of_run: Whether the run had a value.
    """

    def __init__(
        self,
        storage: Storage,
        tasks: Sequence[Task],
        plan: Plan,
        params: Params,
        without_value: Collection[int],
        is_of_run: IsOfRun,
    ) -> None:
        self._storage = storage
        self._tasks = tasks
        self._tokens = Tokens(tasks, plan.previous, params)
        self._params = params
        self._without_value = without_value
        self._is_of_run = is_of_run
        restoration = find_stored(storage, self._tokens)
        self._void = {} if restoration is None else {task.task_id: why.text for task, why in restoration.void}

    def of(self, task_id: int, item: int | None, fallback: int | None = None) -> TaskInputs:
        """Returns the inputs of a task, of an item, or of a fallback of theirs, by its index.

        Raises NotInHistory: A value is not there, or that of another run.
        """
        task = self._tasks[task_id]
        before, links = self._tokens.previous_of(task), task.links
        source = None if before is None else before.task_id
        taken = {*([] if links is None else links.value_sources()), *([] if source is None else [source])}
        whole = {needed for needed in taken if not self._tasks[needed].is_mapped}
        for needed in (whole if links is None else whole | links.whole_value_sources()) - {*self._without_value}:
            self._check(self._tasks[needed])
        previous = Context() if source is None or source in self._without_value else self._tasks[source].current_context
        initial = task.initial_context if task.has_initial else NOTHING
        if links is None:
            return TaskInputs(previous, initial)
        values = _expect(task, arguments(links, self._tasks, self._params, fallback=fallback))
        if item:  # from the second round on, these are carried
            carried = {
                bind.parameter for bind in (*links.binds, *links.fallback_binds) if isinstance(bind.source, Carried)
            }
            values = {name: value for name, value in values.items() if name not in carried}
        own = {} if item is None else self._arguments_of(task, item, fallback if links.nest is not None else None)
        if PREVIOUS in own:
            previous = Context(own.pop(PREVIOUS))
        if fallback is not None:
            named = links.fallbacks[fallback].step.named_params
            own = {name: value for name, value in own.items() if name in named}
        return TaskInputs(previous, initial, {**values, **own})

    def _arguments_of(self, task: Task, index: int, fallback: int | None) -> Arguments:
        """Returns the arguments of an item beside those that all items share."""
        assert isinstance(task, LinkedTask)
        if not task.items:
            open_map(task, self._tokens.root, self._params)
        if index >= len(task.items):
            raise NotInHistory(f"Can't find item {index} of '{task.name}'", f"its list has {len(task.items)} items now")
        item = task.items[index]
        inputs = ByItem(task, self._tasks)
        for source in inputs.value_sources(item):
            if source.task_id not in self._without_value:
                self._check_value(source, source.current_context, source.has_value)
        return _expect(task, inputs.arguments(item) if fallback is None else inputs.fallback_arguments(item, fallback))

    def _check(self, task: Task) -> None:
        """Raises NotInHistory unless the storage has the value that the task had in the run."""
        if not task.is_mapped or not task.has_value:
            self._check_value(task, task.current_context, task.has_value)
            return
        for item in task.items:
            self._check_value(item, item.current_context, True)

    def _check_value(self, task: Task, context: Context, is_there: bool) -> None:
        where, what = type(self._storage).__name__, f"Can't find the value of '{task.name}'"
        if not task.step.checkpoint:
            raise NotInHistory(what, "its step has checkpoint=False")
        if not is_there:
            raise NotInHistory(what, self._void.get(task.task_id, f"{where} does not have it, or no longer"))
        if not self._is_of_run(context, task.task_id, task.item):
            raise NotInHistory(what, f"that in {where} is of another run")


def find_stored(storage: Storage, tokens: Tokens) -> Restoration | None:
    """Records in the tasks of *tokens* the values that a resume would restore; returns the decisions.

    A resume would restore what the last run had, until a newer one voids it.
    """
    journal = Journal(storage, tokens.tasks[0].workflow_id, tokens.tasks)
    return EarlierRuns(storage, journal, tokens, ChangedCode(tokens), lambda line: None, resume=True).decide()


def _expect(task: Task, values: Arguments | Skip) -> Arguments:
    if isinstance(values, Skip):
        raise NotInHistory(f"Can't find the arguments of '{task.name}'", values.reason)
    return values
