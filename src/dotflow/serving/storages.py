"""Storages: finds servers of another history that fire the same schedules and share the storage."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Final

from dotflow import clock
from dotflow.abc.history import History
from dotflow.abc.operations import QueueServer
from dotflow.abc.storage import NOT_SAVED, Storage
from dotflow.abc.workflow import ServedWorkflow
from dotflow.core.context import Context
from dotflow.errors import CheckpointUnreadable, DotflowError, WorkflowBusy
from dotflow.providers.schedulers.cron import SchedulerCron

RETRY: Final = 60.0  # seconds until a lock that another server has is tried again
PREFIX: Final = "@serve:"  # of the names of the locks; no workflow is called so
NAME: Final = "@server"  # of the document beside it, in place of a task's name


class Storages:
    """Holds a lock in the storage of each workflow with a schedule, and writes there which server has it.

    The lock ends with its process. So a server that finds the lock taken by a server that its history does not know
    shares the storage with another history, which fires the same moments once more. A server that has moved, or begun
    with a new history, finds the lock free.

    Args:
        workflows: The workflows.
        history: The history.
        server: This process in it.
        report: Writes a line into the log.
    """

    def __init__(
        self,
        workflows: Sequence[ServedWorkflow],
        history: History,
        server: QueueServer,
        report: Callable[[str], None],
    ) -> None:
        self._waiting = {
            workflow.workflow_id: workflow.config.storage
            for workflow in workflows
            if isinstance(workflow.config.scheduler, SchedulerCron) and workflow.config.storage.outlives_process
        }
        self._document = {"server": server.server_id, "history": f"{history!r}"}
        self._server = server
        self._report = report
        self._reported: set[str] = set()
        self._held = contextlib.ExitStack()
        self._again_at = 0.0

    def look(self) -> None:
        """Takes the locks that are free. Reports those that a server of another history has, once."""
        if not self._waiting or clock.monotonic() < self._again_at:
            return
        self._again_at = clock.monotonic() + RETRY
        for workflow_id, storage in list(self._waiting.items()):
            try:
                self._take(workflow_id, storage)
            except WorkflowBusy as busy:
                self._compare(workflow_id, storage, busy.holder)
            except (OSError, DotflowError):  # its runs report what is wrong with the storage
                continue
            else:
                del self._waiting[workflow_id]

    def close(self) -> None:
        """Gives the locks back."""
        self._held.close()

    def _take(self, workflow_id: str, storage: Storage) -> None:
        name = PREFIX + workflow_id
        with contextlib.ExitStack() as entered:
            if entered.enter_context(storage.lock(name)) is None:  # it locks nothing
                return
            storage.post(f"{name}/{NAME}", Context(self._document))
            self._held.enter_context(entered.pop_all())

    def _compare(self, workflow_id: str, storage: Storage, holder: str) -> None:
        found: Any = None
        with contextlib.suppress(OSError, CheckpointUnreadable, *NOT_SAVED):
            found = storage.get(f"{PREFIX}{workflow_id}/{NAME}").storage
        if not isinstance(found, dict) or workflow_id in self._reported:
            return
        server, history = found.get("server"), found.get("history")
        if isinstance(server, str) and isinstance(history, str) and not self._server.knows(server):
            self._reported.add(workflow_id)
            self._report(
                f"{workflow_id!r} has the same storage in {holder}, which serves it from another history, {history}: "
                f"both begin each scheduled run. Give all servers of a storage one history."
            )
