"""failing(): attempts of a step fail as planned, with every executor, and what follows is what follows any failure."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dotflow import Config, DotFlow, TaskError, action
from dotflow.providers import ExecutorProcess, ExecutorThread, LogDefault, StorageFile
from dotflow.testing import failing, virtual_clock

LOG = LogDefault(output="none")

made: list[int] = []


@action(retry=3, retry_delay=60)
def fetch(number: int = 1) -> int:
    made.append(number)
    return 10 * number


@action(retry=2, retry_on=ConnectionError)
def fetch_online(number: int) -> int:
    return number


@action
async def ask(number: int) -> int:
    return number + 1


@action(retry=2, retry_delay=0)
def read(number: int) -> int:
    return number


@action(durable=True)
def read_all() -> list[int]:
    return [read(1), read(2)]


@action(durable=True)
async def ask_all() -> list[int]:
    answers: list[int | str] = []
    for number in range(2):
        try:
            answers.append(await ask(number))
        except TimeoutError as error:
            answers.append(str(error))
    return [len(answers), *(answer for answer in answers if isinstance(answer, int))]


@action
def recover(error: TaskError) -> str:
    return f"instead of {error.exception}"


def build(*steps: Callable[..., object], **options: object) -> DotFlow:
    workflow = DotFlow(Config(log=LOG))
    for step in steps:
        workflow.task.add(step, **options)  # type: ignore[call-overload]
    return workflow


@pytest.fixture(autouse=True)
def _nothing_made() -> None:
    made.clear()


def test_the_first_attempts_fail_and_the_next_one_runs_the_step() -> None:
    workflow = build(fetch)

    with virtual_clock() as clock, failing(fetch, times=2, error=TimeoutError("it is away")):
        run = workflow.start()
        waited = clock.monotonic()

    assert run.status == "Completed"
    assert [(error.exception, error.message) for error in run.tasks[0].errors] == [("TimeoutError", "it is away")] * 2
    assert (made, waited) == ([1], 120)


@pytest.mark.parametrize(
    "executor",
    [ExecutorThread(), ExecutorProcess(start_method="fork"), ExecutorProcess(start_method="forkserver")],
    ids=["thread", "fork", "forkserver"],
)
def test_each_item_fails_as_often_wherever_it_runs(executor: ExecutorThread | ExecutorProcess) -> None:
    workflow = DotFlow(Config(executor=executor, log=LOG))
    workflow.task.add(read, each={"number": [1, 2, 3]})

    with failing(read, error=ConnectionError):
        run = workflow.start(mode="parallel")

    assert run.value(read) == [1, 2, 3]
    assert [len(item.errors) for item in run.tasks[0].items] == [1, 1, 1]


def test_a_step_that_always_fails_is_replaced_by_its_fallback() -> None:
    workflow = build(fetch, fallback=recover)

    with virtual_clock(), failing(fetch, times=None, error=OSError):
        run = workflow.start()

    assert workflow.result_storage() == ["instead of OSError"]
    assert (run.status, made) == ("Completed", [])


def test_what_retry_on_refuses_is_not_repeated() -> None:
    workflow = build(fetch_online, each={"number": [1]})

    with failing(fetch_online, error=ValueError):
        run = workflow.start()

    assert run.status == "Failed"
    assert [error.exception for error in run.tasks[0].items[0].errors] == ["ValueError"]


def test_a_resume_goes_on_counting() -> None:
    workflow = build(recover_none := action(lambda: "done"))

    with failing(recover_none, times=2):
        states = [workflow.start(resume=True).status for _ in range(3)]

    assert states == ["Failed", "Failed", "Completed"]


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_a_call_in_a_durable_step_fails_too(mode: str, tmp_path: Path) -> None:
    workflow = DotFlow(Config(storage=StorageFile(path=tmp_path), log=LOG))
    workflow.task.add(read_all).add(ask_all)

    with failing(read), failing(ask, error=TimeoutError("late")):
        run = workflow.start(mode=mode)

    assert run.status == "Completed"
    assert workflow.result_storage() == [[1, 2], [2]]


def test_a_call_whose_attempts_all_fail_fails_its_durable_step(tmp_path: Path) -> None:
    workflow = DotFlow(Config(storage=StorageFile(path=tmp_path), log=LOG), workflow_id="durable")
    workflow.task.add(read_all)

    with failing(read, times=3, error=TimeoutError):
        states = [workflow.start(resume=True).status for _ in range(4)]

    # The first call takes two attempts, then its third failure and one that passes; so does the second one.
    assert states == ["Failed", "Failed", "Completed", "Completed"]


def test_the_innermost_of_two_counts_first() -> None:
    workflow = build(read, each={"number": [1]})

    with failing(read, error=OSError), failing(read, error=KeyError):
        run = workflow.start()

    assert [error.exception for error in run.tasks[0].items[0].errors] == ["KeyError", "OSError"]


def test_a_plain_call_is_not_affected() -> None:
    with pytest.raises(AssertionError, match="No attempt of ask has failed"), failing(ask):
        assert asyncio.run(ask(1)) == 2


def test_an_error_of_the_test_itself_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), failing(ask):
        _ = 1 / 0


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"step": len}, "step"),
        ({"step": ask, "times": 0}, "times"),
        ({"step": ask, "times": 1.5}, "times"),
        ({"step": ask, "error": KeyboardInterrupt}, "error"),
        ({"step": ask, "error": UnicodeDecodeError}, "error"),
    ],
)
def test_other_arguments_are_refused(arguments: dict[str, object], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}="), failing(**arguments):  # type: ignore[arg-type]
        pass


USERS_TESTS = """
import pytest
from dotflow import DotFlow, action

pytest_plugins = "dotflow.testing.fixtures"

@action(retry=2, retry_delay=0)
def fetch():
    return 17

@pytest.mark.parametrize("again", [1, 2])
def test_twice(again, failing, empty_config):
    failing(fetch, error=TimeoutError)
    workflow = DotFlow(empty_config, workflow_id="orders")
    workflow.task.add(fetch)
    assert workflow.runs() == []
    run = workflow.start(resume=True)
    assert [error.exception for error in run.tasks[0].errors] == ["TimeoutError"]
    assert len(workflow.runs()) == 1

def test_that_shows_nothing(failing):
    failing(fetch)
"""


def test_the_fixtures_plan_failures_and_give_an_empty_config(tmp_path: Path) -> None:
    (tmp_path / "test_users.py").write_text(USERS_TESTS)

    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "error"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    assert "3 passed, 1 error" in ended.stdout, ended.stdout
    assert "No attempt of fetch has failed" in ended.stdout
