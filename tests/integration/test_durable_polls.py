"""Calls of actions with `poll` in durable steps: they are asked again, and go on after a kill or a resume."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import cloudpickle
import pytest

from dotflow import Config, DotFlow, NotYet, action, clock
from dotflow.abc.storage import Storage
from dotflow.core.types import TypeStatus
from dotflow.errors import CallRefused
from dotflow.providers import (
    ExecutorAsync,
    ExecutorInline,
    ExecutorProcess,
    ExecutorThread,
    HistorySQLite,
    LogDefault,
    StorageDefault,
    StorageFile,
    StorageSQLite,
)
from dotflow.testing import virtual_clock

EXECUTORS: Final[dict[str, Callable[..., Any]]] = {
    "sequential": ExecutorInline,
    "threads": ExecutorThread,
    "loop": ExecutorAsync,
    "processes": ExecutorProcess,
}
STORAGES: Final[dict[str, Callable[[], Storage]]] = {
    "memory": StorageDefault,
    "files": lambda: StorageFile(path="values"),
    "sqlite": lambda: StorageSQLite(path="values.db"),
}
FAILED: Final = TypeStatus.FAILED


@pytest.fixture(autouse=True)
def _by_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture(params=EXECUTORS)
def executor(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def flow(step: Any, executor: str = "sequential", storage: str = "files", **options: Any) -> DotFlow:
    log = LogDefault(output="file", path="log")
    config = Config(storage=STORAGES[storage](), executor=EXECUTORS[executor](), log=log)
    config.history = HistorySQLite(path="history.db")
    workflow = DotFlow(config, workflow_id="w")
    workflow.task.add(step, **options)
    return workflow


def note(text: object) -> int:
    """Notes that something happened, in whichever process, and returns how often it has."""
    with Path("made").open("a") as file:
        file.write(f"{text}\n")
    return Path("made").read_text().split().count(str(text))


def made() -> list[str]:
    """What has happened since it was asked last."""
    file = Path("made")
    lines = file.read_text().split() if file.exists() else []
    file.unlink(missing_ok=True)
    return lines


@action
def submit() -> str:
    note("submit")
    return "17"


@action(poll=0.1)
def result(job: str) -> str | None:
    return f"result {job}" if note("ask") == 3 else None


@action(poll=0.1)
async def result_async(job: str) -> str:
    if (asked := note("ask")) < 3:
        raise NotYet(f"{asked} of 3")
    return f"result {job}"


@action(durable=True)
def job() -> str | None:
    note("body")
    return result(submit())


@action(durable=True)
async def job_async() -> str:
    note("body")
    return await result_async(submit())


@pytest.mark.parametrize("step", [job, job_async], ids=["sync", "async"])
@pytest.mark.parametrize("storage", STORAGES)
def test_a_call_is_asked_again_until_it_is_ready(executor: str, step: Any, storage: str) -> None:
    """In between its step may leave its worker, and goes on from its top as the same attempt."""
    run = flow(step, executor, storage).start().raise_for_failure()

    assert run.value(step) == "result 17"
    assert [line for line in made() if line != "body"] == ["submit", "ask", "ask", "ask"]
    assert run.tasks[0].attempt == 1
    calls = HistorySQLite(path="history.db").calls("last", step.name).calls
    assert [(call.number, call.state, call.glimpse) for call in calls] == [
        (1, "Made", "'17'"),
        (2, "Made", "'result 17'"),
    ]


@action(poll="1h")
def hourly(job: str) -> str:
    raise NotYet(f"{job} is in line")


@action(durable=True)
def waits() -> str:
    return hourly("17")


def test_its_row_shows_what_it_waits_for() -> None:
    """And how often it has asked; the step shows until when it sleeps."""
    shown: list[str] = []
    history = HistorySQLite(path="history.db")

    def look() -> None:
        call = history.calls("last", "waits").calls[0]
        attempt = history.load("last").steps[0].last
        assert attempt is not None
        shown.extend((f"{call.state} {call.glimpse}", attempt.glimpse))
        run.cancel()

    with virtual_clock() as time:
        time.after("90m", look)
        run = flow(waits).start(mode="background")
        run.wait()

    assert shown == [
        "Running waits: 17 is in line, asked 2 times",
        "sleeps until 2026-01-01 02:00:00 UTC",
    ]


@action(poll="1h", poll_timeout="5h")
def impatient(job: str) -> None:
    note(f"{clock.monotonic() / 3600:g}")


@action(durable=True)
def gives_up() -> str:
    try:
        impatient("17")
    except TimeoutError as error:
        return str(error)
    return "ready"


@pytest.mark.parametrize("end", ["cancel", "pause"])
def test_the_count_and_the_time_limit_go_on_after_a_resume(end: str) -> None:
    """And the wait that was cut off ends when it would have ended."""
    with virtual_clock() as time:
        workflow = flow(gives_up)
        run = workflow.start(mode="background")
        time.after("2.5h", lambda: getattr(run, end)())
        run.wait()
        time.advance("15m")

        value = workflow.start(resume=True).raise_for_failure().value("gives_up")

    assert value.strip() == "Step 'impatient' was not ready within its poll_timeout of 18000 s, asked 6 times."
    assert made() == ["0", "1", "2", "3", "4", "5"]


def test_what_was_over_meanwhile_is_asked_once_more() -> None:
    """It may be ready by now."""
    with virtual_clock() as time:
        workflow = flow(gives_up)
        run = workflow.start(mode="background")
        time.after("2.5h", lambda: run.cancel())
        run.wait()
        time.advance("10h")

        value = workflow.start(resume=True).raise_for_failure().value("gives_up")

    assert "asked 4 times" in value
    assert made() == ["0", "1", "2", "12.5"]


@action(poll="1h", poll_timeout="2h", retry=2, retry_delay="30m")
def twice(job: str) -> None:
    note(f"{clock.monotonic() / 3600:g}")


@action(durable=True)
def tries_twice() -> None:
    twice("17")


@pytest.mark.parametrize("is_cut_off", [False, True], ids=["undisturbed", "cut off"])
def test_each_attempt_of_a_call_waits_for_its_own_time(is_cut_off: bool) -> None:
    """A resume goes on with the attempt that was cut off; the step fails with the last one, and begins anew then."""
    with virtual_clock() as time:
        workflow = flow(tries_twice, storage="sqlite")
        run = workflow.start(mode="background")
        if is_cut_off:
            time.after("3.25h", lambda: run.cancel())
        run.wait()
        if is_cut_off:
            run = workflow.start(resume=True)
        assert made() == ["0", "1", "2", "2.5", "3.5", "4.5"]
        error = run.tasks[0].error
        assert error is not None
        assert error.exception == "PollTimeout"

        assert workflow.start(resume=True).status is FAILED
    assert len(made()) == 6


@action(poll=0.05)
def changes(rows: list[int]) -> None:
    rows.append(1)


@action(durable=True)
def passes_rows() -> None:
    changes([])


def test_a_call_that_was_not_ready_may_not_change_its_arguments() -> None:
    """The next process would ask with other ones."""
    run = flow(passes_rows).start()

    error = run.tasks[0].error
    assert error is not None
    assert error.exception == "ArgumentChanged"


@action(poll=0.05, checkpoint=False)
def keeps_nothing() -> None: ...


@action(durable=True)
def refused() -> str:
    try:
        keeps_nothing()
    except CallRefused as error:
        return str(error)
    return ""


def test_a_call_that_keeps_nothing_can_not_wait() -> None:
    run = flow(refused).start()

    assert run.value("refused") == (
        "The call of 'keeps_nothing' can't be kept: poll keeps its waits, and checkpoint=False keeps nothing. "
        "Leave out one of them."
    )


@action(poll=0.05, timeout=0.05, retry=2)
def slow() -> str:
    if note("slow") == 1:
        clock.sleep(10)
    if note("asks") < 2:
        raise NotYet
    return "ready"


@action(durable=True)
def limited() -> str:
    return slow()


def test_the_timeout_is_that_of_each_time_it_is_asked(executor: str) -> None:
    """The first one is up, and the next attempt is not ready at first."""
    run = flow(limited, executor).start().raise_for_failure()

    assert run.value("limited") == "ready"
    assert made() == ["slow", "slow", "asks", "slow", "asks"]


@action(durable=True)
async def side_by_side() -> list[str]:
    async def other() -> str:
        await asyncio.sleep(0.05)
        return submit()

    return [*await asyncio.gather(result_async("17"), other())]


def test_other_calls_are_made_while_one_waits(executor: str) -> None:
    run = flow(side_by_side, executor).start().raise_for_failure()

    assert run.value("side_by_side") == ["result 17", "17"]
    assert sorted(made()) == ["ask", "ask", "ask", "submit"]


SCRIPT = """
from pathlib import Path
from dotflow import Config, DotFlow, NotYet, action
from dotflow.providers import ExecutorProcess, StorageFile

@action(poll=0.1)
def result(job):
    with Path("made").open("a") as file:
        file.write("ask\\n")
    count = Path("made").read_text().count("ask")
    if count < 4:
        raise NotYet(f"{count} of 4")
    return count

@action(durable=True)
def job():
    return result("17")

workflow = DotFlow(Config(storage=StorageFile(path="values"), executor=ExecutorProcess()), workflow_id="w")
workflow.task.add(job)
if __name__ == "__main__":
    print(workflow.start(resume=True).value("job"))
"""


def test_a_kill_between_two_polls_loses_nothing() -> None:
    Path("script.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "script.py"], env=environment, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        assert any("sleeps until" in line for line in child.stderr)
        child.send_signal(signal.SIGKILL)
    asked = Path("made").read_text().count("ask")

    done = subprocess.run([sys.executable, "script.py"], env=environment, capture_output=True, text=True, check=True)

    assert asked < 4
    assert done.stdout == "4\n"
    assert made() == ["ask"] * 4
