"""Runs: in the background, repeated, at once, nested and awaited; callbacks and providers; resume."""

import asyncio
import contextlib
import os
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, Context, DotFlow, Task, action
from dotflow.abc.executor import Executor, ExecutorSession
from dotflow.abc.history import History
from dotflow.abc.log import Log
from dotflow.abc.notify import Notify
from dotflow.abc.tracer import Tracer
from dotflow.core.events import RunEvent
from dotflow.core.types.status import TypeStatus
from dotflow.engine.run import Run
from dotflow.errors import CheckpointMismatch, InvalidArgument
from dotflow.processes.dispatcher import DEFAULT_WORKERS
from dotflow.processes.process_session import ProcessSession
from dotflow.providers import ExecutorAsync, ExecutorProcess, ExecutorThread, LogDefault, StorageDefault
from dotflow.providers.executors.async_ import AsyncSession
from dotflow.providers.executors.thread import ThreadSession
from dotflow.testing import virtual_clock
from tests.integration.children import Scripts
from tests.storages import StorageThree

MakeWorkflow = Callable[..., DotFlow]

pytestmark = pytest.mark.processes

MODES = ["sequential", "background", "parallel", "groups"]


def start(workflow: DotFlow, mode: str, **arguments: Any):
    """Starts in one of MODES and waits for the end. The tasks need groups."""
    run = workflow.start(mode="sequential" if mode == "groups" else mode, **arguments)
    run.wait()
    return run


def group(mode: str, number: int) -> str:
    """Returns two groups for the mode with groups, one for the others."""
    return f"group {number % 2}" if mode == "groups" else "default"


# In the background


@pytest.mark.parametrize("is_async", [False, True])
def test_background_without_a_history_waits_for_no_log(
    is_async: bool, make_workflow: MakeWorkflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a history has to save first that the run has begun."""
    returned = threading.Event()
    seen: list[bool] = []

    class Slow(Log):
        def follow_run(self, event: RunEvent) -> None:
            seen.append(returned.wait(5))

        def info(self, task: Task) -> None: ...

        def error(self, task: Task) -> None: ...

    monkeypatch.setattr("dotflow.workflow.RECORD_PATIENCE", 20)
    workflow = make_workflow(log=Slow())
    workflow.task.add(action(lambda: 1))

    run = asyncio.run(workflow.astart("background")) if is_async else workflow.start("background")
    returned.set()
    run.wait()

    assert seen == [True, True]


def test_background_returns_at_once(make_workflow: MakeWorkflow, tmp_path: Path) -> None:
    """start(mode="background") returns while the first step still runs; wait() returns whether the run has ended, and
    then its results are complete."""
    begun, go = tmp_path / "begun", tmp_path / "go"

    @action
    def first() -> str:
        begun.touch()
        while not go.exists():
            time.sleep(0.01)
        return "first"

    @action
    def second(previous_context: Context) -> str:
        return f"{previous_context.storage}, second"

    workflow = make_workflow()
    workflow.task.add([first, second])
    run = workflow.start(mode="background")
    while not begun.exists():
        assert run.wait(0.01) is False

    assert run.wait(0.1) is False
    assert run.status is TypeStatus.IN_PROGRESS
    assert [task.status for task in run.tasks] == [TypeStatus.IN_PROGRESS, TypeStatus.NOT_STARTED]
    go.touch()
    assert run.wait(60) is True
    assert run.wait() is True
    assert run.status is TypeStatus.COMPLETED
    assert workflow.result_storage() == ["first", "first, second"]
    assert [task.duration is not None for task in run.tasks] == [True, True]


def test_a_background_run_is_in_progress_at_once(make_workflow: MakeWorkflow, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller sees that a run has begun, even if its thread has not started yet."""
    go = threading.Event()

    class LateThread(threading.Thread):
        def run(self) -> None:
            go.wait(60)
            super().run()

    monkeypatch.setattr(threading, "Thread", LateThread)
    workflow = make_workflow()
    workflow.task.add(action(lambda: 5))

    run = workflow.start(mode="background")
    status = run.status
    go.set()

    assert status is TypeStatus.IN_PROGRESS
    assert run.wait(60)
    assert workflow.result_storage() == [5]


def test_a_background_run_without_a_thread_has_not_begun(
    make_workflow: MakeWorkflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With too many threads, start() raises, and the run is NOT_STARTED."""

    class Refused(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    workflow = make_workflow()
    workflow.task.add(action(lambda: 5))
    with monkeypatch.context() as patch:
        patch.setattr(threading, "Thread", Refused)
        with pytest.raises(RuntimeError, match="new thread"):
            workflow.start(mode="background")

    assert workflow.result().status is TypeStatus.NOT_STARTED
    assert workflow.start().status is TypeStatus.COMPLETED


def test_background_groups_run_side_by_side(make_workflow: MakeWorkflow, tmp_path: Path) -> None:
    """In the background too, groups run in processes of their own at the same time."""

    @action(timeout=40)
    def step() -> int:
        (tmp_path / str(os.getpid())).touch()
        while len(list(tmp_path.iterdir())) < 3:
            time.sleep(0.01)
        return os.getpid()

    workflow = make_workflow()
    workflow.task.add(step, group_name="a").add(step, group_name="b").add(step, group_name="c")
    workflow.start(mode="background").wait()

    assert len({*workflow.result_storage(), os.getpid()}) == 4


@pytest.mark.parametrize(
    ("mode", "what"),
    [
        *((mode, what) for mode in ("background", "parallel") for what in ("sleep", "coroutine", "retry delay")),
        *(("background", "isolated"), ("groups", "sleep"), ("groups", "retry delay")),
        *(
            pytest.param(*case, marks=pytest.mark.exhaustive)
            for case in [("parallel", "isolated"), ("groups", "coroutine"), ("groups", "isolated")]
        ),
    ],
)
def test_cancel_stops_a_run(mode: str, what: str, make_workflow: MakeWorkflow, tmp_path: Path) -> None:
    """cancel() ends running tasks, in every mode. They are FAILED with the reason; the others never start."""
    began, later = tmp_path / "began", tmp_path / "later"

    def hang() -> None:
        began.touch()
        for _ in range(6000):
            time.sleep(0.01)
        later.touch()

    async def hang_softly() -> None:
        began.touch()
        await asyncio.sleep(60)

    def fail() -> None:
        began.touch()
        raise ValueError("and a long delay")

    step = {
        "sleep": action(hang),
        "coroutine": action(hang_softly),
        "retry delay": action(retry=2, retry_delay=60)(fail),
        "isolated": action(isolate=True)(hang),
    }[what]
    workflow = make_workflow()
    workflow.task.add(action(lambda: "done"), group_name=group(mode, 0))
    workflow.task.add(step, group_name=group(mode, 1))
    if mode != "parallel":
        workflow.task.add(action(lambda: later.touch()), group_name=group(mode, 1))

    run = workflow.start(mode="background") if mode != "parallel" else started_in_thread(workflow)
    until = time.monotonic() + 45
    while not (began.exists() and run.tasks[0].status is TypeStatus.COMPLETED) and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.05)
    run.cancel()

    assert run.wait(45)  # it would take a minute
    assert run.status is TypeStatus.FAILED
    statuses = [task.status for task in run.tasks]
    assert statuses[:2] == [TypeStatus.COMPLETED, TypeStatus.FAILED]
    assert "cancelled" in run.tasks[1].errors[-1].message
    assert statuses[2:] in ([], [TypeStatus.NOT_STARTED])
    assert not later.exists()
    run.cancel()  # after the end it does nothing
    assert run.wait() is True


@pytest.mark.parametrize("kind", ["ends at once", "swallows it", "of a class", "ExecutorAsync"])
def test_a_cancelled_coroutine_is_not_called_stuck(kind: str, quiet: Callable[..., Config]) -> None:
    """It ends at once, or is dropped. No thread is left behind, and the log reports none."""
    reports: list[str] = []
    began = threading.Event()

    class Listening(LogDefault):
        def report(self, message: str) -> None:
            reports.append(message)

    async def waits() -> None:
        began.set()
        await asyncio.sleep(60)

    async def swallows() -> None:
        began.set()
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)

    class Report:
        @action
        async def load(self) -> None:
            await waits()

    executor = ExecutorAsync() if kind == "ExecutorAsync" else None
    workflow = DotFlow(quiet(log=Listening(output="none"), executor=executor))
    workflow.task.add(action({"swallows it": swallows, "of a class": Report}.get(kind, waits)))
    run = workflow.start(mode="background")
    assert began.wait(60)
    run.cancel()

    assert run.wait(45)  # it would take a minute
    assert reports == []
    assert [error.exception for error in run.tasks[0].errors] == ["RunCancelled"]


def started_in_thread(workflow: DotFlow) -> Any:
    """The handle of a parallel run while it runs: start() itself returns it at the end only."""
    thread = threading.Thread(target=workflow.start, kwargs={"mode": "parallel"})
    thread.start()
    until = time.monotonic() + 45
    while workflow._last is None and time.monotonic() < until:
        time.sleep(0.01)
    return workflow._last


def test_cancel_before_anything_ran(make_workflow: MakeWorkflow) -> None:
    """A run that is cancelled at once ends at once. It calls neither on_success nor steps that have not begun."""
    called: list[str] = []

    @action
    def slow() -> None:
        while True:
            time.sleep(0.01)

    workflow = make_workflow()
    workflow.task.add([slow] * 5)
    run = workflow.start(mode="background", on_success=lambda tasks: called.append("success"))
    run.cancel()

    assert run.wait(60) is True
    assert run.status is TypeStatus.FAILED
    assert TypeStatus.COMPLETED not in {task.status for task in run.tasks}
    assert called == []


# Repeated, and at once


@pytest.mark.parametrize("mode", MODES)
def test_start_can_be_called_again(mode: str, make_workflow: MakeWorkflow) -> None:
    """Each start() is a new run with its own records; the results are those of the last one."""
    calls = []

    @action
    def step(initial_context: Context) -> int:
        return initial_context.storage

    workflow = make_workflow()
    for number in range(4):
        workflow.task.add(
            step,
            callback=lambda task: calls.append(task.task_id),
            initial_context=number,
            group_name=group(mode, number),
        )
    first = start(workflow, mode)
    second = start(workflow, mode)

    assert first.run_id != second.run_id
    assert first.workflow_id == second.workflow_id == workflow.workflow_id
    assert not set(map(id, first.tasks)) & set(map(id, second.tasks))
    assert [task.run_id for task in first.tasks] == [first.run_id] * 4
    assert workflow.result_task() == second.tasks
    assert workflow.result_storage() == [0, 1, 2, 3]
    assert sorted(calls) == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("mode", ["sequential", "background", "parallel"])
def test_start_from_eight_threads_at_once(mode: str, make_workflow: MakeWorkflow) -> None:
    """Runs of one workflow at the same time share nothing."""

    @action(timeout=40)
    def first() -> int:
        time.sleep(0.05)
        return threading.get_ident() ^ os.getpid()

    @action
    def second(previous_context: Context) -> Any:
        return previous_context.storage

    workflow = make_workflow()
    workflow.task.add([first, second])
    runs: list[Any] = []

    def go() -> None:
        run = workflow.start(mode=mode)
        run.wait()
        runs.append(run)

    threads = [threading.Thread(target=go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({run.run_id for run in runs}) == 8
    for run in runs:
        assert [str(task.status) for task in run.tasks] == ["Completed", "Completed"]
        assert {task.run_id for task in run.tasks} == {run.run_id}
        value = run.tasks[0].current_context.storage
        assert isinstance(value, int)
        assert run.tasks[1].current_context.storage == (None if mode == "parallel" else value)


# In event loops


@pytest.mark.parametrize("mode", MODES)
def test_start_inside_a_running_loop(mode: str, make_workflow: MakeWorkflow) -> None:
    """start() works where an event loop runs already, with coroutine steps too: these have a loop of their own."""

    @action(timeout=40)
    async def step() -> str:
        await asyncio.sleep(0.01)
        return "awaited"

    workflow = make_workflow()
    for number in range(2):
        workflow.task.add(step, group_name=group(mode, number))

    async def main() -> None:
        start(workflow, mode)
        await asyncio.sleep(0)

    asyncio.run(main())

    assert workflow.result_storage() == ["awaited", "awaited"]


@pytest.mark.parametrize("mode", MODES)
def test_astart_lets_the_callers_loop_go_on(mode: str, make_workflow: MakeWorkflow, tmp_path: Path) -> None:
    """During `await workflow.astart()` the caller's other tasks continue; it returns the run."""
    begun, ticked = tmp_path / "begun", tmp_path / "ticked"

    @action
    def step() -> str:
        begun.touch()
        while not ticked.exists():  # a loop that stands still would never get there
            time.sleep(0.01)
        return "done"

    workflow = make_workflow()
    for number in range(2):
        workflow.task.add(step, group_name=group(mode, number))

    async def tick() -> None:
        while not begun.exists():
            await asyncio.sleep(0.01)
        for _ in range(5):
            await asyncio.sleep(0.01)
        ticked.touch()

    async def main() -> Any:
        ticking = asyncio.create_task(tick())
        run = await workflow.astart(mode="sequential" if mode == "groups" else mode)
        if mode == "background":
            assert run.status is not TypeStatus.COMPLETED
            await asyncio.to_thread(run.wait)
        await ticking
        return run

    run = asyncio.run(main())

    assert run.status is TypeStatus.COMPLETED
    assert workflow.result_storage() == ["done", "done"]


@pytest.mark.parametrize("mode", ["sequential", "parallel", "groups"])
def test_cancelling_astart_cancels_the_run(mode: str, make_workflow: MakeWorkflow, tmp_path: Path) -> None:
    """Cancelling the task that awaits a run cancels the run, which has ended when the await returns."""

    @action
    def slow() -> None:
        (tmp_path / f"began{os.getpid()}").touch()
        while True:
            time.sleep(0.01)

    workflow = make_workflow()
    for number in range(2):
        workflow.task.add(slow, group_name=group(mode, number))

    async def main() -> None:
        awaiting = asyncio.create_task(workflow.astart(mode="sequential" if mode == "groups" else mode))
        while not list(tmp_path.iterdir()):
            await asyncio.sleep(0.01)
        awaiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await awaiting

    asyncio.run(main())

    assert workflow.result_task()[0].status is TypeStatus.FAILED
    assert workflow.result_task()[1].status is not TypeStatus.COMPLETED
    assert "cancelled" in workflow.result_task()[0].errors[-1].message


def test_the_mistakes_of_astart_are_those_of_start(make_workflow: MakeWorkflow) -> None:
    """astart() refuses the same arguments as start(), when it is awaited."""
    workflow = make_workflow()
    workflow.task.add(action(lambda: 1))

    with pytest.raises(ValueError, match="mode='sideways'"):
        asyncio.run(workflow.astart(mode="sideways"))


# Workflows in steps


@pytest.mark.parametrize(
    ("mode", "inner_mode"),
    [
        pytest.param(mode, inner, marks=() if mode == inner or "parallel" in (mode, inner) else pytest.mark.exhaustive)
        for mode in MODES
        for inner in MODES
    ],
)
def test_a_workflow_in_a_step(mode: str, inner_mode: str, make_workflow: MakeWorkflow) -> None:
    """A step may run a workflow, in every mode inside every mode; coroutines, retries and timeouts work in both."""

    def make_inner() -> DotFlow:
        @action(timeout=40)
        async def coroutine() -> str:
            await asyncio.sleep(0)
            return "coroutine"

        @action
        def function(initial_context: Context) -> str:
            return f"function {initial_context.storage}"

        inner = DotFlow(Config(log=LogDefault(output="none")))
        inner.task.add(coroutine, group_name="a" if inner_mode == "groups" else "default")
        inner.task.add(function, initial_context="inside", group_name="b" if inner_mode == "groups" else "default")
        return inner

    def outer() -> list[Any]:
        inner = make_inner()
        inner.start(mode="sequential" if inner_mode == "groups" else inner_mode).wait()
        return inner.result_storage()

    workflow = make_workflow()
    workflow.task.add(action(timeout=40)(outer), group_name=group(mode, 0))
    workflow.task.add(action(outer), group_name=group(mode, 1))
    start(workflow, mode)

    assert [task.errors for task in workflow.result_task()] == [[], []]
    assert workflow.result_storage() == [["coroutine", "function inside"]] * 2


# Callbacks


@pytest.mark.parametrize("mode", MODES)
def test_callbacks_run_in_the_callers_process(mode: str, make_workflow: MakeWorkflow) -> None:
    """In every mode callbacks see the complete record, in the caller's process, and may change the caller's objects."""
    calls: dict[int, Any] = {}
    ends: list[Any] = []
    before = threading.current_thread()

    def on_task(task: Task) -> None:
        calls[task.task_id] = (
            os.getpid(),
            str(task.status),
            task.current_context.storage,
            task.finished_at is not None,
        )
        if mode != "background":
            assert threading.current_thread() is before

    def on_success(tasks: list[Task]) -> None:
        ends.append([str(task.status) for task in tasks])

    @action
    def step(initial_context: Context) -> int:
        return initial_context.storage * 10

    workflow = make_workflow()
    for number in range(4):
        workflow.task.add(step, callback=on_task, initial_context=number, group_name=group(mode, number))
    start(workflow, mode, on_success=on_success, on_failure=lambda tasks: ends.append("failure"))

    assert calls == {number: (os.getpid(), "Completed", number * 10, True) for number in range(4)}
    assert ends == [["Completed"] * 4]


@pytest.mark.parametrize("mode", MODES)
def test_on_failure_is_called_once(mode: str, make_workflow: MakeWorkflow) -> None:
    """on_failure is called once for any number of failures, at the end, with all tasks; on_success is not."""
    ends: list[Any] = []
    failed: list[int] = []

    @action
    def step(initial_context: Context) -> int:
        if initial_context.storage % 2:
            raise ValueError(initial_context.storage)
        return initial_context.storage

    workflow = make_workflow()
    for number in range(6):
        workflow.task.add(
            step,
            callback=lambda task: failed.append(task.task_id) if task.status is TypeStatus.FAILED else None,
            initial_context=number,
            group_name=group(mode, number // 2),
        )
    run = start(
        workflow,
        mode,
        keep_going=True,
        on_success=lambda tasks: ends.append("success"),
        on_failure=lambda tasks: ends.append([str(task.status) for task in tasks]),
    )

    assert ends == [["Completed", "Failed"] * 3]
    assert sorted(failed) == [1, 3, 5]
    assert run.status is TypeStatus.FAILED
    assert workflow.result_storage() == [0, None, 2, None, 4, None]


# Providers and callbacks that raise


class Lines(Log):
    """Records its calls."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.reports: list[str] = []

    def info(self, task: Task) -> None:
        """Records it."""
        self.lines.append(f"{task.task_id} {task.status}")

    def error(self, task: Task) -> None:
        """Records it."""
        self.lines.append(f"{task.task_id} {task.status} {task.errors[-1].exception}")

    def report(self, message: str) -> None:
        """Records it."""
        self.reports.append(message)


class BrokenNotify(Notify):
    """Raises."""

    def send(self, task: Task) -> None:
        """Raises."""
        raise RuntimeError("notify is broken")


class BrokenHistory(History):
    """Raises."""

    def record(self, run_id: str, event: Any) -> None:
        """Raises."""
        raise RuntimeError("history is broken")


class BrokenTracer(Tracer):
    """Raises."""

    def trace(self, run_id: str, event: Any) -> None:
        """Raises."""
        raise RuntimeError("tracer is broken")


def broken_callback(task: Task) -> None:
    """Raises."""
    raise RuntimeError("the callback is broken")


def broken_end(tasks: list[Task]) -> None:
    """Raises."""
    raise RuntimeError("the end is broken")


@pytest.mark.parametrize("mode", MODES)
def test_a_listener_that_raises_is_reported_and_changes_nothing(mode: str, make_workflow: MakeWorkflow) -> None:
    """A callback, notify, history or tracer that raises is in the log with its traceback; the run is not affected."""
    log = Lines()
    workflow = make_workflow(log=log, notify=BrokenNotify(), history=BrokenHistory(), tracer=BrokenTracer())
    for number in range(2):
        workflow.task.add(action(lambda: "value"), callback=broken_callback, group_name=group(mode, number))

    run = start(workflow, mode, on_success=broken_end)

    assert run.status is TypeStatus.COMPLETED
    assert workflow.result_storage() == ["value", "value"]
    assert sorted(log.lines) == ["0 Completed", "0 In progress", "1 Completed", "1 In progress"]
    reports = "\n".join(log.reports)
    for name in ("notify", "history", "tracer", "the callback", "the end"):
        assert f"{name} is broken" in reports, name
    assert "Traceback (most recent call last)" in reports
    assert 'raise RuntimeError("the callback is broken")' in reports
    assert reports.count("the callback is broken\n") == reports.count("RuntimeError: the callback is broken") >= 2


@pytest.mark.parametrize("mode", MODES)
def test_launch_returns_at_once_in_each_mode(make_workflow: MakeWorkflow, mode: str) -> None:
    """The step waits for what only the caller's next line does; `then` is called at the end, if there is one."""
    workflow = make_workflow(executor=ExecutorThread())
    launched, ended = threading.Event(), threading.Event()
    groups = ["a", "b"] if mode == "groups" else ["default"]
    for group_name in groups:
        workflow.task.add(action(lambda: launched.wait(60)), group_name=group_name)

    run = workflow.launch(ended.set, mode="sequential" if mode == "groups" else mode)
    launched.set()

    assert run.wait(60)
    assert ended.wait(60)
    assert workflow.result_storage() == [True] * len(groups)
    assert workflow.launch().wait(60)


def test_launch_refuses_what_it_would_find_out_too_late(make_workflow: MakeWorkflow) -> None:
    """A mode in the place of `then`."""
    workflow = make_workflow()
    workflow.task.add(action(lambda: 5))

    with pytest.raises(InvalidArgument, match=r"Write launch\(mode="):
        workflow.launch("parallel")  # type: ignore[arg-type]


def test_the_error_that_ends_a_background_run_is_in_the_log(make_workflow: MakeWorkflow) -> None:
    """With its traceback, since the caller may never wait for the run."""
    log, ended = Lines(), threading.Event()
    workflow = make_workflow(log=log)
    workflow.task.add(action(lambda: 5))

    run = workflow.launch(ended.set, on_success=lambda tasks: sys.exit(3))

    assert ended.wait(60)
    with pytest.raises(SystemExit):
        run.wait()
    (report,) = log.reports
    assert report.startswith(f"An error ended the run {run.run_id}:\nTraceback (most recent call last):\n")
    assert report.endswith("SystemExit: 3\n")


@pytest.mark.parametrize("mode", MODES)
def test_a_log_that_raises_changes_nothing(
    mode: str, make_workflow: MakeWorkflow, caplog: pytest.LogCaptureFixture
) -> None:
    """When even the log raises, the run continues, and Python's own logging gets the report."""

    class BrokenLog(Log):
        def info(self, task: Task) -> None:
            raise OSError("the log is broken")

        error = info

        def report(self, message: str) -> None:
            raise OSError("its report too")

    @action
    def fails() -> None:
        raise ValueError("a failed step")

    workflow = make_workflow(log=BrokenLog())
    workflow.task.add(action(lambda: "value"), group_name=group(mode, 0))
    workflow.task.add(fails, group_name=group(mode, 1))
    run = start(workflow, mode)

    assert run.status is TypeStatus.FAILED
    assert [str(task.status) for task in run.tasks] == ["Completed", "Failed"]
    assert run.tasks[1].errors[-1].exception == "ValueError"
    assert "the log is broken" in caplog.text


# Notifications


class RecordingNotify(Notify):
    """Records its calls, with the task as it was and the thread.

    Args:
        delay: Seconds that each notification takes.
    """

    def __init__(self, delay: float = 0) -> None:
        self.calls: list[tuple[int, str, int, Any]] = []
        self.threads: set[str] = set()
        self.delay = delay

    def send(self, task: Task) -> None:
        """Records it."""
        time.sleep(self.delay)
        self.threads.add(threading.current_thread().name)
        self.calls.append((task.task_id, str(task.status), len(task.errors), task.current_context.storage))


@pytest.mark.parametrize("mode", MODES)
def test_notifications_of_every_change_in_order(mode: str, make_workflow: MakeWorkflow) -> None:
    """Each change of a status is one call, in order, with the task as it was then, however late the call is."""

    @action(retry=3, retry_delay=0)
    def flaky(initial_context: Context) -> str:
        folder: Path = initial_context.storage
        (folder / f"try{len(list(folder.iterdir()))}").touch()
        if len(list(folder.iterdir())) < 3:
            raise ValueError("not yet")
        return "value"

    @action
    def fails() -> None:
        raise ValueError("never")

    notify = RecordingNotify(delay=0.02)
    workflow = make_workflow(notify=notify)
    with tempfile.TemporaryDirectory() as folder:
        workflow.task.add(flaky, initial_context=Path(folder), group_name=group(mode, 0))
        workflow.task.add(fails, group_name=group(mode, 1))
        start(workflow, mode, keep_going=True)

    assert [line for line in notify.calls if line[0] == 0] == [
        (0, "In progress", 0, None),
        (0, "Retry", 1, None),
        (0, "In progress", 1, None),
        (0, "Retry", 2, None),
        (0, "In progress", 2, None),
        (0, "Completed", 2, "value"),
    ]
    assert [line for line in notify.calls if line[0] == 1] == [(1, "In progress", 0, None), (1, "Failed", 1, None)]
    assert len(notify.threads) == 1
    assert threading.main_thread().name not in notify.threads


def test_a_notification_that_hangs_does_not_hold_up_the_run(scripts: Scripts) -> None:
    """A notification that hangs for a minute costs a run no more than its notify_grace, is reported, and lets the
    interpreter exit."""
    end = scripts.run("""
from dotflow.abc.notify import Notify

sent = []

class Hanging(Notify):
    def send(self, task):
        time.sleep(60)
        sent.append(task)

class Lines(LogDefault):
    reports = []
    def report(self, message):
        self.reports.append(message)

log = Lines(output="none")
called = []
workflow = DotFlow(config(notify=Hanging(), notify_grace=0.2, log=log))
for number in range(3):
    workflow.task.add(action(lambda: None), callback=lambda task: called.append(len(log.reports)))
began = time.monotonic()
workflow.start()
say(seconds=time.monotonic() - began, sent=sent, called=called, reports=log.reports)
""")

    assert end.facts["called"] == [0, 0, 0]  # before the grace began
    assert end.facts["sent"] == []
    assert end.facts["seconds"] >= 0.2
    assert len(end.facts["reports"]) == 1
    assert "Hanging" in end.facts["reports"][0]
    assert "0.2 s" in end.facts["reports"][0]


# After a failure


@pytest.mark.parametrize("mode", ["sequential", "background"])
def test_after_a_failure_nothing_new_starts(mode: str, make_workflow: MakeWorkflow) -> None:
    """Without keep_going the tasks after a failed one stay NOT_STARTED, without callback and result."""
    called: list[int] = []
    workflow = make_workflow()
    for step in (lambda: 1, lambda: 1 / 0, lambda: 3, lambda: 4):
        workflow.task.add(action(step), callback=lambda task: called.append(task.task_id))

    run = start(workflow, mode)

    assert [str(task.status) for task in run.tasks] == ["Completed", "Failed", "Not started", "Not started"]
    assert run.tasks[2].started_at is run.tasks[2].duration is None
    assert called == [0, 1]
    assert workflow.result_storage() == [1, None, None, None]


@pytest.mark.parametrize("workers", [2, None])
def test_of_101_tasks_few_run_after_the_first_one_failed(
    workers: int | None, quiet: Callable[..., Config], tmp_path: Path, start_method: str | None
) -> None:
    """As many as there may be workers; the others stay NOT_STARTED and never run."""

    def runs(initial_context: Context) -> None:
        (tmp_path / str(initial_context.storage)).touch()
        while not (tmp_path / "failed").exists():
            time.sleep(0.01)

    workflow = DotFlow(quiet(executor=ExecutorProcess(workers, start_method)))
    workflow.task.add(action(lambda: 1 / 0), callback=lambda task: (tmp_path / "failed").touch())
    for number in range(1, 101):
        workflow.task.add(action(runs), initial_context=number)

    run = workflow.start(mode="parallel")

    ran = {int(path.name) for path in tmp_path.iterdir() if path.name != "failed"}
    assert ran == set(range(1, workers or DEFAULT_WORKERS))
    assert run.tasks[0].status == "Failed"
    assert {task.task_id for task in run.tasks if task.status == "Completed"} == ran
    assert {str(task.status) for task in run.tasks if task.task_id not in {0, *ran}} == {"Not started"}


@pytest.mark.parametrize("mode", ["parallel", "groups"])
def test_after_a_failure_running_tasks_end_by_themselves(
    mode: str, make_workflow: MakeWorkflow, tmp_path: Path, start_method: str | None
) -> None:
    """Without keep_going a failure in one lane lets the steps that run elsewhere finish, and starts nothing new."""

    @action
    def slow() -> str:
        (tmp_path / "began").touch()
        while not (tmp_path / "failed").exists():
            time.sleep(0.01)
        return "slow"

    @action
    def fails() -> None:
        while not (tmp_path / "began").exists():
            time.sleep(0.01)
        raise ValueError("early")

    @action
    def never() -> None:
        (tmp_path / "never").touch()

    workflow = make_workflow(executor=ExecutorProcess(max_workers=2, start_method=start_method))
    failed = lambda task: (tmp_path / "failed").touch()
    if mode == "groups":
        workflow.task.add([slow, never], group_name="a")
        workflow.task.add(fails, group_name="b", callback=failed).add(never, group_name="b")
    else:
        workflow.task.add(slow).add(fails, callback=failed).add([never] * 3)
    start(workflow, mode)

    assert not (tmp_path / "never").exists()
    statuses = [str(task.status) for task in workflow.result_task()]
    if mode == "groups":
        assert statuses == ["Completed", "Not started", "Failed", "Not started"]
    else:
        assert statuses == ["Completed", "Failed", *["Not started"] * 3]


class LateWorkers:
    """Holds all workers of an executor but the first back until a task has failed."""

    def __init__(self, executor: Executor, session: type[ExecutorSession], monkeypatch: pytest.MonkeyPatch) -> None:
        self.executor = executor
        self._has_failed = False
        self._count = 0
        make_room = session.make_room

        def make_room_late(session: Any, pool: Hashable, lane: int, waiting: int) -> bool:
            room = (self._has_failed or not self._count) and make_room(session, pool, lane, waiting)
            self._count += room
            return room

        monkeypatch.setattr(session, "make_room", make_room_late)

    def release(self, task: Task) -> None:
        self._has_failed = True


@pytest.fixture(params=["process", "thread", "async"])
def late(request: pytest.FixtureRequest, start_method: str | None, monkeypatch: pytest.MonkeyPatch) -> LateWorkers:
    executor, session = {
        "process": (ExecutorProcess(3, start_method), ProcessSession),
        "thread": (ExecutorThread(3), ThreadSession),
        "async": (ExecutorAsync(3), AsyncSession),
    }[request.param]
    return LateWorkers(executor, session, monkeypatch)


@action
async def breaks() -> None:
    raise ValueError("at once")


@action
async def works(number: int = 0) -> int:
    return number


@action(isolate=True)
def works_apart() -> int:
    return 1


def test_tasks_that_are_ready_with_a_failing_one_begin(late: LateWorkers, make_workflow: MakeWorkflow) -> None:
    """Though no worker for it was up yet: three tasks run of five, as if the workers had been there at once."""
    workflow = make_workflow(executor=late.executor)
    workflow.task.add(breaks, callback=late.release).add([works] * 4)

    run = workflow.start(mode="parallel")

    assert [str(task.status) for task in run.tasks] == ["Failed", *["Completed"] * 2, *["Not started"] * 2]


@pytest.mark.exhaustive(keep_every=3)
def test_isolated_steps_and_others_share_the_room(late: LateWorkers, make_workflow: MakeWorkflow) -> None:
    """Except with ExecutorAsync, whose coroutines need none of its threads."""
    workflow = make_workflow(executor=late.executor)
    workflow.task.add(breaks, callback=late.release).add([works_apart, works, works, works])

    run = workflow.start(mode="parallel")

    count = 3 if isinstance(late.executor, ExecutorAsync) else 2
    assert [str(task.status) for task in run.tasks[1:]] == ["Completed"] * count + ["Not started"] * (4 - count)


def test_the_first_of_each_group_begins_with_a_failing_one(late: LateWorkers, make_workflow: MakeWorkflow) -> None:
    """The next task of a group does not."""
    workflow = make_workflow(executor=late.executor)
    workflow.task.add(breaks, group_name="a", callback=late.release)
    workflow.task.add([works] * 2, group_name="b").add([works] * 2, group_name="c")

    run = workflow.start()

    assert [str(task.status) for task in run.tasks] == ["Failed", *["Completed", "Not started"] * 2]


def test_a_task_that_is_ready_at_cancel_does_not_begin(late: LateWorkers, make_workflow: MakeWorkflow) -> None:
    """cancel() stops at once, also after a failure."""
    handles: queue.SimpleQueue[Run] = queue.SimpleQueue()

    def cancel(task: Task) -> None:
        late.release(task)
        handles.get().cancel()

    workflow = make_workflow(executor=late.executor)
    workflow.task.add(breaks, group_name="a", callback=cancel)
    workflow.task.add(works, group_name="b").add(works, group_name="c")

    run = workflow.start(mode="background")
    handles.put(run)
    run.wait()

    assert [str(task.status) for task in run.tasks] == ["Failed", "Not started", "Not started"]


def test_an_empty_context_is_a_tasks_own() -> None:
    """What a step, or its fallback, changes in one is seen by its further attempts, and by no other task."""
    seen: list[Any] = []

    @action(retry=2, retry_delay=0)
    def changes(initial_context: Context, previous_context: Context) -> None:
        for context in (initial_context, previous_context):
            seen.append(context.storage)
            context.storage = "changed"
        raise ValueError("again")

    @action
    def fails() -> None:
        raise ValueError("no")

    @action
    def other(initial_context: Context, previous_context: Context) -> None:
        changes(initial_context, previous_context)

    workflow = DotFlow(Config(executor=ExecutorThread(max_workers=1), log=LogDefault(output="none")))
    for step in (changes, changes, fails, fails):
        workflow.task.add(step, name=f"task_{workflow.task.count()}", fallback=None if step is changes else other)
    run = workflow.start("parallel", keep_going=True)

    assert seen == [None, None, "changed", "changed"] * 2 + [None, None] * 2
    assert [task.previous_context.storage for task in run.tasks] == ["changed", "changed", None, None]


@pytest.mark.parametrize("mode", MODES)
def test_keep_going(mode: str, make_workflow: MakeWorkflow) -> None:
    """With keep_going every lane continues; the task after a failed one gets an empty context, later ones the chain."""

    @action
    def make(initial_context: Context) -> str:
        return initial_context.storage

    @action
    def fails() -> None:
        raise ValueError("no")

    @action
    def look(previous_context: Context) -> list[Any]:
        return [previous_context.storage, previous_context.task_id]

    workflow = make_workflow()
    for name in ("a", "b"):
        workflow.task.add(
            [make, look, fails, look, look], initial_context=name, group_name=name if mode == "groups" else "default"
        )
    start(workflow, mode, keep_going=True)

    statuses = [str(task.status) for task in workflow.result_task()]
    assert statuses == ["Completed", "Completed", "Failed", "Completed", "Completed"] * 2
    first, second = workflow.result_storage()[:5], workflow.result_storage()[5:]
    if mode == "parallel":
        assert first == ["a", [None, None], None, [None, None], [None, None]]
    else:
        assert first == ["a", ["a", 0], None, [None, None], [[None, None], 3]]
        assert second == ["b", ["b", 5], None, [None, None], [[None, None], 8]]


@pytest.mark.parametrize("mode", MODES)
def test_results_stand_in_the_order_of_add(mode: str, make_workflow: MakeWorkflow) -> None:
    """The results are in the order of add, in whatever order the tasks end."""

    @action
    def step(initial_context: Context) -> int:
        time.sleep(0.12 - 0.02 * initial_context.storage)
        return initial_context.storage

    workflow = make_workflow()
    for number in range(6):
        workflow.task.add(step, initial_context=number, group_name=group(mode, number))
    start(workflow, mode)

    assert workflow.result_storage() == list(range(6))
    assert [task.task_id for task in workflow.result_task()] == list(range(6))
    assert [context.task_id for context in workflow.result_context()] == list(range(6))


# Attempts


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("raised", ["AssertionError", "SystemExit", "GeneratorExit", "BaseExceptionGroup", "Own"])
def test_any_exception_is_a_failed_attempt(raised: str, mode: str, make_workflow: MakeWorkflow) -> None:
    """AssertionError, SystemExit and any other exception is a failed attempt, which is retried, in functions and
    coroutines; only KeyboardInterrupt is not."""

    class Own(BaseException):
        pass

    def fail() -> None:
        if raised == "AssertionError":
            assert not sum([1])
        if raised == "BaseExceptionGroup":
            raise BaseExceptionGroup("several", [SystemExit(1)])
        raise {"SystemExit": SystemExit(3), "GeneratorExit": GeneratorExit(), "Own": Own("mine")}[raised]

    async def fail_softly() -> None:
        await asyncio.sleep(0)
        fail()

    workflow = make_workflow()
    options: dict[str, Any] = {"retry": 2, "retry_delay": 0, "timeout": 40}
    workflow.task.add(action(**options)(fail), group_name=group(mode, 0))
    workflow.task.add(action(**options)(fail_softly), group_name=group(mode, 1))
    workflow.task.add(action(lambda: "goes on"), group_name=group(mode, 1))
    start(workflow, mode, keep_going=True)

    for task in workflow.result_task()[:2]:
        assert task.status is TypeStatus.FAILED
        assert [(error.attempt, error.exception) for error in task.errors] == [(1, raised), (2, raised)]
        assert task.retry_count == 1
        assert "fail" in task.errors[0].traceback
    assert workflow.result_storage()[2] == "goes on"


@pytest.mark.parametrize("mode", MODES)
def test_delays_between_attempts(mode: str, make_workflow: MakeWorkflow) -> None:
    """Between attempts is retry_delay, doubled each time with backoff, which occupies no worker."""
    stamps: dict[int, list[float]] = {0: [], 1: []}

    class Clock(Log):
        def info(self, task: Task) -> None:
            if task.status is TypeStatus.IN_PROGRESS:
                stamps[task.task_id].append(time.monotonic())

        def error(self, task: Task) -> None:
            stamps[task.task_id].append(time.monotonic())

    def fail() -> None:
        raise ValueError("again")

    workflow = make_workflow(log=Clock())
    workflow.task.add(action(retry=3, retry_delay=0.1)(fail), group_name=group(mode, 0))
    workflow.task.add(action(retry=3, retry_delay=0.1, backoff=True)(fail), group_name=group(mode, 1))
    start(workflow, mode, keep_going=True)

    plain, doubled = ([next_ - end for end, next_ in zip(s[1::2], s[2::2], strict=False)] for s in stamps.values())
    assert len(plain) == len(doubled) == 2
    assert all(delay >= 0.099 for delay in plain)
    assert doubled[0] >= 0.099
    assert doubled[1] >= 0.199


@pytest.mark.parametrize("executor", ["process", "thread", "async"])
def test_a_delay_occupies_no_worker(executor: str, quiet: Callable[..., Config], start_method: str | None) -> None:
    """While a task waits for its next attempt, the only worker runs the others."""
    executor = {
        "process": ExecutorProcess(max_workers=1, start_method=start_method),
        "thread": ExecutorThread(max_workers=1),
        "async": ExecutorAsync(max_workers=1),
    }[executor]
    order: list[int] = []

    @action(retry=2, retry_delay=3600)
    def fails() -> None:
        raise ValueError("again")

    workflow = DotFlow(quiet(executor=executor))
    workflow.task.add(fails, callback=lambda task: order.append(0))
    for _ in range(4):
        workflow.task.add(action(lambda: None), callback=lambda task: order.append(task.task_id))
    with virtual_clock():  # the delay is over when nothing else is left to do
        workflow.start(mode="parallel", keep_going=True)

    assert order == [1, 2, 3, 4, 0]


# Resume, within a process


def test_resume_skips_finished_tasks(make_workflow: MakeWorkflow) -> None:
    """resume=True skips every task that has a checkpoint. It restores None, 0, "" and [] too, passes them to the next
    step, and does not repeat callbacks."""
    ran: list[Any] = []
    called: list[int] = []
    broken = [True]

    @action
    def value(initial_context: Context) -> Any:
        ran.append(initial_context.storage)
        return initial_context.storage

    @action
    def fragile(previous_context: Context) -> list[Any]:
        ran.append("fragile")
        if broken[0]:
            raise ValueError("broken")
        return ["after", previous_context.storage, previous_context.task_id]

    workflow = make_workflow(executor=None, storage=StorageDefault())
    values: list[Any] = [None, 0, "", [], {"a": object()}, False]
    for item in values:
        workflow.task.add(value, initial_context=item, callback=lambda task: called.append(task.task_id))
    workflow.task.add(fragile, callback=lambda task: called.append(task.task_id))
    first = workflow.start()
    broken[0] = False
    called_before, ran_before = list(called), list(ran)
    second = workflow.start(resume=True)

    assert first.status is TypeStatus.FAILED
    assert second.status is TypeStatus.COMPLETED
    assert {task.status for task in second.tasks} == {TypeStatus.COMPLETED}
    assert workflow.result_storage() == [*values, ["after", False, 5]]
    assert ran == [*ran_before, "fragile"]
    assert called == [*called_before, 6]


@pytest.mark.parametrize("mode", MODES)
def test_resume_in_every_mode(mode: str, make_workflow: MakeWorkflow, tmp_path: Path) -> None:
    """In every mode a second run with resume=True runs the failed tasks, and no others."""

    @action
    def step(initial_context: Context) -> Any:
        number, folder = initial_context.storage
        with (folder / f"ran{number}").open("a") as file:
            file.write("x")
        if number % 3 == 1 and not (folder / "repaired").exists():
            raise ValueError("broken")
        return number

    workflow = make_workflow()
    for number in range(6):
        workflow.task.add(step, initial_context=(number, tmp_path), group_name=group(mode, number))
    start(workflow, mode, keep_going=True)
    statuses = [str(task.status) for task in workflow.result_task()]
    (tmp_path / "repaired").touch()
    run = start(workflow, mode, resume=True)

    assert statuses == ["Completed", "Failed", "Completed", "Completed", "Failed", "Completed"]
    assert run.status is TypeStatus.COMPLETED
    assert workflow.result_storage() == list(range(6))
    assert [(tmp_path / f"ran{number}").read_text() for number in range(6)] == ["x", "xx", "x", "x", "xx", "x"]


def test_resume_on_a_first_run_just_runs(make_workflow: MakeWorkflow) -> None:
    """Where nothing was saved, resume=True runs everything."""
    workflow = make_workflow()
    workflow.task.add([action(lambda: 1), action(lambda: 2)])

    assert workflow.start(resume=True).status is TypeStatus.COMPLETED
    assert workflow.result_storage() == [1, 2]


@pytest.mark.parametrize("storage", [StorageDefault, StorageThree])
def test_a_fresh_start_makes_older_checkpoints_void(storage: type, make_workflow: MakeWorkflow) -> None:
    """start() without resume voids older checkpoints: a later resume runs all tasks that this run did not reach."""
    state = {"fail": False, "run": 1}

    @action
    def first() -> int:
        if state["fail"]:
            raise ValueError("now it fails")
        return state["run"]

    @action
    def second(previous_context: Context) -> list[Any]:
        return [state["run"], previous_context.storage]

    workflow = make_workflow(executor=None, storage=storage())
    workflow.task.add([first, second])
    workflow.start()
    state.update(fail=True, run=2)
    workflow.start()
    state.update(fail=False, run=3)
    workflow.start(resume=True)

    assert workflow.result_storage() == [3, [3, 3]]


@pytest.mark.parametrize("storage", [StorageDefault, StorageThree])
def test_another_step_at_the_place_of_a_checkpoint(storage: type, quiet: Callable[..., Config]) -> None:
    """Where another step is at the position of a checkpoint, resume raises an error with both, before anything runs."""
    ran: list[str] = []

    @action
    def extract() -> str:
        ran.append("extract")
        return "rows"

    @action
    def transform() -> str:
        ran.append("transform")
        return "table"

    config = quiet(executor=None, storage=storage())
    workflow = DotFlow(config, workflow_id="job")
    workflow.task.add([extract, transform])
    workflow.start()
    changed = DotFlow(config, workflow_id="job")
    changed.task.add([transform, extract])

    with pytest.raises(CheckpointMismatch, match=r"(?s)extract.*transform.*without resume") as caught:
        changed.start(resume=True)

    assert ran == ["extract", "transform"]
    assert "task 0" in str(caught.value)
    workflow.start(resume=True)  # nothing was overwritten
    assert workflow.result_storage() == ["rows", "table"]
    assert ran == ["extract", "transform"]


@pytest.mark.parametrize("mode", MODES)
def test_a_value_that_could_not_be_saved_fails_its_task(mode: str, make_workflow: MakeWorkflow) -> None:
    """When the storage raises, the task is FAILED with that error; its callback is called, and dependent tasks do not
    start."""

    class Full(StorageDefault):
        def post(self, key: str, context: Context) -> None:
            if context.task_id == 0:
                raise OSError("no space left on device")
            super().post(key, context)

    called: list[str] = []
    workflow = make_workflow(storage=Full())
    workflow.task.add(
        action(lambda: "lost"), callback=lambda task: called.append(str(task.status)), group_name=group(mode, 0)
    )
    if mode != "parallel":
        workflow.task.add(action(lambda: "next"), group_name=group(mode, 0))
    workflow.task.add(action(lambda: time.sleep(0.05)), group_name=group(mode, 1))
    run = start(workflow, mode)

    task = run.tasks[0]
    assert task.status is run.status is TypeStatus.FAILED
    assert task.errors[-1].exception == "StorageError"
    assert "no space left on device" in task.errors[-1].message
    assert called == ["Failed"]
    if mode != "parallel":
        assert run.tasks[1].status is TypeStatus.NOT_STARTED


def test_a_value_is_in_the_storage_before_the_next_step_starts(make_workflow: MakeWorkflow) -> None:
    """A checkpoint is written before dependent tasks start, and before any listener is called."""
    seen: list[Any] = []
    storage = StorageDefault()

    @action
    def look(previous_context: Context) -> str:
        seen.append([context.storage for context in map(storage.get, storage.list_keys())])
        return "second"

    workflow = make_workflow(executor=None, storage=storage)
    workflow.task.add(
        action(lambda: "first"), callback=lambda task: seen.append(storage.get(storage.key(task)).storage)
    )
    workflow.task.add(look)
    workflow.start()

    assert seen == ["first", ["first"]]
