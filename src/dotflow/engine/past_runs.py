"""PastRuns: the runs of a workflow that its history has."""

from abc import ABC
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dotflow.errors import HistoryError

if TYPE_CHECKING:
    from dotflow.abc.archive import Since
    from dotflow.core.record import RunSummary


class PastRuns(ABC):
    """The part of a workflow that lists its past runs."""

    workflow_id: str
    config: Any

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
        return history.runs(state=state, workflow=self.workflow_id, since=since, limit=limit)
