"""Driver: records the events of one run in a history, by hand."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from dotflow.core import events
from dotflow.core.call import Call
from dotflow.core.context import Context
from dotflow.core.decorator import action
from dotflow.core.failure import Failure
from dotflow.core.outcome import Usage
from dotflow.core.policy import Policy
from dotflow.core.types.run_state import TypeRunState
from dotflow.core.types.status import TypeStatus

BEGAN: Final = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)
AWAY: Final = Failure("ConnectionError", "the warehouse is away", "Traceback (most recent call last):\n  ...\n")
STEPS: Final = (
    events.Planned("extract", "default", 0, "shop:extract", (), Policy(), "3.11:abc", ()),
    events.Planned("load", "left", 1, "shop:load", (0,), Policy(attempts=3), "", ("previous_context",)),
)
STATES: Final = ("Completed", "Failed", "Cancelled", "Interrupted")  # in which a run may end


class Driver:
    """One run, whose events are recorded one by one, a second apart."""

    def __init__(self, history: Any, run_id: str = "0123456789", workflow_id: str = "nightly", **more: Any) -> None:
        self.history, self.run_id, self.workflow_id = history, run_id, workflow_id
        self.seconds = 0.0
        self.began = BEGAN + timedelta(seconds=more.pop("offset", 0.0))
        steps: Sequence[events.Planned] = more.pop("steps", STEPS)
        self.send(events.RunStarted(workflow_id, run_id, len(steps), self.now, "nights", steps, **more))

    @property
    def now(self) -> datetime:
        return self.began + timedelta(seconds=self.seconds)

    def send(self, event: Any) -> None:
        self.history.record(self.run_id, event)
        self.seconds += 1

    def begin(self, task: int, attempt: int = 1, item: int | None = None, **more: Any) -> None:
        previous = more.pop("previous", Context())
        arguments = more.pop("arguments", None)
        step = action(lambda: None)
        call = Call(task, 0, step, Context(), previous, self.workflow_id, number=task, arguments=arguments)
        self.send(events.AttemptStarted(task, attempt, previous, self.now, self.seconds, item, call=call, **more))
        self.history.settle(self.run_id, True)

    def complete(self, task: int, value: object = None, item: int | None = None, usage: Usage | None = None) -> None:
        self.send(events.TaskCompleted(task, Context(value, task, time=self.now), self.seconds, item, usage))

    def fail(self, task: int, attempt: int = 1, item: int | None = None, failure: Failure = AWAY) -> None:
        self.send(events.TaskFailed(task, attempt, failure, self.now, self.seconds, item))

    def end(self, state: str = "Completed", reason: str = "") -> Any:
        """Ends the run, and returns its record."""
        status = TypeStatus.COMPLETED if state == "Completed" else TypeStatus.FAILED
        self.send(events.RunEnded(self.workflow_id, self.run_id, status, self.now, TypeRunState(state), reason))
        return self.load()

    def load(self) -> Any:
        return self.history.load(self.run_id)
