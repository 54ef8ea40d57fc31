"""start(timeout=): a run that takes longer ends as by cancel, as Failed, with RunTimeout."""

import asyncio
import math
import pickle
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, DotFlow, Run, action, clock
from dotflow.abc.executor import Executor
from dotflow.abc.history import Listener
from dotflow.core.events import AttemptStarted, Event, RunEnded
from dotflow.core.types.run_state import TypeRunState
from dotflow.core.types.status import TypeStatus
from dotflow.engine.runner import Runner
from dotflow.errors import InvalidArgument, RunFailed, RunTimeout
from dotflow.providers import ExecutorAsync, ExecutorProcess, ExecutorThread, LogDefault, SchedulerCron, StorageFile
from dotflow.testing import virtual_clock

COMPLETED, FAILED, NOT_STARTED = TypeStatus.COMPLETED, TypeStatus.FAILED, TypeStatus.NOT_STARTED
WAIT = 45.0  # seconds, for what happens at once
FOR_EVER = 3600.0  # seconds that no test waits
SOON = "50ms"

LOG = LogDefault(output="none")


@action(timeout=FOR_EVER)
def hang() -> None:
    while True:  # a thread can be interrupted between two waits
        threading.Event().wait(0.01)


@action
async def hang_async() -> None:
    await asyncio.sleep(FOR_EVER)


@action
def five() -> int:
    return 5


def statuses(run: Run) -> list[TypeStatus]:
    return [task.status for task in run.tasks]


class Timer(Listener):
    """Lets the time of runs be up when an attempt has begun, on a machine of any speed; keeps their ends."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.ends: list[RunEnded] = []

    def record(self, run_id: str, event: Event) -> None:
        if isinstance(event, AttemptStarted):
            self.begun.set()
        elif isinstance(event, RunEnded):
            self.ends.append(event)


@pytest.fixture
def timer(monkeypatch: pytest.MonkeyPatch) -> Timer:
    timer, is_late = Timer(), Runner._is_late

    def is_late_in_an_attempt(runner: Runner) -> bool:
        if runner._deadline == math.inf:
            return False
        runner._deadline = -math.inf if timer.begun.is_set() else clock.monotonic() + FOR_EVER
        return is_late(runner)

    monkeypatch.setattr(Runner, "_is_late", is_late_in_an_attempt)
    return timer


def check_ended(run: Run) -> None:
    """The run ended by its timeout, during its first task."""
    assert (run.status, run.state) == (FAILED, TypeRunState.FAILED)
    assert statuses(run) == [FAILED, NOT_STARTED]
    error = run.tasks[0].error
    assert error is not None
    assert error.exception == "RunTimeout"
    assert "stopped in the middle: the run exceeded its timeout of 0.05 s" in error.message


@pytest.mark.parametrize(
    ("mode", "executor", "step"),
    [
        ("background", None, hang),
        ("parallel", ExecutorThread, hang),
        ("parallel", ExecutorAsync, hang_async),
        ("parallel", lambda: ExecutorProcess(max_workers=1), hang),
        ("sequential", lambda: ExecutorProcess(max_workers=1), hang),
        ("sequential", ExecutorThread, hang),
    ],
    ids=["background", "threads", "async", "processes", "sequential-processes", "sequential-threads"],
)
def test_it_ends_a_running_step(mode: str, executor: Callable[[], Executor] | None, step: Any, timer: Timer) -> None:
    """In each mode."""
    settings: dict[str, Any] = {} if executor is None else {"executor": executor()}
    workflow = DotFlow(Config(log=LOG, **settings))
    workflow.config.listeners.append(timer)
    workflow.task.add(step).add(five, after=step)

    run = workflow.start(mode=mode, timeout=SOON)
    assert run.wait(WAIT)

    check_ended(run)


@pytest.mark.parametrize("how", ["astart", "launch", "groups"])
def test_each_way_to_start_takes_it(how: str, timer: Timer) -> None:
    """As `start` does."""
    workflow = DotFlow(Config(log=LOG, executor=ExecutorThread()))
    workflow.config.listeners.append(timer)
    workflow.task.add(hang, group_name="a" if how == "groups" else "default").add(five, after=hang)

    if how == "astart":
        run = asyncio.run(workflow.astart(mode="parallel", timeout=SOON))
    elif how == "launch":
        run = workflow.launch(lambda: None, mode="parallel", timeout=SOON)
    else:
        run = workflow.start(timeout=SOON)
    assert run.wait(WAIT)

    check_ended(run)


def test_a_step_in_the_programs_own_thread_ends_by_itself_first() -> None:
    """As after a cancel: no later step begins, and the run is Failed, so on_failure is called."""
    called: list[str] = []
    workflow = DotFlow(Config(log=LOG))
    with virtual_clock() as time:
        workflow.task.add(action(lambda: time.sleep("2h")), name="long").add(five)
        run = workflow.start(
            timeout="1h",
            on_failure=lambda tasks: called.append("failure"),
            on_success=lambda tasks: called.append("success"),
        )

    assert (run.state, statuses(run), called) == (TypeRunState.FAILED, [COMPLETED, NOT_STARTED], ["failure"])


@pytest.mark.parametrize("executor", [None, ExecutorThread])
def test_in_real_time_it_comes_by_itself(executor: Callable[[], Executor] | None) -> None:
    """During a step, or after one that nothing can end from outside."""

    def wait() -> None:
        until = clock.ticks() + 0.02
        while executor or clock.ticks() < until:
            threading.Event().wait(0.005)

    workflow = DotFlow(Config(log=LOG, executor=executor and executor()))
    workflow.task.add(action(wait), name="wait").add(five)

    assert workflow.start(timeout=0.02).state is TypeRunState.FAILED
    assert workflow.last.tasks[1].status is NOT_STARTED


@pytest.mark.parametrize("executor", [None, ExecutorProcess])
def test_it_takes_no_thread(executor: Callable[[], Executor] | None) -> None:
    """A process with a second thread can't fork its workers, which then get copies of what steps take, or fail."""
    before = set(threading.enumerate())
    begun: list[set[threading.Thread]] = []

    class Threads(Listener):
        def record(self, run_id: str, event: Event) -> None:
            if isinstance(event, AttemptStarted):
                begun.append(set(threading.enumerate()) - before)

    workflow = DotFlow(Config(log=LOG, executor=executor and executor()))
    workflow.config.listeners.append(Threads())
    workflow.task.add(five)
    run = workflow.start(mode="sequential", timeout=FOR_EVER)

    assert run.state is TypeRunState.COMPLETED
    assert begun == [set()]


def test_it_does_not_wait_for_a_retry() -> None:
    """The task fails, in no time under a virtual clock."""

    @action(retry=2, retry_delay="4h")
    def fails() -> None:
        raise ValueError

    workflow = DotFlow(Config(log=LOG))
    workflow.task.add(fails)
    with virtual_clock() as time:
        run = workflow.start(timeout="1h")
        seconds = time.monotonic()

    assert seconds == 3600
    assert [error.exception for error in run.tasks[0].errors] == ["ValueError", "RunTimeout"]


def test_a_run_in_time_is_what_it_is() -> None:
    """And time does not move on to the timeout."""
    workflow = DotFlow(Config(log=LOG))
    with virtual_clock() as time:
        workflow.task.add(action(lambda: time.sleep(60)), name="minute")
        runs = [workflow.start(timeout="2m"), workflow.start(mode="background", timeout=FOR_EVER)]
        assert all(run.wait(FOR_EVER) for run in runs)
        seconds = time.monotonic()

    assert [run.state for run in runs] == [TypeRunState.COMPLETED] * 2
    assert seconds == 120


def test_cleanup_has_all_the_time_it_takes() -> None:
    """Also where it takes longer than the run might."""
    ran: list[str] = []

    with virtual_clock() as time:

        @action(retry=2, retry_delay="4h")
        def fails() -> None:
            raise ValueError

        def clean() -> None:
            time.sleep("5h")
            ran.append("clean")

        workflow = DotFlow(Config(log=LOG))
        workflow.task.add(fails).add(action(clean), name="clean", always=True)
        run = workflow.start(timeout="1h")

    assert (ran, statuses(run), run.state) == (["clean"], [FAILED, COMPLETED], TypeRunState.FAILED)


def test_the_cleanup_of_a_cancelled_run_is_not_cut_off() -> None:
    """The timeout ends only what a first cancel ends."""
    with virtual_clock() as time:

        @action(retry=2, retry_delay="4h")
        def fails() -> None:
            time.after(60, lambda: workflow.last.cancel())
            raise ValueError

        workflow = DotFlow(Config(log=LOG))
        workflow.task.add(fails).add(action(lambda: time.sleep("5h")), name="clean", always=True)
        run = workflow.start(timeout="1h")

    assert (run.state, statuses(run)) == (TypeRunState.CANCELLED, [FAILED, COMPLETED])


def test_raise_for_failure_raises_run_timeout(timer: Timer) -> None:
    """It is a RunFailed and a TimeoutError, also after pickling."""
    workflow = DotFlow(Config(log=LOG, executor=ExecutorThread()), workflow_id="nightly")
    workflow.config.listeners.append(timer)
    workflow.task.add(hang)

    with pytest.raises(RunTimeout) as caught:
        workflow.start(mode="parallel", timeout=SOON).raise_for_failure()

    error = pickle.loads(pickle.dumps(caught.value))
    for one in (caught.value, error):
        assert isinstance(one, RunFailed)
        assert isinstance(one, TimeoutError)
        assert "failed at 1 of 1 tasks: task 0 hang: RunTimeout" in str(one)
        assert one.reason == "the run exceeded its timeout of 0.05 s"


def test_without_a_failed_task_the_error_has_the_reason() -> None:
    """Between two tasks."""
    workflow = DotFlow(Config(log=LOG))
    with virtual_clock() as time:
        workflow.task.add(action(lambda: time.sleep("2h")), name="long").add(five)
        with pytest.raises(RunTimeout, match="the run exceeded its timeout of 1 h before all of its 2 tasks"):
            workflow.start(timeout=FOR_EVER).raise_for_failure()


def test_each_run_of_a_schedule_has_its_own(tmp_path: Path) -> None:
    """The first one takes too long, and the second one is due as planned."""
    ends, began = Timer(), []
    with virtual_clock(datetime(2026, 1, 1, 23, tzinfo=UTC)) as time:

        @action(retry=2, retry_delay="5h")
        def work() -> None:
            began.append(time.now())
            if len(began) == 1:
                raise ValueError
            scheduler.stop()

        scheduler = SchedulerCron("0 0 * * *", timezone="UTC")
        workflow = DotFlow(Config(log=LOG, scheduler=scheduler, storage=StorageFile(tmp_path)))
        workflow.config.listeners.append(ends)
        workflow.task.add(work)
        workflow.schedule(timeout="4h")

    assert [moment.day for moment in began] == [2, 3]
    assert [(end.state, end.reason) for end in ends.ends] == [
        (TypeRunState.FAILED, "the run exceeded its timeout of 4 h"),
        (TypeRunState.COMPLETED, ""),
    ]


def test_a_paused_run_that_takes_too_long_fails(timer: Timer) -> None:
    """The steps that a pause waits for are stopped."""
    workflow = DotFlow(Config(log=LOG, executor=ExecutorThread()))
    workflow.task.add(hang).add(five, after=hang)
    run = workflow.launch(lambda: None, mode="parallel", timeout=SOON)
    while run.tasks[0].status is NOT_STARTED:
        assert not run.wait(0.005)
    run.pause()
    runner = run._stops.runner
    assert runner is not None
    timer.begun.set()  # from here on, it may end
    runner.session.wake()
    assert run.wait(WAIT)

    check_ended(run)


@pytest.mark.parametrize("timeout", [0, -1, "soon", True, float("nan"), "0s"])
def test_what_is_no_time_is_refused(timeout: Any) -> None:
    """Before anything runs, by `schedule` too."""
    workflow = DotFlow(Config(log=LOG))
    for start in (workflow.start, workflow.check_start):
        with pytest.raises(InvalidArgument, match="timeout"):
            start(timeout=timeout)


def test_the_seconds_of_the_timeout_are_those_of_one_run(tmp_path: Path) -> None:
    """The run that goes on has its own."""
    attempts: list[int] = []
    with virtual_clock() as time:

        def work() -> None:
            attempts.append(1)
            time.sleep(40)
            if len(attempts) == 1:
                raise ValueError

        workflow = DotFlow(Config(log=LOG, storage=StorageFile(tmp_path)), workflow_id="nightly")
        workflow.task.add(five).add(action(work), name="work")
        workflow.start(timeout=60)
        run = workflow.start(resume="unfinished", timeout=60)

    assert (run.state, len(attempts)) == (TypeRunState.COMPLETED, 2)
