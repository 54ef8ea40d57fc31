"""ExecutorContract itself: what breaks a promise does not pass, and says how."""

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from dotflow.abc.executor import CompletedCall, Executor, ExecutorSession, Report
from dotflow.core.call import Call
from dotflow.core.outcome import Interrupted, Outcome
from dotflow.core.task import Task
from dotflow.testing import ExecutorContract
from dotflow.testing.contracts import executor as contract
from dotflow.worker.attempt import attempt
from dotflow.worker.loops import Loops


class PassesOn(ExecutorSession):
    """A thread for each call, which it passes on as it is."""

    def __init__(self) -> None:
        self._completed: queue.SimpleQueue[CompletedCall | None] = queue.SimpleQueue()

    def submit(self, call: Call) -> None:
        threading.Thread(target=self._work, args=(call,), daemon=True).start()

    def _work(self, call: Call) -> None:
        try:
            outcome: Outcome = attempt(call, Loops(own_thread=True))
        except KeyboardInterrupt:
            outcome = Interrupted()
        self._completed.put((call, outcome))

    def wait(self, timeout: float | None) -> Sequence[CompletedCall]:
        try:
            completed = self._completed.get(timeout=timeout)
        except queue.Empty:
            return []
        return [] if completed is None else [completed]

    def wake(self) -> None:
        self._completed.put(None)

    def close(self) -> None:
        """Its threads are daemons."""


class KeepsBooksByTask(PassesOn):
    """Looks calls up by their tasks."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: dict[int, Call] = {}

    def submit(self, call: Call) -> None:
        self._calls[call.task_id] = call
        super().submit(call)

    def wait(self, timeout: float | None) -> Sequence[CompletedCall]:
        return [(self._calls[call.task_id], outcome) for call, outcome in super().wait(timeout)]


class HoldsOnePerTask(PassesOn):
    """Takes a second call of a task for the first one, sent again."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[int] = set()

    def submit(self, call: Call) -> None:
        if call.task_id not in self._seen:
            self._seen.add(call.task_id)
            super().submit(call)


class ForgetsArguments(PassesOn):
    """Makes calls of its own, as it knew them once."""

    def submit(self, call: Call) -> None:
        super().submit(Call(*call[:6], number=call.number))


class ForgetsWhatIsShared(PassesOn):
    """Sends only what is each call's own."""

    def submit(self, call: Call) -> None:
        super().submit(call._replace(shared=None))


class UsesTheTasksStep(PassesOn):
    """Takes the step from the task."""

    def submit(self, call: Call) -> None:
        super().submit(call._replace(step=contract.TASKS[call.task_id].step))


class Threads(Executor):
    """An executor with one of these sessions."""

    def __init__(self, session: Callable[[], ExecutorSession]) -> None:
        self._session = session

    def open(self, tasks: Mapping[int, Task], report: Report) -> ExecutorSession:
        return self._session()


class TestAnExecutorThatPassesCallsOn(ExecutorContract):
    """An executor that knows nothing of items, arguments and fallbacks keeps the promises."""

    @pytest.fixture
    def executor(self) -> Executor:
        return Threads(PassesOn)


@pytest.mark.parametrize(
    ("session", "promise", "message"),
    [
        (KeepsBooksByTask, "test_calls_of_one_task_are_told_apart", "by its number"),
        (HoldsOnePerTask, "test_calls_of_one_task_are_told_apart", r"no outcome of [45] of 5 calls.*by its number"),
        (ForgetsArguments, "test_arguments_reach_the_step", "TypeError"),
        (ForgetsWhatIsShared, "test_calls_of_one_task_are_told_apart", "TypeError"),
        (UsesTheTasksStep, "test_a_fallback_is_the_calls_step", "TypeError"),
    ],
)
def test_a_broken_promise_fails_its_test(
    session: Callable[[], Any], promise: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails, and the message is about what is wrong."""
    is_lost = message != "TypeError"  # an outcome, for which the contract waits in vain
    monkeypatch.setattr(contract, "SECONDS", 0.5 if is_lost else 30)

    with pytest.raises(AssertionError, match=message):
        getattr(ExecutorContract(), promise)(session())
