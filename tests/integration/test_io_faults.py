"""Calls of the system that fail: on checkpoints, locks, the history and the log. All of them: tests/fault_table.py."""

import errno
import gc
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, DotFlow, action
from dotflow.errors import StorageError
from dotflow.providers import HistorySQLite, StorageFile, StorageSQLite
from dotflow.providers.histories.sqlite import writer
from dotflow.providers.logs.rotating_file import _OpenFile
from tests.fault_table import FAULTS, PLACES, STARTS, scenario
from tests.integration.children import Scripts
from tests.integration.test_history_sqlite import Reports
from tests.io_faults import Call, Faults, find_vfs

needs_sqlite_calls = pytest.mark.skipif(
    find_vfs() is None and os.environ.get("CI") != "true", reason="this Python does not show SQLite's system calls"
)


@action
def number() -> int:
    return 7


@action
def fails() -> None:
    raise ConnectionError("the warehouse is away")


class Place:
    """A folder, the workflows in it, and what their log reports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.history = HistorySQLite(folder / "history.db", capture="none")
        self.reports = Reports()

    def workflow(self, *steps: Any, **providers: Any) -> DotFlow:
        workflow = DotFlow(Config(log=self.reports, **providers), workflow_id="nightly")
        workflow.task.add(list(steps or [number] * 3))
        return workflow


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    found = Place(tmp_path)
    yield found
    found.history.close()


def releases_history(call: Call) -> bool:
    """Whether it releases a lock on the history's index, where SQLite looks first."""
    return call.path == "history.db-shm" and call.detail.startswith("unlock")


def any_lock(call: Call) -> bool:
    return call.name in ("fcntl", "lockf")


def unlocks(call: Call) -> bool:
    return call.detail == "unlock" and call.name == "flock"


# The history


@needs_sqlite_calls
@pytest.mark.parametrize("number_of_error", [errno.EIO, errno.ENOLCK], ids=errno.errorcode.get)
def test_a_history_without_locks_stops_no_run(number_of_error: int, place: Place) -> None:
    """Its wait is bounded: each of SQLite's own would take 10 s. Two lines say what is missing, and the true cause."""
    with Faults(place.folder, number_of_error, 0, None, any_lock).injected():
        run = place.workflow(*[number] * 8, history=place.history).start()

    assert run.state == "Completed"
    first, *_, last = place.reports.lines  # between them one about orders, if the run takes more than a second
    assert f"the system does not lock files there ({os.strerror(number_of_error)})" in first
    assert f"9 rows of the run {run.run_id} are not in" in last


@needs_sqlite_calls
def test_locks_that_fail_later_stop_no_run(place: Place, stride: int) -> None:
    """At each lock of a run from which on all fail, the run waits once, and once more for its end."""
    place.workflow(history=place.history).start()
    counted = Faults(place.folder, matches=any_lock)
    with counted.injected():
        place.workflow(history=place.history).start()
    place.reports.lines.clear()

    for nth in range(0, len(counted.calls), 3 * stride):
        with Faults(place.folder, errno.EIO, nth, None, any_lock).injected():
            run = place.workflow(history=place.history).start()

        assert run.state == "Completed"
        assert len(place.reports.lines) <= 3  # one of them is about orders, if the run takes more than a second
        assert all("does not lock" in line for line in place.reports.lines), nth
        place.reports.lines.clear()


@needs_sqlite_calls
def test_a_passing_fault_loses_no_row_of_the_history(tmp_path: Path) -> None:
    """A lock that can't be released once blocks its connection: a new one goes on, and nothing is reported."""
    counted = Faults(tmp_path, matches=releases_history)
    with counted.injected():
        Place(tmp_path).workflow(history=HistorySQLite(tmp_path / "history.db", capture="none")).start()

    for nth in range(len(counted.calls)):
        place = Place(tmp_path / str(nth))
        with Faults(place.folder, errno.EIO, nth, 1, releases_history).injected() as faults:
            run = place.workflow(history=place.history).start()

        place.history.close()  # with a lock that was not released, no reader could read
        (summary,) = place.history.runs()
        assert (run.state, summary.state, summary.completed) == ("Completed", "Completed", 3), faults.failed
        assert place.reports.lines == [], faults.failed


def test_a_busy_history_is_not_opened_anew_for_each_row(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only after a wait that a lock of this process may have caused."""
    monkeypatch.setattr(writer, "PATIENCE", 0.001)
    monkeypatch.setattr(writer, "LAST_PATIENCE", 0.001)
    place.workflow(history=place.history).start()
    before = place.history.database.file.connections

    with Faults(place.folder, errno.EAGAIN, 0, None, lambda call: call.detail == "lock 120").injected():
        place.workflow(*[number] * 20, history=place.history).start()

    assert place.history.database.file.connections == before


# Storages


@needs_sqlite_calls
def test_a_storage_without_locks_says_so(place: Place) -> None:
    """The step fails with the true cause and what to do, within SQLite's documented timeout."""
    storage = StorageSQLite(place.folder / "flow.db")
    with Faults(place.folder, errno.ENOLCK, 0, None, any_lock).injected():
        task, *_ = place.workflow(storage=storage).start().tasks

    assert task.error is not None
    assert "the system does not lock files there (No locks available). Give a path on a file" in task.error.message


@pytest.mark.parametrize("name", ["open", "fsync", "close"])
def test_a_folder_that_can_not_be_synced_leaves_no_checkpoint(name: str, place: Place) -> None:
    """The value has its name already, but its step failed: it must not count. A failing close changes nothing."""
    storage = StorageFile(place.folder / "kept")
    workflow = place.workflow(number, storage=storage)
    with Faults(place.folder, errno.EIO, 0, 1, lambda call: _syncs_values(call, name)).injected() as faults:
        run = workflow.start()

    assert len(faults.failed) == 1
    assert run.tasks[0].status == ("Completed" if name == "close" else "Failed")
    assert storage.contains("nightly/0") == (name == "close")
    assert workflow.start(resume=True).tasks[0].attempt == (0 if name == "close" else 1)


def _syncs_values(call: Call, name: str) -> bool:
    return call.name == name and call.path == "kept/nightly.checkpoints"


@pytest.mark.parametrize("number_of_error", [errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.get)
def test_a_full_disk_is_named(number_of_error: int, place: Place) -> None:
    """The error has the file and what to do."""
    workflow = place.workflow(number, storage=StorageFile(place.folder / "kept"))
    with Faults(place.folder, number_of_error, 0, None, lambda call: call.name == "write").injected():
        (task,) = workflow.start().tasks

    assert task.error is not None
    path = place.folder / "kept" / "nightly.checkpoints" / "0.json"
    assert f"{os.strerror(number_of_error)}: '{path}'. Free some space" in task.error.message


def test_an_interrupted_close_is_no_failure(place: Place) -> None:
    """The descriptor is closed all the same: close(2)."""
    with Faults(place.folder, errno.EINTR, 0, None, _closes_data).injected() as faults:
        run = place.workflow(storage=StorageFile(place.folder / "kept"), history=place.history).start()

    assert run.state == "Completed"
    assert len(faults.failed) > 5
    assert place.reports.lines == []


def _closes_data(call: Call) -> bool:
    return call.name == "close" and not call.path.endswith((".lock", "(deleted)"))


def test_a_refused_start_keeps_the_earlier_values(place: Place) -> None:
    """A new run whose first change of the folder fails does not begin, and has voided nothing."""
    workflow = place.workflow(storage=StorageFile(place.folder / "kept"))
    workflow.start()

    with (
        Faults(place.folder, errno.EIO, 0, 1, lambda call: call.name == "fsync").injected(),
        pytest.raises(StorageError, match="nothing was run"),
    ):
        workflow.start()

    assert [task.attempt for task in workflow.start(resume=True).tasks] == [0, 0, 0]


# Locks


@pytest.mark.parametrize("last", [number, fails], ids=["completes", "fails"])
def test_a_lock_that_stays_throws_no_run_away(last: Any, place: Place) -> None:
    """The run is what it was, and the log says what could not be released. The process can run the workflow again."""
    workflow = place.workflow(number, last, storage=StorageFile(place.folder / "kept"))
    with Faults(place.folder, errno.EIO, 0, None, unlocks).injected():
        first, second = workflow.start(), workflow.start()

    expected = ["Completed", "Completed" if last is number else "Failed"]
    for run in (first, second):
        assert [task.status for task in run.tasks] == expected
        assert [task.errors[0].exception for task in run.tasks if task.errors] == ["ConnectionError"] * (last is fails)
    lock = place.folder / "kept" / ".nightly.lock"
    line = f"The lock on workflow 'nightly' can't be released: OSError: Input/output error: '{lock}'. Check the disk."
    assert [report.startswith(line) for report in place.reports.lines] == [True, True]


def test_a_lock_that_stays_hides_no_interrupt(place: Place) -> None:
    """What ended the run is what start() raises."""

    @action
    def interrupted() -> None:
        raise KeyboardInterrupt

    workflow = place.workflow(interrupted, storage=StorageFile(place.folder / "kept"))
    with Faults(place.folder, errno.EIO, 0, None, unlocks).injected(), pytest.raises(KeyboardInterrupt):
        workflow.start()

    assert "can't be released" in place.reports.lines[-1]


def test_a_lock_that_stayed_is_released_by_the_next_run(scripts: Scripts) -> None:
    """Until then, other processes find the workflow busy."""
    source = """
import errno, sys
sys.path[:0] = [{root!r}]
from dotflow.providers.storages.file_lock import FileLock
from tests.io_faults import Faults

def is_free():
    child = os.fork()
    if not child:
        with contextlib.suppress(WorkflowBusy):
            FileLock(HERE, "nightly", data_folder=HERE).__enter__()
            os._exit(0)
        os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

import contextlib
from dotflow.errors import WorkflowBusy
first = FileLock(HERE, "nightly", data_folder=HERE)
first.__enter__()
with Faults(HERE, errno.EIO, 0, 1, lambda call: call.detail == "unlock").injected(), contextlib.suppress(OSError):
    first.__exit__()
free = [is_free()]
with FileLock(HERE, "nightly", data_folder=HERE):
    free.append(is_free())
free.append(is_free())
say(free=free)
""".replace("{root!r}", repr(str(Path(__file__).parents[2])))

    assert scripts.run(source).facts == {"free": [False, False, True]}


# The log


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_log_that_can_not_be_closed_prints_no_traceback(tmp_path: Path) -> None:
    """Its lines were written, or their writes have raised."""
    file = _OpenFile(str(tmp_path / "flow.log"))
    os.close(file.descriptor)

    del file
    gc.collect()


# All calls


@pytest.mark.exhaustive(keep_every=4)
@needs_sqlite_calls
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("place_name", PLACES)
def test_no_call_that_fails_does_harm(place_name: str, stride: int) -> None:
    """Nothing is lost, stale, hidden or slow, wherever a call fails. Every call: python tests/fault_table.py."""
    kinds = list(itertools.product(STARTS, FAULTS))
    for start, fault in kinds if stride == 1 else kinds[PLACES.index(place_name) :: len(PLACES)]:
        count = scenario(place_name, start, fault, None).calls
        step = 1 if stride == 1 else max(1, count)
        for nth in range(step // 2, count, step):
            outcome = scenario(place_name, start, fault, nth)
            assert outcome.problems == [], (start, fault.name, nth, outcome.call)
