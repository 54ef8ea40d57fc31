"""Progress: where the tasks of a run stand while it goes on, as its events tell."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from dotflow import clock
from dotflow.abc.history import History
from dotflow.cli.formatting import one_line
from dotflow.core.events import (
    AttemptFailed,
    AttemptStarted,
    Event,
    RunStarted,
    TaskCompleted,
    TaskFailed,
    TaskRestored,
)
from dotflow.core.task import STATUS_AFTER, Task
from dotflow.core.types.status import TypeStatus

DONE: Final = (TypeStatus.COMPLETED, TypeStatus.FAILED)


@dataclass(slots=True)
class Row:
    """One task.

    Attributes:
        name: The step's.
        group: The group it belongs to.
        attempts: How many it may have.
        status: Where it stands.
        attempt: The number of its last attempt, from 1; 0 before.
        restored: Whether its value was found, so that it did not run.
        retry_at: When its next attempt begins, on the monotonic clock; only while its status is RETRY.
        began: When its first attempt began, on that clock.
        ended: When it ended.
    """

    name: str
    group: str
    attempts: int
    status: TypeStatus = TypeStatus.NOT_STARTED
    attempt: int = 0
    restored: bool = False
    retry_at: float = 0.0
    started: float | None = None
    ended: float | None = None

    @property
    def is_done(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in DONE

    def seconds(self, now: float) -> float | None:
        """How long it has taken, or took; None before it has begun, and where it need not run."""
        if self.started is None:
            return None
        return (now if self.ended is None else self.ended) - self.started

    def apply(self, event: Event) -> None:
        """Notes what happened to it."""
        self.status = STATUS_AFTER[type(event)]
        match event:
            case AttemptStarted():
                self.attempt = event.attempt
                self.started = event.tick if self.started is None else self.started
            case AttemptFailed():
                self.retry_at = clock.monotonic() + event.retry_in
            case TaskCompleted() | TaskFailed():
                self.ended = event.tick
            case TaskRestored():
                self.restored = True


class Progress(History):
    """All tasks of a run. It stands in for the workflow's own history, which is told as before.

    Attributes:
        rows: A Row for each task, in order.
        groups: The same by group, in the order in which the groups were first named.

    Args:
        tasks: The workflow's tasks.
        then: The workflow's own history, if it has one.
    """

    def __init__(self, tasks: Iterable[Task], history: History | None = None) -> None:
        self.rows = [Row(one_line(task.name), one_line(task.group_name), task.step.policy.attempts) for task in tasks]
        self.groups: dict[str, list[Row]] = {}
        for row in self.rows:
            self.groups.setdefault(row.group, []).append(row)
        self._history = history
        self._started: float | None = None

    def record(self, run_id: str, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._started = clock.monotonic()
        elif (task_id := getattr(event, "task_id", None)) is not None:
            self.rows[task_id].apply(event)
        if self._history is not None:
            self._history.record(run_id, event)

    def seconds(self, now: float) -> float:
        """How long the run has taken so far."""
        return 0.0 if self._started is None else now - self._started
