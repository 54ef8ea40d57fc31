"""Driver: records the events of one run in a history, by hand."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from dotflow.core.call import Call
from dotflow.core.context import Context
from dotflow.core.decorator import action
from dotflow.core.events import AttemptStarted, Planned, RunEnded, RunStarted, TaskCompleted, TaskFailed
from dotflow.core.failure import Failure
from dotflow.core.outcome import Usage
from dotflow.core.policy import Policy
from dotflow.core.record import RunRecord
from dotflow.core.types.run_state import TypeRunState
from dotflow.core.types.status import TypeStatus

BEGAN: Final = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)
AWAY: Final = Failure("ConnectionError", "the warehouse is away", "Traceback (most recent call last):\n  ...\n")
STEPS: Final = (
    Planned("extract", "default", 0, "shop:extract", (), Policy(), "3.11:abc", ()),
    Planned("load", "left", 1, "shop:load", (0,), Policy(attempts=3), "", ("previous_context",)),
)

ENDS: Final = {
    TypeRunState.COMPLETED: TypeStatus.COMPLETED,
    TypeRunState.FAILED: TypeStatus.FAILED,
    TypeRunState.CANCELLED: TypeStatus.FAILED,
    TypeRunState.INTERRUPTED: TypeStatus.FAILED,
}


@action
def step() -> None:
    """The step of the attempts."""


class UnknownEvent(NamedTuple):
    """An event of a later version."""

    task_id: int


class Driver:
    """One run, whose events are recorded one by one, a second apart."""

    def __init__(self, history: Any, run_id: str = "0123456789", workflow_id: str = "nightly", **more: Any) -> None:
        self.history = history
        self.run_id = run_id
        self.workflow_id = workflow_id
        self.seconds = 0.0
        self.offset = more.pop("offset", 0.0)
        steps: Sequence[Planned] = more.pop("steps", STEPS)
        self.send(RunStarted(workflow_id, run_id, len(steps), self.now, "nights", steps, **more))

    @property
    def now(self) -> datetime:
        return BEGAN + timedelta(seconds=self.offset + self.seconds)

    def send(self, *events: Any) -> None:
        """Records events, one second apart."""
        for event in events:
            self.history.record(self.run_id, event)
            self.seconds += 1

    def begin(self, task: int, attempt: int = 1, item: int | None = None, **more: Any) -> None:
        previous = more.pop("previous", Context())
        arguments = more.pop("arguments", None)
        call = Call(task, 0, step, Context(), previous, self.workflow_id, number=task, arguments=arguments)
        self.send(AttemptStarted(task, attempt, previous, self.now, self.seconds, item, call=call, **more))
        self.history.settle(self.run_id, True)

    def complete(self, task: int, value: object = None, item: int | None = None, usage: Usage | None = None) -> None:
        self.send(TaskCompleted(task, Context(value, task, time=self.now), self.seconds, item, usage))

    def fail(self, task: int, attempt: int = 1, item: int | None = None, failure: Failure = AWAY) -> None:
        self.send(TaskFailed(task, attempt, failure, self.now, self.seconds, item))

    def end(self, state: TypeRunState = TypeRunState.COMPLETED, reason: str = "") -> None:
        self.send(RunEnded(self.workflow_id, self.run_id, ENDS[state], self.now, state, reason))

    def load(self) -> RunRecord:
        record: RunRecord = self.history.load(self.run_id)
        return record
