"""WorkflowPlan: the dry run, as `plan()` returns it; imported on first use."""

from collections.abc import Iterator
from typing import Final

from dotflow.core.types.decision import TypeDecision
from dotflow.graph.schema import FrozenModel, Text

MAX_REMOVED: Final = 10  # names in the text; the model has all


class PlannedTask(FrozenModel):
    """What a run would do with one task: its forecast.

    Attributes:
        task_id: The position in the order of `add`.
        name: The name.
        step: The step, `module:qualname`.
        needs: The names of the tasks that must end before it.
        decision: "run", "restore", "cached", "skip" or "open".
        reason: The reason; empty for none.
        items: The number of items of a mapped task; None where it is not known yet, and for every other task.
        items_done: The number of items that don't run, since they are restored, cached or skipped.
        items_cached: The number of these that are in the cache and have no checkpoint, where other items run.
        items_skipped: The number of these that are skipped: by a condition, or since nothing needs them.
    """

    task_id: int
    name: Text
    step: Text
    needs: list[Text]
    decision: TypeDecision
    reason: Text
    items: int | None = None
    items_done: int = 0
    items_cached: int = 0
    items_skipped: int = 0


class WorkflowPlan(FrozenModel):
    """The dry run: what a run would do. `str(plan)` is the text that `dotflow plan` prints.

    Attributes:
        workflow_id: The id of the run's values.
        tasks: The tasks, in the order of `add`.
        removed: The names, or ids, of tasks that have a value in the storage and are not in the workflow.
    """

    workflow_id: Text
    tasks: list[PlannedTask]
    removed: list[Text]

    def count(self, decision: str) -> int:
        """Returns the number of tasks with a decision."""
        return sum(task.decision == decision for task in self.tasks)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        rows = [(f"{task.task_id} {task.name}", _decision(task), _reason(task)) for task in self.tasks]
        first, second = (max((len(row[column]) for row in rows), default=0) for column in (0, 1))
        for row in rows:
            yield f"{row[0]:{first}}  {row[1]:{second}}  {row[2]}".rstrip()
        words = {"restored": "restore", "run": "run", "cached": "cached", "open": "open", "skipped": "skip"}
        yield f"{', '.join(f'{self.count(decision)} {word}' for word, decision in words.items())}."
        if self.removed:
            more = f" and {len(self.removed) - MAX_REMOVED} more" if len(self.removed) > MAX_REMOVED else ""
            yield f"In the storage and no longer in the workflow: {', '.join(self.removed[:MAX_REMOVED])}{more}"


def _decision(task: PlannedTask) -> str:
    if task.items is None or task.decision is TypeDecision.SKIP:
        return str(task.decision)
    if task.decision is TypeDecision.RUN:
        return f"run {task.items - task.items_done} of {task.items}"
    return f"{task.decision} {task.items} item{'s' * (task.items != 1)}"


def _reason(task: PlannedTask) -> str:
    parts = []
    if task.decision is TypeDecision.RUN:
        restored = task.items_done - task.items_cached - task.items_skipped
        counts = {"restored": restored, "cached": task.items_cached, "skipped": task.items_skipped}
        parts = [f"{count} {word}" for word, count in counts.items() if count]
    return ", ".join(filter(None, [*parts, task.reason]))
