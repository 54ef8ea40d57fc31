"""The executor contract: one suite that every executor signs.

Steps are local functions, so they also show that what can't be imported by name travels.
"""

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import psutil
import pytest

import dotflow
from dotflow import Context, Control, DotFlow, NotYet, action, note
from dotflow.abc.executor import Executor, ExecutorSession
from dotflow.core.call import Call
from dotflow.core.types import TypeStatus
from dotflow.providers import ExecutorAsync, ExecutorInline, ExecutorProcess, ExecutorThread, HistorySQLite, StorageFile
from dotflow.testing import ExecutorContract, virtual_clock

COMPLETED, FAILED, NOT_STARTED = TypeStatus.COMPLETED, TypeStatus.FAILED, TypeStatus.NOT_STARTED

PROCESSES = [
    pytest.param(lambda method=method: ExecutorProcess(2, method), id=method, marks=pytest.mark.processes)
    for method in ("fork", "forkserver")
]
EVERY = [
    *PROCESSES,
    pytest.param(ExecutorInline, id="inline"),
    pytest.param(lambda: ExecutorThread(2), id="thread"),
    pytest.param(lambda: ExecutorAsync(2), id="async"),
]
CLUSTERS = [
    pytest.param(f"{name}_executor", id=name, marks=[pytest.mark.clusters, pytest.mark.slow, pytest.mark.timeout(120)])
    for name in ("dask", "ray")
]

#: For what needs another thread than the one that waits.
not_inline = pytest.mark.parametrize("executor", [*PROCESSES, *EVERY[3:], *CLUSTERS], indirect=True)

#: An exception of its own, one that ends a process, and one that ends a coroutine.
TYPICAL = [(ValueError, False), (SystemExit, False), (asyncio.CancelledError, True)]

MakeWorkflow = Callable[..., DotFlow]


@pytest.fixture(params=[*EVERY, *CLUSTERS])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """Yields an executor; after the test, no thread and no process of the run is left."""
    chosen = request.getfixturevalue(request.param) if isinstance(request.param, str) else request.param()
    threads = set(threading.enumerate())
    children = offspring()
    yield chosen
    for thread in set(threading.enumerate()) - threads:
        thread.join(30)
        assert not thread.is_alive(), f"left behind: {thread}"
    left = offspring() - children
    psutil.wait_procs(left, timeout=30)
    assert not left & offspring()  # asked again: one that has ended meanwhile may not be waited for yet


def is_of_server(process: psutil.Process | None) -> bool:
    """Returns whether a process is a fork server, or has been forked by one."""
    return process is not None and "become_forkserver" in " ".join(process.cmdline())


def offspring() -> set[psutil.Process]:
    """Returns the descendants of this process, without fork servers that are kept and Ray's spare workers."""
    processes = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            words = " ".join(process.cmdline())
            is_kept = "become_forkserver" in words and not is_of_server(process.parent())
            is_rays = "default_worker.py" in words or "ray::" in words  # which it replaces when it likes
            if not is_kept and not is_rays and process.status() != psutil.STATUS_ZOMBIE:  # that one has ended
                processes.add(process)
    return processes


@pytest.fixture
def workflow(make_workflow: MakeWorkflow, executor: Executor) -> DotFlow:
    """An empty workflow whose attempts are made by the executor."""
    return make_workflow(executor=executor)


def submit(session: ExecutorSession, call: Call) -> None:
    """Submits a call as the runner does, when there is room."""
    while not session.make_room(session.pool_of(call.step), call.lane, 1):
        session.wait(None)
    session.submit(call)


def most_at_once(workflow: DotFlow) -> int:
    """Returns how many attempts may run at once; for a cluster, more than those of the tests."""
    if isinstance(workflow.config.executor, ExecutorInline):
        return 1
    return getattr(workflow.config.executor, "max_workers", None) or 10


def statuses(workflow: DotFlow) -> list[TypeStatus]:
    return [task.status for task in workflow.result_task()]


class TestContract(ExecutorContract):
    """What executors of others promise, too."""


class TestValues:
    @pytest.mark.parametrize("value", [None, [1, {"a": (2, {3})}]], ids=repr)
    def test_returns(self, workflow: DotFlow, value: object) -> None:
        """What the step returns is the task's value."""
        workflow.task.add(action(lambda: value))

        run = workflow.start()

        assert run.status is COMPLETED
        assert workflow.result_storage() == [value]

    def test_a_lane_runs_in_order_and_hands_on(self, workflow: DotFlow) -> None:
        """Each step sees the value of the one before, with its origin."""

        @action
        def follow(initial_context: Context, previous_context: Context) -> Any:
            before = previous_context.storage or []
            return [*before, (initial_context.storage, previous_context.task_id)]

        for place in range(4):
            workflow.task.add(follow, initial_context=place)

        workflow.start()

        assert workflow.result_storage()[-1] == [(0, None), (1, 0), (2, 1), (3, 2)]

    def test_large_ones(self, workflow: DotFlow) -> None:
        """A result of many megabytes arrives whole, and goes on to the next step."""
        workflow.task.add(action(lambda: bytes(range(256)) * 40_000))
        workflow.task.add(
            action(lambda previous_context: (previous_context.storage[-1], len(previous_context.storage)))
        )

        workflow.start()

        assert workflow.result_storage()[1] == (255, 10_240_000)

    def test_prints_go_where_the_callers_go(self, workflow: DotFlow, capsys: pytest.CaptureFixture[str]) -> None:
        """A step's output appears where the caller's does, before start() returns."""

        def prints() -> None:
            import sys

            print("to stdout: ä\nand more")
            print("to stderr", file=sys.stderr)

        workflow.task.add(action(prints))

        workflow.start()

        assert capsys.readouterr() == ("to stdout: ä\nand more\n", "to stderr\n")

    def test_callbacks_run_in_the_callers_thread(self, workflow: DotFlow) -> None:
        """They see and may change the caller's objects, in order."""
        seen: list[object] = []

        def record(**arguments: object) -> None:
            seen.append((os.getpid(), threading.get_ident(), *arguments))

        workflow.task.add([action(lambda: 1), action(lambda: 2)], callback=record)
        workflow.start(on_success=record)

        here = (os.getpid(), threading.get_ident())
        assert seen == [(*here, "task"), (*here, "task"), (*here, "tasks")]

    @pytest.mark.parametrize("mode", ["sequential", "parallel", "background"])
    def test_every_mode(self, workflow: DotFlow, mode: str) -> None:
        """An executor that was chosen makes the attempts of every mode, and results are aligned with add."""
        for place in range(6):
            workflow.task.add(action(lambda place=place: place), group_name="ab"[place % 2])

        workflow.start(mode=mode).wait()

        assert workflow.result_storage() == [0, 1, 2, 3, 4, 5]


class TestFailures:
    @pytest.mark.parametrize(
        ("kind", "coroutine"),
        [
            pytest.param(
                kind,
                coroutine,
                id=f"{'coroutine' if coroutine else 'function'}-{kind.__name__}",
                marks=() if (kind, coroutine) in TYPICAL else pytest.mark.exhaustive,
            )
            for coroutine in (False, True)
            for kind in (ValueError, AssertionError, SystemExit, BaseException, asyncio.CancelledError)
        ],
    )
    def test_any_exception_fails_the_task(self, workflow: DotFlow, kind: type[BaseException], coroutine: bool) -> None:
        """The TaskError has the type, message and user's lines; with keep_going the run goes on."""

        def fails() -> None:
            raise kind("my words")

        async def fails_too() -> None:
            raise kind("my words")

        workflow.task.add([action(fails_too if coroutine else fails), action(lambda: 1)])

        run = workflow.start(keep_going=True)

        assert statuses(workflow) == [FAILED, COMPLETED]
        (error,) = run.tasks[0].errors
        assert (error.attempt, error.exception, error.message) == (1, kind.__name__, "my words")
        assert 'raise kind("my words")' in error.traceback
        assert "dotflow/worker" not in error.traceback
        assert "dotflow/core" not in error.traceback

    def test_every_attempt_is_recorded(self, workflow: DotFlow) -> None:
        """retry is the total number of attempts; each failed one is an error."""

        def fails() -> None:
            raise ValueError("no")

        workflow.task.add(action(retry=3, retry_delay=0.01)(fails))

        run = workflow.start()

        assert [error.attempt for error in run.tasks[0].errors] == [1, 2, 3]
        assert run.tasks[0].retry_count == 2
        assert statuses(workflow) == [FAILED]

    def test_a_retry_may_work(self, workflow: DotFlow, tmp_path: Path) -> None:
        """The value of the attempt that succeeded reaches the next step."""
        tries = tmp_path / "tries"
        tries.touch()

        def third_time() -> str:
            with tries.open("a") as file:
                file.write("x")
            if len(tries.read_text()) < 3:
                raise ValueError("not yet")
            return "worked"

        workflow.task.add(action(retry=5, retry_delay=0)(third_time))
        workflow.task.add(action(lambda previous_context: previous_context.storage))

        run = workflow.start()

        assert workflow.result_storage() == ["worked", "worked"]
        assert len(run.tasks[0].errors) == 2
        assert tries.read_text() == "xxx"

    def test_a_failure_stops_the_following_tasks(self, workflow: DotFlow, tmp_path: Path) -> None:
        """Without keep_going, tasks that have not started stay NOT_STARTED."""
        ran = tmp_path / "ran"

        def fails() -> None:
            raise ValueError("no")

        workflow.task.add([action(lambda: 1), action(fails), action(lambda: ran.touch())])
        workflow.start()

        assert statuses(workflow) == [COMPLETED, FAILED, NOT_STARTED]
        assert not ran.exists()

    def test_a_keyboard_interrupt_in_a_step_stops_the_run(self, workflow: DotFlow) -> None:
        """It is not retried: the task is FAILED, and the caller gets the KeyboardInterrupt."""

        def interrupts() -> None:
            raise KeyboardInterrupt

        workflow.task.add([action(lambda: 1), action(retry=5)(interrupts), action(lambda: 3)])

        with pytest.raises(KeyboardInterrupt):
            workflow.start(keep_going=True)

        assert statuses(workflow) == [COMPLETED, FAILED, NOT_STARTED]
        assert [error.exception for error in workflow.result_task()[1].errors] == ["KeyboardInterrupt"]
        assert workflow.result_storage()[0] == 1

    @pytest.mark.parametrize("timeout", [0, 10])
    def test_a_keyboard_interrupt_in_a_coroutine_does_so_too(self, workflow: DotFlow, timeout: float) -> None:
        """It leaves the event loop, too."""

        async def interrupts() -> None:
            raise KeyboardInterrupt

        workflow.task.add([action(timeout=timeout)(interrupts), action(lambda: 3)])

        with pytest.raises(KeyboardInterrupt):
            workflow.start(keep_going=True)

        assert statuses(workflow) == [FAILED, NOT_STARTED]


class TestTimeouts:
    def test_a_step_that_takes_too_long_is_ended(self, workflow: DotFlow, tmp_path: Path) -> None:
        """The attempt is a TimeoutError that names step and seconds; its later lines do not run."""
        later = tmp_path / "later"

        def slow() -> None:
            while time.monotonic() < until:
                time.sleep(0.01)
            later.touch()

        until = time.monotonic() + 45
        workflow.task.add([action(timeout=0.2)(slow), action(lambda: "next")])

        run = workflow.start(keep_going=True)

        assert time.monotonic() < until
        assert statuses(workflow) == [FAILED, COMPLETED]
        assert run.tasks[0].errors[0].exception == "TimeoutError"
        assert "'slow'" in run.tasks[0].errors[0].message
        assert "0.2 s" in run.tasks[0].errors[0].message
        assert not later.exists()

    def test_a_step_that_is_in_time_is_left_alone(self, workflow: DotFlow) -> None:
        """A timeout that is not reached changes nothing."""
        workflow.task.add([action(timeout=10)(lambda place=place: place) for place in range(3)])

        workflow.start()

        assert workflow.result_storage() == [0, 1, 2]

    def test_a_timeout_is_retried(self, workflow: DotFlow, tmp_path: Path) -> None:
        """It is a failed attempt like any other, and the next one has the whole timeout."""
        been_here = tmp_path / "been here"

        def slow_at_first() -> str:
            if been_here.exists():
                return "worked"
            been_here.touch()
            until = time.monotonic() + 45
            while time.monotonic() < until:
                time.sleep(0.01)
            return "too late"

        workflow.task.add(action(timeout=0.3, retry=20, retry_delay=0)(slow_at_first))

        run = workflow.start()

        assert workflow.result_storage() == ["worked"]
        assert {error.exception for error in run.tasks[0].errors} == {"TimeoutError"}  # one, unless the machine is busy

    def test_swallowing_it_does_not_help(self, workflow: DotFlow) -> None:
        """A loop around `except BaseException` ends, too."""

        def stubborn() -> None:
            until = time.monotonic() + 45
            while time.monotonic() < until:
                try:
                    time.sleep(0.01)
                except BaseException:
                    continue

        workflow.task.add(action(timeout=0.2)(stubborn))
        began = time.monotonic()

        run = workflow.start()

        assert time.monotonic() - began < 30
        assert run.tasks[0].errors[0].exception == "TimeoutError"

    def test_a_steps_own_timeout_error_is_not_ours(self, workflow: DotFlow) -> None:
        """A TimeoutError that the step raises keeps its message."""

        def raises() -> None:
            raise TimeoutError("the database is slow")

        workflow.task.add(action(timeout=10)(raises))

        run = workflow.start()

        assert run.tasks[0].errors[0].message == "the database is slow"


class TestCoroutines:
    def test_are_awaited(self, workflow: DotFlow) -> None:
        """A coroutine function is a step like any other."""

        async def one() -> int:
            await asyncio.sleep(0)
            return 1

        async def plus_one(previous_context: Context) -> int:
            await asyncio.sleep(0.001)
            return int(previous_context.storage) + 1

        workflow.task.add([action(one), action(plus_one), action(timeout=10)(plus_one)])

        workflow.start()

        assert workflow.result_storage() == [1, 2, 3]

    def test_share_one_event_loop(self, make_workflow: MakeWorkflow, executor: Executor) -> None:
        """The steps of a lane run in the same loop."""

        async def leaves() -> int:
            loop: Any = asyncio.get_running_loop()
            loop.left_here = "found"
            return 1

        async def finds() -> object:
            return getattr(asyncio.get_running_loop(), "left_here", None)

        workflow = make_workflow(executor=executor)
        workflow.task.add([action(leaves), action(finds)])

        workflow.start()

        assert workflow.result_storage()[1] == "found"

    @pytest.mark.exhaustive(keep_every=4)
    def test_are_cancelled_when_their_time_is_up(self, workflow: DotFlow, tmp_path: Path) -> None:
        """The coroutine sees its cancellation and may clean up."""
        cleaned_up = tmp_path / "cleaned up"

        async def slow() -> None:
            assert not cleaned_up.exists()
            try:  # in the first attempt, unless the machine is too busy to begin in time
                await asyncio.sleep(45)
            finally:
                cleaned_up.touch()

        async def quick() -> str:
            return "next"

        workflow.task.add([action(timeout=0.2, retry=100, retry_delay=0, retry_on=TimeoutError)(slow), action(quick)])
        began = time.monotonic()

        run = workflow.start(keep_going=True)

        assert time.monotonic() - began < 30
        assert run.tasks[0].errors[0].exception == "TimeoutError"
        assert cleaned_up.exists()
        assert workflow.result_storage()[1] == "next"

    @pytest.mark.exhaustive(keep_every=4)
    @pytest.mark.slow
    def test_one_that_swallows_its_cancellation_is_dropped(self, workflow: DotFlow) -> None:
        """It is never resumed, and the run goes on."""

        async def stubborn() -> None:
            until = time.monotonic() + 45
            while time.monotonic() < until:
                try:
                    await asyncio.sleep(0.05)
                except asyncio.CancelledError:
                    continue

        workflow.task.add(action(timeout=0.2)(stubborn))
        began = time.monotonic()

        run = workflow.start()

        assert time.monotonic() - began < 30
        assert run.tasks[0].errors[0].exception == "TimeoutError"


class TestClassSteps:
    def test_the_instances_actions_run_in_order(self, workflow: DotFlow) -> None:
        """Each gets the one before as previous_context; the value is a list of their contexts."""

        class Report:
            def __init__(self, initial_context: Context) -> None:
                self.start = initial_context.storage

            @action
            def load(self) -> Any:
                return [self.start]

            @action
            async def grow(self, previous_context: Context) -> Any:
                await asyncio.sleep(0)
                return [*previous_context.storage, "grown"]

            @action(retry=2, timeout=30)
            def close(self, previous_context: Context) -> Any:
                return [*previous_context.storage, "closed"]

        workflow.task.add(action(Report), initial_context="begun")
        workflow.task.add(action(lambda previous_context: [member.storage for member in previous_context.storage]))

        workflow.start()

        expected = [["begun"], ["begun", "grown"], ["begun", "grown", "closed"]]
        contexts, seen = workflow.result_storage()
        assert all(isinstance(context, Context) for context in contexts)
        assert [context.storage for context in contexts] == seen == expected

    def test_the_first_action_gets_the_value_before_the_class(self, workflow: DotFlow) -> None:
        """previous_context of the first action is that of the whole step."""

        class Doubles:
            @action
            def double(self, previous_context: Context) -> Any:
                return previous_context.storage * 2

        workflow.task.add([action(lambda: 21), action(lambda: Doubles())])

        workflow.start()

        assert [context.storage for context in workflow.result_storage()[1]] == [42]

    def test_an_action_that_fails_fails_the_step(self, workflow: DotFlow) -> None:
        """Later actions do not run, and the error is the action's own."""

        class Report:
            @action
            def load(self) -> None:
                raise ValueError("no file")

            @action
            def send(self) -> None:
                raise AssertionError("must not run")

        workflow.task.add(action(Report))

        run = workflow.start()

        assert [(error.exception, error.message) for error in run.tasks[0].errors] == [("ValueError", "no file")]

    def test_an_action_has_its_own_retry(self, workflow: DotFlow, tmp_path: Path) -> None:
        """The step completes, and its task records the repetition."""
        been_here = tmp_path / "been here"

        class Report:
            @action(retry=2, retry_delay=0)
            def load(self) -> str:
                if been_here.exists():
                    return "worked"
                been_here.touch()
                raise ValueError("not yet")

        workflow.task.add(action(Report))

        run = workflow.start()

        assert [context.storage for context in workflow.result_storage()[0]] == ["worked"]
        assert [error.message for error in run.tasks[0].errors] == ["not yet"]
        assert run.tasks[0].retry_count == 1

    def test_an_action_has_its_own_timeout(self, workflow: DotFlow) -> None:
        """A member that takes too long fails the step with a TimeoutError that names it."""

        class Report:
            @action(timeout=0.2)
            def load(self) -> None:
                until = time.monotonic() + 45
                while time.monotonic() < until:
                    time.sleep(0.01)

        workflow.task.add(action(Report))

        run = workflow.start()

        assert run.tasks[0].errors[-1].exception == "TimeoutError"
        assert "load" in run.tasks[0].errors[-1].message

    def test_an_instance_without_actions_is_just_a_value(self, workflow: DotFlow) -> None:
        """The next step gets it unchanged."""

        class Box:
            held = 5

        workflow.task.add([action(lambda: Box()), action(lambda previous_context: previous_context.storage.held)])

        workflow.start()

        assert workflow.result_storage()[1] == 5


@pytest.mark.processes
class TestIsolate:
    @pytest.mark.exhaustive(keep_every=4)
    def test_a_process_for_each_attempt(self, workflow: DotFlow) -> None:
        """An isolated step runs in a process of its own, and its value comes back."""
        where = action(isolate=True)(lambda: os.getpid())
        workflow.task.add([where, action(lambda: "between"), where])

        workflow.start()

        first, between, last = workflow.result_storage()
        assert between == "between"
        assert len({first, last, os.getpid()}) == 3

    @pytest.mark.exhaustive(keep_every=4)
    def test_cancel_ends_it_at_once(self, workflow: DotFlow, tmp_path: Path) -> None:
        """Also from the calling thread, which waits for it: the task is FAILED, and later lines do not run."""
        begun, later = tmp_path / "begun", tmp_path / "later"

        def slow() -> None:
            begun.touch()
            time.sleep(45)
            later.touch()

        workflow.task.add([action(isolate=True)(slow), action(lambda: "next")])
        run = workflow.start(mode="background")
        until = time.monotonic() + 45
        while not begun.exists():
            assert time.monotonic() < until
        run.cancel()

        assert run.wait(60)
        assert statuses(workflow) == [FAILED, NOT_STARTED]
        assert [error.exception for error in run.tasks[0].errors] == ["RunCancelled"]
        assert not later.exists()

    def test_its_death_is_reported_and_the_run_goes_on(self, workflow: DotFlow) -> None:
        """A step that ends its process fails with the exit code, and other tasks run."""
        workflow.task.add([action(isolate=True)(lambda: os._exit(7)), action(lambda: "next")])

        run = workflow.start(keep_going=True)

        assert run.tasks[0].errors[0].exception == "WorkerDied"
        assert "exit code 7" in run.tasks[0].errors[0].message
        assert workflow.result_storage()[1] == "next"

    @pytest.mark.exhaustive(keep_every=4)
    @pytest.mark.slow
    def test_its_timeout_kills_it_in_any_code(self, workflow: DotFlow) -> None:
        """C code that never returns ends with its process."""

        def stuck() -> None:
            import ctypes
            import signal

            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            ctypes.CDLL(None).sleep(60)

        workflow.task.add(action(isolate=True, timeout=0.2)(stuck))
        began = time.monotonic()

        run = workflow.start()

        assert time.monotonic() - began < 30
        assert run.tasks[0].errors[0].exception == "TimeoutError"

    @pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux alone")
    def test_its_memory_has_a_limit(self, workflow: DotFlow) -> None:
        """An attempt that exceeds it is killed, and fails as one that raises; the next one has all of it."""

        def step(previous_context: Context, idempotency_key: str) -> int:
            return len(bytearray(b"x") * (previous_context.storage or 1))

        limited = action(memory="60 MB")(step)
        workflow.task.add([action(lambda: 300_000_000), limited, action(lambda: 20_000_000), limited])

        run = workflow.start(keep_going=True)

        (error,) = run.tasks[1].errors
        assert error.exception == "MemoryExceeded"
        assert "of memory, and memory= allows 60 MB" in error.message
        assert run.tasks[3].value == 20_000_000


@pytest.mark.parametrize("executor", [*PROCESSES, *CLUSTERS], indirect=True)
class TestProcesses:
    def test_a_worker_that_dies_fails_its_task_only(self, workflow: DotFlow) -> None:
        """The error has its exit code, and the lane goes on in a new worker."""
        workflow.task.add([action(lambda: os._exit(3)), action(lambda: "next")])

        run = workflow.start(keep_going=True)

        assert run.tasks[0].errors[0].exception == "WorkerDied"
        assert "exit code 3" in run.tasks[0].errors[0].message
        assert workflow.result_storage()[1] == "next"

    def test_a_value_that_cannot_travel_is_the_tasks_error(self, workflow: DotFlow) -> None:
        """It names the step and the reason, and the worker goes on."""
        workflow.task.add([action(lambda: threading.Lock()), action(lambda: "next")])

        run = workflow.start(keep_going=True)

        assert run.tasks[0].errors[0].exception == "NotPicklable"
        assert "lock" in run.tasks[0].errors[0].message
        assert workflow.result_storage()[1] == "next"

    def test_a_lane_keeps_its_worker(self, workflow: DotFlow) -> None:
        """The tasks of a lane run in one process, which is not the caller's."""
        where = action(lambda: os.getpid())
        workflow.task.add([where, where, where])

        workflow.start()

        assert len(set(workflow.result_storage())) == 1
        assert os.getpid() not in workflow.result_storage()


class TestRuns:
    def test_groups_go_on_without_each_other(self, workflow: DotFlow) -> None:
        """With keep_going the task after a failure gets an empty context, and other groups are not affected."""

        def fails() -> None:
            raise ValueError("no")

        def follow(previous_context: Context) -> Any:
            return "after", previous_context.storage

        workflow.task.add([action(lambda: 1), action(fails), action(follow)], group_name="a")
        workflow.task.add([action(lambda: 2), action(follow)], group_name="b")

        workflow.start(keep_going=True)

        assert statuses(workflow) == [COMPLETED, FAILED, COMPLETED, COMPLETED, COMPLETED]
        assert workflow.result_storage() == [1, None, ("after", None), 2, ("after", 2)]

    @pytest.mark.parametrize("mode", ["sequential", "parallel"])
    def test_a_step_that_waits_is_asked_again(self, workflow: DotFlow, mode: str, tmp_path: Path) -> None:
        """So is each item of a map: in one attempt, until it returns something."""

        def look(name: str) -> str | None:
            with (tmp_path / name).open("a") as file:
                file.write(".")
            looks = len((tmp_path / name).read_text())
            if looks == 1:
                raise NotYet("1 of 3")
            return name if looks == 3 else None

        def look_at_door() -> str | None:
            return look("door")

        def look_at_item(item: str) -> str | None:
            return look(item)

        workflow.task.add(action(poll=0.001)(look_at_door), name="door")
        workflow.task.add(action(poll=0.001)(look_at_item), name="items", each={"item": ["a", "b", "c"]})
        run = workflow.start(mode=mode)

        assert [task.value for task in run.tasks] == ["door", ["a", "b", "c"]]
        assert [task.attempt for task in (run.tasks[0], *run.tasks[1].items)] == [1] * 4
        assert {name: len((tmp_path / name).read_text()) for name in ("door", "a", "b", "c")} == {
            "door": 3, "a": 3, "b": 3, "c": 3,
        }  # fmt: skip

    def test_what_a_step_notes_is_in_the_history(self, make_workflow: MakeWorkflow, executor: Executor) -> None:
        """It comes from wherever the attempt was made, also when that fails."""

        def step(item: int) -> int:
            note(rows=item, where="here")
            if item == 2:
                raise ValueError("no")
            return item

        history = HistorySQLite()
        workflow = make_workflow(executor=executor, history=history)
        workflow.task.add(action(step), each={"item": [1, 2]})
        run = workflow.start()

        items = history.load(run.run_id).steps[0].items
        assert [dict(items[item][0].notes) for item in (0, 1)] == [
            {"rows": 1, "where": "here"},
            {"rows": 2, "where": "here"},
        ]

    def test_resume_skips_finished_tasks(self, make_workflow: MakeWorkflow, executor: Executor, tmp_path: Path) -> None:
        """Another run on the same storage runs only the rest, with the saved values."""
        ran = tmp_path / "ran"

        def count(name: str) -> str:
            with ran.open("a") as file:
                file.write(f"{name} ")
            return name

        def fragile(previous_context: Context) -> Any:
            count("fragile")
            if ran.read_text().count("fragile") == 1:
                raise ValueError("broken")
            return ["after", previous_context.storage]

        for resume in (False, True):
            workflow = make_workflow(executor=executor, storage=StorageFile(tmp_path / "kept"), workflow_id="nightly")
            workflow.task.add([action(lambda: {"a": count("first")}), action(fragile), action(lambda: count("last"))])
            workflow.start(resume=resume)

        assert statuses(workflow) == [COMPLETED] * 3
        assert workflow.result_storage() == [{"a": "first"}, ["after", {"a": "first"}], "last"]
        assert ran.read_text() == "first fragile fragile last "

    @not_inline
    def test_waking_before_the_wait_ends_it(self, executor: Executor, workflow: DotFlow, tmp_path: Path) -> None:
        """Also while a call is on its way to a worker: cancelling a run must not wait for its end."""

        def slow() -> None:
            while not (tmp_path / "go").exists():
                time.sleep(0.01)

        workflow.task.add([action(lambda: 1), action(slow)])
        tasks = {task.task_id: task for task in workflow.task}
        session = executor.open(tasks, lambda message: None)
        try:
            submit(session, Call(0, 0, tasks[0].step, Context(), Context(), "w"))
            while not session.wait(None):
                pass
            session.leave(0)  # a worker is there, and free
            submit(session, Call(1, 1, tasks[1].step, Context(), Context(), "w"))
            session.wake()
            assert list(session.wait(None)) == []
        finally:
            (tmp_path / "go").touch()
            session.close()

    @not_inline
    def test_cancel_ends_running_tasks(self, workflow: DotFlow, tmp_path: Path) -> None:
        """The step does not run on, its task is FAILED with the reason, and later tasks stay NOT_STARTED."""
        begun, later = tmp_path / "begun", tmp_path / "later"

        def slow() -> None:
            begun.touch()
            until = time.monotonic() + 45
            while time.monotonic() < until:
                time.sleep(0.01)
            later.touch()

        workflow.task.add([action(lambda: 1), action(slow), action(lambda: 3)])
        run = workflow.start(mode="background")
        until = time.monotonic() + 45
        while not begun.exists():
            assert time.monotonic() < until
        run.cancel()

        assert run.wait(60)
        assert statuses(workflow) == [COMPLETED, FAILED, NOT_STARTED]
        assert [error.exception for error in run.tasks[1].errors] == ["RunCancelled"]
        assert not later.exists()

    def test_after_a_failure_nothing_new_starts_however_many_wait(self, workflow: DotFlow, tmp_path: Path) -> None:
        """Of 101 tasks whose first one fails, only those run that had a worker by then."""

        def fails() -> None:
            raise ValueError("no")

        def waits(initial_context: Context) -> None:
            (tmp_path / str(initial_context.storage)).touch()
            while not (tmp_path / "failed").exists():
                time.sleep(0.01)

        workflow.task.add(action(fails), callback=lambda task: (tmp_path / "failed").touch())
        for place in range(1, 101):
            workflow.task.add(action(waits), initial_context=place)

        workflow.start(mode="parallel")

        ran = [place for place in range(1, 101) if (tmp_path / str(place)).exists()]
        assert len(ran) < most_at_once(workflow)
        assert statuses(workflow) == [FAILED, *(COMPLETED if place in ran else NOT_STARTED for place in range(1, 101))]

    @pytest.mark.parametrize("executor", EVERY, indirect=True)
    def test_a_task_that_waits_for_a_worker_has_not_started(self, workflow: DotFlow) -> None:
        """`started_at` is the beginning of the attempt, after the end of the worker's last one."""
        workflow.task.add([action(lambda: time.sleep(0.02)) for _ in range(7)])

        workflow.start(mode="parallel")

        marks = [(moment, 1) for task in workflow.result_task() if (moment := task.started_at)]
        marks += [(moment, -1) for task in workflow.result_task() if (moment := task.finished_at)]
        assert len(marks) == 14
        assert max(accumulate(change for _, change in sorted(marks))) <= most_at_once(workflow)

    @not_inline
    def test_cancel_leaves_waiting_tasks_as_they_are(self, workflow: DotFlow, tmp_path: Path) -> None:
        """Of 60 tasks, only those that have begun are FAILED."""

        def slow(initial_context: Context) -> None:
            (tmp_path / str(initial_context.storage)).touch()
            until = time.monotonic() + 45
            while time.monotonic() < until:
                time.sleep(0.01)

        for place in range(60):
            workflow.task.add(action(slow), initial_context=place)
        run = workflow.launch(lambda: None, mode="parallel")
        until = time.monotonic() + 45
        while not any(tmp_path.iterdir()):
            assert time.monotonic() < until
        run.cancel()

        assert run.wait(60)
        begun = {int(path.name) for path in tmp_path.iterdir()}
        failed = {task.task_id for task in run.tasks if task.status is FAILED}
        assert begun <= failed
        assert len(failed) <= most_at_once(workflow)
        assert all(task.status is NOT_STARTED for task in run.tasks if task.task_id not in failed)

    def test_a_delay_occupies_no_worker(self, workflow: DotFlow) -> None:
        """Other attempts run while a task waits for its next one."""
        order: list[int] = []

        def fails() -> None:
            raise ValueError("again")

        workflow.task.add(action(retry=2, retry_delay=1)(fails), callback=lambda task: order.append(0))
        for _ in range(8):
            workflow.task.add(action(lambda: None), callback=lambda task: order.append(task.task_id))

        is_remote = workflow.config.executor is not None and workflow.config.executor.is_remote
        with contextlib.nullcontext() if is_remote else virtual_clock():  # it moves when nothing else is left to do
            workflow.start(mode="parallel", keep_going=True)

        assert order[-1] == 0
        assert sorted(order) == list(range(9))

    def test_a_run_inside_a_running_loop(self, workflow: DotFlow) -> None:
        """`await workflow.astart()` is the same run, and the caller's loop goes on."""
        workflow.task.add([action(lambda: 1), action(lambda previous_context: previous_context.storage + 1)])

        async def main() -> Any:
            return await workflow.astart()

        run = asyncio.run(main())

        assert run.status is COMPLETED
        assert workflow.result_storage() == [1, 2]


def is_copied(workflow: DotFlow) -> bool:
    """Returns whether steps get copies of values: where they run in other processes."""
    return not isinstance(workflow.config.executor, ExecutorInline | ExecutorThread | ExecutorAsync)


@pytest.fixture
def numbers() -> Any:
    """A step that a cluster need not be able to import."""

    def numbers() -> list[int]:
        return [0, 1, 2, 3, 4]

    return action(numbers)


class TestGraph:
    def test_a_changed_value_is_the_original_for_others(self, workflow: DotFlow) -> None:
        """A step that changes a large value, in the worker that returned it, changes a copy of its own."""

        def grow(large: bytearray) -> int:
            large[0] = 7
            large.extend(b"more")
            return len(large)

        def look(large: bytearray, grow: int) -> tuple[int, int, int]:
            return large[0], len(large), grow

        size = 200_000
        workflow.task.add(action(lambda: bytearray(size)), name="large").add(action(grow)).add(action(look))
        workflow.task.add(action(look), name="again")

        assert workflow.start(mode="parallel").status is COMPLETED

        seen = (0, size, size + 4) if is_copied(workflow) else (7, size + 4, size + 4)
        assert workflow.result_storage()[2:] == [seen, seen]

    def test_kinds_of_arguments(self, make_workflow: MakeWorkflow, executor: Executor, numbers: Any) -> None:
        """Values, contexts with the errors of items, run parameters and defaults reach the step."""

        def half(number: int) -> int:
            if number % 2:
                raise ValueError(number)
            return number // 2

        def report(half: list[int], half_context: Any, day: str, params: Any, limit: int = 3) -> Any:
            return half, half_context.storage, sorted(half_context.errors), day, dict(params), limit

        workflow = make_workflow(executor=executor, params={"day": "today"})
        workflow.task.add(numbers).add(action(half), each="numbers", keep_going=True).add(action(report))

        workflow.start(mode="parallel", params={"day": "monday"})

        expected = ([0, 1, 2], [0, None, 1, None, 2], [1, 3], "monday", {"day": "monday"}, 3)
        assert workflow.result_storage()[2] == expected

    @pytest.mark.parametrize("mode", ["sequential", "parallel"])
    def test_a_step_for_each_item(self, workflow: DotFlow, mode: str, numbers: Any) -> None:
        """Items that end in any order have the values, attempts and errors of their own, coroutines too."""

        async def tenfold(number: int, numbers: list[int]) -> int:
            await asyncio.sleep(0.01 * (5 - number))
            numbers.append(number)
            return 10 * number + (len(numbers) if number == 9 else 0)

        def once_more(item: int) -> int:
            if item == 20:
                raise ValueError("not this one")
            return item + 1

        workflow.task.add(numbers).add(action(tenfold), each=numbers)
        workflow.task.add(
            action(retry=2, retry_delay=0)(once_more), each="tenfold", fallback=action(lambda item: -item)
        )

        assert workflow.start(mode=mode).status is COMPLETED

        items = workflow.result_task()[2].items
        assert workflow.result_storage()[1:] == [[0, 10, 20, 30, 40], [1, 11, -20, 31, 41]]
        assert [(item.attempt, len(item.errors)) for item in items] == [(1, 0), (1, 0), (3, 2), (1, 0), (1, 0)]

    def test_items_share_an_argument(self, workflow: DotFlow, numbers: Any) -> None:
        """It reaches each of them, with large values as they are; in workers each has a copy of its own."""

        def use(large: list[bytearray], number: int) -> int:
            large[0][0] += 1
            return large[0][0] + len(large[0])

        workflow.task.add(numbers).add(action(lambda: [bytearray(100_000)]), name="large")
        workflow.task.add(action(use), each={"number": numbers}, max_parallel=1)

        assert workflow.start(mode="parallel").status is COMPLETED

        changes = [1] * 5 if is_copied(workflow) else [1, 2, 3, 4, 5]
        assert workflow.result_storage()[2] == [100_000 + change for change in changes]

    def test_a_large_value_goes_on_item_by_item(self, workflow: DotFlow, numbers: Any) -> None:
        """Each item gets that of its own source item, with more items than workers; a fan-in gets all of them."""

        def make(number: int) -> bytes:
            return bytes([number]) * 100_000

        def check(item: bytes, numbers: list[int]) -> tuple[int, int]:
            return item[-1], len(item) + len(numbers)

        def both(make: list[bytes], check: list[tuple[int, int]]) -> list[bool]:
            return [value[0] == seen for value, (seen, _) in zip(make, check, strict=True)]

        workflow.task.add(numbers).add(action(make), each=numbers).add(action(check), each={"item": "make"})
        workflow.task.add(action(both))

        assert workflow.start(mode="parallel").status is COMPLETED
        assert workflow.result_storage()[2:] == [[(number, 100_005) for number in range(5)], [True] * 5]

    @pytest.mark.exhaustive(keep_every=4)
    def test_an_item_that_dies_or_hangs_is_one_item(self, workflow: DotFlow) -> None:
        """An isolated item whose process ends, or that exceeds its timeout, fails; the others complete."""

        def breaks(number: int) -> int:
            if number == 1:
                os._exit(7)
            until = time.monotonic() + (45 if number == 2 else 0)
            while time.monotonic() < until:
                time.sleep(0.01)
            return number

        numbers = [0, 1, 2, 3]
        step = action(isolate=True, timeout=0.5, retry=4, retry_delay=0, retry_on=TimeoutError)  # on a busy machine
        workflow.task.add(step(breaks), each=numbers, keep_going=True)

        assert workflow.start(mode="parallel").status is FAILED

        items = workflow.result_task()[0].items
        assert [item.status for item in items] == [COMPLETED, FAILED, FAILED, COMPLETED]
        assert [item.error.exception for item in items[1:3] if item.error] == ["WorkerDied", "TimeoutError"]

    def test_a_keyboard_interrupt_in_an_item(self, workflow: DotFlow) -> None:
        """It stops the run: the item and its task are FAILED, and no further item begins."""

        def interrupts(number: int) -> None:
            if number == 1:
                raise KeyboardInterrupt

        workflow.task.add(action(interrupts), each=[0, 1, 2], max_parallel=1)

        with pytest.raises(KeyboardInterrupt):
            workflow.start(mode="parallel", keep_going=True)

        items = workflow.result_task()[0].items
        assert [item.status for item in items] == [COMPLETED, FAILED, NOT_STARTED]
        assert statuses(workflow) == [FAILED]

    @not_inline
    def test_cancel_ends_the_items_that_run(self, workflow: DotFlow, tmp_path: Path) -> None:
        """Those that have begun are FAILED, the others stay as they are, and the task says how far it was."""

        def slow(number: int) -> None:
            (tmp_path / str(number)).touch()
            until = time.monotonic() + (45 if number else 0)
            while time.monotonic() < until:
                time.sleep(0.01)

        workflow.task.add(action(slow), each=list(range(60)), max_parallel=2)
        run = workflow.launch(lambda: None, mode="parallel")
        until = time.monotonic() + 45
        while len(list(tmp_path.iterdir())) < 3:
            assert time.monotonic() < until
            time.sleep(0.01)
        run.cancel()

        assert run.wait(60)
        (mapped,) = run.tasks
        assert [item.status for item in mapped.items] == [COMPLETED, FAILED, FAILED, *[NOT_STARTED] * 57]
        assert "after 1 of 60 items" in mapped.errors[-1].message


@pytest.mark.parametrize("isolate", [None, False])
class TestDurableSteps:
    """The calls of a durable step, wherever its attempts are made."""

    @pytest.fixture
    def made(self, tmp_path: Path) -> Callable[[], list[str]]:
        """Returns the calls that were made so far, in order."""
        (tmp_path / "made").touch()
        return lambda: (tmp_path / "made").read_text().split()

    @pytest.fixture
    def call(self, tmp_path: Path) -> Callable[..., str]:
        """An action that notes that it was called."""
        file = tmp_path / "made"

        @action
        def call(name: str, times: int = 1) -> str:
            with file.open("a") as notes:
                notes.write(f"{name} ")
            if name == "bad":
                raise ValueError(name)
            return name.upper() * times

        return call

    def test_a_retry_is_given_the_calls_of_the_attempt_before(
        self, workflow: DotFlow, isolate: bool | None, call: Callable[..., str], made: Callable[[], list[str]]
    ) -> None:
        """Values, a large one, and a failure after which the body went on."""

        @action(durable=True, isolate=isolate, retry=2, retry_delay=0)
        def body() -> list[str]:
            values = [call("a"), call("b", times=1_000_000)[-1:], call("a")]
            try:
                call("bad")
            except ValueError as error:
                values.append(str(error))
            values.append(call("c"))
            if len(made()) == 5:
                call("last")
                raise OSError("the first attempt")
            return values

        workflow.task.add(body)
        run = workflow.start()

        assert run.value("body") == ["A", "B", "A", "bad", "C"]
        assert run.tasks[0].attempt == 2
        assert made() == ["a", "b", "a", "bad", "c", "last"]

    def test_another_run_goes_on(
        self,
        make_workflow: MakeWorkflow,
        executor: Executor,
        isolate: bool | None,
        made: Callable[[], list[str]],
        tmp_path: Path,
    ) -> None:
        """Coroutines side by side, too."""
        file, go = tmp_path / "made", tmp_path / "go"

        @action
        async def call(name: str) -> str:
            await asyncio.sleep(0.01)
            with file.open("a") as notes:
                notes.write(f"{name} ")
            return name.upper()

        @action(durable=True, isolate=isolate)
        async def body() -> list[str]:
            values = await asyncio.gather(call("a"), call("b"), call("b"))
            if not go.exists():
                raise ValueError("not yet")
            return [*values, await call("c")]

        def flow() -> DotFlow:
            workflow = make_workflow(executor=executor, storage=StorageFile(tmp_path / "kept"), workflow_id="w")
            workflow.task.add(body)
            return workflow

        assert flow().start().tasks[0].status is FAILED
        (tmp_path / "go").touch()
        assert flow().start(resume=True).value("body") == ["A", "B", "B", "C"]
        assert sorted(made()) == ["a", "b", "b", "c"]

    def test_a_timeout_ends_an_attempt_and_no_call_that_was_kept(
        self, workflow: DotFlow, isolate: bool | None, made: Callable[[], list[str]], tmp_path: Path
    ) -> None:
        """A body that takes longer than its timeout completes after some attempts."""
        file = tmp_path / "made"

        @action
        def slow(number: int) -> int:
            time.sleep(0.1)
            with file.open("a") as notes:
                notes.write(f"{number} ")
            return number

        @action(durable=True, isolate=isolate, timeout=0.25, retry=20, retry_delay=0)
        def body() -> int:
            return sum(slow(number) for number in range(4))

        workflow.task.add(body)
        run = workflow.start()

        assert run.value("body") == 6
        assert run.tasks[0].attempt > 1
        assert sorted(set(made())) == ["0", "1", "2", "3"]
        assert len(made()) < 4 + run.tasks[0].attempt, "an attempt repeats the call that its timeout has cut off"

    def test_a_pause_stops_it_between_two_calls(
        self,
        make_workflow: MakeWorkflow,
        executor: Executor,
        isolate: bool | None,
        call: Callable[..., str],
        made: Callable[[], list[str]],
        tmp_path: Path,
    ) -> None:
        """It goes on with the next one."""

        @action(durable=True, isolate=isolate)
        def body() -> list[str]:
            values = []
            for number in range(6):
                values.append(call(str(number)))
                while number == 2 and not (tmp_path / "go").exists():
                    time.sleep(0.01)
            return values

        def flow() -> DotFlow:
            workflow = make_workflow(executor=executor, storage=StorageFile(tmp_path / "kept"), workflow_id="w")
            workflow.task.add(body)
            return workflow

        run = flow().launch(lambda: None)
        while len(made()) < 3:
            time.sleep(0.01)
        run.pause()
        (tmp_path / "go").touch()
        assert run.wait(30)

        assert run.status is TypeStatus.PAUSED
        assert made() == ["0", "1", "2"]
        assert flow().start(resume=True).value("body") == made() == ["0", "1", "2", "3", "4", "5"]

    def test_it_leaves_its_worker_while_it_sleeps(
        self,
        workflow: DotFlow,
        isolate: bool | None,
        call: Callable[..., str],
        made: Callable[[], list[str]],
        tmp_path: Path,
    ) -> None:
        """It goes on from its top, as the same attempt."""
        begun = tmp_path / "begun"

        @action(durable=True, isolate=isolate)
        def body() -> str:
            with begun.open("a") as notes:
                notes.write("x")
            first = call("a")
            dotflow.sleep(0.5)
            return first + call("b")

        workflow.task.add(body)
        run = workflow.start()

        assert run.value("body") == "AB"
        assert run.tasks[0].attempt == 1
        assert made() == ["a", "b"]
        assert begun.read_text() == "xx"
        assert run.tasks[0].duration > 0.5, "it began before it slept"

    def test_an_answer_goes_on_where_it_asked(
        self,
        make_workflow: MakeWorkflow,
        executor: Executor,
        isolate: bool | None,
        call: Callable[..., str],
        made: Callable[[], list[str]],
        tmp_path: Path,
    ) -> None:
        """What it has called before is given back."""

        @action(durable=True, isolate=isolate)
        def body() -> str:
            draft = call("a")
            answer = dotflow.ask("Send {draft}?", draft=draft)
            return call("b") if answer.is_approved else draft

        history = HistorySQLite(path=tmp_path / "history.db")
        workflow = make_workflow(
            executor=executor, history=history, storage=StorageFile(tmp_path / "kept"), workflow_id="w"
        )
        workflow.task.add(body)
        run = workflow.start()
        assert (run.status, run.questions[0].text) == (TypeStatus.PAUSED, "Send A?")
        Control(workflow).approve(run.run_id, by="ann")

        assert workflow.start(resume=True).value("body") == "B"
        assert made() == ["a", "b"]

    def test_the_history_has_its_calls(
        self,
        make_workflow: MakeWorkflow,
        executor: Executor,
        isolate: bool | None,
        call: Callable[..., str],
        tmp_path: Path,
    ) -> None:
        """Each with its end."""

        @action(durable=True, isolate=isolate)
        def body() -> str:
            try:
                call("bad")
            except ValueError:
                return call("a") + call("b")
            return ""

        history = HistorySQLite(path=tmp_path / "history.db")
        workflow = make_workflow(executor=executor, history=history)
        workflow.task.add(body)
        run = workflow.start()

        rows = history.calls(run.run_id, "body").calls
        shown = [(row.number, row.shown[:8], str(row.state), row.glimpse or row.exception) for row in rows]
        assert shown == [
            (1, "call('ba", "Failed", "ValueError"),
            (2, "call('a'", "Made", "'A'"),
            (3, "call('b'", "Made", "'B'"),
        ]


class TestExecutorAsync:
    def test_no_more_coroutines_than_max_workers(self, make_workflow: MakeWorkflow) -> None:
        """The others wait in the run; their timeout does not include that."""
        at_once = [0]
        most = [0]

        async def counts() -> None:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
            try:
                await asyncio.sleep(0.05)
            finally:
                at_once[0] -= 1

        workflow = make_workflow(executor=ExecutorAsync(max_workers=3))
        workflow.task.add([action(timeout=0.5, retry=20, retry_delay=0)(counts) for _ in range(99)])

        run = workflow.start(mode="parallel")

        assert run.status is COMPLETED
        assert most == [3]
        assert sum(len(task.errors) for task in run.tasks) < 30  # none, unless the machine is too busy

    def test_without_it_they_are_not_limited(self, make_workflow: MakeWorkflow) -> None:
        """300 coroutines that wait for each other all end."""
        there = [0]

        async def meets() -> None:
            there[0] += 1
            while there[0] < 300:
                await asyncio.sleep(0.005)

        workflow = make_workflow(executor=ExecutorAsync())
        workflow.task.add([action(timeout=10)(meets) for _ in range(300)])

        assert workflow.start(mode="parallel").status is COMPLETED

    @pytest.mark.slow
    @pytest.mark.parametrize("mode", ["sequential", "parallel"])
    def test_a_loop_that_is_blocked_gives_its_room_back(self, make_workflow: MakeWorkflow, mode: str) -> None:
        """Its coroutines no longer count, and waiting tasks begin in a new loop."""
        blocked, runs = threading.Event(), threading.Event()

        async def blocks() -> None:
            assert not runs.is_set()
            runs.set()  # in the first attempt, unless the machine is too busy to begin in time
            blocked.wait(60)

        def comes_later() -> None:
            assert runs.wait(60)

        async def quick() -> int:
            return 1

        workflow = make_workflow(executor=ExecutorAsync(max_workers=2))
        blocking = action(timeout=0.1, retry=100, retry_delay=0, retry_on=TimeoutError)(blocks)
        workflow.task.add([blocking, *(action(retry=2)(quick) for _ in range(4))])

        workflow.task.add([action(comes_later), action(quick)], group_name="b")

        workflow.start(mode=mode, keep_going=True)
        blocked.set()

        assert statuses(workflow) == [FAILED, *[COMPLETED] * 6]


@pytest.mark.parametrize("executor", EVERY[2:], indirect=True)
def test_inside_one_process_a_value_is_the_same_object(workflow: DotFlow) -> None:
    """Nothing is copied."""
    lock = threading.Lock()
    workflow.task.add([action(lambda: lock), action(lambda previous_context: previous_context.storage)])

    workflow.start()

    assert all(value is lock for value in workflow.result_storage())
