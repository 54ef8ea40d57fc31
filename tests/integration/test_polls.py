"""Steps that wait: they are asked again within one attempt, which holds no worker and is no failure."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, Context, DotFlow, NotYet, Run, Secret, Task, action, clock
from dotflow.abc.executor import Executor
from dotflow.abc.history import Listener
from dotflow.abc.log import Log
from dotflow.abc.storage import Storage
from dotflow.cli.commands.replay import ending_of
from dotflow.core.events import AttemptFailed, AttemptStarted, AttemptWaits, Event, TaskCompleted, TaskFailed
from dotflow.core.outcome import Parked, TypePark
from dotflow.core.types import TypeRunState, TypeStatus
from dotflow.core.types.attempt_state import TypeAttemptState
from dotflow.errors import InvalidPolicy
from dotflow.providers import (
    ExecutorAsync,
    ExecutorInline,
    ExecutorProcess,
    ExecutorThread,
    HistorySQLite,
    LogDefault,
    StorageFile,
)
from dotflow.records.record import AttemptRecord
from dotflow.report.document import document
from dotflow.testing import assert_survives_crashes, virtual_clock
from tests.histories import begin
from tests.integration.modes import group
from tests.spans import Telemetry, exceptions, facts

MakeWorkflow = Callable[..., DotFlow]

COMPLETED, FAILED, PAUSED = TypeStatus.COMPLETED, TypeStatus.FAILED, TypeStatus.PAUSED
NOT_STARTED, IN_PROGRESS = TypeStatus.NOT_STARTED, TypeStatus.IN_PROGRESS

#: How a workflow runs: the mode, and the executor.
WAYS = [
    pytest.param("sequential", None, id="sequential"),
    pytest.param("background", None, id="background"),
    pytest.param("parallel", ExecutorThread, id="threads"),
    pytest.param("parallel", ExecutorAsync, id="async"),
    pytest.param("parallel", lambda: ExecutorProcess(2), id="processes", marks=pytest.mark.processes),
    pytest.param("groups", None, id="groups", marks=pytest.mark.processes),
]


class Follower(Listener):
    """Keeps the events of a run, and calls a function for each."""

    def __init__(self, workflow: DotFlow, follow: Callable[[Any], object] = int) -> None:
        self.events: list[Any] = []
        self.follow = follow
        workflow.config.listeners.append(self)

    def record(self, run_id: str, event: Event) -> None:
        self.events.append(event)
        self.follow(event)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def asked(self, task_id: int = 0) -> list[int]:
        return [event.asked for event in self.of(AttemptWaits) if event.task_id == task_id]


def start(workflow: DotFlow, **arguments: Any) -> Run:
    run = workflow.start(**arguments)
    run.wait()
    return run


def statuses(run: Run) -> list[TypeStatus]:
    return [task.status for task in run.tasks]


def errors_of(task: Task) -> list[str]:
    return [error.exception for error in task.errors]


class Door:
    """Opens at a number of looks; what a step waits for."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.at: list[float] = []

    def look(self) -> bool:
        self.at.append(clock.monotonic())
        return len(self.at) >= self.looks


# What it is asked, and when


@pytest.mark.parametrize("answer", ["none", "raises"])
@pytest.mark.parametrize("is_coroutine", [False, True], ids=["function", "coroutine"])
@pytest.mark.parametrize(("mode", "executor"), WAYS)
def test_a_step_is_asked_until_it_returns_something(
    mode: str,
    executor: Callable[[], Executor] | None,
    is_coroutine: bool,
    answer: str,
    make_workflow: MakeWorkflow,
    tmp_path: Path,
) -> None:
    """On every executor it is one attempt without an error, and the next task gets its value."""
    looks = tmp_path / "looks"

    def look() -> str | None:
        with looks.open("a") as file:
            file.write(".")
        count = len(looks.read_text())
        if count < 4:
            if answer == "raises":
                raise NotYet(f"{count} of 4")
            return None
        return "open"

    async def look_async() -> str | None:
        return look()

    @action
    def go(door: str) -> str:
        return f"through the {door} door"

    step = action(poll=0.001, timeout=20 if answer == "none" else 0)(look_async if is_coroutine else look)
    workflow = make_workflow(**({} if executor is None else {"executor": executor()}))
    workflow.task.add(step, name="door", group_name=group(mode, 0)).add(go, group_name=group(mode, 1))
    follower = Follower(workflow)

    run = start(workflow, mode="sequential" if mode == "groups" else mode)

    assert run.tasks[1].value == "through the open door"
    assert (run.tasks[0].attempt, run.tasks[0].errors, run.tasks[0].reason) == (1, [], "")
    assert follower.asked() == [1, 2, 3]
    assert [event.note for event in follower.of(AttemptWaits)][:1] == ["1 of 4" if answer == "raises" else ""]
    assert len([event for event in follower.of(AttemptStarted) if event.task_id == 0]) == 1


@pytest.mark.parametrize("mode", ["sequential", "background"])
def test_an_interval_is_between_two_calls(mode: str, make_workflow: MakeWorkflow) -> None:
    """Fifty minutes pass in no time on a virtual clock."""
    door = Door(101)
    workflow = make_workflow()
    workflow.task.add(action(poll="30s")(lambda: door.look() or None), name="door")

    with virtual_clock():
        run = start(workflow, mode=mode)

    assert [at - door.at[0] for at in door.at] == [30.0 * number for number in range(101)]
    assert (run.tasks[0].status, run.tasks[0].duration) == (COMPLETED, 3000.0)


@pytest.mark.parametrize("value", [False, 0, "", [], {}])
def test_only_none_is_not_yet(value: Any, make_workflow: MakeWorkflow) -> None:
    """A value that is false is a value."""
    workflow = make_workflow()
    workflow.task.add(action(poll=3600)(lambda: value), name="count")

    assert start(workflow).tasks[0].value == value


def test_jitter_shortens_the_interval(make_workflow: MakeWorkflow) -> None:
    """By its share at most."""
    door = Door(40)
    workflow = make_workflow()
    workflow.task.add(action(poll=100, jitter=0.5)(lambda: door.look() or None), name="door")

    with virtual_clock():
        start(workflow)

    waits = [later - earlier for earlier, later in zip(door.at, door.at[1:], strict=False)]
    assert all(50 <= wait <= 100 for wait in waits)
    assert len(set(waits)) > 10


def test_the_record_says_what_it_waits_for(make_workflow: MakeWorkflow) -> None:
    """While it waits, it is in progress and has a reason; at its end it has none."""
    door, seen = Door(3), list[Any]()
    workflow = make_workflow()

    def files() -> str:
        if not door.look():
            raise NotYet(f"{len(door.at)} of 3 files")
        return "all"

    workflow.task.add(action(poll=60)(files), name="files")

    def follow(event: Any) -> None:
        if isinstance(event, AttemptWaits):
            task = workflow.last.tasks[0]
            seen.append((task.status, task.reason, task.attempt))

    Follower(workflow, follow)
    with virtual_clock():
        run = start(workflow)

    assert seen == [
        (IN_PROGRESS, "waits: 1 of 3 files, asked once", 1),
        (IN_PROGRESS, "waits: 2 of 3 files, asked 2 times", 1),
    ]
    assert (run.tasks[0].status, run.tasks[0].reason) == (COMPLETED, "")


# What fails


def test_a_wait_has_a_limit(make_workflow: MakeWorkflow) -> None:
    """The last call is at the poll_timeout; then the attempt fails, and each attempt has the whole time."""
    door = Door(100)
    workflow = make_workflow()

    def files() -> None:
        door.look()
        raise NotYet("3 of 5 files")

    workflow.task.add(action(poll="30s", poll_timeout="100s", retry=2, retry_delay=7)(files), name="files")
    with virtual_clock():
        run = start(workflow)

    task = run.tasks[0]
    first, second = [0, 30, 60, 90, 100], [107, 137, 167, 197, 207]
    assert [at - door.at[0] for at in door.at] == [*first, *second]
    assert errors_of(task) == ["PollTimeout", "PollTimeout"]
    message = "Step 'files' was not ready within its poll_timeout of 100 s, asked 5 times. 3 of 5 files"
    assert task.errors[-1].message == message
    assert (task.status, task.attempt, task.reason) == (FAILED, 2, "")


@pytest.mark.parametrize(
    ("retry_on", "attempts"),
    [(TimeoutError, 2), (OSError, 2), (ValueError, 1), (lambda error: "asked 2 times" in str(error), 2)],
)
def test_its_end_is_a_timeout_error_for_retry_on(retry_on: Any, attempts: int, make_workflow: MakeWorkflow) -> None:
    """As a timeout is: a class or a function decides."""
    workflow = make_workflow()
    step = action(poll=60, poll_timeout=60, retry=2, retry_delay=0, retry_on=retry_on)(lambda: None)
    workflow.task.add(step, name="never")

    with virtual_clock():
        assert errors_of(start(workflow).tasks[0]) == ["PollTimeout"] * attempts


def test_a_call_that_fails_is_a_failed_attempt(make_workflow: MakeWorkflow) -> None:
    """The next attempt polls anew."""
    door = Door(8)
    workflow = make_workflow()

    def files() -> str | None:
        if door.look():
            return "all"
        if len(door.at) == 4:
            raise ConnectionError("away")
        return None

    workflow.task.add(action(poll=10, poll_timeout=35, retry=2, retry_delay=5)(files), name="files")
    follower = Follower(workflow)
    with virtual_clock():
        run = start(workflow)

    assert [event.asked for event in follower.of(AttemptWaits)] == [1, 2, 3, 1, 2, 3]
    assert [event.attempt for event in follower.of(AttemptWaits)] == [1, 1, 1, 2, 2, 2]
    assert [(event.attempt, event.failure.exception) for event in follower.of(AttemptFailed)] == [
        (1, "ConnectionError")
    ]
    assert (run.tasks[0].status, run.tasks[0].value) == (COMPLETED, "all")


def test_a_call_has_the_timeout(make_workflow: MakeWorkflow) -> None:
    """Each call has the whole timeout; one that exceeds it fails the attempt."""
    door = Door(3)
    workflow = make_workflow()

    def files() -> None:
        if door.look():
            threading.Event().wait(20)

    workflow.task.add(action(poll=0.001, timeout=0.2)(files), name="files")
    run = start(workflow)

    assert errors_of(run.tasks[0]) == ["TimeoutError"]
    assert 1 <= len(door.at) <= 3  # 3, unless the machine is too busy for a quick call


def test_a_fallback_waits_by_its_own_policy(make_workflow: MakeWorkflow) -> None:
    """Its interval and its limit, also those of a step that has none."""
    mirror, at = Door(3), list[float]()
    workflow = make_workflow()
    other = action(poll=100)(lambda: mirror.look() or None)
    plain = action(lambda: at.append(clock.monotonic()))
    workflow.task.add(action(poll=10, poll_timeout=20)(lambda: None), name="first", fallback=other)
    workflow.task.add(action(poll=10, poll_timeout=20)(lambda: None), name="second", fallback=plain)

    with virtual_clock():
        run = start(workflow)

    assert [look - mirror.at[0] for look in mirror.at] == [0, 100, 200]
    assert (len(at), [task.value for task in run.tasks]) == (1, [True, None])


def test_another_step_fails_by_not_yet(make_workflow: MakeWorkflow) -> None:
    """Without poll it is an error."""
    workflow = make_workflow()

    @action
    def files() -> None:
        raise NotYet("3 of 5 files")

    workflow.task.add(files)
    task = start(workflow).tasks[0]

    assert [(error.exception, error.message) for error in task.errors] == [("NotYet", "3 of 5 files")]


# Workers and places


def test_a_wait_holds_no_worker(make_workflow: MakeWorkflow) -> None:
    """One thread asks three steps in turn, and runs another task meanwhile."""
    doors, threads, seen = [Door(4) for _ in range(3)], set[str](), list[str]()
    workflow = make_workflow(executor=ExecutorThread(max_workers=1))
    for number, door in enumerate(doors):

        def look(door: Door = door) -> bool | None:
            threads.add(threading.current_thread().name)
            return door.look() or None

        workflow.task.add(action(poll=60)(look), name=f"door{number}", after=[])
    workflow.task.add(action(lambda: seen.append(f"{[len(door.at) for door in doors]}")), name="other", after=[])

    with virtual_clock():
        run = start(workflow, mode="parallel")

    assert statuses(run) == [COMPLETED] * 4
    assert seen == ["[1, 1, 1]"]
    assert [task.duration for task in run.tasks[:3]] == [180.0] * 3
    assert len(threads) == 1


def test_a_wait_holds_its_place_in_max_parallel(make_workflow: MakeWorkflow) -> None:
    """The third item begins when one of the first two has ended."""
    began = dict[int, float]()
    workflow = make_workflow(executor=ExecutorThread())

    @action(poll=60)
    def door(number: int) -> int | None:
        now = clock.monotonic()
        return number if now >= began.setdefault(number, now) + 120 else None

    workflow.task.add(door, each={"number": [0, 1, 2]}, max_parallel=2)
    with virtual_clock():
        run = start(workflow, mode="parallel")

    assert [began[number] - began[0] for number in range(3)] == [0, 0, 120]
    assert run.tasks[0].value == [0, 1, 2]


def test_in_sequential_order_nothing_else_runs_meanwhile(make_workflow: MakeWorkflow) -> None:
    """Items wait one after the other, and the next task after all of them."""
    calls, counts = list[Any](), dict[int, int]()
    workflow = make_workflow()

    @action(poll=60)
    def door(number: int) -> int | None:
        calls.append(number)
        counts[number] = counts.get(number, 0) + 1
        return number if counts[number] == 3 else None

    workflow.task.add(door, each={"number": [0, 1]}).add(action(lambda: calls.append("after")), name="after")
    with virtual_clock():
        start(workflow)

    assert calls == [0, 0, 0, 1, 1, 1, "after"]


# The end of the run


@pytest.mark.parametrize("executor", [ExecutorThread, ExecutorAsync], ids=["threads", "async"])
@pytest.mark.parametrize("is_mapped", [False, True], ids=["task", "items"])
def test_a_stopped_run_asks_no_more(
    executor: Callable[[], Executor], is_mapped: bool, make_workflow: MakeWorkflow
) -> None:
    """The failure of another task fails what waits at once; a cleanup that waits goes on."""
    door, cleanup = Door(1000), Door(4)
    workflow = make_workflow(executor=executor())

    @action(poll=60, poll_timeout="10h", retry=5)
    def waits(number: int = 0) -> None:
        door.look()

    @action(poll=1)
    def other() -> None:
        if clock.monotonic() >= began + 150:
            raise ValueError("stop")

    if is_mapped:
        workflow.task.add(waits, each={"number": [0, 1, 2]})
    else:
        workflow.task.add(waits)
    workflow.task.add(other, after=[])
    workflow.task.add(action(poll=60)(lambda: cleanup.look() or None), name="cleanup", always=True)
    with virtual_clock():
        began = clock.monotonic()
        run = start(workflow, mode="parallel")
        took = clock.monotonic() - began

    assert (statuses(run), run.state) == ([FAILED, FAILED, COMPLETED], TypeRunState.FAILED)
    assert len(door.at) == (9 if is_mapped else 3)
    assert took == 150 + 180
    waiting = run.tasks[0].items if is_mapped else run.tasks[:1]
    stopped = "was stopped in the middle: the run was stopped by a failure."
    assert [(errors_of(task), task.errors[0].message.endswith(stopped)) for task in waiting] == [
        (["RunStopped"], True)
    ] * len(waiting)
    assert run.tasks[0].errors[0].exception == "RunStopped"


def test_a_stopped_run_asks_nobody_who_waits_for_a_worker(make_workflow: MakeWorkflow) -> None:
    """Not even those whose time has come, but for whom there was no room."""
    calls = list[str]()
    workflow = make_workflow(executor=ExecutorThread(max_workers=1))

    @action(poll=60)
    def first() -> None:
        calls.append("first")
        if calls.count("first") == 2:
            raise ValueError("stop")

    workflow.task.add(first)
    for name in ("second", "third"):
        workflow.task.add(action(poll=60)(lambda name=name: calls.append(name)), name=name, after=[])
    with virtual_clock():
        run = start(workflow, mode="parallel")

    assert calls == ["first", "second", "third", "first"]
    assert [errors_of(task) for task in run.tasks] == [["ValueError"], ["RunStopped"], ["RunStopped"]]


def test_an_item_that_fails_ends_those_that_wait(make_workflow: MakeWorkflow) -> None:
    """The map says which one failed."""
    workflow = make_workflow(executor=ExecutorThread())

    @action(poll=60)
    def door(number: int) -> None:
        if number == 1:
            raise ValueError("stop")

    workflow.task.add(door, each={"number": [0, 1, 2]})
    with virtual_clock():
        task = start(workflow, mode="parallel").tasks[0]

    assert [errors_of(item) for item in task.items] == [["RunStopped"], ["ValueError"], ["RunStopped"]]
    assert task.errors[0].message == "1 of 3 items failed: [1] 1 ValueError"


def test_with_keep_going_it_goes_on(make_workflow: MakeWorkflow) -> None:
    """After the failure of another task."""
    door = Door(4)
    workflow = make_workflow(executor=ExecutorThread())
    workflow.task.add(action(poll=60)(lambda: door.look() or None), name="door")
    workflow.task.add(action(lambda: 1 / 0), name="fails", after=[])

    with virtual_clock():
        assert statuses(start(workflow, mode="parallel", keep_going=True)) == [COMPLETED, FAILED]


def test_a_call_that_runs_at_a_failure_may_end(make_workflow: MakeWorkflow) -> None:
    """Its value counts; if it is not ready, it is not asked again."""
    both, failed = threading.Barrier(3, timeout=45), threading.Event()
    workflow = make_workflow(executor=ExecutorThread())

    def ready() -> str:
        both.wait()
        failed.wait(45)
        return "there"

    def not_ready() -> None:
        both.wait()
        failed.wait(45)

    def fails() -> None:
        both.wait()
        raise ValueError("stop")

    workflow.task.add(action(poll=3600)(ready), name="ready")
    workflow.task.add(action(poll=3600)(not_ready), name="not_ready", after=[])
    workflow.task.add(action(fails), name="fails", after=[])
    Follower(workflow, lambda event: failed.set() if isinstance(event, TaskFailed) else None)
    run = start(workflow, mode="parallel")

    assert statuses(run) == [COMPLETED, FAILED, FAILED]
    assert errors_of(run.tasks[1]) == ["RunStopped"]


@pytest.mark.parametrize("mode", ["sequential", "background"])
def test_a_cancelled_run_asks_no_more(mode: str, make_workflow: MakeWorkflow) -> None:
    """It fails what waits, and its cleanup runs."""
    door, ran = Door(1000), list[str]()
    workflow = make_workflow()
    workflow.task.add(action(poll=60)(lambda: door.look() or None), name="door")
    workflow.task.add(action(lambda: ran.append("cleanup")), name="cleanup", always=True)

    def follow(event: Any) -> None:
        if isinstance(event, AttemptWaits) and event.asked == 3:
            workflow.last.cancel()

    Follower(workflow, follow)
    with virtual_clock():
        run = start(workflow, mode=mode)

    assert (len(door.at), ran, run.state) == (3, ["cleanup"], TypeRunState.CANCELLED)
    assert (statuses(run), errors_of(run.tasks[0])) == ([FAILED, COMPLETED], ["RunCancelled"])


def test_the_timeout_of_the_run_ends_it(make_workflow: MakeWorkflow) -> None:
    """Where the step has no limit of its own."""
    door = Door(1000)
    workflow = make_workflow()
    workflow.task.add(action(poll=60)(lambda: door.look() or None), name="door")

    with virtual_clock():
        run = start(workflow, timeout="150s")

    assert (len(door.at), errors_of(run.tasks[0])) == (3, ["RunTimeout"])


@pytest.mark.parametrize("is_mapped", [False, True], ids=["task", "items"])
def test_a_pause_pauses_it_and_a_resume_waits_anew(is_mapped: bool, make_workflow: MakeWorkflow) -> None:
    """With the whole time, since nothing is saved while it waits."""
    looks = list[float]()
    workflow = make_workflow(workflow_id="paused", executor=ExecutorThread())

    @action(poll=60, poll_timeout=300)
    def door(number: int = 0) -> int | None:
        looks.append(clock.monotonic())
        return number if clock.monotonic() >= 450 + first else None

    if is_mapped:
        workflow.task.add(door, each={"number": [0, 1]})
    else:
        workflow.task.add(door)

    def follow(event: Any) -> None:
        if isinstance(event, AttemptWaits) and event.asked == 3 and workflow.last.state is TypeRunState.RUNNING:
            workflow.last.pause()

    follower = Follower(workflow, follow)
    with virtual_clock():
        first = clock.monotonic()
        paused = start(workflow, mode="parallel")
        assert (paused.state, statuses(paused), paused.tasks[0].reason) == (
            TypeRunState.PAUSED,
            [PAUSED],
            "the run was paused",
        )
        follower.follow = int
        clock.sleep(60)
        resumed = start(workflow, mode="parallel", resume=True)

    assert (resumed.state, statuses(resumed)) == (TypeRunState.COMPLETED, [COMPLETED])
    assert resumed.tasks[0].value == ([0, 1] if is_mapped else 0)


# Who sees it


def current_trace() -> int:
    """Returns the id of the current span, as a step sees it."""
    from opentelemetry.trace import get_current_span

    return get_current_span().get_span_context().span_id


class Lines(Log):
    """Keeps what a log is told: the time, the name, the status and the reason."""

    def __init__(self) -> None:
        self.lines: list[tuple[float, str, TypeStatus, str]] = []

    def info(self, task: Task) -> None:
        self.lines.append((clock.monotonic(), task.name, task.status, task.reason))

    def error(self, task: Task) -> None:
        self.info(task)


def test_the_log_has_the_first_wait_and_one_each_ten_minutes(make_workflow: MakeWorkflow) -> None:
    """Of an hour with a call each minute it has seven."""
    log, door = Lines(), Door(61)
    workflow = make_workflow(log=log)
    workflow.task.add(action(poll=60)(lambda: door.look() or None), name="door")

    with virtual_clock():
        start(workflow)

    waits = [(at - door.at[0], reason) for at, _, _, reason in log.lines if reason]
    assert waits[:2] == [(0, "waits, asked once"), (600, "waits, asked 11 times")]
    assert [at for at, _ in waits] == [0, 600, 1200, 1800, 2400, 3000]
    assert [status for _, _, status, reason in log.lines if not reason] == [IN_PROGRESS, COMPLETED]


def test_the_log_has_one_wait_of_a_map(make_workflow: MakeWorkflow) -> None:
    """Not one of each item, and no progress while all of them wait."""
    log, door = Lines(), Door(63)
    workflow = make_workflow(log=log, executor=ExecutorThread(1))

    @action(poll=60)
    def look(number: int) -> int | None:
        return number if door.look() else None

    workflow.task.add(look, each={"number": [0, 1, 2]}, max_parallel=3)
    with virtual_clock():
        start(workflow, mode="parallel")

    waits = [(at - door.at[0], name, reason) for at, name, _, reason in log.lines if reason]
    texts = {0: "waits, asked once", 600: "waits, asked 11 times", 1200: "waits, asked 21 times"}
    assert waits == [(at, "look[0]", text) for at, text in texts.items()]
    # Its beginning, its progress when items end, and its end.
    assert [at - door.at[0] for at, _, _, reason in log.lines if not reason] == [0, 1200, 1260, 1260]


def test_a_note_shows_no_secret(make_workflow: MakeWorkflow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the event nor in the record and the error."""
    monkeypatch.setenv("BANK_TOKEN", "tok-4711-secret")
    workflow = make_workflow()

    def payment(token: str = Secret("BANK_TOKEN")) -> None:
        raise NotYet(f"the bank with {token}")

    workflow.task.add(action(poll=60, poll_timeout=60)(payment), name="payment")
    follower = Follower(workflow)
    with virtual_clock():
        run = start(workflow)

    assert {event.note for event in follower.of(AttemptWaits)} == {"the bank with ***"}
    assert run.tasks[0].errors[0].message.endswith("asked 2 times. the bank with ***")


def test_the_history_knows_how_often(make_workflow: MakeWorkflow, tmp_path: Path) -> None:
    """While it waits, and at its end; a run that is killed then is known to have waited."""
    history, door, seen = HistorySQLite(tmp_path / "history.db"), Door(4), list[Any]()
    workflow = make_workflow(history=history)

    def files() -> str:
        if not door.look():
            raise NotYet(f"{len(door.at)} of 4 files")
        return "all"

    def look_at_history() -> None:
        attempt = history.load(workflow.last.run_id).steps[0].attempts[-1]
        seen.append((attempt.state, attempt.asked, attempt.glimpse))

    workflow.task.add(action(poll=60)(lambda: (door.at and look_at_history(), files())[1]), name="files")
    with virtual_clock():
        run = start(workflow)

    attempt = history.load(run.run_id).steps[0].attempts[-1]
    assert seen == [
        ("Running", 1, "waits: 1 of 4 files, asked once"),
        ("Running", 2, "waits: 2 of 4 files, asked 2 times"),
        ("Running", 3, "waits: 3 of 4 files, asked 3 times"),
    ]
    assert (attempt.state, attempt.asked, attempt.glimpse) == ("Completed", 3, "'all'")
    assert attempt.cpu is not None


@pytest.mark.parametrize("ends", ["times out", "fails", "is stopped"])
def test_the_history_has_no_wait_after_a_failure(ends: str, make_workflow: MakeWorkflow, tmp_path: Path) -> None:
    """It has the error instead, and how often it was not ready."""
    history, door = HistorySQLite(tmp_path / "history.db"), Door(3)
    workflow = make_workflow(history=history)

    def files() -> None:
        if door.look() and ends == "fails":
            raise ValueError("away")
        if door.looks == len(door.at) and ends == "is stopped":
            workflow.last.cancel()

    limit = 120 if ends == "times out" else None
    workflow.task.add(action(poll=60, poll_timeout=limit)(files), name="files")
    with virtual_clock():
        run = start(workflow)

    (attempt,) = history.load(run.run_id).steps[0].attempts
    assert (attempt.state, attempt.glimpse, len(attempt.errors)) == ("Failed", "", 1)
    assert attempt.asked == (2 if ends == "fails" else 3)


@pytest.mark.parametrize(
    "executor",
    [
        ExecutorInline,
        ExecutorThread,
        pytest.param(lambda: ExecutorProcess(1), marks=pytest.mark.processes),
    ],
    ids=["inline", "threads", "processes"],
)
def test_an_attempt_that_waits_is_one_span(
    executor: Callable[[], Executor], make_workflow: MakeWorkflow, tmp_path: Path
) -> None:
    """And each of its calls is within it."""
    telemetry, looks = Telemetry(), tmp_path / "looks"
    workflow = make_workflow(tracer=telemetry.tracer, executor=executor())

    def look() -> bool | None:
        with looks.open("a") as file:
            file.write(f"{current_trace()}\n")
        return len(looks.read_text().splitlines()) == 4 or None

    workflow.task.add(action(poll=0.001)(look), name="door")
    start(workflow)

    span = telemetry.attempt("door")
    assert (facts(span)["dotflow.asked"], exceptions(span)) == (3, [])
    assert span.context is not None
    assert looks.read_text().split() == [f"{span.context.span_id}"] * 4


# What is refused


class TestRefused:
    @pytest.mark.parametrize("poll", [0, "0s", -1, "soon", True])
    def test_an_interval_of_no_time(self, poll: Any) -> None:
        """It would ask without a break."""
        with pytest.raises(InvalidPolicy, match="poll is a number of seconds between two calls, above 0"):
            action(poll=poll)

    def test_a_limit_of_no_time(self) -> None:
        """And one without an interval."""
        with pytest.raises(InvalidPolicy, match="for which an attempt waits, above 0"):
            action(poll=1, poll_timeout=0)
        with pytest.raises(InvalidPolicy, match="write poll='30s', too"):
            action(poll_timeout="2h")

    def test_a_class(self) -> None:
        """Its actions run within one attempt, so none of them can wait."""
        with pytest.raises(InvalidPolicy, match="a class and its actions can't wait"):

            @action(poll="30s")
            class Waits:
                @action
                def look(self) -> None: ...

        with pytest.raises(InvalidPolicy, match="a class and its actions can't wait"):

            @action
            class Has:
                @action(poll="30s")
                def look(self) -> None: ...

        @action
        class Holds:
            @action
            class Inner:
                @action
                def look(self) -> None: ...

    def test_an_action_of_an_instance(self, make_workflow: MakeWorkflow) -> None:
        """That a step has returned."""

        class Has:
            @action(poll="30s")
            def look(self) -> None: ...

        workflow = make_workflow()
        workflow.task.add(action(lambda: Has()), name="has")

        assert errors_of(start(workflow).tasks[0]) == ["InvalidPolicy"]

    def test_a_method_may_wait(self, make_workflow: MakeWorkflow) -> None:
        """It is a function, once its instance is there."""

        class Has:
            looks = 0

            @action(poll=0.001)
            def look(self) -> int | None:
                self.looks += 1
                return self.looks if self.looks > 2 else None

        workflow = make_workflow()
        workflow.task.add(Has().look)

        assert start(workflow).tasks[0].value == 3


PAY = "import payment_after as it; it.workflow.start(resume=True)"
OWN_SOURCE = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


def test_a_run_that_is_killed_while_it_waits_goes_on(tmp_path: Path) -> None:
    """The example of the documentation: nothing is reserved twice, and the resume waits for the payment."""
    example = Path(__file__).parents[2] / "docs_src" / "ports" / "payment_after.py"
    (tmp_path / example.name).write_text(example.read_text())
    with subprocess.Popen(
        [sys.executable, "-u", "-c", PAY], cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=OWN_SOURCE
    ) as killed:
        assert killed.stderr is not None
        lines = iter(killed.stderr)
        assert any("waits: order 4711 is not paid, asked once" in line for line in lines)
        killed.kill()

    resumed = subprocess.run(
        [sys.executable, example.name], cwd=tmp_path, capture_output=True, text=True, env=OWN_SOURCE, check=True
    )

    assert resumed.stdout == "120.50 EUR: shipped from shelf 1\n"
    assert "task 0 reserve: Completed (from its checkpoint)" in resumed.stderr
    assert "task 1 payment: Completed in" in resumed.stderr


@action
def first() -> int:
    return 1


looks = 0


@action(poll=0.001)
def door(first: int) -> int | None:
    global looks
    looks += 1
    if looks < 3:
        raise NotYet(f"{looks} of 3")
    return first + 1


@action
def last(door: int) -> int:
    return door + 1


def workflow_that_waits(storage: Storage) -> DotFlow:
    global looks
    looks = 0
    workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="waits")
    workflow.task.add([first, door, last])
    return workflow


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.processes
def test_it_survives_every_crash(tmp_path: Path) -> None:
    """Killed at each moment, while it waits too, it goes on and ends as it would."""
    assert assert_survives_crashes(workflow_that_waits, StorageFile(tmp_path)).crashes > 5


def test_show_says_what_it_waits_for(command: Any) -> None:
    """And at its end, how often it was not ready."""
    history = HistorySQLite()
    begin(history, "0123456789", "door")
    history.record("0123456789", AttemptWaits(0, 1, 37, "3 of 5 files", clock.now(), clock.monotonic()))
    history.settle("0123456789", begins=True)

    assert "waits: 3 of 5 files, asked 37 times" in command("show", "0123456789").out
    history.record("0123456789", TaskCompleted(0, Context(5), clock.monotonic()))
    history.settle("0123456789", begins=True)
    assert "5, not ready 37 times" in command("show", "0123456789", "door").out
    task = document(history.load("0123456789"))["tasks"][0]
    assert (task["attempts"][0]["asked"], task["glimpse"]) == (37, "5")


def test_a_replay_says_that_it_is_not_ready() -> None:
    """It makes one call."""
    ended = ending_of(
        Parked(TypePark.POLL, "3 of 5 files"), AttemptRecord(None, 1, TypeAttemptState.RUNNING), None, 1.0
    )

    assert ended == "not ready: 3 of 5 files"


def test_a_value_that_was_waited_for_is_restored(make_workflow: MakeWorkflow, tmp_path: Path) -> None:
    """A resume does not wait for it again."""
    door = Door(3)
    fails = [True]
    workflow = make_workflow(workflow_id="restored", storage=StorageFile(tmp_path))

    @action
    def go(door: bool) -> str:
        if fails.pop() if fails else False:
            raise ValueError("away")
        return "there"

    workflow.task.add(action(poll=0.001)(lambda: door.look() or None), name="door").add(go)
    assert statuses(start(workflow)) == [COMPLETED, FAILED]
    run = start(workflow, resume=True)

    assert (statuses(run), len(door.at), run.tasks[0].restored_from) == ([COMPLETED] * 2, 3, "checkpoint")
