"""retry_on in every mode: for exceptions, timeouts and dead workers, where the step ran."""

import os
import pickle
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from dotflow import Config, DotFlow, Task, action
from dotflow.errors import RunFailed, StepFailed, WorkerDied
from dotflow.providers import ExecutorAsync, ExecutorThread

MakeWorkflow = Callable[..., DotFlow]

MODES = ["sequential", "background", "parallel"]


class Busy(Exception):
    """An error of a service with the seconds until the next try."""

    def __init__(self, wait: float) -> None:
        super().__init__(wait)
        self.wait = wait


def run_one(workflow: DotFlow, step: Any, mode: str = "sequential") -> Task:
    workflow.task.add(step)
    run = workflow.start(mode=mode)
    run.wait()
    return run.tasks[0]


def attempts_of(task: Task) -> list[str]:
    return [error.exception for error in task.errors]


@pytest.mark.processes
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("retry_on", "attempts"),
    [
        (ConnectionError, 3),
        (OSError, 3),
        ((KeyError, OSError), 3),
        (KeyError, 1),
        (lambda error: "again" in str(error), 3),
        (lambda error: False, 1),
        (TimeoutError, 1),
    ],
)
def test_only_matching_errors_are_repeated(
    mode: str, retry_on: Any, attempts: int, make_workflow: MakeWorkflow
) -> None:
    """An error that doesn't match fails at once, in every mode."""

    @action(retry=3, retry_delay=0, retry_on=retry_on)
    def step() -> None:
        raise ConnectionError("again")

    assert attempts_of(run_one(make_workflow(), step, mode)) == ["ConnectionError"] * attempts


@pytest.mark.processes
@pytest.mark.parametrize("mode", MODES)
def test_the_function_sees_the_exception_itself(mode: str, make_workflow: MakeWorkflow) -> None:
    """It is called where the step ran, with attributes that can't be pickled; seconds are the delay."""

    @action(retry=2, retry_delay=3600, max_delay=1800, jitter=1, retry_on=lambda error: error.wait)
    def step() -> None:
        raise Busy(0.01)

    assert attempts_of(run_one(make_workflow(), step, mode)) == ["Busy", "Busy"]


@pytest.mark.processes
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("retry_on", "attempts"), [(TimeoutError, 2), (ValueError, 1)])
def test_a_timeout_is_a_timeout_error(mode: str, retry_on: Any, attempts: int, make_workflow: MakeWorkflow) -> None:
    """It gets a TimeoutError for a timeout."""

    @action(retry=2, retry_delay=0, timeout="50ms", retry_on=retry_on)
    def step() -> None:
        time.sleep(10)

    assert attempts_of(run_one(make_workflow(), step, mode)) == ["TimeoutError"] * attempts


@pytest.mark.processes
@pytest.mark.parametrize(("retry_on", "attempts"), [(WorkerDied, 2), (TimeoutError, 1), (lambda error: False, 1)])
def test_a_dead_worker_is_a_worker_died(retry_on: Any, attempts: int, make_workflow: MakeWorkflow) -> None:
    """The coordinator calls it, with the exit code in the error."""

    @action(retry=2, retry_delay=0, retry_on=retry_on)
    def step() -> None:
        os._exit(3)

    assert attempts_of(run_one(make_workflow(), step, "parallel")) == ["WorkerDied"] * attempts


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize(("retry_on", "attempts"), [(TimeoutError, 2), (WorkerDied, 1)])
def test_a_killed_worker_is_a_timeout(retry_on: Any, attempts: int, make_workflow: MakeWorkflow) -> None:
    """It gets a TimeoutError for a step that was killed at its timeout, too."""
    import signal

    @action(retry=2, retry_delay=0, timeout=0.05, isolate=True, retry_on=retry_on)
    def step() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        time.sleep(30)

    assert attempts_of(run_one(make_workflow(), step)) == ["TimeoutError"] * attempts


@pytest.mark.parametrize("executor", [None, ExecutorAsync, ExecutorThread])
@pytest.mark.parametrize(("retry_on", "attempts"), [(ValueError, 2), (KeyError, 1), (lambda error: 0, 2)])
def test_coroutines(
    executor: Callable[[], Any] | None, retry_on: Any, attempts: int, make_workflow: MakeWorkflow
) -> None:
    """It is called for coroutine steps, too."""

    @action(retry=2, retry_delay=0, retry_on=retry_on)
    async def step() -> None:
        raise ValueError("no")

    workflow = make_workflow(executor=executor() if executor else None)

    assert attempts_of(run_one(workflow, step)) == ["ValueError"] * attempts


@pytest.mark.parametrize(
    ("inner", "outer", "attempts"), [(ValueError, ValueError, 4), (KeyError, ValueError, 2), (KeyError, KeyError, 1)]
)
def test_a_classs_own_actions(inner: Any, outer: Any, attempts: int, make_workflow: MakeWorkflow) -> None:
    """Each action of a class has its own retry_on; the class's own gets the final error."""
    calls: list[int] = []

    @action(retry=2, retry_delay=0, retry_on=outer)
    class Report:
        @action(retry=2, retry_delay=0, retry_on=inner)
        def load(self) -> None:
            calls.append(1)
            raise ValueError("no")

    task = run_one(make_workflow(), Report)

    assert len(calls) == len(task.errors) == attempts


@pytest.mark.parametrize(
    ("retry_on", "note"),
    [
        (lambda error: error.nonsense, "since retry_on raised AttributeError"),
        (lambda error: "soon", "since retry_on returned 'soon' (str)"),
        (lambda error: None, "since retry_on returned None"),
    ],
)
def test_a_broken_retry_on_is_in_the_tasks_error(retry_on: Any, note: str, make_workflow: MakeWorkflow) -> None:
    """The task fails with its own error, and the traceback has the reason for no retry."""

    @action(retry=3, retry_delay=0, retry_on=retry_on)
    def step() -> None:
        raise ValueError("no")

    (error,) = run_one(make_workflow(), step).errors

    assert (error.exception, error.message) == ("ValueError", "no")
    assert note in error.traceback


class TestRaiseForFailure:
    def test_returns_a_run_that_completed(self, make_workflow: MakeWorkflow) -> None:
        """So it can follow start()."""
        workflow = make_workflow()
        workflow.task.add(action(lambda: 5))

        run = workflow.start(mode="background").raise_for_failure()

        assert run.tasks[0].current_context.storage == 5

    def test_raises_with_the_tasks_and_the_first_error(self, make_workflow: MakeWorkflow) -> None:
        """The message names the tasks, and the cause shows the step's own traceback."""

        @action
        def load() -> None:
            raise ValueError("no rows")

        workflow = make_workflow(workflow_id="nightly")
        workflow.task.add([load, load, action(lambda: 1), load, load])
        run = workflow.start(keep_going=True)

        with pytest.raises(RunFailed) as caught:
            run.raise_for_failure()

        assert caught.value.tasks == tuple(task for task in run.tasks if task.name == "load")
        assert "'nightly' failed at 4 of 5 tasks: task 0 load: ValueError: no rows; " in str(caught.value)
        assert str(caught.value).endswith("; and 1 more.")
        cause = caught.value.__cause__
        assert isinstance(cause, StepFailed)
        assert (cause.exception, cause.message) == ("ValueError", "no rows")
        assert 'raise ValueError("no rows")' in str(cause)

    def test_survives_pickling(self, make_workflow: MakeWorkflow) -> None:
        """The error can be pickled, though a local step can't."""

        @action
        def load() -> None:
            raise ValueError("no rows")

        workflow = make_workflow()
        workflow.task.add(load, initial_context=lambda: 1)
        with pytest.raises(RunFailed) as caught:
            workflow.start().raise_for_failure()

        loaded = pickle.loads(pickle.dumps(caught.value))

        assert str(loaded) == str(caught.value)
        assert str(loaded.__cause__) == str(caught.value.__cause__)
        assert [(task.name, task.errors[0].message) for task in loaded.tasks] == [("load", "no rows")]

    def test_a_cancelled_run_did_not_complete(self, make_workflow: MakeWorkflow) -> None:
        """Also where no task failed, since none had begun."""

        begun = threading.Event()

        @action
        def load() -> None:
            assert begun.wait(60)
            run.cancel()

        workflow = make_workflow()
        workflow.task.add([action(lambda: None), load, load])
        run = workflow.start(mode="background")
        begun.set()

        with pytest.raises(RunFailed, match=r"3 tasks"):
            run.raise_for_failure()


def test_wait_takes_a_text(make_workflow: MakeWorkflow) -> None:
    """Durations may be texts, everywhere."""
    workflow = make_workflow()
    workflow.task.add(action(lambda: 5))

    assert workflow.start(mode="background").wait("10s") is True
    assert Config(notify_grace="1m").notify_grace == 60.0
