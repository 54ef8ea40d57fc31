"""HistorySQLite: the rows of runs, states that tell the truth, and a file that is busy, damaged, full or another's."""

import os
import pickle
import signal
import sqlite3
import stat
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, Context, DotFlow, action
from dotflow.abc.log import Log
from dotflow.core.files import FileRecord
from dotflow.core.task import Task
from dotflow.errors import InvalidArgument
from dotflow.providers import ExecutorThread, HistorySQLite, LogDefault, StorageFile
from dotflow.providers.histories.sql.database import SQLiteConnection
from dotflow.providers.histories.sqlite import writer
from dotflow.providers.histories.sqlite.formats import FORMAT
from dotflow.providers.histories.sqlite.live import Live
from dotflow.testing import virtual_clock
from tests.integration.children import Scripts

INTERRUPTED_STEP = "Step 'waits' was stopped in the middle: the run was interrupted."


class Reports(Log):
    """Keeps what is reported."""

    is_silent = True

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, task: Task) -> None: ...

    def error(self, task: Task) -> None: ...

    def report(self, message: str) -> None:
        self.lines.append(message)


@action
def numbers() -> list[int]:
    return [1, 2, 3]


@action
def total(previous_context: Context) -> int:
    return sum(previous_context.storage)


@action
def fails(previous_context: Context) -> None:
    raise ConnectionError("the warehouse is away")


@action(retry=2, retry_delay=0)
def fails_twice(previous_context: Context) -> None:
    raise ConnectionError("the warehouse is away")


@action
def double(number: int) -> int:
    if number == 2:
        raise ValueError("two")
    return 2 * number


class History:
    """A history file, the workflows that write to it, and its content."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reports = Reports()
        self._opened: list[HistorySQLite] = []

    def open(self, **arguments: Any) -> HistorySQLite:
        history = HistorySQLite(self.path, **arguments)
        self._opened.append(history)
        return history

    def workflow(self, *steps: Any, history: HistorySQLite | None = None, **more: Any) -> DotFlow:
        config = Config(history=history or self.open(), log=self.reports, **more)
        workflow = DotFlow(config, workflow_id="nightly", name="nights")
        for step in steps:
            workflow.task.add(step)
        return workflow

    def read(self, statement: str, *values: Any) -> list[Any]:
        database = sqlite3.connect(self.path)
        try:
            rows = database.execute(statement, values).fetchall()
        finally:
            database.close()
        return [row[0] if len(row) == 1 else row for row in rows]

    def close(self) -> None:
        for history in self._opened:
            history.close()


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    opened = History(tmp_path / "history.db")
    yield opened
    opened.close()


# The rows


def test_a_run_is_one_row(history: History) -> None:
    """A run has its id, state, times, and the numbers of its tasks."""
    run = history.workflow(numbers, total, fails, numbers).start()

    (row,) = history.read(
        "SELECT run_id, workflow_id, name, state, mode, tasks, completed, failed, error, ended >= began FROM run_list"
    )
    error = "fails: ConnectionError: the warehouse is away"
    assert row == (run.run_id, "nightly", "nights", "Failed", "sequential", 4, 2, 1, error, 1)


def test_attempts_have_names_states_and_glimpses(history: History) -> None:
    """Each attempt is a row; those that are repeated, too."""
    history.workflow(numbers, total, fails_twice, numbers).start()

    assert history.read("SELECT step, attempt, state, glimpse FROM attempt_list ORDER BY task, attempt") == [
        ("numbers", 1, "Completed", "[1, 2, 3]"),
        ("total", 1, "Completed", "6"),
        ("fails_twice", 1, "Retry", None),
        ("fails_twice", 2, "Failed", None),
    ]


def test_errors_have_their_traceback_and_delay(history: History) -> None:
    """Each failed attempt has its error, with the delay before the next one."""
    history.workflow(numbers, fails_twice).start()

    rows = history.read("SELECT attempt, exception, message, traceback, retry_in FROM error_list ORDER BY attempt")
    assert [(attempt, exception, retry_in) for attempt, exception, _, _, retry_in in rows] == [
        (1, "ConnectionError", 0.0),
        (2, "ConnectionError", None),
    ]
    assert "in fails_twice" in rows[0][3]


def test_items_are_rows_of_their_own(history: History) -> None:
    """A mapped task is a row with the number of its items, and each item is one."""
    workflow = history.workflow(numbers)
    workflow.task.add(double, each="numbers", keep_going=True)
    workflow.start(keep_going=True)

    assert history.read("SELECT item, state, glimpse, items FROM attempt_list WHERE step = 'double' ORDER BY item") == [
        (None, "Failed", None, 3),
        (0, "Completed", "2", None),
        (1, "Failed", None, None),
        (2, "Completed", "6", None),
    ]


def test_restored_cached_and_skipped_tasks_differ(history: History, tmp_path: Path) -> None:
    """A task without an attempt has the state Restored, Cached or Skipped."""

    @action(cache=True)
    def cached() -> int:
        return 5

    workflow = history.workflow(numbers, storage=StorageFile(tmp_path / "values"))
    workflow.task.add(cached)
    workflow.task.add(numbers, when="cached", name="second")
    workflow.task.add(numbers, unless="cached", name="never")
    workflow.start()
    workflow.start(resume=True)
    workflow.start()

    states = [
        history.read("SELECT step, state FROM attempt_list WHERE run_id = ? ORDER BY task", run_id)
        for run_id in history.read("SELECT run_id FROM run_list ORDER BY began")
    ]
    first, second, third = (dict(rows) for rows in states)
    assert (first["cached"], first["never"]) == ("Completed", "Skipped")
    assert (second["numbers"], second["cached"]) == ("Restored", "Restored")
    assert third["cached"] == "Cached"
    assert history.read("SELECT restored, skipped FROM run_list ORDER BY began")[1] == (3, 1)


def test_plan_and_environment_are_written_once(history: History) -> None:
    """Runs of the same workflow share their plan and their environment."""
    history.workflow(numbers, total).start()
    history.workflow(numbers, total).start()
    history.workflow(numbers).start()

    assert history.read("SELECT COUNT(*) FROM runs") == [3]
    assert history.read("SELECT COUNT(*) FROM plans") == [2]
    assert history.read("SELECT COUNT(*) FROM environments") == [1]
    assert history.read("SELECT needs FROM steps WHERE name = 'total'") == ["[0]"]


def test_a_nested_run_has_its_parent(history: History) -> None:
    """A run that a step starts refers to the run, the task and the attempt of the step."""
    inner = history.workflow(numbers)

    @action
    def nests() -> str:
        return inner.start().run_id

    run = history.workflow(numbers, nests).start()

    nested = run.tasks[1].current_context.storage
    assert history.read(
        "SELECT run_id, parent_run, parent_task, parent_attempt FROM runs WHERE parent_run NOT NULL"
    ) == [(nested, run.run_id, 1, 1)]


@pytest.mark.processes
def test_a_nested_run_in_a_worker_process_has_its_parent(history: History) -> None:
    """The worker process writes the nested run into the same file itself."""
    path = history.path

    @action
    def nests() -> str:
        workflow = DotFlow(Config(history=HistorySQLite(path)))
        workflow.task.add(numbers)
        return workflow.start().run_id

    run = history.workflow(numbers, nests).start("parallel")

    nested = run.tasks[1].current_context.storage
    assert history.read("SELECT run_id, parent_run, state FROM runs WHERE parent_run NOT NULL") == [
        (nested, run.run_id, "Completed")
    ]


# Before a step runs


@pytest.mark.parametrize("mode", ["sequential", "background", "parallel"])
@pytest.mark.processes
def test_a_step_is_in_the_file_before_it_runs(mode: str, history: History) -> None:
    """From within, a step finds itself Running, and all that came before it."""

    @action
    def looks() -> list[Any]:
        return history.read("SELECT task, state FROM attempt_list ORDER BY task")

    workflow = history.workflow(numbers)
    workflow.task.add(looks, needs="numbers")
    run = workflow.start(mode)
    run.wait()

    assert run.tasks[1].current_context.storage == [(0, "Completed"), (1, "Running")]


def test_runs_of_several_threads_share_a_history(history: History) -> None:
    """Each run writes its own rows, whole, through one connection."""
    opened = history.open()
    workflows = [DotFlow(Config(history=opened, log=history.reports), workflow_id=f"w{number}") for number in range(4)]
    for workflow in workflows:
        workflow.task.add([numbers] * 50)
    for run in [workflow.start("background") for workflow in workflows]:
        run.wait()

    assert history.read("SELECT state, completed FROM runs") == [("Completed", 50)] * 4
    assert history.read("SELECT COUNT(*) FROM attempt_list WHERE state = 'Completed' GROUP BY run_id") == [50] * 4
    assert history.reports.lines == []


# States


def test_a_run_that_is_killed_has_crashed(history: History, scripts: Scripts) -> None:
    """The next run marks it, and the step that it was in."""
    script = textwrap.dedent("""
        import os, signal, sys
        from dotflow import Config, DotFlow, action
        from dotflow.providers import HistorySQLite

        @action
        def dies():
            os.kill(os.getpid(), signal.SIGKILL)

        workflow = DotFlow(Config(history=HistorySQLite(sys.argv[1])), workflow_id="killed")
        workflow.task.add([dies])
        workflow.start()
    """)
    scripts.start(script, str(history.path)).end()
    before = history.read("SELECT state FROM runs")
    history.workflow(numbers).start()

    assert before == ["Running"]
    assert history.read("SELECT state, error FROM run_list WHERE workflow_id = 'killed'") == [
        ("Crashed", "dies: the process of the run ended during this step")
    ]
    assert history.read("SELECT state FROM attempt_list WHERE workflow_id = 'killed'") == ["Crashed"]


def test_a_cancelled_run_is_cancelled(history: History) -> None:
    """With the step that was running, and the reason."""
    begun = threading.Event()

    @action
    def waits() -> None:
        begun.set()
        while True:
            time.sleep(0.001)

    run = history.workflow(waits).start("background")
    begun.wait(20)
    run.cancel()
    run.wait()

    assert history.read("SELECT state, reason, failed FROM run_list") == [("Cancelled", "the run was cancelled", 1)]
    assert history.read("SELECT exception FROM error_list") == ["RunCancelled"]


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
@pytest.mark.processes
def test_an_interrupted_run_is_interrupted(mode: str, history: History, scripts: Scripts) -> None:
    """Ctrl-C while a step runs, in the run's own thread or in a process."""
    script = textwrap.dedent("""
        import sys, time
        from dotflow import Config, DotFlow, action
        from dotflow.providers import HistorySQLite

        @action
        def waits():
            print("waits", flush=True)
            time.sleep(60)

        workflow = DotFlow(Config(history=HistorySQLite(sys.argv[1])), workflow_id="nightly")
        workflow.task.add([waits])
        workflow.start(sys.argv[2])
    """)
    with scripts.start(script, str(history.path), mode) as running:
        assert running.line() == "waits"
        running.send(signal.SIGINT)
        running.end()

    assert history.read("SELECT state, reason, error FROM run_list") == [
        ("Interrupted", "the run was interrupted", "waits: KeyboardInterrupt: " + INTERRUPTED_STEP)
    ]
    assert history.read("SELECT state FROM attempt_list") == ["Failed"]


@pytest.mark.processes
def test_a_step_may_fork(history: History) -> None:
    """What it forks, and how that ends, changes nothing in the file or in the lock of the run."""

    @action
    def forks() -> int:
        child = os.fork()
        if not child:
            os._exit(0)
        return os.waitpid(child, 0)[1]

    run = history.workflow(numbers, forks, numbers).start()

    assert run.state == "Completed"
    assert history.read("SELECT step, state FROM attempt_list") == [
        ("numbers", "Completed"),
        ("forks", "Completed"),
        ("numbers", "Completed"),
    ]


def test_a_virtual_clock_and_a_history(history: History) -> None:
    """Retry delays take no time, and the history has them."""

    @action(retry=3, retry_delay=60)
    def fails_for_long() -> None:
        raise ValueError("no")

    with virtual_clock():
        history.workflow(fails_for_long, executor=ExecutorThread()).start()

    assert history.read("SELECT retry_in FROM error_list ORDER BY attempt") == [60.0, 60.0, None]
    assert history.read("SELECT seconds >= 120 FROM run_list") == [1]


def test_an_active_run_has_not_crashed(history: History) -> None:
    """A run that another one overlaps with stays Running, in the same process and in others."""
    inner = history.workflow(numbers)

    @action
    def starts_another() -> list[Any]:
        inner.start()
        return history.read("SELECT state FROM run_list ORDER BY began")

    run = history.workflow(starts_another).start()

    assert run.tasks[0].current_context.storage == ["Running", "Completed"]


def test_a_link_to_the_file_is_the_same_file(history: History) -> None:
    """A run that has the path of a link sees that another one is active."""
    history.workflow(numbers).start()
    link = history.path.with_name("link.db")
    link.symlink_to(history.path)
    inner = history.workflow(numbers, history=HistorySQLite(link))

    @action
    def starts_another() -> list[Any]:
        inner.start()
        return history.read("SELECT state FROM run_list ORDER BY began")

    run = history.workflow(starts_another).start()

    assert run.tasks[0].current_context.storage == ["Completed", "Running", "Completed"]


def test_a_lock_comes_with_its_folder(tmp_path: Path) -> None:
    """The first run in a new folder can crash, too."""
    path = tmp_path / "new" / "folder" / "history.db"

    offset = Live(path).hold()

    assert offset is not None
    assert Live(path).is_held(offset)


def test_a_lock_is_not_inherited(tmp_path: Path) -> None:
    """A forked child does not hold the lock of its parent, sees it, and does not release it at its end."""
    path = tmp_path / "history.db"
    offset = Live(path).hold()
    assert offset is not None

    def in_child(check: Callable[[], bool]) -> int:
        child = os.fork()
        if not child:
            os._exit(int(check()))
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert in_child(lambda: Live(path).is_held(offset)) == 1
    assert in_child(lambda: Live(path).is_held(offset)) == 1
    Live(path).release(offset)
    assert in_child(lambda: Live(path).is_held(offset)) == 0
    assert not Live(path).is_held(offset)


# The file


def test_only_its_owner_may_read_it(history: History) -> None:
    """Its files have the mode 0600, whatever the umask is."""
    before = os.umask(0)
    try:
        history.workflow(numbers).start()
    finally:
        os.umask(before)

    files = list(history.path.parent.glob("history.db*"))
    assert {file.name for file in files} >= {"history.db", "history.db-live"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_it_can_shrink(history: History) -> None:
    """It is set up so that forgotten runs give their space back."""
    history.workflow(numbers).start()

    assert history.read("PRAGMA auto_vacuum") == [2]


def test_a_busy_file_loses_nothing(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another program writes to the file, the rows wait, and nothing is reported."""
    monkeypatch.setattr(writer, "PATIENCE", 0.001)
    opened = history.open()
    history.workflow(numbers, history=opened).start()
    other = sqlite3.connect(history.path, isolation_level=None)

    @action
    def blocks() -> None:
        other.execute("BEGIN IMMEDIATE")

    @action
    def frees() -> None:
        other.execute("COMMIT")
        other.close()

    history.workflow(blocks, numbers, numbers, frees, numbers, history=opened).start()

    assert history.read("SELECT state FROM run_list") == ["Completed", "Completed"]
    assert history.read("SELECT COUNT(*) FROM attempts") == [6]
    assert history.reports.lines == []


def test_a_file_that_stays_busy_is_reported(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of the run, a line says how many rows are missing, and the run is as it was."""
    monkeypatch.setattr(writer, "PATIENCE", 0.001)
    monkeypatch.setattr(writer, "LAST_PATIENCE", 0.001)
    history.workflow(numbers).start()
    other = sqlite3.connect(history.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    run = history.workflow(numbers, total).start()
    other.close()

    assert run.state == "Completed"
    (line,) = history.reports.lines
    assert line.startswith(f"3 rows of the run {run.run_id} are not in {history.path}: another process keeps")


def test_a_kill_before_the_schema_stops_no_later_run(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has its log by then, which needs no lock against those who read it."""
    monkeypatch.setattr(writer, "PATIENCE", 0.001)
    monkeypatch.setattr(writer, "LAST_PATIENCE", 0.001)
    history.path.touch(mode=0o600)
    killed = sqlite3.connect(history.path, isolation_level=None)
    for statement in (*FORMAT.first, "PRAGMA journal_mode = WAL"):
        killed.execute(statement)
    killed.close()
    reader = sqlite3.connect(history.path, isolation_level=None)
    reader.execute("SELECT * FROM sqlite_master").fetchall()

    history.workflow(numbers).start()
    reader.close()

    assert history.read("SELECT state FROM run_list") == ["Completed"]
    assert history.read("PRAGMA auto_vacuum") == [2]
    assert history.reports.lines == []


def test_the_end_of_a_run_is_written_when_the_next_one_begins(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process that goes on, no run stays Running; its end is unknown until then."""
    monkeypatch.setattr(writer, "PATIENCE", 0.001)
    monkeypatch.setattr(writer, "LAST_PATIENCE", 0.001)
    opened, others = history.open(), list[sqlite3.Connection]()

    @action
    def keeps() -> None:
        others.append(sqlite3.connect(history.path, isolation_level=None))
        others[0].execute("BEGIN IMMEDIATE")

    history.workflow(keeps, numbers, history=opened).start()
    others[0].close()
    states = "SELECT state FROM run_list ORDER BY began"
    assert history.read(states) == ["Running"]
    assert [run.state for run in opened.runs()] == ["Unknown"]

    history.workflow(numbers, history=opened).start()
    assert history.read(states) == ["Completed", "Completed"]


def test_a_file_that_cannot_be_written_is_reported_once(tmp_path: Path) -> None:
    """Where the folder is a file, a line says so, once a run."""
    (tmp_path / "file").touch()
    history = History(tmp_path / "file" / "history.db")
    workflow = history.workflow(numbers, total)

    run = workflow.start()

    assert run.state == "Completed"
    first, *_, last = history.reports.lines  # between them one about orders, if the run takes more than a second
    assert "can't be written, and the run goes on without it" in first
    assert "3 rows of the run" in last  # two attempts, and its end


def test_another_programs_database_is_refused(history: History) -> None:
    """It stays as it is, and a line says what it is."""
    other = sqlite3.connect(history.path)
    other.execute("CREATE TABLE theirs (a)")
    other.commit()
    other.close()
    before = history.path.read_bytes()

    run = history.workflow(numbers).start()

    assert run.state == "Completed"
    assert "it is the database of another program, with the tables theirs" in history.reports.lines[0]
    assert history.path.read_bytes() == before


def test_a_file_that_is_no_database_is_left_alone(history: History) -> None:
    """A text file under that name is not replaced."""
    history.path.write_text("my notes " * 100)

    history.workflow(numbers).start()

    assert "it is not a SQLite database" in history.reports.lines[0]
    assert history.path.read_text().startswith("my notes")


def test_a_newer_format_is_refused(history: History) -> None:
    """A line says that another version wrote it."""
    history.workflow(numbers).start()
    history.close()
    database = sqlite3.connect(history.path)
    database.execute("PRAGMA user_version = 99")
    database.close()

    history.workflow(numbers).start()

    assert "it was written by another version of dotflow (format 99; this one reads 8)" in history.reports.lines[0]


@pytest.mark.parametrize("part", [slice(0, 100), slice(4096, 3 * 4096)], ids=["beginning", "pages"])
def test_a_damaged_file_is_put_aside(history: History, part: slice) -> None:
    """A new one begins, with the whole run, and a line says where the damaged one is."""
    history.workflow(numbers, total, fails).start()
    history.close()
    database = sqlite3.connect(history.path)
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    data = bytearray(history.path.read_bytes())
    data[part] = bytes(len(data[part]))
    history.path.write_bytes(data)

    run = history.workflow(numbers, total).start()

    assert history.read("SELECT run_id, state, completed FROM run_list") == [(run.run_id, "Completed", 2)]
    assert history.read("SELECT COUNT(*) FROM attempts") == [2]
    aside = history.path.with_name("history.db.damaged-1")
    assert aside.exists()
    (line,) = history.reports.lines
    assert f"is damaged. It is {aside} now, and a new one begins" in line


def test_a_file_that_is_deleted_during_a_run_begins_anew(history: History) -> None:
    """The run is in the new file, with what came later."""

    @action
    def deletes() -> None:
        for file in history.path.parent.glob("history.db*"):
            file.unlink()

    run = history.workflow(numbers, deletes, total).start(keep_going=True)

    assert history.read("SELECT run_id FROM runs") == [run.run_id]
    assert "deletes" in history.read("SELECT step FROM attempt_list")
    assert history.reports.lines == []


def test_a_file_that_another_one_replaces_keeps_its_runs(history: History) -> None:
    """The run begins anew there, under a number of its own."""
    other = HistorySQLite(history.path.with_name("other.db"))
    before = history.workflow(numbers, history=other).start()
    other.close()

    @action
    def replaces() -> None:
        for suffix in ("-wal", "-shm"):
            history.path.with_name(f"{history.path.name}{suffix}").unlink(missing_ok=True)
        other.path.rename(history.path)

    run = history.workflow(replaces, numbers, numbers).start()

    names = "SELECT step FROM attempt_list WHERE run_id = '{}' ORDER BY task"
    assert history.read(names.format(before.run_id)) == ["numbers"]
    assert history.read(names.format(run.run_id)) == ["replaces", "numbers", "numbers"]


def test_it_can_be_pickled(history: History) -> None:
    """Another process opens the file itself."""
    opened = history.open(keep="7 days", values="all")
    copy = pickle.loads(pickle.dumps(opened))

    assert (copy.path, copy.keep, copy.values) == (opened.path, opened.keep, opened.values)


# Values


def test_inputs_of_failed_tasks_are_copied(history: History) -> None:
    """With values="failed", only the inputs of tasks that failed, and only those that their steps take."""
    history.workflow(numbers, total).start()
    history.workflow(numbers, fails).start()

    assert history.read("SELECT task, role, document NOT NULL FROM copies") == [(1, "previous", 1)]


def test_arguments_of_failed_items_are_copied(history: History) -> None:
    """An item has its own input."""
    workflow = history.workflow(numbers)
    workflow.task.add(double, each="numbers")
    workflow.start(keep_going=True)

    assert history.read("SELECT item, role FROM copies") == [(1, "argument:number")]


def test_all_values_are_copied(history: History) -> None:
    """With values="all", inputs and values of all tasks, with their digests."""
    history.workflow(numbers, total, history=history.open(values="all")).start()

    rows = history.read("SELECT task, role, digest NOT NULL, document NOT NULL FROM copies ORDER BY task, role")
    assert rows == [(0, "returned", 1, 1), (1, "previous", 1, 1), (1, "returned", 1, 1)]


def test_no_values_are_kept(history: History) -> None:
    """With values="none", there are neither copies nor glimpses."""
    history.workflow(numbers, fails, history=history.open(values="none")).start()

    assert history.read("SELECT COUNT(*) FROM copies") == [0]
    assert history.read("SELECT glimpse FROM attempts WHERE glimpse NOT NULL") == []


def test_files_are_in_the_history_with_their_states(
    history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that an attempt made, also where it is restored, and those that the run was given from outside."""
    monkeypatch.chdir(tmp_path)
    Path("in.txt").write_text("12")

    @action
    def copy(source: Path) -> Path:
        Path("out.txt").write_text(source.read_text())
        return Path("out.txt")

    def build(kept: HistorySQLite) -> DotFlow:
        config = Config(storage=StorageFile(tmp_path / "kept"), history=kept, log=LogDefault(output="none"))
        workflow = DotFlow(config, workflow_id="copies", params={"source": Path("in.txt")})
        workflow.task.add(copy).add(numbers)
        return workflow

    for resume in (False, True):
        build(history.open()).start(resume=resume)
        found = history.open().load()
        assert [(one.files.made["out.txt"].size, one.attempt) for one in found.steps[0].attempts] == [(2, not resume)]
        assert found.files.taken["in.txt"].digest
        assert found.steps[1].attempts[0].files_text == ""
    assert history.read("SELECT COUNT(*) FROM attempt_list WHERE files IS NOT NULL") == [2]
    build(history.open(values="none")).start()
    assert (history.open().load().files, history.open().load().steps[0].attempts[0].files_text) == (FileRecord(), "")


def test_large_and_strange_values_say_why(history: History) -> None:
    """A value that is not copied has a reason."""

    @action
    def returns_much() -> str:
        return "x" * 2000

    @action
    def returns_a_lock() -> Any:
        return time.sleep.__self__

    history.workflow(returns_much, fails, history=history.open(value_limit=1000)).start()
    history.workflow(returns_a_lock, fails).start()

    first, second = history.read("SELECT size, document, why FROM copies ORDER BY run")
    assert first == (2000, None, "It has 2000 bytes, and value_limit is 1000.")
    assert second[1] is None
    assert "module" in second[2]


@action
def clears(previous_context: Context) -> None:
    previous_context.storage.clear()
    raise ValueError("cleared")


def test_the_input_of_a_failed_step_is_that_of_the_storage(history: History, tmp_path: Path) -> None:
    """Where the storage lasts, it is exact, though the step has changed the object."""
    run = history.workflow(numbers, clears, storage=StorageFile(tmp_path / "values")).start()

    assert history.open().value(run.run_id, "clears", "previous") == [1, 2, 3]
    assert history.read("SELECT why FROM copies") == [None]


def test_the_input_of_a_failed_step_may_have_changed(history: History) -> None:
    """Elsewhere it is the object after the attempt, and a note says so."""
    run = history.workflow(numbers, clears).start()

    assert history.open().value(run.run_id, "clears", "previous") == []
    (note,) = history.read("SELECT why FROM copies")
    assert "may have changed it" in note


@pytest.mark.processes
def test_the_input_of_a_step_in_a_process_is_exact(history: History) -> None:
    """There the step has changed a copy."""
    workflow = history.workflow(numbers)
    workflow.task.add(isolated_clear)
    run = workflow.start()

    assert history.open().value(run.run_id, "isolated_clear", "previous") == [1, 2, 3]
    assert history.read("SELECT why FROM copies") == [None]


@action(isolate=True)
def isolated_clear(previous_context: Context) -> None:
    previous_context.storage.clear()
    raise ValueError("cleared")


@action
def refuses(number: int, table: dict[str, int]) -> None:
    raise ValueError(number, table)


@action
def table() -> dict[str, int]:
    return {"a": 1}


def test_shared_arguments_are_copied_once(history: History) -> None:
    """Those that all items of a map take; each item finds them."""
    workflow = history.workflow(numbers, table)
    workflow.task.add(refuses, each={"number": "numbers"})
    run = workflow.start(keep_going=True)

    assert history.read("SELECT COUNT(*) FROM copies WHERE role = 'argument:table'") == [1]
    archive = history.open()
    assert archive.value(run.run_id, "refuses#2", "argument:number") == 3
    assert archive.value(run.run_id, "refuses#2", "argument:table") == {"a": 1}


def test_all_copies_of_a_run_have_a_limit(history: History) -> None:
    """Ten times that of one; those beyond it say so."""

    @action
    def many() -> list[bytes]:
        return [os.urandom(900) for _ in range(30)]

    workflow = history.workflow(many, history=history.open(value_limit=2000))
    workflow.task.add(fails_on, each={"data": "many"})
    workflow.start(keep_going=True)

    assert history.read("SELECT SUM(length(document)) <= 20000 FROM copies") == [1]
    assert history.read("SELECT COUNT(*) FROM copies") == [30]
    assert history.read("SELECT DISTINCT why FROM copies WHERE document IS NULL AND why LIKE 'The copies%'") == [
        "The copies of this run have 10 times value_limit."
    ]


@action
def fails_on(data: bytes) -> None:
    raise ValueError(len(data))


def test_glimpses_and_arguments_have_no_secrets(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are masked like everything that dotflow writes."""
    monkeypatch.setenv("SHOP_TOKEN", "s3cr3t-t0ken")
    monkeypatch.setattr("sys.argv", ["shop.py", "--token=s3cr3t-t0ken"])

    @action
    def tells() -> str:
        return f"my token is {os.environ['SHOP_TOKEN']}"

    run = history.workflow(tells).start()

    assert history.read("SELECT glimpse FROM attempts") == ["'my token is ***'"]
    assert history.open().load(run.run_id).environment["argv"] == ["shop.py", "--token=***"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("path", ""),
        ("path", 5),
        ("path", ":memory:"),
        ("path", "a\0b"),
        ("keep", "a while"),
        ("keep", "0 days"),
        ("keep", 30),
        ("keep", timedelta(0)),
        ("capture", "some"),
        ("values", "few"),
        ("output_limit", -1),
        ("value_limit", 1.5),
        ("pickle", "yes"),
    ],
)
def test_wrong_arguments_are_refused(name: str, value: Any) -> None:
    """An argument of the wrong kind is refused at once, by its name."""
    with pytest.raises(InvalidArgument, match=f"^{name}="):
        HistorySQLite(**{name: value})


class InterruptedConnection(SQLiteConnection):
    """A connection with Ctrl-C right after the first statement that begins with *interrupted*."""

    interrupted = ""

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:  # type: ignore[override]
        cursor = super().execute(statement, *values)
        if self.interrupted and statement.startswith(self.interrupted):
            InterruptedConnection.interrupted = ""
            raise KeyboardInterrupt
        return cursor


@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "COMMIT"])
def test_an_interrupt_at_a_transaction_is_recorded(
    statement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves no transaction open, in which the end of the run could not be written."""
    connect = sqlite3.connect
    given = {"factory": InterruptedConnection}
    monkeypatch.setattr(sqlite3, "connect", lambda *to, **more: connect(*to, **{**more, **given}))
    history = HistorySQLite(tmp_path / "history.db")
    workflow = DotFlow(Config(history=history))
    workflow.task.add(action(lambda: 1))
    workflow.start()
    monkeypatch.setattr(InterruptedConnection, "interrupted", statement)

    with pytest.raises(KeyboardInterrupt):
        workflow.start()

    assert [run.state for run in history.runs()] == ["Interrupted", "Completed"]
