"""virtual_clock: time that takes none, while what runs runs really."""

import asyncio
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, DotFlow, action, clock
from dotflow.core.types.status import TypeStatus
from dotflow.engine.run import Run
from dotflow.errors import InvalidArgument, VirtualClockMisuse
from dotflow.providers import ExecutorAsync, ExecutorProcess, ExecutorThread, LogDefault
from dotflow.testing import VirtualClock, virtual_clock
from dotflow.worker.waiting import WakeupEvent

MakeWorkflow = Callable[..., DotFlow]
HOUR = 3600.0
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def time() -> Any:
    with virtual_clock() as virtual:
        yield virtual


def hours(time: VirtualClock) -> float:
    return time.monotonic() / HOUR


# Time itself


def test_it_stands_still_until_a_thread_waits(time: VirtualClock) -> None:
    """It begins at a moment that is the same in every test, and real time does not move it."""
    threading.Event().wait(0.01)

    assert (time.now(), time.monotonic()) == (NEW_YEAR, 0.0)
    assert (clock.now(), clock.monotonic()) == (NEW_YEAR, 0.0)


def test_the_default_log_file_has_no_virtual_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A test adds no October to the file of the real runs; stderr has it, and so does a file that it names."""
    monkeypatch.chdir(tmp_path)
    default, named = DotFlow(), DotFlow(Config(log=LogDefault(path="test.log")))
    for workflow in (default, named):
        workflow.task.add(action(lambda: None))

    with virtual_clock(datetime(2026, 10, 31, 12, tzinfo=UTC)):
        default.start()
        named.start()

    assert capsys.readouterr().err.count("2026-10-31") == 4
    assert Path("test.log").read_text().count("2026-10-31") == 2
    assert not Path(".output").exists()
    default.start()
    assert "Completed" in Path(".output/flow.log").read_text()


def test_it_begins_at_the_given_moment() -> None:
    """At any moment with a zone; it is given in UTC."""
    with virtual_clock(datetime(2026, 3, 8, 1, tzinfo=UTC)) as time:
        time.sleep(1.5)
        assert time.now() == datetime(2026, 3, 8, 1, 0, 1, 500_000, tzinfo=UTC)


@pytest.mark.parametrize("start", [datetime(2026, 1, 1), "2026-01-01", 5])
def test_a_start_without_a_zone_is_refused(start: Any) -> None:
    """It would be another moment on each machine; and the clock can be had afterwards."""
    with pytest.raises(InvalidArgument, match="a datetime with a time zone"), virtual_clock(start):
        pass
    with virtual_clock():
        pass


@pytest.mark.parametrize("seconds", [-1, float("nan"), "1", None])
@pytest.mark.parametrize("method", ["sleep", "advance"])
def test_seconds_are_checked(method: str, seconds: Any, time: VirtualClock) -> None:
    """Time does not go back, nor by what is no number."""
    with pytest.raises(InvalidArgument, match="seconds"):
        getattr(time, method)(seconds)


def test_the_wall_clock_can_be_set_apart(time: VirtualClock) -> None:
    """The monotonic clock is not moved by it."""
    time.jump_wall(-HOUR)
    time.sleep(60)

    assert time.now() == NEW_YEAR - timedelta(minutes=59)
    assert time.monotonic() == 60


def test_functions_are_called_at_their_moments(time: VirtualClock) -> None:
    """In order, on the way; one that is not reached is not called."""
    called: list[tuple[str, float]] = []
    time.after(30, lambda: called.append(("b", time.monotonic())))
    time.at(NEW_YEAR + timedelta(seconds=10), lambda: called.append(("a", time.monotonic())))
    time.after(100, lambda: called.append(("never", time.monotonic())))

    time.sleep(60)

    assert called == [("a", 10), ("b", 30)]
    with pytest.raises(InvalidArgument, match="moment"):
        time.at(datetime(2026, 1, 1), lambda: None)


def test_advance_moves_it_at_once(time: VirtualClock) -> None:
    """What is due on the way is done on the way."""
    called: list[float] = []
    time.after(30, lambda: called.append(time.monotonic()))

    time.advance(60)

    assert (called, time.monotonic()) == ([30], 60)


def test_it_stands_still_for_a_wait_that_was_woken_before_it_began(time: VirtualClock) -> None:
    """A run that ends right before its schedule waits is no reason to jump to the next firing."""
    event, began = WakeupEvent(), time.monotonic()
    clock.about_to_wake(event.set)
    event.set()

    clock.wait(event.wait, 86_400, event.set)

    assert time.monotonic() == began


def test_it_goes_on_if_a_thread_waits_again_before_its_waker_does(time: VirtualClock) -> None:
    """On a busy machine, the thread that has moved it may be the last one to go on."""
    is_waiting, is_woken, waits_again, is_moved, is_over = (threading.Event() for _ in range(5))

    def wake_slowly() -> None:
        is_woken.set()
        waits_again.wait(5)

    def pause(begins: threading.Event, ends: threading.Event) -> bool:
        begins.set()
        return ends.wait(5)

    def wait_twice() -> None:
        with clock.join():
            clock.wait(lambda seconds: pause(is_waiting, is_woken), 1.0, wake_slowly)
            clock.wait(lambda seconds: pause(waits_again, is_moved), 1.0, is_moved.set)
        is_over.set()

    other = threading.Thread(target=wait_twice)
    with clock.join():
        other.start()
        assert is_waiting.wait(5)
        clock.wait(lambda seconds: is_over.wait(15), None, is_over.set)
    other.join()

    assert is_moved.is_set()
    assert time.monotonic() == 2


def test_mere_functions_do_not_move_it(time: VirtualClock, make_workflow: MakeWorkflow) -> None:
    """What is to happen later does not happen because a run is over."""
    called: list[str] = []
    time.after(60, lambda: called.append("too early"))
    workflow = make_workflow()
    workflow.task.add(action(lambda: 1))

    workflow.start()
    workflow.start(mode="background").wait()

    assert (called, time.monotonic()) == ([], 0)


# Runs


def failing(time: VirtualClock | None = None, attempts: list[float] | None = None, **policy: Any) -> Any:
    @action(**{"retry": 3, "retry_delay": HOUR, **policy})
    def step() -> None:
        if time is not None and attempts is not None:
            attempts.append(hours(time))
        raise ValueError

    return step


@pytest.mark.parametrize("mode", ["sequential", "background"])
@pytest.mark.parametrize("executor", [None, ExecutorThread(), ExecutorAsync()], ids=lambda found: type(found).__name__)
def test_retry_delays_take_no_time(mode: str, executor: Any, time: VirtualClock, make_workflow: MakeWorkflow) -> None:
    """An hour between attempts is an hour between their records."""
    attempts: list[float] = []
    workflow = make_workflow(**({} if executor is None else {"executor": executor}))
    workflow.task.add(failing(time, attempts)).add(action(lambda: 1))

    workflow.start(mode=mode, keep_going=True).wait()

    assert attempts == [0, 1, 2]
    first, second = workflow.result_task()
    assert [error.attempt for error in first.errors] == [1, 2, 3]
    assert second.status is TypeStatus.COMPLETED


def test_a_delay_of_a_class_own_action_takes_none_either(time: VirtualClock, make_workflow: MakeWorkflow) -> None:
    """They are repeated inside the attempt of the class."""
    attempts: list[float] = []

    @action
    class Steps:
        @action(retry=2, retry_delay=HOUR)
        def flaky(self) -> str:
            attempts.append(hours(time))
            if len(attempts) == 1:
                raise ValueError
            return "done"

    workflow = make_workflow()
    workflow.task.add(Steps)
    workflow.start()

    assert attempts == [0, 1]
    assert workflow.result_task()[0].status is TypeStatus.COMPLETED


@pytest.mark.processes
@pytest.mark.parametrize("way", ["parallel", "groups"])
def test_time_waits_for_worker_processes(way: str, time: VirtualClock, make_workflow: MakeWorkflow) -> None:
    """While an attempt is made in a process, time stands still; a delay between two is virtual."""

    @action
    def slow() -> str:
        threading.Event().wait(0.3)
        return "done"

    workflow = make_workflow()
    for name, step in (("a", failing(retry=2)), ("b", slow)):
        workflow.task.add(step, group_name=name if way == "groups" else "default")
    workflow.start(mode="parallel" if way == "parallel" else "sequential", keep_going=True)

    first, second = workflow.result_task()
    assert [error.attempt for error in first.errors] == [1, 2]
    assert second.current_context.storage == "done"
    assert second.current_context.time == NEW_YEAR  # the first one's delay did not run on while it was busy
    assert time.monotonic() == HOUR


def test_steps_take_virtual_time_side_by_side(time: VirtualClock, make_workflow: MakeWorkflow) -> None:
    """In threads: each wakes at its own moment, and the run takes as long as the longest."""
    workflow = make_workflow(executor=ExecutorThread())

    def sleeper(seconds: float) -> Any:
        def step() -> float:
            time.sleep(seconds)
            return time.monotonic()

        return action(step)

    workflow.task.add([sleeper(seconds) for seconds in (50, 20, 80, 20)])
    workflow.start(mode="parallel")

    assert workflow.result_storage() == [50, 20, 80, 20]


def test_a_run_may_be_waited_for_in_virtual_time(time: VirtualClock, make_workflow: MakeWorkflow) -> None:
    """wait(timeout) counts the seconds of the run."""
    workflow = make_workflow()
    workflow.task.add(action(lambda: time.sleep(50)))
    with time.hold():
        run = workflow.start(mode="background")
        assert not run.wait(30)
        assert time.monotonic() == 30
    assert run.wait()
    assert time.monotonic() == 50


def test_a_run_that_waits_can_be_cancelled_at_a_moment(time: VirtualClock, make_workflow: MakeWorkflow) -> None:
    """In the middle of a delay; time has not gone further."""
    workflow = make_workflow()
    workflow.task.add(failing())
    with time.hold():
        run = workflow.start(mode="background")
        time.after(600, run.cancel)

    run.wait()

    assert workflow.result_task()[0].errors[-1].exception == "RunCancelled"
    assert time.monotonic() == 600


@pytest.mark.parametrize("executor", [None, ExecutorThread(), ExecutorAsync()], ids=lambda found: type(found).__name__)
@pytest.mark.parametrize("inner", ["sequential", "background"])
def test_a_run_in_a_step_has_its_delays_too(
    inner: str, executor: Any, time: VirtualClock, make_workflow: MakeWorkflow
) -> None:
    """A step that runs a workflow is idle while that waits, and so is everybody around it."""

    @action
    def outer() -> float:
        began = time.monotonic()
        workflow = make_workflow()
        workflow.task.add(failing())
        workflow.start(mode=inner).wait()
        time.sleep(60)
        return time.monotonic() - began

    workflow = make_workflow(**({} if executor is None else {"executor": executor}))
    workflow.task.add([outer, outer])
    workflow.start(mode="sequential" if executor is None else "parallel")

    assert workflow.result_storage() == [2 * HOUR + 60] * 2


def test_astart_works(time: VirtualClock, make_workflow: MakeWorkflow) -> None:
    """The caller's loop goes on meanwhile."""

    async def main() -> list[TypeStatus]:
        workflows = [make_workflow(), make_workflow()]
        for workflow in workflows:
            workflow.task.add(failing())
        return [run.status for run in await asyncio.gather(*(workflow.astart() for workflow in workflows))]

    assert asyncio.run(main()) == [TypeStatus.FAILED] * 2
    # The caller takes no part in it: the first run may be through before the second begins.
    assert 2 * HOUR <= time.monotonic() <= 4 * HOUR


@pytest.mark.parametrize("executor", [None, ExecutorAsync()], ids=["inline", "async"])
def test_calls_that_would_block_a_coroutine_are_refused(
    executor: Any, time: VirtualClock, make_workflow: MakeWorkflow
) -> None:
    """Sleeping would block the loop, and a coroutine that waits for a run can't be told from one that works."""

    @action
    async def sleep() -> None:
        time.sleep(1)

    @action
    async def wait() -> None:
        workflow = make_workflow()
        workflow.task.add(failing())
        await workflow.astart()

    workflow = make_workflow(**({} if executor is None else {"executor": executor}))
    workflow.task.add([sleep, wait])
    workflow.start(keep_going=True)

    assert [task.errors[-1].exception for task in workflow.result_task()] == ["VirtualClockMisuse"] * 2
    assert "coroutine" in workflow.result_task()[1].errors[-1].message


@pytest.mark.processes
@pytest.mark.parametrize("start_method", ["fork", "forkserver"])
@pytest.mark.parametrize("method", ["sleep", "now"])
def test_in_a_worker_process_it_says_so(
    method: str, start_method: str, time: VirtualClock, make_workflow: MakeWorkflow
) -> None:
    """There time is real, however the process was started; what can be done is in the error."""

    @action
    def step() -> object:
        return time.sleep(1) if method == "sleep" else time.now()

    workflow = make_workflow(executor=ExecutorProcess(start_method=start_method))
    workflow.task.add(step)
    workflow.start(mode="parallel")

    (error,) = workflow.result_task()[0].errors
    assert error.exception == "VirtualClockMisuse"
    assert "ExecutorThread()" in error.message


def test_real_timeouts_stay_real(time: VirtualClock, make_workflow: MakeWorkflow) -> None:
    """A timeout guards code that really runs: it ends a step that hangs, though virtual time stands still."""

    @action(timeout=0.1)
    def stuck() -> None:
        threading.Event().wait(10)

    @action(timeout=5)
    def patient() -> None:
        time.sleep(HOUR)

    for mode in ("sequential", "background"):
        workflow = make_workflow()
        workflow.task.add([stuck, patient])
        workflow.start(mode=mode, keep_going=True).wait()
        first, second = workflow.result_task()
        assert first.errors[-1].exception == "TimeoutError"
        assert second.status is TypeStatus.COMPLETED


# Beginning and end


def test_at_the_end_everything_is_put_back() -> None:
    """After an exception too."""
    real = (clock.now, clock.monotonic, clock.sleep, clock.source)

    def leave_by_an_exception() -> None:
        with virtual_clock() as time:
            assert (clock.now, clock.source) == (time.now, time)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        leave_by_an_exception()

    assert (clock.now, clock.monotonic, clock.sleep, clock.source) == real
    with virtual_clock():
        pass


def test_two_at_a_time_are_refused(time: VirtualClock) -> None:
    """A process has one time, in every thread; the one that is there goes on."""
    with pytest.raises(VirtualClockMisuse, match="entered twice"), virtual_clock():
        pass
    time.sleep(5)

    assert clock.monotonic() == 5


def test_a_run_that_is_left_over_is_an_error(make_workflow: MakeWorkflow) -> None:
    """It would go on in real time; the message says what to wait for. An exception of the test's own goes first."""
    go_on = threading.Event()
    workflow = make_workflow()
    workflow.task.add(action(lambda: go_on.wait(60)))
    left: list[Run] = []

    def leave_one_over(error: type[BaseException] | None) -> None:
        with virtual_clock():
            left.append(workflow.start(mode="background"))
            if error is not None:
                raise error

    with pytest.raises(VirtualClockMisuse, match=r"run\.wait\(\)"):
        leave_one_over(None)
    with pytest.raises(ZeroDivisionError):
        leave_one_over(ZeroDivisionError)
    go_on.set()

    assert [run.wait(60) for run in left] == [True, True]


def test_a_forked_child_lives_in_real_time(time: VirtualClock) -> None:
    """Nobody moves virtual time there; it may have one of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        told = "wrong"
        try:
            if clock.source is None and abs(clock.now() - datetime.now(UTC)) < timedelta(minutes=1):
                with virtual_clock() as own:
                    own.sleep(HOUR)
                    told = "real"
        finally:
            os.write(writing, told.encode())
            os._exit(0)
    os.waitpid(child, 0)
    found = os.read(reading, 10)
    os.close(reading)
    os.close(writing)

    assert found == b"real"
    assert clock.source is time


def test_a_forked_child_may_leave_the_clock() -> None:
    """What it leaves the context by stays what it is."""
    parent = os.getpid()
    try:
        with virtual_clock():
            child = os.fork()
            if not child:
                raise KeyboardInterrupt
    except BaseException as error:
        if os.getpid() != parent:
            os._exit(7 if type(error) is KeyboardInterrupt else 1)
        raise

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
