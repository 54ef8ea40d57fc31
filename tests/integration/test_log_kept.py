"""LogDefault keeps records for as long as nothing else happens, and a run has it write them before anything does."""

import asyncio
import contextlib
import errno
import json
import os
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from dotflow import Context, DotFlow, Run, Task, action, clock
from dotflow.abc.log import Log
from dotflow.core.events import RunEvent
from dotflow.providers import ExecutorAsync, ExecutorInline, ExecutorThread, LogDefault, StorageDefault
from tests.integration.children import Scripts

MakeWorkflow = Callable[..., DotFlow]


class LogFile:
    """A log file in JSON, and what is in it by now."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = LogDefault(path=path, output="file", format="json")

    def records(self) -> list[tuple[int, str]]:
        """The task and the status, or the message, of each record."""
        written, _, _ = self.path.read_text().rpartition("\n")  # another thread may be writing a line
        lines = map(json.loads, written.splitlines())
        return [(line["task"], line["status"] or line["message"]) for line in lines]

    def has(self, task_id: int, status: str) -> bool:
        return (task_id, status) in self.records()


@pytest.fixture
def file(tmp_path: Path) -> LogFile:
    return LogFile(tmp_path / "flow.log")


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What is written to descriptors."""
    written: list[bytes] = []
    write = os.write

    def noted(descriptor: int, data: bytes) -> int:
        if data.startswith(b"{"):
            written.append(data)
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", noted)
    return written


class TestWhatIsInTheFile:
    """A reader of the file, at any moment that takes long, finds all that has happened."""

    def test_a_step_finds_its_own_beginning_and_earlier_ends(self, make_workflow: MakeWorkflow, file: LogFile) -> None:
        """So does a user who looks at the terminal while the step runs."""
        found: list[list[tuple[int, str]]] = []
        workflow = make_workflow(log=file.log)
        workflow.task.add([action(lambda: found.append(file.records()))] * 3)

        workflow.start()

        whole = [(task, status) for task in range(3) for status in ("In progress", "Completed")]
        assert found == [whole[:1], whole[:3], whole[:5]]
        assert file.records() == whole

    @pytest.mark.parametrize("executor", [ExecutorAsync, ExecutorThread])
    def test_steps_side_by_side_find_their_beginnings(
        self, make_workflow: MakeWorkflow, file: LogFile, executor: Callable[[], Any]
    ) -> None:
        """Coroutines begin together, after the records of all of them."""
        workflow = make_workflow(log=file.log, executor=executor())

        def step_of(number: int) -> Callable[[], Any]:
            def step() -> bool:
                return file.has(number, "In progress")

            async def coroutine() -> bool:
                return file.has(number, "In progress")

            return coroutine if number % 2 else step

        workflow.task.add([action(step_of(number)) for number in range(20)])

        run = workflow.start("parallel")

        assert [task.value for task in run.tasks] == [True] * 20

    def test_a_killed_step_has_its_beginning_in_the_file(self, scripts: Scripts, tmp_path: Path) -> None:
        """kill -9 loses no record of what was before."""
        with scripts.start("""
@action
def works(): ...

@action
def kills(): os.kill(os.getpid(), 9)

workflow = DotFlow(Config(log=LogDefault(path=HERE / "flow.log", output="file", format="json")))
workflow.task.add([works, works, kills])
workflow.start()
""") as script:
            code = script.end().code

        assert code == -signal.SIGKILL
        records = LogFile(tmp_path / "flow.log").records()
        assert records[-3:] == [(1, "In progress"), (1, "Completed"), (2, "In progress")]

    def test_a_callback_finds_the_end(self, make_workflow: MakeWorkflow, file: LogFile) -> None:
        """And the callback of the run finds all of them."""
        found: list[bool] = []
        workflow = make_workflow(log=file.log)
        workflow.task.add(action(lambda: 1), callback=lambda task: found.append(file.has(0, "Completed")))
        workflow.task.add(action(lambda: 2))

        workflow.start(on_success=lambda tasks: found.append(file.has(1, "Completed")))

        assert found == [True, True]

    def test_a_report_comes_after_the_records_before_it(self, make_workflow: MakeWorkflow, file: LogFile) -> None:
        """The log keeps the order in which things happen."""
        workflow = make_workflow(log=file.log)
        workflow.task.add(action(lambda: 1), callback=lambda task: 1 / 0)
        workflow.task.add(action(lambda: 2))

        workflow.start()

        texts = [text.partition(",")[0] for _, text in file.records()]
        assert texts[:3] == ["In progress", "Completed", "The callback of task 0 <lambda> raised"]

    def test_an_error_of_the_log_comes_after_the_records_before_it(
        self, make_workflow: MakeWorkflow, tmp_path: Path
    ) -> None:
        """The run reports it between two records."""

        class LogBroken(LogDefault):
            def info(self, task: Task) -> None:
                if (task.task_id, task.status) == (1, "In progress"):
                    raise RuntimeError("broken")
                super().info(task)

        workflow = make_workflow(log=LogBroken(path=tmp_path / "flow.log", output="file", format="json"))
        workflow.task.add([action(lambda: 1)] * 2)

        workflow.start()

        records = [(task, text.partition(",")[0]) for task, text in LogFile(tmp_path / "flow.log").records()]
        assert records[1:3] == [(0, "Completed"), (None, "The log raised at task 1 <lambda>")]

    def test_a_condition_finds_the_end_of_its_source(self, make_workflow: MakeWorkflow, file: LogFile) -> None:
        """Comparing a value may run code of users."""
        found: list[bool] = []

        class Value:
            def __bool__(self) -> bool:
                found.append(file.has(0, "Completed"))
                return True

        workflow = make_workflow(log=file.log)
        workflow.task.add(action(lambda: Value()), name="value")
        workflow.task.add(action(lambda: 1), when="value")

        workflow.start()

        assert found
        assert all(found)

    def test_a_wait_follows_the_records(self, make_workflow: MakeWorkflow, file: LogFile) -> None:
        """While one coroutine runs, the end of another one is in the file."""

        @action
        async def ends() -> None: ...

        @action(timeout=60)
        async def waits() -> bool:
            while not file.has(0, "Completed"):
                await asyncio.sleep(0.001)
            return True

        workflow = make_workflow(log=file.log, executor=ExecutorAsync())
        workflow.task.add([ends, waits])

        assert workflow.start("parallel").tasks[1].value is True

    @pytest.mark.parametrize("on_disk", [True, False])
    def test_a_save_follows_the_records(self, make_workflow: MakeWorkflow, file: LogFile, on_disk: bool) -> None:
        """It may take long: when a value is saved by code of users, the ends of those before are in the file."""
        saved: list[int] = []
        missing: list[int] = []

        class StorageSlow(StorageDefault):
            outlives_process = on_disk

            def post(self, key: str, context: Context) -> None:
                missing.extend(task for task in saved if not file.has(task, "Completed"))
                super().post(key, context)
                if context.task_id is not None:
                    saved.append(context.task_id)

        @action
        async def step() -> int:
            return 1

        workflow = make_workflow(log=file.log, executor=ExecutorAsync(), storage=StorageSlow())
        workflow.task.add([step] * 20)

        workflow.start("parallel")

        assert sorted(saved) == list(range(20))
        assert missing == []


def test_what_an_interrupt_precedes_never_begins(make_workflow: MakeWorkflow, tmp_path: Path) -> None:
    """A coroutine that was ready fails as one that ran, and its callback comes after its record."""
    began: list[bool] = []
    threads = threading.active_count()

    class LogInterrupting(LogDefault):
        def info(self, task: Task) -> None:
            super().info(task)
            if task.task_id == 1:
                raise KeyboardInterrupt

        def flush_run(self, run_id: str) -> None:  # so that it keeps records
            super().flush_run(run_id)

    @action
    async def step() -> None:
        began.append(True)

    file = LogFile(tmp_path / "flow.log")
    found: list[bool] = []
    log = LogInterrupting(path=file.path, output="file", format="json")
    workflow = make_workflow(log=log, executor=ExecutorAsync())
    workflow.task.add(step, callback=lambda task: found.append(file.has(0, "Failed")))
    workflow.task.add(step)

    with pytest.raises(KeyboardInterrupt):
        workflow.start("parallel")

    assert began == []
    assert found == [True]
    assert threading.active_count() == threads


class SlowTime:
    """dotflow's clocks, which go forward by so many seconds at each line on stderr, and stand still otherwise."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.time = 0.0

    def write(self, text: str) -> None:
        self.time += self.seconds * text.count("\n")

    def ticks(self) -> float:
        return self.time

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time, UTC)

    def run(self, workflow: DotFlow) -> Run:
        with contextlib.redirect_stderr(cast("Any", self)):
            return workflow.start("parallel")


class TestSlowLog:
    """A terminal that takes long for a line."""

    @pytest.fixture
    def slow(self, monkeypatch: pytest.MonkeyPatch) -> SlowTime:
        slow = SlowTime(1.0)
        monkeypatch.setattr(clock, "now", slow.now)
        monkeypatch.setattr(clock, "monotonic", slow.ticks)
        monkeypatch.setattr(clock, "ticks", slow.ticks)
        return slow

    @pytest.fixture
    def steps(self) -> Callable[[int], list[Any]]:
        """Makes coroutine steps that begin before any of them ends. Each returns when it began."""

        def make(count: int) -> list[Any]:
            began: list[datetime] = []

            @action
            async def step() -> datetime:
                at = clock.now()
                began.append(at)
                while len(began) < count:
                    await asyncio.sleep(0)
                return at

            return [step] * count

        return make

    def test_a_coroutine_begins_after_the_lines_about_its_neighbours(
        self, make_workflow: MakeWorkflow, slow: SlowTime, steps: Callable[[int], list[Any]]
    ) -> None:
        """Its duration does not have the time that these lines took."""
        workflow = make_workflow(log=LogDefault(output="console"), executor=ExecutorAsync())
        workflow.task.add(steps(10))

        run = slow.run(workflow)

        assert [task.started_at for task in run.tasks] == [task.value for task in run.tasks]
        assert run.tasks[0].started_at == datetime.fromtimestamp(10, UTC)

    @pytest.mark.parametrize(
        ("seconds", "expected"), [(1.0, [16, 8, 4, 2, 1, 1]), (0.0, [16, 32, 64, 128, 256, 256, 4])]
    )
    def test_fewer_coroutines_begin_together_where_the_log_is_slow(
        self,
        make_workflow: MakeWorkflow,
        slow: SlowTime,
        steps: Callable[[int], list[Any]],
        seconds: float,
        expected: list[int],
    ) -> None:
        """So outcomes don't wait for many lines."""
        slow.seconds = seconds
        batches = [0]

        class LogCounting(LogDefault):
            def info(self, task: Task) -> None:
                super().info(task)
                batches[-1] += task.status == "In progress"

            def flush_run(self, run_id: str) -> None:
                super().flush_run(run_id)
                batches.append(0)

        workflow = make_workflow(log=LogCounting(output="console"), executor=ExecutorAsync())
        workflow.task.add(steps(sum(expected)))

        assert slow.run(workflow).status == "Completed"
        assert [count for count in batches if count] == expected


class TestOtherLogs:
    @pytest.mark.parametrize("executor", [ExecutorAsync, ExecutorInline])
    def test_a_subclass_writes_at_once(
        self, make_workflow: MakeWorkflow, tmp_path: Path, executor: Callable[[], Any]
    ) -> None:
        """After `super().info()`, its own code finds the record."""
        file = LogFile(tmp_path / "flow.log")
        found: list[bool] = []

        class LogMore(LogDefault):
            def info(self, task: Task) -> None:
                super().info(task)
                found.append(file.records()[-1] == (task.task_id, str(task.status)))

        @action
        async def step() -> None: ...

        log = LogMore(path=file.path, output="file", format="json")
        workflow = make_workflow(log=log, executor=executor())
        workflow.task.add([step] * 3)

        workflow.start("parallel")

        assert found == [True] * 6

    def test_a_log_that_passes_on_no_flush_writes_at_once(self, make_workflow: MakeWorkflow, file: LogFile) -> None:
        """LogDefault keeps records only for a run that has them written."""
        found: list[bool] = []

        class LogAround(Log):
            def info(self, task: Task) -> None:
                file.log.info(task)
                found.append(file.records()[-1] == (task.task_id, str(task.status)))

            def error(self, task: Task) -> None:
                file.log.error(task)

            def follow_run(self, event: RunEvent) -> None:
                file.log.follow_run(event)

        workflow = make_workflow(log=LogAround())
        workflow.task.add([action(lambda: 1)] * 3)

        workflow.start()

        assert found == [True] * 6

    def test_an_error_in_flush_run_changes_nothing(self, make_workflow: MakeWorkflow, tmp_path: Path) -> None:
        """It is reported, as any error of a log."""
        reports: list[str] = []

        class LogBroken(LogDefault):
            def flush_run(self, run_id: str) -> None:
                raise RuntimeError("broken")

            def report(self, message: str) -> None:
                reports.append(message)

        workflow = make_workflow(log=LogBroken(path=tmp_path / "flow.log", output="file"))
        workflow.task.add(action(lambda: 1))

        assert workflow.start().status == "Completed"
        assert "The log raised at flush_run" in reports[0]
        assert len((tmp_path / "flow.log").read_text().splitlines()) == 2


class TestWrites:
    def test_a_chain_has_one_write_a_task(
        self, make_workflow: MakeWorkflow, file: LogFile, writes: list[bytes]
    ) -> None:
        """The end of a task and the beginning of the next are written together."""
        workflow = make_workflow(log=file.log)
        workflow.task.add([action(lambda: 1)] * 50)

        workflow.start()

        assert [data.count(b"\n") for data in writes] == [1, *[2] * 49, 1]

    def test_a_write_is_no_longer_than_a_pipe_takes_at_once(
        self, make_workflow: MakeWorkflow, file: LogFile, writes: list[bytes]
    ) -> None:
        """Many records are several writes, none of which is torn."""
        workflow = make_workflow(log=file.log, executor=ExecutorAsync())

        @action
        async def step() -> None: ...

        workflow.task.add([step] * 600)

        workflow.start("parallel")

        assert max(map(len, writes)) <= 4096
        assert len(writes) < 600
        assert sorted(file.records()) == [(n, status) for n in range(600) for status in ("Completed", "In progress")]

    def test_a_small_file_is_no_longer_than_its_limit(self, make_workflow: MakeWorkflow, tmp_path: Path) -> None:
        """Records that don't fit into a file together are in several."""
        workflow = make_workflow(log=LogDefault(path=tmp_path / "flow.log", output="file", max_bytes=120))
        workflow.task.add([action(lambda: 1)] * 2)

        workflow.start()

        sizes = [path.stat().st_size for path in tmp_path.iterdir()]
        assert len(sizes) == 4
        assert max(sizes) <= 120

    def test_records_that_were_lost_are_counted_at_most_too_many(
        self, make_workflow: MakeWorkflow, file: LogFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A full disk takes the first of two records that are written together, and a part of the second."""
        write = os.write
        torn: list[bool] = []

        def fill(descriptor: int, data: bytes) -> int:
            if torn == [True]:
                torn.append(False)
                raise OSError(errno.ENOSPC, "No space left on device")
            if not torn and data.count(b"\n") == 2:
                torn.append(True)
                data = data[: data.index(b"\n") + 5]
            return write(descriptor, data)

        monkeypatch.setattr(os, "write", fill)
        workflow = make_workflow(log=file.log)
        workflow.task.add([action(lambda: 1)] * 3)

        workflow.start()

        lines = file.path.read_text().splitlines()
        (piece,) = [line for line in lines if not line.endswith("}")]
        lines.remove(piece)
        records = [json.loads(line) for line in lines]
        assert [(record["task"], record["status"]) for record in records if record["status"]] == [
            (0, "In progress"),
            (0, "Completed"),
            (1, "Completed"),
            (2, "In progress"),
            (2, "Completed"),
        ]
        (message,) = [record["message"] for record in records if record["message"]]
        assert message == "Records are missing here: up to 2 could not be written"
