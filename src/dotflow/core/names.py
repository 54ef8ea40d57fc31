"""Names: which task is meant by a name or a step."""

from collections.abc import Collection, Sequence
from typing import Any

from dotflow.core.action import Action
from dotflow.core.steps import as_actions
from dotflow.core.task import Task
from dotflow.errors import AmbiguousTask, DefinitionError, UnknownTask

#: A task, as users refer to it: its name, or the step that it was made of.
TaskRef = str | Action[..., Any] | type[Any]


class Names:
    """The tasks of a workflow by their names: `name=...`, or the last part of their step's name.

    It looks at each task once, and only when a task is asked for, since most workflows never ask.
    """

    def __init__(self) -> None:
        self._ids: dict[str, list[int]] = {}
        self._count = 0

    def update(self, tasks: Sequence[Task]) -> None:
        """Takes in the tasks that were added since."""
        for task in tasks[self._count :]:
            self._ids.setdefault(name_of(task), []).append(task.task_id)
        self._count = len(tasks)

    def alias(self, name: str, task_id: int) -> None:
        """Gives a task one more name."""
        self._ids.setdefault(name, []).append(task_id)

    def forget(self, count: int) -> None:
        """Leaves only the first *count* tasks."""
        for name, ids in list(self._ids.items()):
            self._ids[name] = [task_id for task_id in ids if task_id < count]
            if not self._ids[name]:
                del self._ids[name]
        self._count = min(self._count, count)

    def __contains__(self, name: object) -> bool:
        return name in self._ids

    def __iter__(self) -> Any:
        return iter(self._ids)

    def find(self, name: str) -> int | None:
        """Returns the id of the task of that name; None where there is none. Raises AmbiguousTask."""
        ids = self._ids.get(name)
        if ids is None:
            return None
        if len(ids) > 1:
            raise AmbiguousTask(name, tuple(ids))
        return ids[0]

    def resolve(self, ref: object, tasks: Sequence[Task], params: Collection[str] = ()) -> int:
        """Returns the id of the task that a name or a step means.

        Args:
            ref: The name or the step.
            tasks: The tasks so far.
            params: The run's parameters, for a better hint.

        Raises UnknownTask or AmbiguousTask.
        """
        if isinstance(ref, str):
            found = self.find(ref)
            if found is None:
                raise UnknownTask(ref, (*self._ids, *params))
            return found
        step = _step_of(ref)
        ids = [] if step is None else [task.task_id for task in tasks if _is_same(task.step, step)]
        if not ids:
            raise UnknownTask(repr(ref) if step is None else step.name, (*self._ids, *params))
        if len(ids) > 1:
            raise AmbiguousTask(name_of(tasks[ids[0]]), tuple(ids))
        return ids[0]


def name_of(task: Task) -> str:
    """Returns the name that other tasks refer to: the one given, or the last part of the step's."""
    given = None if task.links is None else task.links.name
    return given or task.step.name.rpartition(".")[2]


def _step_of(ref: object) -> Action[..., Any] | None:
    try:
        return as_actions(ref)[0]
    except DefinitionError:
        return None


def _is_same(one: Action[..., Any], other: Action[..., Any]) -> bool:
    return one is other or (one.identity == other.identity and one.function == other.function)
