import hashlib
import os
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from executor_command import CommandSession, ExecutorCommand

from dotflow import Config, Context, DotFlow, Task, action
from dotflow.core.action import Action
from dotflow.providers import LogDefault
from dotflow.testing import ExecutorContract


class TestExecutorCommand(ExecutorContract):
    @pytest.fixture
    def executor(self) -> ExecutorCommand:
        return ExecutorCommand(sys.executable)


@pytest.fixture
def workflow() -> DotFlow:
    return DotFlow(Config(executor=ExecutorCommand(sys.executable), log=LogDefault(output="none")))


def error_of(task: Task) -> str:
    assert task.error is not None
    return task.error.exception


@action
def double(initial_context: Context) -> int:
    number: int = initial_context.storage
    return number * 2


@action
def more(previous_context: Context) -> int:
    number: int = previous_context.storage
    return number + 1


def test_values_travel_along_a_group(workflow: DotFlow) -> None:
    for number in range(3):
        workflow.task.add([double, more], initial_context=number, group_name=str(number))

    workflow.start()

    assert workflow.result_storage() == [0, 1, 2, 3, 4, 5]


@action(timeout=0.2)
def sleep() -> None:
    time.sleep(60)


@action(timeout=0.2)
def stick() -> None:
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)


def test_a_timeout_ends_what_sleeps_and_what_is_in_c_code(workflow: DotFlow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("executor_command.GRACE", 0.5)
    workflow.task.add([sleep, stick])

    workflow.start(mode="parallel")

    assert [error_of(task) for task in workflow.result_task()] == ["TimeoutError", "TimeoutError"]


@action
def die() -> None:
    os._exit(3)


@action
def generate() -> Iterator[int]:
    return (number for number in range(3))


@pytest.mark.parametrize(("step", "error"), [(die, "WorkerDied"), (generate, "TypeError")])
def test_what_ends_an_attempt_is_reported_as_that(workflow: DotFlow, step: Action[[], object], error: str) -> None:
    workflow.task.add(step)

    workflow.start()

    assert error_of(workflow.result_task()[0]) == error


def test_a_command_that_is_not_there_fails_the_step() -> None:
    workflow = DotFlow(Config(executor=ExecutorCommand("no-such-command"), log=LogDefault(output="none")))
    workflow.task.add(double, initial_context=1)

    workflow.start()

    assert error_of(workflow.result_task()[0]) == "FileNotFoundError"


@pytest.fixture
def session() -> Iterator[CommandSession]:
    session = CommandSession((sys.executable, "-c", "import time; time.sleep(60)"), 1)
    yield session
    session.close()


def test_a_session_that_is_woken_has_no_answers(session: CommandSession) -> None:
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(session.wait, None)
        session.wake()

        assert waiting.result(5) == []


@action
def call_home(initial_context: Context) -> None:
    with socket.create_connection(("127.0.0.1", initial_context.storage)) as home:
        home.recv(1)  # which never comes


def test_a_cancelled_run_leaves_nothing_behind(workflow: DotFlow) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        workflow.task.add(call_home, initial_context=server.getsockname()[1])
        run = workflow.start(mode="background")
        connection, _ = server.accept()  # from here on the step is running

        run.cancel()

        with connection:
            assert connection.recv(1) == b""  # its process is gone
        assert run.wait(10)
