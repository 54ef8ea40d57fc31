"""ChangedCode: which checkpoints were made by other code than that of today, and which were asked to run again."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from dotflow.core.context import Context
from dotflow.core.fingerprint import can_compare, fingerprint
from dotflow.core.task import Task

CHANGED: Final = "its code has changed"
RERUN: Final = "rerun names it"


class ChangedCode:
    """Compares the code of the steps with that which made the checkpoints.

    The fingerprints are made here, before the first attempt: a step may change what it is made of.

    Args:
        tasks: The run's tasks.
        runs_again: Whether a task runs again if its code has changed.
        rerun: The ids of the tasks that run again in any case.

    Attributes:
        codes: The fingerprint of each task's step.
        fallbacks: Those of fallbacks, by task id.
        changed: The ids of the tasks whose code has changed.
        unknown: The ids of those whose code can't be compared.
    """

    def __init__(self, tasks: Sequence[Task], *, runs_again: bool = False, rerun: Collection[int] = ()) -> None:
        self._tasks = tasks
        for step in {task.step for task in tasks}:
            fingerprint(step)
        self.codes: Sequence[str] = [task.step._code or "" for task in tasks]
        self.fallbacks: Mapping[int, str] = {
            task.task_id: fingerprint(task.links.fallback)
            for task in tasks
            if task.links is not None and task.links.fallback is not None
        }
        self._runs_again = runs_again
        self._rerun = rerun
        self.changed: set[int] = set()
        self.unknown: set[int] = set()

    def code_of(self, task: Task, context: Context) -> str:
        """Returns the fingerprint of the step that made the value of a task or an item: its own, or its fallback's."""
        fallback = self.fallbacks.get(task.task_id)
        return self.codes[task.task_id] if fallback is None or context.step == task.step.identity else fallback

    def why_void(self, task: Task, context: Context) -> str:
        """Returns why the task or item runs again; "" if neither its code nor `rerun` is a reason."""
        if task.task_id in self._rerun:
            return RERUN
        saved, now = context._origin.code, self.code_of(task, context)
        if not saved or saved == now:
            if not saved:
                self.unknown.add(task.task_id)
            return ""
        if not can_compare(saved, now):
            self.unknown.add(task.task_id)
            return ""
        self.changed.add(task.task_id)
        return CHANGED if self._runs_again else ""

    def notes(self, restored: Collection[int]) -> list[str]:
        """Returns what to log once about the code of restored tasks."""
        notes = []
        if changed := self._names(self.changed, restored):
            notes.append(
                f"The code of {changed} has changed since the values were made, which are restored all the same. "
                f"resume='changed' runs changed steps again, and what needs them."
            )
        if self._runs_again and (unknown := self._names(self.unknown, restored)):
            notes.append(
                f"Whether the code of {unknown} has changed is unknown, since another Python or an earlier dotflow "
                f"made the values. They are restored. rerun=[...] runs steps again."
            )
        return notes

    def _names(self, ids: Collection[int], restored: Collection[int]) -> str:
        return ", ".join(f"'{self._tasks[task_id].name}'" for task_id in sorted(ids) if task_id in restored)
