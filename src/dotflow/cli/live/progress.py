"""Progress: where the tasks of a run stand while it goes on, as its events tell."""

from collections.abc import Iterable
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

ENDED: Final = (TypeStatus.COMPLETED, TypeStatus.FAILED)


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
    """

    __slots__ = ("_began", "_ended", "attempt", "attempts", "group", "name", "restored", "retry_at", "status")

    def __init__(self, task: Task) -> None:
        self.name = one_line(task.name)
        self.group = one_line(task.group_name)
        self.attempts = task.step.policy.attempts
        self.status = TypeStatus.NOT_STARTED
        self.attempt = 0
        self.restored = False
        self.retry_at = 0.0
        self._began: float | None = None
        self._ended: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in ENDED

    def seconds(self, now: float) -> float | None:
        """How long it has taken, or took; None before it has begun, and where it need not run."""
        if self._began is None:
            return None
        return (now if self._ended is None else self._ended) - self._began

    def take(self, event: Event) -> None:
        """Notes what happened to it."""
        self.status = STATUS_AFTER[type(event)]
        match event:
            case AttemptStarted():
                self.attempt = event.attempt
                self._began = event.tick if self._began is None else self._began
            case AttemptFailed():
                self.retry_at = clock.monotonic() + event.retry_in
            case TaskCompleted() | TaskFailed():
                self._ended = event.tick
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

    def __init__(self, tasks: Iterable[Task], then: History | None = None) -> None:
        self.rows = [Row(task) for task in tasks]
        self.groups: dict[str, list[Row]] = {}
        for row in self.rows:
            self.groups.setdefault(row.group, []).append(row)
        self._then = then
        self._began: float | None = None

    def record(self, run_id: str, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._began = clock.monotonic()
        elif (place := getattr(event, "task_id", None)) is not None:
            self.rows[place].take(event)
        if self._then is not None:
            self._then.record(run_id, event)

    def seconds(self, now: float) -> float:
        """How long the run has taken so far."""
        return 0.0 if self._began is None else now - self._began
