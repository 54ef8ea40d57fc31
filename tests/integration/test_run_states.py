"""The state of a run, what its first and last events carry, and the parents of nested runs."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, Context, DotFlow, Run, action
from dotflow.abc.executor import Executor
from dotflow.abc.history import History, Listener
from dotflow.core.attempt_id import AttemptId, current_attempt, triggered_by
from dotflow.core.events import AttemptStarted, Event, RunEnded, RunStarted, TaskCompleted
from dotflow.core.types.run_state import TypeRunState
from dotflow.core.types.status import TypeStatus
from dotflow.providers import ExecutorAsync, ExecutorProcess, ExecutorThread


class Recorder(History):
    """Keeps the events, and the requests to save them."""

    measures_usage = True

    def __init__(self) -> None:
        self.events: list[Any] = []

    def record(self, run_id: str, event: Event) -> None:
        self.events.append(event)

    def settle(self, run_id: str, begins: bool) -> float | None:
        self.events.append(begins)
        return None

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@action
def one() -> int:
    return 1


@action
def fails() -> None:
    raise ValueError("no")


@action
def interrupts() -> None:
    raise KeyboardInterrupt


@action
def which() -> AttemptId | None:
    return current_attempt.get()


@action
def is_settled(initial_context: Context) -> bool:
    attempt = current_attempt.get()
    return attempt is not None and str(attempt.task_id) in initial_context.storage.read_text().split()


@action
async def which_async() -> AttemptId | None:
    return current_attempt.get()


@action(timeout=20)
def which_in_time() -> AttemptId | None:
    return current_attempt.get()


@action(isolate=True)
def which_alone() -> AttemptId | None:
    return current_attempt.get()


def workflow_of(*steps: Callable[..., Any], **providers: Any) -> tuple[DotFlow, Recorder]:
    history = Recorder()
    workflow = DotFlow(Config(history=history, **providers), name="nightly")
    for step in steps:
        workflow.task.add(step)
    return workflow, history


@pytest.mark.parametrize(
    ("steps", "state"),
    [((one,), TypeRunState.COMPLETED), ((one, fails), TypeRunState.FAILED), ((fails, one), TypeRunState.FAILED)],
)
def test_a_run_that_ends_by_itself(steps: Any, state: TypeRunState) -> None:
    """It is Completed or Failed, and there is no reason."""
    workflow, history = workflow_of(*steps)

    run = workflow.start()

    (ended,) = history.of(RunEnded)
    assert (run.state, ended.state, ended.reason) == (state, state, "")


def test_a_cancelled_run_is_cancelled() -> None:
    """A run in which a task was cancelled is Cancelled, and not just Failed."""
    begun = threading.Event()

    @action
    def waits() -> None:
        begun.set()
        while True:
            time.sleep(0.001)

    workflow, history = workflow_of(waits)
    run = workflow.start("background")
    begun.wait(20)
    states = [run.state]
    run.cancel()
    run.wait()

    (ended,) = history.of(RunEnded)
    assert [*states, run.state, ended.state] == ["Running", "Cancelled", "Cancelled"]
    assert ended.reason == "the run was cancelled"


def test_an_interrupted_run_is_interrupted() -> None:
    """Ctrl-C in a step makes the run Interrupted."""
    workflow, history = workflow_of(interrupts)

    with pytest.raises(KeyboardInterrupt):
        workflow.start()

    (ended,) = history.of(RunEnded)
    assert (ended.state, ended.reason) == ("Interrupted", "the run was interrupted")


def test_an_error_of_dotflow_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that an error of dotflow or of a provider ends is Failed, with that error."""

    def breaks(*_: object) -> None:
        raise OSError("no threads left")

    monkeypatch.setattr("dotflow.providers.executors.inline.attempt", breaks)
    workflow, history = workflow_of(one)

    with pytest.raises(OSError, match="no threads left"):
        workflow.start()

    (ended,) = history.of(RunEnded)
    assert (ended.state, ended.reason) == ("Failed", "the run was ended by OSError: no threads left")


def test_the_first_event_describes_the_run() -> None:
    """RunStarted carries the mode, the trigger, the storage, and of each task its code and what it needs."""
    workflow, history = workflow_of(one, which_in_time)

    with triggered_by("schedule"):
        workflow.start()
    workflow.start(resume=True)

    first, second = history.of(RunStarted)
    assert (first.mode, first.trigger, first.storage, first.resumed) == (
        "sequential",
        "schedule",
        "StorageDefault",
        False,
    )
    assert (second.trigger, second.resumed) == ("", True)
    before, after = first.steps
    assert before.identity.endswith("test_run_states:one")
    assert (before.needs, after.needs, after.lane) == ((), (0,), 0)
    assert after.policy is not None
    assert after.policy.timeout == 20
    assert before.code
    assert before.code != after.code


@pytest.mark.parametrize("step", [which, which_async, which_in_time, which_alone], ids=lambda step: step.name)
@pytest.mark.parametrize(
    ("mode", "executor"),
    [("sequential", None), ("parallel", None), ("parallel", ExecutorThread())],
    ids=["inline", "processes", "threads"],
)
@pytest.mark.processes
def test_a_step_knows_its_attempt(step: Any, mode: str, executor: Any) -> None:
    """In each place where a step runs, the context variable holds its attempt."""
    workflow, _ = workflow_of(one, step, executor=executor)

    run = workflow.start(mode)

    assert run.tasks[1].current_context.storage == AttemptId(run.run_id, 1, 1)
    assert current_attempt.get() is None


def test_coroutines_know_their_attempts() -> None:
    """Side by side in one loop, each coroutine has its own."""
    workflow, history = workflow_of(which_async, which_async, executor=ExecutorAsync())

    run = workflow.start("parallel")

    found = {event.context.storage for event in history.of(TaskCompleted)}
    assert found == {AttemptId(run.run_id, 0, 1), AttemptId(run.run_id, 1, 1)}


@pytest.mark.parametrize("mode", ["sequential", "background"])
def test_a_nested_run_knows_its_parent(mode: str) -> None:
    """A run that a step starts has the step's attempt as its parent, and no trigger."""
    inner, inner_history = workflow_of(one)

    @action
    def nests() -> str:
        nested = inner.start(mode)
        nested.wait()
        return nested.run_id

    outer, _ = workflow_of(one, nests)
    with triggered_by("command"):
        run = outer.start()

    (started,) = inner_history.of(RunStarted)
    assert isinstance(run, Run)
    assert (started.parent, started.trigger) == (AttemptId(run.run_id, 1, 1), "")


def test_the_history_is_settled_before_each_attempt() -> None:
    """Before an attempt begins, the history is asked to save that."""
    workflow, history = workflow_of(one, which)

    workflow.start()

    names = [event if isinstance(event, bool) else type(event).__name__ for event in history.events]
    task = ["AttemptStarted", True, "TaskCompleted"]
    assert names == ["RunStarted", *task, *task, "RunEnded"]


@pytest.mark.parametrize("executor", [ExecutorAsync, ExecutorThread, ExecutorProcess])
@pytest.mark.processes
def test_no_step_begins_before_the_history_is_settled(executor: Callable[..., Executor], tmp_path: Path) -> None:
    """With worker processes, too, which begin several steps after one call of settle."""

    class Settled(Recorder):
        def settle(self, run_id: str, begins: bool) -> float | None:
            if begins:
                with (tmp_path / "settled").open("a") as file:
                    file.writelines(f"{event.task_id}\n" for event in self.of(AttemptStarted))
            return super().settle(run_id, begins)

    workflow = DotFlow(Config(history=Settled(), executor=executor(2)))
    for _ in range(8):
        workflow.task.add(is_settled, initial_context=tmp_path / "settled")

    run = workflow.start("parallel")

    assert [task.current_context.storage for task in run.tasks] == [True] * 8


@pytest.mark.parametrize("begins", [True, False])
def test_a_listener_may_cancel_the_run(begins: bool) -> None:
    """Where it is settled: the attempt that is about to begin does not begin, and a wait of an hour ends."""

    class Cancelling(Listener):
        began = 0

        def record(self, run_id: str, event: Event) -> None:
            self.began += isinstance(event, AttemptStarted)

        def settle(self, run_id: str, begins_now: bool) -> float | None:
            if begins_now is begins and self.began == 2:
                workflow.last.cancel()
            return None

    called: list[str] = []

    @action
    def first() -> None:
        called.append("first")

    @action(retry=2, retry_delay=3600)
    def second() -> None:
        called.append("second")
        raise ValueError("no")

    config = Config()
    config.listeners.append(Cancelling())
    workflow = DotFlow(config)
    workflow.task.add([first, second])

    run = workflow.start()

    assert run.state is TypeRunState.CANCELLED
    assert [task.status for task in run.tasks] == [TypeStatus.COMPLETED, TypeStatus.FAILED]
    assert called == (["first"] if begins else ["first", "second"])


@pytest.mark.parametrize("history", [None, Recorder()])
@pytest.mark.processes
def test_a_history_changes_nothing_about_a_call_that_can_not_be_sent(history: Recorder | None) -> None:
    """It fails, and the next task, which was ready with it, runs: calls are sent together where there is a history."""
    workflow = DotFlow(Config(history=history, executor=ExecutorProcess(2, start_method="forkserver")))
    workflow.task.add(one, initial_context=threading.Lock())
    workflow.task.add(one)

    run = workflow.start("parallel")

    assert [task.status for task in run.tasks] == [TypeStatus.FAILED, TypeStatus.COMPLETED]
