"""ShownRun: the part of a run that shows it, as a page and in a notebook."""

import os
from abc import ABC
from pathlib import Path
from typing import TYPE_CHECKING

from dotflow import clock
from dotflow.abc.history import ForwardingHistory
from dotflow.core.events import RunEnded, RunStarted
from dotflow.core.task import Task
from dotflow.core.types.run_state import TypeRunState
from dotflow.engine.run_providers import RunProviders
from dotflow.errors import HistoryError
from dotflow.graph.plan import Plan

if TYPE_CHECKING:
    from dotflow.records.record import RunRecord


class ShownRun(ABC):
    """The part of a run that shows it."""

    workflow_id: str
    run_id: str
    tasks: list[Task]
    state: TypeRunState
    _plan: Plan
    _providers: RunProviders
    _started: RunStarted | None
    _ended: RunEnded | None

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Writes the run as one HTML file, to look at or to mail: as a whole or not at all. Returns the path.

        The file has what the history knows of the run. Without a history, it lacks the output of the steps and the
        times of single attempts, and says so. Secrets are masked.

        Raises:
            OSError: The file can't be written.
        """
        from dotflow.abc.archive import Archive  # here: a run does not need them
        from dotflow.records.run_record import NO_ARCHIVE, NO_HISTORY
        from dotflow.report.document import document
        from dotflow.report.page import write_page

        history = self._providers.history
        while isinstance(history, ForwardingHistory):
            history = history.inner
        note = NO_HISTORY if history is None else NO_ARCHIVE
        if isinstance(history, Archive):
            try:
                return history.report(self.run_id, path)
            except HistoryError as error:
                note = str(error)
        return write_page(path, document(self._record(note), output={"output": None}))

    def _repr_html_(self) -> str:
        """Shows its state, its timeline and what failed in a notebook."""
        from dotflow.report.notebook import notebook_html  # here: only a notebook needs it

        return notebook_html(self._record(""))

    def _record(self, note: str) -> "RunRecord":
        from dotflow.records.run_record import run_record

        started = self._started or RunStarted(self.workflow_id, self.run_id, len(self.tasks), clock.now())
        return run_record(started, self._ended, self.state, self.tasks, self._plan, note)
