"""LastRun: the results of a workflow's last run."""

from abc import ABC
from typing import TYPE_CHECKING, Any

from dotflow.core.context import Context
from dotflow.core.task import Task
from dotflow.core.types.status import TypeStatus
from dotflow.engine.run import Run

if TYPE_CHECKING:
    from dotflow.core.builder import TaskBuilder
    from dotflow.core.schema import WorkflowResult


class LastRun(ABC):
    """The part of a workflow that returns the results of its last run."""

    workflow_id: str
    name: str | None
    task: "TaskBuilder"

    def __init__(self) -> None:
        self._last: Run | None = None

    def result_task(self) -> list[Task]:
        """Returns the tasks of the last run, in the order of `add`; before the first run, the definitions."""
        return list(self.task if self._last is None else self._last.tasks)

    def result_context(self) -> list[Context]:
        """Returns their results as contexts; an empty one for a task without a result."""
        return [task.current_context for task in self.result_task()]

    def result_storage(self) -> list[Any]:
        """Returns their results; None for a task without a result."""
        return [task.current_context.storage for task in self.result_task()]

    def result(self) -> "WorkflowResult":
        """Returns the last run as a Pydantic model, whose JSON never fails. Before the first run, `run_id` is None."""
        from dotflow.core.schema import WorkflowResult

        run = self._last
        if run is None:
            return WorkflowResult.of(self.workflow_id, None, self.name, TypeStatus.NOT_STARTED, self.result_task())
        return WorkflowResult.of(run.workflow_id, run.run_id, self.name, run.status, run.tasks)
