"""LastRun: the results of a workflow's last run, and its runs of the past."""

from abc import ABC
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dotflow.core.context import Context
from dotflow.core.task import Task
from dotflow.core.types.status import TypeStatus
from dotflow.engine.run import Run
from dotflow.errors import HistoryError, NotRun

if TYPE_CHECKING:
    from dotflow.abc.archive import Since
    from dotflow.graph.builder import TaskBuilder
    from dotflow.graph.schema import WorkflowResult
    from dotflow.records.record import RunSummary


class LastRun(ABC):
    """The part of a workflow that returns the results of its last run, and the runs that its history has."""

    workflow_id: str
    name: str | None
    task: "TaskBuilder"
    config: Any

    def __init__(self) -> None:
        self._last: Run | None = None

    @property
    def last(self) -> Run:
        """The last run, from its start on. Raises NotRun before the first one."""
        if self._last is None:
            raise NotRun
        return self._last

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
        from dotflow.graph.schema import WorkflowResult

        run = self._last
        if run is None:
            return WorkflowResult.of(self.workflow_id, None, self.name, TypeStatus.NOT_STARTED, self.result_task())
        return WorkflowResult.of(run.workflow_id, run.run_id, run._name, run.status, run.tasks)

    def runs(
        self, state: str | Sequence[str] | None = None, since: "Since | None" = None, limit: int | None = 50
    ) -> "list[RunSummary]":
        """Returns the runs of this workflow, with any parameters, the newest first. It needs a `workflow_id`.

        Args:
            state: Only runs in this state, such as "failed", or in one of several.
            since: Only runs that began since this moment, or are not older than that: "2d".
            limit: The maximum number; None for all.

        Raises:
            HistoryError: There is no history, or it can't be read.
        """
        from dotflow.abc.archive import Archive  # here: a run does not need it

        history = self.config.history
        if not isinstance(history, Archive):
            reason = "it has no history that can be read. Write Config(history=HistorySQLite())"
            raise HistoryError("Can't list the runs of the workflow", reason)
        masks = self.config._find_secrets(self.task, are_required=False).masks
        return history.runs(state=state, workflow=masks.mask_id(self.workflow_id), since=since, limit=limit)
