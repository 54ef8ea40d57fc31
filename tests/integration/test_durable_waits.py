"""Durable steps that sleep: they leave their worker meanwhile, and go on after a kill or a resume."""

import asyncio
import contextlib
import contextvars
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import cloudpickle
import pytest

import dotflow
from dotflow import Config, DotFlow, Run, action, clock
from dotflow.cli.live.progress import Progress
from dotflow.core.types.status import TypeStatus
from dotflow.providers import (
    ExecutorAsync,
    ExecutorInline,
    ExecutorProcess,
    ExecutorThread,
    HistorySQLite,
    LogDefault,
    StorageFile,
)
from dotflow.testing import virtual_clock

EXECUTORS: Final[dict[str, Callable[..., Any]]] = {
    "sequential": ExecutorInline,
    "threads": ExecutorThread,
    "loop": ExecutorAsync,
    "processes": ExecutorProcess,
}
PATIENCE: Final = 15.0  # seconds
COMPLETED, FAILED, PAUSED = TypeStatus.COMPLETED, TypeStatus.FAILED, TypeStatus.PAUSED


@pytest.fixture(autouse=True)
def _by_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture(params=EXECUTORS)
def executor(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def flow(executor: str, *steps: Any, **options: Any) -> DotFlow:
    config = Config(
        storage=StorageFile(path="values"), executor=EXECUTORS[executor](), log=LogDefault(output="file", path="log")
    )
    workflow = DotFlow(config, workflow_id="w")
    for step in steps:
        workflow.task.add(step, **options)
    return workflow


def note(text: object) -> None:
    """Notes that something happened, in whichever process."""
    with Path("made").open("a") as file:
        file.write(f"{text}\n")


def made() -> list[str]:
    """What has happened since it was asked last."""
    file = Path("made")
    lines = file.read_text().split() if file.exists() else []
    file.unlink(missing_ok=True)
    return lines


@action
def fetch(number: int) -> int:
    note(number)
    return number


@action
async def fetch_async(number: int) -> int:
    note(number)
    return number


@action(durable=True)
def naps() -> int:
    note("body")
    total = fetch(1)
    dotflow.sleep(0.2)
    return total + fetch(2)


@action(durable=True)
async def naps_async() -> int:
    note("body")
    total = await fetch_async(1)
    await dotflow.asleep("200ms")
    return total + await fetch_async(2)


@pytest.mark.parametrize("step", [naps, naps_async], ids=["sync", "async"])
def test_a_step_leaves_its_worker_while_it_sleeps(executor: str, step: Any) -> None:
    """It goes on from its top as the same attempt, and no call is made twice."""
    run = flow(executor, step).start()

    assert run.value(step) == 3
    assert made() == ["body", "1", "body", "2"]
    assert run.tasks[0].attempt == 1
    assert "In progress: sleeps until " in Path("log").read_text()


def has_made(lines: list[str], until: float) -> bool:
    """Returns whether these lines were made, in any order."""
    seen = Path("made").read_text().split() if Path("made").exists() else []
    assert time.monotonic() < until, seen
    return sorted(seen) == lines


def run_until(lines: list[str], workflow: DotFlow) -> Run:
    """Runs a workflow until it has made these lines, and cancels it."""
    run, until = workflow.start(mode="background"), time.monotonic() + PATIENCE
    while not has_made(lines, until):
        time.sleep(0.02)
    run.cancel()
    run.wait()
    return run


def test_other_steps_run_in_the_place_of_one_that_sleeps() -> None:
    """With one worker for all items of a map."""
    config = Config(storage=StorageFile(path="values"), executor=ExecutorProcess(max_workers=1))
    workflow = DotFlow(config, workflow_id="w")
    workflow.task.add(sleeps_in_turn, each=list(range(5)))

    async def run() -> None:
        running, until = asyncio.ensure_future(workflow.astart(mode="parallel")), time.monotonic() + PATIENCE
        while not has_made(["0", "1", "2", "3", "4"], until):
            await asyncio.sleep(0.02)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    asyncio.run(run())


@action(durable=True)
def sleeps_in_turn(number: int) -> None:
    note(number)
    dotflow.sleep("1h")


@action(durable=True)
async def side_by_side() -> None:
    async def later() -> None:
        await dotflow.asleep("1h")
        note("late")

    async def now() -> None:
        for number in range(3):
            await fetch_async(number)
            await asyncio.sleep(0.03)

    await asyncio.gather(later(), now())


@action(durable=True)
def in_threads() -> None:
    def later() -> None:
        dotflow.sleep("1h")
        note("late")

    def now() -> None:
        for number in range(3):
            fetch(number)
            time.sleep(0.03)

    with ThreadPoolExecutor() as pool:
        calls = [pool.submit(contextvars.copy_context().run, function) for function in (later, now)]
        for call in calls:
            call.result()


@pytest.mark.parametrize("step", [side_by_side, in_threads], ids=["gather", "threads"])
def test_a_branch_that_sleeps_does_not_stop_the_others(executor: str, step: Any) -> None:
    """The step is parked once all of its branches sleep."""
    run = run_until(["0", "1", "2"], flow(executor, step))

    assert run.tasks[0].attempt == 1


@action(durable=True)
async def two_naps() -> list[int]:
    async def nap(number: int) -> int:
        await dotflow.asleep(number)
        return await fetch_async(number)

    return list(await asyncio.gather(nap(2), nap(1)))


def test_it_goes_on_when_the_first_sleep_is_over(executor: str) -> None:
    """The second one goes on sleeping."""
    run = flow(executor, two_naps).start()

    assert run.value("two_naps") == [2, 1]
    assert made() == ["1", "2"]


@action
def unsteady(number: int) -> int:
    note(f"tries{number}")
    if len(Path("made").read_text().split()) < 3:
        raise ConnectionError(number)
    return number


@action(durable=True)
def tries() -> int:
    while True:
        try:
            return unsteady(1)
        except ConnectionError:
            dotflow.sleep(0.1)


def test_a_failure_before_a_sleep_is_kept(executor: str) -> None:
    """So a loop of tries with sleeps in between makes each of them once."""
    run = flow(executor, tries).start()

    assert run.value("tries") == 1
    assert made() == ["tries1", "tries1", "tries1"]


@action(durable=True)
def outer() -> int:
    return inner(1) + inner(2)


@action(durable=True)
def inner(number: int) -> int:
    dotflow.sleep(0.1)
    return fetch(number)


def test_a_durable_call_sleeps_too(executor: str) -> None:
    run = flow(executor, outer).start()

    assert run.value("outer") == 3
    assert made() == ["1", "2"]


@action(durable=True)
def week() -> str:
    for day in range(7):
        fetch(day)
        dotflow.sleep("1d")
    return "over"


@pytest.mark.parametrize("executor", ["sequential", "threads"])
def test_a_virtual_clock_jumps_over_sleeps(executor: str) -> None:
    with virtual_clock() as time:
        run = flow(executor, week).start()

        assert run.value("week") == "over"
        assert time.monotonic() == timedelta(days=7).total_seconds()
    assert made() == [str(day) for day in range(7)]


def test_a_resume_sleeps_for_the_rest() -> None:
    """Its end was kept when it began."""
    with virtual_clock() as time:
        workflow = flow("sequential", week)
        time.after("60h", lambda: [run.cancel() for run in runs])
        runs = [workflow.start(mode="background")]
        runs[0].wait()
        assert made() == ["0", "1", "2"]
        time.advance("6h")

        run = workflow.start(resume=True)

        assert run.value("week") == "over"
        assert time.monotonic() == timedelta(days=7).total_seconds()
    assert made() == ["3", "4", "5", "6"]


SCRIPT = """
import dotflow
from pathlib import Path
from dotflow import Config, DotFlow, action
from dotflow.providers import ExecutorProcess, StorageFile

@action
def fetch(number):
    with Path("made").open("a") as file:
        file.write(f"{number}\\n")
    return number

@action(durable=True)
def naps():
    fetch(1)
    Path("sleeps").touch()
    dotflow.sleep(3600 if Path("long").exists() else 0.1)
    return fetch(2)

workflow = DotFlow(Config(storage=StorageFile(path="values"), executor=ExecutorProcess()), workflow_id="w")
workflow.task.add(naps)
if __name__ == "__main__":
    print(workflow.start(resume=True).status)
"""


def test_a_kill_during_a_sleep_loses_nothing() -> None:
    """The next process is given the calls before, and the end of the sleep; an edited one is another sleep."""
    Path("script.py").write_text(SCRIPT)
    Path("long").touch()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "script.py"], env=environment, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        assert any("sleeps until" in line for line in child.stderr)
        child.send_signal(signal.SIGKILL)
    Path("long").unlink()

    done = subprocess.run([sys.executable, "script.py"], env=environment, capture_output=True, text=True, check=True)

    assert done.stdout == "Completed\n"
    assert made() == ["1", "2"]


def test_a_pause_ends_a_sleep() -> None:
    """Its step is paused, and a resume goes on with it."""
    with virtual_clock() as time:
        workflow = flow("sequential", week)
        runs = [workflow.start(mode="background")]
        time.after("36h", runs[0].pause)
        runs[0].wait()

        assert runs[0].status is PAUSED
        assert runs[0].tasks[0].status is PAUSED
        assert workflow.start(resume=True).value("week") == "over"
    assert made() == [str(day) for day in range(7)]


@action
def breaks() -> None:
    clock.sleep(3600)
    raise ValueError("broken")


def test_a_failure_of_another_step_ends_a_sleep() -> None:
    """As that of a step with `poll`: the run doesn't last for days."""
    with virtual_clock() as time:
        run = flow("threads", week, breaks).start(mode="parallel")

        assert run.status is FAILED
        assert time.monotonic() < timedelta(days=1).total_seconds()
        assert [task.error.exception for task in run.tasks if task.error] == ["RunStopped", "ValueError"]


def test_it_is_seen_that_a_step_sleeps() -> None:
    """`show` says until when, and the sleep is one of the calls."""
    shown: list[str] = []
    history = HistorySQLite(path="history.sqlite")

    def look() -> None:
        run = history.load("last")
        attempt = run.steps[0].last
        assert attempt is not None
        shown.append(f"{attempt.state} {attempt.glimpse}")

    with virtual_clock() as time:
        config = Config(storage=StorageFile(path="values"), history=history, log=LogDefault(output="file", path="log"))
        workflow = DotFlow(config, workflow_id="w")
        workflow.task.add(naps_for_days)
        time.after("12h", look)
        workflow.start()

    assert shown == ["Running sleeps until 2026-01-04 00:00:00 UTC"]
    calls = [call.shown for call in history.calls("last", "naps_for_days").calls]
    assert calls == ["fetch(1)", "sleep(259200.0)", "fetch(2)"]


@action(durable=True)
def naps_for_days() -> int:
    fetch(1)
    dotflow.sleep("3d")
    return fetch(2)


@action
def plain() -> float:
    dotflow.sleep("2h")
    return clock.monotonic()


def test_the_calls_of_an_attempt_that_sleeps_are_counted_once(executor: str) -> None:
    """Those before the sleep, too; the attempt has made them itself, so none was given back."""
    history = HistorySQLite(path="history.db")
    workflow = flow(executor, naps)
    workflow.config.history = history

    run = workflow.start().raise_for_failure()

    assert "task 0 naps: 3 calls made\n" in Path("log").read_text()
    attempt = history.load(run.run_id).steps[0].attempts[-1]
    assert (attempt.notes["calls kept"], attempt.notes["calls given back"]) == (3, 0)


def test_what_a_step_has_slept_for_is_not_shown_while_it_makes_calls() -> None:
    """The history and the live view show what it does now."""
    shown: list[tuple[str, str]] = []
    history = HistorySQLite(path="history.sqlite")

    @action(key=[])
    def look() -> None:
        attempt = history.load("last").steps[0].last
        assert attempt is not None
        shown.append((attempt.glimpse, progress.rows[0].reason))

    @action(durable=True)
    def wakes() -> None:
        dotflow.sleep("3d")
        look()

    with virtual_clock() as time:
        workflow = flow("sequential", wakes)
        progress = Progress(workflow.task)
        workflow.config.history = history
        workflow.config.listeners.append(progress)
        time.after("12h", look)
        workflow.start().raise_for_failure()

    assert shown == [("sleeps until 2026-01-04 00:00:00 UTC",) * 2, ("", "")]


def test_elsewhere_it_is_a_plain_sleep() -> None:
    """In a plain step, in an action, and outside of all."""
    with virtual_clock() as time:
        assert flow("sequential", plain).start().value("plain") == 7200
        dotflow.sleep(5)
        asyncio.run(dotflow.asleep(5))
        assert time.monotonic() == 7210


@action(durable=True)
async def blocks() -> None:
    dotflow.sleep(1)


@action(durable=True)
def wrong() -> None:
    dotflow.sleep("soon")


def test_what_can_not_sleep_is_refused() -> None:
    """A coroutine is not blocked, and a duration is one."""
    error = flow("loop", blocks).start().tasks[0].error
    assert error is not None
    assert (error.exception, error.message) == (
        "CallRefused",
        "The call of 'sleep' can't be kept: it would block the loop of its coroutine. Await dotflow.asleep.",
    )
    error = flow("sequential", wrong).start().tasks[0].error
    assert error is not None
    assert error.exception == "InvalidArgument"
