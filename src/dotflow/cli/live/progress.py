"""Progress: the state of the tasks of a run, updated by its events."""

from collections.abc import Iterable
from dataclasses import dataclass

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


@dataclass(slots=True)
class Row:
    """The state of one task. Times are on the monotonic clock.

    Attributes:
        name: The name of the step.
        group: The group of the task.
        attempts: The number of attempts that the policy allows.
        status: The status.
        attempt: The number of the last attempt, from 1; 0 before.
        restored: Whether its value was restored.
        retry_at: The time of the next attempt; only while the status is RETRY.
        started: The time of the first attempt.
        ended: The time of its end.
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
        """Whether it has completed or failed."""
        return self.status in (TypeStatus.COMPLETED, TypeStatus.FAILED)

    def seconds(self, now: float) -> float | None:
        """Returns its duration so far; None before the first attempt, and for a restored task."""
        if self.started is None:
            return None
        return (now if self.ended is None else self.ended) - self.started

    def apply(self, event: Event) -> None:
        """Updates it by an event of its task."""
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
    """The state of all tasks of a run. It wraps the workflow's own history, which receives all events, too.

    Attributes:
        rows: A Row for each task, in order.
        groups: Name of a group -> its rows, in the order of their first tasks.

    Args:
        tasks: The tasks of the workflow.
        history: The history of the workflow, if it has one.
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
        """Returns the duration of the run so far."""
        return 0.0 if self._started is None else now - self._started
