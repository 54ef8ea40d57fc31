import hashlib
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from executor_command import CommandCrew, ExecutorCommand

from dotflow import Config, Context, DotFlow, Task, action
from dotflow.providers import LogDefault


@pytest.fixture
def workflow() -> DotFlow:
    return DotFlow(Config(executor=ExecutorCommand(sys.executable), log=LogDefault(output="none")))


def error_of(task: Task) -> str:
    assert task.error is not None
    return task.error.exception


def test_values_travel_along_a_group(workflow: DotFlow) -> None:
    double = action(lambda initial_context: initial_context.storage * 2)
    more = action(lambda previous_context: previous_context.storage + 1)
    for number in range(3):
        workflow.task.add([double, more], initial_context=number, group_name=str(number))

    workflow.start()

    assert workflow.result_storage() == [0, 1, 2, 3, 4, 5]


def test_a_timeout_ends_what_sleeps_and_what_is_in_c_code(workflow: DotFlow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("executor_command.GRACE", 0.5)
    sleep = action(timeout=0.2)(lambda: time.sleep(60))
    stick = action(timeout=0.2)(lambda: hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000))
    workflow.task.add([sleep, stick])

    workflow.start(mode="parallel")

    assert [error_of(task) for task in workflow.result_task()] == ["TimeoutError", "TimeoutError"]


def test_a_worker_that_dies_is_reported_as_that(workflow: DotFlow) -> None:
    workflow.task.add(action(lambda: os._exit(3)))

    workflow.start()

    assert error_of(workflow.result_task()[0]) == "WorkerDied"


def test_a_value_that_cannot_travel_fails_its_step(workflow: DotFlow) -> None:
    workflow.task.add(action(lambda: (number for number in range(3))))

    workflow.start()

    assert error_of(workflow.result_task()[0]) == "TypeError"


def test_a_command_that_is_not_there_fails_the_step() -> None:
    workflow = DotFlow(Config(executor=ExecutorCommand("no-such-command"), log=LogDefault(output="none")))
    workflow.task.add(action(lambda: 1))

    workflow.start()

    assert error_of(workflow.result_task()[0]) == "FileNotFoundError"


@pytest.fixture
def crew() -> Iterator[CommandCrew]:
    crew = CommandCrew((sys.executable, "-c", "import time; time.sleep(60)"), 1)
    yield crew
    crew.close()


def test_a_crew_that_is_woken_has_no_answers(crew: CommandCrew) -> None:
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(crew.wait, None)
        crew.wake()

        assert waiting.result(5) == []


def test_a_cancelled_run_leaves_nothing_behind(workflow: DotFlow) -> None:
    workflow.task.add(action(lambda: time.sleep(60)), initial_context=Context(1))
    run = workflow.start(mode="background")

    run.cancel()

    assert run.wait(10)
    assert run.status == "Failed"
