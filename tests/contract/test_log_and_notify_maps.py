"""What a log, a notifier and a callback receive about mapped and skipped tasks, whatever their number of items."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow import DotFlow, Task, action
from dotflow.abc.history import History
from dotflow.abc.notify import Notify
from dotflow.core.events import Event
from dotflow.core.types import TypeStatus
from dotflow.providers import ExecutorThread, LogDefault, StorageFile
from dotflow.testing import virtual_clock
from tests.contract.test_log_and_notify import KeywordLog, KeywordNotify, MyLog, MyNotify, NamedTaskLog, TaskAndMoreLog

MakeWorkflow = Callable[..., DotFlow]

MODES = ["sequential", "background", "parallel", "groups"]

pytestmark = pytest.mark.processes


@action
def numbers() -> list[int]:
    return [1, 2, 3]


@action
def double(number: int) -> int:
    return 2 * number


@action(retry=2, retry_delay=0)
def fragile(number: int) -> int:
    if number == 2:
        raise ConnectionError(f"no {number}")
    return number


@action
def bad() -> bool:
    return False


@action
def deploy() -> None:
    raise AssertionError("it is skipped")


def run_all(workflow: DotFlow, mode: str, **arguments: Any) -> Any:
    """Starts in one of MODES, and waits for the end."""
    run = workflow.start(mode="sequential" if mode == "groups" else mode, **arguments)
    run.wait()
    return run


def fill(workflow: DotFlow, mode: str, step: Any = fragile, **options: Any) -> DotFlow:
    """Adds a list, a map over it, a condition, and a task that is skipped."""
    groups = ["left", "right"] if mode == "groups" else ["default"] * 2
    workflow.task.add(numbers, group_name=groups[0])
    workflow.task.add(step, each=numbers, group_name=groups[1], **options)
    workflow.task.add(bad, group_name=groups[0]).add(deploy, when=bad, group_name=groups[1])
    return workflow


def of_task(calls: list[Any], task_id: int, index: int) -> list[Any]:
    """Returns the calls about one task; those of several tasks come in any order."""
    return [call for call in calls if call[index] == task_id]


@pytest.mark.parametrize("mode", MODES)
class TestInEveryMode:
    def test_a_log(self, make_workflow: MakeWorkflow, mode: str) -> None:
        """A map begins and ends once, with the failed attempts of its items between; a skip is one line."""
        log = MyLog()

        run_all(fill(make_workflow(log=log), mode), mode, keep_going=True)

        assert of_task(log.lines, 1, 1) == [
            ("info", 1, "In progress", 0),
            ("error", 1, "Retry", 1),
            ("error", 1, "Failed", 2),
            ("error", 1, "Failed", 1),
        ]
        assert of_task(log.lines, 3, 1) == [("info", 3, "Skipped", 0)]
        assert log.reports == []

    def test_a_notifier(self, make_workflow: MakeWorkflow, mode: str) -> None:
        """A map is two notifications, a skip is one."""
        notify = MyNotify()

        run_all(fill(make_workflow(notify=notify), mode), mode, keep_going=True)

        assert of_task(notify.calls, 1, 0) == [(1, "In progress", 1), (1, "Failed", 1)]
        assert of_task(notify.calls, 3, 0) == [(3, "Skipped", 0)]

    def test_a_callback(self, make_workflow: MakeWorkflow, mode: str) -> None:
        """One at the end of a map, with its items; none of a skipped task."""
        called: list[tuple[str, str, int]] = []

        def callback(task: Task) -> None:
            called.append((task.name, str(task.status), len(task.items)))

        workflow = make_workflow()
        workflow.task.add(double, each=[1, 2, 3], callback=callback)
        workflow.task.add(bad).add(deploy, when=bad, callback=callback)
        run_all(workflow, mode)

        assert called == [("double", "Completed", 3)]

    def test_a_map_that_cannot_open(self, make_workflow: MakeWorkflow, mode: str) -> None:
        """It is one line, as an error that has no attempt."""
        log, notify = MyLog(), MyNotify()
        workflow = make_workflow(log=log, notify=notify)
        workflow.task.add(action(lambda: {"a": 1}), name="table").add(double, each="table")

        run_all(workflow, mode)

        assert of_task(log.lines, 1, 1) == [("error", 1, "Failed", 1)]
        assert of_task(notify.calls, 1, 0) == [(1, "Failed", 0)]


@pytest.mark.exhaustive(keep_every=4)
@pytest.mark.parametrize("mode", ["sequential", "parallel"])
@pytest.mark.parametrize("format", ["simple", "json"])
def test_ten_thousand_items_are_two_lines(make_workflow: MakeWorkflow, tmp_path: Path, mode: str, format: str) -> None:
    """And two notifications."""
    path, notify = tmp_path / "flow.log", MyNotify()
    log = LogDefault(output="file", path=path, format=format)
    workflow = make_workflow(log=log, notify=notify, executor=ExecutorThread())
    workflow.task.add(double, each=list(range(10_000)))

    assert workflow.start(mode=mode).status is TypeStatus.COMPLETED

    lines = [
        line for line in path.read_text().splitlines() if " of 10000 items" not in line or "In progress" not in line
    ]
    assert len(lines) == 2
    assert len(notify.calls) == 2


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.parametrize("format", ["simple", "json"])
def test_ten_thousand_failures_are_twenty_records(make_workflow: MakeWorkflow, tmp_path: Path, format: str) -> None:
    """With their tracebacks; then a note, and the counts at the end."""
    path = tmp_path / "flow.log"

    @action
    def fails(number: int) -> None:
        raise ValueError(number)

    workflow = make_workflow(log=LogDefault(output="file", path=path, format=format))
    workflow.task.add(fails, each=list(range(10_000)), keep_going=True)

    workflow.start()

    text = path.read_text()
    heads = [line for line in text.splitlines() if not line.startswith("    ") and "In progress" not in line]
    assert len(heads) == 22
    assert text.count("Traceback (most recent call last)") == 20
    assert "more than 20 failed items" in heads[20]
    assert "10000 of 10000 items failed: [0] 0 ValueError, [1] 1 ValueError, [2] 2 ValueError, ..." in heads[21]


def test_progress_is_logged_by_dotflows_clock(make_workflow: MakeWorkflow, tmp_path: Path) -> None:
    """Every ten seconds, with the counts at that moment; in virtual time, too."""
    path = tmp_path / "flow.log"
    with virtual_clock() as time:

        @action
        def slow(number: int) -> int:
            time.sleep(4)
            if number % 2:
                raise ValueError(number)
            return number

        workflow = make_workflow(log=LogDefault(output="file", path=path, format="json"))
        workflow.task.add(slow, each=list(range(8)), keep_going=True)
        workflow.start()

    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [
        (record["status"], record["items"]["completed"], record["items"]["failed"], record["time"][14:19])
        for record in records
        if record["items"]
    ] == [
        ("In progress", 0, 0, "00:00"),
        ("In progress", 2, 1, "00:12"),
        ("In progress", 3, 3, "00:24"),
        ("Failed", 4, 4, "00:32"),
    ]


def test_two_maps_side_by_side(make_workflow: MakeWorkflow, tmp_path: Path) -> None:
    """A map over a map: both report at the same moments, and a skipped item is only counted."""
    path = tmp_path / "flow.log"
    with virtual_clock() as time:

        @action
        def first(number: int) -> int:
            time.sleep(number % 7)
            if number % 10 == 3:
                raise ValueError(number)
            return number

        @action
        def second(value: int) -> int:
            time.sleep(1)
            return value

        log = LogDefault(output="file", path=path, format="json")
        workflow = make_workflow(log=log, executor=ExecutorThread())
        workflow.task.add(first, each=list(range(60)), max_parallel=4, keep_going=True)
        workflow.task.add(second, each=first)
        workflow.start(mode="parallel", keep_going=True)

    records = [json.loads(line) for line in path.read_text().splitlines()]
    for step in ("first", "second"):
        whole = [record for record in records if record["step"] == step and record["items"]]
        assert [record["time"][17:19] for record in whole[:-1]] == ["00", "10", "20", "30", "40"]
        assert [record["items"]["completed"] for record in whole] == sorted(
            record["items"]["completed"] for record in whole
        )
    assert (whole[-1]["status"], whole[-1]["items"]["skipped"]) == ("Completed", 6)
    assert len([record for record in records if record["item"] is not None]) == 6


def test_a_map_that_was_restored(make_workflow: MakeWorkflow, tmp_path: Path) -> None:
    """It is one line, one notification and no callback; a part of one begins with the number of restored items."""
    called: list[str] = []
    fails = [3]

    @action
    def fetch(number: int) -> int:
        if number in fails:
            raise ConnectionError("not yet")
        return number

    def resume() -> list[str]:
        path = tmp_path / "flow.log"
        path.unlink(missing_ok=True)
        log, notify = LogDefault(output="file", path=path), MyNotify()
        storage = StorageFile(path=tmp_path / "storage")
        workflow = make_workflow(log=log, notify=notify, storage=storage, workflow_id="w")
        workflow.task.add(fetch, each=[1, 2, 3], callback=lambda task: called.append(str(task.status)))
        workflow.start(resume=True)
        lines = [line.partition(" task 0 ")[2] for line in path.read_text().splitlines() if " task 0 " in line]
        assert len(notify.calls) == len([line for line in lines if "fetch:" in line])
        return [line.replace(f"{workflow.result_task()[0].duration or 0:.3f}", "N") for line in lines]

    first = resume()
    fails.clear()

    assert (first[0], len(first)) == ("fetch: In progress (3 items)", 3)
    assert resume() == [
        "fetch: In progress (2 of 3 items, 2 restored)",
        "fetch: Completed in N s (3 of 3 items, 2 restored)",
    ]
    assert resume() == ["fetch: Completed (3 of 3 items, 3 restored)"]
    assert called == ["Failed", "Completed"]


def test_a_map_that_is_cancelled(make_workflow: MakeWorkflow) -> None:
    """Its items in flight and the map itself are logged as failed."""
    log, notify = MyLog(), MyNotify()
    begun = threading.Event()

    @action
    def hangs(number: int) -> None:
        begun.set()
        threading.Event().wait(0.01)
        raise KeyboardInterrupt

    workflow = make_workflow(log=log, notify=notify)
    workflow.task.add(hangs, each=[1, 2, 3])
    with pytest.raises(KeyboardInterrupt):
        workflow.start()

    assert begun.is_set()
    assert log.lines == [("info", 0, "In progress", 0), ("error", 0, "Failed", 1), ("error", 0, "Failed", 1)]
    assert notify.calls == [(0, "In progress", 1), (0, "Failed", 1)]


class TestProvidersOfUsers:
    """Classes that were written before there were maps."""

    @pytest.mark.parametrize("kind", [KeywordLog, NamedTaskLog, TaskAndMoreLog])
    def test_a_log_that_takes_the_task_by_name(self, make_workflow: MakeWorkflow, kind: type[KeywordLog]) -> None:
        """It works for maps, items and skips."""
        log = kind()

        fill(make_workflow(log=log), "sequential").start(keep_going=True)

        assert [line for line in log.lines if line[1] in (1, 3)] == [
            ("info", 1, "In progress"),
            ("error", 1, "Retry"),
            ("error", 1, "Failed"),
            ("error", 1, "Failed"),
            ("info", 3, "Skipped"),
        ]

    def test_a_notifier_that_takes_the_task_by_name(self, make_workflow: MakeWorkflow) -> None:
        """It works, too."""
        notify = KeywordNotify()

        fill(make_workflow(notify=notify), "sequential").start(keep_going=True)

        assert [call for call in notify.calls if call[0] in (1, 3)] == [
            (1, "In progress"),
            (1, "Failed"),
            (3, "Skipped"),
        ]

    def test_every_attribute_of_a_task_can_be_read(self, make_workflow: MakeWorkflow) -> None:
        """Of a map, an item and a skipped task; an error has its failure as errors[-1]."""
        seen: list[tuple[Any, ...]] = []

        class Reader(MyLog):
            def write(self, kind: str, task: Task) -> None:
                error = task.errors[-1].exception if kind == "error" else None
                seen.append((task.name, task.attempt, task.duration is None, task.current_context.storage, error))
                assert task.step.policy.attempts
                assert (task.workflow_id, task.group_name, task.item is None) == ("w", "default", "[" not in task.name)
                assert f"{task!r}{task.run_id}{task.retry_count}{task.started_at}{task.finished_at}{task.error}"

        log = Reader()
        fill(make_workflow(log=log, workflow_id="w"), "sequential", name="load").start(keep_going=True)

        assert log.reports == []
        assert [line for line in seen if line[0] not in ("numbers", "bad")] == [
            ("load", 1, True, None, None),
            ("load[1]", 1, True, None, "ConnectionError"),
            ("load[1]", 2, False, None, "ConnectionError"),
            ("load", 1, False, [1, None, 3], "ItemsFailed"),
            ("deploy", 0, True, None, None),
        ]

    def test_a_log_that_raises(self, make_workflow: MakeWorkflow) -> None:
        """Each of its few calls is reported, and the map completes."""
        log = MyLog(breaks=OSError("disk full"))
        workflow = make_workflow(log=log)
        workflow.task.add(double, each=list(range(1_000)))

        assert workflow.start().status is TypeStatus.COMPLETED
        assert len(log.reports) == 2

    def test_a_history_that_knows_no_items(self, make_workflow: MakeWorkflow) -> None:
        """One that raises at them is reported twenty times, and then counted; the run is what it would be without."""

        class Old(History):
            known = ("RunStarted", "AttemptStarted", "TaskCompleted", "RunEnded")

            def __init__(self) -> None:
                self.tasks: set[int] = set()

            def record(self, run_id: str, event: Event) -> None:
                match type(event).__name__:
                    case "AttemptStarted":
                        self.tasks.add(event.task_id)  # type: ignore[union-attr]
                    case "TaskCompleted":
                        self.tasks.remove(event.task_id)  # type: ignore[union-attr]
                    case name:
                        assert name in self.known

        log = MyLog()
        workflow = make_workflow(log=log, history=Old())
        workflow.task.add(action(lambda: list(range(1_000))), name="all").add(double, each="all")
        workflow.task.add(bad).add(deploy, when=bad)

        run = workflow.start()

        assert run.status is TypeStatus.COMPLETED
        assert len(log.reports) == 3
        assert "The history raised at MapOpened" in log.reports[0]
        assert {"MapOpened", "MapEnded", "TaskSkipped"} == {
            name for name in ("MapOpened", "MapEnded", "TaskSkipped") for report in log.reports if name in report
        }

    def test_a_notifier_that_raises(self, make_workflow: MakeWorkflow) -> None:
        """It is reported once for each of its few calls."""

        class Broken(Notify):
            def send(self, task: Task) -> None:
                raise OSError("no network")

        log = MyLog()
        workflow = make_workflow(log=log, notify=Broken())
        workflow.task.add(double, each=list(range(1_000)))

        assert workflow.start().status is TypeStatus.COMPLETED
        assert len(log.reports) == 2
