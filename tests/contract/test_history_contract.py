"""HistoryContract itself: what breaks a promise does not pass."""

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dotflow.core.events import AttemptOutput, AttemptRepeated, Event, RunEnded, TaskCompleted, TaskRestored
from dotflow.core.types.run_state import TypeRunState
from dotflow.providers import HistorySQLite
from dotflow.testing import HistoryContract
from dotflow.testing.contracts.history import Driver

Change = Callable[[Event], Event | None]


class Changed(HistorySQLite):
    """Records other events than it receives."""

    change: Change = staticmethod(lambda event: event)

    def record(self, run_id: str, event: Event) -> None:
        changed = self.change(event)
        if changed is not None:
            super().record(run_id, changed)


@pytest.fixture
def history(tmp_path: Path) -> Iterator[Changed]:
    history = Changed(tmp_path / "history.db", keep=None)
    yield history
    history.close()


def loses(kind: type) -> Change:
    return lambda event: None if isinstance(event, kind) else event


def replaces(kind: type, **fields: Any) -> Change:
    return lambda event: event._replace(**fields) if isinstance(event, kind) else event


@pytest.mark.parametrize(
    ("change", "promise", "arguments"),
    [
        (loses(AttemptRepeated), "test_failed_attempts", ()),
        (loses(AttemptOutput), "test_output", ()),
        (replaces(AttemptOutput, stream=1), "test_output", ()),
        (loses(RunEnded), "test_the_end_of_a_run", (TypeRunState.COMPLETED,)),
        (replaces(RunEnded, state=TypeRunState.FAILED), "test_the_end_of_a_run", (TypeRunState.CANCELLED,)),
        (replaces(TaskRestored, source="checkpoint"), "test_restored_values", ("cache",)),
        (replaces(TaskCompleted, usage=None), "test_a_completed_task", ()),
        (replaces(TaskCompleted, item=None), "test_items", ()),
    ],
)
def test_a_broken_promise_fails_its_test(
    change: Change, promise: str, arguments: Any, history: Changed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A history that loses or changes what it receives fails the test of that."""
    monkeypatch.setattr(history, "change", change)

    test = getattr(HistoryContract(), promise)
    subject = Driver(history) if "driver" in inspect.signature(test).parameters else history
    with pytest.raises((AssertionError, LookupError)):
        test(*arguments, subject)


def test_a_history_that_saves_late(history: Changed, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that has begun is there after settle(), not at the end of the run."""
    monkeypatch.setattr(history, "settle", lambda run_id, begins: None)

    with pytest.raises(AssertionError):
        HistoryContract().test_an_attempt_that_has_begun_can_be_read(Driver(history))
